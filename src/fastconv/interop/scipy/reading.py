"""The arguments of `scipy.ndimage`'s filters, as SciPy reads them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

import fastconv

from ...geometry import Pair, Shape
from ...keys import is_plain

#: What a mode is called in `numpy.pad`.
BORDERS = {
    "reflect": "symmetric", "grid-mirror": "symmetric", "mirror": "reflect", "nearest": "edge",
    "constant": "constant", "grid-constant": "constant", "wrap": "wrap", "grid-wrap": "wrap",
}  # fmt: skip
INPUTS, _OUTPUTS = "?bBhHiIlLqQfdFD", "bBhHiIlLqQfdFD"
_OPERATORS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}
#: ndimage takes for zero, or for equal, what is not above it.
EPS = float(np.finfo(np.float64).eps)
#: Bytes of weights that are looked at once rather than in each call.
_MOST_KEPT = 1 << 14


class Plan(NamedTuple):
    """How fastconv makes a call: what its shapes and words decide."""

    operator: Any
    options: dict[str, Any]
    #: Input, output and weights as the operator takes them; the elements around each filtered axis.
    shape: Shape
    kernel: Shape
    pads: tuple[Pair, ...]


class Axis(NamedTuple):
    """One axis of a filter."""

    size: int
    taps: int
    before: int


def plan_of(shape: Shape, weights: Shape, mode: Any, origin: Any, axes: Any, flip: bool) -> Any:
    """Plan a filter, or say why there is no plan."""
    if type(origin) is list:
        origin = tuple(origin)
    if type(axes) is list:
        axes = tuple(axes)
    if not is_plain(mode, origin) or not (axes is None or is_plain(axes)):
        return "a mode, origin or axes that are not one word and integers"
    return _plan(shape, weights, mode, origin, axes, flip)


@lru_cache(maxsize=4096)
def _plan(
    shape: Shape, weights: Shape, mode: str, origin: Any, axes: Any, flip: bool
) -> Plan | str:
    """Plan a filter; neighbouring axes that it leaves alone are one."""
    if mode not in BORDERS:
        return "a mode that there is none of"
    if 0 in shape or 0 in weights or not shape:
        return "an empty array"
    found = _along_all(len(shape), weights, origin, axes)
    if isinstance(found, str):
        return found
    along: list[Axis] = []
    for size, taps, start in zip(shape, *found, strict=True):
        before = taps // 2 + (-start - (taps % 2 == 0) if flip else start)
        if not 0 <= before < taps:
            return "an origin outside of the weights"
        if taps == 1 and along and along[-1].taps == 1:
            along[-1] = Axis(size * along[-1].size, 1, 0)
        else:
            along.append(Axis(size, taps, before))
    batched = len(along) > 2 and along[0].taps == 1
    filtered = along[1:] if batched else along
    if len(filtered) not in _OPERATORS:
        return f"a filter along {len(filtered)} axes"
    pads = tuple((axis.before, axis.taps - 1 - axis.before) for axis in filtered)
    options = {
        "pad": pads[0] if len(pads) == 1 else pads, "pad_mode": BORDERS[mode], "flip": flip,
    }  # fmt: skip
    return Plan(
        _OPERATORS[len(filtered)], options,
        ((along[0].size, 1) if batched else ()) + tuple(axis.size for axis in filtered),
        ((1, 1) if batched else ()) + tuple(axis.taps for axis in filtered), pads,
    )  # fmt: skip


def _along_all(ndim: int, weights: Shape, origin: Any, axes: Any) -> tuple[Shape, Shape] | str:
    """Return the taps and the origin along every axis of the input.

    Weights lie along the axes in ascending order, and origins in the order in which these are
    named, unless all of them are.
    """
    named = range(ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    if not all(type(axis) is int and -ndim <= axis < ndim for axis in named):
        return "axes that the input has not"
    along = tuple(axis % ndim for axis in named)
    if len(set(along)) != len(along) or len(weights) != len(along):
        return "axes named twice, or another number of axes than the weights have"
    origins = (origin,) * len(along) if type(origin) is int else origin
    if type(origins) is not tuple or len(origins) != len(along):
        return "another number of origins than of axes"
    if not all(type(start) is int for start in origins):
        return "an origin that is no integer"
    if len(along) == ndim:
        return weights, origins
    taps, starts = iter(weights), dict(zip(along, origins, strict=True))
    return (
        tuple(next(taps) if axis in starts else 1 for axis in range(ndim)),
        tuple(starts.get(axis, 0) for axis in range(ndim)),
    )


def result_dtype(input: Any, output: Any, is_complex: bool) -> np.dtype[Any] | str:
    """Return the dtype of the output, or say why SciPy has to make it."""
    dtype: np.dtype[Any]
    if output is None:
        dtype = np.promote_types(input.dtype, np.complex64) if is_complex else input.dtype
        return f"an output of dtype {dtype}" if dtype.char not in _OUTPUTS else dtype
    if type(output) is np.ndarray:
        if output.shape != input.shape or not output.flags.writeable:
            return "an output of another shape, or one that is read-only"
        dtype = output.dtype
    elif isinstance(output, str | np.dtype | type):
        try:
            dtype = np.dtype(output)
        except TypeError:
            return "an output that is no dtype"
    else:
        return "an output that is no array"
    if dtype.char not in _OUTPUTS or not dtype.isnative or is_complex != (dtype.kind == "c"):
        return f"an output of dtype {dtype}"
    return dtype


class Weights(NamedTuple):
    """Weights in double precision, with what ndimage takes for zero or equal made so."""

    array: Any
    zeros: bool


def read_weights(weights: Any, flip: bool, line: bool) -> Weights | str:
    """Read weights; those of few bytes are kept, by their bytes, for the next call."""
    if weights.dtype.kind not in "biufc":
        return "weights that are no numbers"
    if weights.nbytes > _MOST_KEPT:
        return _read(weights, flip, line)
    return _read_bytes(weights.tobytes(), weights.dtype, weights.shape, flip, line)


@lru_cache(maxsize=512)
def _read_bytes(
    data: bytes, dtype: np.dtype[Any], shape: Shape, flip: bool, line: bool
) -> Weights | str:
    return _read(np.frombuffer(data, dtype).reshape(shape), flip, line)


def _read(weights: Any, flip: bool, line: bool) -> Weights | str:
    if weights.dtype.kind == "c":
        array = weights.astype(np.complex128, copy=False)
        parts = np.concatenate([array.real.ravel(), array.imag.ravel()])
        if ((parts != 0) & (np.abs(parts) <= EPS)).any():
            return "complex weights below the epsilon of doubles"
        return Weights(array if flip else array.conj(), not parts.all())
    array = weights.astype(np.float64, copy=False)
    array = _mirrored(array, flip) if line else np.where(np.abs(array) <= EPS, 0.0, array)
    return Weights(array, not array.all())


def _mirrored(line: Any, flip: bool) -> Any:
    """Return weights that correlate1d takes for symmetric, or the negative of it, as it reads them.

    It reads the first half, of weights that convolve1d has turned.
    """
    half = len(line) // 2
    if len(line) % 2 == 0:
        return line
    first, second = line[:half], line[:half:-1]
    for sign in (1, -1):
        differences = np.abs(first - sign * second)
        if (differences <= EPS).all():
            if not differences.any():
                return line
            read = second if flip else first
            ends = (sign * read, read[::-1]) if flip else (read, sign * read[::-1])
            return np.concatenate([ends[0], line[half : half + 1], ends[1]])
    return line
