"""PyTorch's ``conv2d`` on the CPU, NCHW and channels_last."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import conv2d

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
    x, w = (_tensor(a, task.dtype) for a in operands(task))
    if variant == "torch_cl":
        x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))

    def call() -> torch.Tensor:
        with torch.inference_mode():
            image = x.float() if task.dtype == "uint8" else x
            return conv2d(image, w, None, task.stride, task.pad, task.dilation, task.groups)

    return Prepared(call, _array)


def _array(y: Any) -> Array:
    array: Array = (y.float() if y.dtype == torch.bfloat16 else y).numpy()
    return array
