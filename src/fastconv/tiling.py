"""Large convolutions in blocks: which outputs, what of x each needs, and how much memory that is.

The geometry alone, for any stride, dilation, pad and pad mode; no arrays. `plan_blocks` cuts the
result; a `Block` says what to read and is a `ConvProblem` of its own, which computes the bits of
the whole. `fastconv.conv2d_blocks` and ``fastconv.interop.dask`` run them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from .borders import source_index
from .checks import format_shape
from .dtypes import as_dtype, itemsize, promote
from .errors import ShapeError, SizeError
from .geometry import Pad, Pair, Shape, Size, integer
from .problem import ConvProblem
from .sizes import Whole

#: Sizes of the blocks along one axis of the result: one for all, each one's, or None for the axis.
Cut = int | Sequence[int] | None

#: Bytes that the arrays of one block take where nobody says how many.
MEMORY = 256 << 20

#: Blocks of whole rows are read in one go where rows follow one another in memory: others must
#: read less by this factor.
_ROWS = 1.25


@dataclass(frozen=True)
class Span:
    """Along one axis: outputs, and the stretch of x with its border that they are made of.

    Attributes
    ----------
    start, stop : int
        Outputs.
    low, high : int
        Positions on the axis of x, outside of it in the border.
    size : int
        Of the axis of x.
    mode : str
        What the border holds: a `pad_mode`.
    """

    start: int
    stop: int
    low: int
    high: int
    size: int
    mode: str

    @property
    def out(self) -> slice:
        """The outputs."""
        return slice(self.start, self.stop)

    @property
    def is_inside(self) -> bool:
        """Whether no border is needed."""
        return self.low >= 0 and self.high <= self.size

    @property
    def reads(self) -> tuple[slice, ...]:
        """What to read of the axis: stretches in ascending order, each pixel once.

        More than one where the border comes from elsewhere; none where all of it is zeros.
        """
        if self.mode == "constant" or self.is_inside:
            low, high = max(self.low, 0), min(self.high, self.size)
            return (slice(low, high),) if low < high else ()
        needed = np.unique(self._sources())
        breaks = np.flatnonzero(np.diff(needed) > 1) + 1
        parts = np.split(needed, breaks)
        return tuple(slice(int(part[0]), int(part[-1]) + 1) for part in parts)

    @property
    def taken(self) -> np.ndarray[Any, Any] | None:
        """Which of the pixels read, one stretch after another, make the block; None: all of them.

        A pixel of the border may stand at several places.
        """
        if self.mode == "constant" or self.is_inside:
            return None
        sources = self._sources()
        return np.searchsorted(np.unique(sources), sources)

    @property
    def pad(self) -> Pair:
        """Zeros before and after what was read, or taken of it."""
        if self.mode != "constant":
            return 0, 0
        if not self.reads:  # one pixel of zeros stands for what is read
            return self.high - self.low - 1, 0
        return max(-self.low, 0), max(self.high - self.size, 0)

    @property
    def length(self) -> int:
        """Pixels of the block without zeros around it."""
        return self.high - self.low - sum(self.pad)

    def _sources(self) -> np.ndarray[Any, Any]:
        return source_index(np.arange(self.low, self.high), self.size, self.mode)


class Block(NamedTuple):
    """One block of a convolution: a convolution of what `reads` say, into `out`.

    Attributes
    ----------
    problem : ConvProblem
        Of the block alone, zeros around it as its `pad`; its sums have the order of the whole's.
    images : slice
        Of the batch; all of it where there is no batch.
    spans : tuple of Span
        Along each axis of the image.
    """

    problem: ConvProblem
    images: slice
    spans: tuple[Span, ...]

    @property
    def out(self) -> tuple[slice, ...]:
        """Where the block lies in the result, for each of its axes."""
        return _placed(self.problem, self.images, [span.out for span in self.spans])

    @property
    def reads(self) -> list[list[tuple[slice, ...]]]:
        """What to read of x, to be put beside one another: rows of parts of it.

        No rows, or rows of no parts, where the block lies in a border of zeros.
        """
        down, across = (span.reads for span in self.spans)
        return [[self.at((rows, columns)) for columns in across] for rows in down]

    def at(self, image: Sequence[slice]) -> tuple[slice, ...]:
        """Index x, as the caller holds it, at these stretches of the image."""
        return _placed(self.problem, self.images, image)

    @property
    def read_shape(self) -> Shape:
        """Shape of all that is read; an axis without anything to read has one zero instead."""
        lengths = [sum(r.stop - r.start for r in span.reads) or 1 for span in self.spans]
        return self.problem.held(self.problem.c, tuple(lengths))

    @property
    def taken(self) -> list[tuple[int, np.ndarray[Any, Any]]]:
        """Axes along which pixels are taken of what was read, and which."""
        axes = image_axes(self.problem)
        found = ((axis, s.taken) for axis, s in zip(axes, self.spans, strict=True))
        return [(axis, taken) for axis, taken in found if taken is not None]


def image_axes(problem: ConvProblem) -> tuple[int, ...]:
    """Axes of the caller's arrays along which images extend."""
    first = problem.rank - problem.spatial - problem.channels_last
    return tuple(range(first, first + problem.spatial))


