"""The gradient of w as a convolution of x with gy, batch and channels having changed places.

``gw[k,c,r,s] = sum over n, p, q of gy[n,k,p,q] * x[n,c, p*stride + r*dilation - pad, ...]``: the
channels of x are images, the images of the batch channels, the pixels of gy taps; stride and
dilation have changed places too. Groups are computed one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from ..geometry import Pair
from ..problem import ConvProblem
from .input_grad import zeros_like
from .way import Key, Run


class Reach(NamedTuple):
    """Rows (or columns) of x that the gradient reads, and the border around them."""

    pixels: slice
    size: int
    pad: Pair


def _reach(size: int, outputs: int, taps: int, stride: int, pad: Pair, dilation: int) -> Reach:
    """Cut what the taps do not meet: the last rows of x, or of the border after it."""
    needed = (taps - 1) * dilation + (outputs - 1) * stride + 1 - pad[0]
    if needed <= 0:  # only the border is met
        return Reach(slice(0, 0), 0, (0, 0))
    end = min(size, needed)
    return Reach(slice(0, end), end, (pad[0], needed - end))


class Step(NamedTuple):
    """The convolution that each group is, and what it reads of x."""

    part: ConvProblem
    rows: slice
    columns: slice
    met: bool  # whether any tap meets x; zeros are convolved otherwise


@lru_cache(maxsize=1024)
def _step(problem: ConvProblem) -> Step:
    sizes = ((problem.h, problem.p, problem.r), (problem.w, problem.q, problem.s))
    rows, columns = (
        _reach(*size, problem.stride[i], problem.pad[i], problem.dilation[i])
        for i, size in enumerate(sizes)
    )
    part = _part(problem, rows, columns)
    met = part.c == problem.n and bool(rows.size and columns.size)
    return Step(part, rows.pixels, columns.pixels, met)


def _part(problem: ConvProblem, rows: Reach, columns: Reach) -> ConvProblem:
    """Return the convolution of one group; one of zeros where it meets the border alone."""
    channels, outputs = problem.c // problem.groups, problem.k // problem.groups
    if not rows.size or not columns.size or not problem.n:
        return replace(
            problem, n=channels, c=1, h=problem.r, w=problem.s, k=outputs, r=1, s=1, groups=1,
            stride=(1, 1), pad=((0, 0), (0, 0)), dilation=(1, 1), layout="NCHW", result="y",
        )  # fmt: skip
    return replace(
        problem, n=channels, c=problem.n, h=rows.size, w=columns.size, k=outputs, r=problem.p,
        s=problem.q, groups=1, stride=problem.dilation, dilation=problem.stride,
        pad=(rows.pad, columns.pad), layout="NCHW", result="y",
    )  # fmt: skip


def parts(problem: ConvProblem) -> Iterator[ConvProblem]:
    """Return the convolution that each group is."""
    yield _step(problem).part


def run(inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute the gradient of w into `out`."""
    part, rows, columns, met = _step(problem)
    for group in range(problem.groups):
        outputs = slice(group * part.k, (group + 1) * part.k)
        if met:
            channels = slice(group * part.n, (group + 1) * part.n)
            image = a[:, channels, rows, columns].swapaxes(0, 1)
            kernel = b[:, outputs].swapaxes(0, 1)
        else:
            image = zeros_like(a, (part.n, part.c, part.h, part.w))
            kernel = zeros_like(b, part.w_shape)
        inner(part, image, kernel, None, out[outputs].swapaxes(0, 1), (*key, group))
