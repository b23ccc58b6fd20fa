"""Drop-ins for `scipy.ndimage`'s correlations and convolutions, of any number of axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.ndimage as own

from ...geometry import Pair
from .drop_in import array_of, stands_for
from .reading import INPUTS, Plan, Weights, plan_of, read_weights, result_dtype
from .rounding import Filter, as_integers

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]


def _compute(
    input: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, flip: bool,
    axes: Any, line: bool,
) -> Any:  # fmt: skip
    """Compute a filter, or say why SciPy has to; `line`: by the rules of correlate1d."""
    input, weights = array_of(input), array_of(weights)
    if input is None or weights is None:
        return "no NumPy array"
    if input.dtype.char not in INPUTS or not input.dtype.isnative:
        return f"an input of dtype {input.dtype}"
    if line and (weights.ndim != 1 or not isinstance(axes, int)):
        return "weights of more than one axis, or an axis that is no integer"
    plan = plan_of(input.shape, weights.shape, mode, origin, axes, flip)
    if isinstance(plan, str):
        return plan
    dtype = result_dtype(input, output, input.dtype.kind == "c" or weights.dtype.kind == "c")
    if isinstance(dtype, str):
        return dtype
    read = read_weights(weights, flip, line)
    if isinstance(read, str):
        return read
    return _filter(plan, input, read, output, dtype, cval, line)


def _filter(
    plan: Plan, input: Any, weights: Weights, output: Any, dtype: np.dtype[Any], cval: Any,
    line: bool,
) -> Any:  # fmt: skip
    """Compute in double precision, and write the output."""
    kernel = weights.array.reshape(plan.kernel)
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
    if weights.zeros and not line and input.dtype.kind in "fc" and not _is_finite(y):
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
