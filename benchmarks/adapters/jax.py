"""JAX: a compiled call of few pixels, beside a target of jax.ffi that does nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import fastconv
from fastconv.interop.jax import calls_by, conv_general_dilated, ways

from .row import Row

#: x, w, whether channels come last.
SHAPES = (
    ((1, 3, 8, 8), (8, 3, 3, 3), False),
    ((1, 8, 8, 16), (3, 3, 16, 16), True),
)


def rows() -> list[Row]:
    """By jax.ffi, where it was built, and by calling back."""
    found = []
    for way in ("ffi", "callback"):
        os.environ[ways.VARIABLE] = way
        try:
            calls_by()
        except fastconv.BackendUnavailable:
            continue
        for shapes in SHAPES:
            found += _rows(way, *shapes)
    del os.environ[ways.VARIABLE]
    return found


def _rows(way: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], last: bool) -> list[Row]:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, "float32") for shape in (x_shape, w_shape))
    numbers = ("NHWC", "HWIO", "NHWC") if last else ("NCHW", "OIHW", "NCHW")
    layout, weights = ("NHWC", w.transpose(3, 2, 0, 1)) if last else ("NCHW", w)
    there = jax.device_put(x), jax.device_put(w)

    def convolving(conv: Callable[..., Any]) -> Callable[[], Any]:
        compiled = jax.jit(
            lambda x, w: conv(x, w, (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers)
        )
        return _waiting(compiled, *there)

    y = fastconv.conv2d(x, weights, pad=1, layout=layout)
    idle = _waiting(_idle(way, y), *there)

    def bare() -> None:
        idle()
        fastconv.conv2d(x, weights, pad=1, layout=layout)

    name = f"{way} {'x'.join(map(str, x_shape))}"
    with fastconv.options(threads=1):
        adapter = convolving(conv_general_dilated)
        adapter()
    return [Row(name, adapter, bare, convolving(jax.lax.conv_general_dilated))]


def _waiting(compiled: Callable[..., Any], *arrays: Any) -> Callable[[], Any]:
    return lambda: compiled(*arrays).block_until_ready()


def _idle(way: str, y: np.ndarray[Any, Any]) -> Callable[..., Any]:
    """Return a compiled function that calls what does nothing, in the same way."""
    result = jax.ShapeDtypeStruct(y.shape, y.dtype)
    if way == "ffi":
        call = jax.ffi.ffi_call(ways.IDLE_TARGET, result)
        return jax.jit(lambda x, w: call(x, w, numbers=np.zeros(1, np.int64)))
    return jax.jit(lambda x, w: jax.pure_callback(lambda x, w: y, result, x, w))
