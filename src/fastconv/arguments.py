"""Arrays as the caller holds them, and as backends take them: views, copies, `out`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

from .checks import LAYOUTS
from .dtypes import COMPONENTS, Promotion, as_dtype, is_float
from .errors import DTypeError, OutputError
from .geometry import Shape
from .problem import ConvProblem


def _cupy_array() -> type | None:
    """CuPy's array class, once somebody has imported CuPy; None before, and half-way through."""
    return getattr(sys.modules.get("cupy"), "ndarray", None)


def cupy_arrays() -> tuple[type, ...]:
    """CuPy's array class where somebody has imported CuPy, for `isinstance`."""
    kind = _cupy_array()
    return () if kind is None else (kind,)


def array_kind(*arrays: Any, names: str = "x, w, bias and out") -> str:
    """Return ``numpy`` or ``cupy``; never imports CuPy, and refuses a mix of the two."""
    cupy_array = _cupy_array()
    if cupy_array is None:
        return "numpy"
    kinds = {isinstance(a, cupy_array) for a in arrays if a is not None}
    if len(kinds) == 2:
        raise DTypeError(
            f"{names} must live on one device: got NumPy and CuPy arrays together; "
            "move them with cupy.asarray(...) or cupy.asnumpy(...)"
        )
    return "cupy" if True in kinds else "numpy"


def module_of(array: Any) -> Any:
    """Return the module of an array: NumPy or CuPy."""
    cupy_array = _cupy_array()
    if cupy_array is not None and isinstance(array, cupy_array):
        return sys.modules["cupy"]
    return np


def on_device(kind: str, **arrays: Any) -> AbstractContextManager[Any]:
    """Context in which CuPy allocates and computes on the device of the arrays; NumPy has none."""
    if kind == "numpy":
        return nullcontext()
    devices = {name: a.device for name, a in arrays.items() if a is not None}
    ids = {name: device.id for name, device in devices.items()}
    if len(set(ids.values())) > 1:
        where = ", ".join(f"{name} on GPU {index}" for name, index in ids.items())
        first, second = list(ids)[:2]
        raise DTypeError(
            f"{first}, {second}, bias and out must live on one device, got {where}; move them, for "
            f"example with cupy.cuda.Device({ids[first]}): {second} = cupy.asarray({second})"
        )
    context: AbstractContextManager[Any] = next(iter(devices.values()))
    return context


def as_array(name: str, value: Any) -> Any:
    """View `value` as a plain array; lists are converted, what would lose meaning is refused."""
    if type(value) is np.ndarray:
        return value
    if _is_masked(value):
        raise DTypeError(
            f"{name} is a masked array, and a convolution has no place for the mask; "
            f"pass {name}.filled(0), or convolve values and mask apart"
        )
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    cupy_array = _cupy_array()
    if cupy_array is not None and isinstance(value, cupy_array):
        return value
    if hasattr(value, "__dlpack__"):
        raise DTypeError(
            f"{name} is a {type(value).__module__}.{type(value).__qualname__}; fastconv takes "
            f"NumPy and CuPy arrays: pass numpy.asarray({name})"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"{name} is no array of numbers: {type(value).__name__} {value!r:.60}")
    return array


def logical(array: Any, problem: ConvProblem) -> Any:
    """View the caller's images as (N, C, H, W), or their results as (N, K, P, Q); any dimensions.

    (N, C, L) for signals, (N, C, D, H, W) for volumes.
    """
    spatial = problem.spatial
    if problem.rank == spatial:
        return array[None, None]
    full = array[None] if problem.rank == spatial + 1 else array
    return full.transpose(LAYOUTS[problem.layout]) if problem.channels_last else full


def logical_weights(array: Any, spatial: int) -> Any:
    """View weights, or their gradient, as (K, C/groups, R, S); any dimensions."""
    return array[None, None] if array.ndim == spatial else array


def kernel(w: Any, flip: bool, spatial: int = 2) -> Any:
    """View w as (K, C/groups, R, S), turned by 180 degrees for the true convolution."""
    full = logical_weights(w, spatial)
    return full[(slice(None),) * 2 + (slice(None, None, -1),) * spatial] if flip else full


