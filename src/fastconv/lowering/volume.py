"""Volumes: sums over the kernel's depth of convolutions of planes, a few planes at a time.

The pairs of planes of x and y that tap t of the kernel's depth joins are the same for y and both
gradients. They come in runs of evenly spaced planes, which are the images of one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..activations import ACTIVATIONS
from ..arguments import module_of
from ..borders import source_index
from ..dtypes import as_dtype, is_float, itemsize
from ..problem import ConvProblem
from ..sizes import FLAT
from .way import Key, Run

#: Bytes of sums that wait for their last tap.
BLOCK_BYTES = 1 << 20


class Planes(NamedTuple):
    """Evenly spaced planes of x and consecutive planes of y that one tap joins."""

    tap: int
    x: slice
    y: slice
    length: int


def _runs(problem: ConvProblem) -> list[Planes]:
    """Return the runs of every tap, in the order of taps."""
    depth = problem.depth
    found = []
    for tap in range(depth.taps):
        start = tap * depth.dilation - depth.pad[0]
        places = start + np.arange(depth.outputs, dtype=np.int64) * depth.stride
        sources = source_index(places, depth.size, problem.pad_mode).tolist()
        first = 0
        while first < len(sources):
            last = first + 1
            if sources[first] < 0:
                first = last
                continue
            while (
                last < len(sources)
                and sources[last] >= 0
                and sources[last] - sources[last - 1] == depth.stride
            ):
                last += 1
            begin, end = sources[first], sources[last - 1] + 1
            found.append(
                Planes(tap, slice(begin, end, depth.stride), slice(first, last), last - first)
            )
            first = last
    return found


def _plane(problem: ConvProblem, count: int) -> ConvProblem:
    """Return the problem of one run of planes, sums alone."""
    floats = is_float(problem.dtype)
    return replace(
        problem, n=count, depth=FLAT, rank=4, layout=problem.layout.replace("D", ""), bias=False,
        activation=None, dtype=problem.accumulator if floats else problem.dtype,
        out_dtype=problem.accumulator,
    )  # fmt: skip


def _finish(problem: ConvProblem) -> ConvProblem:
    """Return the problem that adds the bias to finished sums of one plane: 1x1, weights of one."""
    channels = problem.c if problem.result == "x" else problem.k
    height, width = (problem.h, problem.w) if problem.result == "x" else (problem.p, problem.q)
    return replace(
        problem, n=1, c=channels, h=height, w=width, k=channels, r=1, s=1, stride=(1, 1),
        pad=((0, 0), (0, 0)), dilation=(1, 1), groups=channels, depth=FLAT, rank=4,
        layout=problem.layout.replace("D", ""), dtype=problem.accumulator,
        out_dtype=problem.accumulator, result="y",
    )  # fmt: skip


def _finished(problem: ConvProblem) -> bool:
    """Whether sums need a step of their own to become the result."""
    return problem.bias or problem.activation is not None


def parts(problem: ConvProblem) -> Iterator[ConvProblem]:
    """Return the convolutions of planes, for every number of planes."""
    for count in dict.fromkeys(run.length for run in _blocks(problem)):
        yield _plane(problem, count)
    if _finished(problem) and is_float(problem.dtype):
        yield _finish(problem)


def _sums_in_result(problem: ConvProblem) -> bool:
    return problem.out_dtype == problem.accumulator and not _finished(problem)


def _plane_bytes(problem: ConvProblem) -> int:
    """Bytes of the sums that one plane of a run adds to."""
    plane = _plane(problem, 1)
    return plane.out_elements * itemsize(plane.out_dtype)


def _blocks(problem: ConvProblem) -> list[Planes]:
    """Cut the runs into blocks of planes: all taps of one block before the next."""
    most = max(1, BLOCK_BYTES // max(1, _plane_bytes(problem)))
    if problem.result == "w":
        most = max(run.length for run in _runs(problem)) if _runs(problem) else 1
    blocks = []
    for run in _runs(problem):
        first, last = run.y.start, run.y.stop
        for start in range(first - first % most, last, most):
            begin, end = max(start, first), min(start + most, last)
            x0 = run.x.start + (begin - first) * problem.depth.stride
            x1 = run.x.start + (end - 1 - first) * problem.depth.stride + 1
            x = slice(x0, x1, problem.depth.stride)
            blocks.append((start, Planes(run.tap, x, slice(begin, end), end - begin)))
    return [block for _, block in sorted(blocks, key=lambda item: (item[0], item[1].tap))]


def scratch_bytes(problem: ConvProblem) -> int:
    """Bytes of sums: of a block of planes, and of the whole result where it cannot hold them."""
    counts = [block.length for block in _blocks(problem)]
    planes = 1 if problem.result == "w" else max(counts, default=0)
    whole = 0 if _sums_in_result(problem) else problem.out_elements * itemsize(problem.accumulator)
    return planes * _plane_bytes(problem) + whole


def run(inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute a volume, or a gradient of it, plane by plane."""
    xp = module_of(out)
    dtype = as_dtype(problem.accumulator)
    if is_float(problem.dtype) and a.dtype != dtype:
        a, b = a.astype(dtype), b.astype(dtype)
    sums = out if _sums_in_result(problem) else xp.empty(out.shape, dtype=dtype)
    sums[...] = 0
    for block in _blocks(problem):
        part = _plane(problem, block.length)
        for image in range(problem.n):
            first, second, target = _views(problem, block, image, a, b, sums)
            temporary = xp.empty(target.shape, dtype=dtype)
            inner(part, first, second, None, temporary, (*key, block.tap))
            target += temporary
    if sums is out:
        return
    if not _finished(problem):
        out[...] = sums
        return
    if not is_float(problem.dtype):  # no backend convolves sums of 32 bits for the sake of a bias
        if bias is not None:
            sums += bias.reshape(-1, 1, 1, 1)
        if problem.activation is not None:
            sums[...] = ACTIVATIONS[problem.activation].function(sums)
        out[...] = sums
        return
    part = _finish(problem)
    if bias is not None:  # of the result's dtype, added to sums of the accumulator's
        bias = bias.astype(dtype, copy=False)
    one = xp.ones(part.w_shape, dtype=dtype)
    plane = xp.empty((1, part.k, part.p, part.q), dtype=dtype)
    for image in range(problem.n):
        for depth in range(sums.shape[2]):
            inner(part, sums[image : image + 1, :, depth], one, bias, plane, (*key, "finish"))
            out[image, :, depth] = plane[0]


def _views(
    problem: ConvProblem, block: Planes, image: int, a: Any, b: Any, sums: Any
) -> tuple[Any, Any, Any]:
    """Planes of both operands and of the sums, as batches of images."""

    def planes(volume: Any, which: slice) -> Any:
        return volume[image].swapaxes(0, 1)[which]

    if problem.result == "y":
        return planes(a, block.x), b[:, :, block.tap], planes(sums, block.y)
    if problem.result == "x":
        return planes(a, block.y), b[:, :, block.tap], planes(sums, block.x)
    return planes(a, block.x), planes(b, block.y), sums[:, :, block.tap]
