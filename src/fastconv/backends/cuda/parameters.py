"""The one argument of every kernel: `PARAMETERS` mirrors ``ConvParameters`` of parameters.cuh."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...problem import ConvProblem

Strides = tuple[int, int, int, int]

DIVISOR = np.dtype([("divisor", "u4"), ("multiplier", "u4"), ("shift", "u4")], align=True)

_SIZES = (
    "n", "groups", "c", "h", "w", "k", "r", "s", "p", "q",
    "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left",
    "x_stride_n", "x_stride_c", "x_stride_h", "x_stride_w",
    "w_stride_k", "w_stride_c", "w_stride_r", "w_stride_s",
    "y_stride_n", "y_stride_k", "y_stride_p", "y_stride_q",
)  # fmt: skip

PARAMETERS = np.dtype(
    [(name, "u8") for name in ("x_data", "w_data", "bias_data", "y_data")]
    + [(name, "i8") for name in _SIZES]
    + [("inner", DIVISOR), ("outer", DIVISOR)],
    align=True,
)


class ItemStrides(NamedTuple):
    """Strides in items, in logical order: x (N,C,H,W), w (K,C/groups,R,S), y (N,K,P,Q)."""

    x: Strides
    w: Strides
    y: Strides


def divisor(value: int) -> tuple[int, int, int]:
    """Divisor, multiplier and shift with which a kernel divides 0 <= n < 2**31 by `value`.

    With ``2**shift >= value`` and ``multiplier = 2**32 * (2**shift - value) // value + 1``, the
    quotient is ``(n * multiplier // 2**32 + n) >> shift``.
    """
    if not 1 <= value < 2**31:
        raise ValueError(f"divides by 1 to 2**31 - 1, not by {value}")
    shift = (value - 1).bit_length()
    return value, (((1 << shift) - value) << 32) // value + 1, shift


def fill(problem: ConvProblem, strides: ItemStrides) -> np.ndarray[Any, Any]:
    """Parameters of `problem`, complete but for the four pointers: a structured scalar array."""
    parameters = np.zeros((), PARAMETERS)
    channels = problem.c // problem.groups
    numbers = (
        problem.n, problem.groups, channels, problem.h, problem.w, problem.k // problem.groups,
        problem.r, problem.s, problem.p, problem.q, *problem.stride, *problem.dilation,
        problem.pad[0][0], problem.pad[1][0], *strides.x, *strides.w, *strides.y,
    )  # fmt: skip
    for name, number in zip(_SIZES, numbers, strict=True):
        parameters[name] = number
    last = (channels, problem.s) if problem.layout == "NHWC" else (problem.s, problem.r)
    if max(last) < 2**31:
        parameters["inner"], parameters["outer"] = divisor(last[0]), divisor(last[1])
    return parameters
