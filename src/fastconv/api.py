"""The calls: arguments in, arrays out."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from . import arguments, calls, dispatch, interchange
from .dtypes import Promotion, as_dtype
from .explanation import Explanation
from .geometry import Pad, Shape, Size
from .keys import is_plain
from .options import current, resolve
from .problem import ConvProblem, Cost


def conv2d(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
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
    """Convolve images with kernels: the 2-D cross-correlation of neural networks.

    ``y[n,k,p,q] = activation(bias[k] + sum over c, r, s of w[k,c,r,s] * x[n, c, p*stride + r*
    dilation - pad, q*stride + s*dilation - pad])``

    Parameters
    ----------
    x : array
        (N, C, H, W) or, for one image, (C, H, W); (H, W) for plain image filtering. With
        ``layout="NHWC"`` (N, H, W, C) or (H, W, C). NumPy, CuPy, or any library's that has
        ``__dlpack__``, all of one; any strides; read-only, misaligned and byte-swapped arrays are
        fine.
    w : array
        (K, C/groups, R, S) in either layout, any strides; (R, S) with x (H, W).
    stride, dilation : int or (int, int), default 1
        (vertical, horizontal), at least 1.
    pad : int, (int, int), ((int, int), (int, int)) or str, default 0
        Pixels around the image: one number, (vertical, horizontal), ((top, bottom), (left,
        right)); ``"valid"``: none; ``"same"``: output ceil(H/stride), an odd pixel goes to the
        end; ``"same_lower"``: to the beginning; ``"full"``: every overlap.
    groups : int, default 1
        Channels are split into `groups` independent convolutions; divides C and K.
    bias : array (K,), optional
        Added before the activation.
    activation : str, optional
        ``relu``, ``relu6``, ``leaky_relu`` (slope 0.01), ``sigmoid``, ``tanh``, ``silu``,
        ``gelu`` (exact), ``hardswish``.
    pad_mode : str, default "constant"
        ``constant`` (zeros), ``edge``, ``reflect``, ``symmetric``, ``wrap``: as in `numpy.pad`.
    flip : bool, default False
        True gives the convolution of the mathematics, (F*I)(x,y) = sum F(i,j) I(x-i, y-j), by
        turning the kernel by 180 degrees. Neural networks mean False.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        Axis order of x, out and the result; w keeps its own.
    out : array, optional
        Receives the result, and is returned: right shape and dtype, any strides. It may overlap
        the inputs; the result is as if it did not.
    dtype : dtype, optional
        Of result and accumulator. Default: x and w promoted as NumPy does; integers accumulate
        in int32 (8 and 16 bits) or int64 (wider), exact modulo 2**bits; complex operands make a
        complex result, each product of real or imaginary parts summed as that of real numbers.
    precision : {"strict", "fast"}, optional
        ``strict`` (default) sums every product in floating point, the same bits for any number
        of threads or images in the batch; ``fast`` permits separable kernels in two passes,
        Winograd, FFT, and complex products by three multiplications, within bounds of their own
        (`fastconv.accuracy.FAST`).
    backend : {"cuda", "native", "numba", "reference"}, optional
        Serves or raises. Default: by the kind of array, then the first that can.
    threads : int, optional
        Most threads this call may use.

    Returns
    -------
    array
        Of the arguments' library: (N, K, P, Q), (K, P, Q) or (P, Q); channels last with
        ``layout="NHWC"``; with P = (H + top + bottom - (R-1)*dilation - 1) // stride + 1, Q
        likewise.

    Raises
    ------
    ShapeError
        Sizes that describe no convolution; the message names the shapes and the fix.
    DTypeError
        Arrays that are not numbers, or a `dtype` that would cut off fractions or imaginary parts.
    OutputError
        `out` has the wrong shape or dtype, or is read-only.
    BackendUnavailable, BackendUnsupported
        The named backend cannot be used here, or does not compute this.
    MemoryError
        The result, or a thread's scratch memory, cannot be allocated.

    Notes
    -----
    N*K*P*Q*(C/groups)*R*S multiply-accumulates; see `conv_cost`. Scratch memory is bounded and
    does not grow with the image. Strict results stay within ``n*u/(1-n*u) * sum |x||w|`` of the
    exact sum of n = (C/groups)*R*S products, u the unit roundoff.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.ones((1, 3, 224, 224), dtype="float32")
    >>> w = np.ones((64, 3, 11, 11), dtype="float32")
    >>> fastconv.conv2d(x, w, stride=4, pad=2).shape
    (1, 64, 55, 55)

    Filter an image; the kernel below answers at vertical edges:

    >>> image = np.zeros((4, 6)); image[:, 3:] = 1
    >>> sobel = np.array([[-1., 0, 1], [-2, 0, 2], [-1, 0, 1]])
    >>> fastconv.conv2d(image, sobel)
    array([[0., 4., 4., 0.],
           [0., 4., 4., 0.]])
    """
    around = current()
    key = None
    if (
        type(x) is type(w) is np.ndarray
        and (bias is None or type(bias) is np.ndarray)
        and (out is None or type(out) is np.ndarray)
        and (threads is None or type(threads) is int)
        and is_plain(stride, pad, dilation, groups)
    ):
        key = (
            x.shape, w.shape, x.dtype, w.dtype, stride, pad, dilation, groups,
            None if bias is None else (bias.shape, bias.dtype), activation, pad_mode, flip, layout,
            dtype, precision, backend, threads, id(around),
        )  # fmt: skip
        known = calls.remembered(key)
        if known is not None:
            if known.direct is not None:
                y = known.direct(x, w, bias, out)
                if y is not None:
                    return y
            return known.call.run(x, w, bias, out, flip)
    elif interchange.any_foreign(x, w, bias, out):
        return interchange.call(
            conv2d,
            (x, w, stride, pad),
            {
                "dilation": dilation, "groups": groups, "bias": bias, "activation": activation,
                "pad_mode": pad_mode, "flip": flip, "layout": layout, "out": out, "dtype": dtype,
                "precision": precision, "backend": backend, "threads": threads,
            },
        )  # fmt: skip
    arrays = arguments.array_kind(x, w, bias, out)
    x, w = arguments.as_array("x", x), arguments.as_array("w", w)
    bias = None if bias is None else arguments.as_array("bias", bias)
    described = calls.describe(
        x.shape, x.dtype, w, stride, pad, dilation, groups, bias, activation, pad_mode, layout,
        dtype,
    )  # fmt: skip
    if out is not None:
        arguments.check_output(calls.namespace(arrays), *described, out)
    call = calls.Call(described, resolve(backend, precision, threads), arrays)
    if key is not None:
        calls.remember(key, call, flip, x.dtype.name, around)
    return call.run(x, w, bias, out, flip)


def output_shape(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
    layout: str = "NCHW",
) -> Shape:
    """Shape that `conv2d` returns for these arrays or shapes; computes nothing.

    Parameters
    ----------
    x, w : array or tuple of int
        Arrays, or their shapes.
    stride, pad, dilation, groups, layout
        As in `conv2d`.

    Raises
    ------
    ShapeError
        As `conv2d` would.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.output_shape((1, 3, 224, 224), (64, 3, 11, 11), stride=4, pad=2)
    (1, 64, 55, 55)
    """
    return ConvProblem.describe(
        _shape(x), _shape(w), stride=stride, pad=pad, dilation=dilation, groups=groups,
        layout=layout,
    ).out_shape  # fmt: skip


@interchange.served
def conv_cost(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
    layout: str = "NCHW",
    dtype: Any = None,
) -> Cost:
    """Count what `conv2d` would cost: multiply-accumulates, flops, bytes, arithmetic intensity.

    Parameters
    ----------
    x, w : array or tuple of int
        Arrays, or their shapes (then float32 unless `dtype` says otherwise).
    stride, pad, dilation, groups, layout, dtype
        As in `conv2d`.

    Returns
    -------
    Cost
        ``macs``, ``flops``, ``bytes`` (x, w read once, y written once), ``intensity``.

    Examples
    --------
    >>> import fastconv
    >>> cost = fastconv.conv_cost((1, 3, 224, 224), (64, 3, 11, 11), stride=4, pad=2)
    >>> cost.macs, round(cost.intensity, 1)
    (70276800, 95.7)
    """
    return ConvProblem.describe(
        _shape(x), _shape(w), stride=stride, pad=pad, dilation=dilation, groups=groups,
        layout=layout, promotion=_promotion_of(x, w, dtype),
    ).cost  # fmt: skip


@interchange.served
def explain(
    x: Any,
    w: Any,
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
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
) -> Explanation:
    """Say what `conv2d` would do with the same arguments, and why; computes nothing.

    Parameters
    ----------
    x, w, bias : array or tuple of int
        Arrays, or their shapes (then float32 unless `dtype` says otherwise).
    stride, pad, dilation, groups, activation, pad_mode, flip, layout, out, dtype, precision, \
