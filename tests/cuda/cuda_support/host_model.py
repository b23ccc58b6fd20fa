"""Run the CUDA kernels' own sources on the CPU: compile them against host/machine.hpp."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastconv.backends.cuda import compiler
from fastconv.backends.cuda.configuration import C_TYPES
from fastconv.backends.cuda.parameters import PARAMETERS

Defines = tuple[tuple[str, str], ...]

HOST_SOURCES = Path(__file__).parent.parent / "host"
SCHEDULES = ("ascending", "descending", "shuffled", "preemptive")

OPTIONS = (
    "-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-w", "-DFASTCONV_HOST_MODEL",
)  # fmt: skip

C_BYTES = {name: np.dtype(dtype).itemsize for dtype, name in C_TYPES.items()}

_running = threading.Lock()  # the machine is one per process


class KernelFault(AssertionError):
    """A kernel did what a GPU forbids, or leaves undefined."""


class Region(ctypes.Structure):
    """Bytes [begin, end) of global memory."""

    _fields_ = (
        ("begin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("writable", ctypes.c_int64),
    )


class HostKernel:
    """A kernel compiled for the host model."""

    def __init__(self, library: Path, operand_bytes: int, result_bytes: int) -> None:
        self._bytes = (operand_bytes, result_bytes)
        self._run = ctypes.CDLL(str(library)).run_kernel
        self._run.restype = ctypes.c_int
        self._run.argtypes = (
            ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.POINTER(Region), ctypes.c_int,
            ctypes.c_int, ctypes.c_uint, ctypes.c_int, ctypes.c_char_p, ctypes.c_int,
        )  # fmt: skip

    def run(
        self,
        parameters: np.ndarray[Any, Any],
        blocks: int,
        threads: int,
        schedule: str = "ascending",
        seed: int = 0,
        races: bool = True,
    ) -> None:
        """Run a grid; raises `KernelFault` at the first thing that is forbidden.

        With ``races=False`` only what a kernel computes can betray a missing barrier.
        """
        assert parameters.dtype == PARAMETERS
        assert parameters.size == 1
        found = regions(parameters, *self._bytes)
        message = ctypes.create_string_buffer(512)
        with _running:
            failed = self._run(
                parameters.ctypes.data, blocks, threads, (Region * len(found))(*found), len(found),
                SCHEDULES.index(schedule), seed, int(races), message, len(message),
            )  # fmt: skip
        if failed:
            raise KernelFault(message.value.decode())


def regions(
    parameters: np.ndarray[Any, Any], operand_bytes: int, result_bytes: int
) -> list[Region]:
    """Extents of x, w, y and bias, from the very parameters the kernel is given."""
    p, groups = parameters, int(parameters["groups"])
    arrays = (
        ("x", "nchw", (p["n"], p["c"] * groups, p["h"], p["w"]), operand_bytes),
        ("w", "kcrs", (p["k"] * groups, p["c"], p["r"], p["s"]), operand_bytes),
        ("y", "nkpq", (p["n"], p["k"] * groups, p["p"], p["q"]), result_bytes),
    )
    found = []
    for name, axes, sizes, item in arrays:
        reach = [
            (int(n) - 1) * int(p[f"{name}_stride_{axis}"])
            for n, axis in zip(sizes, axes, strict=True)
        ]
        first = int(p[f"{name}_data"])
        begin = first + item * sum(r for r in reach if r < 0)
        end = first + item * (sum(r for r in reach if r > 0) + 1)
        found.append(Region(begin, end, int(name == "y")))
    if p["bias_data"]:
        begin = int(p["bias_data"])
        found.append(Region(begin, begin + int(p["k"]) * groups * result_bytes, 0))
    return found


@cache
def build(
    kernel: str,
    defines: Defines,
    mutations: tuple[Mutation, ...] = (),
    extra: tuple[tuple[str, str], ...] = (),
) -> HostKernel:
    """Compile a kernel; `mutations` plant bugs in its sources first, `extra` are more sources."""
    files = compiler.sources() | dict(extra)
    for mutation in mutations:
        files[mutation.file] = mutation.apply(files[mutation.file])
    folder = Path(tempfile.mkdtemp(dir=_workshop()))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    library = folder / "kernel.so"
    subprocess.run(
        [
            _compiler(), *OPTIONS, f"-I{folder}", f"-I{HOST_SOURCES}",
            f'-DKERNEL_FILE="{kernel}.cu"', f"-DKERNEL_ENTRY={kernel}",
            *(f"-D{name}={value}" for name, value in defines),
            str(HOST_SOURCES / "run_kernel.cpp"), str(_machine()), "-shared", "-o", str(library),
        ],
        check=True,
    )  # fmt: skip
    types = dict(defines)
    operand = C_BYTES[types["OPERAND_T"]]
    return HostKernel(library, operand, C_BYTES[types.get("RESULT_T", types["OPERAND_T"])])


class Mutation(NamedTuple):
    """A planted bug: `old`, which stands exactly once in `file`, becomes `new`."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """Plant it."""
        assert text.count(self.old) == 1, f"{self.file} has {text.count(self.old)} x {self.old!r}"
        return text.replace(self.old, self.new)


@lru_cache(maxsize=1)
def _machine() -> Path:
    """Compile what all kernels share."""
    source, target = HOST_SOURCES / "machine.cpp", Path(_workshop()) / "machine.o"
    subprocess.run([_compiler(), *OPTIONS, "-c", str(source), "-o", str(target)], check=True)
    return target


@lru_cache(maxsize=1)
def _workshop() -> str:
    folder = tempfile.mkdtemp(prefix="fastconv-host-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compiler() -> str:
    command = os.environ.get("CXX") or "c++"
    found = shutil.which(command) or shutil.which("g++")
    assert found, "these tests need a C++ compiler (Debian: apt-get install g++)"
    return found
