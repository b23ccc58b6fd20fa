"""`conv2d` of images larger than memory, block by block, from and to anything that is sliced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from .. import tiling
from ..dtypes import as_dtype
from ..errors import DTypeError, OutputError, ResumeError
from ..geometry import Pad, Size
from ..options import resolve
from ..tiling import Block, Cut
from .convolution import BlockConvolution, described_convolution
from .journal import Journal

#: Told how many blocks are done, of how many.
Progress = Callable[[int, int], None]


def conv2d_blocks(
    src: Any,
    dst: Any,
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
    threads: int | None = None,
    blocks: Sequence[Cut] | None = None,
    memory: int = tiling.MEMORY,
    progress: bool | Progress = False,
    resume: str | os.PathLike[str] | None = None,
) -> Any:
    """`conv2d` from and to arrays larger than memory, block by block: the bits of one call.

    Parameters
    ----------
    src, dst : array-like
        x and the result, in memory or not: whatever has ``shape`` and ``dtype``, and is read
        (written) by slices, such as `numpy.memmap`, zarr arrays and h5py datasets. `dst` has the
        result's shape and dtype, and is not where `src` is: blocks read beyond their edges.
    w, stride, pad, dilation, groups, bias, activation, pad_mode, flip, layout, dtype, precision, \
backend, threads
        As in `conv2d`; with ``precision="fast"`` the result is within its bounds, but depends on
        the blocks.
    blocks, memory
        As in `fastconv.tiling.plan_blocks`; without `blocks` they are multiples of the chunks that
        `dst` is stored in, where memory permits.
    progress : bool or callable, default False
        True shows a bar, which needs rich; a callable is told (blocks done, blocks).
    resume : path, optional
        A small file that says how far the run is. Where it exists, the run goes on after the last
        block that was written; delete it to begin anew. Before it is written, `dst` is flushed if
        it can be.

    Returns
    -------
    array-like
        `dst`.

    Raises
    ------
    ShapeError, DTypeError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d`; also for `blocks` that do not fit, and for less `memory` than a pixel takes.
    OutputError
        `dst` has the wrong shape or dtype, or is `src`.
    ResumeError
        `resume` is the file of another convolution, or `dst` does not hold what it says.
    ModuleNotFoundError
        ``progress=True`` without rich.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.arange(48.0).reshape(6, 8)
    >>> y = np.empty((6, 8))
    >>> w = np.ones((3, 3))
    >>> fastconv.conv2d_blocks(x, y, w, pad="same", pad_mode="edge", memory=500) is y
    True
    >>> bool((y == fastconv.conv2d(x, w, pad="same", pad_mode="edge")).all())
    True
    """
    x_dtype = _dtype_of("src", src)
    convolution = described_convolution(
        src.shape, x_dtype, w, stride, pad, dilation, groups, bias, activation, pad_mode, flip,
        layout, dtype, resolve(backend, precision, threads),
    )  # fmt: skip
    _check_destination(convolution, src, dst)
    plan = tiling.cut_problem(convolution.problem, blocks, memory, _stored(dst))
    with _bar() if progress is True else nullcontext(progress or _silent) as tell:
        journal = None if resume is None else Journal(Path(resume), convolution, plan)
        done = 0 if journal is None else journal.read()
        if done:
            _check_written(convolution, plan[done - 1], src, dst)
        tell(done, len(plan))
        for index in range(done, len(plan)):
            _run(convolution, plan[index], src, dst)
            if journal is not None:
                _flush(dst)
                journal.write(index + 1)
            tell(index + 1, len(plan))
    return dst


def _dtype_of(name: str, array: Any) -> np.dtype[Any]:
    if hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__"):
        return as_dtype(array.dtype)
    raise DTypeError(
        f"{name} must have a shape and a dtype and be sliced, as numpy.memmap, zarr arrays and "
        f"h5py datasets are; got {type(array).__name__}"
    )


def _check_destination(convolution: BlockConvolution, src: Any, dst: Any) -> None:
    """Raise unless the result can be written into `dst` while `src` is read."""
    shape, dtype = convolution.problem.out_shape, convolution.result_dtype
    found = _dtype_of("dst", dst)
    if not hasattr(dst, "__setitem__"):
        raise OutputError(f"dst cannot be written to by slices: it is a {type(dst).__name__}")
    if tuple(dst.shape) != shape or found.newbyteorder("=") != dtype:
        raise OutputError(
            f"dst must be {shape} {dtype}, got {tuple(dst.shape)} {found}; another result comes "
            "with dtype="
        )
    both = isinstance(src, np.ndarray) and isinstance(dst, np.ndarray)
    if src is dst or (both and (np.may_share_memory(src, dst) or _same_file(src, dst))):
        raise OutputError("dst is where src is: blocks read pixels that others would have written")


def _same_file(src: Any, dst: Any) -> bool:
    """Whether two arrays are the same file in memory."""
    names = [getattr(array, "filename", None) for array in (src, dst)]
    first, second = (None if name is None else os.path.realpath(name) for name in names)
    return first is not None and first == second


def _stored(dst: Any) -> tuple[int, ...] | None:
    """Sizes of the pieces that `dst` is stored in: each shall be written once."""
    for name in ("shards", "chunks"):
        sizes = getattr(dst, name, None)
        if isinstance(sizes, tuple) and all(isinstance(size, int) for size in sizes):
            return sizes
    return None


def _run(convolution: BlockConvolution, block: Block, src: Any, dst: Any) -> None:
    """Compute a block, in place where `dst` is memory."""
    if isinstance(dst, np.ndarray):
        convolution(block, _read(block, src), np.asarray(dst)[block.out])
    else:
        dst[block.out] = convolution(block, _read(block, src))


def _read(block: Block, src: Any) -> list[list[Any]]:
    """Read what a block is made of."""
    return [[np.asarray(src[index]) for index in row] for row in block.reads]


def _check_written(convolution: BlockConvolution, block: Block, src: Any, dst: Any) -> None:
    """Compute a block again, and raise unless `dst` holds it."""
    there = np.asarray(dst[block.out])
    if (
        convolution(block, _read(block, src)).tobytes()
        != there.astype(convolution.result_dtype).tobytes()
    ):
        raise ResumeError(
            f"dst does not hold what its block {block.out} is made of: it was made anew, or src or "
            "the machine is another; delete the file of resume= to begin anew"
        )


def _flush(dst: Any) -> None:
    """Have what was written so far on its way to the disk, where `dst` knows how."""
    for held in (dst, getattr(dst, "file", None)):
        flush = getattr(held, "flush", None)
        if callable(flush):
            flush()
            return


def _silent(done: int, count: int) -> None:
    """Tell nobody."""


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show a bar as long as the context lasts."""
    try:
        from rich import progress
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "progress=True shows its bar with rich: pip install rich, or pass a function of "
            "(blocks done, blocks)"
        ) from None
    columns = (*progress.Progress.get_default_columns(), progress.MofNCompleteColumn())
    with progress.Progress(*columns) as bar:
        task = bar.add_task("blocks")
        yield lambda done, count: bar.update(task, completed=done, total=count)
