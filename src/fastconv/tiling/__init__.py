"""Large convolutions in blocks: which outputs, what of x each needs, and how much memory that is.

The geometry alone, for any stride, dilation, pad and pad mode; no arrays. `plan_blocks` cuts the
result; a `Block` says what to read and is a `ConvProblem` of its own. `fastconv.conv2d_blocks` and
``fastconv.interop.dask`` compute them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks import format_shape
from ..dtypes import as_dtype, promote
from ..errors import ShapeError
from ..geometry import Pad, Shape, Size, integer
from ..problem import ConvProblem
from .axes import has_batch, image_axes
from .fitting import Cut, fitting
from .plan import Block, BlockPlan, following
from .span import Span, pieces

__all__ = [
    "MEMORY", "Block", "BlockPlan", "Cut", "Span", "cut_problem", "following", "has_batch",
    "image_axes", "pieces", "plan_blocks",
]  # fmt: skip

#: Bytes that the arrays of one block take where nobody says how many.
MEMORY = 256 << 20


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
    """Cut a `conv2d` into blocks; computes nothing.

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

    Notes
    -----
    `fastconv.conv2d` of what a block reads, with the block's ``problem.pad``, is right within its
    bounds. The bits are those of the whole in `fastconv.conv2d_blocks` and the adapter for dask,
    which choose an algorithm as for the whole: sums of a single pixel alone have an order of their
    own.

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
        blocks = fitting(problem, integer("memory", memory, minimum=1), multiples)
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
