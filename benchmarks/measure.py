"""Measuring one convolution: operands, verification, the reference's time, the peak beside it.

The reference accumulates in longdouble at some hundred million multiply-accumulates a second, so
both the verification and the timing of the reference work on slices of a problem: bands of output
rows that include both borders, sampled output channels, whole groups.
"""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastconv
from benchmarks.networks import Layer
from fastconv import ConvProblem
from fastconv.accuracy import Verdict, check

Array = np.ndarray[Any, Any]

#: Multiply-accumulates, in the reference, that verifying or timing one problem may take.
VERIFY_MACS = 2_000_000
REFERENCE_MACS = 6_000_000


@dataclass(frozen=True)
class Case:
    """A problem with its operands, x (N, C, H, W) and w (K, C/groups, R, S)."""

    problem: ConvProblem
    x: Array
    w: Array

    def run(self, backend: str | None = None) -> Array:
        """Compute it with `fastconv.conv2d`."""
        p = self.problem
        result: Array = fastconv.conv2d(
            self.x, self.w, p.stride, p.pad, dilation=p.dilation, groups=p.groups, backend=backend
        )
        return result


def case(problem: ConvProblem, name: str = "") -> Case:
    """Draw standard normal float32 operands; the same ones for the same name and problem."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {problem}".encode()))
    x = rng.standard_normal((problem.n, problem.c, problem.h, problem.w), dtype=np.float32)
    w = rng.standard_normal(problem.w_shape, dtype=np.float32)
    return Case(problem, x, w)


def window(problem: ConvProblem, first: int, last: int) -> tuple[ConvProblem, slice]:
    """Describe the outputs `first` to `last`, exclusive, along an image's first axis.

    Returns
    -------
    ConvProblem
    slice
        What they read of x along that axis.
    """
    p = problem
    size, pad, taps = p.x_image[0], p.pads[0][0], p.kernel[0]
    top = first * p.strides[0] - pad
    bottom = (last - 1) * p.strides[0] + (taps - 1) * p.dilations[0] + 1 - pad
    read = slice(max(top, 0), min(bottom, size))
    part = ConvProblem.describe(
        (p.n, p.c, read.stop - read.start, *p.x_image[1:]), p.w_shape, stride=p.strides,
        dilation=p.dilations, groups=p.groups, spatial=p.spatial,
        pad=((max(-top, 0), max(bottom - size, 0)), *p.pads[1:]),
    )  # fmt: skip
    return part, read


def rows(whole: Case, first: int, last: int) -> Case:
    """Cut the output rows `first` to `last`, exclusive, out of a problem; views, no copies."""
    part, read = window(whole.problem, first, last)
    return Case(part, whole.x[:, :, read], whole.w)


def first_groups(whole: Case, groups: int) -> Case:
    """Cut the first `groups` groups out of a problem; views, no copies."""
    p = whole.problem
    x = whole.x[:, : groups * p.c // p.groups]
    w = whole.w[: groups * p.k // p.groups]
    part = ConvProblem.describe(
        x.shape, w.shape, stride=p.stride, pad=p.pad, dilation=p.dilation, groups=groups
    )
    return Case(part, x, w)


def piece(whole: Case, macs: int) -> Case:
    """Cut a piece of about `macs` multiply-accumulates out of a problem, along an axis in which
    the reference's time is linear: groups, and rows when one group is still too much."""
    p = whole.problem
    if p.groups > 1:
        whole = first_groups(whole, max(1, min(p.groups, p.groups * macs // p.cost.macs)))
        p = whole.problem
    count = max(1, min(p.p, p.p * macs // p.cost.macs))
    if count == p.p:
        return whole
    middle = (p.p - count) // 2  # the border's rows multiply zeros, which is no faster
    return rows(whole, middle, middle + count)


def seconds(function: Callable[[], object], repeats: int = 1, budget: float = 0) -> float:
    """Best wall time of `repeats` calls, and of as many more as fit into `budget` seconds."""
    best, spent, calls = float("inf"), 0.0, 0
    while calls < repeats or spent < budget:
        start = time.perf_counter()
        function()
        taken = time.perf_counter() - start
        best, spent, calls = min(best, taken), spent + taken, calls + 1
    return best


def reference_seconds(whole: Case) -> float:
    """Time the reference on a piece of the problem, scaled to the whole by multiply-accumulates."""
    part = piece(whole, REFERENCE_MACS)
    scale = whole.problem.cost.macs / part.problem.cost.macs
    return scale * seconds(lambda: part.run("reference"), 2)


def layer_seconds(layer: Layer, repeats: int = 3) -> float:
    """Best time of a layer on the backend that fastconv chooses; the reference, where nothing
    faster is there, is timed on a piece."""
    whole = case(layer.problem(), f"{layer.network} {layer.name}")
    if chosen(whole.problem, "default")[0] == "reference":
        return reference_seconds(whole)
    whole.run()  # compile, and touch the memory
    return seconds(whole.run, repeats, 0.02 if repeats > 1 else 0)


def _bands(problem: ConvProblem, macs_per_row: int, channels: int) -> list[tuple[int, int]]:
    """Output rows to verify: all, or the first, some in the middle and the last."""
    affordable = VERIFY_MACS // max(1, macs_per_row * channels)
    if affordable >= problem.p:
        return [(0, problem.p)]
    size = max(1, affordable // 3)
    middle = (problem.p - size) // 2
    starts = sorted({0, middle, problem.p - size})
    return [(start, start + size) for start in starts]


def verify(whole: Case, got: Array, channels: int = 4) -> Verdict:
    """Hold sampled output channels, the first and the last among them, against the definition.

    Bands of rows are checked where whole planes would take too long; both borders are among them.
    """
    p = whole.problem
    rng = np.random.default_rng(p.k)
    sample = sorted({0, p.k - 1, *rng.integers(0, p.k, max(0, channels - 2)).tolist()})
    verdicts = []
    for first, last in _bands(p, p.n * p.q * p.reduction, len(sample)):
        part = rows(whole, first, last)
        verdicts.append(
            check(part.problem, part.x, part.w, None, got[:, :, first:last], channels=sample)
        )
    return Verdict(
        all(v.ok for v in verdicts),
        max(v.ratio for v in verdicts),
        max(v.error for v in verdicts),
        max(v.units for v in verdicts),
    )


def chosen(problem: ConvProblem, backend: str) -> tuple[str, str]:
    """Backend and algorithm that serve a problem; ``default`` leaves the choice to fastconv."""
    with warnings.catch_warnings():
        # Without the native backend fastconv says so, once; the tables name the backend anyway.
        warnings.simplefilter("ignore", RuntimeWarning)
        answer = fastconv.explain(
            (problem.n, problem.c, problem.h, problem.w), problem.w_shape, problem.stride,
            problem.pad, dilation=problem.dilation, groups=problem.groups,
            backend=None if backend == "default" else backend,
        )  # fmt: skip
    return answer.backend, answer.algorithm
