"""The Numba backend: just-in-time compiled loops, for machines with no C++ compiler.

Importing this package does not import Numba; the first question about it does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ...deformable import DeformProblem
from ...options import Options
from ...problem import ConvProblem
from .. import Algorithm

_INSTALL = "pip install 'fastconv[numba]'"
_OLDEST = (0, 60)


@lru_cache(maxsize=1)
def available() -> str | None:
    """Return None if Numba can be imported and compiles, otherwise the reason and the fix."""
    try:
        import numba
    except ModuleNotFoundError as error:
        if error.name not in (None, "numba"):
            return f"Numba is installed and lacks {error.name}; reinstall it: {_INSTALL}"
        return f"Numba is not installed: {_INSTALL}"
    except Exception as error:
        # Numba refuses NumPy versions it does not know, and broken LLVM libraries, in many ways
        return f"Numba is installed and cannot be imported ({error}); update it: {_INSTALL} -U"
    if tuple(numba.version_info.short) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return f"Numba {numba.__version__} is older than {oldest}; update it: {_INSTALL} -U"
    if numba.config.DISABLE_JIT:
        return "Numba compiles nothing while NUMBA_DISABLE_JIT is set; unset it"
    return None


def supports(problem: ConvProblem, options: Options) -> str | None:
    """Return None: this backend computes every legal problem."""
    return None


def algorithm(problem: ConvProblem, options: Options) -> Algorithm:
    """Name the algorithm, and the scratch of all threads it may use for `problem`."""
    from .launch import converted_weights, plan
    from .threads import usable

    planned = plan(problem, usable(options.threads), options.workspace)
    name = "strip_gemm" if planned.blocking.strip else "im2col_gemm"
    same = problem.dtype == problem.accumulator
    weights = 0 if same else converted_weights(problem, options.workspace)
    return Algorithm(name, planned.scratch_bytes + weights)


def run(problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any) -> None:
    """Compute `problem` into `out`; see `fastconv.backends.Backend`."""
    from .launch import run as run_kernels

    run_kernels(problem, options, x, w, bias, out)


def deform_algorithm(problem: DeformProblem, options: Options) -> Algorithm:
    """Name the algorithm of `deform`, and its scratch memory; see `fastconv.backends`."""
    from .sampling import deform_algorithm as describe

    return Algorithm(*describe(problem, options))


def deform(
    problem: DeformProblem, options: Options, x: Any, w: Any, offset: Any, mask: Any | None,
    bias: Any | None, out: Any,
) -> None:  # fmt: skip
    """Compute a deformable convolution into `out`; see `fastconv.backends`."""
    from .sampling import deform as run_deform

    run_deform(problem, options, x, w, offset, mask, bias, out)
