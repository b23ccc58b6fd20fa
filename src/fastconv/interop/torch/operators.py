"""Convolutions and their two gradients as operators of PyTorch: traced, differentiated, batched.

Each of y = C(x, w), gx = X(w, gy) and gw = W(x, gy) is linear in both of its operands (X conjugates
w, W conjugates x), and the derivatives of each are the other two:

    =====  ==================  ==================
    of     for the first       for the second
    =====  ==================  ==================
    C      X(w, g)             W(x, g)
    X      W(g, gy)            C(g, w)
    W      X(g, gy)            C(x, g)
    =====  ==================  ==================

so that derivatives of any order are computed by these three. A call goes the shortest of three ways
that serves it: straight to NumPy's views; an `autograd.Function`, in eager mode; a custom operator,
wherever PyTorch traces.
"""

from __future__ import annotations

from typing import Any

import torch

from . import batching, compute
from .checks import ConvolutionError, check_dtypes
from .geometry import Geometry, geometry, known_geometry
from .registration import functions, register, way
from .ways import PLAIN, is_forward_mode

#: Gradients of the attributes.
_NO_GRADIENTS = (None,) * 6
_FORMATS = {3: torch.contiguous_format, 4: torch.channels_last, 5: torch.channels_last_3d}


def _described(x: Any, w: Any, bias: Any, gy: Any, attributes: tuple[Any, ...]) -> Geometry:
    """Check what a kernel is given; x and w may be shapes."""
    tensors = [t for t in (x, w, gy) if isinstance(t, torch.Tensor)]
    check_dtypes(tensors[0].dtype, tensors[1].dtype, None if bias is None else bias.dtype)
    shapes = [tuple(t.shape if isinstance(t, torch.Tensor) else t) for t in (x, w)]
    stride, padding, dilation, transposed, output_padding, groups = attributes
    describe: Any = known_geometry if type(tensors[0]) in PLAIN else geometry
    found: Geometry = describe(
        *shapes, None if bias is None else tuple(bias.shape), tuple(stride), tuple(padding),
        tuple(dilation), transposed, tuple(output_padding), groups,
    )  # fmt: skip
    if gy is not None and tuple(gy.shape) != found.y_shape:
        raise ConvolutionError(
            f"Expected a gradient of size {list(found.y_shape)}, got one of size {list(gy.shape)}"
        )
    return found


def _blank(shape: Any, like: Any, last: bool) -> Any:
    """Return an empty tensor of the memory format that a result has."""
    layout = _FORMATS[len(shape)] if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


# y = C(x, w, bias)


def convolution(x: Any, w: Any, bias: Any, *attributes: Any) -> Any:
    """Convolve batches; a transposed convolution's weight is (C, K/groups, ...)."""
    run = way(_CONVOLUTION, torch.ops.fastconv.convolution.default, x, w, bias)
    return run(x, w, bias, *attributes)


def _convolution(x: Any, w: Any, bias: Any, *attributes: Any) -> Any:
    g = _described(x, w, bias, None, attributes)
    return compute.forward(x, w, bias, g, compute.channels_last(x, w))


def _fake_convolution(x: Any, w: Any, bias: Any, *attributes: Any) -> Any:
    g = _described(x, w, bias, None, attributes)
    return _blank(g.y_shape, x, compute.channels_last(x, w))


