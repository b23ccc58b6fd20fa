"""How PyTorch is told of an operator and its derivatives, and which form of it takes a call."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch

from .ways import is_differentiated, is_eager, is_forward_mode, is_transformed

_ATTRIBUTES = (
    "SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, "
    "SymInt[] output_padding, SymInt groups"
)


class Functions(NamedTuple):
    """What computes one of the three, and its derivatives."""

    kernel: Any
    #: `autograd.Function`s: the form that is quick to call, and the one that `torch.func` takes.
    eager: Any
    transformed: Any


def functions(
    name: str, kernel: Any, keep: Any, backward: Any, jvp: Any, rule: Any, call: Any
) -> Functions:
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
    return Functions(kernel, eager, transformed)


def way(functions: Functions, operator: Any, *operands: Any) -> Any:
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


def register(name: str, operands: str, functions: Functions, fake: Any, rule: Any) -> None:
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
