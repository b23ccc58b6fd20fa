"""PyTorch: a function of ours, its derivative's first half, and `override`.

`bare` is fastconv's call on arrays in a Python kernel that PyTorch's dispatcher calls for an
operator with a convolution's arguments, the cheapest way PyTorch has to call one; or in an
`autograd.Function`. A `torch.library.custom_op` costs another ten microseconds, which eager calls
do without.
"""

from __future__ import annotations

from typing import Any

import torch

import fastconv
import fastconv.interop.torch as fct
from fastconv.interop.torch import overriding

from .row import Row

_LIBRARY = torch.library.Library("fastconv_bench", "DEF")
_ARGUMENTS = (
    "(Tensor x, Tensor w, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, "
    "bool transposed, SymInt[] output_padding, SymInt groups) -> Tensor"
)


def _kernel(x: Any, w: Any, *_: Any) -> Any:
    return torch.from_numpy(fastconv.conv2d(x.numpy(), w.numpy()))


for name, kernel in (("bare", _kernel), ("override", overriding._convolution)):
    _LIBRARY.define(name + _ARGUMENTS)
    _LIBRARY.impl(name, kernel, "CPU")


class _Bare(torch.autograd.Function):
    """The cheapest way to have a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        ctx.save_for_backward(x, w)
        return torch.from_numpy(fastconv.conv2d(x.numpy(), w.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        raise NotImplementedError


def rows() -> list[Row]:
    """Calls of some pixels."""
    torch.set_num_threads(1)
    x, w = torch.randn(1, 1, 6, 6), torch.randn(1, 1, 3, 3)
    learned = w.clone().requires_grad_()
    last = torch.randn(1, 4, 6, 6).to(memory_format=torch.channels_last)
    kernels = torch.randn(4, 4, 3, 3).to(memory_format=torch.channels_last)
    own, ones, zeros = torch.nn.functional.conv2d, [1, 1], [0, 0]

    def dispatched(name: str, x: Any, w: Any) -> Any:
        operator = getattr(torch.ops.fastconv_bench, name).default
        return lambda: operator(x, w, None, ones, zeros, ones, False, zeros, 1)

    return [
        Row("conv2d", lambda: fct.conv2d(x, w), dispatched("bare", x, w), lambda: own(x, w)),
        Row("conv2d, channels last", lambda: fct.conv2d(last, kernels),
            dispatched("bare", last, kernels), lambda: own(last, kernels)),
        Row("conv2d, w requires grad", lambda: fct.conv2d(x, learned),
            lambda: _Bare.apply(x, learned), lambda: own(x, learned)),
        Row("what override() has PyTorch call", dispatched("override", x, w),
            dispatched("bare", x, w), lambda: own(x, w)),
    ]  # fmt: skip
