"""The backends. Each is a module (or package) with the four functions of `Backend`."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..options import Options
from ..problem import ConvProblem


class Algorithm(NamedTuple):
    """What a backend would run: a name and the scratch memory it needs, in bytes, all threads."""

    name: str
    scratch_bytes: int


class Backend(Protocol):
    """What a backend knows. Arrays reach `run` checked, in logical (N, C, H, W) order.

    x (N,C,H,W), w (K,C/groups,R,S) and out (N,K,P,Q) are views with any strides that are whole
    multiples of the item size, aligned and in native byte order, of dtype ``problem.dtype`` (x, w)
    and ``problem.out_dtype`` (out, bias); bias is contiguous; ``out`` shares no memory with the
    inputs, is not empty, and holds arbitrary values on entry. ``flip`` has already been applied.
    """

    def available(self) -> str | None:
        """Return None if the backend works on this machine, otherwise the reason and the fix."""

    def supports(self, problem: ConvProblem, options: Options) -> str | None:
        """Return None if the backend computes `problem`, otherwise the reason and the fix."""

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name the algorithm for `problem`: a pure function, no arrays, no device."""

    def run(
        self, problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
    ) -> None:
        """Compute `problem` into `out`, every element of it."""
