"""The compiled loops: gather pixels into panels, multiply, finish, for one task after another.

A task owns a block of output pixels and channels of one group. It walks the reduction in steps;
each step gathers the pixels under its taps into panels (border modes, strides, dilation, layout
and dtype are all dealt with there), and the micro-kernel multiplies them with the weights. All
sums of a task stay in its scratch until bias and activation have been applied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from .activate import activate
from .half import half_to_single, single_to_half
from .intrinsics import (
    address,
    call,
    fetch_add,
    get,
    pointer,
    put,
    rows_of,
    tile_eighth,
    tile_full,
    tile_half,
    tile_quarter,
    width_of,
)
from .jit import jit, specialise

#: The problem as the kernels see it; x_n is the stride of x along n in elements, and so on.
FIELDS = (
    "h", "w", "s", "p", "q", "stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left",
    "pad_mode", "activation", "has_bias",
    "inputs", "outputs",  # channels per group
    "taps", "total",  # of one kernel; output pixels of the whole batch
    "x_n", "x_c", "x_h", "x_w",
    "w_k", "w_c", "w_r", "w_s", "w_in_place",  # contiguous accumulators already
    "y_n", "y_k", "y_p", "y_q",
    "block_pixels", "block_channels", "channel_step", "tap_step", "tasks",
    "sums_at", "weights_at", "slot_size",  # offsets in a thread's scratch, and its elements
    "x_data", "w_data", "bias", "y_data", "scratch", "counter",  # addresses
)  # fmt: skip
GEOMETRY = np.dtype([(name, np.int64) for name in FIELDS])


def read(array: Any, index: int, scratch: Any) -> Any:
    """Inside kernels: one element, as an accumulator."""
    raise NotImplementedError


@specialise(read)
def _read(array: Any, index: Any, scratch: Any) -> Callable[..., Any]:
    if array.dtype == numba.uint16 and scratch.dtype == numba.float32:
        return lambda array, index, scratch: half_to_single(get(array, index))
    accumulator = scratch.dtype
    return lambda array, index, scratch: accumulator(get(array, index))


def write(array: Any, index: int, value: Any) -> None:
    """Inside kernels: store one accumulator, rounded to the result's dtype."""
    raise NotImplementedError


@specialise(write)
def _write(array: Any, index: Any, value: Any) -> Callable[..., Any]:
    if array.dtype == numba.uint16 and value == numba.float32:
        return lambda array, index, value: put(array, index, single_to_half(value))
    return lambda array, index, value: put(array, index, value)


@jit
def border(index: int, size: int, mode: int) -> int:
    """Source of a padded index, -1 for a zero: `fastconv.borders.source_index` for one index."""
    if 0 <= index < size:
        return index
    if mode == 0:  # constant
        return -1
    if mode == 1:  # edge
        return 0 if index < 0 else size - 1
    if mode == 4:  # wrap
        return index % size
    if mode == 3:  # symmetric
        folded = index % (2 * size)
        return min(folded, 2 * size - 1 - folded)
    if size == 1:  # reflect
        return 0
    folded = index % (2 * (size - 1))
    return min(folded, 2 * (size - 1) - folded)


@jit
def gather_run(x: Any, scratch: Any, source: int, step: int, target: int, count: int) -> None:
    """Pixels inside the image, `step` elements apart."""
    width = width_of(scratch)
    if step == 1 and count == width:
        for i in range(width):
            put(scratch, target + i, read(x, source + i, scratch))
    else:
        for i in range(count):
            put(scratch, target + i, read(x, source + i * step, scratch))


