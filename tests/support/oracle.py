"""Convolution computed without a line of fastconv: numpy.pad, loops, and exact fractions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .cases import Arrays, Case, logical_image, logical_kernel

Array = np.ndarray[Any, Any]


def padded_loops(case: Case, arrays: Arrays, number: Callable[[Any], Any]) -> Array:
    """Sum over c, r, s in seven Python loops, every scalar turned into a `number` first.

    With ``number=Fraction`` or ``number=int`` the result is exact. Returns an object array
    (N, K, P, Q), bias added, no activation.
    """
    problem = case.problem
    x = np.pad(
        logical_image(arrays.x, case.layout), ((0, 0), (0, 0), *problem.pad), mode=case.pad_mode
    )
    w = logical_kernel(arrays.w, case.flip)
    (sh, sw), (dh, dw) = problem.stride, problem.dilation
    k_total, cg, r_total, s_total = w.shape
    k_per_group = k_total // problem.groups
    p_total = (x.shape[2] - (r_total - 1) * dh - 1) // sh + 1
    q_total = (x.shape[3] - (s_total - 1) * dw - 1) // sw + 1
    y = np.empty((x.shape[0], k_total, p_total, q_total), dtype=object)
    for n, k, p, q in np.ndindex(*y.shape):
        first = k // k_per_group * cg
        total = number(0) if arrays.bias is None else number(arrays.bias[k].item())
        for c, r, s in itertools.product(range(cg), range(r_total), range(s_total)):
            pixel = x[n, first + c, p * sh + r * dh, q * sw + s * dw].item()
            total += number(pixel) * number(w[k, c, r, s].item())
        y[n, k, p, q] = total
    return y


def exact(case: Case, arrays: Arrays) -> Array:
    """Fractions: not one rounding."""
    return padded_loops(case, arrays, Fraction)


def windowed(case: Case, arrays: Arrays) -> Array:
    """Sum all n products of the padded image in longdouble, by NumPy: non-finite values included.

    Returns longdouble (N, K, P, Q), bias added, no activation.
    """
    problem = case.problem
    wide = np.longdouble
    x = np.pad(
        logical_image(arrays.x, case.layout).astype(wide),
        ((0, 0), (0, 0), *problem.pad),
        mode=case.pad_mode,
    )
    w = logical_kernel(arrays.w, case.flip).astype(wide)
    (sh, sw), (dh, dw) = problem.stride, problem.dilation
    p_total = (x.shape[2] - (problem.r - 1) * dh - 1) // sh + 1
    q_total = (x.shape[3] - (problem.s - 1) * dw - 1) // sw + 1
    y = np.zeros((problem.n, problem.k, p_total, q_total), wide)
    cg, kg = problem.c // problem.groups, problem.k // problem.groups
    with np.errstate(invalid="ignore"):
        for k, c in itertools.product(range(problem.k), range(cg)):
            channel = x[:, k // kg * cg + c]
            for r, s in itertools.product(range(problem.r), range(problem.s)):
                rows = slice(r * dh, r * dh + (p_total - 1) * sh + 1, sh)
                columns = slice(s * dw, s * dw + (q_total - 1) * sw + 1, sw)
                y[:, k] += channel[:, rows, columns] * w[k, c, r, s]
        if arrays.bias is not None:
            y += arrays.bias.astype(wide)[:, None, None]
    return y
