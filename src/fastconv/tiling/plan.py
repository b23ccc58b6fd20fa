"""Blocks of a convolution, and all of them: where they are, what they read and compute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from ..geometry import Pair, Shape
from ..problem import ConvProblem
from ..sizes import Whole
from .axes import has_batch, image_axes, placed
from .fitting import block_memory
from .span import Span


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
        return placed(self.problem, self.images, [span.out for span in self.spans])

    @property
    def reads(self) -> list[list[tuple[slice, ...]]]:
        """What to read of x, to be put beside one another: rows of parts of it.

        No rows, or rows of no parts, where the block lies in a border of zeros.
        """
        down, across = (span.reads for span in self.spans)
        return [[self.at((rows, columns)) for columns in across] for rows in down]

    def at(self, image: Sequence[slice]) -> tuple[slice, ...]:
        """Index x, as the caller holds it, at these stretches of the image."""
        return placed(self.problem, self.images, image)

    @property
    def read_shape(self) -> Shape:
        """Shape of all that is read; an axis without anything to read has one zero instead."""
        lengths = [sum(r.stop - r.start for r in span.reads) or 1 for span in self.spans]
        return self.problem.held(self.problem.c, tuple(lengths))

    @property
    def taken(self) -> list[tuple[int, np.ndarray[Any, Any]]]:
        """Axes along which pixels are taken of what was read, and which."""
        if self.spans[0].mode == "constant":
            return []
        axes = image_axes(self.problem)
        found = ((axis, s.taken) for axis, s in zip(axes, self.spans, strict=True))
        return [(axis, taken) for axis, taken in found if taken is not None]


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
        self._problems: dict[Any, ConvProblem] = {}

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
        first, n = sum(self.images[:images]), self.images[images]
        spans = tuple(along[i] for along, i in zip(self.spans, places, strict=True))
        problem = self._problem(
            n, *(along[i] for along, i in zip(self._sizes, places, strict=True))
        )
        return Block(problem, slice(first, first + n), spans)

    @cached_property
    def _sizes(self) -> tuple[tuple[tuple[int, Pair], ...], ...]:
        """Along each axis of the image, pixels and zeros around them of its blocks."""
        return tuple(tuple((span.length, span.pad) for span in along) for along in self.spans)

    def _problem(self, n: int, *sizes: tuple[int, Pair]) -> ConvProblem:
        """Describe blocks of a size: there are few, and each is described once."""
        known = self._problems.get((n, *sizes))
        if known is None:
            p = self.problem
            (h, down), (w, across) = sizes
            known = self._problems[(n, *sizes)] = replace(
                p, n=n, h=h, w=w, pad=(down, across), pad_mode="constant",
                whole=Whole(p.h, p.w, p.pad),
            )  # fmt: skip
        return known

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
        return block_memory(self.problem, max(self.images), [max(cut) for cut in self.cuts])

    def __repr__(self) -> str:
        """Print the problem and how it is cut."""
        grid = " x ".join(map(str, self.grid))
        return f"<BlockPlan: {self.problem}; {grid} blocks of {self.memory / 2**20:.1f} MiB>"


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
