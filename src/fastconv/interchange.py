"""Arrays of other libraries: a call sees them as NumPy or CuPy, and answers in their own kind.

Whatever has ``__dlpack__`` (https://data-apis.org/array-api) is taken without a copy: PyTorch, JAX,
CuPy, array_api_strict. Nothing is moved between devices: memory of the processor is NumPy's, of a
GPU CuPy's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import numpy as np

from .arguments import array_kind
from .dtypes import BFLOAT16, as_dtype
from .errors import BackendUnavailable, DTypeError

P = ParamSpec("P")
R = TypeVar("R")

#: Devices that DLPack numbers: memory that the processor reads; that CuPy reads.
_HOST, _CUDA = (1, 3, 11), (2, 13)

#: What belongs to no library but Python and NumPy, without a look at it.
_OWN = {np.ndarray, int, float, bool, str, tuple, list, type(None), np.dtype, type}


def is_foreign(value: Any) -> bool:
    """Whether a value is an array of another library than NumPy and CuPy."""
    kind = type(value)
    return (
        kind not in _OWN
        and hasattr(kind, "__dlpack__")
        and not isinstance(value, np.ndarray)
        and array_kind(value) == "numpy"
    )


def any_foreign(*values: Any) -> bool:
    """Whether one of the values is an array of another library than NumPy and CuPy."""
    return any(type(value) not in _OWN and is_foreign(value) for value in values)


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function with views of its foreign arrays; arrays it returns become of their kind.

    Raises
    ------
    DTypeError
        Arrays of several libraries, or one that has no view: it requires a gradient, is being
        traced, or its memory is no array's.
    BackendUnavailable
        Memory of a GPU where there is no CuPy, or of a device that nothing here computes on.
    """
    args, kwargs, library = views(function, args, kwargs)
    out = kwargs.get("out")
    args, kwargs, library = views(function, args, kwargs)
    result = function(*args, **kwargs)
    return _given(library, result) if out is None else out


def views(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], _Library]:
    """Return the arguments of a call with views in the place of foreign arrays, and their library.

    A dtype of that library is taken by its name.
    """
    first = next(value for value in (*args, *kwargs.values()) if is_foreign(value))
    library = _library(first)
    _check_one_library(function, args, kwargs, library)

    def seen(value: Any) -> Any:
        return library.view(value) if is_foreign(value) else value

    named = {name: seen(value) for name, value in kwargs.items()}
    dtype = named.get("dtype")
    if dtype is not None and not isinstance(dtype, str | type | np.dtype):
        named["dtype"] = str(dtype).rpartition(".")[2]
    return tuple(map(seen, args)), named, library


