"""Bring pixels and weights to the micro-kernel.

Border modes, strides, dilation, layout and dtype are all dealt with here. Zeros of the border are
gathered like any other pixel and multiplied, so that 0 * inf is NaN there as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ...borders import PAD_MODES
from .geometry import GEOMETRY
from .half import bfloat_to_single, half_to_single
from .intrinsics import get, pointer, put, width_of
from .jit import jit, jit_stage, once, specialise, storage

_CONSTANT, _EDGE, _REFLECT, _SYMMETRIC, _WRAP = (
    PAD_MODES.index(name) for name in ("constant", "edge", "reflect", "symmetric", "wrap")
)


def read(array: Any, index: int, scratch: Any) -> Any:
    """Inside kernels: one element, as an accumulator."""
    raise NotImplementedError


@specialise(read)
def _read(array: Any, index: Any, scratch: Any) -> Callable[..., Any]:
    if array.dtype == numba.uint16 and scratch.dtype == numba.float32:
        return lambda array, index, scratch: half_to_single(get(array, index))
    if array.dtype == numba.int16 and scratch.dtype == numba.float32:
        return lambda array, index, scratch: bfloat_to_single(get(array, index))
    accumulator = scratch.dtype
    return lambda array, index, scratch: accumulator(get(array, index))


@jit
def border(index: int, size: int, mode: int) -> int:
    """Source of a padded index, -1 for a zero: `fastconv.borders.source_index` of one index."""
    if 0 <= index < size:
        return index
    if mode == _CONSTANT:
        return -1
    if mode == _EDGE or size == 1:
        return 0 if index < 0 else size - 1
    if mode == _WRAP:
        return index % size
    period = 2 * size if mode == _SYMMETRIC else 2 * (size - 1)
    folded = index % period
    return min(folded, (period if mode == _REFLECT else period - 1) - folded)


@jit
def gather_run(x: Any, scratch: Any, source: int, step: int, target: int, count: int) -> None:
    """Pixels inside the image, `step` elements apart."""
    width = width_of(scratch)
    if step == 1 and count == width:
        for i in range(width):
            put(scratch, target + i, read(x, source + i, scratch))
    elif step == 1:
        for i in range(count):
            put(scratch, target + i, read(x, source + i, scratch))
    else:
        for i in range(count):
            put(scratch, target + i, read(x, source + i * step, scratch))


@jit
def gather_line(
    x: Any, scratch: Any, g: Any, source: int, zero: bool, start: int, count: int, channels: int,
    target: int, pitch: int,
) -> None:  # fmt: skip
    """Gather `count` columns, a stride apart from `start`, of one row of every channel.

    `source` is the row's first element in the first channel, `zero` says that the row lies
    outside a zero border, `pitch` is the distance between channels in the scratch.
    """
    x_c, x_w, stride = g.x_c, g.x_w, g.stride_w
    # columns lo to lo + inside lie in the image
    lo = 0 if start >= 0 else min((stride - 1 - start) // stride, count)
    hi = 0 if start >= g.w else min((g.w - 1 - start) // stride + 1, count)
    inside = 0 if zero else max(0, hi - lo)
    for e in range(count - inside):
        i = e if e < lo else e + inside
        column = border(start + i * stride, g.w, g.pad_mode)
        for c in range(channels):
            if zero or column < 0:
                put(scratch, target + c * pitch + i, 0)
            else:
                value = read(x, source + c * x_c + column * x_w, scratch)
                put(scratch, target + c * pitch + i, value)
    if inside:
        first = source + (start + lo * stride) * x_w
        for c in range(channels):
            gather_run(x, scratch, first + c * x_c, stride * x_w, target + c * pitch + lo, inside)


@jit
def gather_im2col(
    x: Any, scratch: Any, g: Any, first: int, count: int, channel: int, channels: int, tap: int,
    taps: int, base: int,
) -> None:  # fmt: skip
    """Gather a block of pixels into panels [panel][product][lane], zeros behind the last one."""
    width = width_of(scratch)
    depth = channels * taps
    if count % width:
        last = base + count // width * width * depth
        for i in range(width * depth):
            put(scratch, last + i, 0)
    j = 0
    while j < count:
        # as far as the panel and the output row go
        p, q = (first + j) // g.q % g.p, (first + j) % g.q
        length = min(width - j % width, g.q - q, count - j)
        place = base + j // width * width * depth + j % width
        image = (first + j) // g.q // g.p * g.x_n + channel * g.x_c
        for t in range(taps):
            r, s = (tap + t) // g.s, (tap + t) % g.s
            row = border(p * g.stride_h + r * g.dilation_h - g.top, g.h, g.pad_mode)
            start = q * g.stride_w + s * g.dilation_w - g.left
            gather_line(
                x, scratch, g, image + row * g.x_h, row < 0, start, length, channels,
                place + t * width, taps * width,
            )  # fmt: skip
        j += length


@jit
def gather_strip(
    x: Any, scratch: Any, g: Any, row_phases: Any, column_phases: Any, first: int, rows: int,
    columns: int, channel: int, channels: int, base: int,
) -> None:  # fmt: skip
    """Gather what `rows` by `columns` output pixels read, each phase of the strides apart."""
    p, q = first // g.q % g.p, first % g.q
    image = first // g.q // g.p * g.x_n + channel * g.x_c
    target = base
    for a in range(g.phases_h):
        phase = get(row_phases, a)
        for i in range(g.block_rows + g.reach_h):
            row = border((p + i) * g.stride_h + phase - g.top, g.h, g.pad_mode)
            for b in range(g.phases_w if i < rows + g.reach_h else 0):
                start = q * g.stride_w + get(column_phases, b) - g.left
                gather_line(
                    x, scratch, g, image + row * g.x_h, row < 0, start, columns + g.reach_w,
                    channels, target + b * g.line, g.channel_pitch,
                )  # fmt: skip
            target += g.row_pitch


@once
def gather_stage(operand: str, accumulator: str, strip: bool) -> Any:
    """Compile the gathering of `columns` pixels of `rows` output rows for one step."""
    x_type, sum_type = storage(operand), np.dtype(accumulator)

    def strips(
        geometry: int, first: int, rows: int, columns: int, channel: int, channels: int, tap: int,
        taps: int, base: int,
    ) -> None:  # fmt: skip
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        x = numba.carray(pointer(g.x_data), (1,), x_type)
        scratch = numba.carray(pointer(g.scratch), (1,), sum_type)
        row_phases = numba.carray(pointer(g.row_phases), (1,), np.int64)
        column_phases = numba.carray(pointer(g.column_phases), (1,), np.int64)
        gather_strip(
            x, scratch, g, row_phases, column_phases, first, rows, columns, channel, channels,
            base,
        )  # fmt: skip

    def panels(
        geometry: int, first: int, rows: int, columns: int, channel: int, channels: int, tap: int,
        taps: int, base: int,
    ) -> None:  # fmt: skip
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        x = numba.carray(pointer(g.x_data), (1,), x_type)
        scratch = numba.carray(pointer(g.scratch), (1,), sum_type)
        gather_im2col(x, scratch, g, first, columns, channel, channels, tap, taps, base)

    return jit_stage(strips if strip else panels)


@once
def weights_stage(operand: str, accumulator: str) -> Any:
    """Compile the gathering of the weights of `rows` output channels as [row][product]."""
    w_type, sum_type = storage(operand), np.dtype(accumulator)

    def gather_weights(
        geometry: int, k: int, rows: int, channel: int, channels: int, tap: int, taps: int,
        place: int,
    ) -> None:  # fmt: skip
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        w = numba.carray(pointer(g.w_data), (1,), w_type)
        scratch = numba.carray(pointer(g.scratch), (1,), sum_type)
        target = place
        for i in range(rows):
            for c in range(channels):
                source = (k + i) * g.w_k + (channel + c) * g.w_c
                r, s = tap // g.s, tap % g.s
                for _ in range(taps):
                    put(scratch, target, read(w, source + r * g.w_r + s * g.w_s, scratch))
                    target += 1
                    s += 1
                    if s == g.s:
                        r, s = r + 1, 0

    return jit_stage(gather_weights)
