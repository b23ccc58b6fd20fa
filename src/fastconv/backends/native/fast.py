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

from functools import lru_cache
from typing import Any, NamedTuple, Protocol

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


class Paying(NamedTuple):
    """Which ways would be faster than the ladder."""

    separable: bool
    fft: bool


@lru_cache(maxsize=1024)
def _paying(problem: ConvProblem, options: Options) -> Paying:
    if problem.dtype not in DTYPES or problem.out_dtype != problem.dtype or problem.k == 0:
        return Paying(False, False)
    return Paying(separable.pays(problem, options), fft.pays(problem, options))


def considered(problem: ConvProblem, options: Options) -> bool:
    """Whether any way of this module might take a problem, given the right weights."""
    return options.precision == "fast" and any(_paying(problem, options))


def choose(problem: ConvProblem, options: Options, w: Any, keep: bool = False) -> Way | None:
    """Choose a way for these weights, or None: the extension's ladder.

    With `keep` the way will run many times and may hold more than one run needs.
    """
    if options.precision != "fast":
        return None
    pays = _paying(problem, options)
    if pays.separable:
        factors = separable.factor(w)
        if factors is not None:
            return separable.Separable(*factors)
    if pays.fft and fft.takes(w):
        return fft.Fft(problem, options, w, keep)
    return None


def without_values(problem: ConvProblem, options: Options) -> tuple[str, int] | None:
    """Name and scratch memory of the way that most weights take, or None: the ladder."""
    if options.precision == "fast" and _paying(problem, options).fft:
        return fft.NAME, fft.scratch_bytes(problem, options)
    return None