def served(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take arrays of other libraries."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for value in (*args, *kwargs.values()):
            if type(value) not in _OWN and is_foreign(value):
                result: R = call(function, args, kwargs)
                return result
        return function(*args, **kwargs)

    return wrapper


class _Library:
    """A library whose arrays are taken by DLPack, and given back by its ``from_dlpack``."""

    def __init__(self, name: str, functions: Any) -> None:
        self.name, self._functions = name, functions

    def view(self, value: Any) -> Any:
        """View an array of this library as one of NumPy or CuPy."""
        try:
            return self._host_view(value)
        except Exception as error:
            refused = error
        device = _device(value)
        if device in _CUDA:
            return _cupy(self.name).from_dlpack(value)
        if device is not None and device not in _HOST:
            raise BackendUnavailable(
                f"a {_kind(value)} is on DLPack device {device}; fastconv computes in the "
                "processor's memory and, with CuPy, in a GPU's: move it there"
            ) from refused
        raise DTypeError(f"a {_kind(value)} has no view as an array{self._hint(value)}: {refused}")

    def _host_view(self, value: Any) -> Any:
        if self._is_bfloat16(value):  # DLPack has a code for it that NumPy does not know
            bits = np.from_dlpack(value.view(self._functions.int16))
            return bits.view(as_dtype(BFLOAT16))
        return np.from_dlpack(value)

    def give(self, array: Any) -> Any:
        """Return an array of NumPy or CuPy as one of this library, without a copy where it can."""
        if isinstance(array, np.ndarray):
            if array.dtype.name == BFLOAT16:
                return self._given(array.view("int16")).view(self._functions.bfloat16)
            if not array.dtype.isnative:
                array = array.astype(array.dtype.newbyteorder("="))
        return self._given(array)

    def _given(self, array: Any) -> Any:
        try:
            return self._functions.from_dlpack(array)
        except BufferError:  # memory that is read-only, which some libraries do not take
            return self._functions.asarray(array.copy())

    @staticmethod
    def _is_bfloat16(value: Any) -> bool:
        return str(getattr(value, "dtype", "")).endswith(BFLOAT16)

    def _hint(self, value: Any) -> str:
        """Say what to do instead."""
        if getattr(value, "requires_grad", False):
            return (
                "; it requires a gradient, which fastconv.interop.torch computes; here pass "
                "x.detach()"
            )
        if "Tracer" in type(value).__name__:
            return "; under jit, grad and vmap there is fastconv.interop.jax"
        return ""


class _Torch(_Library):
    """PyTorch, whose own view and tensor of an array take a third of DLPack's time."""

    def _host_view(self, value: Any) -> Any:
        if self._is_bfloat16(value):
            return value.view(self._functions.int16).numpy().view(as_dtype(BFLOAT16))
        return value.numpy()

    def _given(self, array: Any) -> Any:
        if isinstance(array, np.ndarray) and array.flags.writeable and min(array.strides) >= 0:
            return self._functions.from_numpy(array)
        return super()._given(array)


_libraries: dict[type, _Library] = {}


def _library(value: Any) -> _Library:
    """Return the library of an array; it is imported, or there would be no array of its."""
    kind = type(value)
    known = _libraries.get(kind)
    if known is None:
        space = getattr(value, "__array_namespace__", None)
        root = kind.__module__.partition(".")[0]
        functions = sys.modules[root] if space is None else space()
        if not hasattr(functions, "from_dlpack"):
            raise DTypeError(
                f"a {_kind(value)} has __dlpack__, but {root} no from_dlpack for the result; pass "
                "numpy.from_dlpack(x)"
            )
        known = (_Torch if root == "torch" else _Library)(root, functions)
        _libraries[kind] = known
    return known


def _check_one_library(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], library: _Library
) -> None:
    """Raise for arrays of two libraries: neither may decide which the result is of."""
    for value in (*args, *kwargs.values()):
        array = isinstance(value, np.ndarray) or array_kind(value) == "cupy"
        if array or (is_foreign(value) and _library(value) is not library):
            kinds = ", ".join(
                f"{name} a {_kind(given)}"
                for name, given in _named(function, args, kwargs)
                if hasattr(type(given), "__dlpack__")
            )
            raise DTypeError(
                f"arrays of one call must be of one library, got {kinds}; convert one, for example "
                f"with {library.name}'s from_dlpack"
            )


def _named(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str, Any]]:
    names = list(signature(function).parameters)
    return [*zip(names, args, strict=False), *kwargs.items()]


def _given(library: _Library, result: Any) -> Any:
    """Return arrays, also those in a tuple, as the library's own; anything else as it is."""
    if isinstance(result, np.ndarray) or array_kind(result) == "cupy":
        return library.give(result)
    if isinstance(result, tuple) and any(isinstance(part, np.ndarray) for part in result):
        parts = (_given(library, part) for part in result)
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return result


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _device(value: Any) -> int | None:
    """Return DLPack's number of an array's device; None where the array does not tell."""
    try:
        return int(value.__dlpack_device__()[0])
    except Exception:
        return None


def _cupy(library: str) -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise BackendUnavailable(
            f"an array of {library} is in a GPU's memory, where CuPy computes for fastconv: {error}"
        ) from None
