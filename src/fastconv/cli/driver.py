"""The CUDA driver, asked directly: says whether a GPU could be used, with no package installed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

#: cuInit's answer where the driver works and the machine has no GPU.
NO_DEVICE = 100

#: Files that exist where an NVIDIA kernel module is loaded.
KERNEL_MODULE = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))


@dataclass(frozen=True)
class Driver:
    """What the CUDA driver says.

    Attributes
    ----------
    kernel_module : bool
        The operating system has the NVIDIA kernel module loaded.
    library : str or None
        Driver library that was found; None where there is none.
    status : int
        Answer of cuInit; 0 is success.
    error : str
        Its name, such as ``CUDA_ERROR_NO_DEVICE``; empty on success.
    version : (int, int) or None
        Newest CUDA version the driver runs.
    devices : tuple of str
        Names of the GPUs.
    """

    kernel_module: bool = False
    library: str | None = None
    status: int = 0
    error: str = ""
    version: tuple[int, int] | None = None
    devices: tuple[str, ...] = ()


def _library() -> tuple[str, ctypes.CDLL] | None:
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
    for name in names:
        try:
            return name, ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _error_name(cuda: ctypes.CDLL, status: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorName(status, ctypes.byref(text)) != 0 or text.value is None:
        return f"CUDA error {status}"
    return text.value.decode("ascii", "replace")


def _device_name(cuda: ctypes.CDLL, index: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if cuda.cuDeviceGet(ctypes.byref(device), index) != 0:
        return f"GPU {index}"
    if cuda.cuDeviceGetName(name, len(name), device) != 0:
        return f"GPU {index}"
    return name.value.decode("utf-8", "replace")


def query() -> Driver:
    """Load the driver library, initialise it and count devices; creates no context."""
    module = any(path.exists() for path in KERNEL_MODULE)
    found = _library()
    if found is None:
        return Driver(kernel_module=module)
    name, cuda = found
    version, count = ctypes.c_int(), ctypes.c_int()
    major_minor = None
    if cuda.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value:
        major_minor = (version.value // 1000, version.value % 1000 // 10)
    status = int(cuda.cuInit(0)) or int(cuda.cuDeviceGetCount(ctypes.byref(count)))
    if status != 0:
        return Driver(module, name, status, _error_name(cuda, status), major_minor)
    devices = tuple(_device_name(cuda, index) for index in range(count.value))
    return Driver(module, name, 0, "", major_minor, devices)
