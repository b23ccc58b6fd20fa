"""Drop-ins for `scipy.signal`'s convolutions and correlations."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.signal as own

import fastconv

from ...geometry import Pair, Shape
from ...operators.filters import BOUNDARIES, filled, pad_of
from .drop_in import array_of, stands_for
from .rounding import EXACT, bound

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d"]

#: dtypes that both libraries add up alike, by NumPy's letters.
_KINDS = {"?": "b", **dict.fromkeys("bBhHiIlLqQ", "i"), **dict.fromkeys("fdFD", "f")}
_OPERATORS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}
_NO_SUCH_WORD = "a mode, boundary or method that there is none of"


class Plan(NamedTuple):
    """How fastconv makes a call: what its shapes, dtypes and words decide, not the values."""

    operator: Any
    options: dict[str, Any]
    #: Elements around the image.
    pads: tuple[Pair, ...]
    result: np.dtype[Any]
    #: in2 is the image, in1 the kernel.
    swap: bool
    #: Zeros lie around an image of floats: an infinite kernel makes NaN of them.
    zeros: bool
    #: Sums of products take less time than transforms.
    direct: bool
    #: Integers, which are added up as floats: "always" exactly, or where their "values" allow.
    exact: str = ""


@lru_cache(maxsize=4096)
def _plan(
    first: Shape, first_dtype: np.dtype[Any], second: Shape, second_dtype: np.dtype[Any],
    mode: str, boundary: str, flip: bool, planar: bool, valued: bool,
) -> Plan | str:  # fmt: skip
    """Plan a call, or say why there is no plan.

    `planar`: of convolve2d or correlate2d; `valued`: with a border that is copied around.
    """
    kinds = {_KINDS.get(d.char) if d.isnative else None for d in (first_dtype, second_dtype)}
    if None in kinds or kinds == {"b"}:
        return f"dtypes {first_dtype} and {second_dtype}"
    if len(first) != len(second) or len(first) not in _OPERATORS:
        return f"arrays of {len(first)} and {len(second)} axes"
    if mode not in ("full", "same", "valid") or boundary not in BOUNDARIES:
        return _NO_SUCH_WORD
    if 0 in first or 0 in second:
        return "an empty array"
    fits = all(a >= b for a, b in zip(first, second, strict=True))
    if mode == "valid" and not fits and any(a > b for a, b in zip(first, second, strict=True)):
        return "mode='valid' of two arrays of which neither is the larger one"
    border = "" if mode == "valid" or valued else BOUNDARIES[boundary]
    smaller = math.prod(first) < math.prod(second)  # SciPy exchanges them as well
    swap = not fits if mode == "valid" else mode == "full" and smaller and not planar
    image, kernel = (second, first) if swap else (first, second)
    # correlate puts the centre of an even kernel where convolve has it; correlate2d does not
    pads = tuple(pad_of(taps, mode, flip or not planar) for taps in kernel)
    result = np.result_type(first_dtype, second_dtype)
    options: dict[str, Any] = {"flip": flip or swap}
    if border:
        options["pad"] = pads[0] if len(pads) == 1 else pads
    if border not in ("", "constant"):
        options["pad_mode"] = border
    exact = ""
    if "f" not in kinds:
        options["dtype"] = np.dtype("float64")
        if result.kind != "f":  # that of int64 and uint64 is
            most = min(math.prod(first), math.prod(second))
            largest = most * 2.0 ** (_bits(first_dtype) + _bits(second_dtype))
            exact = "always" if largest < EXACT else "values"
            options.update(dtype=np.dtype("float32" if largest < 2.0**24 else "float64"))
            options["precision"] = "strict"
    zeros = border == "constant" and result.kind in "fc"
    direct = _direct_is_faster(image, kernel, mode)
    return Plan(_OPERATORS[len(first)], options, pads, result, swap, zeros, direct, exact)


def _bits(dtype: np.dtype[Any]) -> int:
    """Magnitudes of integers of that dtype are at most 2**bits."""
    return 0 if dtype.kind == "b" else 8 * dtype.itemsize - (dtype.kind == "i")


def _direct_is_faster(image: Shape, kernel: Shape, mode: str) -> bool:
    """Whether to sum products where the caller leaves the method open: by the shapes alone.

    Three transforms of N elements take SciPy some 40 us and 0.5 ns * N * ln N in float32. Products
    are counted as if 50 of them took a nanosecond: a quarter of what AVX-512 does, more than any
    processor without such vectors, whose transforms are slower as well.
    """
    whole = [n + taps - 1 for n, taps in zip(image, kernel, strict=True)]
    results = {"full": whole, "same": image}.get(mode) or [
        n - taps + 1 for n, taps in zip(image, kernel, strict=True)
    ]
    products = math.prod(results) * math.prod(kernel)
    transforms = math.prod(whole) * math.log(math.prod(whole))
    return products <= 2e6 + 25 * transforms


def _plan_of(
    in1: Any, in2: Any, mode: Any, boundary: Any, flip: bool, planar: bool, valued: bool = False
) -> Plan | str:
    if in1 is None or in2 is None:
        return "no NumPy array"
    if type(mode) is not str or type(boundary) is not str:
        return _NO_SUCH_WORD
    first, second = in1.dtype, in2.dtype
    return _plan(in1.shape, first, in2.shape, second, mode, boundary, flip, planar, valued)


def _conjugate(array: Any) -> Any:
    return array.conj() if array.dtype.kind == "c" else array


def _sums(plan: Plan, image: Any, kernel: Any) -> Any:
    """Compute a call, or say why SciPy has to."""
    if plan.exact == "values":
        most = min(image.size, kernel.size)
        if most * bound(image) * bound(kernel) >= EXACT:
            return "integers whose sums may pass 2**53"
    y = plan.operator(image, kernel, **plan.options)
    if plan.exact:
        return y.astype(np.int64).astype(plan.result, copy=False)
    # every tap has its part in a corner, and an infinite one leaves no finite sum there
    if plan.zeros and not abs(y.item(0)) < math.inf and not np.isfinite(kernel).all():
        return "a kernel that is not finite"
    return y if y.dtype == plan.result else y.astype(plan.result)


def _moved(plan: Plan, in1: Any, in2: Any, flip: bool, conjugate_first: bool = False) -> Any:
    """Convolve or correlate two arrays; a correlation whose operands are swapped turns the image.

    `conjugate_first`: of swapped ones, the other is conjugated.
    """
    if flip:
        return _sums(plan, *((in2, in1) if plan.swap else (in1, in2)))
    if not plan.swap:
        return _sums(plan, in1, _conjugate(in2))
    turned = in2[(slice(None, None, -1),) * in2.ndim]
    if conjugate_first:
        return _sums(plan, turned, _conjugate(in1))
    return _sums(plan, _conjugate(turned), in1)


def _planar(in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any, flip: bool) -> Any:
    """Compute convolve2d or correlate2d."""
    in1, in2 = array_of(in1), array_of(in2)
    valued = not (type(fillvalue) is int and fillvalue == 0)
    plan = _plan_of(in1, in2, mode, boundary, flip, True)
    if isinstance(plan, str):
        return plan
    if plan.operator is not fastconv.conv2d:
        return f"arrays of {in1.ndim} and {in2.ndim} axes"
    if valued:
        value = _fill_value(fillvalue, plan.result)
        if value is None:
            return "a fillvalue that the result's dtype does not hold"
        if value != 0 and mode != "valid" and BOUNDARIES[boundary] == "constant":
            plan = _plan_of(in1, in2, mode, boundary, flip, True, valued)
            assert isinstance(plan, Plan)
            in1 = filled(in1, plan.pads, value, plan.result)
    # SciPy's correlate2d conjugates in1 where it has exchanged the two, with mode="valid"
    return _moved(plan, in1, in2, flip, conjugate_first=mode == "valid")


def _fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a number that the result's dtype holds; None for any other."""
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if type(value) not in (bool, int, float):
        return None
    if dtype.kind not in "iu":
        return float(value)
    limits = np.iinfo(dtype)
    return int(value) if limits.min <= value <= limits.max and value == int(value) else None