@jit
def gather_piece(
    x: Any, scratch: Any, g: Any, pixel: int, count: int, channel: int, channels: int,
    tap: int, taps: int, place: int,
) -> None:  # fmt: skip
    """Gather `count` pixels of one output row and one panel, under every tap of a step."""
    width = width_of(scratch)
    p, q = pixel // g.q % g.p, pixel % g.q
    image = pixel // g.q // g.p * g.x_n + channel * g.x_c
    x_c, x_w, stride, step = g.x_c, g.x_w, g.stride_w, taps * width
    for t in range(taps):
        r, s = (tap + t) // g.s, (tap + t) % g.s
        row = border(p * g.stride_h + r * g.dilation_h - g.top, g.h, g.pad_mode)
        start = q * stride + s * g.dilation_w - g.left
        # pixels lo to hi lie inside the image
        lo = 0 if start >= 0 else min((stride - 1 - start) // stride, count)
        hi = 0 if start >= g.w else min((g.w - 1 - start) // stride + 1, count)
        inside = max(0, hi - lo) if row >= 0 else 0
        source, target = image + row * g.x_h, place + t * width
        for e in range(count - inside):
            i = e if e < lo else e + inside
            column = border(start + i * stride, g.w, g.pad_mode)
            zero = row < 0 or column < 0
            for c in range(channels):
                pixel_at = source + c * x_c + column * x_w
                value = scratch.dtype.type(0) if zero else read(x, pixel_at, scratch)
                put(scratch, target + c * step + i, value)
        source += (start + lo * stride) * x_w
        for c in range(channels if inside else 0):
            gather_run(x, scratch, source + c * x_c, stride * x_w, target + c * step + lo, inside)


@jit
def gather_pixels(
    x: Any, scratch: Any, g: Any, first: int, count: int, channel: int, channels: int,
    tap: int, taps: int, base: int,
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
        pixel = first + j
        length = min(width - j % width, g.q - pixel % g.q, count - j)
        place = base + j // width * width * depth + j % width
        gather_piece(x, scratch, g, pixel, length, channel, channels, tap, taps, place)
        j += length


@jit
def gather_weights(
    w: Any, scratch: Any, g: Any, k: int, rows: int, channel: int, channels: int, tap: int,
    taps: int, place: int,
) -> None:  # fmt: skip
    """Gather the weights of `rows` output channels as [row][product]."""
    for i in range(rows):
        for c in range(channels):
            source = (k + i) * g.w_k + (channel + c) * g.w_c
            target = place + (i * channels + c) * taps
            for t in range(taps):
                r, s = (tap + t) // g.s, (tap + t) % g.s
                put(scratch, target + t, read(w, source + r * g.w_r + s * g.w_s, scratch))


@jit
def multiply(
    scratch: Any, a: int, lda: int, panels: int, sums: int, row_length: int, depth: int, count: int,
    rows: int,
) -> None:  # fmt: skip
    """Multiply `rows` rows of weights with every panel; full, half, quarter or eighth tiles."""
    width = width_of(scratch)
    full = rows_of(scratch)
    for j in range(0, count, width):
        b = address(scratch, panels + j * depth)
        c = address(scratch, sums + j)
        if rows == full:
            tile_full(scratch, a, lda, b, c, row_length, depth)
        elif rows == full // 2:
            tile_half(scratch, a, lda, b, c, row_length, depth)
        elif rows == full // 4:
            tile_quarter(scratch, a, lda, b, c, row_length, depth)
        else:
            tile_eighth(scratch, a, lda, b, c, row_length, depth)


@jit
def multiply_step(
    w: Any, scratch: Any, g: Any, base: int, k: int, outputs: int, channel: int,
    channels: int, tap: int, taps: int, count: int,
) -> None:  # fmt: skip
    """Multiply the panels of one step with the weights of all output channels of the task."""
    depth = channels * taps
    done = 0
    while done < outputs:
        rows = rows_of(scratch)
        while rows > outputs - done:
            rows //= 2
        if g.w_in_place:
            lda = g.inputs * g.taps
            a = address(w, (k + done) * lda + channel * g.taps + tap)
        else:
            lda = depth
            weights = base + g.weights_at
            gather_weights(w, scratch, g, k + done, rows, channel, channels, tap, taps, weights)
            a = address(scratch, weights)
        sums = base + g.sums_at + done * g.block_pixels
        multiply(scratch, a, lda, base, sums, g.block_pixels, depth, count, rows)
        done += rows


@jit
def scatter(
    scratch: Any, y: Any, g: Any, sums: int, k: int, outputs: int, first: int, count: int
) -> None:
    """Write finished sums, along whichever axis of the result is the denser one."""
    j = 0
    while j < count:
        pixel = first + j
        q = pixel % g.q
        length = min(g.q - q, count - j)
        place = pixel // g.q // g.p * g.y_n + pixel // g.q % g.p * g.y_p + q * g.y_q
        place += k * g.y_k
        if abs(g.y_q) <= abs(g.y_k):
            for m in range(outputs):
                source, target = sums + m * g.block_pixels + j, place + m * g.y_k
                if g.y_q == 1:
                    for i in range(length):
                        write(y, target + i, get(scratch, source + i))
                else:
                    for i in range(length):
                        write(y, target + i * g.y_q, get(scratch, source + i))
        else:
            for i in range(length):
                source, target = sums + j + i, place + i * g.y_q
                for m in range(outputs):
                    write(y, target + m * g.y_k, get(scratch, source + m * g.block_pixels))
        j += length


@jit
def finish(
    scratch: Any, bias: Any, y: Any, g: Any, sums: int, k: int, outputs: int, first: int,
    count: int,
) -> None:  # fmt: skip
    """Add the bias, apply the activation, write."""
    if g.has_bias:
        for m in range(outputs):
            offset = get(bias, k + m)
            for i in range(count):
                place = sums + m * g.block_pixels + i
                put(scratch, place, get(scratch, place) + offset)
    if g.activation:
        for m in range(outputs):
            activate(scratch, sums + m * g.block_pixels, count, g.activation)
    scatter(scratch, y, g, sums, k, outputs, first, count)


@jit
def compute(task: int, base: int, g: Any, x: Any, w: Any, bias: Any, y: Any, scratch: Any) -> None:
    """Compute one task: a block of pixels and output channels of one group."""
    channel_blocks = (g.outputs + g.block_channels - 1) // g.block_channels
    pixel_blocks = (g.total + g.block_pixels - 1) // g.block_pixels
    group = task // channel_blocks // pixel_blocks
    first = task // channel_blocks % pixel_blocks * g.block_pixels
    k = task % channel_blocks * g.block_channels
    count = min(g.block_pixels, g.total - first)
    outputs = min(g.block_channels, g.outputs - k)
    k += group * g.outputs
    sums = base + g.sums_at
    for i in range(outputs * g.block_pixels):
        put(scratch, sums + i, 0)
    for channel in range(0, g.inputs, g.channel_step):
        channels = min(g.channel_step, g.inputs - channel)
        for tap in range(0, g.taps, g.tap_step):
            taps = min(g.tap_step, g.taps - tap)
            gather_pixels(
                x, scratch, g, first, count, group * g.inputs + channel, channels, tap, taps, base
            )
            multiply_step(w, scratch, g, base, k, outputs, channel, channels, tap, taps, count)
    finish(scratch, bias, y, g, sums, k, outputs, first, count)


@cache
def kernel(operand: str, out: str, accumulator: str) -> Any:
    """Compile the kernel for these dtypes: ``void kernel(int64 slot, int64 geometry)``.

    It computes tasks until none is left, in the scratch of one slot. Any number of threads may
    run it on one geometry, each with its own slot; which task runs where changes no bit.
    """
    storage = {"float16": np.dtype(np.uint16)}
    x_type = storage.get(operand, np.dtype(operand))
    y_type = storage.get(out, np.dtype(out))
    sum_type = np.dtype(accumulator)

    def work(slot: int, geometry: int) -> None:
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        x = numba.carray(pointer(g.x_data), (1,), x_type)
        w = numba.carray(pointer(g.w_data), (1,), x_type)
        bias = numba.carray(pointer(g.bias), (1,), sum_type)
        y = numba.carray(pointer(g.y_data), (1,), y_type)
        scratch = numba.carray(pointer(g.scratch), (1,), sum_type)
        counter = numba.carray(pointer(g.counter), (1,), np.int64)
        task = fetch_add(counter)
        while task < g.tasks:
            compute(task, slot * g.slot_size, g, x, w, bias, y, scratch)
            task = fetch_add(counter)

    return numba.cfunc("void(int64, int64)", error_model="numpy")(work)


@cache
def launcher() -> Any:
    """Compile the loop that runs a kernel on every thread; once for all dtypes."""

    def launch(kernel: int, geometry: int, slots: int) -> None:
        for slot in numba.prange(slots):
            call(kernel, slot, geometry)

    signature = "void(int64, int64, int64)"
    return numba.njit(signature, parallel=True, nogil=True, error_model="numpy")(launch)
