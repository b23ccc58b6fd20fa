"""What ``precision="fast"`` promises about complex numbers: `fastconv.accuracy` for both parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .accuracy import FAST, WIDE, Array, Expected, Verdict, compare, unit_roundoff
from .backends import reference
from .dtypes import COMPONENTS
from .errors import DTypeError
from .lowering.three_products import PREFIX
from .problem import ConvProblem


def expected(
    problem: ConvProblem, x: Array, w: Array, bias: Array | None, algorithm: str
) -> tuple[Expected, Expected]:
    """Compute the exact parts of a complex result, and the bound of `algorithm`: ``gauss_...``.

    x and w are logical, as in `fastconv.accuracy.expected`. The bound is the same for both parts.
    """
    if not algorithm.startswith(PREFIX):
        raise DTypeError(f"{algorithm} keeps the bounds of real numbers; check its parts")
    bound_of = FAST.get(algorithm, FAST["gauss_im2col_gemm"])
    dtype = COMPONENTS[problem.dtype]
    real = replace(problem, dtype=dtype, out_dtype=dtype, bias=False)

    def sums(a: Any, b: Any) -> Any:
        return reference.accumulate(real, a.astype(WIDE), b.astype(WIDE), WIDE)

    with np.errstate(all="ignore"):
        parts = (
            sums(x.real, w.real) - sums(x.imag, w.imag),
            sums(x.real, w.imag) + sums(x.imag, w.real),
        )
        wide = np.clongdouble
        bound = bound_of(replace(problem, bias=False), x.astype(wide), w.astype(wide))
        magnitude = sums(np.abs(x.astype(wide)), np.abs(w.astype(wide)))
        if bias is not None:
            addend = bias.astype(wide).reshape(-1, *(1,) * problem.spatial)
            parts = parts[0] + addend.real, parts[1] + addend.imag
            # the last sum of each part
            bound = bound + 2 * unit_roundoff(dtype) * (np.abs(addend) + magnitude)
    first, second = (Expected(part, bound, magnitude) for part in parts)
    return first, second


def check(
    problem: ConvProblem, x: Array, w: Array, bias: Array | None, got: Array, algorithm: str
) -> Verdict:
    """Hold both parts of a computed result against the definition; the worse verdict of the two."""
    wants = expected(problem, x, w, bias, algorithm)
    held = (got.real, got.imag)
    verdicts = [compare(want, part) for want, part in zip(wants, held, strict=True)]
    return Verdict(
        all(verdict.ok for verdict in verdicts),
        max(verdict.ratio for verdict in verdicts),
        max(verdict.error for verdict in verdicts),
        max(verdict.units for verdict in verdicts),
    )