def _of_any_rank(in1: Any, in2: Any, mode: Any, method: Any, flip: bool) -> Any:
    """Compute convolve or correlate."""
    in1, in2 = array_of(in1), array_of(in2)
    if method not in ("auto", "direct"):
        return "method='fft'" if method == "fft" else _NO_SUCH_WORD
    plan = _plan_of(in1, in2, mode, "fill", flip, False)
    if isinstance(plan, str):
        return plan
    if method == "auto" and not plan.direct:
        return "method='auto', which takes transforms here"
    return _moved(plan, in1, in2, flip)


@stands_for(own.convolve2d, "signal.convolve2d")
def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """Convolve two 2-D arrays: `scipy.signal.convolve2d`, computed by `fastconv.conv2d`.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue
        As in `scipy.signal.convolve2d`.

    Returns
    -------
    ndarray
        Of the shape and dtype that SciPy returns; integers to the bit, floats within the rounding
        of their sums.

    Raises
    ------
    ValueError, TypeError
        What SciPy raises: SciPy itself is called with whatever fastconv does not compute alike.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import convolve2d
    >>> convolve2d(np.array([[1, 2], [3, 4]]), np.array([[1, 10]]), mode="same")
    array([[ 1, 12],
           [ 3, 34]])
    """
    return _planar(in1, in2, mode, boundary, fillvalue, True)


@stands_for(own.correlate2d, "signal.correlate2d")
def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """Cross-correlate two 2-D arrays: `scipy.signal.correlate2d`, computed by `fastconv.conv2d`.

    Parameters, returns and raises as `convolve2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import correlate2d
    >>> correlate2d(np.array([[1, 2, 3]]), np.array([[1, -1]]), mode="valid")
    array([[-1, -1]])
    """
    return _planar(in1, in2, mode, boundary, fillvalue, False)


@stands_for(own.convolve, "signal.convolve")
def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """Convolve two arrays of one, two or three axes: `scipy.signal.convolve`.

    Parameters
    ----------
    in1, in2, mode, method
        As in `scipy.signal.convolve`. With ``method="auto"`` fastconv adds up products where it
        takes less time than transforms do, by the shapes alone; ``method="fft"`` is SciPy's.

    Returns
    -------
    ndarray
        As `convolve2d`.

    Raises
    ------
    ValueError, TypeError
        As `convolve2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import convolve
    >>> convolve(np.array([1, 2, 3]), np.array([1, 10]))
    array([ 1, 12, 23, 30])
    """
    return _of_any_rank(in1, in2, mode, method, True)


@stands_for(own.correlate, "signal.correlate")
def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """Cross-correlate two arrays of one, two or three axes: `scipy.signal.correlate`.

    Parameters, returns and raises as `convolve`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.interop.scipy import correlate
    >>> correlate(np.array([1, 2, 3]), np.array([0, 1]), mode="valid")
    array([2, 3])
    """
    return _of_any_rank(in1, in2, mode, method, False)
