"""Convolutions of signals and volumes."""

from __future__ import annotations

from typing import Any

from .request import Operator, Request, forward


@Operator
def conv1d(
    x: Any,
    w: Any,
    stride: int | tuple[int, ...] = 1,
    pad: Any = 0,
    *,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str | None = None,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCL",
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Request:
    """Convolve signals with kernels: `fastconv.conv2d` in one dimension.

    ``y[n,k,q] = activation(bias[k] + sum over c, s of w[k,c,s] * x[n, c, q*stride + s*dilation -
    pad])``

    Parameters
    ----------
    x : array
        (N, C, L) or, for one signal, (C, L); (L) for plain filtering. With ``layout="NLC"``
        (N, L, C) or (L, C).
    w : array
        (K, C/groups, S) in either layout; (S) with x (L).
    stride, dilation : int, default 1
    pad : int, (int, int) or str, default 0
        Samples at both ends, or (before, after), or a name as in `conv2d`.
    groups, bias, activation, pad_mode, flip, out, dtype, precision, backend, threads
        As in `conv2d`.
    layout : {"NCL", "NLC"}, default "NCL"

    Returns
    -------
    array
        (N, K, Q), (K, Q) or (Q); channels last with ``layout="NLC"``; with
        Q = (L + before + after - (S-1)*dilation - 1) // stride + 1.

    Raises
    ------
    ShapeError, DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d`.

    Notes
    -----
    N*K*Q*(C/groups)*S multiply-accumulates. It is the convolution of images of height 1, of the
    same bits.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv1d(np.array([1., 2, 4, 8]), np.array([-1., 1]))
    array([1., 2., 4.])
    >>> fastconv.conv1d.output_shape((1, 2, 16000), (64, 2, 400), stride=160)
    (1, 64, 98)
    """
    return forward("conv1d", 1, locals())


@Operator
def conv3d(
    x: Any,
    w: Any,
    stride: int | tuple[int, ...] = 1,
    pad: Any = 0,
    *,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str | None = None,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCDHW",
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Request:
    """Convolve volumes with kernels: `fastconv.conv2d` in three dimensions.

    ``y[n,k,o,p,q] = activation(bias[k] + sum over c, t, r, s of w[k,c,t,r,s] * x[n, c, o*stride +
    t*dilation - pad, ...])``

    Parameters
    ----------
    x : array
        (N, C, D, H, W) or, for one volume, (C, D, H, W); (D, H, W) for plain filtering. With
        ``layout="NDHWC"`` (N, D, H, W, C) or (D, H, W, C).
    w : array
        (K, C/groups, T, R, S) in either layout; (T, R, S) with x (D, H, W).
    stride, dilation : int or (int, int, int), default 1
        (depth, vertical, horizontal).
    pad : int, (int, int, int), ((int, int), (int, int), (int, int)) or str, default 0
        One number, one an axis, ((front, back), (top, bottom), (left, right)), or a name as in
        `conv2d`.
    groups, bias, activation, pad_mode, flip, out, dtype, precision, backend, threads
        As in `conv2d`.
    layout : {"NCDHW", "NDHWC"}, default "NCDHW"

    Returns
    -------
    array
        (N, K, O, P, Q), (K, O, P, Q) or (O, P, Q); channels last with ``layout="NDHWC"``.

    Raises
    ------
    ShapeError, DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d`.

    Notes
    -----
    N*K*O*P*Q*(C/groups)*T*R*S multiply-accumulates. Nothing is unfolded: scratch memory is that of
    `conv2d` and packed weights, or a few planes of sums.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.ones((1, 2, 8, 8, 8)), np.ones((4, 2, 3, 3, 3))
    >>> fastconv.conv3d(x, w, pad="same").shape
    (1, 4, 8, 8, 8)
    """
    return forward("conv3d", 3, locals())
