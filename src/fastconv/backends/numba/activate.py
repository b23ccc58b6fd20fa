"""Activations on a row of sums; the definitions are in `fastconv.activations`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba

from ...activations import ACTIVATIONS, LEAKY_SLOPE
from .intrinsics import get, put
from .jit import jit, specialise

_RELU, _RELU6, _LEAKY, _SIGMOID, _TANH, _SILU, _GELU, _HARDSWISH = (
    ACTIVATIONS[name].code
    for name in ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hardswish")
)
_HALF_ROOT = math.sqrt(0.5)


@jit
def smooth(v: float, code: int) -> float:
    """Activations made of exp, tanh and erfc, in double precision whatever the sum is in."""
    if code == _TANH:
        return math.tanh(v)
    if v == -math.inf:
        return 0.0
    if code == _GELU:
        return v * (0.5 * math.erfc(-v * _HALF_ROOT))
    e = math.exp(-abs(v))  # never overflows
    sigmoid = 1.0 / (1.0 + e) if v >= 0 else e / (1.0 + e)
    return v * sigmoid if code == _SILU else sigmoid


@jit
def rectify(scratch: Any, at: int, count: int, code: int) -> None:
    """relu and relu6, which integers have too; NaN stays NaN."""
    zero, six = scratch.dtype.type(0), scratch.dtype.type(6)
    for i in range(at, at + count):
        v = get(scratch, i)
        v = zero if v < zero else v
        put(scratch, i, six if v > six and code == _RELU6 else v)


def activate(scratch: Any, at: int, count: int, code: int) -> None:
    """Inside kernels: apply activation `code` to `count` sums from `at`."""
    raise NotImplementedError


@specialise(activate)
def _activate(scratch: Any, at: Any, count: Any, code: Any) -> Callable[..., None]:
    if isinstance(scratch.dtype, numba.types.Integer):
        return lambda scratch, at, count, code: rectify(scratch, at, count, code)
    kind = scratch.dtype
    zero, slope, three, six = kind(0), kind(LEAKY_SLOPE), kind(3), kind(6)

    def floating(scratch, at, count, code):  # type: ignore[no-untyped-def]
        if code in (_RELU, _RELU6):
            rectify(scratch, at, count, code)
        elif code == _LEAKY:
            for i in range(at, at + count):
                v = get(scratch, i)
                put(scratch, i, v * slope if v < zero else v)
        elif code == _HARDSWISH:
            for i in range(at, at + count):
                v = get(scratch, i)
                clipped = min(max(v + three, zero), six) / six
                put(scratch, i, zero if v == -math.inf else v * clipped)
        else:
            for i in range(at, at + count):
                put(scratch, i, smooth(get(scratch, i), code))

    return floating
