"""What this installation can do: version, backends, build facts."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, Literal, overload

import numpy as np

from . import dispatch
from .options import current, usable_cores


def version() -> str:
    """Return the installed version; `pyproject.toml` is the one place that states it."""
    import importlib.metadata  # here, because it costs more than the rest of `import fastconv`

    try:
        return importlib.metadata.version("fastconv")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def available_backends() -> tuple[str, ...]:
    """Names of the backends that work on this machine, in the order they are tried.

    The first call may import Numba or CuPy to find out.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.available_backends()[-1]
    'reference'
    """
    return tuple(e.name for e in dispatch.TABLE if dispatch.availability(e.name) is None)


def _native_facts() -> dict[str, Any]:
    reason = dispatch.availability("native")
    if reason is not None:
        return {"built": False, "reason": reason}
    from .backends import native

    return {"built": True, **native.build_facts()}


def _option_facts() -> dict[str, Any]:
    """Options in force; an unusable environment is a fact for the report, and no error here."""
    try:
        options = current()
    except (ImportError, ValueError) as error:
        return {"unusable": str(error)}
    return {
        "backend": options.backend or "by array type and problem",
        "precision": options.precision,
        "threads": options.threads,
        "workspace": options.workspace,
    }


def _jax_fact() -> str:
    """How JAX would come to fastconv, found out without importing it."""
    from importlib.util import find_spec

    if find_spec("jax") is None:
        return "not installed"
    built = find_spec("fastconv._jax_ffi") is not None
    asked = os.environ.get("FASTCONV_JAX_CALLS")
    return "ffi" if built and asked != "callback" else "callback"


def config() -> dict[str, Any]:
    """Facts that a bug report needs, as a dictionary."""
    return {
        "fastconv": version(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": {"usable": usable_cores(), "machine": os.cpu_count()},
        "options": _option_facts(),
        "backends": {e.name: dispatch.availability(e.name) or "available" for e in dispatch.TABLE},
        "native": _native_facts(),
        "jax": _jax_fact(),
    }


@overload
def show_config(mode: Literal["print"] = "print") -> None: ...
@overload
def show_config(mode: Literal["dict"]) -> dict[str, Any]: ...


def show_config(mode: str = "print") -> dict[str, Any] | None:
    """Print (``mode="print"``) or return (``mode="dict"``) how fastconv was built and what it sees.

    Names every backend, with the reason and the fix where one cannot be used.
    """
    facts = config()
    if mode == "dict":
        return facts
    if mode != "print":
        raise ValueError(f"mode must be 'print' or 'dict', got {mode!r}")
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in value.items():
                print(f"  {key}: {item}")
        else:
            print(f"{name}: {value}")
    return None
