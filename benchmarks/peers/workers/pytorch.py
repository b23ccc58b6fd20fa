"""PyTorch's convolutions on the CPU, NCHW and channels_last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv1d, conv2d, conv3d, conv_transpose2d

from benchmarks.peers.task import Array, Task, operands

from . import Prepared


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"torch": torch.__version__}


def _tensor(array: Array, dtype: str) -> torch.Tensor:
    """Share the array's memory; bfloat16 goes by its bits, which NumPy has no name for."""
    if dtype == "bfloat16" and array.dtype != np.float32:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Prepare one layout; the result is allocated by every call, as users have it."""
    torch.set_num_threads(threads)
    a, b = (_tensor(a, task.dtype) for a in operands(task))
    last = variant == "torch_cl"
    if last and task.operator == "conv1d":
        return _signals_last(task, a, b)
    if last:
        form = torch.channels_last_3d if task.spatial == 3 else torch.channels_last
        a, b = (t.contiguous(memory_format=form) for t in (a, b))
    if task.operator in ("input_grad", "weight_grad"):
        return _gradient(task, a, b)
    if task.operator == "transposed":
        return _prepared(lambda: conv_transpose2d(
            a, b, None, task.stride, task.pad, task.output_padding, task.groups, task.dilation
        ))  # fmt: skip
    function = {1: conv1d, 2: conv2d, 3: conv3d}[task.spatial]
    how = (None, task.stride, task.pad, task.dilation, task.groups)
    return _prepared(lambda: function(a.float() if task.dtype == "uint8" else a, b, *how))


def _prepared(compute: Callable[[], torch.Tensor], result: Any = None, note: str = "") -> Prepared:
    def call() -> torch.Tensor:
        with torch.inference_mode():
            return compute()

    return Prepared(call, result or _array, note)


def _signals_last(task: Task, x: torch.Tensor, w: torch.Tensor) -> Prepared:
    """Images of height 1: there is no channels_last of signals."""
    x, w = (t[:, :, None].contiguous(memory_format=torch.channels_last) for t in (x, w))
    how = (None, (1, task.stride), (0, task.pad), (1, task.dilation), task.groups)
    return _prepared(lambda: conv2d(x, w, *how), lambda y: _array(y)[:, :, 0], "conv2d")


def _gradient(task: Task, a: torch.Tensor, b: torch.Tensor) -> Prepared:
    """Prepare one of the two gradients; of the operand that it does not read it takes the shape."""
    of_x = task.operator == "input_grad"
    form = torch.channels_last if a.is_contiguous(memory_format=torch.channels_last) else None
    shape = task.x_shape if of_x else task.w_shape
    other = torch.empty(shape, dtype=a.dtype, memory_format=form or torch.contiguous_format)
    gy, x, w = (a, other, b) if of_x else (b, a, other)
    both = [[size] * 2 for size in (task.stride, task.pad, task.dilation)]

    def compute() -> torch.Tensor:
        found = torch.ops.aten.convolution_backward(
            gy, x, w, None, *both, False, [0, 0], task.groups, [of_x, not of_x, False]
        )
        gradient: torch.Tensor = found[0 if of_x else 1]
        return gradient

    return _prepared(compute)


def _array(y: Any) -> Array:
    array: Array = (y.float() if y.dtype == torch.bfloat16 else y).numpy()
    return array
