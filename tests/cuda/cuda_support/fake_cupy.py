"""A stand-in for CuPy on the host model: what fastconv uses of it, and nothing more.

Arrays are NumPy arrays in a wrapper that refuses whatever CuPy refuses (implicit conversion to
NumPy, mixed operands, another device's arrays). A "cubin" is the name of a kernel with its
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


class Device:
    """One of the GPUs; a context manager that makes it the current one."""

    def __init__(self, gpu: HostGPU, index: int) -> None:
        self._gpu, self.id = gpu, index
        self._outer: list[int] = []

    @property
    def compute_capability(self) -> str:
        """Such as "90"."""
        return self._gpu.capability

    def synchronize(self) -> None:
        """Wait for the GPU, which a convolution must not do."""
        self._gpu.synchronized.append(self.id)

    def __enter__(self) -> Device:
        self._outer.append(self._gpu.current)
        self._gpu.current = self.id
        return self

    def __exit__(self, *exception: object) -> None:
        self._gpu.current = self._outer.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]


class ndarray:
    """CuPy's array, on memory of the host."""

    def __init__(self, gpu: HostGPU, host: np.ndarray[Any, Any], device: int) -> None:
        self._gpu, self._host, self._device = gpu, host, device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    device = property(lambda self: Device(self._gpu, self._device))
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __dlpack__(self, **keywords: Any) -> Any:
        raise AssertionError("CuPy arrays are taken as they are")

    def _like(self, host: np.ndarray[Any, Any]) -> ndarray:
        return ndarray(self._gpu, host, self._device)

    def __getitem__(self, key: Any) -> ndarray:
        return self._like(self._host[key])

    def __setitem__(self, key: Any, value: ndarray) -> None:
        assert isinstance(value, ndarray)
        self._host[key] = value._host

    def transpose(self, axes: tuple[int, ...]) -> ndarray:
        """View with other axis order."""
        return self._like(self._host.transpose(axes))

    def astype(self, dtype: Any, order: str = "K") -> ndarray:
        """Convert, on the array's own device, which must be current as in CuPy."""
        assert self._gpu.current == self._device, "a kernel of CuPy on another device's array"
        return self._like(self._host.astype(dtype, order=order))

    def get(self) -> np.ndarray[Any, Any]:
        """Copy to the host."""
        return self._host.copy()


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


class CUDARuntimeError(RuntimeError):
    """CuPy's error for what the CUDA runtime reports."""


def module(gpu: HostGPU) -> types.ModuleType:
    """Build the module `cupy`."""

    def asarray(value: Any) -> ndarray:
        if isinstance(value, ndarray):
            return value
        return ndarray(gpu, np.array(value), gpu.current)

    def wrap(value: np.ndarray[Any, Any]) -> ndarray:
        return ndarray(gpu, value, gpu.current)

    def empty(shape: tuple[int, ...], dtype: Any) -> ndarray:
        host = np.empty(shape, dtype)
        host.view(np.uint8)[...] = 0xFF
        return ndarray(gpu, host, gpu.current)

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
        shares_memory=shares_memory, may_share_memory=may_share_memory,
        ascontiguousarray=ascontiguousarray,
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
