"""Depthwise and separable convolutions by their names: convolutions of one channel a group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import checks
from ..arguments import array_kind, as_array, check_output
from ..calls import namespace
from ..dtypes import as_dtype
from ..errors import ShapeError
from ..geometry import Pad, Shape, Size, check_choice
from ..interchange import served
from .request import Common, Held, Operator, Request, forward, held, request


@Operator
def depthwise_conv2d(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    bias: Any = None,
    activation: str | None = None,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCHW",
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Request:
    """Convolve each channel with its own kernels: `fastconv.conv2d` with ``groups=C``.

    ``y[n, c*M + m] = activation(bias[c*M + m] + w[c*M + m, 0] applied to x[n, c])``

    Parameters
    ----------
    x : array
        (N, C, H, W) or (C, H, W); channels last with ``layout="NHWC"``.
    w : array
        (C*M, 1, R, S): M kernels for each channel, those of one channel beside one another.
        TensorFlow and Keras hold the same kernels as v (R, S, C, M):
        ``w = v.transpose(2, 3, 0, 1).reshape(C*M, 1, R, S)``.
    stride, pad, dilation, activation, pad_mode, flip, layout, out, dtype, precision, backend, \
threads
        As in `fastconv.conv2d`.
    bias : array (C*M,), optional

    Returns
    -------
    array
        (N, C*M, P, Q) or (C*M, P, Q), or channels last.

    Raises
    ------
    ShapeError
        w is not (C*M, 1, R, S) for the channels of x, or as `fastconv.conv2d`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.conv2d`.

    Notes
    -----
    N*C*M*P*Q*R*S multiply-accumulates. The very bits of `fastconv.conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.ones((1, 8, 10, 10)), np.ones((16, 1, 3, 3))
    >>> fastconv.depthwise_conv2d(x, w, stride=2, pad="same").shape
    (1, 16, 5, 5)
    """
    x, w = held("x", x, dtype), held("w", w, dtype)
    groups = _channels("depthwise_conv2d", "w", x.shape, w.shape, layout)
    return forward("depthwise_conv2d", 2, locals())


@served
def separable_conv2d(
    x: Any,
    w_depthwise: Any,
    w_pointwise: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    bias: Any = None,
    activation: str | None = None,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCHW",
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Any:
    """Convolve each channel with its own kernels and mix the results: a depthwise-separable layer.

    `depthwise_conv2d` with `w_depthwise`, then a 1x1 convolution with `w_pointwise`, as
    TensorFlow's ``tf.nn.separable_conv2d`` and Keras' ``SeparableConv2D``.

    Parameters
    ----------
    x : array
        (N, C, H, W) or (C, H, W); channels last with ``layout="NHWC"``.
    w_depthwise : array
        (C*M, 1, R, S), as in `depthwise_conv2d`.
    w_pointwise : array
        (K, C*M, 1, 1). TensorFlow holds it as v (1, 1, C*M, K): ``v.transpose(3, 2, 0, 1)``.
    stride, pad, dilation, pad_mode
        Of the depthwise convolution.
    bias : array (K,), optional
    activation : str, optional
        After the second convolution; there is none between the two.
    flip, layout, out, dtype, precision, backend, threads
        As in `fastconv.conv2d`.

    Returns
    -------
    array
        (N, K, P, Q) or (K, P, Q), or channels last.

    Raises
    ------
    ShapeError
        Weights that do not fit x or one another, or as `fastconv.conv2d`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.conv2d`.

    Notes
    -----
    N*P*Q*C*M*(R*S + K) multiply-accumulates, and memory for N*C*M*P*Q elements between the two
    convolutions, whose sums are rounded there. Both are checked before either is computed.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.ones((1, 8, 10, 10), "float32")
    >>> kernels, mix = np.ones((8, 1, 3, 3), "float32"), np.ones((4, 8, 1, 1), "float32")
    >>> fastconv.separable_conv2d(x, kernels, mix, pad="same").shape
    (1, 4, 10, 10)
    """
    x, first = as_array("x", x), as_array("w_depthwise", w_depthwise)
    second = as_array("w_pointwise", w_pointwise)
    bias = None if bias is None else as_array("bias", bias)
    name = "separable_conv2d"
    groups = _channels(name, "w_depthwise", x.shape, first.shape, layout)
    if len(second.shape) != 4 or second.shape[1:] != (first.shape[0], 1, 1):
        raise ShapeError(
            f"w_pointwise must be (K, C*M={first.shape[0]}, 1, 1) after w_depthwise {first.shape}, "
            f"got {second.shape}"
        )
    spread = Common.among(locals())._replace(out=None)
    each = request(name, 2, "y", x, first, x.shape, first.shape, spread)
    # what the first one returns, so that the second one is checked before anything runs
    between = Held(each.described.problem.out_shape, as_dtype(each.described.promotion.result))
    mixing = Common(
        layout=layout, out=out, dtype=dtype, precision=precision, backend=backend, threads=threads
    )
    mixed = request(
        name, 2, "y", between, second, between.shape, second.shape, mixing, bias, activation
    )
    kind = array_kind(x, first, second, bias, out, names="x, the weights, bias and out")
    if out is not None:
        check_output(namespace(kind), *mixed.described, out)
    return replace(mixed, a=each.run()).run()


def _channels(function: str, name: str, x: Shape, w: Shape, layout: str) -> int:
    """Channels of x, each of which has kernels of its own in w."""
    check_choice("layout", layout, checks.layouts(2))
    if len(x) not in (3, 4) or len(w) != 4:
        raise ShapeError(
            f"{function} takes x (N, C, H, W) or (C, H, W) with {name} (C*M, 1, R, S); got x {x} "
            f"and {name} {w}"
        )
    c = x[-1] if layout == "NHWC" else x[-3]
    if w[1] != 1 or (c and w[0] % c):
        raise ShapeError(
            f"{name} must be (C*M, 1, R, S), M kernels for each of C={c} channels of x, got {w} "
            f"with x {x} ({layout}); check layout="
        )
    return max(c, 1)
