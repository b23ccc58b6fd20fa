"""Kernels that are outer products, w = u v^T: rows are convolved with v, then columns with u.

Each task computes a band of rows of some channels: the rows of x under it, convolved horizontally,
are its only scratch memory. Both passes are convolutions of the extension, so that every output is
one chain of operations that no cutting changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...borders import source_index
from ...options import Options
from ...problem import ConvProblem
from .tasks import for_each

NAME = "separable"
Array = np.ndarray[Any, Any]

#: Two passes pay where they need fewer multiply-adds than the kernel by this factor: a small
#: kernel runs at the rate of memory, and the rows between the passes are memory.
LEAST_GAIN = 6.0
#: Below this many multiply-adds threads and bands cost more than they gain.
LEAST_WORK = 100_000_000
#: Bytes of convolved rows: they should stay in the second-level cache between the passes.
BAND_BYTES = 2 << 20
TASKS_PER_THREAD = 4


class Factors(NamedTuple):
    """Columns (K, 1, R, 1) and rows (K, 1, 1, S) with w = column * row."""

    column: Array
    row: Array


def _extent(problem: ConvProblem) -> int:
    """Rows under one output row."""
    return (problem.r - 1) * problem.dilation[0] + 1


def _row_bytes(problem: ConvProblem, channels: int) -> int:
    """Bytes of one convolved row of the output channels that belong to `channels` of x."""
    return channels * (problem.k // problem.c) * problem.q * np.dtype(problem.dtype).itemsize


def pays(problem: ConvProblem, options: Options) -> bool:
    """Whether two passes would be faster, should the kernels be outer products."""
    if problem.c != problem.groups or min(problem.r, problem.s) == 1:
        return False
    passes = problem.s * min(problem.stride[0], _extent(problem)) + problem.r
    work = problem.k * problem.p * problem.q * problem.r * problem.s
    fits = _row_bytes(problem, 1) * 2 * _extent(problem) <= options.workspace
    return problem.r * problem.s >= LEAST_GAIN * passes and work >= LEAST_WORK and fits


def factor(w: Array) -> Factors | None:
    """Factors of (K, 1, R, S) kernels, or None unless w is their product but for roundings.

    A kernel of exact outer products, rounded, differs from one by at most u*max|w| per element;
    2*u*max|w| is accepted. The factors are found by the power method from the row and column of
    the largest element: the second singular value is of the size of roundings, so that two steps
    reach the first pair.
    """
    with np.errstate(all="ignore"):
        return None if _is_no_product(w[0, 0]) else _factor(w)


def _is_no_product(kernel: Array) -> bool:
    """Whether a kernel is far from an outer product: what most are, and quickly told."""
    wide = kernel.astype(np.float64)
    r, s = divmod(int(np.abs(wide).argmax()), wide.shape[1])
    pivot = wide[r, s]
    # negated, so that NaN says no
    off = np.abs(wide - wide[:, s : s + 1] * (wide[r] / pivot)).max() if pivot else 0.0
    return not off <= 64 * np.finfo(kernel.dtype).eps * abs(pivot)


def _factor(w: Array) -> Factors | None:
    kernels = w[:, 0].astype(np.longdouble)
    if not np.isfinite(kernels).all():
        return None
    largest = np.abs(kernels).max(axis=(1, 2), keepdims=True)
    scale = np.where(largest == 0, 1, largest)
    kernels /= scale
    best = np.abs(kernels).reshape(len(kernels), -1).argmax(axis=1)
    row = kernels[np.arange(len(kernels)), best // kernels.shape[2]][:, :, None]  # (K, S, 1)
    for _ in range(2):
        column = kernels @ _unit(row)
        row = kernels.transpose(0, 2, 1) @ _unit(column)
    column = _unit(column)  # the singular value stays in row
    height = np.abs(column).max(axis=1, keepdims=True)
    height = np.where(height == 0, 1, height)
    column, row = column / height, row * height
    residual = np.abs(kernels - column * row.transpose(0, 2, 1)).max(axis=(1, 2))
    if (residual > np.finfo(w.dtype).eps).any():  # eps is 2 * u, and max|w| is 1
        return None
    row = (row * scale).astype(w.dtype)
    if not np.isfinite(row).all():
        return None
    k, r, s = kernels.shape
    return Factors(column.astype(w.dtype).reshape(k, 1, r, 1), row.reshape(k, 1, 1, s))


def _unit(vectors: Array) -> Array:
    norm = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    result: Array = vectors / np.where(norm == 0, 1, norm)
    return result


class _Band(NamedTuple):
    """One task: image, channels of x, output rows."""

    image: int
    channels: slice
    rows: slice


class Separable:
    """The way, with its factors; see `fast.Way`."""

    name = NAME

    def __init__(self, column: Array, row: Array) -> None:
        self._column, self._row = column, row
        self.packed_bytes = column.nbytes + row.nbytes

    def scratch_bytes(self, problem: ConvProblem, options: Options) -> int:
        """Return the bytes of the convolved rows that all threads hold at a time."""
        channels, rows = _cut(problem, options)
        held = _row_bytes(problem, channels) * _rows_under(problem, rows)
        tasks = -(-problem.c // channels) * -(-problem.p // rows) * problem.n
        return held * max(1, min(options.threads, tasks))

    def run(
        self, problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
    ) -> None:
        """Compute bands of rows, each on one thread."""
        channels, rows = _cut(problem, options)
        bands = (
            _Band(n, slice(c, min(c + channels, problem.c)), slice(p, min(p + rows, problem.p)))
            for n in range(problem.n)
            for c in range(0, problem.c, channels)
            for p in range(0, problem.p, rows)
        )
        alone = replace(options, threads=1, precision="strict")
        for_each(
            lambda band: self._band(problem, alone, band, x, bias, out), bands, options.threads
        )

    def _band(
        self, problem: ConvProblem, options: Options, band: _Band, x: Array, bias: Any, out: Array
    ) -> None:
        from . import convolve

        image = slice(band.image, band.image + 1)
        channels = band.channels.stop - band.channels.start
        each = problem.k // problem.c
        kernels = slice(band.channels.start * each, band.channels.stop * each)
        outputs = band.rows.stop - band.rows.start
        height = _rows_under(problem, outputs)
        start = band.rows.start * problem.stride[0] - problem.pad[0][0]
        held = _empty(problem, channels * each, height)
        horizontal = replace(
            problem, n=1, c=channels, k=channels * each, groups=channels, r=1,
            stride=(1, problem.stride[1]), dilation=(1, problem.dilation[1]),
            pad=((0, 0), problem.pad[1]), bias=False, activation=None, rank=4,
        )  # fmt: skip
        row, column = self._row[kernels], self._column[kernels]
        for rows, taken in _parts(start, height, problem.h, problem.pad_mode):
            if taken is None:
                held[:, :, rows] = 0
                continue
            part = replace(horizontal, h=rows.stop - rows.start)
            convolve(part, options, x[image, band.channels, taken], row, None, held[:, :, rows])
        vertical = replace(
            problem, n=1, c=channels * each, k=channels * each, groups=channels * each, s=1,
            h=height, w=problem.q, stride=(problem.stride[0], 1), dilation=(problem.dilation[0], 1),
            pad=((0, 0), (0, 0)), pad_mode="constant", rank=4,
        )  # fmt: skip
        addend = None if bias is None else bias[kernels]
        convolve(vertical, options, held, column, addend, out[image, kernels, band.rows])


def _rows_under(problem: ConvProblem, outputs: int) -> int:
    return (outputs - 1) * problem.stride[0] + _extent(problem)


def _cut(problem: ConvProblem, options: Options) -> tuple[int, int]:
    """Channels of x and output rows of one band: no bits depend on them.

    Rows under two bands are convolved twice, so that a band has several times the kernel's where
    there is room, and never fewer than once more.
    """
    room = min(BAND_BYTES, options.workspace)
    extent, step = _extent(problem), problem.stride[0]
    tall = min(4 * extent, _rows_under(problem, problem.p))
    channels = max(1, min(problem.c, room // (tall * _row_bytes(problem, 1))))
    under = max(room // _row_bytes(problem, channels), 2 * extent)
    rows = max(1, min(problem.p, (under - extent) // step + 1))
    stacks = problem.n * -(-problem.c // channels)
    shared = -(-stacks * problem.p // (TASKS_PER_THREAD * options.threads))
    rows = max(1, min(rows, max(shared, -(-extent // step))))
    return channels, -(-problem.p // -(-problem.p // rows))  # bands of equal height


def _empty(problem: ConvProblem, channels: int, height: int) -> Array:
    """Memory for convolved rows, in the layout of the caller's arrays."""
    if problem.channels_last:
        return np.empty((1, height, problem.q, channels), problem.dtype).transpose(0, 3, 1, 2)
    return np.empty((1, channels, height, problem.q), problem.dtype)


def _parts(start: int, height: int, size: int, mode: str) -> list[tuple[slice, Any]]:
    """Cut rows [start, start + height) of the padded image into border, image and border.

    Each part is its place in the band and the rows of x it takes: a slice, indices, or None for
    zeros.
    """
    first = min(max(-start, 0), height)
    last = min(max(size - start, first), height)
    parts: list[tuple[slice, Any]] = []
    for begin, end in ((0, first), (first, last), (last, height)):
        if begin == end:
            continue
        if (begin, end) == (first, last):
            taken: Any = slice(start + begin, start + end)
        elif mode == "constant":
            taken = None
        else:
            taken = source_index(np.arange(start + begin, start + end), size, mode)
        parts.append((slice(begin, end), taken))
    return parts
