"""From a problem and CuPy arrays to a kernel in flight on CuPy's current stream."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from ...errors import DTypeError
from ...problem import ConvProblem
from . import compiler, configuration
from .configuration import Configuration
from .parameters import ItemStrides, Strides, fill

#: Loaded kernels kept per process, all devices together; one takes about 100 KB of device memory.
LOADED_KERNELS = 256


@dataclass(frozen=True)
class Launch:
    """Everything about a launch but the addresses."""

    configuration: Configuration
    blocks: int
    parameters: np.ndarray[Any, Any]

    def addressed(self, x: int, w: int, bias: int, y: int) -> np.ndarray[Any, Any]:
        """Parameters with the four device addresses; `bias` is 0 where there is none."""
        parameters = self.parameters.copy()
        addresses = (("x_data", x), ("w_data", w), ("bias_data", bias), ("y_data", y))
        for name, address in addresses:
            parameters[name] = address
        return parameters


@lru_cache(maxsize=4096)
def prepare(problem: ConvProblem, strides: ItemStrides) -> Launch:
    """Choose the kernel for a problem on arrays of given strides, and fill its parameters."""
    chosen = configuration.choose(problem, strides)
    blocks = configuration.grid_blocks(problem, chosen)
    return Launch(chosen, blocks, fill(problem, strides))


class KernelCache:
    """Loaded kernels by device and configuration; the least recently used one is unloaded.

    Safe to use from several threads: a kernel is compiled once, and others are found meanwhile.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self._entries: OrderedDict[tuple[int, Configuration], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget every kernel."""
        with self._lock:
            self._entries.clear()

    def get(self, device: Any, chosen: Configuration) -> Any:
        """Return the kernel for a CuPy device, compiled and loaded on first use.

        `device` must be the current one: modules are loaded into its context.
        """
        key = (device.id, chosen)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                (index, _), _ = self._entries.popitem(last=False)
                # it may be in flight, and is unloaded with its last reference
                sys.modules["cupy"].cuda.Device(index).synchronize()
        with entry.lock:
            if entry.function is None:
                entry.function = _load(device, chosen)
            return entry.function


class _Entry:
    def __init__(self) -> None:
        self.lock = Lock()
        self.function: Any = None


kernels = KernelCache(LOADED_KERNELS)


def _load(device: Any, chosen: Configuration) -> Any:
    arch = compiler.architecture(device.compute_capability)
    module = sys.modules["cupy"].cuda.function.Module()
    module.load(compiler.compile_kernel(chosen, arch).cubin)
    return module.get_function(chosen.kernel)


def run(problem: ConvProblem, x: Any, w: Any, bias: Any | None, out: Any) -> None:
    """Enqueue `problem` on the current stream of the device of `x`; does not wait for it."""
    strides = ItemStrides(_item_strides("x", x), _item_strides("w", w), _item_strides("out", out))
    launch = prepare(problem, strides)
    parameters = launch.addressed(
        x.data.ptr, w.data.ptr, 0 if bias is None else bias.data.ptr, out.data.ptr
    )
    device = x.device
    with device:
        kernel = kernels.get(device, launch.configuration)
        kernel((launch.blocks,), (launch.configuration.threads,), (parameters,))


def _item_strides(name: str, array: Any) -> Strides:
    """Strides in items; a misaligned access would not fail alone, but end the whole context."""
    size = array.itemsize
    if array.data.ptr % size or any(step % size for step in array.strides):
        raise DTypeError(
            f"{name} is not aligned to its items of {size} bytes, which no GPU can read; "
            "copy its bytes into an array of its own first"
        )
    a, b, c, d = (step // size for step in array.strides)
    return a, b, c, d
