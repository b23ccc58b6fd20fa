"""Which backends a test runs on, and when a missing one is a failure."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

import fastconv
from fastconv import dispatch
from fastconv.options import resolve

CPU = ("reference", "numba", "native")
FAST = ("numba", "native")

FLOATS = ("float32", "float64")
#: Floats of 16 bits; NumPy knows bfloat16 where ml_dtypes is imported.
HALVES = ("float16", "bfloat16") if importlib.util.find_spec("ml_dtypes") else ("float16",)
if "bfloat16" in HALVES:
    importlib.import_module("ml_dtypes")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
ALL_DTYPES = (*FLOATS, *HALVES, *INTEGERS)

#: What each backend has to compute at the very least; more is welcome.
PROMISED = {
    "reference": ALL_DTYPES,
    "numba": ALL_DTYPES,
    "native": (*FLOATS, *HALVES, "int8", "uint8", "int16", "uint16"),
}


def required() -> set[str]:
    """Backends named in FASTCONV_REQUIRE_BACKENDS: missing ones fail instead of being skipped."""
    names = os.environ.get("FASTCONV_REQUIRE_BACKENDS", "")
    return {name.strip() for name in names.split(",") if name.strip()}


def present(name: str) -> str:
    """Return `name`, or skip (or fail, where it is required) because the machine lacks it."""
    reason = dispatch.availability(name)
    if reason is not None:
        if name in required() or name == "reference":
            pytest.fail(f"required backend {name} is missing: {reason}")
        pytest.skip(f"{name}: {reason}")
    return name


def refusal(name: str, problem: fastconv.ConvProblem) -> str | None:
    """Why backend `name` does not compute `problem`, or None; promised dtypes are never refused."""
    reason = dispatch.load(name).supports(problem, resolve(name, None, None))
    if reason is not None and problem.dtype in PROMISED[name]:
        pytest.fail(f"{name} refuses what it promised, {problem}: {reason}")
    return reason


def serves(name: str, dtype: str) -> bool:
    """Whether backend `name` computes plain problems of `dtype`."""
    one = np.ones((1, 1, 1, 1), dtype)
    try:
        fastconv.conv2d(one, one, backend=name)
    except fastconv.BackendUnsupported:
        if dtype in PROMISED[name]:
            raise
        return False
    return True


def isa() -> str:
    """Instruction set that measured figures belong to: its extensions compute no float32."""
    facts = fastconv.show_config(mode="dict")
    name = str(facts["native"].get("isa", facts["machine"]))
    return name.removesuffix("vnni").removesuffix("bf16")
