"""Hold sampled results against the definition.

Images, output channels and bands of output rows are sampled; the first and the last of each are
among them, so that every border is looked at. The exact values are computed once a layer, in
longdouble, and every column's sample is compared with them.

``bound``
    The bound of `fastconv.accuracy` for a sum in floating point, element by element; what
    strict fastconv promises, and what a direct convolution of any library keeps.
``norm``
    Winograd and FFT move errors from large outputs to small ones, so no library that uses them
    keeps an element's own bound. Their error is compared with the largest S = sum |x||w| of the
    sample: ``NORM_UNITS * u * max S`` is allowed, or the element's own bound where that is more.

bfloat16 adds one rounding of the result. Integers must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.measure import VERIFY_MACS, Case, rows
from fastconv import ConvProblem, accuracy
from fastconv.accuracy import Expected

from .task import Array, Task, operands

#: Units of u * max S that a transformed convolution may be off.
NORM_UNITS = 8192.0

#: Unit roundoff of bfloat16: 8 bits of precision.
U_BFLOAT16 = 2.0**-8


@dataclass(frozen=True)
class Finding:
    """A comparison's outcome: within tolerance, and the largest error as a share of it."""

    ok: bool
    ratio: float


class Checker:
    """The sample of a task and its exact values.

    Attributes
    ----------
    images, channels : list of int
        What the columns are to store of their results, with all rows of each.
    """

    def __init__(self, task: Task, macs: int = VERIFY_MACS) -> None:
        self.task = task
        problem = task.problem
        x, w = operands(task)
        if task.computed != task.dtype:
            x, w = x.astype(task.computed), w.astype(task.computed)
        self.images = sorted({0, task.n - 1})
        rng = np.random.default_rng(task.k)
        self.channels = sorted({0, task.k - 1, *rng.integers(0, task.k, 2).tolist()})
        row = len(self.images) * len(self.channels) * problem.q * problem.reduction
        self._bands = _bands(problem.p, max(1, macs // row))
        whole = Case(replace(problem, n=len(self.images)), x[self.images], w)
        self._expected = [
            [_channel(problem, rows(whole, first, last), channel) for channel in self.channels]
            for first, last in self._bands
        ]

    def judge(self, sample: Array, tolerance: str) -> Finding:
        """Compare (images, channels, P, Q) with the exact values."""
        p = self.task.problem
        shape = (len(self.images), len(self.channels), p.p, p.q)
        if sample.shape != shape:
            raise ValueError(f"the sample has shape {sample.shape}, not {shape}")
        scale = max(
            float(e.magnitude.max(initial=0)) for band in self._expected for e in band
        )  # fmt: skip
        findings = [
            self._compare(want, sample[:, i : i + 1, first:last], tolerance, scale)
            for (first, last), band in zip(self._bands, self._expected, strict=True)
            for i, want in enumerate(band)
        ]
        return Finding(all(f.ok for f in findings), max(f.ratio for f in findings))

    def _compare(self, want: Expected, got: Array, tolerance: str, scale: float) -> Finding:
        if self.task.dtype == "int8":
            equal = bool((got.astype(np.int64) == want.y).all())
            return Finding(equal, 0.0 if equal else float("inf"))
        allowed = want.bound
        if tolerance == "norm":
            u = accuracy.unit_roundoff(accuracy.accumulator(self.task.computed))
            allowed = np.maximum(allowed, NORM_UNITS * u * scale)
        if self.task.dtype == "bfloat16":
            allowed = U_BFLOAT16 * np.abs(want.y) + (1 + U_BFLOAT16) * allowed
        error = np.abs(got.astype(np.longdouble) - want.y)
        ratio = np.where(error == 0, 0, error / allowed)
        worst = float(ratio.max(initial=0))
        return Finding(worst <= 1, worst)  # NaN compares false


def _bands(height: int, affordable: int) -> list[tuple[int, int]]:
    """All rows, or the first, some in the middle and the last."""
    if affordable >= height:
        return [(0, height)]
    size = max(1, affordable // 3)
    starts = sorted({0, (height - size) // 2, height - size})
    return [(start, start + size) for start in starts]


def _channel(problem: ConvProblem, part: Case, channel: int) -> Expected:
    """Exact values of one output channel, and their bound in the dtypes of `problem`."""
    p = replace(part.problem, dtype=problem.dtype, out_dtype=problem.out_dtype)
    width = p.c // p.groups
    first = channel // (p.k // p.groups) * width
    one = replace(p, c=width, k=1, groups=1)
    x, w = part.x[:, first : first + width], part.w[channel : channel + 1]
    return accuracy.expected(one, x, w)
