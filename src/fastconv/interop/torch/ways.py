"""Which way a call goes: whether its tensors are computed with at once, differentiated, traced."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from .checks import ConvolutionError

#: Tensors that are nothing else: subclasses have ways of their own.
PLAIN = {torch.Tensor, torch.nn.Parameter}
#: In force inside of `torch.autograd.grad(..., is_grads_batched=True)`, whose tensors look plain.
_BATCHED_GRADS = torch._C._dispatch_key_parse("VmapMode")

# looked up once: a call asks all of them
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_is_included = torch._C._dispatch_tls_is_dispatch_key_included
_tracing_state = torch._C._get_tracing_state
_interpreter = torch._C._functorch.peek_interpreter_stack
_is_grad_enabled = torch.is_grad_enabled
_STRIDED = torch.strided


def is_eager(*operands: Any) -> bool:
    """Whether plain tensors of this machine's memory are computed with, and nothing traces them."""
    if (
        is_compiling()
        or _dispatch_modes()
        or _function_modes()
        or _is_included(_BATCHED_GRADS)
        or _tracing_state() is not None
    ):
        return False
    for operand in operands:
        if operand is not None and not (
            type(operand) in PLAIN and operand.is_cpu and operand.layout is _STRIDED
        ):
            return False
    return True


def has_tangents() -> bool:
    """Whether tangents may be propagated through eager operands."""
    return bool(forward_ad._current_level >= 0)


def is_forward_mode() -> bool:
    """Whether tangents may be propagated, which custom operators drop without a word."""
    return not is_compiling() and has_tangents()


def is_transformed() -> bool:
    """Whether a function of `torch.func` is at work: its tensors look plain as well."""
    return _interpreter() is not None


def is_differentiated(*operands: Any) -> bool:
    """Whether derivatives of eager operands may be asked for, forwards or backwards."""
    if forward_ad._current_level >= 0:
        return True
    if not _is_grad_enabled():
        return False
    for operand in operands:  # noqa: SIM110  # any() takes as long as all the rest
        if operand is not None and operand.requires_grad:
            return True
    return False


def check_device(*operands: Any) -> None:
    """Raise for tensors whose memory NumPy cannot view, and that are not there to be traced."""
    for operand in operands:
        if operand is None or operand.is_meta:
            continue
        if operand.device.type != "cpu" or operand.layout != torch.strided:
            raise ConvolutionError(
                f"fastconv convolves dense CPU tensors, got one on {operand.device} of layout "
                f"{operand.layout}: move it with .cpu() or .to_dense(), or call torch.nn.functional"
            )
