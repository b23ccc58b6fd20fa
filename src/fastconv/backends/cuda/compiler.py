"""CUDA C++ to machine code, through NVRTC; needs neither a GPU nor CUDA headers."""

from __future__ import annotations

import importlib
from importlib import resources
from typing import Any, NamedTuple

from .configuration import Configuration

OPTIONS = ("-std=c++17", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "--fmad=true")

INSTALL = "pip install 'fastconv[cuda13x]' (with a CUDA 12 driver: 'fastconv[cuda12x]')"


class Binary(NamedTuple):
    """Machine code for one architecture, and what the compiler said."""

    cubin: bytes
    log: str


class CompileError(RuntimeError):
    """NVRTC refused a kernel: a defect of fastconv, or of the installed compiler."""


def architecture(compute_capability: str) -> str:
    """Architecture of a device: ``"80"`` is ``sm_80``; Hopper's is ``sm_90a``."""
    return f"sm_{compute_capability}" + ("a" if compute_capability == "90" else "")


def missing() -> str | None:
    """Return None if NVRTC can be called, otherwise the reason and the fix."""
    try:
        _call("nvrtcVersion")
    except ImportError as error:
        return f"the package cuda-bindings cannot be imported ({error}): {INSTALL}"
    except Exception as error:  # the loader's own error classes vary with its version
        said = " ".join(str(error).split())
        return (
            f"the run-time compiler NVRTC cannot be loaded ({type(error).__name__}: {said}): "
            "pip install nvidia-cuda-nvrtc (CUDA 12: nvidia-cuda-nvrtc-cu12)"
        )
    return None


def supported(compute_capability: str) -> bool:
    """Whether the installed NVRTC knows a device's architecture."""
    _, architectures = _call("nvrtcGetSupportedArchs")
    return int(compute_capability) in architectures


def sources() -> dict[str, str]:
    """Kernel sources by file name, as shipped in the package."""
    folder = resources.files(__package__) / "kernels"
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith((".cu", ".cuh"))
    }


def compile_kernel(configuration: Configuration, arch: str, extra: tuple[str, ...] = ()) -> Binary:
    """Compile a kernel for one architecture.

    Parameters
    ----------
    configuration : Configuration
    arch : str
        Such as ``sm_80``; see `architecture`.
    extra : tuple of str
        Further options.

    Raises
    ------
    CompileError
        With the compiler's log.
    """
    files = sources()
    source = files.pop(f"{configuration.kernel}.cu")
    options = (
        *OPTIONS, f"-arch={arch}", *(f"-D{name}={value}" for name, value in configuration.defines),
        *extra,
    )  # fmt: skip
    return compile_source(f"{configuration.kernel}.cu", source, files, options)


def compile_source(
    name: str, source: str, headers: dict[str, str], options: tuple[str, ...]
) -> Binary:
    """Compile one translation unit; `headers` are the files it may include."""
    _, program = _call(
        "nvrtcCreateProgram",
        source.encode(), name.encode(), len(headers),
        [text.encode() for text in headers.values()], [header.encode() for header in headers],
    )  # fmt: skip
    try:
        nvrtc = _nvrtc()
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
        log = _output("nvrtcGetProgramLog", program).decode(errors="replace").rstrip("\0\n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"{name} does not compile with {' '.join(options)}:\n{log}")
        return Binary(_output("nvrtcGetCUBIN", program), log)
    finally:
        _call("nvrtcDestroyProgram", program)


def _nvrtc() -> Any:
    return importlib.import_module("cuda.bindings.nvrtc")


def _call(function: str, *arguments: Any) -> tuple[Any, ...]:
    """Call NVRTC; anything but success raises."""
    nvrtc = _nvrtc()
    result: tuple[Any, ...] = getattr(nvrtc, function)(*arguments)
    if result[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompileError(f"{function} failed: {result[0].name}")
    return result


def _output(function: str, program: Any) -> bytes:
    """Fetch a log or a binary: its size first, then a buffer of that size."""
    _, size = _call(f"{function}Size", program)
    buffer = bytearray(size)
    _call(function, program, buffer)
    return bytes(buffer)
