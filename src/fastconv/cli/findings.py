"""What is wrong with a machine, and what to do: judgements on gathered facts, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import FastconvError
from ..options import _checked
from .driver import NO_DEVICE
from .machine import Machine

PROBLEM, NOTE = "problem", "note"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes
    ----------
    level : str
        `PROBLEM` needs fixing; `NOTE` is worth knowing.
    topic : str
        What was looked at.
    what : str
        What is wrong.
    fix : str
        What to do; empty where there is nothing to do.
    """

    level: str
    topic: str
    what: str
    fix: str


#: Variables that fastconv reads, with the option that each sets where there is one.
KNOWN = {
    "FASTCONV_BACKEND": "backend",
    "FASTCONV_PRECISION": "precision",
    "FASTCONV_THREADS": "threads",
    "FASTCONV_WORKSPACE": "workspace",
    "FASTCONV_ISA": None,
    "FASTCONV_REQUIRE_NATIVE": None,
    "FASTCONV_REQUIRE_BACKENDS": None,
}

AVX512 = frozenset({"avx512f", "avx512vl", "avx512dq", "avx512bw", "fma"})
#: Instruction sets that FASTCONV_ISA may name, and what the processor must have for each.
ISAS = {
    "baseline": frozenset[str](),
    "avx2": frozenset({"avx2", "fma", "f16c"}),
    "avx512": AVX512,
    "avx512vnni": AVX512 | {"avx512_vnni"},
    "avx512bf16": AVX512 | {"avx512_vnni", "avx512_bf16"},
    "neon": frozenset({"asimd"}),
}

