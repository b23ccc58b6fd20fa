"""The one place that says how kernels are compiled.

A kernel is made of stages, machine code that is called by address with 64-bit integers alone: what
knows a dtype is compiled once for it, the rest once. A stage is compiled when it is first needed,
in a second or so.

No ``fastmath``: sums are never reassociated. No ``cache=True``: Numba's cache is a directory of
pickles, wherever an environment variable points, that runs what it finds there; it knows a
function by its own source file and not by those it calls; and a full disk would surface as an
error from a convolution.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numba.extending
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Builder = TypeVar("Builder", bound=Callable[..., Any])


_compiling = threading.Lock()


def _after_fork() -> None:
    """Forget a lock that another thread of the parent may hold."""
    global _compiling
    _compiling = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def once(build: Builder) -> Builder:
    """Compile for each combination of arguments once, though many threads may ask first."""
    built = functools.cache(build)

    @functools.wraps(build)
    def get(*arguments: Any) -> Any:
        with _compiling:
            return built(*arguments)

    return cast(Builder, get)


def jit(function: Function) -> Function:
    """Compile a part of a stage: called by other kernels alone, division checked as in C."""
    options = {"nogil": True, "error_model": "numpy"}
    # each wrapper for Python or C that nobody calls would cost compile time
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, numba.njit(**options)(function))


def jit_stage(function: Callable[..., None]) -> Any:
    """Compile a stage, a function of 64-bit integers; ``.address`` says where it is."""
    words = ", ".join(["int64"] * len(inspect.signature(function).parameters))
    return numba.cfunc(f"void({words})", error_model="numpy")(function)


def storage(dtype: str) -> np.dtype[Any]:
    """How kernels see the memory of a dtype: floats of two bytes are integers to Numba.

    Which of the two is in the integer's sign; no integers of two bytes meet sums of floats.
    """
    return np.dtype({"float16": "uint16", "bfloat16": "int16"}.get(dtype, dtype))


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
