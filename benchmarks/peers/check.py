"""Hold sampled results against the definition; `benchmarks.peers.samples` says which parts of them.

The exact values are computed once a layer, in longdouble, and every column's sample is compared
with them.

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

from dataclasses import dataclass

import numpy as np

from benchmarks.measure import VERIFY_MACS
from fastconv import accuracy
from fastconv.accuracy import Expected

from . import samples
from .task import Array, Task

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
        What the columns are to store of their results along the first two axes, whole along the
        others; of the gradient of w those axes are output and input channels.
    """

    def __init__(self, task: Task, macs: int = VERIFY_MACS) -> None:
        self.task = task
        self.images, self.channels = samples.positions(task)
        self._parts = list(samples.parts(task, self.images, self.channels, macs))

    def judge(self, sample: Array, tolerance: str) -> Finding:
        """Compare (images, channels, P, Q) with the exact values."""
        shape = (len(self.images), len(self.channels), *self.task.result_shape[2:])
        if sample.shape != shape:
            raise ValueError(f"the sample has shape {sample.shape}, not {shape}")
        if np.iscomplexobj(sample) != (self.task.dtype == "complex64"):
            raise ValueError(f"the sample is of dtype {sample.dtype}, not {self.task.out_dtype}")
        got = samples.as_real(sample)
        scale = max(float(part.want.magnitude.max(initial=0)) for part in self._parts)
        findings = [
            self._compare(part.want, got[part.index], tolerance, scale) for part in self._parts
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
