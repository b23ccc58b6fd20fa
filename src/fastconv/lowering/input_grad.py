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
    met: int  # taps
    pixels: slice  # of gy
    size: int
    pad: Pair
    dilation: int


class Axis(NamedTuple):
    """One axis of the problem."""

    size: int
    outputs: int
    taps: int
    stride: int
    pad: Pair
    dilation: int

    def phases(self) -> list[Phase]:
        """Return the phases that meet taps: at most as many as there are taps, for any stride."""
        step = self.stride // math.gcd(self.stride, self.dilation)
        firsts = (
            (tap * self.dilation - self.pad[0]) % self.stride for tap in range(min(step, self.taps))
        )
        found = (self._phase(first) for first in sorted(firsts) if first < self.size)
        return [phase for phase in found if phase is not None]

    def _phase(self, first: int) -> Phase | None:
        """Return the phase that begins with a row; None where its taps lie outside of gy."""
        common = math.gcd(self.stride, self.dilation)
        step, spread, pad = self.stride // common, self.dilation // common, self.pad[0]
        inverse = pow(spread, -1, step) if step > 1 else 0
        tap = (first + pad) // common * inverse % step
        met = len(range(tap, self.taps, step))
        rows = slice(first, self.size, self.stride)
        count = len(range(first, self.size, self.stride))
        # the first row meets pixel `start` with its first tap; the taps behind it reach back
        start = (first + pad - tap * self.dilation) // self.stride
        before = (met - 1) * spread - start
        after = count - 1 + start - (self.outputs - 1)
        begin, end = max(-before, 0), self.outputs - max(-after, 0)
        if begin >= end:
            return None
        turned = slice(tap + (met - 1) * step, tap - 1 if tap else None, -step)
        pads = max(before, 0), max(after, 0)
        return Phase(rows, count, turned, met, slice(begin, end), end - begin, pads, spread)


def _axes(problem: ConvProblem) -> tuple[Axis, ...]:
    depth, strides, pads, dilations = problem.depth, problem.stride, problem.pad, problem.dilation
    axes = (
        Axis(depth.size, depth.outputs, depth.taps, depth.stride, depth.pad, depth.dilation),
        Axis(problem.h, problem.p, problem.r, strides[0], pads[0], dilations[0]),
        Axis(problem.w, problem.q, problem.s, strides[1], pads[1], dilations[1]),
    )
    return axes[3 - problem.spatial :]


def _part(problem: ConvProblem, met: tuple[Phase, ...]) -> ConvProblem:
    """Return the convolution of one phase."""
    *planes, rows, columns = met
    depths = [Depth(plane.size, plane.met, 1, plane.pad, plane.dilation) for plane in planes]
    return replace(
        problem, c=problem.k, h=rows.size, w=columns.size, k=problem.c, r=rows.met,
        s=columns.met, stride=(1, 1), pad=(rows.pad, columns.pad),
        dilation=(rows.dilation, columns.dilation), depth=(*depths, FLAT)[0], result="y",
    )  # fmt: skip


def _zeros(problem: ConvProblem) -> ConvProblem:
    """Return a convolution of zeros that has gx's shape: bias and activation alone."""
    depth = Depth(problem.depth.size) if problem.spatial == 3 else FLAT
    return replace(
        problem, c=problem.groups, k=problem.c, r=1, s=1, stride=(1, 1), pad=((0, 0), (0, 0)),
        dilation=(1, 1), depth=depth, result="y",
    )  # fmt: skip


class Step(NamedTuple):
    """The convolution of one phase, and which parts of the arrays it is of."""

    part: ConvProblem
    image: tuple[slice, ...] | None  # of gy; None: zeros
    taps: tuple[slice, ...]  # of w
    target: tuple[slice, ...]  # of gx


@lru_cache(maxsize=1024)
def _steps(problem: ConvProblem) -> tuple[Step, ...]:
    """Return one step for each phase, after one of zeros where phases leave pixels out."""
    axes, whole = _axes(problem), slice(None)
    along = [axis.phases() for axis in axes]
    steps = [
        Step(
            _part(problem, met),
            (whole, whole, *(phase.pixels for phase in met)),
            (whole, whole, *(phase.taps for phase in met)),
            (whole, whole, *(phase.rows for phase in met)),
        )
        for met in product(*along)
    ]
    reached = [sum(phase.outputs for phase in found) for found in along]
    if any(count < axis.size for count, axis in zip(reached, axes, strict=True)):
        every = (whole,) * (2 + len(axes))
        steps.insert(0, Step(_zeros(problem), None, every, every))
    return tuple(steps)


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
