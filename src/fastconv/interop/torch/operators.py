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

from functools import partial
from typing import Any

import torch

from . import batching, compute
from .geometry import ConvolutionError, Geometry, check_dtypes, geometry, known_geometry
from .ways import PLAIN, is_differentiated, is_eager, is_forward_mode

_ATTRIBUTES = (
    "SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, "
    "SymInt[] output_padding, SymInt groups"
)
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


def _way(function: Any, operator: Any, *operands: Any) -> Any:
    """Return what takes a call the shortest way."""
    if is_eager(*operands):
        return function.apply if is_differentiated(*operands) else function.kernel
    return function.apply if is_forward_mode() else operator


def _computed(name: str, kernel: Any, *call: Any) -> Any:
    """Compute what a `Function` does forwards; tangents of tensors that are traced have it traced."""
    if is_eager(*(operand for operand in call if isinstance(operand, torch.Tensor))):
        return kernel(*call)
    return getattr(torch.ops.fastconv, name).default(*call)


# y = C(x, w, bias)


def convolution(x: Any, w: Any, bias: Any, *attributes: Any) -> Any:
    """Convolve batches; a transposed convolution's weight is (C, K/groups, ...)."""
    run = _way(Convolution, torch.ops.fastconv.convolution.default, x, w, bias)
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


def _convolution_grads(ctx: Any, g: Any) -> tuple[Any, ...]:
    x, w = ctx.saved_tensors
    for_x, for_w, for_bias = ctx.needs_input_grad[:3]
    return (
        input_grad(x.shape, w, g, *ctx.attributes) if for_x else None,
        weight_grad(x, w.shape, g, *ctx.attributes) if for_w else None,
        g.sum(compute.PIXELS[g.ndim - 2]) if for_bias else None,
        *_NO_GRADIENTS,
    )


def _convolution_tangent(ctx: Any, dx: Any, dw: Any, dbias: Any, *_: Any) -> Any:
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
    run = _way(InputGrad, torch.ops.fastconv.convolution_input_grad.default, w, gy)
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
    run = _way(WeightGrad, torch.ops.fastconv.convolution_weight_grad.default, x, gy)
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
    """Keep operands for derivatives of both directions; the operators' own context knows one."""
    ctx.save_for_backward(*operands)
    ctx.save_for_forward(*operands)


class Convolution(torch.autograd.Function):  # type: ignore[misc]
    """C in eager mode."""

    kernel = staticmethod(_convolution)
    forward = staticmethod(partial(_computed, "convolution", _convolution))
    setup_context = staticmethod(_keep_convolution)
    backward = staticmethod(_convolution_grads)
    jvp = staticmethod(_convolution_tangent)
    vmap = staticmethod(partial(batching.convolution, convolution))


class InputGrad(torch.autograd.Function):  # type: ignore[misc]
    """X in eager mode."""

    kernel = staticmethod(_input_grad)
    forward = staticmethod(partial(_computed, "convolution_input_grad", _input_grad))
    setup_context = staticmethod(_keep_input_grad)
    backward = staticmethod(_input_grad_grads)
    jvp = staticmethod(_input_grad_tangent)
    vmap = staticmethod(partial(batching.input_grad, input_grad))


class WeightGrad(torch.autograd.Function):  # type: ignore[misc]
    """W in eager mode."""

    kernel = staticmethod(_weight_grad)
    forward = staticmethod(partial(_computed, "convolution_weight_grad", _weight_grad))
    setup_context = staticmethod(_keep_weight_grad)
    backward = staticmethod(_weight_grad_grads)
    jvp = staticmethod(_weight_grad_tangent)
    vmap = staticmethod(partial(batching.weight_grad, weight_grad))


def _register(name: str, rule: str, operands: str, function: Any, fake: Any) -> None:
    """Define the operator that PyTorch traces, by the rules of the function."""
    qualified = f"fastconv::{name}"
    operator = torch.library.custom_op(
        qualified,
        function.kernel,
        mutates_args=(),
        device_types="cpu",
        schema=f"({operands}, {_ATTRIBUTES}) -> Tensor",
    )
    operator.register_fake(fake)
    operator.register_autograd(function.backward, setup_context=function.setup_context)
    if hasattr(torch.library, "register_vmap"):  # PyTorch 2.4 has none
        call = getattr(torch.ops.fastconv, name).default
        torch.library.register_vmap(qualified, partial(getattr(batching, rule), call))


_register(
    "convolution", "convolution", "Tensor input, Tensor weight, Tensor? bias",
    Convolution, _fake_convolution,
)  # fmt: skip
_register(
    "convolution_input_grad", "input_grad",
    "SymInt[] input_size, Tensor weight, Tensor grad_output", InputGrad, _fake_input_grad,
)  # fmt: skip
_register(
    "convolution_weight_grad", "weight_grad",
    "Tensor input, SymInt[] weight_size, Tensor grad_output", WeightGrad, _fake_weight_grad,
)  # fmt: skip
