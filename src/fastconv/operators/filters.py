"""Convolution and correlation of two arrays, as `scipy.signal` means them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import geometry
from ..arguments import array_kind, as_array, module_of
from ..calls import promotion_of
from ..dtypes import as_dtype
from ..errors import DTypeError, ShapeError
from ..geometry import Pair, Shape
from ..interchange import served
from .request import Common, request

#: What a boundary is called, and the border it is.
BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "symmetric",
    "symmetric": "symmetric",
}
_MODES = ("full", "valid", "same")


_CORRELATE = """Cross-correlate two 2-D arrays, as `scipy.signal.correlate2d` does.

    ``z[i,j] = sum over r, s of in1[i + r - R + 1, j + s - S + 1] * conj(in2[r,s])`` with
    ``mode="full"``.

    Parameters
    ----------
    in1, in2 : array
        (H, W) and (R, S); an image and a kernel.
    mode : {"full", "valid", "same"}, default "full"
        ``full``: every overlap, (H+R-1, W+S-1); ``same``: its centre, (H, W); ``valid``: what needs
        no border, (H-R+1, W-S+1). With ``valid``, in2 may be the larger one along both axes.
    boundary : {"fill", "wrap", "symm"}, default "fill"
        What lies around in1: `fillvalue`, in1 again, or its mirror image. ``pad``, ``circular`` and
        ``symmetric`` are other names for them.
    fillvalue : scalar, default 0
        Converted to the dtype of the result.
    precision, backend, threads
        As in `fastconv.conv2d`.

    Returns
    -------
    array
        Of the dtype that NumPy promotes in1 and in2 to: integers wrap modulo 2**bits.

    Raises
    ------
    ShapeError
        Arrays that are not 2-D; ``valid`` where neither is the larger one along both axes; an
        unknown `mode` or `boundary`; a `fillvalue` that the result's dtype does not hold. It is a
        `ValueError`.
    DTypeError
        Two arrays of bool, or what `fastconv.conv2d` refuses. It is a `TypeError`, where SciPy
        raises ValueError.
    BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.conv2d`.

    Notes
    -----
    A multiply-accumulate for each element of the result and of in2. Only a `fillvalue` other than
    zero takes a copy of in1, with its border. float16, which SciPy refuses, is added up in float32.
    An empty array has sums of nothing, as in SciPy; ``wrap`` and ``symm`` refuse an empty in1.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> image = np.array([[1., 2, 3], [4, 5, 6]])
    >>> fastconv.correlate2d(image, np.array([[1., -1]]), mode="same", boundary="symm")
    array([[-1., -1.,  0.],
           [-1., -1.,  0.]])
    """

_CONVOLVE = """Convolve two 2-D arrays, as `scipy.signal.convolve2d` does.

    ``z[i,j] = sum over r, s of in1[i - r, j - s] * in2[r,s]`` with ``mode="full"``.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue, precision, backend, threads
        As in `correlate2d`.

    Returns
    -------
    array
        As `correlate2d`.

    Raises
    ------
    ShapeError, DTypeError, BackendUnavailable, BackendUnsupported, MemoryError
        As `correlate2d`.

    Notes
    -----
    As `correlate2d`, with in2 turned by 180 degrees and not conjugated.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.convolve2d(np.array([[1, 2], [3, 4]]), np.array([[1, 10]]))
    array([[ 1, 12, 20],
           [ 3, 34, 40]])
    """


def _named(name: str, doc: str, flip: bool) -> Any:
    """Give the filter that turns its kernel, or does not, its name and its words."""

    @served
    def function(
        in1: Any,
        in2: Any,
        mode: str = "full",
        boundary: str = "fill",
        fillvalue: Any = 0,
        *,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> Any:
        options = Common(flip=flip, precision=precision, backend=backend, threads=threads)
        return _filter(name, in1, in2, mode, boundary, fillvalue, options)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


correlate2d = _named("correlate2d", _CORRELATE, flip=False)
convolve2d = _named("convolve2d", _CONVOLVE, flip=True)


def _filter(
    function: str, in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any, options: Common
) -> Any:
    flip = options.flip
    array_kind(in1, in2, names="in1 and in2")
    in1, in2 = as_array("in1", in1), as_array("in2", in2)
    geometry.check_choice("mode", mode, _MODES)
    geometry.check_choice("boundary", boundary, tuple(BOUNDARIES))
    result = _result_dtype(function, in1.dtype, in2.dtype)
    value = _fill_value(fillvalue, result)
    swap = _swaps(function, in1.shape, in2.shape, mode)
    image, kernel = (in2, in1) if swap else (in1, in2)
    pads = tuple(pad_of(taps, mode, flip) for taps in kernel.shape)
    shape = tuple(
        size + sum(pad) - taps + 1
        for size, taps, pad in zip(image.shape, kernel.shape, pads, strict=True)
    )
    if min(shape) < 0:
        raise ShapeError(f"both arrays are empty along an axis: in1 {in1.shape}, in2 {in2.shape}")
    if kernel.size == 0 or 0 in shape:
        return module_of(image).zeros(shape, dtype=result)
    border = BOUNDARIES[boundary]
    if border == "constant" and (value != 0 or image.size == 0):
        # in the result's dtype: what lies around in1 need not fit into in1's own
        image, pads = filled(image, pads, value, result), ((0, 0), (0, 0))
    if not flip and kernel.dtype.kind == "c":
        kernel = kernel.conj()
    dtype = None if result.kind in "iu" else result
    common = options._replace(pad=pads, pad_mode=border, dtype=dtype)
    y = request(function, 2, "y", image, kernel, image.shape, kernel.shape, common).run()
    y = y.astype(result, copy=False)
    return y[::-1, ::-1] if swap and not flip else y


def _result_dtype(function: str, first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    if first.kind == second.kind == "b":
        raise DTypeError(
            f"{function} has no dtype for the sums of two arrays of bool; "
            "convert one, for example with in1.astype('int32')"
        )
    promoted = promotion_of(first, second, None, ("in1", "in2"))
    if first.kind in "biu" and second.kind in "biu":
        return np.result_type(first, second).newbyteorder("=")
    return as_dtype(promoted.result)


def _fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return `fillvalue` as a number of the result's dtype."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biufc":
        raise ShapeError(f"fillvalue must be a number, got {value!r:.60}")
    number: Any = array.reshape(())[()]
    if dtype.kind in "iu" and array.dtype.kind in "biuf":
        limits = np.iinfo(dtype)
        fits = bool(limits.min <= number <= limits.max)
        number = int(number) if fits else number
    else:
        fits = dtype.kind == "c" or array.dtype.kind != "c" or number.imag == 0
        number = number.real if fits and dtype.kind != "c" else number
    if not fits:
        raise ShapeError(f"fillvalue={value!r:.60} does not fit into the result, of dtype {dtype}")
    return number


def _swaps(function: str, first: Shape, second: Shape, mode: str) -> bool:
    """Whether in2 is the image: the larger one, where no border is made."""
    if len(first) != 2 or len(second) != 2:
        raise ShapeError(f"{function} takes two 2-D arrays, got in1 {first} and in2 {second}")
    if mode != "valid":
        return False
    larger = [a >= b for a, b in zip(first, second, strict=True)]
    if not all(larger) and any(a > b for a, b in zip(first, second, strict=True)):
        raise ShapeError(
            f"mode='valid' takes one array that is at least as large as the other along both axes, "
            f"got in1 {first} and in2 {second}; crop one, or use mode='same'"
        )
    return not all(larger)


def pad_of(taps: int, mode: str, flip: bool) -> Pair:
    """Pixels before and after; a kernel of even size has its centre before the middle."""
    if mode == "valid":
        return 0, 0
    if mode == "full":
        return taps - 1, taps - 1
    before = (taps - 1) // 2
    return (taps - 1 - before, before) if flip else (before, taps - 1 - before)


def filled(image: Any, pads: tuple[Pair, ...], value: Any, dtype: np.dtype[Any]) -> Any:
    """Copy an image into the middle of a larger one."""
    shape = tuple(size + sum(pad) for size, pad in zip(image.shape, pads, strict=True))
    padded = module_of(image).full(shape, value, dtype=dtype)
    inside = zip(pads, image.shape, strict=True)
    padded[tuple(slice(pad[0], pad[0] + size) for pad, size in inside)] = image
    return padded
