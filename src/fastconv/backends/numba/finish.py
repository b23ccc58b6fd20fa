"""The last pass over finished sums: bias, activation, one rounding, and into the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from .activate import activate
from .geometry import GEOMETRY
from .half import single_to_bfloat, single_to_half
from .intrinsics import get, pointer, put
from .jit import jit, jit_stage, once, specialise, storage


def write(array: Any, index: int, value: Any) -> None:
    """Inside kernels: store one accumulator, rounded to the result's dtype."""
    raise NotImplementedError


@specialise(write)
def _write(array: Any, index: Any, value: Any) -> Callable[..., Any]:
    if array.dtype == numba.uint16 and value == numba.float32:
        return lambda array, index, value: put(array, index, single_to_half(value))
    if array.dtype == numba.int16 and value == numba.float32:
        return lambda array, index, value: put(array, index, single_to_bfloat(value))
    return lambda array, index, value: put(array, index, value)


@jit
def scatter(
    scratch: Any, y: Any, sums: int, pitch: int, outputs: int, count: int, place: int, y_k: int,
    y_q: int,
) -> None:  # fmt: skip
    """Write `count` pixels of `outputs` channels, along the denser axis of the result."""
    if abs(y_q) > abs(y_k):
        for i in range(count):
            for m in range(outputs):
                write(y, place + i * y_q + m * y_k, get(scratch, sums + m * pitch + i))
        return
    for m in range(outputs):
        source, target = sums + m * pitch, place + m * y_k
        if y_q == 1:
            for i in range(count):
                write(y, target + i, get(scratch, source + i))
        else:
            for i in range(count):
                write(y, target + i * y_q, get(scratch, source + i))


@once
def finish_stage(accumulator: str, out: str) -> Any:
    """Compile the finish of `count` pixels, from pixel `first` of the batch, of some channels."""
    sum_type, y_type = np.dtype(accumulator), storage(out)

    def finish(geometry: int, sums: int, k: int, outputs: int, first: int, count: int) -> None:
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        bias = numba.carray(pointer(g.bias), (1,), sum_type)
        y = numba.carray(pointer(g.y_data), (1,), y_type)
        scratch = numba.carray(pointer(g.scratch), (1,), sum_type)
        pitch = g.block_rows * g.block_columns
        for m in range(outputs):
            start = sums + m * pitch
            if g.has_bias:
                offset = get(bias, k + m)
                for i in range(start, start + count):
                    put(scratch, i, get(scratch, i) + offset)
            if g.activation:
                activate(scratch, start, count, g.activation)
        j = 0
        while j < count:
            n, p, q = (first + j) // g.q // g.p, (first + j) // g.q % g.p, (first + j) % g.q
            length = min(g.q - q, count - j)
            place = n * g.y_n + k * g.y_k + p * g.y_p + q * g.y_q
            scatter(scratch, y, sums + j, pitch, outputs, length, place, g.y_k, g.y_q)
            j += length

    return jit_stage(finish)
