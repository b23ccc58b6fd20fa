"""The short way of a call whose derivatives may be asked for: nothing of it is done twice.

A training step makes thousands of such calls. They are described already, and no transformation of
`torch.func` is at work, so that what `torch.autograd.Function` does before it gets to its own
machinery, a third of its time, is not needed but for tensors that outlived a transformation.
"""

from __future__ import annotations

from typing import Any

import torch

from . import compute
from .geometry import Geometry
from .operators import convolution_grads, convolution_tangent
from .ways import has_tangents

_alive = torch._C._functorch.unwrap_if_dead


class _Convolution(torch.autograd.Function):  # type: ignore[misc]
    """C of a call that is described already: its checks are not made again."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, bias: Any, g: Geometry) -> Any:
        """Compute y."""
        ctx.geometry = g
        ctx.save_for_backward(x, w)
        if has_tangents():
            ctx.save_for_forward(x, w)
        return compute.forward(x, w, bias, g, compute.channels_last(x, w))

    @staticmethod
    def backward(ctx: Any, gy: Any) -> Any:
        """Return gradients of the operands."""
        ctx.attributes = ctx.geometry.attributes
        return convolution_grads(ctx, gy)[:4]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Return the tangent of y."""
        ctx.attributes, ctx.y_shape = ctx.geometry.attributes, ctx.geometry.y_shape
        return convolution_tangent(ctx, *tangents)


#: Past `torch.autograd.Function.apply`, which looks for defaults and transformations first.
_apply = super(torch.autograd.Function, _Convolution).apply


def convolution(x: Any, w: Any, bias: Any, g: Geometry) -> Any:
    """Convolve eager batches outside of transformations."""
    return _apply(_alive(x), _alive(w), None if bias is None else _alive(bias), g)
