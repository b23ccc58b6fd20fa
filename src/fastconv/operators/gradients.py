"""Gradients of convolutions: with respect to x, w and the bias, for every option."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import checks
from ..arguments import as_array
from ..dtypes import accumulator, as_dtype, is_float
from ..errors import DTypeError, ShapeError
from ..geometry import check_choice
from ..interchange import served
from ..sizes import Spatial
from .naming import sizes_of
from .request import Common, Kind, Operator, Request, check_output_gradient, held, request

_INPUT = """Gradient with respect to x of ``sum(gy * {conv}(x, w))``.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of x, {x}, or without N, or without both N and C.
    w : array
        {w}.
    gy : array
        Gradient of the output, {y}, of the rank of x.
    stride, pad, dilation, groups, pad_mode, flip, dtype, precision, backend, threads
        As in `{conv}`, of the convolution that the gradient is taken of. Borders that repeat pixels
        of x (``reflect``, ``wrap``, ...) fold back onto them.
    layout : {{{layouts}}}, optional
        Axis order of x and gy.
    out : array, optional
        Receives the result, and is returned.

    Returns
    -------
    array
        Of shape `x_shape`.

    Raises
    ------
    ShapeError
        gy is not what `{conv}` returns for these shapes, or as `{conv}`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `{conv}`.

    Notes
    -----
    As many multiply-accumulates as `{conv}`, fewer at the borders. One convolution for each phase
    of the stride; no zeros are inserted. The same bits for any number of threads.
    Complex numbers: the transpose takes the conjugate of w, as PyTorch's gradients do.
    """

_WEIGHT = """Gradient with respect to w of ``sum(gy * {conv}(x, w))``.

    Parameters
    ----------
    x : array
        {x}, or without N, or without both N and C.
    w_shape : sequence of int
        Shape of w, {w}.
    gy : array
        Gradient of the output, {y}, of the rank of x.
    stride, pad, dilation, groups, pad_mode, flip, dtype, precision, backend, threads
        As in `{conv}`, of the convolution that the gradient is taken of.
    layout : {{{layouts}}}, optional
        Axis order of x and gy.
    out : array, optional
        Receives the result, and is returned.

    Returns
    -------
    array
        Of shape `w_shape`.

    Raises
    ------
    ShapeError
        gy is not what `{conv}` returns for these shapes, or as `{conv}`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `{conv}`.

    Notes
    -----
    As many multiply-accumulates as `{conv}`. Each element is a sum over images and pixels in one
    fixed order: the same bits for any number of threads.
    Complex numbers: sums of gy times the conjugate of x, as PyTorch's gradients; take the real part
    where w is real.
    """


def _input_grad(
    kind: Kind,
    x_shape: Any,
    w: Any,
    gy: Any,
    stride: Any = 1,
    pad: Any = 0,
    *,
    dilation: Any = 1,
    groups: int = 1,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str | None = None,
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Request:
    w, gy = held("w", w, dtype), held("gy", gy, dtype)
    common = Common.among(locals())
    image = sizes_of("x_shape", x_shape)
    found = request(*kind, "x", gy, w, image, tuple(w.shape), common)
    return check_output_gradient(found, gy)


def _weight_grad(
    kind: Kind,
    x: Any,
    w_shape: Any,
    gy: Any,
    stride: Any = 1,
    pad: Any = 0,
    *,
    dilation: Any = 1,
    groups: int = 1,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str | None = None,
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Request:
    x, gy = held("x", x, dtype), held("gy", gy, dtype)
    common = Common.among(locals())
    kernel = sizes_of("w_shape", w_shape)
    found = request(*kind, "w", x, gy, tuple(x.shape), kernel, common)
    return check_output_gradient(found, gy)


conv1d_input_grad, conv2d_input_grad, conv3d_input_grad = Operator.of_every_rank(
    _input_grad, "conv{d}d_input_grad", _INPUT
)
conv1d_weight_grad, conv2d_weight_grad, conv3d_weight_grad = Operator.of_every_rank(
    _weight_grad, "conv{d}d_weight_grad", _WEIGHT
)


def _bias_grad(spatial: Spatial, gy: Any, layout: str | None, dtype: Any) -> Any:
    gy = as_array("gy", gy)
    first, last = checks.layouts(spatial)
    layout = first if layout is None else layout
    check_choice("layout", layout, (first, last))
    if gy.ndim not in (spatial + 1, spatial + 2):
        result = ", ".join(checks.RESULT_AXES[spatial])
        raise ShapeError(
            f"conv{spatial}d_bias_grad takes gy (N, K, {result}) or (K, {result}), got "
            f"{tuple(gy.shape)}"
        )
    if gy.dtype.kind not in "biufc" and not is_float(gy.dtype):
        raise DTypeError(f"gy has dtype {gy.dtype}, which holds no numbers to add up")
    channels = gy.ndim - 1 if layout == last else gy.ndim - 1 - spatial
    axes = tuple(axis for axis in range(gy.ndim) if axis != channels)
    wide, narrow = _sums_of(gy.dtype if dtype is None else as_dtype(dtype))
    sums = gy.sum(axis=axes, dtype=wide)
    return sums if narrow is None else sums.astype(narrow, copy=False)


@lru_cache(maxsize=64)
def _sums_of(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], np.dtype[Any] | None]:
    """Return the dtype that a bias is summed in, and that floats are rounded to in the end."""
    name = dtype.newbyteorder("=").name
    return as_dtype(accumulator(name)), as_dtype(name) if is_float(name) else None


@served
def conv1d_bias_grad(gy: Any, *, layout: str | None = None, dtype: Any = None) -> Any:
    """Gradient with respect to the bias of `conv1d`; as `conv2d_bias_grad`, gy (N, K, Q)."""
    return _bias_grad(1, gy, layout, dtype)


@served
def conv2d_bias_grad(gy: Any, *, layout: str | None = None, dtype: Any = None) -> Any:
    """Gradient with respect to the bias of ``sum(gy * conv2d(x, w, bias=bias))``.

    Parameters
    ----------
    gy : array
        Gradient of the output, (N, K, P, Q) or (K, P, Q).
    layout : {"NCHW", "NHWC"}, optional
    dtype : dtype, optional
        Of the result; default: that of gy.

    Returns
    -------
    array
        (K,): the sums of gy over images and pixels, floats of 16 bits added up in float32.

    Raises
    ------
    ShapeError
        gy has another number of axes.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv2d_bias_grad(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    return _bias_grad(2, gy, layout, dtype)


@served
def conv3d_bias_grad(gy: Any, *, layout: str | None = None, dtype: Any = None) -> Any:
    """Gradient with respect to the bias of `conv3d`; as `conv2d_bias_grad`, gy (N, K, O, P, Q)."""
    return _bias_grad(3, gy, layout, dtype)
