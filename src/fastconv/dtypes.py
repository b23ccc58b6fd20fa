"""Which dtype the operands are read in, and which one the result has. A leaf: NumPy only.

bfloat16 is not NumPy's: the package ml_dtypes defines it and tells NumPy. It is known here by its
name, so that nobody who does not use it needs that package.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .errors import DTypeError

FLOATS = ("float16", "float32", "float64")
BFLOAT16 = "bfloat16"
#: Floats of 16 bits: storage alone, their sums are float32.
NARROW = ("float16", BFLOAT16)
#: Complex dtypes, and what their parts are.
COMPONENTS = {"complex64": "float32", "complex128": "float64"}
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def as_dtype(value: Any) -> np.dtype[Any]:
    """Make a dtype of what the caller wrote; "bfloat16" needs no import on the caller's side.

    Raises TypeError where `value` is none, or ml_dtypes is missing.
    """
    if isinstance(value, str) and value == BFLOAT16:
        try:
            value = importlib.import_module("ml_dtypes").bfloat16
        except ModuleNotFoundError:
            raise TypeError("bfloat16 comes with ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(value)
    return dtype


def is_float(dtype: np.dtype[Any] | str) -> bool:
    """Whether a dtype, or the dtype of that name, is a floating-point one."""
    name = dtype if isinstance(dtype, str) else dtype.name
    return name in FLOATS or name == BFLOAT16


def itemsize(name: str) -> int:
    """Bytes of one element of the dtype of that name."""
    return 2 if name == BFLOAT16 else np.dtype(name).itemsize


class FloatLimits(NamedTuple):
    """Distance from 1 to the next number, smallest subnormal and largest number of a float."""

    eps: float
    smallest_subnormal: float
    max: float


@lru_cache(maxsize=8)
def float_limits(name: str) -> FloatLimits:
    """Return what `numpy.finfo` says, and what it would say of bfloat16."""
    if name == BFLOAT16:
        return FloatLimits(2.0**-7, 2.0**-133, (2 - 2.0**-7) * 2.0**127)
    info = np.finfo(name)
    return FloatLimits(float(info.eps), float(info.smallest_subnormal), float(info.max))


class Promotion(NamedTuple):
    """Dtype names of one call.

    operand : what ``x`` and ``w`` are converted to (a no-op for equal, native dtypes);
    computed : what the backend writes, and accumulates in (floats of 16 bits in float32);
    result : what the caller receives; differs from ``computed`` only where a float of 16 bits was
        asked for from other operands, and is then rounded once;
    real : ``a`` or ``b``, the operand that is real, and stays so, where the other one is complex.
    """

    operand: str
    computed: str
    result: str
    real: str = ""


def accumulator(computed: str) -> str:
    """Dtype a backend accumulates in, for results computed as `computed`."""
    return "float32" if computed in NARROW else computed


def _checked(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    supported = (*FLOATS, BFLOAT16, *INTEGERS, "bool", *COMPONENTS)
    if dtype.names is None and dtype.newbyteorder("=").name in supported:
        return np.dtype("uint8") if dtype.kind == "b" else dtype.newbyteorder("=")
    hint = {
        "c": "convert it with .astype('complex128')",
        "O": "convert it, for example with numpy.asarray(..., dtype='float64')",
        "U": "convert it to numbers first",
        "S": "convert it to numbers first",
        "V": "pass one numeric field, such as a['field']",
        "f": "convert it with .astype('float64')",
    }.get(dtype.kind, "convert it to a real number type first")
    raise DTypeError(
        f"{name} has dtype {dtype}, which fastconv does not convolve; {hint} "
        f"(supported: {', '.join(supported)})"
    )


def _default_result(common: np.dtype[Any], widest: int) -> np.dtype[Any]:
    """Default result dtype: floats stay, integers accumulate exactly modulo 2**32 or 2**64."""
    if is_float(common):
        return common
    if widest <= 2:
        return np.dtype("int32")
    return common if common == np.dtype("uint64") else np.dtype("int64")


def _common(x: np.dtype[Any], w: np.dtype[Any]) -> np.dtype[Any]:
    """Promote as NumPy does; bfloat16 as if it were float16, whose own bits it lacks, however."""
    if BFLOAT16 not in (x.name, w.name) or x == w:
        return np.result_type(x, w)
    bfloat16, other = (x, w) if x.name == BFLOAT16 else (w, x)
    if other.name == "float16":
        return np.dtype("float32")
    common = np.result_type(np.dtype("float16"), other)
    return bfloat16 if common.name == "float16" else common


def _promote_complex(
    x: np.dtype[Any],
    w: np.dtype[Any],
    common: np.dtype[Any],
    dtype: np.dtype[Any] | None,
    names: tuple[str, str],
) -> Promotion:
    """Promote where x, w or the result is complex."""
    result = common if dtype is None else _checked(dtype, "dtype=")
    if common.kind != "c":
        raise DTypeError(
            f"dtype={result} makes complex numbers of {names[0]} {x} and {names[1]} {w}, which are "
            f"real; leave dtype out, or convert one with .astype({result.name!r})"
        )
    if result.kind != "c":
        raise DTypeError(
            f"dtype={result} cannot hold the complex result of {names[0]} {x} and {names[1]} {w}; "
            "leave dtype out, and take the .real or .imag of the result"
        )
    real = "a" if x.kind != "c" else "b" if w.kind != "c" else ""
    return Promotion(result.name, result.name, result.name, real)


@lru_cache(maxsize=512)
def promote(
    x: np.dtype[Any],
    w: np.dtype[Any],
    dtype: np.dtype[Any] | None = None,
    names: tuple[str, str] = ("x", "w"),
) -> Promotion:
    """Promote the dtypes of `x` and `w` as NumPy does; `dtype` overrides result and accumulator.

    `names` are what messages call the operands.

    bfloat16 meets integers as float16 does, and float16 in float32.

    Integers of 8 and 16 bits accumulate in int32, wider ones in int64 (uint64 among itself), exact
    modulo 2**bits of that dtype. Raises `DTypeError` for anything that is not a number, and for a
    `dtype` that would silently cut off fractions or imaginary parts.
    """
    x, w = _checked(x, names[0]), _checked(w, names[1])
    common = _common(x, w)
    if common.kind == "c" or (dtype is not None and dtype.kind == "c"):
        return _promote_complex(x, w, common, dtype, names)
    if common.kind in "iu" and dtype is None:
        result = _default_result(common, max(x.itemsize, w.itemsize))
    else:
        result = common if dtype is None else _checked(dtype, "dtype=")
    if is_float(common) and not is_float(result):
        raise DTypeError(
            f"dtype={result} cannot hold the result of {x} and {w} without cutting off fractions; "
            f"leave dtype out, or round the operands with .astype({str(result)!r}) first"
        )
    if result.name in NARROW and common != result:
        return Promotion("float32", "float32", result.name)
    if is_float(result) or common.itemsize > result.itemsize:
        return Promotion(result.name, result.name, result.name)
    return Promotion(common.name, result.name, result.name)
