"""Walk the tasks: what is common to all dtypes, compiled once.

A task owns a block of output pixels and channels. It walks the reduction in steps: each gathers
the pixels under some channels and taps, and multiplies them with the weights. All sums of a task
stay in its scratch until bias and activation have been applied.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from .geometry import GEOMETRY
from .intrinsics import call, fetch_add, pointer
from .jit import jit, jit_stage, once


@jit
def compute(
    geometry: int, g: Any, base: int, group: int, groups: int, k: int, outputs: int, first: int,
    rows: int, columns: int,
) -> None:  # fmt: skip
    """Compute `rows` by `columns` pixels from `first`, of `outputs` channels from k per group."""
    sums, pitch = base + g.sums_at, g.block_rows * g.block_columns
    for channel in range(0, g.inputs, g.channel_step):
        channels = min(g.channel_step, g.inputs - channel)
        source = group * g.inputs + channel
        for tap in range(0, g.taps, g.tap_step):
            taps = min(g.tap_step, g.taps - tap)
            if tap == 0 or not g.strip:  # a strip serves every tap
                words = (geometry, first, rows, columns, source, groups * channels, tap, taps, base)
                call(g.gather, words)
            for i in range(groups):
                pixels = base + i * g.inputs * g.channel_pitch
                call(
                    g.multiply,
                    (
                        geometry, base, pixels, sums + i * outputs * pitch,
                        (group + i) * g.outputs + k, outputs, channel, channels, tap, taps, rows,
                        columns,
                    ),
                )  # fmt: skip
    for row in range(rows):
        place = sums + row * g.block_columns
        channel = group * g.outputs + k
        call(g.finish, (geometry, place, channel, groups * outputs, first + row * g.q, columns))


@jit
def run_task(geometry: int, g: Any, task: int, base: int) -> None:
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
    compute(geometry, g, base, group, groups, k, outputs, first, rows, columns)


@once
def driver() -> Any:
    """Compile the loop over tasks.

    It computes tasks until none is left, in the scratch of one slot. Any number of threads may
    run it on one geometry, each with its own slot; which task runs where changes no bit.
    """

    def work(slot: int, geometry: int) -> None:
        g = numba.carray(pointer(geometry), (1,), GEOMETRY)[0]
        counter = numba.carray(pointer(g.counter), (1,), np.int64)
        task = fetch_add(counter)
        while task < g.tasks:
            run_task(geometry, g, task, slot * g.slot_size)
            task = fetch_add(counter)

    return jit_stage(work)


@once
def launcher() -> Any:
    """Compile the loop that runs the driver on every thread."""

    def launch(work: int, geometry: int, slots: int) -> None:
        for slot in numba.prange(slots):
            call(work, (slot, geometry))

    signature = "void(int64, int64, int64)"
    return numba.njit(signature, parallel=True, nogil=True, error_model="numpy")(launch)
