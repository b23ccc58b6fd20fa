"""Sizes of blocks whose arrays fit into memory, and which read little twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..dtypes import itemsize
from ..errors import SizeError
from ..geometry import Shape
from ..problem import ConvProblem
from .axes import has_batch, image_axes

#: Sizes of the blocks along one axis of the result: one for all, each one's, or None for the axis.
Cut = int | Sequence[int] | None

#: Blocks of whole rows are read in one go where rows follow one another in memory: others must
#: read less by this factor.
_ROWS = 1.25


def block_memory(problem: ConvProblem, images: int, outputs: Sequence[int]) -> int:
    """Bytes of a block's arrays: x twice, as read and as convolved, and the result."""
    read = math.prod(_inputs(problem, outputs))
    y = images * problem.k * math.prod(outputs) * itemsize(problem.out_dtype)
    return 2 * images * problem.c * read * itemsize(problem.dtype) + y


def _inputs(problem: ConvProblem, outputs: Sequence[int]) -> list[int]:
    """Pixels that so many outputs along each axis are made of."""
    along = zip(outputs, problem.kernel, problem.strides, problem.dilations, strict=True)
    return [(out - 1) * step + (taps - 1) * spread + 1 for out, taps, step, spread in along]


def fitting(problem: ConvProblem, memory: int, multiples: Sequence[int] | None) -> list[Cut]:
    """Choose blocks that fit: whole images while they do, then what reads least twice."""
    image = problem.y_image
    least = [1] * problem.rank if multiples is None else [max(m, 1) for m in multiples]
    steps = [least[axis] for axis in image_axes(problem)]
    batch = least[0] if has_batch(problem) else 1
    one = block_memory(problem, 1, image)
    if one <= memory or not one:
        images = min(memory // max(one, 1), problem.n)
        images = images // batch * batch or max(images, 1)
        return _cut_all(problem, images, image)
    best: tuple[float, Shape] | None = None
    for step in (steps, [1, 1]):
        for rows in _parts(image[0], step[0]):
            columns = _most_columns(problem, rows, step[1], memory)
            if not columns:
                continue
            cost = _read_again(problem, (rows, columns), step)
            cost *= 1 if columns == image[1] else _ROWS
            if best is None or cost < best[0]:
                best = cost, (rows, columns)
        if best is not None:
            return _cut_all(problem, 1, best[1])
    raise SizeError(
        f"memory={memory} bytes do not hold a block of one pixel, which needs "
        f"{block_memory(problem, 1, (1, 1))}: {problem}"
    )


def _cut_all(problem: ConvProblem, images: int, outputs: Sequence[int]) -> list[Cut]:
    """Sizes of blocks along each axis of the result."""
    cuts: list[Cut] = [None] * problem.rank
    for axis, size in zip(image_axes(problem), outputs, strict=True):
        cuts[axis] = size
    if has_batch(problem):
        cuts[0] = images or None
    return cuts


def _parts(size: int, step: int) -> Iterator[int]:
    """All of an axis, half of it and so on, in multiples of `step`."""
    yield size
    units, parts = -(-size // step), 1
    while parts < units:
        parts = min(max(parts + 1, parts * 5 // 4), units)
        yield -(-units // parts) * step


def _most_columns(problem: ConvProblem, rows: int, step: int, memory: int) -> int:
    """Return the most columns of so many rows that fit, in even parts and multiples of `step`."""
    columns = problem.q
    if block_memory(problem, 1, (rows, columns)) <= memory:
        return columns
    low, high = 0, -(-columns // step)
    while high - low > 1:
        middle = (low + high) // 2
        fits = block_memory(problem, 1, (rows, middle * step)) <= memory
        low, high = (middle, high) if fits else (low, middle)
    if not low:
        return 0
    parts = -(-columns // (low * step))
    return -(-columns // (parts * step)) * step


def _read_again(problem: ConvProblem, outputs: Shape, steps: Sequence[int]) -> float:
    """How much more is read than x has, where storage gives out whole chunks of `steps` alone."""
    cost = 1.0
    along = zip(
        outputs, problem.y_image, _inputs(problem, outputs), problem.strides, steps, strict=True
    )
    for out, whole, read, stride, step in along:
        if out < whole:
            more = max(read - out * stride, 0)
            cost *= 1 + -(-more // (step * stride)) * step * stride / (out * stride)
    return cost