def has_batch(problem: ConvProblem) -> bool:
    """Whether the caller's arrays have an axis of images."""
    return problem.rank == problem.spatial + 2


def _placed(problem: ConvProblem, images: slice, image: Sequence[slice]) -> tuple[slice, ...]:
    """Index of an array as the caller holds it, all channels."""
    index = [slice(None)] * problem.rank
    for axis, part in zip(image_axes(problem), image, strict=True):
        index[axis] = part
    if has_batch(problem):
        index[0] = images
    return tuple(index)


class BlockPlan(Sequence[Block]):
    """A convolution cut into blocks: a sequence of `Block`; made by `plan_blocks`.

    Attributes
    ----------
    problem : ConvProblem
        The whole convolution.
    images : tuple of int
        Images in each block, one after another.
    cuts : tuple of tuple of int
        Outputs in each block, along each axis of the image.
    """

    def __init__(self, problem: ConvProblem, images: Shape, cuts: tuple[Shape, ...]) -> None:
        self.problem, self.images, self.cuts = problem, images, cuts

    @cached_property
    def spans(self) -> tuple[tuple[Span, ...], ...]:
        """Along each axis of the image, those of its blocks."""
        p = self.problem
        return tuple(
            tuple(
                Span(
                    start, stop, start * stride - pad[0],
                    (stop - 1) * stride + (taps - 1) * dilation + 1 - pad[0], size, p.pad_mode,
                )
                for start, stop in pairwise(accumulate(cut, initial=0))
            )
            for cut, size, taps, stride, pad, dilation in zip(
                self.cuts, p.x_image, p.kernel, p.strides, p.pads, p.dilations, strict=True
            )
        )  # fmt: skip

    @property
    def chunks(self) -> tuple[Shape, ...]:
        """Sizes of the blocks along each axis of the result, as dask writes them."""
        p = self.problem
        chunks: list[Shape] = [(size,) for size in p.y_shape]
        for axis, cut in zip(image_axes(p), self.cuts, strict=True):
            chunks[axis] = cut
        if has_batch(p):
            chunks[0] = self.images
        return tuple(chunks)

    def block(self, images: int, *places: int) -> Block:
        """Return the block at these places along the batch and each axis of the image."""
        p = self.problem
        first = sum(self.images[:images])
        spans = tuple(along[i] for along, i in zip(self.spans, places, strict=True))
        (h, w), pad = ([span.length for span in spans], tuple(span.pad for span in spans))
        alone = replace(
            p, n=self.images[images], h=h, w=w, pad=cast(tuple[Pair, Pair], pad),
            pad_mode="constant", whole=Whole(p.h, p.w, p.pad),
        )  # fmt: skip
        return Block(alone, slice(first, first + self.images[images]), spans)

    @property
    def grid(self) -> Shape:
        """Number of blocks along the batch and each axis of the image."""
        return len(self.images), *(len(cut) for cut in self.cuts)

    def __len__(self) -> int:
        """Count the blocks."""
        return math.prod(self.grid)

    def __getitem__(self, index: Any) -> Any:
        """Return the block of this index, in C order, or those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} blocks, asked for {index}")
        return self.block(*(int(i) for i in np.unravel_index(index % len(self), self.grid)))

    def __iter__(self) -> Iterator[Block]:
        """Go through the blocks in C order."""
        return (self.block(*places) for places in np.ndindex(self.grid))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how it is cut alone."""
        return BlockPlan, (self.problem, self.images, self.cuts)

    @property
    def memory(self) -> int:
        """Bytes that the arrays of the largest block take; see `plan_blocks`."""
        return _memory(self.problem, max(self.images), [max(cut) for cut in self.cuts])

    def __repr__(self) -> str:
        """Print the problem and how it is cut."""
        grid = " x ".join(map(str, self.grid))
        return f"<BlockPlan: {self.problem}; {grid} blocks of {self.memory / 2**20:.1f} MiB>"


