"""Tensors as arrays, and what fastconv computes from them. No copies, but for bits of laziness.

A tensor is handed over as NumPy's view of its memory and comes back as a view of NumPy's. What
PyTorch calls a memory format is `layout` of fastconv, and a permutation of axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import fastconv

from ...dtypes import as_dtype
from ...errors import FastconvError
from .checks import INTEGERS, ConvolutionError
from .geometry import Geometry

#: Axes of images, channels first, where they lie channels last; and the way back.
TO_LAST = {1: (0, 2, 1), 2: (0, 2, 3, 1), 3: (0, 2, 3, 4, 1)}
TO_FIRST = {1: (0, 2, 1), 2: (0, 3, 1, 2), 3: (0, 4, 1, 2, 3)}
LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}
#: Axes that the gradient of a bias is summed over.
PIXELS = {1: (0, 2), 2: (0, 2, 3), 3: (0, 2, 3, 4)}


def _families(name: str) -> dict[tuple[int, bool], Any]:
    """Return fastconv's functions of that name, by dimensions and whether they are transposed."""
    return {
        (spatial, transposed): getattr(fastconv, f"conv{family}{spatial}d{name}")
        for spatial in (1, 2, 3)
        for transposed, family in ((False, ""), (True, "_transpose"))
    }


_from_numpy = torch.from_numpy
_FORWARD, _INPUT_GRAD, _WEIGHT_GRAD = map(_families, ("", "_input_grad", "_weight_grad"))


def array(tensor: Any) -> Any:
    """View a tensor as an array; copied where its conjugation or negation is still to be done."""
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(as_dtype("bfloat16"))
    return tensor.numpy(force=True)


def tensor(array: Any) -> Any:
    """View an array as a tensor."""
    if (
        array.dtype.kind == "V"
    ):  # bfloat16, the only dtype here that NumPy has not; its name is slow
        return _from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return _from_numpy(array)


def lies_last(tensor: Any) -> bool:
    """Whether PyTorch takes a tensor (N, C, H, W) or (N, C, D, H, W) for a channels-last one."""
    strides = tensor.stride()
    step = strides[1]
    if strides[-1] < step or len(strides) < 4:
        return False
    shape = tensor.shape
    if 0 in shape:
        return False
    step *= shape[1]
    for axis in range(len(strides) - 1, 1, -1):
        if strides[axis] < step:
            return False
        step = strides[axis] * shape[axis]
    # where all sizes but N are 1 both formats are the same, and PyTorch takes the other one
    return bool(strides[0] >= step and strides[0] != strides[1])


def channels_last(first: Any, second: Any) -> bool:
    """Whether a result of these two is: PyTorch's own rule, as soon as one of them is."""
    return lies_last(first) or lies_last(second)


def forward(x: Any, w: Any, bias: Any, g: Geometry, last: bool) -> Any:
    """Convolve batches, `last`: the result lies channels last."""
    image, compute, options = array(x), _FORWARD[g.spatial, g.transposed], g.options
    if bias is not None:
        options = {**options, "bias": array(bias)}
    narrow = x.dtype in INTEGERS
    if narrow:  # modulo 2**32, what is wanted modulo 2**8 and 2**16 too
        options = {**options, "dtype": "int32"}
    try:
        if not last:
            y = compute(image, array(w), **options)
        else:
            image, layout = image.transpose(TO_LAST[g.spatial]), LAST[g.spatial]
            y = compute(image, array(w), layout=layout, **options).transpose(TO_FIRST[g.spatial])
    except FastconvError as error:
        raise ConvolutionError(str(error)) from error
    return tensor(y.astype(image.dtype, copy=False) if narrow else y)


def input_grad(x_shape: Any, w: Any, gy: Any, g: Geometry, last: bool) -> Any:
    """Gradient of the input, of shape `x_shape`."""
    slope, spatial = array(gy), g.spatial
    compute = _INPUT_GRAD[spatial, g.transposed]
    shape = tuple(x_shape)
    try:
        if not last:
            return tensor(compute(shape, array(w), slope, **g.options))
        gx = compute(
            tuple(shape[axis] for axis in TO_LAST[spatial]), array(w),
            slope.transpose(TO_LAST[spatial]), layout=LAST[spatial], **g.options,
        )  # fmt: skip
    except FastconvError as error:
        raise ConvolutionError(str(error)) from error
    return tensor(gx.transpose(TO_FIRST[spatial]))


def weight_grad(x: Any, w_shape: Any, gy: Any, g: Geometry, last: bool) -> Any:
    """Gradient of the weight, of shape `w_shape`, which lies channels last as well."""
    image, slope, spatial = array(x), array(gy), g.spatial
    compute = _WEIGHT_GRAD[spatial, g.transposed]
    shape = tuple(w_shape)
    try:
        if not last:
            return tensor(compute(image, shape, slope, **g.options))
        gw = np.empty([shape[axis] for axis in TO_LAST[spatial]], image.dtype)
        gw = gw.transpose(TO_FIRST[spatial])
        compute(
            image.transpose(TO_LAST[spatial]), shape, slope.transpose(TO_LAST[spatial]),
            layout=LAST[spatial], out=gw, **g.options,
        )  # fmt: skip
    except FastconvError as error:
        raise ConvolutionError(str(error)) from error
    return tensor(gw)
