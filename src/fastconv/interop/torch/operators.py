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
from typing import Any, NamedTuple

import torch

from . import batching, compute
from .geometry import ConvolutionError, Geometry, check_dtypes, geometry, known_geometry
from .ways import PLAIN, is_differentiated, is_eager, is_forward_mode, is_transformed

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


def _way(functions: Any, operator: Any, *operands: Any) -> Any:
    """Return what takes a call the shortest way."""
    if is_eager(*operands):
        if is_transformed():
            return functions.transformed.apply
        return functions.eager.apply if is_differentiated(*operands) else functions.kernel
    return functions.eager.apply if is_forward_mode() else operator


def _computed(name: str, kernel: Any, *call: Any) -> Any:
    """Compute what a `Function` does forwards, or have it traced where its tensors are."""
    if is_eager(*(operand for operand in call if isinstance(operand, torch.Tensor))):
        return kernel(*call)
    return getattr(torch.ops.fastconv, name).default(*call)


# y = C(x, w, bias)


def convolution(x: Any, w: Any, bias: Any, *attributes: Any) -> Any:
    """Convolve batches; a transposed convolution's weight is (C, K/groups, ...)."""
    run = _way(_CONVOLUTION, torch.ops.fastconv.convolution.default, x, w, bias)
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
    run = _way(_INPUT_GRAD, torch.ops.fastconv.convolution_input_grad.default, w, gy)
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
    run = _way(_WEIGHT_GRAD, torch.ops.fastconv.convolution_weight_grad.default, x, gy)
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


class _Functions(NamedTuple):
    """What computes one of the three, and its derivatives."""

    kernel: Any
    #: `autograd.Function`s: the form that is quick to call, and the one that `torch.func` takes.
    eager: Any
    transformed: Any


def _functions(
    name: str, kernel: Any, keep: Any, backward: Any, jvp: Any, rule: Any, call: Any
) -> _Functions:
    """Make the two forms of a function; they differ in how PyTorch calls them alone."""
    forward = partial(_computed, name, kernel)

    def kept(ctx: Any, *inputs: Any) -> Any:
        output = forward(*inputs)
        keep(ctx, inputs, output)
        return output

    derivatives = {"backward": staticmethod(backward), "jvp": staticmethod(jvp)}
    eager = type(name, (torch.autograd.Function,), {"forward": staticmethod(kept), **derivatives})
    transformed = type(
        name, (torch.autograd.Function,),
        {"forward": staticmethod(forward), "setup_context": staticmethod(keep),
         "vmap": staticmethod(partial(rule, call)), **derivatives},
    )  # fmt: skip
    return _Functions(kernel, eager, transformed)


_CONVOLUTION = _functions(
    "convolution", _convolution, _keep_convolution, _convolution_grads, _convolution_tangent,
    batching.convolution, convolution,
)  # fmt: skip
_INPUT_GRAD = _functions(
    "convolution_input_grad", _input_grad, _keep_input_grad, _input_grad_grads,
    _input_grad_tangent, batching.input_grad, input_grad,
)  # fmt: skip
_WEIGHT_GRAD = _functions(
    "convolution_weight_grad", _weight_grad, _keep_weight_grad, _weight_grad_grads,
    _weight_grad_tangent, batching.weight_grad, weight_grad,
)  # fmt: skip


class Described(torch.autograd.Function):  # type: ignore[misc]
    """C in eager mode of a call that is described already: its checks are not made again."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, bias: Any, g: Geometry) -> Any:
        """Compute y."""
        y = compute.forward(x, w, bias, g, compute.channels_last(x, w))
        ctx.attributes, ctx.y_shape = g.attributes, g.y_shape
        _save(ctx, x, w)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Return gradients of the operands."""
        return _convolution_grads(ctx, g)[:4]

    jvp = staticmethod(_convolution_tangent)


def _register(name: str, operands: str, functions: _Functions, fake: Any, rule: Any) -> None:
    """Define the operator that PyTorch traces, by the rules of the functions."""
    qualified, function = f"fastconv::{name}", functions.transformed
    operator = torch.library.custom_op(
        qualified,
        functions.kernel,
        mutates_args=(),
        device_types="cpu",
        schema=f"({operands}, {_ATTRIBUTES}) -> Tensor",
    )
    operator.register_fake(fake)
    operator.register_autograd(function.backward, setup_context=function.setup_context)
    if hasattr(torch.library, "register_vmap"):  # PyTorch 2.4 has none
        call = getattr(torch.ops.fastconv, name).default
        torch.library.register_vmap(qualified, partial(rule, call))


_register(
    "convolution", "Tensor input, Tensor weight, Tensor? bias",
    _CONVOLUTION, _fake_convolution, batching.convolution,
)  # fmt: skip
_register(
    "convolution_input_grad", "SymInt[] input_size, Tensor weight, Tensor grad_output",
    _INPUT_GRAD, _fake_input_grad, batching.input_grad,
)  # fmt: skip
_register(
    "convolution_weight_grad", "Tensor input, SymInt[] weight_size, Tensor grad_output",
    _WEIGHT_GRAD, _fake_weight_grad, batching.weight_grad,
)  # fmt: skip
