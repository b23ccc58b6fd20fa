"""Convolutions of tensors with the signatures of `torch.nn.functional`."""

from __future__ import annotations

from typing import Any

import torch

from . import compute, eager
from .geometry import prepare, prepared
from .operators import convolution
from .ways import check_device, is_differentiated, is_eager, is_transformed


def _plain(value: Any) -> Any:
    """Make a list a tuple, which can be remembered."""
    return tuple(value) if isinstance(value, list) else value


def _autocast(*operands: Any) -> list[Any]:
    """Cast floats as `torch.autocast` asks for a convolution; doubles stay."""
    dtype = torch.get_autocast_dtype("cpu")
    return [
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in operands
    ]


def _call(
    spatial: int,
    transposed: bool,
    x: Any,
    w: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    groups: Any,
) -> Any:
    """Convolve a batch or one image, the shortest way that serves."""
    if torch.is_autocast_enabled("cpu"):
        x, w, bias = _autocast(x, w, bias)
    at_once = is_eager(x, w, bias)
    if not at_once:
        check_device(x, w, bias)
    describe = prepared if at_once else prepare
    g, batched = describe(
        spatial, transposed, x.shape, w.shape, None if bias is None else bias.shape,
        (x.dtype, w.dtype, None if bias is None else bias.dtype),
        _plain(stride), _plain(padding), _plain(dilation), _plain(output_padding), groups,
    )  # fmt: skip
    if not batched:
        x = x.unsqueeze(0)
    if not at_once or is_transformed():
        y = convolution(x, w, bias, *g.attributes)
    elif is_differentiated(x, w, bias):
        y = eager.convolution(x, w, bias, g)
    else:
        y = compute.forward(x, w, bias, g, compute.channels_last(x, w))
    return y if batched else y.squeeze(0)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve signals: `torch.nn.functional.conv1d`, computed by `fastconv.conv1d`.

    As `conv2d`, input (N, C, L) or (C, L) and weight (K, C/groups, S).

    Examples
    --------
    >>> import torch, fastconv.interop.torch as fct
    >>> fct.conv1d(torch.ones(1, 2, 8), torch.ones(4, 2, 3)).shape
    torch.Size([1, 4, 6])
    """
    return _call(1, False, input, weight, bias, stride, padding, dilation, 0, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve images: `torch.nn.functional.conv2d`, computed by `fastconv.conv2d`.

    Parameters
    ----------
    input : Tensor
        (N, C, H, W) or (C, H, W) on the CPU, with any strides. float16, bfloat16 (with ml_dtypes),
        float32, float64, complex64, complex128 or int64.
    weight : Tensor
        (K, C/groups, R, S), of the same dtype.
    bias : Tensor (K,), optional
        Of the same dtype.
    stride, dilation : int or tuple of int, default 1
    padding : int, tuple of int, "valid" or "same", default 0
        Zeros at both ends of each axis. ``"same"``: as many as keep the size, without strides.
    groups : int, default 1

    Returns
    -------
    Tensor
        (N, K, P, Q) or (K, P, Q); channels last where `input` or `weight` is. Differentiable, any
        number of times, backwards and forwards.

    Raises
    ------
    ConvolutionError
        A RuntimeError, as PyTorch raises: shapes, dtypes or numbers that describe no convolution.
    TypeError
        Arguments that are no integers.

    Notes
    -----
    No tensor is copied. `fastconv.options` holds here, its number of threads and precision; those
    that `torch.set_num_threads` and the backend flags set do not. Under ``torch.autocast`` floats
    are cast as PyTorch casts them.

    Examples
    --------
    >>> import torch, fastconv.interop.torch as fct
    >>> x, w = torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3, requires_grad=True)
    >>> fct.conv2d(x, w, padding="same").sum().backward()
    >>> w.grad.shape
    torch.Size([4, 3, 3, 3])
    """
    return _call(2, False, input, weight, bias, stride, padding, dilation, 0, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve volumes: `torch.nn.functional.conv3d`, computed by `fastconv.conv3d`.

    As `conv2d`, input (N, C, D, H, W) or (C, D, H, W) and weight (K, C/groups, T, R, S).

    Examples
    --------
    >>> import torch, fastconv.interop.torch as fct
    >>> fct.conv3d(torch.ones(1, 2, 4, 4, 4), torch.ones(4, 2, 3, 3, 3)).shape
    torch.Size([1, 4, 2, 2, 2])
    """
    return _call(3, False, input, weight, bias, stride, padding, dilation, 0, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution of signals: `torch.nn.functional.conv_transpose1d`.

    As `conv_transpose2d`, input (N, C, L) or (C, L) and weight (C, K/groups, S).
    """
    return _call(1, True, input, weight, bias, stride, padding, dilation, output_padding, groups)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution of images: `torch.nn.functional.conv_transpose2d`.

    Computed by `fastconv.conv_transpose2d`. Parameters, result and errors are those of `conv2d`,
    but for these.

    Parameters
    ----------
    weight : Tensor
        (C, K/groups, R, S).
    padding : int or tuple of int, default 0
        Pixels cut off at both ends of each axis of the result.
    output_padding : int or tuple of int, default 0
        Pixels added at the end of each axis, less than its stride or its dilation.

    Examples
    --------
    >>> import torch, fastconv.interop.torch as fct
    >>> fct.conv_transpose2d(torch.ones(1, 3, 4, 4), torch.ones(3, 8, 2, 2), stride=2).shape
    torch.Size([1, 8, 8, 8])
    """
    return _call(2, True, input, weight, bias, stride, padding, dilation, output_padding, groups)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Transposed convolution of volumes: `torch.nn.functional.conv_transpose3d`.

    As `conv_transpose2d`, input (N, C, D, H, W) or (C, D, H, W) and weight (C, K/groups, T, R, S).
    """
    return _call(3, True, input, weight, bias, stride, padding, dilation, output_padding, groups)
