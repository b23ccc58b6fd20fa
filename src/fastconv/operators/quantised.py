"""Convolutions of quantised images: integers with a zero point, as ONNX means them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..arguments import as_array, check_result, module_of
from ..backends import requantise
from ..calls import call_for
from ..checks import layouts
from ..dtypes import as_dtype
from ..errors import DTypeError, ShapeError
from ..geometry import Pad, Size, check_choice
from ..interchange import served
from ..options import resolve
from ..problem import ConvProblem
from .request import Common, Request, request

_BYTES = ("int8", "uint8")
#: Zero points that the dtype of the other sign does not need.
_HALF = {"int8": -128, "uint8": 128}
#: Elements of sums that are scaled at a time, so that they stay in the cache.
_BLOCK = 1 << 15


@served
def conv2d_integer(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    x_zero_point: Any = 0,
    w_zero_point: Any = 0,
    dilation: Size = 1,
    groups: int = 1,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCHW",
    out: Any = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Convolve integers of 8 bits less their zero points: ONNX's ConvInteger.

    ``y = conv2d(x - x_zero_point, w - w_zero_point)``, exact in int32 (modulo 2**32). The border is
    zero after the subtraction: pixels of value `x_zero_point`, as in ONNX and ONNX Runtime.

    Parameters
    ----------
    x, w : array of int8 or uint8
        As in `fastconv.conv2d`; each of either dtype.
    x_zero_point : int, default 0
        Of the range of x.
    w_zero_point : int or array (K,), default 0
        One for all of w, or one for each output channel.
    stride, pad, dilation, groups, pad_mode, flip, layout, out, backend, threads
        As in `fastconv.conv2d`.

    Returns
    -------
    array of int32
        (N, K, P, Q), as `fastconv.conv2d`.

    Raises
    ------
    ShapeError
        Zero points of another shape, or outside of the range of their operand, or as
        `fastconv.conv2d`.
    DTypeError
        Operands that are not of 8 bits.
    OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.conv2d`.

    Notes
    -----
    N*K*P*Q*(C/groups)*R*S multiply-accumulates. Where the zero point of w is 0, or the middle of
    its range (-128 for int8, 128 for uint8), bytes are multiplied; x is copied where its dtype is
    another than that, or its border is not zero. Otherwise both are copied in 16 bits, which takes
    up to twice the time.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.array([[130, 128, 127]], "uint8")
    >>> fastconv.conv2d_integer(x, np.array([[1, 10]], "int8"), pad="full", x_zero_point=128)
    array([[ 20,   2, -10,  -1]], dtype=int32)
    """
    options = Common.among(locals())
    return _sums("conv2d_integer", x, w, x_zero_point, w_zero_point, None, options).run()


