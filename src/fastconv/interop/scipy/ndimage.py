"""Drop-ins for `scipy.ndimage`'s correlations and convolutions, of any number of axes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage as own

import fastconv

from ...geometry import Pair, Shape
from .drop_in import array_of, stands_for
from .rounding import Filter, as_integers

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]

#: What a mode is called in `numpy.pad`.
_BORDERS = {
    "reflect": "symmetric", "grid-mirror": "symmetric", "mirror": "reflect", "nearest": "edge",
    "constant": "constant", "grid-constant": "constant", "wrap": "wrap", "grid-wrap": "wrap",
}  # fmt: skip
_INPUTS, _OUTPUTS = "?bBhHiIlLqQfdFD", "bBhHiIlLqQfdFD"
_OPERATORS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}
EPS = float(np.finfo(np.float64).eps)


class Plan(NamedTuple):
    """How fastconv makes a call: what its shapes and words decide."""

    operator: Any
    options: dict[str, Any]
    #: input, weights and output as the operator takes them; the elements around each axis of input.
    shape: Shape
    kernel: Shape
    pads: tuple[Pair, ...]


class Axis(NamedTuple):
    """One axis of a filter."""

    size: int
    taps: int
    before: int


@lru_cache(maxsize=4096)
def _plan(
    shape: Shape, weights: Shape, mode: str, origins: tuple[int, ...], flip: bool
) -> Plan | str:
    """Plan a filter of as many axes as the input; axes of one tap next to each other are one."""
    if mode not in _BORDERS:
        return "a mode that there is none of"
    if 0 in shape or 0 in weights or not shape:
        return "an empty array"
    axes: list[Axis] = []
    for size, taps, origin in zip(shape, weights, origins, strict=True):
        before = taps // 2 + (-origin - (taps % 2 == 0) if flip else origin)
        if not 0 <= before < taps:
            return "an origin outside of the weights"
        if taps == 1 and axes and axes[-1].taps == 1:
            axes[-1] = Axis(size * axes[-1].size, 1, 0)
        else:
            axes.append(Axis(size, taps, before))
    batched = len(axes) > 2 and axes[0].taps == 1
    filtered = axes[1:] if batched else axes
    if len(filtered) not in _OPERATORS:
        return f"a filter along {len(filtered)} axes"
    pads = tuple((axis.before, axis.taps - 1 - axis.before) for axis in filtered)
    lead = (axes[0].size, 1) if batched else ()
    options = {
        "pad": pads[0] if len(pads) == 1 else pads, "pad_mode": _BORDERS[mode], "flip": flip,
    }  # fmt: skip
    return Plan(
        _OPERATORS[len(filtered)], options, (*lead, *(axis.size for axis in filtered)),
        ((1, 1) if batched else ()) + tuple(axis.taps for axis in filtered), pads,
    )  # fmt: skip


def _with_axes(ndim: int, weights: Any, origin: Any, axes: Any) -> tuple[Shape, Any] | str:
    """Return the weights' shape along every axis of the input, and the origins; SciPy's reading."""
    if axes is None:
        along = tuple(range(ndim))
    else:
        named = (axes,) if isinstance(axes, int) else axes
        if type(named) not in (tuple, list) or not all(type(a) is int for a in named):
            return "axes that are no integers"
        if not all(-ndim <= a < ndim for a in named):
            return "axes that the input has not"
        along = tuple(a % ndim for a in named)
        if len(set(along)) != len(along):
            return "axes named twice"
    if weights.ndim != len(along):
        return "weights of another number of axes"
    origins = (origin,) * len(along) if type(origin) is int else origin
    if type(origins) not in (tuple, list) or not all(type(o) is int for o in origins):
        return "an origin that is no integer"
    if len(origins) != len(along):
        return "another number of origins"
    if len(along) == ndim:
        return weights.shape, tuple(origins)
    sizes, places = iter(weights.shape), dict(zip(along, origins, strict=True))
    shape = tuple(next(sizes) if axis in places else 1 for axis in range(ndim))
    return shape, tuple(places.get(axis, 0) for axis in range(ndim))


def _result_dtype(input: Any, output: Any, is_complex: bool) -> np.dtype[Any] | str:
    """Return the dtype of the output as SciPy reads the argument."""
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


def _compute(
    input: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, flip: bool,
    axes: Any, line: bool,
) -> Any:  # fmt: skip
    """Compute a filter, or say why SciPy has to; `line`: by the rules of correlate1d."""
    input, weights = array_of(input), array_of(weights)
    if input is None or weights is None:
        return "no NumPy array"
    if input.dtype.char not in _INPUTS or not input.dtype.isnative:
        return f"an input of dtype {input.dtype}"
    if weights.dtype.kind not in "biufc" or type(mode) is not str:
        return "weights that are no numbers, or several modes"
    if line:
        if weights.ndim != 1 or type(axes) is not int:
            return "weights of more than one axis, or an axis that is no integer"
        axes = (axes,)
    found = _with_axes(input.ndim, weights, origin, axes)
    if isinstance(found, str):
        return found
    plan = _plan(input.shape, found[0], mode, found[1], flip)
    if isinstance(plan, str):
        return plan
    is_complex = input.dtype.kind == "c" or weights.dtype.kind == "c"
    dtype = _result_dtype(input, output, is_complex)
    if isinstance(dtype, str):
        return dtype
    kernel = _weights(weights, flip, line)
    if isinstance(kernel, str):
        return kernel
    if not flip and kernel.dtype.kind == "c":
        kernel = kernel.conj()
    return _filter(plan, input, kernel.reshape(plan.kernel), output, dtype, cval, line)


def _weights(weights: Any, flip: bool, line: bool) -> Any:
    """Return the weights as ndimage takes them: in double precision, with what it takes for zero.

    correlate leaves out what is not above the epsilon of doubles; correlate1d takes for symmetric
    what differs by no more, and reads one half.
    """
    kernel = weights.astype(np.complex128 if weights.dtype.kind == "c" else np.float64, copy=False)
    if kernel.dtype.kind == "c":
        parts = np.concatenate([kernel.real.ravel(), kernel.imag.ravel()])
        tiny = ((parts != 0) & (np.abs(parts) <= EPS)).any()
        return "complex weights below the epsilon of doubles" if tiny else kernel
    if not line:
        magnitudes = np.abs(kernel)
        return np.where(magnitudes > EPS, kernel, 0.0) if not _clear(magnitudes) else kernel
    if len(kernel) % 2 == 0:
        return kernel
    mirrored, half = kernel[::-1], len(kernel) // 2
    for sign in (1, -1):
        differences = np.abs(kernel - sign * mirrored)
        differences[half] = 0
        if differences.max() <= EPS:
            if differences.any():
                kernel = kernel.copy()
                read = slice(0, half) if not flip else slice(half + 1, None)
                other = slice(half + 1, None) if not flip else slice(0, half)
                kernel[other] = sign * kernel[read][::-1]
            break
    return kernel


def _clear(magnitudes: Any) -> bool:
    """Whether nothing lies between zero and what ndimage takes for it."""
    return bool(((magnitudes > EPS) | (magnitudes == 0)).all())


def _filter(
    plan: Plan, input: Any, kernel: Any, output: Any, dtype: np.dtype[Any], cval: Any, line: bool
) -> Any:
    """Compute in double precision, and write the output."""
    options, image, pads = plan.options, input.reshape(plan.shape), plan.pads
    if options["pad_mode"] == "constant":
        value = _constant(cval, input.dtype.kind == "c")
        if value is None:
            return "a cval that is no number, or a complex one around real input"
        if value != 0:
            image, pads = _bordered(image, pads, value), ((0, 0),) * len(pads)
            options = {"flip": options["flip"]}
    if dtype.kind in "iu":
        options = {**options, "precision": "strict"}
    computed = np.dtype("complex128" if "c" in image.dtype.kind + kernel.dtype.kind else "float64")
    given = type(output) is np.ndarray
    direct = None
    if given and dtype == computed and output.flags.c_contiguous:
        direct = None if np.may_share_memory(output, input) else output.reshape(plan.shape)
    y = plan.operator(image, kernel, out=direct, **options)
    # correlate leaves weights of zero out; correlate1d does not
    if not line and input.dtype.kind in "fc" and not kernel.all() and not _is_finite(y):
        return "an input that is not finite, under weights of zero"
    if dtype.kind in "iu":
        turned = kernel[(slice(None, None, -1 if options["flip"] else 1),) * kernel.ndim]
        border = plan.options["pad_mode"]
        y = as_integers(y, dtype, Filter(image, turned, pads, border, line))
        if isinstance(y, str):
            return y
    y = y.reshape(input.shape)
    if given:
        if direct is None:
            output[...] = y
        return output
    return y if y.dtype == dtype else y.astype(dtype)


def _constant(cval: Any, is_complex: bool) -> Any:
    """Return cval as a number; None for what is none."""
    if isinstance(cval, np.number):
        cval = cval.item()
    if type(cval) in (int, float):
        return float(cval)
    return cval if type(cval) is complex and is_complex else None


def _bordered(image: Any, pads: tuple[Pair, ...], value: Any) -> Any:
    """Copy an image into the middle of a larger one, in double precision."""
    around = ((0, 0),) * (image.ndim - len(pads)) + pads
    shape = [size + sum(pad) for size, pad in zip(image.shape, around, strict=True)]
    padded = np.full(shape, value, "complex128" if image.dtype.kind == "c" else "float64")
    inside = zip(around, image.shape, strict=True)
    padded[tuple(slice(pad[0], pad[0] + size) for pad, size in inside)] = image
    return padded


def _is_finite(y: Any) -> bool:
    """Whether all of y is; a sum that overflows is looked at again."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(abs(y.sum()) < math.inf) or bool(np.isfinite(y).all())