backend, threads
        As in `conv2d`.

    Returns
    -------
    Explanation
        Prints as a short report: the problem, the chosen backend and algorithm, every rejected
        one with its reason, the cost and the scratch memory.

    Examples
    --------
    >>> import fastconv
    >>> report = fastconv.explain((1, 3, 32, 32), (8, 3, 3, 3), backend="reference")
    >>> report.backend, report.algorithm
    ('reference', 'definition')
    """
    choice_options = resolve(backend, precision, threads)
    held = [a for a in (x, w, bias, out) if not isinstance(a, tuple | None)]
    arrays = arguments.array_kind(*held) if held else dispatch.arrays_for(choice_options)
    problem = ConvProblem.describe(
        _shape(x), _shape(w), stride=stride, pad=pad, dilation=dilation, groups=groups,
        pad_mode=pad_mode, layout=layout, promotion=_promotion_of(x, w, dtype),
        bias_shape=None if bias is None else _shape(bias), activation=activation,
    )  # fmt: skip
    choice = dispatch.select(problem, choice_options, arrays)
    if not isinstance(w, tuple) and arrays == "numpy" and problem.out_bytes:
        choice = calls.choice_for(problem, choice_options, choice, w, _promotion_of(x, w, dtype))
    others = dispatch.rejections(problem, choice_options, arrays)
    return Explanation.of(problem, choice_options, choice, others)


def _shape(value: Any) -> Shape:
    """Shape of an array, or a tuple that already is one."""
    if isinstance(value, tuple):
        return value
    return cast(Shape, tuple(value.shape if hasattr(value, "shape") else np.shape(value)))


def _promotion_of(x: Any, w: Any, dtype: Any) -> Promotion:
    """Promotion for arrays, or for shapes, which stand for float32."""
    plain = np.dtype("float32") if dtype is None else as_dtype(dtype)
    return calls.promotion_of(getattr(x, "dtype", plain), getattr(w, "dtype", plain), dtype)
