"""Deformable convolutions: a block of samples at a time, and the 1x1 convolution of that block.

Samples of a block of output pixels are images of C*R*S channels, (c, r, s) as the weights are,
whose product with them is a convolution of one tap. Blocks end with the workspace; neither they nor
threads change a sample or the order of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numba
import numpy as np

from ...deformable import DeformProblem
from ...options import Options
from ...problem import ConvProblem
from . import threads as pool
from .gather import read
from .intrinsics import fetch_add, get, pointer, put
from .jit import jit, jit_stage, once, storage
from .launch import plan, run_stage
from .launch import run as run_convolution

Array = np.ndarray[Any, Any]

#: Strides are in elements, addresses in bytes; a block is `rows` by `columns` pixels from (p, q).
_FIELDS = (
    "h", "w", "s", "taps", "stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left",
    "offset_groups", "shared",  # channels of an offset group
    "p", "q", "rows", "columns", "tasks",
    "x_c", "x_h", "x_w", "offset_c", "offset_h", "offset_w", "mask_c", "mask_h", "mask_w",
    "x_data", "offset_data", "mask_data", "samples", "index", "weight", "counter",  # addresses
)  # fmt: skip
_RECORD = np.dtype([(name, np.int64) for name in _FIELDS])
_CORNERS = 4
#: Index of a pixel outside of the image.
_NOWHERE = -(1 << 62)
#: Offsets from here on lie outside of every image.
_FAR = 2.0**60


class _Block(NamedTuple):
    p: int
    q: int
    rows: int
    columns: int


@jit
def neighbours(offset: float, base: int, size: int) -> tuple[int, float, float, bool]:
    """Return the pixel before a moved place, the weights of it and the next, whether it counts."""
    if not abs(offset) < _FAR:
        return 0, 0.0, 0.0, False
    floor = math.floor(offset)
    after = offset - floor
    before = 1.0 if after == 0 else (floor + 1) - offset
    low = base + floor
    return low, before, after, low < size and (low >= 0 or (low == -1 and after > 0))


@jit
def pixel_index(g: Any, row: int, column: int) -> Any:
    """Element of one channel's image, or nowhere."""
    if row < 0 or row >= g.h or column < 0 or column >= g.w:
        return _NOWHERE
    return row * g.x_h + column * g.x_w


@jit
def blend_row(
    x: Any, samples: Any, index: Any, weight: Any, places: int, columns: int, source: int,
    target: int,
) -> None:  # fmt: skip
    """Blend one row of samples of one channel."""
    zero = samples.dtype.type(0)
    for i in range(columns):
        total = zero
        for corner in range(_CORNERS):
            at = get(index, places + corner * columns + i)
            pixel = zero if at == _NOWHERE else read(x, source + at, samples)
            total += get(weight, places + corner * columns + i) * pixel
        put(samples, target + i, total)