def plan_blocks(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
    pad_mode: str = "constant",
    layout: str = "NCHW",
    dtype: Any = "float32",
    blocks: Sequence[Cut] | None = None,
    memory: int = MEMORY,
    multiples: Sequence[int] | None = None,
) -> BlockPlan:
    """Cut a `conv2d` into blocks that have the bits of the whole; computes nothing.

    Parameters
    ----------
    x_shape, w_shape : tuple of int
    stride, pad, dilation, groups, pad_mode, layout
        As in `conv2d`.
    dtype : dtype, default float32
        Of x and w.
    blocks : sequence, optional
        For each axis of the result: a size, the sizes of all blocks one after another (as dask's
        chunks), or None for the whole axis, as it must be for channels.
    memory : int, default 256 MiB
        Without `blocks`: bytes that one block's arrays may take. Counted are x, what is read of it
        and copied where its dtype or border needs that, and the result.
    multiples : sequence of int, optional
        Without `blocks`: sizes that those of blocks shall be multiples of, where memory permits,
        for each axis of the result: the chunks that it is stored in.

    Returns
    -------
    BlockPlan
        A sequence of blocks, each of which says what it reads, and computes.

    Raises
    ------
    ShapeError, DTypeError, TypeError
        As `conv2d`, and for `blocks` that do not fit the result.
    SizeError
        Not even a block of one pixel fits into `memory`.

    Examples
    --------
    >>> from fastconv.tiling import plan_blocks
    >>> plan = plan_blocks((40_000, 40_000), (5, 5), pad="same", pad_mode="reflect")
    >>> plan.grid, plan.memory <= 256 << 20
    ((1, 78, 1), True)
    >>> plan[0].out, plan[0].reads[0][0]
    ((slice(0, 513, None), slice(0, 40000, None)), (slice(0, 515, None), slice(0, 40000, None)))
    """
    kind = as_dtype(dtype)
    problem = ConvProblem.describe(
        x_shape, w_shape, stride=stride, pad=pad, dilation=dilation, groups=groups,
        pad_mode=pad_mode, layout=layout, promotion=promote(kind, kind, None),
    )  # fmt: skip
    return cut_problem(problem, blocks, memory, multiples)


def cut_problem(
    problem: ConvProblem,
    blocks: Sequence[Cut] | None = None,
    memory: int = MEMORY,
    multiples: Sequence[int] | None = None,
) -> BlockPlan:
    """Cut a convolution of images; arguments as in `plan_blocks`."""
    if blocks is None:
        if multiples is not None:
            _check_length("multiples", multiples, problem)
        return _fitting(problem, integer("memory", memory, minimum=1), multiples)
    _check_length("blocks", blocks, problem)
    shape, axes = problem.y_shape, image_axes(problem)
    sizes = [
        _sizes(cut, size, name)
        for cut, size, name in zip(blocks, shape, problem.out_axes, strict=True)
    ]
    for axis, (size, name) in enumerate(zip(sizes, problem.out_axes, strict=True)):
        if name == "K" and len(size) > 1:
            raise ShapeError(f"blocks={blocks!r} cut the channels (axis {axis}): None leaves them")
    images = sizes[0] if has_batch(problem) else (1,)
    return BlockPlan(problem, images, tuple(sizes[axis] for axis in axes))