@served
def qlinear_conv2d(
    x: Any,
    x_scale: Any,
    x_zero_point: Any,
    w: Any,
    w_scale: Any,
    w_zero_point: Any,
    y_scale: Any,
    y_zero_point: Any,
    bias: Any = None,
    *,
    stride: Size = 1,
    pad: Pad = 0,
    dilation: Size = 1,
    groups: int = 1,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCHW",
    out: Any = None,
    dtype: Any = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Convolve quantised images with quantised weights into quantised images: ONNX's QLinearConv.

    ``y = saturate(round(s * (bias + conv2d(x - x_zero_point, w - w_zero_point))) + y_zero_point)``
    with ``s = x_scale * w_scale / y_scale``.

    Parameters
    ----------
    x, w : array of int8 or uint8
        As in `fastconv.conv2d`; each of either dtype.
    x_scale, y_scale : float
        Positive, used in float32.
    w_scale : float or array (K,)
        One for all of w, or one for each output channel.
    x_zero_point, y_zero_point : int
    w_zero_point : int or array (K,)
    bias : array (K,) of int32, optional
        In units of ``x_scale * w_scale``.
    stride, pad, dilation, groups, pad_mode, flip, layout, backend, threads
        As in `fastconv.conv2d`.
    out : array, optional
        Receives the result, and is returned.
    dtype : {"int8", "uint8"}, optional
        Of the result. Default: that of `y_zero_point` where it is an array or a NumPy scalar, that
        of x otherwise.

    Returns
    -------
    array of int8 or uint8
        (N, K, P, Q), as `fastconv.conv2d`.

    Raises
    ------
    ShapeError
        Scales and zero points of another shape or range, or as `fastconv.conv2d`.
    DTypeError
        Operands or a result that are not of 8 bits; a bias that is not of integers.
    OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.conv2d`.

    Notes
    -----
    As `conv2d_integer`, with memory for the sums of int32. They are exact; the product with s is
    taken in float32 and rounded half to even before the zero point is added: the bits of ONNX
    Runtime.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.full((1, 4, 4), 30, "uint8"), np.full((1, 1, 2, 2), 5, "int8")
    >>> fastconv.qlinear_conv2d(x, 0.1, 10, w, 0.02, 0, 0.05, 3)[0, 0]
    array([19, 19, 19], dtype=uint8)
    """
    x = as_array("x", x)
    wanted = _result_dtype(x, y_zero_point, dtype)
    bias = None if bias is None else as_array("bias", bias)
    options = Common.among(locals())._replace(out=None, dtype=None)
    found = _sums("qlinear_conv2d", x, w, x_zero_point, w_zero_point, bias, options)
    problem, xp = found.described.problem, module_of(x)
    one, each = _scale("x_scale", x_scale, 1), _scale("w_scale", w_scale, problem.k)
    with np.errstate(over="ignore"):
        scale = one * each / _scale("y_scale", y_scale, 1)
    if not np.isfinite(scale).all():
        raise ShapeError("x_scale * w_scale / y_scale is too large for float32")
    zero = _zero_point("y_zero_point", y_zero_point, wanted.name, 1)
    if out is None:
        out = xp.empty(problem.out_shape, dtype=wanted)
    else:
        check_result(xp, problem.out_shape, wanted.name, out)
    _rescale(xp, found, scale, int(zero.item()), out)
    return out


def _sums(
    function: str, x: Any, w: Any, x_zero: Any, w_zero: Any, bias: Any, options: Common
) -> Request:
    """Describe the convolution of both operands less their zero points."""
    x, w = as_array("x", x), as_array("w", w)
    check_choice("layout", options.layout, layouts(2))
    for name, array in (("x", x), ("w", w)):
        if array.dtype.name not in _BYTES:
            raise DTypeError(
                f"{function} takes int8 and uint8, {name} is {array.dtype}; quantise it, or use "
                "conv2d, which is exact for integers of any width"
            )
    if bias is not None and bias.dtype.kind not in "iu":
        raise DTypeError(
            f"bias is {bias.dtype}, and is added to sums of int32; divide it by x_scale * w_scale "
            "and round it"
        )
    first = _zero_point("x_zero_point", x_zero, x.dtype.name, 1)
    second = _zero_point("w_zero_point", w_zero, w.dtype.name, w.shape[0] if w.ndim == 4 else 1)
    # described before anything is copied, which then has the same sizes
    described = request(function, 2, "y", x, w, x.shape, w.shape, options, bias)
    if not (second == second[:1]).all() or int(second[0]) not in (0, _HALF[w.dtype.name]):
        x, w = _less(x, first), _less(w, second)
        return request(function, 2, "y", x, w, x.shape, w.shape, options, described.bias)
    return _bytes(function, described, int(first[0]), turned=bool(second[0]))


def _less(array: Any, zero: Any) -> Any:
    """Subtract zero points, in 16 bits, which hold every difference."""
    if not zero.any():
        return array
    xp = module_of(array)
    zero = xp.asarray(zero.reshape(-1, *(1,) * (array.ndim - 1)) if zero.size > 1 else zero.item())
    return xp.subtract(array, zero, dtype=np.int16)


def _bytes(function: str, described: Request, zero: int, turned: bool) -> Request:
    """Describe the convolution of the bytes themselves, whose products take half the time.

    ``sum (x - zero) w = sum x w - zero * sum w``: the zero point of x is a matter of the bias. A
    byte less 128 is the same byte with its first bit turned, as of the other sign: so that w, which
    is then `turned`, has no zero point, and x, which is then of the same dtype, another one.
    """
    x, w, options = described.a, described.b, described.common
    problem, xp = described.described.problem, module_of(x)
    if turned:
        w = _turn(w)
    if x.dtype != w.dtype:
        zero += 128 if x.dtype == np.int8 else -128
        x = _turn(x)
    if zero == 0:
        return request(function, 2, "y", x, w, x.shape, w.shape, options, described.bias)
    if problem.pad_mode == "constant" and any(map(any, problem.pads)):
        x = _bordered(xp, x, problem, zero)
        options = options._replace(pad=0)
    channels = w if w.ndim == 4 else w[None, None]
    bias = channels.sum(axis=(1, 2, 3), dtype=np.int32) * np.int32(-zero)
    if described.bias is not None:
        bias = bias + described.bias.astype(np.int32)
    return request(function, 2, "y", x, w, x.shape, w.shape, options, bias)


def _turn(array: Any) -> Any:
    """Subtract 128 from uint8, or add it to int8."""
    other = np.uint8 if array.dtype == np.int8 else np.int8
    contiguous = module_of(array).ascontiguousarray(array)
    return (contiguous.view(np.uint8) ^ np.uint8(128)).view(other)


def _bordered(xp: Any, x: Any, problem: ConvProblem, zero: int) -> Any:
    """Copy images into larger ones, whose border is the zero point."""
    (top, bottom), (left, right) = problem.pad
    last = -3 if problem.channels_last else -2
    shape = list(x.shape)
    shape[last] += top + bottom
    shape[last + 1] += left + right
    whole = xp.full(shape, zero, dtype=x.dtype)
    inside = (slice(top, top + problem.h), slice(left, left + problem.w))
    whole[(..., *inside) if last == -2 else (..., *inside, slice(None))] = x
    return whole


def _zero_point(name: str, value: Any, dtype: str, channels: int) -> Any:
    """Read one zero point, or one for each of several channels."""
    zero = _per_channel(name, value, channels)
    if isinstance(value, int) and zero.dtype.kind == "O":  # beyond 64 bits
        raise ShapeError(f"{name}={value!r:.60} lies outside of the range of {dtype}")
    if zero.dtype.kind not in "iu":
        raise DTypeError(f"{name} must be an integer, got {value!r:.60}")
    zero = zero.astype(np.int16 if zero.dtype.itemsize == 1 else np.int64)
    limits = np.iinfo(dtype)
    if zero.size and (zero.min() < limits.min or zero.max() > limits.max):
        raise ShapeError(f"{name}={value!r:.60} lies outside of the range of {dtype}")
    return zero.astype(np.int16)


def _scale(name: str, value: Any, channels: int) -> Any:
    """Read one scale, or one for each of several channels, as float32."""
    scale = _per_channel(name, value, channels)
    if scale.dtype.kind not in "fiu" or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ShapeError(f"{name} must be positive and finite, got {value!r:.60}")
    return scale.astype(np.float32)


def _per_channel(name: str, value: Any, channels: int) -> Any:
    array = np.asarray(value.get() if hasattr(value, "get") else value)
    if array.size != 1 and array.shape != (channels,):
        several = f" or an array ({channels},), one for each output channel" if channels > 1 else ""
        raise ShapeError(f"{name} must be one number{several}, got shape {array.shape}")
    return array.reshape(-1)


def _result_dtype(x: Any, zero: Any, dtype: Any) -> np.dtype[Any]:
    found = getattr(zero, "dtype", x.dtype) if dtype is None else as_dtype(dtype)
    if found.name not in _BYTES:
        raise DTypeError(f"the result must be int8 or uint8, got {found}; pass dtype=")
    return np.dtype(found.name)


def _rescale(xp: Any, found: Request, scale: Any, zero: int, out: Any) -> None:
    """Compute the sums, and scale them into `out` by the quickest way."""
    problem, sums = found.described.problem, found.run()
    each = problem.channels_last and scale.size > 1
    if xp is np and sums.size:
        options = resolve(found.common.backend, None, found.common.threads)
        backend = call_for(found.described, options, "numpy").backend
        length = problem.k if each else problem.p * problem.q if scale.size > 1 else sums.size
        limits = _limits(out.dtype, zero)
        if requantise(backend, options, sums, scale, length, each, limits, zero, out):
            return
    if scale.size > 1 and not each:
        scale = scale[:, None, None]
    _requantise(xp, sums, xp.asarray(scale), zero, out)


def _limits(dtype: Any, zero: int) -> tuple[float, float]:
    """Numbers that give the least and the largest byte, before the zero point is added."""
    limits = np.iinfo(dtype)
    return float(limits.min - zero), float(limits.max - zero)


def _requantise(xp: Any, sums: Any, scale: Any, zero: int, out: Any) -> None:
    """Scale, round half to even and saturate; a block that fits the cache at a time.

    A number below 2**22 is rounded by adding 1.5 * 2**23, and is then in the last bits of the sum:
    its lowest byte, plus the zero point modulo 256, is the result.
    """
    low, high = map(np.float32, _limits(out.dtype, zero))
    lowest = 0 if sys.byteorder == "little" else 3
    more = (None,) * (4 - sums.ndim)
    sums, out = sums[more], out[more]
    step = max(1, _BLOCK // max(1, sums.shape[2] * sums.shape[3]))
    for image, result in zip(sums, out, strict=True):
        for first in range(0, image.shape[0], step):
            rows = slice(first, first + step)
            factor = scale[rows] if scale.ndim == 3 else scale
            block = xp.multiply(image[rows], factor, dtype=np.float32, casting="same_kind")
            xp.clip(block, low, high, out=block)
            block += np.float32(1.5 * 2**23)
            rounded = block.view(np.uint8).reshape(*block.shape, 4)[..., lowest]
            xp.add(rounded.view(out.dtype), out.dtype.type(zero), out=result[rows])
