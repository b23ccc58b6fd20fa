"""Gradients through the borders of `numpy.pad`: those of the padded image, folded back.

A border pixel is a copy of a pixel of the image, so that its gradient belongs to that pixel, and
the image whose gradient w's is has the border's pixels in it. Both are what the constant border
does to a padded image of which the border is a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..arguments import module_of, readable
from ..borders import source_index
from ..dtypes import as_dtype, is_float, itemsize
from ..geometry import Pair
from ..problem import ConvProblem
from .way import Key, Run


@lru_cache(maxsize=1024)
def _padded(problem: ConvProblem) -> ConvProblem:
    """Return the problem on the padded image, which needs no border."""
    (top, bottom), (left, right) = problem.pad
    return replace(
        problem, h=problem.h + top + bottom, w=problem.w + left + right, pad=((0, 0), (0, 0)),
        pad_mode="constant",
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _wide(problem: ConvProblem) -> ConvProblem:
    """Return the problem with sums as its result, which the border is still to be added to."""
    dtype = problem.accumulator if is_float(problem.dtype) else problem.dtype
    return replace(problem, dtype=dtype, out_dtype=problem.accumulator)


def parts(problem: ConvProblem) -> Iterator[ConvProblem]:
    """Return the problem on the padded image."""
    padded = _padded(problem)
    yield padded if problem.result == "w" else _wide(padded)


def scratch_bytes(problem: ConvProblem) -> int:
    """Bytes of the padded image, or of its gradient, which are made where there is a border."""
    if problem.pad_mode == "constant" or problem.result == "y":
        return 0
    padded = _padded(problem)
    return padded.n * padded.c * padded.h * padded.w * itemsize(problem.accumulator)


def _sources(size: int, pad: Pair, mode: str) -> Any:
    return source_index(np.arange(-pad[0], size + pad[1]), size, mode)


def run(inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute a gradient of a problem whose border repeats pixels of the image."""
    padded = _padded(problem)
    xp = module_of(out)
    rows, columns = (
        _sources(size, pad, problem.pad_mode)
        for size, pad in zip((problem.h, problem.w), problem.pad, strict=True)
    )
    if problem.result == "w":
        image = a[:, :, xp.asarray(rows)][:, :, :, xp.asarray(columns)]
        inner(padded, image, b, bias, out, key)
        return
    wide = _wide(padded)
    dtype = as_dtype(wide.out_dtype)
    a, b = (readable(xp, array, wide.dtype) for array in (a, b))
    gx = xp.empty((wide.n, wide.c, wide.h, wide.w), dtype=dtype)
    inner(wide, a, b, None, gx, key)
    gx = _fold(gx, 3, problem.w, problem.pad[1], columns)
    out[...] = _fold(gx, 2, problem.h, problem.pad[0], rows)


def _fold(padded: Any, axis: int, size: int, pad: Pair, sources: Any) -> Any:
    """Add the lines of the border to those they were copied from, one after the other."""
    lines = padded.swapaxes(0, axis)
    inside = lines[pad[0] : pad[0] + size]
    for line in (*range(pad[0]), *range(pad[0] + size, len(sources))):
        inside[int(sources[line])] += lines[line]
    return inside.swapaxes(0, axis)