def _keep_convolution(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, w, _, *ctx.attributes = inputs
    ctx.y_shape = output.shape
    _save(ctx, x, w)


def convolution_grads(ctx: Any, g: Any) -> tuple[Any, ...]:
    """Gradients of what `ctx` keeps of a call, and of its attributes."""
    x, w = ctx.saved_tensors
    for_x, for_w, for_bias = ctx.needs_input_grad[:3]
    return (
        input_grad(x.shape, w, g, *ctx.attributes) if for_x else None,
        weight_grad(x, w.shape, g, *ctx.attributes) if for_w else None,
        g.sum(compute.PIXELS[g.ndim - 2]) if for_bias else None,
        *_NO_GRADIENTS,
    )


def convolution_tangent(ctx: Any, dx: Any, dw: Any, dbias: Any, *_: Any) -> Any:
    """Tangent of y."""
    x, w = ctx.saved_tensors
    terms = []
    if dx is not None:
        terms.append(convolution(dx, w, None, *ctx.attributes))
    if dw is not None:
        terms.append(convolution(x, dw, None, *ctx.attributes))
    if dbias is not None:
        pixels = (1,) * (len(ctx.y_shape) - 2)
        terms.append(dbias.reshape(-1, *pixels).expand(ctx.y_shape))
    return sum(terms[1:], start=terms[0])


# gx = X(w, gy)


def input_grad(x_size: Any, w: Any, gy: Any, *attributes: Any) -> Any:
    """Gradient of a convolution's input, of size `x_size`."""
    run = way(_INPUT_GRAD, torch.ops.fastconv.convolution_input_grad.default, w, gy)
    return run(x_size, w, gy, *attributes)


def _input_grad(x_size: Any, w: Any, gy: Any, *attributes: Any) -> Any:
    g = _described(x_size, w, None, gy, attributes)
    return compute.input_grad(x_size, w, gy, g, compute.channels_last(gy, w))


def _fake_input_grad(x_size: Any, w: Any, gy: Any, *attributes: Any) -> Any:
    _described(x_size, w, None, gy, attributes)
    return _blank(x_size, gy, compute.channels_last(gy, w))


def _keep_input_grad(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.x_size, w, gy, *ctx.attributes = inputs
    _save(ctx, w, gy)


def _input_grad_grads(ctx: Any, g: Any) -> tuple[Any, ...]:
    w, gy = ctx.saved_tensors
    _, for_w, for_gy = ctx.needs_input_grad[:3]
    return (
        None,
        weight_grad(g, w.shape, gy, *ctx.attributes) if for_w else None,
        convolution(g, w, None, *ctx.attributes) if for_gy else None,
        *_NO_GRADIENTS,
    )


def _input_grad_tangent(ctx: Any, _: Any, dw: Any, dgy: Any, *__: Any) -> Any:
    w, gy = ctx.saved_tensors
    terms = []
    if dw is not None:
        terms.append(input_grad(ctx.x_size, dw, gy, *ctx.attributes))
    if dgy is not None:
        terms.append(input_grad(ctx.x_size, w, dgy, *ctx.attributes))
    return sum(terms[1:], start=terms[0])


# gw = W(x, gy)


def weight_grad(x: Any, w_size: Any, gy: Any, *attributes: Any) -> Any:
    """Gradient of a convolution's weight, of size `w_size`."""
    run = way(_WEIGHT_GRAD, torch.ops.fastconv.convolution_weight_grad.default, x, gy)
    return run(x, w_size, gy, *attributes)


def _weight_grad(x: Any, w_size: Any, gy: Any, *attributes: Any) -> Any:
    g = _described(x, w_size, None, gy, attributes)
    return compute.weight_grad(x, w_size, gy, g, compute.channels_last(x, gy))


def _fake_weight_grad(x: Any, w_size: Any, gy: Any, *attributes: Any) -> Any:
    _described(x, w_size, None, gy, attributes)
    return _blank(w_size, gy, compute.channels_last(x, gy))


def _keep_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, ctx.w_size, gy, *ctx.attributes = inputs
    _save(ctx, x, gy)


def _weight_grad_grads(ctx: Any, g: Any) -> tuple[Any, ...]:
    x, gy = ctx.saved_tensors
    for_x, _, for_gy = ctx.needs_input_grad[:3]
    return (
        input_grad(x.shape, g, gy, *ctx.attributes) if for_x else None,
        None,
        convolution(x, g, None, *ctx.attributes) if for_gy else None,
        *_NO_GRADIENTS,
    )


def _weight_grad_tangent(ctx: Any, dx: Any, _: Any, dgy: Any, *__: Any) -> Any:
    x, gy = ctx.saved_tensors
    terms = []
    if dx is not None:
        terms.append(weight_grad(dx, ctx.w_size, gy, *ctx.attributes))
    if dgy is not None:
        terms.append(weight_grad(x, ctx.w_size, dgy, *ctx.attributes))
    return sum(terms[1:], start=terms[0])


def _save(ctx: Any, *operands: Any) -> None:
    """Keep operands for derivatives, of both directions where there are both."""
    ctx.save_for_backward(*operands)
    if is_forward_mode():
        ctx.save_for_forward(*operands)


_CONVOLUTION = functions(
    "convolution", _convolution, _keep_convolution, convolution_grads, convolution_tangent,
    batching.convolution, convolution,
)  # fmt: skip
_INPUT_GRAD = functions(
    "convolution_input_grad", _input_grad, _keep_input_grad, _input_grad_grads,
    _input_grad_tangent, batching.input_grad, input_grad,
)  # fmt: skip
_WEIGHT_GRAD = functions(
    "convolution_weight_grad", _weight_grad, _keep_weight_grad, _weight_grad_grads,
    _weight_grad_tangent, batching.weight_grad, weight_grad,
)  # fmt: skip

register(
    "convolution", "Tensor input, Tensor weight, Tensor? bias",
    _CONVOLUTION, _fake_convolution, batching.convolution,
)  # fmt: skip
register(
    "convolution_input_grad", "SymInt[] input_size, Tensor weight, Tensor grad_output",
    _INPUT_GRAD, _fake_input_grad, batching.input_grad,
)  # fmt: skip
register(
    "convolution_weight_grad", "Tensor input, SymInt[] weight_size, Tensor grad_output",
    _WEIGHT_GRAD, _fake_weight_grad, batching.weight_grad,
)  # fmt: skip
