"""Doubles cut off to integers, to the bit that `scipy.ndimage` writes.

Cutting off jumps: a sum that rounds to 89.99999999999999 in one order is 90 in another. Sums that
are exact in every order need no thought. Of the others, those that lie next to an integer are added
up again in SciPy's order, multiplications and additions rounded apart; both sums are within the
same bound of the exact one, so that no other sum can be cut off differently.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import correlate, correlate1d

from ...borders import source_index
from ...geometry import Pair

#: Sums of integers below it are exact in double precision, in whatever order.
EXACT = 2.0**53
#: Share of the sums that are added up again at most: SciPy adds up all of them in the time that
#: more would take here, element by element.
MOST_AGAIN = 1 / 32


class Filter(NamedTuple):
    """What was summed: correlated weights over an image with a border, batch axes first."""

    image: Any
    weights: Any
    #: Elements around the last axes of the image, and the border they are of.
    pads: tuple[Pair, ...]
    border: str
    #: In the order of correlate1d rather than of correlate.
    line: bool


def bound(array: Any) -> float:
    """Bound magnitudes: of few bits by their dtype, of others by the largest one."""
    if array.dtype.kind == "b" or (array.dtype.kind in "iu" and array.dtype.itemsize <= 2):
        return float(2 ** (8 * array.dtype.itemsize - (array.dtype.kind == "i")))
    low, high = float(array.min()), float(array.max())
    return max(-low, high)


def as_integers(y: Any, dtype: np.dtype[Any], summed: Filter) -> Any:
    """Cut off sums, or say why SciPy has to compute them.

    SciPy converts as C does: what an integer of 32 or 64 bits holds, modulo 2**bits of the dtype.
    """
    image, weights = summed.image, summed.weights
    largest = bound(image) * float(np.abs(weights).sum())
    limit = _limit(dtype)
    if not largest < limit:
        low, high = float(y.min()), float(y.max())
        if not (-limit <= low and high < limit):
            return "sums beyond the integers that C converts"
    wide = np.dtype("int32" if largest < 2.0**31 else "int64")
    integers = image.dtype.kind in "biu" and bool((weights == np.rint(weights)).all())
    if integers and largest < EXACT:
        # in one step where nothing wraps
        direct = dtype.kind == "i" and largest < 2.0 ** (8 * dtype.itemsize - 1)
        return y.astype(dtype) if direct else y.astype(wide).astype(dtype, copy=False)
    if not _rounds_apart(summed.line):
        return "integers of sums that round, where SciPy was compiled to fuse them"
    # twice the rounding of n products and their sum: SciPy's lie on both sides of it as well
    apart = 2.02 * (weights.size + 2) * 2.0**-53 * largest
    if not apart < 0.25:
        return "integers of sums that round to no fraction"
    result = np.empty(y.shape, dtype)
    doubtful = _cut_off(y.reshape(-1), apart, wide, result.reshape(-1))
    if doubtful is None:
        return "integers of sums that round, many of them next to an integer"
    if len(doubtful):
        where = np.unravel_index(doubtful, y.shape)
        sums = (_along_a_line if summed.line else _in_order)(summed, where)
        result[where] = sums.astype(wide).astype(dtype)
    return result


def _limit(dtype: np.dtype[Any]) -> float:
    """Magnitudes below it are converted alike by C and here."""
    bits = 8 * dtype.itemsize
    return min(2.0**31 if bits < 32 else 2.0 ** (bits - (dtype.kind == "i")), 2.0**62)


def _cut_off(y: Any, apart: float, wide: np.dtype[Any], result: Any) -> Any:
    """Cut off sums into `result`; return the places of those that `apart` cuts off differently.

    None, as soon as they are too many.
    """
    size = min(len(y), 1 << 13)  # which the first caches hold, with what is made of them
    moved = np.empty(size)
    first, second = np.empty(size, wide), np.empty(size, wide)
    doubtful, count = [], 0
    for start in range(0, len(y), size):
        part = y[start : start + size]
        n = len(part)
        np.add(part, apart, out=moved[:n])
        first[:n] = moved[:n]
        np.subtract(part, apart, out=moved[:n])
        second[:n] = moved[:n]
        result[start : start + n] = first[:n]
        differ = np.flatnonzero(first[:n] != second[:n])
        if len(differ):
            doubtful.append(differ + start)
            count += len(differ)
            if count > MOST_AGAIN * max(start + n, len(y) // 8):
                return None
    return np.concatenate(doubtful) if doubtful else np.empty(0, np.int64)


def _in_order(summed: Filter, where: tuple[Any, ...]) -> Any:
    """Sums as correlate adds them up: weights that are not zero, row by row."""
    total: Any = 0.0
    for offset in zip(*np.nonzero(summed.weights), strict=True):
        total = total + _values(summed, where, offset) * float(summed.weights[offset])
    return total


def _along_a_line(summed: Filter, where: tuple[Any, ...]) -> Any:
    """Sums as correlate1d adds them up: the middle first, and by pairs where that is possible."""
    weights = summed.weights.ravel()
    taps, half = len(weights), len(weights) // 2
    line = summed.weights.shape.index(taps)

    def value(tap: int) -> Any:
        offset = [0] * summed.weights.ndim
        offset[line] = tap
        return _values(summed, where, tuple(offset))

    sign = next((s for s in (1, -1) if taps % 2 and _is_mirrored(weights, s)), 0)
    first = half if sign else taps - 1
    total = value(first) * float(weights[first])
    for tap in range(half if sign else taps - 1):
        pair = value(tap) + sign * value(taps - 1 - tap) if sign else value(tap)
        total = total + pair * float(weights[tap])
    return total


def _is_mirrored(weights: Any, sign: int) -> bool:
    half = len(weights) // 2
    return bool((weights[:half] == sign * weights[:half:-1]).all())


def _values(summed: Filter, where: tuple[Any, ...], offset: tuple[Any, ...]) -> Any:
    """Elements of the image that one tap multiplies, as doubles."""
    image, batch = summed.image, summed.image.ndim - len(summed.pads)
    places: list[Any] = list(where[:batch])
    outside: Any = False
    taps = offset[batch:]
    for axis, (index, tap, pad) in enumerate(
        zip(where[batch:], taps, summed.pads, strict=True), start=batch
    ):
        place = source_index(index + (int(tap) - pad[0]), image.shape[axis], summed.border)
        outside = outside | (place < 0)
        places.append(place)
    values = image[tuple(places)].astype(np.float64)
    return np.where(outside, 0.0, values) if summed.border == "constant" else values


@cache
def _rounds_apart(line: bool) -> bool:
    """Whether SciPy rounds products before it adds them: whether it was built not to fuse both."""
    near = 1 + 2.0**-30  # near * near = 1 + 2**-29 + 2**-60, of which the last is rounded away
    sum_of = correlate1d if line else correlate
    x, w = [1.0, near], [-(1 + 2.0**-29), near]
    if line:
        x, w = x[::-1], w[::-1]  # which starts at the end
    return bool(sum_of(np.array(x), np.array(w))[1] == 0)
