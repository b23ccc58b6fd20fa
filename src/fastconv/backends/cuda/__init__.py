"""The CUDA backend: CuPy arrays in, CuPy arrays out, kernels compiled at run time.

The kernels are CUDA C++ in ``kernels/``; `configuration` chooses one and its constants,
`compiler` compiles it, `launch` runs it. CuPy provides arrays, streams and memory, and is imported
by nobody but the caller and `available`.
"""

from __future__ import annotations

import importlib
from typing import Any

from ...dtypes import BFLOAT16
from ...options import Options
from ...problem import ConvProblem
from .. import Algorithm
from . import compiler, launch
from .configuration import choose


def available() -> str | None:
    """Return None if CuPy, a GPU and the run-time compiler work together, otherwise why not."""
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            return f"CuPy is installed and cannot be imported: {error}"
        return f"CuPy is not installed: {compiler.INSTALL}"
    except ImportError as error:
        return f"CuPy is installed and cannot be imported: {error}"
    return _no_device(cupy) or compiler.missing() or _unknown_device(cupy)


def _no_device(cupy: Any) -> str | None:
    """Return None if CuPy sees a GPU, otherwise what the CUDA runtime says."""
    try:
        if cupy.cuda.runtime.getDeviceCount() > 0:
            return None
        reason = "the CUDA driver reports no device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        reason = str(error)
    return f"CuPy {cupy.__version__} finds no usable GPU ({reason}); check that nvidia-smi sees one"


def _unknown_device(cupy: Any) -> str | None:
    """Return None if the compiler knows every GPU, otherwise which one it does not know."""
    for index in range(cupy.cuda.runtime.getDeviceCount()):
        capability = cupy.cuda.Device(index).compute_capability
        if not compiler.supported(capability):
            return (
                f"the run-time compiler NVRTC does not know GPU {index} (compute capability "
                f"{capability[:-1]}.{capability[-1]}); install the NVRTC of another CUDA version: "
                f"{compiler.INSTALL}"
            )
    return None


def supports(problem: ConvProblem, options: Options) -> str | None:
    """Return None: `direct_naive` computes every legal problem but bfloat16."""
    if BFLOAT16 in (problem.dtype, problem.out_dtype):
        return "computes no bfloat16, which CuPy has no arrays of; convert to float32"
    return None


def algorithm(problem: ConvProblem, options: Options) -> Algorithm:
    """Name the kernel and tile; no kernel needs scratch memory."""
    return Algorithm(choose(problem).name, 0)


def run(problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any) -> None:
    """Compute `problem` into `out`, asynchronously; see `fastconv.backends.Backend`."""
    launch.run(problem, x, w, bias, out)
