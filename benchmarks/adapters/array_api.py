"""Arrays of other libraries in a plain call of fastconv's."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

import fastconv

from .row import Row


def rows() -> list[Row]:
    """A convolution of each library's arrays; `bare` is that of NumPy's and the three exchanges."""
    x, w = np.ones((1, 1, 8, 8), "f4"), np.ones((1, 1, 3, 3), "f4")
    y = fastconv.conv2d(x, w)
    found = []
    for name in ("torch", "jax.numpy", "array_api_strict"):
        try:
            library = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        found.append(_row(name, library, x, w, y))
    return found


def _row(name: str, library: Any, x: Any, w: Any, y: Any) -> Row:
    a, b = library.asarray(x), library.asarray(w)

    def bare() -> None:
        if name == "torch":
            a.numpy(), b.numpy(), library.from_numpy(y)
        else:
            np.from_dlpack(a), np.from_dlpack(b), library.from_dlpack(y)
        fastconv.conv2d(x, w)

    return Row(f"conv2d of {name} arrays", lambda: fastconv.conv2d(a, b), bare)
