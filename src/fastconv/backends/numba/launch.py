"""From a problem and arrays to one launch of the kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ... import activations
from ...borders import PAD_MODES
from ...options import Options
from ...problem import ConvProblem
from . import threads as pool
from .blocking import CACHE_LINE, Blocking, Machine, block
from .driver import driver, launcher
from .finish import finish_stage
from .gather import gather_stage, weights_stage
from .geometry import FIELDS, WORD
from .intrinsics import panel_width, tile_of
from .multiply import multiply_stage

Array = np.ndarray[Any, Any]

#: Multiply-accumulates below which waking other threads costs more than it saves.
SERIAL_MACS = 1 << 16


class Plan(NamedTuple):
    """All that is known of a call before its arrays: the geometry record lacks their addresses."""

    blocking: Blocking
    threads: int
    scratch_bytes: int
    geometry: Array
    tables: tuple[Array, Array, Array]


def _tables(problem: ConvProblem, blocking: Blocking, width: int) -> tuple[Array, Array, Array]:
    """Offset of every product's pixels, and the phases of rows and columns in a strip."""
    if blocking.axes is None:
        offsets = np.arange(blocking.channel_step * blocking.tap_step) * width
        return offsets.astype(np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    vertical, horizontal = blocking.axes
    line, row_pitch, channel_pitch = _pitches(blocking)
    lines = blocking.rows + vertical.reach
    offsets = np.array([
        c * channel_pitch + (a * lines + i) * row_pitch + b * line + j
        for c in range(blocking.channel_step)
        for a, i in vertical.taps
        for b, j in horizontal.taps
    ])  # fmt: skip
    row_phases, column_phases = (np.array(axis.phases, np.int64) for axis in blocking.axes)
    return offsets.astype(np.int64), row_phases, column_phases


def _pitches(blocking: Blocking) -> tuple[int, int, int]:
    """Elements of one line of a strip, of one row (all its column phases), of one channel."""
    if blocking.axes is None:
        return 0, 0, 0
    vertical, horizontal = blocking.axes
    line = blocking.columns + horizontal.reach
    row_pitch = len(horizontal.phases) * line
    return line, row_pitch, len(vertical.phases) * (blocking.rows + vertical.reach) * row_pitch


def _strip_fields(blocking: Blocking) -> dict[str, int]:
    line, row_pitch, channel_pitch = _pitches(blocking)
    fields = {"line": line, "row_pitch": row_pitch, "channel_pitch": channel_pitch}
    if blocking.axes is not None:
        for name, axis in zip("hw", blocking.axes, strict=True):
            fields |= {f"phases_{name}": len(axis.phases), f"reach_{name}": axis.reach}
    return fields


def _fields(problem: ConvProblem, blocking: Blocking) -> dict[str, int]:
    return {
        "h": problem.h, "w": problem.w, "p": problem.p, "q": problem.q, "s": problem.s,
        "stride_h": problem.stride[0], "stride_w": problem.stride[1],
        "dilation_h": problem.dilation[0], "dilation_w": problem.dilation[1],
        "top": problem.pad[0][0], "left": problem.pad[1][0],
        "pad_mode": PAD_MODES.index(problem.pad_mode),
        "activation": activations.code(problem.activation), "has_bias": problem.bias,
        "groups": problem.groups, "inputs": problem.c // problem.groups,
        "outputs": problem.k // problem.groups,
        "taps": problem.r * problem.s, "total": problem.n * problem.p * problem.q,
        "strip": blocking.strip, "block_rows": blocking.rows, "block_columns": blocking.columns,
        "block_channels": blocking.channels, "block_groups": blocking.groups,
        "channel_step": blocking.channel_step, "tap_step": blocking.tap_step,
        "tasks": blocking.tasks, "sums_at": blocking.pixel_elements,
        "weights_at": blocking.pixel_elements + blocking.sum_elements,
        "slot_size": blocking.scratch,
    } | _strip_fields(blocking)  # fmt: skip


@lru_cache(maxsize=1024)
def plan(problem: ConvProblem, threads: int, workspace: int) -> Plan:
    """Cut `problem` for at most `threads` threads with `workspace` bytes of scratch each."""
    itemsize = np.dtype(problem.accumulator).itemsize
    width = panel_width(itemsize)
    most = 1 if problem.cost.macs < SERIAL_MACS else threads
    blocking = block(problem, Machine(tile_of(itemsize)[0], width, itemsize, most, workspace))
    used = min(most, blocking.tasks)
    tables = _tables(problem, blocking, width)
    geometry = np.zeros(len(FIELDS), np.int64)
    for name, value in _fields(problem, blocking).items():
        geometry[WORD[name]] = value
    for name, table in zip(("offsets", "row_phases", "column_phases"), tables, strict=True):
        geometry[WORD[name]] = table.ctypes.data
    return Plan(blocking, used, used * blocking.scratch * itemsize + CACHE_LINE, geometry, tables)


def converted_weights(problem: ConvProblem, workspace: int) -> int:
    """Bytes of the weights as accumulators, if they fit `workspace` and are converted once."""
    size = problem.k * problem.reduction * np.dtype(problem.accumulator).itemsize
    return size if size <= workspace else 0


def _scratch(size: int) -> Array:
    """Zeroed memory of `size` bytes, less what it takes to start on a cache line."""
    memory = np.zeros(size, np.uint8)
    return memory[-memory.ctypes.data % CACHE_LINE :]


def _weights(problem: ConvProblem, options: Options, w: Array) -> Array:
    """Convert small weights once; every task converts its own share of larger ones."""
    if not converted_weights(problem, options.workspace):
        return w
    return np.ascontiguousarray(w, dtype=problem.accumulator)


def _stages(problem: ConvProblem, strip: bool, weights_in_place: bool) -> dict[str, Any]:
    """Compile what this problem needs and has not been compiled yet."""
    accumulator = problem.accumulator
    stages = {
        "gather": gather_stage(problem.dtype, accumulator, strip),
        "multiply": multiply_stage(accumulator),
        "finish": finish_stage(accumulator, problem.out_dtype),
    }
    if not weights_in_place:
        stages["gather_weights"] = weights_stage(problem.dtype, accumulator)
    return stages


def run(
    problem: ConvProblem, options: Options, x: Array, w: Array, bias: Array | None, out: Array
) -> None:
    """Compute `problem` into `out`."""
    planned = plan(problem, pool.usable(options.threads), options.workspace)
    w = _weights(problem, options, w)
    sums = None if bias is None else bias.astype(problem.accumulator, copy=False)
    scratch = _scratch(planned.scratch_bytes)
    counter = np.zeros(1, np.int64)
    geometry = planned.geometry.copy()
    for name, array, axes in (("x", x, "nchw"), ("w", w, "kcrs"), ("y", out, "nkpq")):
        geometry[WORD[f"{name}_data"]] = array.ctypes.data
        for axis, stride in zip(axes, array.strides, strict=True):
            geometry[WORD[f"{name}_{axis}"]] = stride // array.itemsize
    in_place = bool(w.flags.c_contiguous and w.dtype == problem.accumulator)
    geometry[WORD["w_in_place"]] = in_place
    geometry[WORD["bias"]] = 0 if sums is None else sums.ctypes.data
    geometry[WORD["scratch"]] = scratch.ctypes.data
    geometry[WORD["counter"]] = counter.ctypes.data
    for name, stage in _stages(problem, planned.blocking.strip, in_place).items():
        geometry[WORD[name]] = stage.address
    # the kernel knows addresses alone: every array above must outlive the call
    run_stage(driver(), geometry.ctypes.data, planned.threads)


def run_stage(stage: Any, geometry: int, threads: int) -> None:
    """Run a stage (slot, geometry) that computes tasks until none is left, on every thread."""
    if threads == 1 or not pool.start():
        stage.ctypes(0, geometry)  # gives up the interpreter's lock, as ctypes functions do
    else:
        words = (stage.address, geometry, threads)
        pool.launch(threads, lambda: launcher()(*words))
