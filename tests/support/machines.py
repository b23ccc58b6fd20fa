"""A healthy machine as ``doctor`` sees one, and variants of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastconv.cli.driver import Driver
from fastconv.cli.machine import Compiler, Machine

AVX2 = frozenset({"avx2", "fma", "f16c"})
HEALTHY = Machine(
    environment={},
    affinity=8,
    quota=None,
    flags=AVX2,
    compiler=Compiler("/usr/bin/c++", "c++ 12.2.0"),
    backends={"cuda": "CuPy is not installed", "native": None, "numba": None, "reference": None},
    numba="0.61",
    cupy=None,
    driver=Driver(),
    selftest={"native": None, "numba": None, "reference": None},
    openmp=("libgomp (/usr/lib/libgomp.so.1)",),
)
GPU = Driver(True, "libcuda.so.1", 0, "", (12, 4), ("GPU A",))


def variables(**values: str) -> Machine:
    """Return a healthy machine with these environment variables."""
    return replace(HEALTHY, environment=values)


def without(name: str, reason: str, **changes: Any) -> Machine:
    """Return a healthy machine on which a backend is missing for a reason."""
    return replace(HEALTHY, backends={**HEALTHY.backends, name: reason}, **changes)
