"""float16 and bfloat16 in integer registers: Numba has no CPU arithmetic of two bytes.

All conversions are exact functions of the bits, free of table look-ups and calls, so that the
loops around them vectorise: subnormals, infinities and NaN are what IEEE 754 says they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .intrinsics import bits_of, float_of
from .jit import jit

_LARGEST_EXPONENT = np.uint32(0x1F << 23)  # a half's exponent field of ones, moved into a float32
_REBIAS = np.uint32((127 - 15) << 23)
_IMPLICIT_ONE = np.uint32(1 << 23)
_SMALLEST_NORMAL_HALF = np.float32(2.0**-14)


@jit
def half_to_single(half: Any) -> Any:
    """Value of a half, given as uint16, as float32: always exact."""
    magnitude = np.uint32(np.uint32(half & 0x7FFF) << 13)
    exponent = np.uint32(magnitude & _LARGEST_EXPONENT)
    rebased = np.uint32(magnitude + _REBIAS)
    # a subnormal gets an implicit one that it lacks, and loses it again in an exact subtraction
    subnormal = bits_of(float_of(np.uint32(rebased + _IMPLICIT_ONE)) - _SMALLEST_NORMAL_HALF)
    special = np.uint32(rebased + _REBIAS)
    finite = subnormal if exponent == 0 else rebased
    bits = special if exponent == _LARGEST_EXPONENT else finite
    return float_of(np.uint32(bits | (np.uint32(half & 0x8000) << 16)))


@jit
def single_to_half(value: Any) -> Any:
    """Bits of the half nearest to a float32, ties to even; overflow gives infinity."""
    bits = bits_of(value)
    sign = np.uint32(bits & 0x80000000)
    magnitude = np.uint32(bits ^ sign)
    # adding 0.5 moves the last bit of a half subnormal to the last bit of the float32, which
    # rounds there, once, as IEEE 754 addition does
    subnormal = np.uint32(bits_of(float_of(magnitude) + np.float32(0.5)) - 0x3F000000)
    # just under half a unit, plus the last bit kept: ties go to even, carries reach the exponent
    tie = np.uint32((magnitude >> 13) & 1)
    normal = np.uint32(np.uint32(magnitude - _REBIAS + 0xFFF + tie) >> 13)
    rounded = subnormal if magnitude < 0x38800000 else normal  # below 2**-14
    special = np.uint32(0x7E00 if magnitude > 0x7F800000 else 0x7C00)
    result = special if magnitude >= 0x47800000 else rounded  # from 2**16
    return np.uint16(result | (sign >> 16))


@jit
def bfloat_to_single(half: Any) -> Any:
    """Value of a bfloat16, given as int16, as float32: its upper half."""
    return float_of(np.uint32(np.uint32(half & 0xFFFF) << 16))


@jit
def single_to_bfloat(value: Any) -> Any:
    """Bits of the bfloat16 nearest to a float32, ties to even; NaN stays NaN."""
    bits = bits_of(value)
    tie = np.uint32((bits >> 16) & 1)
    rounded = np.uint32(np.uint32(bits + 0x7FFF + tie) >> 16)
    quiet = np.uint32((bits >> 16) | 0x40)
    return np.int16(quiet if np.uint32(bits & 0x7FFFFFFF) > 0x7F800000 else rounded)
