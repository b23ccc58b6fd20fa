"""Convolutions in which every image of a batch has kernels of its own, and their gradients."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..arguments import array_kind, as_array, check_result
from ..calls import namespace
from ..dtypes import as_dtype
from ..errors import ShapeError
from ..geometry import Pad, Shape, Size, check_choice
from ..interchange import served
from ..problem import ConvProblem
from ..sizes import Result
from .naming import sizes_of
from .request import Common, check_names, check_output_gradient, held, request


@served
def conv2d_per_sample(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    bias: Any = None,
    activation: str | None = None,
    out: Any = None,
    **options: Any,
) -> Any:
    """Convolve each image of a batch with kernels of its own.

    ``y[n] = conv2d(x[n], w[n])``: dynamic convolutions, hypernetworks, gradients of each sample.

    Parameters
    ----------
    x : array
        (N, C, H, W), or (N, H, W, C) with ``layout="NHWC"``.
    w : array
        (N, K, C/groups, R, S).
    stride, pad, activation
        As in `fastconv.conv2d`.
    bias : array (K,) or (N, K), optional
    out : array, optional
        Receives the result, and is returned.
    **options
        dilation, groups, pad_mode, flip, layout, dtype, precision, backend, threads: as in
        `fastconv.conv2d`.

    Returns
    -------
    array
        (N, K, P, Q), or (N, P, Q, K) with ``layout="NHWC"``.

    Raises
    ------
    ShapeError
        w is not (N, K, C/groups, R, S) for the N of x, or as `fastconv.conv2d`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.conv2d`.

    Notes
    -----
    N*K*P*Q*(C/groups)*R*S multiply-accumulates, in one call: N*groups groups of channels of one
    image. x is copied where its channels are last or its images do not follow one another in
    memory.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.ones((2, 3, 8, 8)), np.ones((2, 4, 3, 3, 3))
    >>> fastconv.conv2d_per_sample(x, w, pad="same").shape
    (2, 4, 8, 8)
    """
    x, w = as_array("x", x), as_array("w", w)
    bias = None if bias is None else as_array("bias", bias)
    common = _common("conv2d_per_sample", stride, pad, out, options)
    return _run("conv2d_per_sample", "y", x, w, x.shape, w.shape, common, bias, activation)


@served
def conv2d_per_sample_input_grad(
    x_shape: Any,
    w: Any,
    gy: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    out: Any = None,
    **options: Any,
) -> Any:
    """Gradient with respect to x of ``sum(gy * conv2d_per_sample(x, w))``.

    Parameters
    ----------
    x_shape : sequence of int
        (N, C, H, W), or channels last.
    w : array
        (N, K, C/groups, R, S).
    gy : array
        (N, K, P, Q), or channels last.
    stride, pad, out, **options
        As in `conv2d_per_sample`.

    Returns
    -------
    array
        Of shape `x_shape`.

    Raises
    ------
    ShapeError
        gy is not what `conv2d_per_sample` returns for these shapes, or as there.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d_per_sample`.

    Notes
    -----
    As many multiply-accumulates as `conv2d_per_sample`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> w, gy = np.ones((2, 4, 3, 3, 3)), np.ones((2, 4, 6, 6))
    >>> fastconv.conv2d_per_sample_input_grad((2, 3, 8, 8), w, gy).shape
    (2, 3, 8, 8)
    """
    w, gy = as_array("w", w), as_array("gy", gy)
    common = _common("conv2d_per_sample_input_grad", stride, pad, out, options)
    shape = sizes_of("x_shape", x_shape)
    return _run("conv2d_per_sample_input_grad", "x", gy, w, shape, w.shape, common)


@served
def conv2d_per_sample_weight_grad(
    x: Any,
    w_shape: Any,
    gy: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    out: Any = None,
    **options: Any,
) -> Any:
    """Gradient with respect to w of ``sum(gy * conv2d_per_sample(x, w))``.

    With one w for all images, and so repeated N times, it is the gradient of each sample, whose sum
    is that of `conv2d_weight_grad`.

    Parameters
    ----------
    x : array
        (N, C, H, W), or channels last.
    w_shape : sequence of int
        (N, K, C/groups, R, S).
    gy : array
        (N, K, P, Q), or channels last.
    stride, pad, out, **options
        As in `conv2d_per_sample`.

    Returns
    -------
    array
        Of shape `w_shape`.

    Raises
    ------
    ShapeError
        gy is not what `conv2d_per_sample` returns for these shapes, or as there.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d_per_sample`.

    Notes
    -----
    As many multiply-accumulates as `conv2d_per_sample`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, gy = np.ones((2, 3, 8, 8)), np.ones((2, 4, 6, 6))
    >>> fastconv.conv2d_per_sample_weight_grad(x, (2, 4, 3, 3, 3), gy).shape
    (2, 4, 3, 3, 3)
    """
    x, gy = as_array("x", x), as_array("gy", gy)
    common = _common("conv2d_per_sample_weight_grad", stride, pad, out, options)
    kernels = sizes_of("w_shape", w_shape)
    return _run("conv2d_per_sample_weight_grad", "w", x, gy, x.shape, kernels, common)


def _common(function: str, stride: Size, pad: Pad, out: Any, options: dict[str, Any]) -> Common:
    """Gather the options that all operators share."""
    check_names(function, options, Common._fields)
    return Common(stride, pad, out=out, **options)


def _run(
    function: str, result: Result, a: Any, b: Any, x_shape: Shape, w_shape: Shape, common: Common,
    bias: Any = None, activation: str | None = None,
) -> Any:  # fmt: skip
    """Run groups of channels of one image for images of a batch."""
    layout = "NCHW" if common.layout is None else common.layout
    check_choice("layout", layout, checks.layouts(2))
    if len(x_shape) != 4 or len(w_shape) != 5 or x_shape[0] != w_shape[0]:
        raise ShapeError(
            f"{function} takes x (N, C, H, W) with w (N, K, C/groups, R, S), kernels for each of N "
            f"images; got x {x_shape} and w {w_shape}"
        )
    n, k = w_shape[:2]
    rows = bias
    if bias is not None and bias.ndim == 2:
        if bias.shape != (n, k):
            raise ShapeError(f"bias has shape {bias.shape}, expected (K={k},) or (N={n}, K={k})")
        rows = bias[0] if n else held("bias", (k,), bias.dtype)
    # one image first: what is wrong with the call is said in the caller's shapes
    common = common._replace(layout=layout)
    alone = request(function, 2, result, a, b, x_shape, w_shape[1:], common, rows, activation)
    if result != "y":
        check_output_gradient(alone, b if result == "w" else a)
    problem, promotion = alone.described
    shape = w_shape if result == "w" else problem.out_shape
    xp = namespace(array_kind(a, b, bias, common.out, names="arrays"))
    out = common.out
    if out is not None:
        check_result(xp, shape, promotion.result, out)
    if n == 0 or 0 in shape:
        return xp.empty(shape, dtype=as_dtype(promotion.result)) if out is None else out
    if bias is not None:
        bias = xp.broadcast_to(bias, (n, k)).reshape(n * k)
    direct = out is not None and out.flags.c_contiguous and (layout == "NCHW" or result == "w")
    joined: Shape = (n * k, *w_shape[2:])
    if result != "w":
        joined = (1, n * problem.out_shape[1 if layout == "NCHW" else 3], *_extent(problem, result))
    inside = common._replace(
        groups=n * problem.groups, layout="NCHW",
        out=out.reshape(joined) if direct else None,
    )  # fmt: skip
    first = _joined(a, layout)
    second = _joined(b, layout) if result == "w" else b.reshape(n * k, *w_shape[2:])
    images = (1, n * problem.c, problem.h, problem.w)
    found = request(
        function, 2, result, first, second, images, (n * k, *w_shape[2:]), inside, bias, activation
    ).run()
    if result == "w":
        found = found.reshape(shape)
    else:
        found = found.reshape(n, -1, *found.shape[2:])
        found = found if layout == "NCHW" else found.transpose(0, 2, 3, 1)
    if out is None:
        return found
    if not direct:
        out[...] = found
    return out


def _extent(problem: ConvProblem, result: Result) -> Shape:
    """Height and width of the result's images."""
    return (problem.h, problem.w) if result == "x" else (problem.p, problem.q)


def _joined(images: Any, layout: str) -> Any:
    """View the channels of all images of a batch as those of one."""
    planes = images if layout == "NCHW" else images.transpose(0, 3, 1, 2)
    return planes.reshape(1, -1, *planes.shape[2:])