#: Variables that size a pool of threads.
THREAD_VARIABLES = (
    "FASTCONV_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)  # fmt: skip

#: OpenMP run-times that are known to deadlock or abort when both are in one process.
INCOMPATIBLE = frozenset({"libiomp", "libomp"})


def usable(machine: Machine) -> int:
    """Cores' worth of CPU time the process can use, rounded up."""
    if machine.quota is None:
        return machine.affinity
    return max(1, min(machine.affinity, math.ceil(machine.quota.cores)))


def _first_integer(text: str) -> int | None:
    """Read 4 from ``4`` and ``4,2`` as OpenMP does; None where there is no integer."""
    try:
        return int(text.split(",")[0])
    except ValueError:
        return None


def native(machine: Machine) -> Iterator[Finding]:
    """The extension is missing, or the compiler that would build it."""
    reason = machine.backends.get("native")
    if reason is None or "FASTCONV_ISA" in reason:
        return
    if machine.compiler is None:
        named = machine.environment.get("CXX")
        looked = f"CXX={named}" if named else "c++, g++, clang++"
        yield Finding(
            PROBLEM, "compiler", f"no C++ compiler was found ({looked})",
            "install one (Debian: apt-get install g++; Fedora: dnf install gcc-c++; macOS: "
            "xcode-select --install), then reinstall fastconv",
        )  # fmt: skip
    found = "" if machine.compiler is None else f", with {machine.compiler.version}"
    yield Finding(
        PROBLEM, "native", reason,
        f"reinstall fastconv from its sources{found}; FASTCONV_REQUIRE_NATIVE=1 makes a build "
        "that fails say why",
    )  # fmt: skip


def numba(machine: Machine) -> Iterator[Finding]:
    """Numba is missing, cannot be imported, or has no threading layer that works."""
    reason, trouble = machine.backends.get("numba"), machine.selftest.get("numba")
    if machine.numba is None:
        if reason is not None:
            yield Finding(NOTE, "numba", "Numba is not installed", "pip install 'fastconv[numba]'")
        return
    if reason is not None:
        yield Finding(
            PROBLEM, "numba", f"Numba {machine.numba} is installed and cannot be used: {reason}",
            "pip install --upgrade 'fastconv[numba]'",
        )  # fmt: skip
    elif trouble is not None and "threading layer" in trouble.lower():
        layer = machine.environment.get("NUMBA_THREADING_LAYER")
        yield Finding(
            PROBLEM,
            "numba",
            f"Numba's threading layer does not work{f' ({layer} is forced)' if layer else ''}: "
            f"{trouble}",
            "unset NUMBA_THREADING_LAYER" if layer else "pip install tbb, or install libgomp",
        )


def cuda(machine: Machine) -> Iterator[Finding]:
    """The driver is there and unusable, or the GPU is usable and nothing uses it."""
    driver, reason = machine.driver, machine.backends.get("cuda")
    if driver.library is None:
        if driver.kernel_module:
            yield Finding(
                PROBLEM, "cuda",
                "the NVIDIA kernel module is loaded, and the driver library libcuda.so.1 is not "
                "found",
                "in a container, start it with the NVIDIA runtime (docker run --gpus all); "
                "elsewhere install the driver's libraries",
            )  # fmt: skip
        return
    if driver.status == NO_DEVICE and not driver.kernel_module:
        yield Finding(NOTE, "cuda", "the CUDA driver finds no GPU", "")
    elif driver.status == NO_DEVICE:
        hidden = machine.environment.get("CUDA_VISIBLE_DEVICES")
        yield Finding(
            PROBLEM if hidden is None else NOTE, "cuda",
            "the NVIDIA kernel module is loaded, and the CUDA driver finds no GPU"
            + ("" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})"),
            "check nvidia-smi and the devices given to this container"
            if hidden is None else "unset CUDA_VISIBLE_DEVICES to use one",
        )  # fmt: skip
    elif driver.status != 0:
        yield Finding(
            PROBLEM, "cuda", f"the CUDA driver cannot be used: {driver.error}",
            "check nvidia-smi; after a driver update restart the machine, in a container match "
            "the driver of the host",
        )  # fmt: skip
    elif reason is not None and machine.cupy is None:
        extra = "cuda13x" if (driver.version or (0, 0)) >= (13, 0) else "cuda12x"
        yield Finding(
            NOTE, "cuda", f"{', '.join(driver.devices)} could be used, and CuPy is not installed",
            f"pip install 'fastconv[{extra}]'",
        )  # fmt: skip
    elif reason is not None:
        version = ".".join(map(str, driver.version or ("?",)))
        yield Finding(
            PROBLEM, "cuda",
            f"{', '.join(driver.devices)} and CuPy {machine.cupy} are there, and the cuda backend "
            f"cannot be used: {reason}",
            f"install the CuPy that matches the driver, which runs CUDA up to {version}",
        )  # fmt: skip


def threads(machine: Machine) -> Iterator[Finding]:
    """More threads are asked for than there are cores."""
    cores = usable(machine)
    for variable in THREAD_VARIABLES:
        wanted = _first_integer(machine.environment.get(variable, ""))
        if wanted is not None and wanted > cores:
            yield Finding(
                PROBLEM, "threads",
                f"{variable}={machine.environment[variable]} asks for more threads than the "
                f"{cores} usable core{'s' if cores != 1 else ''}: they wait for each other",
                f"unset {variable}, or set it to {cores}",
            )  # fmt: skip


def quota(machine: Machine) -> Iterator[Finding]:
    """The container may use less CPU time than it sees cores."""
    if machine.quota is None or machine.quota.cores >= machine.affinity:
        return
    whole = max(1, int(machine.quota.cores))
    wanted = [
        number
        for name in ("FASTCONV_THREADS", "OMP_NUM_THREADS")
        if (number := _first_integer(machine.environment.get(name, ""))) is not None
    ]
    limited = bool(wanted) and wanted[0] <= machine.quota.cores
    yield Finding(
        NOTE if limited else PROBLEM, "threads",
        f"this container may use {machine.quota.cores:g} cores' worth of time and sees "
        f"{machine.affinity} cores ({machine.quota.source})",
        "" if limited else f"set OMP_NUM_THREADS={whole}, so that no pool of threads is throttled, "
        "or raise the quota",
    )  # fmt: skip


