"""Results, dtypes and errors held against SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind in "biu":
        low = 0 if kind in "bu" else -99
        return rng.integers(low, 2 if kind == "b" else 99, shape).astype(dtype)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if kind == "c" else x).astype(dtype)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A result, or what was raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # whatever SciPy raises, the drop-in has to
        return type(error), str(error)


def same(found: Any, expected: Any, scale: float) -> None:
    """Of one dtype and shape; integers to the bit, floats within the rounding of their sums."""
    if isinstance(expected, tuple) or isinstance(found, tuple):
        assert type(found) is type(expected), (found, expected)
        assert found == expected
        return
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
    else:
        eps = float(np.finfo(expected.dtype).eps)
        np.testing.assert_allclose(found, expected, rtol=0, atol=8 * eps * scale)
