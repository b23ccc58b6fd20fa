"""How XLA comes to fastconv: by a target of ``jax.ffi``, or by calling Python back."""

from __future__ import annotations

import importlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.interpreters import mlir

from ...backends import native
from ...errors import BackendUnavailable
from ...sizes import Result
from . import foreign
from .convolution import Convolution, call_of, compute, views

TARGET, IDLE_TARGET = "fastconv_convolve", "fastconv_nothing"
#: Environment variable that takes one of the ways: without it, ``ffi`` where it was built.
VARIABLE = "FASTCONV_JAX_CALLS"


@cache
def _registered() -> str | None:
    """Register the targets, once; None, or what is in the way."""
    try:
        targets = importlib.import_module("fastconv._jax_ffi")
    except ImportError as error:
        return str(error)
    names = "XLA_FFI_API_MAJOR", "XLA_FFI_API_MINOR"
    built = tuple(getattr(targets, name) for name in names)
    if built > (found := _installed_api(*names)):  # registering would leave JAX without a CPU
        return f"it was built for JAX's foreign functions {built}, the installed JAX has {found}"
    jax.ffi.register_ffi_target(TARGET, targets.convolve, platform="cpu")
    jax.ffi.register_ffi_target(IDLE_TARGET, targets.nothing, platform="cpu")
    return None


def _installed_api(*names: str) -> tuple[int, ...]:
    """Read the version of foreign functions that the installed JAX takes, off its headers."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    try:
        text = header.read_text("utf-8")
    except OSError:
        return (0, 0)
    return tuple(int(n) for name in names for n in re.findall(rf"define {name} (\d+)", text))


def calls_by() -> str:
    """Return how calls traced from now on come to fastconv: ``"ffi"`` or ``"callback"``.

    The environment's ``FASTCONV_JAX_CALLS`` asks for one of them. Without it it is ``ffi`` where
    fastconv was built with JAX's headers at hand. What the extension does not compute in one call
    (see docs/interop/jax.md) calls back either way.

    Raises
    ------
    BackendUnavailable
        ``ffi`` was asked for and not built.
    """
    wanted = os.environ.get(VARIABLE) or None
    if wanted not in (None, "ffi", "callback"):
        raise ValueError(f"{VARIABLE}={wanted!r} is none of ffi, callback")
    if wanted == "callback":
        return wanted
    missing = _registered()
    if missing is None:
        return "ffi"
    if wanted == "ffi":
        raise BackendUnavailable(
            f"{VARIABLE}=ffi, but its target cannot be used: {missing}; reinstall "
            "it with FASTCONV_BUILD_JAX=1, or with --no-build-isolation where JAX is installed"
        )
    return "callback"


def lower(
    ctx: Any, a: Any, b: Any, *, result: Result, conv: Convolution, dtype: str, options: Any,
    way: str,
) -> Any:  # fmt: skip
    """Lower one convolution for the CPU."""
    call = call_of(conv, result, ctx.avals_in[0].dtype, dtype, options)
    backend: Any = call.backend
    if way == "ffi" and backend is native and native.is_one_call(call.problem, call.options):
        numbers = foreign.numbers(call.problem, call.options, views(conv, result))
        return jax.ffi.ffi_lowering(TARGET)(ctx, a, b, numbers=np.array(numbers, np.int64))

    def callback(a: Any, b: Any) -> tuple[Any]:
        # XLA's threads flush subnormals, and so would threads that a backend starts here
        operands = np.asarray(a), np.asarray(b)
        return (native.in_default_arithmetic(compute, conv, result, call, *operands),)

    if _is_of_one_device(ctx):
        # as jax.pure_callback, which first makes arrays of JAX's of the operands again: that
        # waits for XLA's threads, and hangs where the one that calls is the last
        found, _, _ = mlir.emit_python_callback(
            ctx, callback, None, [a, b], ctx.avals_in, ctx.avals_out, has_side_effect=False
        )
        return found
    (out,) = ctx.avals_out
    pure = mlir.lower_fun(
        lambda a, b: jax.pure_callback(
            lambda *arrays: callback(*arrays)[0], jax.ShapeDtypeStruct(out.shape, out.dtype), a, b
        ),
        multiple_results=False,
    )
    return pure(ctx, a, b)


def _is_of_one_device(ctx: Any) -> bool:
    return getattr(ctx.module_context.axis_context, "num_devices", 0) == 1


def refuse(ctx: Any, a: Any, b: Any, **parameters: Any) -> Any:
    """Raise: the platform is none that fastconv computes on inside of JAX."""
    platforms = ", ".join(ctx.module_context.platforms)
    raise NotImplementedError(
        f"fastconv.interop.jax computes on CPUs, not on {platforms}; use jax.lax there, or run on "
        "a CPU: jax.device_put(array, jax.devices('cpu')[0])"
    )
