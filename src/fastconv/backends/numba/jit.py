"""The one place that says how kernels are compiled.

No ``fastmath``: sums are never reassociated. No ``cache=True``: Numba's cache is a directory of
pickles, next to the source or wherever an environment variable points, that runs whatever it
finds there, keys a kernel by its own source file but not by those it calls, does not tell the
serial from the parallel compilation of one function, and raises from a convolution when the disk
is full. The kernels are small enough to be compiled once per process and dtype instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numba.extending

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """Compile a part of a kernel: called by other kernels alone, division checked as in C."""
    options = {"nogil": True, "error_model": "numpy"}
    # each wrapper for Python or C that nobody calls would cost compile time
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, numba.njit(**options)(function))


def specialise(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], None]:
    """Register, for `function` called inside kernels, a chooser of implementations by type.

    The chooser receives Numba types and returns the function to compile.
    """

    def register(chooser: Callable[..., Any]) -> None:
        # Numba compares the signatures of chooser and implementation, annotations included
        chooser.__annotations__ = {}
        numba.extending.overload(function)(chooser)

    return register


def intrinsic(emitter: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function callable inside kernels out of one that emits LLVM IR for it."""
    return cast(Callable[..., Any], numba.extending.intrinsic(emitter))