@once
def sample_stage(operand: str, accumulator: str) -> Any:
    """Compile the sampling of a block; a task is one row, one tap and one offset group."""
    x_type, kind = storage(operand), np.dtype(accumulator)
    number = kind.type

    def work(slot: int, geometry: int) -> None:
        g = numba.carray(pointer(geometry), (1,), _RECORD)[0]
        x = numba.carray(pointer(g.x_data), (1,), x_type)
        offset = numba.carray(pointer(g.offset_data), (1,), kind)
        mask = numba.carray(pointer(g.mask_data), (1,), kind)
        samples = numba.carray(pointer(g.samples), (1,), kind)
        index = numba.carray(pointer(g.index), (1,), np.int64)
        weight = numba.carray(pointer(g.weight), (1,), kind)
        counter = numba.carray(pointer(g.counter), (1,), np.int64)
        columns, places = g.columns, slot * _CORNERS * g.columns
        task = fetch_add(counter)
        while task < g.tasks:
            tap, group = task % g.taps, task // g.taps % g.offset_groups
            row = task // g.taps // g.offset_groups
            place = group * g.taps + tap
            p = g.p + row
            base_h = p * g.stride_h - g.top + tap // g.s * g.dilation_h
            base_w = g.q * g.stride_w - g.left + tap % g.s * g.dilation_w
            for i in range(columns):
                at = 2 * place * g.offset_c + p * g.offset_h + (g.q + i) * g.offset_w
                down, across = get(offset, at), get(offset, at + g.offset_c)
                scale = number(1)
                if g.mask_data:
                    scale = get(mask, place * g.mask_c + p * g.mask_h + (g.q + i) * g.mask_w)
                top, above, below, inside_h = neighbours(down, base_h, g.h)
                left, before, after, inside_w = neighbours(across, base_w + i * g.stride_w, g.w)
                if down != down or across != across:
                    scale = down + across
                if not (inside_h and inside_w):
                    top, above, below, before, after = -2, 1.0, 1.0, 1.0, 1.0
                for corner in range(_CORNERS):
                    share_h = above if corner < 2 else below
                    share_w = before if corner % 2 == 0 else after
                    to = places + corner * columns + i
                    put(index, to, pixel_index(g, top + corner // 2, left + corner % 2))
                    put(weight, to, number(scale * number(share_h * share_w)))
            for c in range(group * g.shared, (group + 1) * g.shared):
                target = ((c * g.taps + tap) * g.rows + row) * columns
                blend_row(x, samples, index, weight, places, columns, c * g.x_c, target)
            task = fetch_add(counter)

    return jit_stage(work)


def _blocks(problem: DeformProblem, budget: int) -> Iterator[_Block]:
    """Cut the output into blocks of rows, or of parts of one row, of so many pixels at most."""
    pixel = problem.c * problem.taps * np.dtype(problem.accumulator).itemsize
    most = max(1, budget // pixel)
    columns = min(problem.q, most)
    rows = max(1, min(problem.p, most // columns))
    for p in range(0, problem.p, rows):
        for q in range(0, problem.q, columns):
            yield _Block(p, q, min(rows, problem.p - p), min(columns, problem.q - q))


def _budget(options: Options) -> int:
    """Bytes of samples that wait for their product: half of what all threads are granted."""
    return options.workspace * pool.usable(options.threads) // 2


def _product(problem: DeformProblem, block: _Block) -> ConvProblem:
    """Return the convolution of one block of samples."""
    sums = problem.accumulator
    return ConvProblem(
        1, problem.c * problem.taps, block.rows, block.columns, problem.k, 1, 1,
        groups=problem.groups, dtype=sums, out_dtype=problem.out_dtype, bias=problem.bias,
        activation=problem.activation,
    )  # fmt: skip


def deform_algorithm(problem: DeformProblem, options: Options) -> tuple[str, int]:
    """Name the algorithm, and the scratch of one block and of its product."""
    block = next(_blocks(problem, _budget(options)))
    product, threads = _product(problem, block), pool.usable(options.threads)
    itemsize = np.dtype(problem.accumulator).itemsize
    samples = product.c * block.rows * block.columns * itemsize
    places = threads * _CORNERS * block.columns * (8 + itemsize)
    weights = problem.k * problem.reduction * itemsize
    inner = plan(product, threads, options.workspace).scratch_bytes
    return "sampled_gemm", samples + places + weights + inner


def _record(problem: DeformProblem, block: _Block) -> Array:
    record = np.zeros(1, _RECORD)
    values = {
        "h": problem.h, "w": problem.w, "s": problem.s, "taps": problem.taps,
        "stride_h": problem.stride[0], "stride_w": problem.stride[1],
        "dilation_h": problem.dilation[0], "dilation_w": problem.dilation[1],
        "top": problem.pad[0][0], "left": problem.pad[1][0],
        "offset_groups": problem.offset_groups, "shared": problem.c // problem.offset_groups,
        "tasks": block.rows * problem.taps * problem.offset_groups,
    }  # fmt: skip
    for name, value in (values | block._asdict()).items():
        record[name] = value
    return record


def deform(
    problem: DeformProblem, options: Options, x: Array, w: Array, offset: Array,
    mask: Array | None, bias: Array | None, out: Array,
) -> None:  # fmt: skip
    """Compute a deformable convolution into `out`; see `fastconv.backends`."""
    sums = np.dtype(problem.accumulator)
    kernel = np.ascontiguousarray(w, sums).reshape(problem.k, -1, 1, 1)
    stage = sample_stage(problem.dtype, problem.accumulator)
    threads = pool.usable(options.threads)
    counter = np.zeros(1, np.int64)
    for block in _blocks(problem, _budget(options)):
        record, product = _record(problem, block), _product(problem, block)
        samples = np.empty((1, product.c, block.rows, block.columns), sums)
        index = np.empty(threads * _CORNERS * block.columns, np.int64)
        weight = np.empty(index.size, sums)
        scratch = {"samples": samples, "index": index, "weight": weight, "counter": counter}
        for name, array in scratch.items():
            record[name] = array.ctypes.data
        rows, columns = (
            slice(block.p, block.p + block.rows), slice(block.q, block.q + block.columns)
        )  # fmt: skip
        for image in range(problem.n):
            for name, moved in (("x", x), ("offset", offset), ("mask", mask)):
                if moved is not None:
                    record[f"{name}_data"] = moved[image].ctypes.data
                    for axis, stride in zip("chw", moved.strides[1:], strict=True):
                        record[f"{name}_{axis}"] = stride // moved.itemsize
            counter[0] = 0
            used = min(threads, int(record["tasks"][0]))
            run_stage(stage, record.ctypes.data, used)
            target = out[image : image + 1, :, rows, columns]
            run_convolution(product, options, samples, kernel, bias, target)