@lru_cache(maxsize=32)
def _named(dtype: str) -> np.dtype[Any]:
    """Return the dtype of that name: building and naming dtypes takes microseconds."""
    return as_dtype(dtype)


def readable(xp: Any, array: Any, dtype: str) -> Any:
    """`array` in native `dtype`, aligned, strides in whole items; copied only where it is not.

    Real numbers stay so where `dtype` is complex.
    """
    if dtype in COMPONENTS and array.dtype.kind != "c":
        dtype = COMPONENTS[dtype]
    wanted = _named(dtype)
    if array.dtype != wanted:  # another byte order is another dtype
        return array.astype(wanted)
    return array if xp is not np or _is_plain_memory(array) else array.copy()


def private_copy(array: Any) -> Any:
    """Contiguous copy of `array` in native byte order, which later changes do not reach."""
    return array.astype(array.dtype.newbyteorder("="), order="C")


def check_bias(bias: Any, dtype: str) -> None:
    """Raise if converting `bias` to the result's `dtype` would lose more than precision."""
    fits = is_float(dtype) or np.can_cast(bias.dtype, dtype, "same_kind")
    kinds = "biufc" if dtype in COMPONENTS else "biuf"
    if not (bias.dtype.kind in kinds or is_float(bias.dtype)) or not fits:
        raise DTypeError(
            f"bias has dtype {bias.dtype}, the result is {dtype}; convert the bias, or ask for "
            "another result with dtype="
        )


def check_output(xp: Any, problem: ConvProblem, promotion: Promotion, out: Any) -> None:
    """Raise unless the result can be written into `out`."""
    check_result(xp, problem.out_shape, promotion.result, out)


def check_result(xp: Any, shape: Shape, dtype: str, out: Any) -> None:
    """Raise unless a result of this shape and dtype can be written into `out`."""
    if not isinstance(out, xp.ndarray) or _is_masked(out):
        raise DTypeError(f"out must be a plain array, got {type(out).__name__}")
    expected = f"out must be {shape} {dtype}"
    if out.shape != shape:
        raise OutputError(f"{expected}, got shape {out.shape}")
    if out.dtype.newbyteorder("=").name != dtype:
        raise OutputError(f"{expected}, got dtype {out.dtype}; pass dtype={out.dtype.name!r}?")
    if xp is np and not out.flags.writeable:
        raise OutputError(f"{expected} that can be written to, got a read-only array")
    axes = zip(out.shape, out.strides, strict=True)
    if xp is not np and any(size > 1 and step == 0 for size, step in axes):
        # NumPy's broadcasts are read-only, CuPy's are not
        raise OutputError(f"{expected} that can be written to, got a broadcast array")


def output(
    xp: Any, problem: ConvProblem, promotion: Promotion, out: Any, inputs: Sequence[Any]
) -> tuple[Any, Any]:
    """Arrays to compute into and to return: the same, unless a checked `out` needs a detour."""
    if out is None:
        target = xp.empty(problem.out_shape, dtype=_named(promotion.computed))
        if promotion.result == promotion.computed:
            return target, target
        return target, xp.empty(problem.out_shape, dtype=as_dtype(promotion.result))
    view = np.asarray(out) if xp is np else out
    direct = (
        promotion.result == promotion.computed
        and (xp is not np or _is_plain_memory(view))
        and not any(a is not None and xp.may_share_memory(view, a) for a in inputs)
    )
    return (
        view if direct else xp.empty(problem.out_shape, dtype=as_dtype(promotion.computed))
    ), out


def _is_masked(value: Any) -> bool:
    """Whether `value` is a masked array; never imports `numpy.ma`, which NumPy loads on demand."""
    ma = sys.modules.get("numpy.ma")
    return type(value) is not np.ndarray and ma is not None and isinstance(value, ma.MaskedArray)


def _is_plain_memory(array: Any) -> bool:
    """Native byte order, aligned, strides in whole items: what backends compute on."""
    flags, size = array.flags, array.itemsize
    if not (flags.aligned and array.dtype.isnative):
        return False
    return bool(flags.c_contiguous or not any(stride % size for stride in array.strides))
