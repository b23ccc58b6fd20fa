"""Multiply gathered pixels with weights, a register tile at a time."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from .geometry import GEOMETRY
from .intrinsics import (
    address,
    call,
    pointer,
    put,
    rows_of,
    tile_eighth,
    tile_full,
    tile_half,
    tile_quarter,
    width_of,
)
from .jit import jit, jit_stage, once


@jit
def multiply_rows(
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


@once
def multiply_stage(accumulator: str) -> Any:
    """Compile the product of one step's pixels with `outputs` rows of weights from `k`.

    Adds to the sums; the first step of a task (channel 0, tap 0) clears them before.
    """
    sum_type = np.dtype(accumulator)
    itemsize = sum_type.itemsize

    def multiply(
        geometry: int, base: int, pixels: int, sums: int, k: int, outputs: int, channel: int,
        channels: int, tap: int, taps: int, rows: int, columns: int,
    ) -> None:  # fmt: skip
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        scratch = numba.carray(pointer(g.scratch), (1,), sum_type)
        ldc, depth = g.block_rows * g.block_columns, channels * taps
        if channel == 0 and tap == 0:
            for i in range(outputs * ldc):
                put(scratch, sums + i, 0)
        panel_pitch = width_of(scratch) * (1 if g.strip else depth)
        offsets = g.offsets + (8 * tap if g.strip else 0)
        done = 0
        while done < outputs:
            tile_rows = rows_of(scratch)
            while tile_rows > outputs - done:
                tile_rows //= 2
            if g.w_in_place:
                lda = g.inputs * g.taps
                a = g.w_data + ((k + done) * lda + channel * g.taps + tap) * itemsize
            else:
                lda, place = depth, base + g.weights_at
                words = (geometry, k + done, tile_rows, channel, channels, tap, taps, place)
                call(g.gather_weights, words)
                a = address(scratch, place)
            multiply_rows(
                scratch, g, tile_rows, a, lda, pixels, panel_pitch, offsets, sums + done * ldc,
                depth, rows, columns,
            )  # fmt: skip
            done += tile_rows

    return jit_stage(multiply)
