"""A stand-in for CuPy on the host model: what fastconv uses of it, and nothing more.

Its arrays are in `fake_array`. A "cubin" is the name of a kernel with its
constants; loading it compiles the kernel's source for the host model.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastconv.backends.cuda import compiler
from fastconv.backends.cuda.configuration import Configuration

from . import host_model
from .fake_array import Device, ndarray
from .host_model import Mutation


@dataclass
class Launch:
    """What was launched."""

    kernel: str
    defines: dict[str, str]
    blocks: int
    threads: int
    device: int


@dataclass
class HostGPU:
    """The machine behind the stand-in: its schedule, its planted bugs, and what it was asked."""

    schedule: str = "shuffled"
    seed: int = 1
    races: bool = True
    mutations: tuple[Mutation, ...] = ()
    devices: int = 1
    capability: str = "90"
    current: int = 0
    launches: list[Launch] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)
    synchronized: list[int] = field(default_factory=list)

    def compile_kernel(self, configuration: Configuration, arch: str) -> compiler.Binary:
        """Take the place of `compiler.compile_kernel`."""
        self.compiled.append(arch)
        content = {"kernel": configuration.kernel, "defines": configuration.defines}
        return compiler.Binary(json.dumps(content).encode(), "")


class Function:
    """A loaded kernel."""

    def __init__(self, gpu: HostGPU, module: Module, name: str) -> None:
        self._gpu, self._module = gpu, module
        assert name == module.content["kernel"], "no such entry in the module"

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
        gpu, content = self._gpu, self._module.content
        (parameters,) = arguments
        assert isinstance(parameters, np.ndarray)
        assert self._module.device == gpu.current, "a module of another device's context"
        assert 1 <= grid[0] < 2**31
        assert 1 <= block[0] <= 1024
        defines = tuple((name, value) for name, value in content["defines"])
        gpu.launches.append(
            Launch(content["kernel"], dict(defines), grid[0], block[0], gpu.current)
        )
        kernel = host_model.build(content["kernel"], defines, gpu.mutations)
        kernel.run(parameters, grid[0], block[0], gpu.schedule, gpu.seed, gpu.races)


class Module:
    """A loaded binary."""

    def __init__(self, gpu: HostGPU) -> None:
        self._gpu = gpu
        self.device = -1
        self.content: dict[str, Any] = {}

    def load(self, cubin: bytes) -> None:
        """Read the stand-in for a cubin."""
        self.device, self.content = self._gpu.current, json.loads(cubin)

    def get_function(self, name: str) -> Function:
        """Find an entry."""
        return Function(self._gpu, self, name)


#: What fastconv asks of CuPy beside kernels of its own.
FUNCTIONS = ("add", "broadcast_to", "clip", "moveaxis", "multiply", "subtract", "sum", "take")


class CUDARuntimeError(RuntimeError):
    """CuPy's error for what the CUDA runtime reports."""


def module(gpu: HostGPU) -> types.ModuleType:
    """Build the module `cupy`."""

    def asarray(value: Any, dtype: Any = None) -> ndarray:
        if isinstance(value, ndarray):
            return value if dtype is None else value.astype(dtype, copy=False)
        return ndarray(gpu, np.array(value, dtype), gpu.current)

    def wrap(value: np.ndarray[Any, Any]) -> ndarray:
        return ndarray(gpu, value, gpu.current)

    def empty(shape: tuple[int, ...], dtype: Any) -> ndarray:
        host = np.empty(shape, dtype)
        host.view(np.uint8)[...] = 0xFF
        return ndarray(gpu, host, gpu.current)

    def empty_like(array: ndarray, dtype: Any = None) -> ndarray:
        return empty(array.shape, array.dtype if dtype is None else dtype)

    def made(function: Any) -> Any:
        """Return a function that makes arrays of nothing."""
        return lambda *given, **named: ndarray(gpu, function(*given, **named), gpu.current)

    def computed(function: Any) -> Any:
        """Return a function of arrays, into `out` where there is one."""

        def call(first: ndarray, *given: Any, out: ndarray | None = None, **named: Any) -> ndarray:
            assert isinstance(first, ndarray), f"{function.__name__} of {type(first)}"
            if out is not None:
                named["out"] = first.host(out)
            host = function(*map(first.host, (first, *given)), **named)
            return ndarray(gpu, np.asarray(host), first._device) if out is None else out

        return call

    def shares_memory(a: Any, b: Any) -> bool:
        raise AssertionError("cupy.shares_memory allocates, computes and waits for the GPU")

    def may_share_memory(a: ndarray, b: ndarray) -> bool:
        return np.may_share_memory(a._host, b._host)

    def ascontiguousarray(a: ndarray) -> ndarray:
        return ndarray(gpu, np.ascontiguousarray(a._host), a._device)

    runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: gpu.devices
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=lambda index: Device(gpu, index),
        function=types.SimpleNamespace(Module=lambda: Module(gpu)),
        is_available=lambda: gpu.devices > 0,
    )
    fake = types.ModuleType("cupy")
    vars(fake).update(
        __version__="14.0", ndarray=ndarray, asarray=asarray, empty=empty, wrap=wrap, cuda=cuda,
        empty_like=empty_like, shares_memory=shares_memory, may_share_memory=may_share_memory,
        ascontiguousarray=ascontiguousarray,
        **{name: made(getattr(np, name)) for name in ("zeros", "ones", "full")},
        **{name: computed(getattr(np, name)) for name in FUNCTIONS},
    )  # fmt: skip
    return fake


@contextmanager
def installed(gpu: HostGPU, monkeypatch: Any) -> Iterator[types.ModuleType]:
    """Put the stand-in where `import cupy` finds it; fastconv forgets it afterwards."""
    import sys

    from fastconv import dispatch
    from fastconv.backends.cuda import launch

    def forget() -> None:
        for cached in (dispatch.availability, dispatch.select, launch.prepare):
            cached.cache_clear()
        launch.kernels.clear()

    fake = module(gpu)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(compiler, "compile_kernel", gpu.compile_kernel)
    forget()
    try:
        yield fake
    finally:
        forget()
