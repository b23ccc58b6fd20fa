"""What ``precision="fast"`` permits beside the extension's own ladder, and when it pays.

=========== ================================================= ==================================
way         takes                                             costs, for each output
=========== ================================================= ==================================
separable   one channel a group, every kernel an outer        R + S multiply-adds, not R * S
            product of a column and a row
fft         stride 1, finite data                             two transforms a pixel, whatever
                                                              the kernel's size
=========== ================================================= ==================================

The choice is a function of the problem (never of n, threads or the image's values) and, for
separable kernels, of w.
"""

from __future__ import annotations

from typing import Any, Protocol

from ...options import Options
from ...problem import ConvProblem
from . import fft, separable

DTYPES = ("float32", "float64")


class Way(Protocol):
    """A way to compute, with its form of the weights."""

    name: str
    packed_bytes: int

    def scratch_bytes(self, problem: ConvProblem, options: Options) -> int:
        """Return what all threads together need besides the arrays and `packed_bytes`."""

    def run(
        self, problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
    ) -> None:
        """Compute `problem`, which may have any n, into `out`."""


def considered(problem: ConvProblem, options: Options) -> bool:
    """Whether any way of this module might take a problem, given the right weights."""
    if options.precision != "fast" or problem.dtype not in DTYPES:
        return False
    if problem.out_dtype != problem.dtype or problem.k == 0:
        return False
    return separable.pays(problem, options) or fft.pays(problem, options)


def choose(problem: ConvProblem, options: Options, w: Any, keep: bool = False) -> Way | None:
    """Choose a way for these weights, or None: the extension's ladder.

    With `keep` the way will run many times and may hold more than one run needs.
    """
    if not considered(problem, options):
        return None
    if separable.pays(problem, options):
        factors = separable.factor(w)
        if factors is not None:
            return separable.Separable(*factors)
    if fft.pays(problem, options) and fft.takes(w):
        return fft.Fft(problem, options, w, keep)
    return None


def without_values(problem: ConvProblem, options: Options) -> tuple[str, int] | None:
    """Name and scratch memory of the way that most weights take, or None: the ladder."""
    if considered(problem, options) and fft.pays(problem, options):
        return fft.NAME, fft.scratch_bytes(problem, options)
    return None
