"""Leaf primitives one by one: the same probes run on the host model and on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastconv.activations import LEAKY_SLOPE
from fastconv.backends.cuda.configuration import C_TYPES, Configuration
from fastconv.backends.cuda.parameters import PARAMETERS, divisor

Array = np.ndarray[Any, Any]

SOURCES = {
    path.name: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent.parent / "probes").glob("*.cu"))
}
THREADS = 64


class Probe(NamedTuple):
    """A kernel that maps an array, and what it must give."""

    configuration: Configuration
    x: Array
    result: str
    inner: int = 1  # the divisor the kernel finds in its parameters

    @property
    def blocks(self) -> int:
        """Blocks to launch."""
        if self.configuration.kernel == "vector_probe":
            return self.x.nbytes // (16 * THREADS)
        return 3

    def parameters(self, x: int, y: int) -> Array:
        """Parameters with the addresses of operand and result."""
        filled = np.zeros((), PARAMETERS)
        for name in ("groups", "c", "h", "w", "k", "r", "s", "p", "q"):
            filled[name] = 1
        filled["n"] = self.x.size
        filled["x_data"], filled["w_data"], filled["y_data"] = x, x, y
        filled["x_stride_n"] = filled["y_stride_n"] = 1
        filled["inner"] = divisor(self.inner)
        return filled


def each(x: Array, result: str, expression: str, inner: int = 1) -> Probe:
    """Probe `expression`, written in terms of `v`."""
    defines = (
        ("OPERAND_T", C_TYPES[x.dtype.name]), ("RESULT_T", C_TYPES[result]),
        ("PROBE_EXPRESSION", expression), ("LEAKY_SLOPE", repr(LEAKY_SLOPE)),
    )  # fmt: skip
    configuration = Configuration("map_probe", f"probe {expression}", THREADS, defines)
    return Probe(configuration, x, result, inner)


def turned(x: Array) -> Probe:
    """Probe shared memory, its barrier and its vectors."""
    defines = (("OPERAND_T", C_TYPES[x.dtype.name]),)
    return Probe(Configuration("vector_probe", "probe vectors", THREADS, defines), x, x.dtype.name)


def halves() -> Array:
    """Every bit pattern of a half."""
    return np.arange(2**16, dtype="u2").view("f2")


def floats(dtype: str = "float32") -> Array:
    """Numbers of all sizes and signs, specials, subnormals, ties between halves."""
    rng = np.random.default_rng(11)
    wide = rng.standard_normal(4096) * np.exp2(rng.integers(-150, 120, 4096))
    usual = rng.uniform(-20, 20, 4096)
    exact = halves().astype("f8")
    exact = np.sort(exact[np.isfinite(exact)])
    ties = (exact[1:] + exact[:-1]) / 2
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 65504, 65519.99, 65520, 1e-45, -1e-45, 1e-40]
    return np.concatenate([wide, usual, ties, ties * (1 + 2**-20), special]).astype(dtype)


def numbers() -> Array:
    """Integers 0 <= n < 2**31, the edges included."""
    rng = np.random.default_rng(12)
    drawn = rng.integers(0, 2**31, 4096)
    return np.concatenate([np.arange(4096), 2**31 - 1 - np.arange(4096), drawn]).astype("u4")