def _check_length(name: str, values: Sequence[Any], problem: ConvProblem) -> None:
    if len(values) != problem.rank:
        shape = format_shape(problem.y_shape, problem.out_axes)
        raise ShapeError(f"{name} needs a value for each axis of the result {shape}: {values!r}")


def _sizes(cut: Cut, size: int, name: str) -> Shape:
    """Sizes of blocks along an axis of the result."""
    if cut is None:
        return (size,)
    if not isinstance(cut, Sequence):
        each = integer(f"blocks along {name}", cut, minimum=1)
        return tuple(min(each, size - start) for start in range(0, size, each)) or (0,)
    sizes = tuple(integer(f"blocks along {name}", part, minimum=min(size, 1)) for part in cut)
    if sum(sizes) != size:
        raise ShapeError(f"blocks along {name} add up to {sum(sizes)}, the result has {size}")
    return sizes


def following(problem: ConvProblem, chunks: Sequence[Shape]) -> tuple[Shape, ...]:
    """Cut each axis of the image where its chunks of x are: outputs go with their window's middle.

    Chunks of x without an output have no block.
    """
    found = []
    along = zip(
        chunks, problem.y_image, problem.kernel, problem.strides, problem.pads, problem.dilations,
        strict=True,
    )  # fmt: skip
    for sizes, outputs, taps, stride, pad, dilation in along:
        middle = (taps - 1) * dilation // 2 - pad[0]
        ends = [-((middle - end) // stride) for end in accumulate(sizes)]
        bounds = [0, *(min(max(end, 0), outputs) for end in ends[:-1]), outputs]
        found.append(tuple(b - a for a, b in pairwise(bounds) if b > a))
    return tuple(found)


def pieces(span: Span, ends: Sequence[int]) -> list[tuple[int, slice]]:
    """Split what a span reads at chunks of x: (chunk, what of it). `ends` are theirs, after a 0."""
    found = []
    for read in span.reads:
        first, last = bisect_right(ends, read.start) - 1, bisect_left(ends, read.stop)
        for chunk in range(first, last):
            low, high = max(read.start, ends[chunk]), min(read.stop, ends[chunk + 1])
            if low < high:
                found.append((chunk, slice(low - ends[chunk], high - ends[chunk])))
    return found


def _memory(problem: ConvProblem, images: int, outputs: Sequence[int]) -> int:
    """Bytes of a block's arrays: x twice, as read and as convolved, and the result."""
    read = math.prod(_inputs(problem, outputs))
    y = images * problem.k * math.prod(outputs) * itemsize(problem.out_dtype)
    return 2 * images * problem.c * read * itemsize(problem.dtype) + y


def _inputs(problem: ConvProblem, outputs: Sequence[int]) -> list[int]:
    """Pixels that so many outputs along each axis are made of."""
    along = zip(outputs, problem.kernel, problem.strides, problem.dilations, strict=True)
    return [(out - 1) * step + (taps - 1) * spread + 1 for out, taps, step, spread in along]


def _fitting(problem: ConvProblem, memory: int, multiples: Sequence[int] | None) -> BlockPlan:
    """Choose blocks that fit: whole images while they do, then what reads least twice."""
    image = problem.y_image
    least = [1] * problem.rank if multiples is None else [max(m, 1) for m in multiples]
    steps = [least[axis] for axis in image_axes(problem)]
    batch = least[0] if has_batch(problem) else 1
    one = _memory(problem, 1, image)
    if one <= memory or not one:
        images = min(memory // max(one, 1), problem.n)
        images = images // batch * batch or max(images, 1)
        return cut_problem(problem, _cut_all(problem, images, image))
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
            return cut_problem(problem, _cut_all(problem, 1, best[1]))
    raise SizeError(
        f"memory={memory} bytes do not hold a block of one pixel, which needs "
        f"{_memory(problem, 1, (1, 1))}: {problem}"
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
    if _memory(problem, 1, (rows, columns)) <= memory:
        return columns
    low, high = 0, -(-columns // step)
    while high - low > 1:
        middle = (low + high) // 2
        fits = _memory(problem, 1, (rows, middle * step)) <= memory
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
