"""Options: argument > ``with fastconv.options(...)`` > environment > default. A leaf.

========== ======================= ================ =======================================
option     environment             default          meaning
========== ======================= ================ =======================================
backend    ``FASTCONV_BACKEND``    chosen per call  backend by name; serves or raises
precision  ``FASTCONV_PRECISION``  ``strict``       ``fast`` adds transforms, three products
threads    ``FASTCONV_THREADS``    usable cores     most threads one call may use
workspace  ``FASTCONV_WORKSPACE``  8388608          bytes of scratch per thread
========== ======================= ================ =======================================

``OMP_NUM_THREADS`` is respected where ``FASTCONV_THREADS`` is not set. The environment is read
once, at the first call.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from .errors import BackendUnavailable
from .geometry import check_choice, integer

BACKENDS = ("cuda", "native", "numba", "reference")
PRECISIONS = ("strict", "fast")

#: Smallest scratch any algorithm works with, bytes per thread.
MINIMUM_WORKSPACE = 1 << 16


@dataclass(frozen=True)
class Options:
    """Resolved options of one call; see the module's table."""

    backend: str | None = None
    precision: str = "strict"
    threads: int = 1
    workspace: int = 8 << 20


def usable_cores() -> int:
    """Cores this process may run on: affinity, and the container's CPU quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _container_quota()
    return max(1, min(cores or 1, math.ceil(quota) if quota else cores or 1))


def _container_quota() -> float | None:
    """CPU quota of this process's control group in cores (versions 2 and 1), None if unlimited."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", encoding="ascii") as file:
            microseconds = int(file.read())
        with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us", encoding="ascii") as file:
            return microseconds / int(file.read()) if microseconds > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _checked(**given: Any) -> dict[str, Any]:
    """Check options that were given (not None)."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name == "backend":
            if value not in BACKENDS:
                raise BackendUnavailable(
                    f"there is no backend {value!r}; choose from {', '.join(BACKENDS)}"
                )
            checked[name] = value
        elif name == "precision":
            check_choice(name, value, PRECISIONS)
            checked[name] = value
        elif name == "threads":
            checked[name] = min(integer(name, value, minimum=1), 1 << 16)
        elif name == "workspace":
            checked[name] = integer(name, value, minimum=MINIMUM_WORKSPACE)
        else:
            known = ", ".join(Options.__dataclass_fields__)
            raise TypeError(f"unknown option {name!r}; options are {known}")
    return checked


def _environment_integer(variable: str) -> int | None:
    text = os.environ.get(variable, "").split(",")[0].strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"the environment variable {variable}={text!r} is no integer") from None


@lru_cache(maxsize=1)
def environment() -> Options:
    """Defaults, overridden by the environment; read once (``environment.cache_clear()``)."""
    threads = _environment_integer("FASTCONV_THREADS")
    if threads is None:
        threads = _environment_integer("OMP_NUM_THREADS")
    given = _checked(
        backend=os.environ.get("FASTCONV_BACKEND") or None,
        precision=os.environ.get("FASTCONV_PRECISION") or None,
        threads=threads,
        workspace=_environment_integer("FASTCONV_WORKSPACE"),
    )
    return replace(Options(threads=usable_cores()), **given)


_context: ContextVar[Options | None] = ContextVar("fastconv_options", default=None)


def current() -> Options:
    """Return the options in force here, before any argument."""
    return _context.get() or environment()


def resolve(
    backend: str | None, precision: str | None, threads: int | None, workspace: int | None = None
) -> Options:
    """Options in force, overridden by the arguments that are not None."""
    base = current()
    if backend is None and precision is None and threads is None and workspace is None:
        return base
    given = _checked(backend=backend, precision=precision, threads=threads, workspace=workspace)
    return replace(base, **given)


@lru_cache(maxsize=256)
def _one_of_equals(given: Options) -> Options:
    """Return the same object for equal options: calls are remembered by its identity."""
    return given


@contextmanager
def options(
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    workspace: int | None = None,
) -> Iterator[Options]:
    """Set options for a block of code, in this thread or asynchronous task alone.

    Parameters
    ----------
    backend : {"cuda", "native", "numba", "reference"}, optional
        Serves or raises; nothing falls back silently.
    precision : {"strict", "fast"}, optional
    threads : int, optional
        Most threads one call may use.
    workspace : int, optional
        Bytes of scratch per thread.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    >>> with fastconv.options(backend="reference", threads=1):
    ...     fastconv.conv2d(x, w).shape
    (1, 1, 2, 2)
    """
    token = _context.set(_one_of_equals(resolve(backend, precision, threads, workspace)))
    try:
        yield current()
    finally:
        _context.reset(token)
