"""The compiled loops: gather, multiply, finish, for one task after another.

A task owns a block of output pixels and channels. It walks the reduction in steps: each gathers
the pixels under some channels and taps, and the micro-kernel multiplies them with the weights. All
sums of a task stay in its scratch until bias and activation have been applied.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np

from .finish import finish
from .gather import gather_im2col, gather_strip, gather_weights
from .geometry import GEOMETRY
from .intrinsics import (
    address,
    call,
    fetch_add,
    pointer,
    put,
    rows_of,
    tile_eighth,
    tile_full,
    tile_half,
    tile_quarter,
    width_of,
)
from .jit import jit


@jit
def multiply(
    scratch: Any, g: Any, tile_rows: int, a: int, lda: int, pixels: int, panel_pitch: int,
    offsets: int, sums: int, depth: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """Multiply `tile_rows` rows of weights with all pixels of the block."""
    width, full = width_of(scratch), rows_of(scratch)
    ldc = g.block_rows * g.block_columns
    for row in range(rows):
        for j in range(0, columns, width):
            b = address(scratch, pixels + row * g.row_pitch + j // width * panel_pitch)
            c = address(scratch, sums + row * g.block_columns + j)
            if tile_rows == full:
                tile_full(scratch, a, lda, b, offsets, c, ldc, depth)
            elif tile_rows == full // 2:
                tile_half(scratch, a, lda, b, offsets, c, ldc, depth)
            elif tile_rows == full // 4:
                tile_quarter(scratch, a, lda, b, offsets, c, ldc, depth)
            else:
                tile_eighth(scratch, a, lda, b, offsets, c, ldc, depth)


@jit
def multiply_step(
    w: Any, scratch: Any, g: Any, offsets: Any, base: int, pixels: int, sums: int, k: int,
    outputs: int, channel: int, channels: int, tap: int, taps: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """Multiply the pixels of one step with the weights of all output channels of a group."""
    depth = channels * taps
    panel_pitch = width_of(scratch) * (1 if g.strip else depth)
    table = address(offsets, tap if g.strip else 0)
    done = 0
    while done < outputs:
        tile_rows = rows_of(scratch)
        while tile_rows > outputs - done:
            tile_rows //= 2
        if g.w_in_place:
            lda = g.inputs * g.taps
            a = g.w_data + ((k + done) * lda + channel * g.taps + tap) * g.itemsize
        else:
            lda = depth
            place = base + g.weights_at
            gather_weights(w, scratch, g, k + done, tile_rows, channel, channels, tap, taps, place)
            a = address(scratch, place)
        c = sums + done * g.block_rows * g.block_columns
        multiply(scratch, g, tile_rows, a, lda, pixels, panel_pitch, table, c, depth, rows, columns)
        done += tile_rows


@jit
def compute(
    g: Any, x: Any, w: Any, bias: Any, y: Any, scratch: Any, tables: Any, base: int, group: int,
    groups: int, k: int, outputs: int, first: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """Compute `rows` by `columns` pixels from `first`, of `outputs` channels from k per group."""
    offsets, row_phases, column_phases = tables
    sums, pitch = base + g.sums_at, g.block_rows * g.block_columns
    for i in range(groups * outputs * pitch):
        put(scratch, sums + i, 0)
    for channel in range(0, g.inputs, g.channel_step):
        channels = min(g.channel_step, g.inputs - channel)
        from_channel = group * g.inputs + channel
        if g.strip:
            gather_strip(
                x, scratch, g, row_phases, column_phases, first, rows, columns, from_channel,
                groups * channels, base,
            )  # fmt: skip
        for tap in range(0, g.taps, g.tap_step):
            taps = min(g.tap_step, g.taps - tap)
            if not g.strip:
                gather_im2col(
                    x, scratch, g, first, columns, from_channel, channels, tap, taps, base
                )
            for i in range(groups):
                multiply_step(
                    w, scratch, g, offsets, base, base + i * g.inputs * g.channel_pitch,
                    sums + i * outputs * pitch, (group + i) * g.outputs + k, outputs, channel,
                    channels, tap, taps, rows, columns,
                )  # fmt: skip
    for row in range(rows):
        finish(
            scratch, bias, y, g, sums + row * g.block_columns, pitch, group * g.outputs + k,
            groups * outputs, first + row * g.q, columns,
        )  # fmt: skip


@jit
def run_task(
    task: int, g: Any, x: Any, w: Any, bias: Any, y: Any, scratch: Any, tables: Any, base: int
) -> None:
    """Find out which pixels and channels a task owns, and compute them."""
    channel_blocks = (g.outputs + g.block_channels - 1) // g.block_channels
    k = task % channel_blocks * g.block_channels
    outputs = min(g.block_channels, g.outputs - k)
    place = task // channel_blocks
    if g.strip:
        across = (g.q + g.block_columns - 1) // g.block_columns
        q = place % across * g.block_columns
        down = (g.p + g.block_rows - 1) // g.block_rows
        p = place // across % down * g.block_rows
        place //= across * down
        images = g.total // g.q // g.p
        first = (place % images * g.p + p) * g.q + q
        group = place // images * g.block_groups
        rows, columns = min(g.block_rows, g.p - p), min(g.block_columns, g.q - q)
    else:
        blocks = (g.total + g.block_columns - 1) // g.block_columns
        first = place % blocks * g.block_columns
        group = place // blocks
        rows, columns = 1, min(g.block_columns, g.total - first)
    groups = min(g.block_groups, g.groups - group)
    compute(
        g, x, w, bias, y, scratch, tables, base, group, groups, k, outputs, first, rows, columns
    )


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
        tables = (
            numba.carray(pointer(g.offsets), (1,), np.int64),
            numba.carray(pointer(g.row_phases), (1,), np.int64),
            numba.carray(pointer(g.column_phases), (1,), np.int64),
        )
        task = fetch_add(counter)
        while task < g.tasks:
            run_task(task, g, x, w, bias, y, scratch, tables, slot * g.slot_size)
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
