"""What this installation can do: version, backends, build facts."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from . import dispatch
from .errors import BackendUnavailable
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


def _native() -> Any:
    """Return the extension; raise `BackendUnavailable` where it was not built."""
    try:
        return importlib.import_module("fastconv._native")
    except ImportError:
        raise BackendUnavailable(
            "fastconv was built without its native part, which the C interface belongs to: "
            f"{dispatch.availability('native')}"
        ) from None


def c_api() -> Any:
    """Return the capsule of `fastconv_capsule.h`."""
    return _native()._C_API


def _installed(*parts: str) -> str:
    """Return a directory that the build has installed beside the extension."""
    path = Path(_native().__file__).parent.joinpath(*parts)
    if not path.is_dir():
        raise BackendUnavailable(
            f"there is no {path}: the extension was copied out of its build, and what C programs "
            "need was not; install fastconv with pip"
        )
    return str(path)


def get_include() -> str:
    """Return the directory of ``fastconv.h``, ``fastconv.hpp`` and ``fastconv_capsule.h``.

    ``python -m fastconv --includes`` prints it as a compiler's option.

    Returns
    -------
    str

    Raises
    ------
    BackendUnavailable
        Where fastconv was built without its native part.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_include()  # doctest: +SKIP
    '/usr/lib/python3/site-packages/fastconv/include'
    """
    return _installed("include")


def get_cmake_dir() -> str:
    """Return the directory of fastconv's CMake package, the target ``fastconv::fastconv``.

    ``python -m fastconv --cmakedir`` prints it: ``cmake -Dfastconv_DIR=$(...)``.

    Returns
    -------
    str

    Raises
    ------
    BackendUnavailable
        Where fastconv was built without its native part.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_cmake_dir()  # doctest: +SKIP
    '/usr/lib/python3/site-packages/fastconv/lib/cmake/fastconv'
    """
    return _installed("lib", "cmake", "fastconv")


def get_pkgconfig_dir() -> str:
    """Return the directory of ``fastconv.pc``, for ``PKG_CONFIG_PATH``.

    ``python -m fastconv --pkgconfigdir`` prints it.

    Returns
    -------
    str

    Raises
    ------
    BackendUnavailable
        Where fastconv was built without its native part.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_pkgconfig_dir()  # doctest: +SKIP
    '/usr/lib/python3/site-packages/fastconv/lib/pkgconfig'
    """
    return _installed("lib", "pkgconfig")


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