@stands_for(own.correlate, "ndimage.correlate")
def correlate(
    input: Any, weights: Any, output: Any = None, mode: str = "reflect", cval: Any = 0.0,
    origin: Any = 0, *, axes: Any = None,
) -> Any:  # fmt: skip
    """Correlate an array with weights along all its axes, or some: `scipy.ndimage.correlate`.

    Parameters
    ----------
    input, weights, output, mode, cval, origin, axes
        As in `scipy.ndimage.correlate`. Filters along one, two or three axes, or along more that
        reshape to them, are computed by fastconv.

    Returns
    -------
    ndarray
        Of input's shape, of the dtype that SciPy returns. Sums are taken in double precision and
        rounded once, or cut off where the output is of integers, as SciPy does it.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        What SciPy raises: SciPy itself is called with whatever fastconv does not compute alike.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import ndimage
    >>> ndimage.correlate(np.array([[1, 2, 4], [8, 16, 32]]), np.array([[1, 1, 0]]))
    array([[ 2,  3,  6],
           [16, 24, 48]])
    """
    return _compute(input, weights, output, mode, cval, origin, False, axes, False)


@stands_for(own.convolve, "ndimage.convolve")
def convolve(
    input: Any, weights: Any, output: Any = None, mode: str = "reflect", cval: Any = 0.0,
    origin: Any = 0, *, axes: Any = None,
) -> Any:  # fmt: skip
    """Convolve an array with weights along all its axes, or some: `scipy.ndimage.convolve`.

    Parameters, returns and raises as `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import ndimage
    >>> ndimage.convolve(np.array([[1, 2, 4], [8, 16, 32]]), np.array([[1, 1, 0]]))
    array([[ 3,  6,  8],
           [24, 48, 64]])
    """
    return _compute(input, weights, output, mode, cval, origin, True, axes, False)


@stands_for(own.correlate1d, "ndimage.correlate1d")
def correlate1d(
    input: Any, weights: Any, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: Any = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """Correlate an array with weights along one axis: `scipy.ndimage.correlate1d`.

    Parameters, returns and raises as `correlate`; nothing is transposed for any `axis`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import ndimage
    >>> ndimage.correlate1d(np.array([[1, 2], [4, 8]]), np.array([0, 1, 2]), axis=0)
    array([[ 9, 18],
           [12, 24]])
    """
    return _compute(input, weights, output, mode, cval, origin, False, axis, True)


@stands_for(own.convolve1d, "ndimage.convolve1d")
def convolve1d(
    input: Any, weights: Any, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: Any = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """Convolve an array with weights along one axis: `scipy.ndimage.convolve1d`.

    Parameters, returns and raises as `correlate1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import ndimage
    >>> ndimage.convolve1d(np.array([1, 2, 4, 8]), np.array([0, 1, 2]))
    array([ 3,  4,  8, 16])
    """
    return _compute(input, weights, output, mode, cval, origin, True, axis, True)
