"""The definition, as plain as it can be written: the oracle that every other backend is held to.

Floating-point sums run in `numpy.longdouble` (64 bits of mantissa on x86, 113 on most others),
integer sums modulo 2**64, so the only rounding a caller sees is the one to the result's dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..activations import ACTIVATIONS
from ..borders import source_index
from ..dtypes import BFLOAT16, is_float, itemsize
from ..options import Options
from ..problem import ConvProblem
from . import Algorithm

Array = np.ndarray[Any, Any]


def available() -> str | None:
    """Return None: the reference needs NumPy alone."""
    return None


def supports(problem: ConvProblem, options: Options) -> str | None:
    """Return None: the reference computes every legal problem."""
    return None


def algorithm(problem: ConvProblem, options: Options) -> Algorithm:
    """Name the algorithm; scratch holds the sums and, one after the other, what works on them."""
    floating = is_float(problem.out_dtype)
    wide = 16 if floating else 8
    pixels = problem.p * problem.q
    sums = problem.n * problem.k * pixels
    gathered = problem.c * pixels * (2 * wide + itemsize(problem.dtype))  # two windows
    product = (problem.c + problem.k // problem.groups) * pixels * wide
    cast = 0 if floating else sums * itemsize(problem.out_dtype)
    kernel = problem.k * problem.reduction * wide
    return Algorithm("definition", sums * wide + max(gathered, product, cast) + kernel)


def _tap_indices(problem: ConvProblem, axis: int, tap: int) -> Array:
    """Source rows (axis 0) or columns (axis 1) that one kernel tap reads; -1 is a zero."""
    size, outputs = ((problem.h, problem.p), (problem.w, problem.q))[axis]
    start = tap * problem.dilation[axis] - problem.pad[axis][0]
    index = start + np.arange(outputs, dtype=np.int64) * problem.stride[axis]
    return source_index(index, size, problem.pad_mode)


def _window(x: Array, problem: ConvProblem, tap: tuple[int, int], wide: np.dtype[Any]) -> Array:
    """Pixels under one kernel tap, (C, P, Q): the padded image, shifted and strided."""
    rows = _tap_indices(problem, 0, tap[0])
    columns = _tap_indices(problem, 1, tap[1])
    window = x[:, rows[:, None], columns[None, :]].astype(wide)
    window[:, rows < 0, :] = 0
    window[:, :, columns < 0] = 0
    return window


def accumulate(problem: ConvProblem, x: Array, w: Array, wide: np.dtype[Any]) -> Array:
    """Sum x * w over channels and taps in dtype `wide`: (N, K, P, Q), no bias, no activation.

    O(N*K*P*Q*(C/groups)*R*S) multiply-accumulates. Border zeros are multiplied like any other
    pixel, so 0 * inf is NaN there as well.
    """
    n, k, g = problem.n, problem.k, problem.groups
    sums = np.zeros((n, k, problem.p * problem.q), dtype=wide)
    kernel = w.astype(wide)
    for image in range(n):
        for r in range(problem.r):
            for s in range(problem.s):
                window = _window(x[image], problem, (r, s), wide).reshape(problem.c, -1)
                for group in range(g):
                    outs = slice(group * k // g, (group + 1) * k // g)
                    ins = slice(group * problem.c // g, (group + 1) * problem.c // g)
                    sums[image, outs] += kernel[outs, :, r, s] @ window[ins]
    return sums.reshape(n, k, problem.p, problem.q)


def _rounded_to_bfloat16(y: Array) -> Array:
    """Round to 8 bits, ties to even, in float32: casts by way of float32 would round twice."""
    _, exponent = np.frexp(y)
    unit = np.maximum(exponent - 8, -133)
    rounded: Array = np.ldexp(np.rint(np.ldexp(y, -unit)), unit).astype(np.float32)
    return rounded


def run(
    problem: ConvProblem,
    options: Options,
    x: Array,
    w: Array,
    bias: Array | None,
    out: Array,
) -> None:
    """Compute the definition into `out`; see `fastconv.backends.Backend`."""
    floating = is_float(problem.out_dtype)
    wide = np.dtype(np.longdouble if floating else np.uint64)
    with np.errstate(all="ignore"):
        y = accumulate(problem, x, w, wide)
        if bias is not None:
            y += bias.astype(wide)[:, None, None]
        if not floating:
            y = y.astype(problem.out_dtype)
        if problem.activation is not None:
            y = ACTIVATIONS[problem.activation].function(y)
        if problem.out_dtype == BFLOAT16:
            y = _rounded_to_bfloat16(y)
        out[...] = y
