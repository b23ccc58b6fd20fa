"""One small call for tests of whatever surrounds the numbers; integers, so every sum is exact."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv

from .cases import generator

Array = np.ndarray[Any, Any]

_rng = generator("example")
X = _rng.integers(-9, 9, (2, 3, 7, 8)).astype("f4")
W = _rng.integers(-9, 9, (4, 3, 3, 2)).astype("f4")
BIAS = _rng.integers(-9, 9, 4).astype("f4")
WANT = fastconv.conv2d(X, W, 2, 1, bias=BIAS, backend="reference")


def call(backend: str, x: Any = X, w: Any = W, bias: Any = BIAS, **more: Any) -> Array:
    """Make the call on a backend, with some of its arguments changed."""
    result: Array = fastconv.conv2d(x, w, 2, 1, bias=bias, backend=backend, **more)
    return result
