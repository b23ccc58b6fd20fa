"""Facts about the machine and the installation, gathered once; no judgement, no advice."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import dispatch
from .console import optional
from .driver import Driver, query

#: Environment variables that change what fastconv, OpenMP, Numba, BLAS or CUDA do.
PREFIXES = ("FASTCONV_", "OMP_", "GOMP_", "KMP_", "NUMBA_", "CUDA_", "CUPY_")
VARIABLES = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CC", "CXX")

PACKAGES = (
    "numba", "llvmlite", "cupy", "cupy-cuda12x", "cupy-cuda13x", "cuda-bindings",
    "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "matplotlib", "rich", "threadpoolctl", "scipy",
)  # fmt: skip

COMPILERS = ("c++", "g++", "clang++")


class Compiler(NamedTuple):
    """A C++ compiler: its path, and the first line it prints about itself."""

    path: str
    version: str


class Quota(NamedTuple):
    """CPU time a container may use, in cores, and the file that says so."""

    cores: float
    source: str


@dataclass(frozen=True)
class Machine:
    """What `fastconv doctor` judges.

    Attributes
    ----------
    environment : mapping
        The variables of `relevant_environment`.
    affinity : int
        Cores this process may be scheduled on.
    quota : Quota or None
    flags : frozenset of str
        Instruction sets the processor reports; empty where the system does not say.
    compiler : Compiler or None
    backends : mapping of str to str or None
        Why each backend is unavailable; None where it works.
    numba : str or None
        Version of the installed Numba.
    cupy : str or None
        Version of the installed CuPy.
    driver : Driver
    selftest : mapping of str to str or None
        What went wrong on each available backend; None where the result was right.
    openmp : tuple of str
        OpenMP run-time libraries in this process: ``libgomp (path)``.
    """

    environment: Mapping[str, str]
    affinity: int
    quota: Quota | None
    flags: frozenset[str]
    compiler: Compiler | None
    backends: Mapping[str, str | None]
    numba: str | None
    cupy: str | None
    driver: Driver
    selftest: Mapping[str, str | None]
    openmp: tuple[str, ...]


def relevant_environment() -> dict[str, str]:
    """Environment variables that matter to convolutions, sorted by name."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(PREFIXES) or name in VARIABLES
    }


def _cpuinfo(*keys: str) -> str:
    """First value under any of `keys` in Linux's /proc/cpuinfo, or an empty string."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _first_line(*command: str) -> str:
    """First line a command prints; an empty string where it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(done.stdout.splitlines()), "").strip()


def cpu_model() -> str:
    """Marketing name of the processor, or its architecture where the system does not say."""
    name = _cpuinfo("model name", "Model")
    if not name and sys.platform == "darwin":
        name = _first_line("sysctl", "-n", "machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction sets as Linux names them: ``avx2``, ``fma``, ``avx512f``, ``asimd``."""
    return frozenset(_cpuinfo("flags", "Features").split())


def compiler() -> Compiler | None:
    """The C++ compiler a build would use: ``$CXX``, else the first of `COMPILERS` on the path."""
    named = shlex.split(os.environ.get("CXX", ""))[:1]
    for candidate in named or COMPILERS:
        path = shutil.which(candidate)
        version = _first_line(path, "--version") if path else ""
        if path and version:
            return Compiler(path, version)
    return None


def affinity() -> int:
    """Cores this process may be scheduled on, whatever any CPU quota says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> Quota | None:
    """CPU quota of the container, from control groups of version 2 or 1; None without one."""
    unified = root / "cpu.max"
    words = _read_words(unified)
    if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
        return Quota(int(words[0]) / int(words[1]), str(unified))
    for folder in (root / "cpu", root / "cpu,cpuacct"):
        limit, period = (
            _read_words(folder / "cpu.cfs_quota_us"),
            _read_words(folder / "cpu.cfs_period_us"),
        )
        if limit and period and int(limit[0]) > 0 and int(period[0]) > 0:
            return Quota(int(limit[0]) / int(period[0]), str(folder / "cpu.cfs_quota_us"))
    return None


def packages() -> dict[str, str]:
    """Versions of the optional packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def threadpools() -> list[dict[str, Any]]:
    """Thread pools in this process, as threadpoolctl reports them; empty without it."""
    threadpoolctl = optional("threadpoolctl")
    return [] if threadpoolctl is None else list(threadpoolctl.threadpool_info())


def openmp_runtimes() -> tuple[str, ...]:
    """OpenMP run-time libraries in this process, ``name (path)``; empty without threadpoolctl."""
    return tuple(
        f"{pool['prefix']} ({pool['filepath']})"
        for pool in threadpools()
        if pool["user_api"] == "openmp"
    )


def gather(selftest: Mapping[str, str | None]) -> Machine:
    """Gather the facts; `selftest` was run before, so that its libraries are loaded."""
    installed = packages()
    cupy = [version for name, version in installed.items() if name.startswith("cupy")]
    return Machine(
        environment=relevant_environment(),
        affinity=affinity(),
        quota=cpu_quota(),
        flags=cpu_flags(),
        compiler=compiler(),
        backends={e.name: dispatch.availability(e.name) for e in dispatch.TABLE},
        numba=installed.get("numba"),
        cupy=cupy[0] if cupy else None,
        driver=query(),
        selftest=selftest,
        openmp=openmp_runtimes(),
    )
