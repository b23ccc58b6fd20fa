"""One case's exact result on some output channels, computed once and held against every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..accuracy import Expected, Verdict, compare, expected
from ..checks import LAYOUTS
from ..problem import ConvProblem

Array = np.ndarray[Any, Any]

#: Multiply-accumulates of the definition that judging one case may cost.
MACS = 32_000_000


def sampled_channels(problem: ConvProblem) -> list[int]:
    """Output channels to verify, spread evenly: as many as `MACS` allows, at least two."""
    # the definition runs twice: once for the sum, once for the sum of magnitudes
    affordable = MACS * problem.k // max(1, 2 * problem.cost.macs)
    count = min(problem.k, max(2, affordable))
    return sorted({int(k) for k in np.linspace(0, problem.k - 1, count)})


class Judge:
    """The definition of one case, on `sampled_channels`.

    Parameters
    ----------
    problem : ConvProblem
        Of rank 4.
    x, w, bias : ndarray
        As the caller of `fastconv.conv2d` holds them.

    Attributes
    ----------
    channels : list of int
        The channels that are verified.
    """

    def __init__(self, problem: ConvProblem, x: Array, w: Array, bias: Array | None) -> None:
        self.channels = sampled_channels(problem)
        self._order = LAYOUTS[problem.layout]
        self._finite_input = all(np.isfinite(a).all() for a in (x, w, bias) if a is not None)
        operand = np.dtype(problem.dtype)
        self._x = x.transpose(self._order).astype(operand, copy=False)
        self._w = w.astype(operand, copy=False)
        self._bias = None if bias is None else bias.astype(problem.out_dtype, copy=False)
        self._parts = self._expected(problem)

    def _expected(self, problem: ConvProblem) -> list[tuple[list[int], Expected]]:
        """Channels and what they must hold, all at once where they read the same input."""
        if problem.groups == 1:
            return [(self.channels, self._part(replace(problem, k=1), 0, self.channels))]
        per_group_in, per_group_out = problem.c // problem.groups, problem.k // problem.groups
        single = replace(problem, c=per_group_in, groups=1)
        return [
            ([k], self._part(single, k // per_group_out * per_group_in, [k])) for k in self.channels
        ]

    def _part(self, problem: ConvProblem, first: int, channels: list[int]) -> Expected:
        problem = replace(problem, k=len(channels))
        bias = None if self._bias is None else self._bias[channels]
        return expected(problem, self._x[:, first : first + problem.c], self._w[channels], bias)

    def verdict(self, y: Array) -> Verdict:
        """Hold a result, in the caller's axis order, against the definition.

        Channels that are not sampled must at least hold numbers: `y` was filled with NaN before.
        """
        got = y.transpose(self._order)
        if got.dtype.kind == "f" and self._finite_input and not np.isfinite(got).all():
            return Verdict(False, np.inf, np.inf, np.inf)
        verdicts = [compare(want, got[:, channels]) for channels, want in self._parts]
        return Verdict(
            all(v.ok for v in verdicts),
            max(v.ratio for v in verdicts),
            max(v.error for v in verdicts),
            max(v.units for v in verdicts),
        )
