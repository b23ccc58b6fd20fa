"""Which dtype the operands are read in, and which one the result has. A leaf: NumPy only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .errors import DTypeError

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


class Promotion(NamedTuple):
    """Dtype names of one call.

    operand : what ``x`` and ``w`` are converted to (a no-op for equal, native dtypes);
    computed : what the backend writes, and accumulates in (float16 accumulates in float32);
    result : what the caller receives; differs from ``computed`` only where a float16 result was
        asked for from wider operands, and is then rounded once.
    """

    operand: str
    computed: str
    result: str


def accumulator(computed: str) -> str:
    """Dtype a backend accumulates in, for results computed as `computed`."""
    return "float32" if computed == "float16" else computed


def _checked(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    if dtype.names is None and dtype.newbyteorder("=").name in (*FLOATS, *INTEGERS, "bool"):
        return np.dtype("uint8") if dtype.kind == "b" else dtype.newbyteorder("=")
    hint = {
        "c": "convolve the real and the imaginary part apart",
        "O": "convert it, for example with numpy.asarray(..., dtype='float64')",
        "U": "convert it to numbers first",
        "S": "convert it to numbers first",
        "V": "pass one numeric field, such as a['field']",
        "f": "convert it with .astype('float64')",
    }.get(dtype.kind, "convert it to a real number type first")
    raise DTypeError(
        f"{name} has dtype {dtype}, which fastconv does not convolve; {hint} "
        f"(supported: {', '.join((*FLOATS, *INTEGERS, 'bool'))})"
    )


def _default_result(common: np.dtype[Any], widest: int) -> np.dtype[Any]:
    """Default result dtype: floats stay, integers accumulate exactly modulo 2**32 or 2**64."""
    if common.kind == "f":
        return common
    if widest <= 2:
        return np.dtype("int32")
    return common if common == np.dtype("uint64") else np.dtype("int64")


@lru_cache(maxsize=512)
def promote(x: np.dtype[Any], w: np.dtype[Any], dtype: np.dtype[Any] | None = None) -> Promotion:
    """Promote the dtypes of `x` and `w` as NumPy does; `dtype` overrides result and accumulator.

    Integers of 8 and 16 bits accumulate in int32, wider ones in int64 (uint64 among itself), exact
    modulo 2**bits of that dtype. Raises `DTypeError` for anything that is not a real number, and
    for a `dtype` that would silently cut off fractions.
    """
    x, w = _checked(x, "x"), _checked(w, "w")
    common = np.result_type(x, w)
    if common.kind in "iu" and dtype is None:
        result = _default_result(common, max(x.itemsize, w.itemsize))
    else:
        result = common if dtype is None else _checked(dtype, "dtype=")
    if common.kind == "f" and result.kind != "f":
        raise DTypeError(
            f"dtype={result} cannot hold the result of {x} and {w} without cutting off fractions; "
            f"leave dtype out, or round the operands with .astype({str(result)!r}) first"
        )
    if result == np.float16 and common != np.float16:
        return Promotion("float32", "float32", "float16")
    if result.kind == "f" or common.itemsize > result.itemsize:
        return Promotion(result.name, result.name, result.name)
    return Promotion(common.name, result.name, result.name)