def openmp(machine: Machine) -> Iterator[Finding]:
    """Several OpenMP run-times share the process, each with threads of its own."""
    if len(machine.openmp) < 2:
        return
    families = {name.split(" ")[0].rstrip("0123456789") for name in machine.openmp}
    clash = families >= INCOMPATIBLE
    yield Finding(
        PROBLEM if clash else NOTE, "threads",
        f"{len(machine.openmp)} OpenMP run-times are loaded: {', '.join(machine.openmp)}; each "
        "keeps its own threads"
        + ("; Intel's and LLVM's together are known to abort or hang" if clash else ""),
        "install the packages from one source, so that they share a run-time, or limit one with "
        "threads=1" if clash else "",
    )  # fmt: skip


def environment(machine: Machine) -> Iterator[Finding]:
    """FASTCONV_* variables that are unknown, unreadable, or ask for the impossible."""
    for variable, value in machine.environment.items():
        if not variable.startswith("FASTCONV_"):
            continue
        if variable not in KNOWN:
            yield Finding(
                NOTE, "environment", f"{variable} is not read by fastconv",
                f"known are {', '.join(KNOWN)}",
            )  # fmt: skip
            continue
        option = KNOWN[variable]
        if option is None or not value:
            continue
        trouble = _option_trouble(option, value)
        if trouble is None and option == "backend" and machine.backends.get(value) is not None:
            trouble = f"that backend cannot be used: {machine.backends[value]}"
        if trouble is not None:
            yield Finding(
                PROBLEM, "environment", f"{variable}={value}: {trouble}",
                f"unset {variable}, or give it a value that serves",
            )  # fmt: skip
    threads = machine.environment.get("OMP_NUM_THREADS", "")
    if threads and _first_integer(threads) is None:
        yield Finding(
            PROBLEM, "environment", f"OMP_NUM_THREADS={threads} is no number of threads",
            "unset OMP_NUM_THREADS",
        )  # fmt: skip


def _option_trouble(option: str, value: str) -> str | None:
    """Why an option refuses the value of its variable, or None."""
    given: object = value
    if option in ("threads", "workspace"):
        given = _first_integer(value)
        if given is None:
            return "that is no integer"
    try:
        _checked(**{option: given})
    except (FastconvError, ValueError, TypeError) as error:
        return str(error)
    return None


def isa(machine: Machine) -> Iterator[Finding]:
    """FASTCONV_ISA names an instruction set that does not exist, or not on this processor."""
    forced = machine.environment.get("FASTCONV_ISA")
    if not forced:
        return
    reason = machine.backends.get("native")
    trouble = reason if reason is not None and "FASTCONV_ISA" in reason else None
    if trouble is None and forced not in ISAS:
        trouble = f"FASTCONV_ISA={forced} names no instruction set; there are {', '.join(ISAS)}"
    if trouble is None and machine.flags and not machine.flags >= ISAS[forced]:
        lacking = ", ".join(sorted(ISAS[forced] - machine.flags))
        trouble = f"FASTCONV_ISA={forced} is forced, and this processor lacks {lacking}"
    if trouble is not None:
        yield Finding(
            PROBLEM, "environment", trouble,
            "unset FASTCONV_ISA: the best instruction set is found by itself",
        )  # fmt: skip


def selftest(machine: Machine) -> Iterator[Finding]:
    """A backend that should work computed a wrong result, or raised."""
    for name, trouble in machine.selftest.items():
        if trouble is None or (name == "numba" and "threading layer" in trouble.lower()):
            continue
        yield Finding(
            PROBLEM, "self-test", f"backend {name}: {trouble}",
            f"report it with the output of python -m fastconv info; until then use another "
            f"backend than {name}",
        )  # fmt: skip


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    native, numba, cuda, threads, quota, openmp, environment, isa, selftest,
)  # fmt: skip


def judge(machine: Machine) -> list[Finding]:
    """Every finding on a machine, in the order of `CHECKS`."""
    return [finding for check in CHECKS for finding in check(machine)]
