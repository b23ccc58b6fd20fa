"""`conv2d` of dask arrays: images and batches larger than memory, or than one machine.

>>> import dask.array as da, numpy as np
>>> from fastconv.interop.dask import conv2d
>>> x = da.random.default_rng(0).random((4, 3, 1000, 1000), chunks=(1, 3, 250, 500))
>>> y = conv2d(x, np.ones((8, 3, 5, 5)), stride=2, pad="same", pad_mode="reflect")
>>> y.shape, y.chunks[2], y.dtype
((4, 8, 500, 500), (125, 125, 125, 125), dtype('float64'))
>>> bool(y[0, :, :10, :10].mean().compute() > 0)  # computes one chunk
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..dtypes import as_dtype
from ..errors import DTypeError, ShapeError
from ..geometry import Pad, Size
from ..options import resolve
from ..problem import ConvProblem
from ..tiling import BlockPlan, following, has_batch, image_axes, pieces
from .convolution import BlockConvolution, described_convolution

__all__ = ["conv2d"]

Graph = dict[Any, Any]


def conv2d(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str | None = None,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCHW",
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int = 1,
) -> Any:
    """Convolve a dask array: lazily, with the bits of `fastconv.conv2d` on all of it at once.

    Parameters
    ----------
    x : dask.array.Array
        As in `conv2d`, in any chunks; those along the channels are merged first, which moves all of
        x where there are several.
    w, bias : array
        In memory: they are one object of the graph, sent to a worker once.
    stride, pad, dilation, groups, activation, pad_mode, flip, layout, dtype, backend
        As in `conv2d`.
    precision
        As in `conv2d`; ``fast`` is within its bounds, but depends on the chunks.
    threads : int, default 1
        Threads of one task: dask runs as many tasks at once as a worker has threads.

    Returns
    -------
    dask.array.Array
        Its chunks follow those of x: an output belongs where the middle of its window is. A task
        makes one of them from the pixels it needs of its neighbours, and of no others.

    Raises
    ------
    ShapeError, DTypeError, BackendUnavailable, BackendUnsupported, SizeError
        As `conv2d`, at once; also where x has chunks of unknown size.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> image = da.ones((2000, 3000), chunks=1000)
    >>> conv2d(image, np.ones((3, 3)), pad="same").chunks
    ((1000, 1000), (1000, 1000, 1000))
    """
    _check_operands(x, w, bias)
    convolution = described_convolution(
        x.shape, as_dtype(x.dtype), w, stride, pad, dilation, groups, bias, activation, pad_mode,
        flip, layout, dtype, resolve(backend, precision, threads),
    )  # fmt: skip
    problem = convolution.problem
    x = x.rechunk(dict.fromkeys(_channel_axes(problem), -1))
    chunks = [x.chunks[axis] for axis in image_axes(problem)]
    images = x.chunks[0] if has_batch(problem) else (1,)
    plan = BlockPlan(problem, images, following(problem, chunks))
    token = tokenize(
        x.name, repr(convolution.described), convolution.options, convolution.w, convolution.bias,
        convolution.flip,
    )  # fmt: skip
    name = f"conv2d-{token}"
    graph = HighLevelGraph.from_collections(
        name, _tasks(x, convolution, plan, name), dependencies=[x]
    )
    meta = meta_from_array(x._meta, ndim=problem.rank, dtype=convolution.result_dtype)
    return da.Array(graph, name, chunks=plan.chunks, meta=meta)


def _check_operands(x: Any, w: Any, bias: Any) -> None:
    if not isinstance(x, da.Array):
        raise DTypeError(
            f"x must be a dask array, got {type(x).__name__}; fastconv.conv2d takes arrays in "
            "memory, dask.array.from_array(x, chunks=...) makes a dask array"
        )
    for name, value in (("w", w), ("bias", bias)):
        if isinstance(value, da.Array):
            raise DTypeError(
                f"{name} is a dask array; every task needs all of it: pass {name}.compute()"
            )
    if any(math.isnan(size) for size in x.shape):
        raise ShapeError(f"x has chunks of unknown size: {x.shape}; call x.compute_chunk_sizes()")


def _channel_axes(problem: ConvProblem) -> list[int]:
    """Where the channels are, if anywhere."""
    images = range(has_batch(problem))
    return [a for a in range(problem.rank) if a not in image_axes(problem) and a not in images]


class Work:
    """What all tasks of a graph share."""

    def __init__(self, convolution: BlockConvolution, plan: BlockPlan) -> None:
        self.convolution, self.plan = convolution, plan


def _compute(work: Work, places: Sequence[int], parts: Sequence[Sequence[Any]]) -> Any:
    """Compute a block of the result."""
    return work.convolution(work.plan.block(*places), parts)


def _cut(chunk: Any, stretches: Sequence[tuple[int, int]]) -> Any:
    """Copy the border of a chunk: a view would hold all of it in memory."""
    return chunk[tuple(slice(*both) for both in stretches)].copy()


def _tasks(x: Any, convolution: BlockConvolution, plan: BlockPlan, name: str) -> Graph:
    """Build the graph: borders cut from chunks of x, and what makes a block of them."""
    problem = plan.problem
    axes, batched = image_axes(problem), has_batch(problem)
    ends = [list(accumulate(x.chunks[axis], initial=0)) for axis in axes]
    along = [
        [pieces(span, end) for span in spans] for spans, end in zip(plan.spans, ends, strict=True)
    ]
    shared = f"{name}-weights"
    graph: Graph = {shared: Work(convolution, plan)}

    def part(images: int, *stretches: tuple[int, slice]) -> tuple[Any, ...]:
        """Key of what a block needs of one chunk; cut from it unless that is all."""
        chunk, index = [0] * problem.rank, [(0, size) for size in problem.x_shape]
        if batched:
            chunk[0], index[0] = images, (0, plan.images[images])
        whole = True
        for axis, (at, stretch) in zip(axes, stretches, strict=True):
            chunk[axis], index[axis] = at, (stretch.start, stretch.stop)
            whole = whole and index[axis] == (0, x.chunks[axis][at])
        source = (x.name, *chunk)
        if whole:
            return source
        key = (f"{name}-border", *chunk, *(end for axis in axes for end in index[axis]))
        graph[key] = (_cut, source, index)
        return key

    for images, row, column in np.ndindex(plan.grid):
        parts = [[part(images, a, b) for b in along[1][column]] for a in along[0][row]]
        place = [0] * problem.rank
        place[axes[0]], place[axes[1]] = row, column
        if batched:
            place[0] = images
        graph[(name, *place)] = (_compute, shared, [images, row, column], parts)
    return graph
