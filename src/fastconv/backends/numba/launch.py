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
from .blocking import Blocking, block
from .intrinsics import panel_width, tile_of
from .kernels import GEOMETRY, launcher
from .kernels import kernel as compiled

Array = np.ndarray[Any, Any]

CACHE_LINE = 64
#: Multiply-accumulates below which waking other threads costs more than it saves.
SERIAL_MACS = 1 << 16


class Plan(NamedTuple):
    """Blocks, and how many threads share them."""

    blocking: Blocking
    threads: int
    scratch_bytes: int


@lru_cache(maxsize=4096)
def plan(problem: ConvProblem, threads: int, workspace: int) -> Plan:
    """Cut `problem` for at most `threads` threads with `workspace` bytes of scratch each."""
    itemsize = np.dtype(problem.accumulator).itemsize
    rows, width = tile_of(itemsize)[0], panel_width(itemsize)
    most = 1 if problem.cost.macs < SERIAL_MACS else pool.usable(threads)
    blocking = block(problem, most, workspace, rows, width, itemsize)
    used = min(most, blocking.tasks)
    return Plan(blocking, used, used * blocking.scratch * itemsize + CACHE_LINE)


def _places(x: Array, w: Array, y: Array) -> dict[str, int]:
    """Address and strides, in elements, of the arrays."""
    places = {}
    for name, array, axes in (("x", x, "nchw"), ("w", w, "kcrs"), ("y", y, "nkpq")):
        places[f"{name}_data"] = array.ctypes.data
        for axis, stride in zip(axes, array.strides, strict=True):
            places[f"{name}_{axis}"] = stride // array.itemsize
    return places


def _constants(problem: ConvProblem, blocking: Blocking) -> dict[str, int]:
    """What the kernels know of a problem, whatever the arrays are."""
    line = CACHE_LINE // np.dtype(problem.accumulator).itemsize
    sums_at = -(-blocking.depth * blocking.pixels // line) * line
    sums = -(-blocking.channels * blocking.pixels // line) * line
    return {
        "h": problem.h, "w": problem.w, "s": problem.s, "p": problem.p, "q": problem.q,
        "stride_h": problem.stride[0], "stride_w": problem.stride[1],
        "dilation_h": problem.dilation[0], "dilation_w": problem.dilation[1],
        "top": problem.pad[0][0], "left": problem.pad[1][0],
        "pad_mode": PAD_MODES.index(problem.pad_mode),
        "activation": activations.code(problem.activation), "has_bias": problem.bias,
        "inputs": problem.c // problem.groups, "outputs": problem.k // problem.groups,
        "taps": problem.r * problem.s, "total": problem.n * problem.p * problem.q,
        "block_pixels": blocking.pixels, "block_channels": blocking.channels,
        "channel_step": blocking.channel_step, "tap_step": blocking.tap_step,
        "tasks": blocking.tasks, "sums_at": sums_at, "weights_at": sums_at + sums,
        "slot_size": blocking.scratch,
    }  # fmt: skip


def _scratch(elements: int, dtype: str) -> Array:
    """Uninitialised memory that starts on a cache line."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(elements * itemsize + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + elements * itemsize].view(dtype)


def _weights_in_place(problem: ConvProblem, w: Array) -> bool:
    """Whether the micro-kernel can read the weights where they are."""
    return bool(w.flags.c_contiguous) and problem.dtype == problem.accumulator


def run(
    problem: ConvProblem, options: Options, x: Array, w: Array, bias: Array | None, out: Array
) -> None:
    """Compute `problem` into `out`."""
    blocking, threads, _ = plan(problem, pool.usable(options.threads), options.workspace)
    kernel = compiled(problem.dtype, problem.out_dtype, problem.accumulator)
    sums = None if bias is None else bias.astype(problem.accumulator, copy=False)
    scratch = _scratch(threads * blocking.scratch, problem.accumulator)
    counter = np.zeros(1, np.int64)
    geometry = np.zeros(1, GEOMETRY)
    for name, value in (_constants(problem, blocking) | _places(x, w, out)).items():
        geometry[name] = value
    geometry["w_in_place"] = _weights_in_place(problem, w)
    geometry["bias"] = 0 if sums is None else sums.ctypes.data
    geometry["scratch"] = scratch.ctypes.data
    geometry["counter"] = counter.ctypes.data
    address = geometry.ctypes.data
    if threads == 1:
        kernel.ctypes(0, address)  # without the interpreter's lock, as any ctypes function
    else:
        parallel = launcher()
        pool.launch(threads, lambda: parallel(kernel.address, address, threads))
