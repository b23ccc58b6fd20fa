"""What fastconv promises about numbers, as code: bounds derived per output element, and a check.

With u the unit roundoff, n the terms of one sum, S = sum |x||w| (+ |bias|) of that output and eta
the smallest subnormal, strict results obey

- integers: equal, modulo 2**bits of the result dtype;
- float32, float64: ``n*u/(1-n*u) * S + n*eta``, whatever the order, with or without FMA;
- float16, bfloat16 (sums in float32, one rounding): ``u_out*|y| + (1+u_out)*n*u_32*S + eta_out``.

``precision="fast"`` has bounds of its own, by the name of the algorithm; see `FAST`.

An activation f multiplies the bound by its Lipschitz constant and adds
``8*u*max(|f|, min(1, |v|))`` for its own evaluation, unless it is exact (relu, relu6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from .activations import ACTIVATIONS
from .backends import reference
from .borders import source_index
from .dtypes import COMPONENTS, accumulator, float_limits, is_float
from .errors import DTypeError
from .problem import ConvProblem

Array = np.ndarray[Any, Any]

WIDE = np.dtype(np.longdouble)

#: From the problem, x and w to the largest error of each output element.
Bound = Callable[[ConvProblem, Array, Array], Array]
EXACT_ACTIVATIONS = (None, "relu", "relu6")


def unit_roundoff(dtype: str) -> float:
    """Half the distance from 1 to the next larger number of a floating dtype."""
    return float_limits(dtype).eps / 2


@dataclass(frozen=True)
class Expected:
    """The exact result and the largest error each element may have.

    Attributes
    ----------
    y : ndarray of longdouble, or of the integer result dtype
        In logical (N, K, P, Q) order.
    bound : ndarray of longdouble
        Largest permitted ``|computed - y|``; zero for integers.
    magnitude : ndarray of longdouble
        S, the sum of |x||w| (+ |bias|).
    """

    y: Array
    bound: Array
    magnitude: Array


@dataclass(frozen=True)
class Verdict:
    """Outcome of `check`.

    Attributes
    ----------
    ok : bool
        Every element is within its bound, and non-finite elements are where they belong.
    ratio : float
        Largest error as a share of its bound; 0 for exact results, inf for a misplaced NaN.
    error : float
        Largest absolute error among finite elements.
    units : float
        Largest error in units of u*S, the figure that grows with careless summation.
    """

    ok: bool
    ratio: float
    error: float
    units: float


def expected(
    problem: ConvProblem,
    x: Array,
    w: Array,
    bias: Array | None = None,
    algorithm: str | None = None,
) -> Expected:
    """Compute the exact result and its bound, from logical NCHW x and (K, C/groups, R, S) w.

    For gradients x and w are the operands in the order of `fastconv.lowering`: the gradient of y
    and w for that of x, x and the gradient of y for that of w. `algorithm` names one of `FAST`,
    whose bound replaces the strict one.
    O(2 * macs) in longdouble; use `check` with ``channels`` for large problems.
    """
    if problem.dtype in COMPONENTS:
        raise DTypeError(
            f"bounds are those of real numbers, the problem is {problem.dtype}; check its "
            "parts, or what fast computes by `fastconv.complex_accuracy.check`"
        )
    if not is_float(problem.out_dtype):
        y = np.empty(reference.logical_shape(problem), problem.out_dtype)
        reference.run(problem, None, x, w, bias, y)  # type: ignore[arg-type]
        zero = np.zeros(y.shape, WIDE)
        return Expected(y, zero, zero)
    with np.errstate(all="ignore"):
        y = reference.accumulate(problem, x, w, WIDE)
        magnitude = reference.accumulate(
            problem, np.abs(x.astype(WIDE)), np.abs(w.astype(WIDE)), WIDE
        )
        if bias is not None:
            addend = bias.astype(WIDE).reshape(-1, *(1,) * problem.spatial)
            y = y + addend
            magnitude = magnitude + np.abs(addend)
        if algorithm is None:
            bound = _strict_bound(problem, magnitude)
        else:
            bound = FAST[algorithm](problem, x.astype(WIDE), w.astype(WIDE))
            if bias is not None:  # it may be what the last sum, of R products, begins with
                addend = np.abs(bias.astype(WIDE))[:, None, None]
                u = unit_roundoff(problem.accumulator)
                bound = bound + u * ((problem.r + 2) * addend + np.abs(y))
        return _with_activation(problem, y, magnitude, bound)


def _strict_bound(problem: ConvProblem, magnitude: Array) -> Array:
    terms, u = problem.reduction + problem.bias, unit_roundoff(problem.accumulator)
    eta = float_limits(problem.accumulator).smallest_subnormal
    bound: Array = terms * u / (1 - terms * u) * magnitude + terms * eta
    return bound


def _separable_bound(problem: ConvProblem, x: Array, w: Array) -> Array:
    """``(R + S + 6) * u * max|w_k| * sum |x|`` over the taps, and R + S underflows.

    Two passes of S and R products round S + R times. w differs from the product of its factors by
    2*u*max|w_k| where that is accepted, and rounding the factors adds as much; the rest are terms
    of second order.
    """
    terms, u = problem.r + problem.s + 6, unit_roundoff(problem.accumulator)
    largest = np.abs(w).max(axis=(1, 2, 3))
    pixels = reference.accumulate(problem, np.abs(x), np.ones_like(w), WIDE)
    eta = float_limits(problem.accumulator).smallest_subnormal
    # a product that underflows in the first pass is multiplied by a factor of at most 1
    bound: Array = terms * u * largest[:, None, None] * pixels + problem.reduction * terms * eta
    return bound


def _padded(problem: ConvProblem, x: Array) -> Array:
    """Return the image with its border, (N, C, rows, columns)."""
    rows, columns = (
        source_index(np.arange(-first, size + last), size, problem.pad_mode)
        for size, (first, last) in zip((problem.h, problem.w), problem.pad, strict=True)
    )
    padded: Array = x[:, :, rows][:, :, :, columns]
    padded[:, :, rows < 0] = 0
    padded[:, :, :, columns < 0] = 0
    return padded


def _fft_bound(problem: ConvProblem, x: Array, w: Array) -> Array:
    """``4 * log2(pixels) * u * sum over c of ||x_c|| * ||w_c||``, x padded; and underflows."""
    padded = _padded(problem, x)
    pixels, u = padded[0, 0].size, unit_roundoff(problem.accumulator)
    image = np.sqrt((padded * padded).sum(axis=(2, 3)))  # (N, C)
    kernel = np.sqrt((w * w).sum(axis=(2, 3)))  # (K, C/groups)
    groups = problem.groups
    norms = np.einsum(
        "ngc,gkc->ngk",
        image.reshape(problem.n, groups, -1),
        kernel.reshape(groups, -1, kernel.shape[1]),
    ).reshape(problem.n, problem.k)
    eta = float_limits(problem.accumulator).smallest_subnormal
    bound = 4 * np.log2(max(pixels, 2)) * u * norms + pixels * eta
    full: Array = np.broadcast_to(
        bound[:, :, None, None], (problem.n, problem.k, problem.p, problem.q)
    )
    return full


def _winograd_bound(rows: int, columns: int, taps: int, factor: float, gain: float) -> Bound:
    """``factor * u * T``, T the sum over c of the tile's ``||x_c||`` times the sum of ``|w_c|``.

    A tile is the rectangle of rows + taps - 1 by columns + taps - 1 pixels of the padded image from
    which rows by columns elements are computed together; its norm is Euclidean. Underflow adds
    ``gain * eta`` times the same sums with 1 in place of either operand; gain is the largest sum of
    |A||B| over the products of a tile, A and B the matrices of the outputs' and the input's
    transform.
    """

    def bound(problem: ConvProblem, x: Array, w: Array) -> Array:
        n, groups = problem.n, problem.groups
        tiles = -(-problem.p // rows), -(-problem.q // columns)
        needed = tiles[0] * rows + taps - 1, tiles[1] * columns + taps - 1
        padded = _padded(problem, x)[:, :, : problem.p + taps - 1, : problem.q + taps - 1]
        missing = [size - have for size, have in zip(needed, padded.shape[2:], strict=True)]
        padded = np.pad(padded, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])))
        size = rows + taps - 1, columns + taps - 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))
        norms = np.sqrt((windows[:, :, ::rows, ::columns] ** 2).sum(axis=(4, 5)))
        weights = np.abs(w).sum(axis=(2, 3))  # (K, C/groups)
        norms = norms.reshape(n, groups, -1, *tiles)
        weights = weights.reshape(groups, -1, weights.shape[1])
        u = unit_roundoff(problem.accumulator)
        eta = float_limits(problem.accumulator).smallest_subnormal
        rounded = np.einsum("ngcyx,gkc->ngkyx", norms, weights)
        lost = norms.sum(axis=2)[:, :, None] + weights.sum(axis=2)[None, :, :, None, None]
        lost = lost + weights.shape[2]
        scale = (factor * u * rounded + gain * eta * lost).reshape(n, problem.k, *tiles)
        full: Array = scale.repeat(rows, axis=2).repeat(columns, axis=3)
        return full[:, :, : problem.p, : problem.q]

    return bound


def _pairs_bound(problem: ConvProblem, x: Array, w: Array) -> Array:
    """``n*u/(1-n*u) * S``, and what is flushed: ``2^-126 * (sum |x| + sum |w| + 3*n)``.

    Products of two bfloat16 are exact in float32, so that sums of them err like any other, in
    whatever order pairs are added. A subnormal operand counts as zero, which loses less than 2^-126
    times the other one; so do a subnormal product and a subnormal sum, less than 2^-126 each.
    """
    terms, u = problem.reduction, unit_roundoff(problem.accumulator)
    magnitude = reference.accumulate(problem, np.abs(x), np.abs(w), WIDE)
    pixels = reference.accumulate(problem, np.abs(x), np.ones_like(w), WIDE)
    weights = np.abs(w).sum(axis=(1, 2, 3))[:, None, None]
    flushed = WIDE.type(2.0**-126) * (pixels + weights + 3 * terms)
    bound: Array = terms * u / (1 - terms * u) * magnitude + flushed
    return bound


def three_products(inner: Bound) -> Bound:
    """``3.5 * E + 8 * u * S`` for each part of a complex result, E and S those of moduli.

    E is what `inner` allows one of the real products A = xr wr, B = xi wi, M = (xr + xi)(wr + wi),
    from which A - B and M - A - B are the parts. Every bound of the form |x|, |w| or their norms
    summed over channels lets A and B together err by E of moduli, for |xr||wr| + |xi||wi| is at
    most |x||w|, and M by 2 E, both of its factors being up to sqrt(2) times a modulus. Rounding
    them costs 4 * u * S, the two subtractions 3 * u * S, for M - A is at most 2 S. The rest is for
    underflow and terms of second order.
    """

    def bound(problem: ConvProblem, x: Array, w: Array) -> Array:
        dtype = COMPONENTS[problem.dtype]
        real = replace(problem, dtype=dtype, out_dtype=dtype)
        x, w = np.abs(x), np.abs(w)
        magnitude = reference.accumulate(real, x, w, WIDE)
        total: Array = 3.5 * inner(real, x, w) + 8 * unit_roundoff(dtype) * magnitude
        return total

    return bound


def _direct_bound(problem: ConvProblem, x: Array, w: Array) -> Array:
    """Bound of sums of products, as in strict precision."""
    return _strict_bound(problem, reference.accumulate(problem, np.abs(x), np.abs(w), WIDE))


#: Bounds of ``precision="fast"`` by the algorithm's name, from logical x and w in longdouble;
#: bias and activation are added to them.
FAST: dict[str, Bound] = {
    "separable": _separable_bound,
    "fft": _fft_bound,
    "bfloat16_gemm": _pairs_bound,
    "winograd_f2x3": _winograd_bound(2, 2, 3, 16, 36),
    "winograd_f4x3": _winograd_bound(4, 4, 3, 48, 1100),
    "winograd_f5x3": _winograd_bound(5, 5, 3, 96, 5000),
    "winograd_f6x4x3": _winograd_bound(6, 4, 3, 96, 9000),
    "winograd_f2x5": _winograd_bound(2, 2, 5, 48, 600),
    "winograd_f3x5": _winograd_bound(3, 3, 5, 96, 2000),
}

#: Of complex numbers, for each part of the result; three times the channels of what they name.
FAST.update({f"gauss_{name}": three_products(bound) for name, bound in FAST.items()})
del FAST["gauss_separable"], FAST["gauss_bfloat16_gemm"]
FAST["gauss_im2col_gemm"] = three_products(_direct_bound)


def _with_activation(problem: ConvProblem, y: Array, magnitude: Array, bound: Array) -> Expected:
    out = problem.out_dtype
    u_sum, u_out = unit_roundoff(problem.accumulator), unit_roundoff(out)
    if problem.activation is not None:
        activation = ACTIVATIONS[problem.activation]
        value: Array = activation.function(y)
        argument: Array = np.minimum(np.abs(y), 1)
        bound = bound * WIDE.type(activation.lipschitz)
        if problem.activation not in EXACT_ACTIVATIONS:
            bound = bound + 8 * u_sum * np.maximum(np.abs(value), argument)
        y = value
    if out != problem.accumulator:
        bound = u_out * np.abs(y) + (1 + u_out) * bound + float_limits(out).smallest_subnormal
    return Expected(y, bound, magnitude)


def compare(want: Expected, got: Array) -> Verdict:
    """Hold computed values against an `Expected` of the same shape."""
    if not is_float(got.dtype):
        wrong = got != want.y
        return Verdict(not wrong.any(), np.inf if wrong.any() else 0.0, float(wrong.sum()), 0.0)
    with np.errstate(all="ignore"):
        value = got.astype(WIDE)
        same_kind = (np.isnan(want.y) == np.isnan(value)) & (~np.isinf(want.y) | (value == want.y))
        overflowed = _may_overflow(want, value, got.dtype.name)
        judged = np.isfinite(want.y) & ~overflowed
        error = np.where(judged, np.abs(value - want.y), 0)
        error = np.where(np.isnan(error), np.inf, error)
        ratio = np.where(error == 0, 0, error / want.bound)
        scale = want.magnitude * unit_roundoff(accumulator(got.dtype.name))
        units = np.where((error == 0) | (scale == 0), 0, error / scale)
    placed = bool(np.all(same_kind | overflowed))
    # the bound of a NaN is NaN, and its error 0
    ok = placed and bool(np.all((error == 0) | (error <= want.bound)))
    worst = float(ratio.max(initial=0)) if placed else np.inf
    return Verdict(ok, worst, float(error.max(initial=0)), float(units.max(initial=0)))


def _may_overflow(want: Expected, got: Array, dtype: str) -> Array:
    """Where a non-finite result is legal because the sum, or a part of it, leaves the range.

    The positive products sum to (S + y) / 2, the negative ones to (S - y) / 2: infinities need
    their side beyond the accumulator's range, NaN both sides.
    """
    result = float_limits(dtype).max
    accumulated = float_limits(accumulator(dtype)).max / (1 + 2**-8)
    up = (want.y + want.bound > result) | ((want.magnitude + want.y) / 2 > accumulated)
    down = (want.bound - want.y > result) | ((want.magnitude - want.y) / 2 > accumulated)
    legal: Array = ((got == np.inf) & up) | ((got == -np.inf) & down) | (np.isnan(got) & up & down)
    return legal


def check(
    problem: ConvProblem,
    x: Array,
    w: Array,
    bias: Array | None,
    got: Array,
    channels: Iterable[int] | None = None,
    algorithm: str | None = None,
) -> Verdict:
    """Hold a computed result, logical (N, K, P, Q), against the definition and its bound.

    Parameters
    ----------
    problem : ConvProblem
    x, w, bias : ndarray
        Logical (N, C, H, W), (K, C/groups, R, S), (K,).
    got : ndarray
        What a backend computed.
    channels : iterable of int, optional
        Output channels to verify, all pixels of each; default all. One channel costs 1/K of the
        whole.
    algorithm : str, optional
        Name of an algorithm of ``precision="fast"`` with a bound of its own (`FAST`), as `explain`
        reports it; others are strict.
    """
    algorithm = algorithm if algorithm in FAST else None
    if channels is None:
        return compare(expected(problem, x, w, bias, algorithm), got)
    per_group_in, per_group_out = problem.c // problem.groups, problem.k // problem.groups
    verdicts = []
    for group, members in groupby(sorted(set(channels)), key=lambda k: k // per_group_out):
        chosen = list(members)
        part = replace(problem, c=per_group_in, k=len(chosen), groups=1)
        first = group * per_group_in
        want = expected(
            part, x[:, first : first + per_group_in], w[chosen],
            None if bias is None else bias[chosen], algorithm,
        )  # fmt: skip
        verdicts.append(compare(want, got[:, chosen]))
    return Verdict(
        all(v.ok for v in verdicts),
        max((v.ratio for v in verdicts), default=0.0),
        max((v.error for v in verdicts), default=0.0),
        max((v.units for v in verdicts), default=0.0),
    )
