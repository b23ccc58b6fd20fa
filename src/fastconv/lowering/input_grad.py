"""The gradient of x, and the transposed convolution: one convolution of gy for each stride phase.

Along one axis, ``gx[h] = sum over r of w[r] * gy[(h + pad - r * dilation) / stride]`` where the
division leaves no rest. Rows h = a, a + stride, ... of one phase a meet the same taps, every
(stride / gcd)-th of them, and neighbouring rows meet neighbouring pixels of gy: a convolution of gy
with stride 1 and the phase's taps turned round. Zeros are never inserted, and taps that would meet
them never multiplied (Shi et al., "Is the deconvolution layer the same as a convolutional layer?",
2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from ..arguments import module_of
from ..geometry import Pair
from ..problem import ConvProblem
from ..sizes import FLAT, Depth
from .way import Key, Run


class Phase(NamedTuple):
    """Planes, rows or columns of gx that meet the same taps."""

    rows: slice  # of gx
    outputs: int
    taps: slice  # of w, turned round
    met: int  # taps; 0: these rows are zeros
    pixels: slice  # of gy
    size: int
    pad: Pair
    dilation: int


def phases(size: int, outputs: int, taps: int, stride: int, pad: int, dilation: int) -> list[Phase]:
    """Split `size` rows of gx, of which `outputs` rows of gy were made, into their phases."""
    found = []
    common = math.gcd(stride, dilation)
    step = stride // common
    for first in range(min(stride, size)):
        rows = slice(first, size, stride)
        count = len(range(first, size, stride))
        empty = Phase(rows, count, slice(0), 0, slice(0, 1), 1, (0, 0), 1)
        if (first + pad) % common:
            found.append(empty)
            continue
        inverse = pow(dilation // common, -1, step) if step > 1 else 0
        tap = (first + pad) // common * inverse % step
        met = len(range(tap, taps, step))
        if met == 0:
            found.append(empty)
            continue
        spread = dilation // common
        # the first row meets pixel `start` with its first tap; the taps behind it reach back
        start = (first + pad - tap * dilation) // stride
        before = (met - 1) * spread - start
        after = count - 1 + start - (outputs - 1)
        begin, end = max(-before, 0), outputs - max(-after, 0)
        if begin >= end:
            found.append(empty)
            continue
        turned = slice(tap + (met - 1) * step, tap - 1 if tap else None, -step)
        pads = max(before, 0), max(after, 0)
        pixels = slice(begin, end)
        found.append(Phase(rows, count, turned, met, pixels, end - begin, pads, spread))
    return found


def _along(problem: ConvProblem) -> Iterator[tuple[Phase, ...]]:
    """Return every choice of one phase an axis."""
    depth = problem.depth
    sizes = (
        (depth.size, depth.outputs, depth.taps, depth.stride, depth.pad[0], depth.dilation),
        (
            problem.h,
            problem.p,
            problem.r,
            problem.stride[0],
            problem.pad[0][0],
            problem.dilation[0],
        ),
        (
            problem.w,
            problem.q,
            problem.s,
            problem.stride[1],
            problem.pad[1][0],
            problem.dilation[1],
        ),
    )
    return product(*(phases(*size) for size in sizes[3 - problem.spatial :]))


def _part(problem: ConvProblem, met: tuple[Phase, ...]) -> ConvProblem:
    """Return the convolution of one phase; one of zeros where it meets no taps."""
    *planes, rows, columns = met
    if not all(phase.met for phase in met):
        outputs = [Depth(phase.outputs) for phase in planes]
        return replace(
            problem, c=problem.groups, h=rows.outputs, w=columns.outputs, k=problem.c, r=1, s=1,
            stride=(1, 1), pad=((0, 0), (0, 0)), dilation=(1, 1), depth=(*outputs, FLAT)[0],
            result="y",
        )  # fmt: skip
    depths = [Depth(plane.size, plane.met, 1, plane.pad, plane.dilation) for plane in planes]
    return replace(
        problem, c=problem.k, h=rows.size, w=columns.size, k=problem.c, r=rows.met,
        s=columns.met, stride=(1, 1), pad=(rows.pad, columns.pad),
        dilation=(rows.dilation, columns.dilation), depth=(*depths, FLAT)[0], result="y",
    )  # fmt: skip


class Step(NamedTuple):
    """The convolution of one phase, and which parts of the arrays it is of."""

    part: ConvProblem
    image: tuple[slice, ...] | None  # of gy; None: zeros
    taps: tuple[slice, ...]  # of w
    target: tuple[slice, ...]  # of gx


@lru_cache(maxsize=1024)
def _steps(problem: ConvProblem) -> tuple[Step, ...]:
    """Return one step for each phase."""
    whole = slice(None)
    return tuple(
        Step(
            _part(problem, met),
            (whole, whole, *(p.pixels for p in met)) if all(p.met for p in met) else None,
            (whole, whole, *(p.taps for p in met)),
            (whole, whole, *(p.rows for p in met)),
        )
        for met in _along(problem)
    )


def parts(problem: ConvProblem) -> Iterator[ConvProblem]:
    """Return the convolution of each phase."""
    return (step.part for step in _steps(problem))


def transposed_weights(w: Any, groups: int) -> Any:
    """View w (K, C/groups, ...) as weights from K to C channels; copied for several groups."""
    if groups == 1:
        return w.swapaxes(0, 1)
    split = w.reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    return split.reshape(groups * w.shape[1], w.shape[0] // groups, *w.shape[2:])


def run(inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute the gradient of x with respect to y into `out`."""
    kernel = transposed_weights(b, problem.groups)
    for number, step in enumerate(_steps(problem)):
        part = step.part
        if step.image is None:
            image = zeros_like(a, (part.n, part.c, *part.x_image))
            taps = zeros_like(b, part.w_shape)
        else:
            image, taps = a[step.image], kernel[step.taps]
        inner(part, image, taps, bias, out[step.target], (*key, number))


def zeros_like(array: Any, shape: tuple[int, ...]) -> Any:
    """Return zeros of the dtype and the kind of `array`, one element in all of `shape`."""
    xp = module_of(array)
    return xp.broadcast_to(xp.zeros((1,) * len(shape), dtype=array.dtype), shape)
