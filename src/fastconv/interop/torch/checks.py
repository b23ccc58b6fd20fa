"""What is refused, as `aten::convolution` refuses it: dtypes, numbers, shapes that do not fit.

Shapes may be those of tensors that are traced, whose sizes are symbols.
"""

from __future__ import annotations

import importlib.util
import math
import operator
from typing import Any

import torch

from ...errors import FastconvError

Sizes = tuple[int, ...]

#: Integers whose sums are of their own dtype, modulo its size, as PyTorch adds them up.
INTEGERS = {torch.int8, torch.uint8, torch.int16, torch.int32}
DTYPES = {
    torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.int64,
    *INTEGERS,
    *([torch.bfloat16] if importlib.util.find_spec("ml_dtypes") else []),
}  # fmt: skip

#: What the legacy types of CPU tensors are called, which PyTorch's own messages speak of.
_LEGACY = {
    torch.float16: "Half", torch.float32: "Float", torch.float64: "Double", torch.int64: "Long",
    torch.bfloat16: "BFloat16", torch.complex64: "ComplexFloat", torch.complex128: "ComplexDouble",
}  # fmt: skip


class ConvolutionError(FastconvError, RuntimeError):
    """What is wrong with a convolution of tensors: the RuntimeError that PyTorch raises."""


def check_dtypes(x: Any, w: Any, bias: Any) -> None:
    """Raise unless all operands are of one dtype that is served; bias may be None."""
    for name, dtype in (("weight", w), ("bias", bias)):
        if dtype is not None and dtype != x:
            raise ConvolutionError(
                f"Input type ({_type(x)}) and {name} type ({_type(dtype)}) should be the same"
            )
    missing = "; pip install ml_dtypes" if x == torch.bfloat16 else ""
    if x not in DTYPES:
        raise ConvolutionError(f'"fastconv" not implemented for {str(x)!r}{missing}')


def _type(dtype: Any) -> str:
    return f"torch.{_LEGACY[dtype]}Tensor" if dtype in _LEGACY else str(dtype)


def integer(name: str, value: Any) -> Any:
    """Return what stands for an integer as one; symbols stay."""
    if isinstance(value, torch.SymInt):
        return value
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name} must be made of integers, got {value!r:.60}")


def expanded(name: str, value: Any, spatial: int) -> Sizes:
    """One number an axis: a number alone, or a sequence of one, is that of every axis."""
    given = value if isinstance(value, tuple | list) else (value,)
    sizes = tuple(integer(name, size) for size in given)
    if len(sizes) not in (1, spatial):
        raise ConvolutionError(
            f"expected {name} to be a single integer value or a list of {spatial} values to match "
            f"the convolution dimensions, but got {name}={list(sizes)}"
        )
    return sizes * spatial if len(sizes) == 1 else sizes


def check_numbers(
    stride: Sizes, padding: Sizes, dilation: Sizes, output_padding: Sizes, groups: int
) -> None:
    """Raise for numbers that no shapes would fit."""
    if min(padding) < 0:
        raise ConvolutionError("negative padding is not supported")
    if min(output_padding) < 0:
        raise ConvolutionError("negative output_padding is not supported")
    if min(stride) < 1:
        raise ConvolutionError("non-positive stride is not supported")
    if min(dilation) < 1:
        raise ConvolutionError("dilation should be greater than zero")
    if groups < 1:
        raise ConvolutionError("non-positive groups is not supported")
    for extra, step, spread in zip(output_padding, stride, dilation, strict=True):
        if extra >= step and extra >= spread:
            raise ConvolutionError(
                "output padding must be smaller than either stride or dilation, but got "
                f"output_padding {list(output_padding)}, stride {list(stride)}, dilation "
                f"{list(dilation)}"
            )


def check_ranks(x: Sizes, w: Sizes) -> None:
    """Raise unless x and w have as many axes as each other, one of an image at least."""
    if len(w) < 3:
        raise ConvolutionError("weight should have at least three dimensions")
    if len(x) != len(w):
        raise ConvolutionError(
            f"Expected {len(w)}-dimensional input for {len(w)}-dimensional weight {list(w)}, but "
            f"got {len(x)}-dimensional input of size {list(x)} instead"
        )


def check_shapes(x: Sizes, w: Sizes, bias: Sizes | None, transposed: bool, groups: int) -> None:
    """Raise unless x, w and bias are those of one convolution of batches."""
    given = f"Given groups={groups}, "
    if w[0] < groups:
        raise ConvolutionError(
            f"{given}expected weight to be at least {groups} at dimension 0, but got weight of "
            f"size {list(w)} instead"
        )
    if w[0] % groups:
        raise ConvolutionError(
            f"{given}expected weight to be divisible by {groups} at dimension 0, but got weight "
            f"of size {list(w)} instead"
        )
    channels = w[0] if transposed else w[1] * groups
    if x[1] != channels:
        raise ConvolutionError(
            f"Given {'transposed=1' if transposed else f'groups={groups}'}, weight of size "
            f"{list(w)}, expected input{list(x)} to have {channels} channels, but got {x[1]} "
            "channels instead"
        )
    k = w[1] * groups if transposed else w[0]
    if bias is not None and tuple(bias) != (k,):
        raise ConvolutionError(
            f"Given weight of size {list(w)}, expected bias to be 1-dimensional with {k} elements, "
            f"but got bias of size {list(bias or ())} instead"
        )
    for name, shape in (("input", x), ("weight", w)):
        if math.prod(shape[1:]) == 0:
            raise ConvolutionError(
                f"Expected {name} with non-zero channels and sizes, got one of size {list(shape)}"
            )
