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

from .arguments import array_kind, cupy_arrays
from .dtypes import BFLOAT16, as_dtype
from .errors import BackendUnavailable, DTypeError

P = ParamSpec("P")
R = TypeVar("R")

#: Devices that DLPack numbers: memory that the processor reads; that CuPy reads.
_HOST, _CUDA = (1, 3, 11), (2, 13)


def any_foreign(*values: Any) -> bool:
    """Whether one of the values is an array of another library than NumPy and CuPy."""
    for value in values:
        kind = type(value)
        library = _libraries[kind] if kind in _libraries else _library(value)
        if library is not None and library is not _OWN:
            return True
    return False


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
    out = kwargs.get("out")
    args, kwargs, library = views(function, args, kwargs)
    result = function(*args, **kwargs)
    if out is not None:
        return out
    return library.give(result) if type(result) is np.ndarray else _given(library, result)


def views(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], _Library]:
    """Return the arguments of a call with views in the place of foreign arrays, and their library.

    There must be one among them. A dtype of its library is taken by its name.
    """
    values = [*args, *kwargs.values()]
    found: _Library | None = None
    places = []
    for index, value in enumerate(values):
        kind = type(value)
        library = _libraries[kind] if kind in _libraries else _library(value)
        if library is None:
            continue
        if found is not None and library is not found:
            raise _of_several(function, args, kwargs)
        found = library
        places.append(index)
    assert found is not None
    for index in places:
        values[index] = found.view(values[index])
    named = dict(zip(kwargs, values[len(args) :], strict=True))
    dtype = named.get("dtype")
    if dtype is not None and not isinstance(dtype, str | type | np.dtype):
        named["dtype"] = str(dtype).rpartition(".")[2]
    return tuple(values[: len(args)]), named, found


def served(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take arrays of other libraries."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if any_foreign(*args, *kwargs.values()):
            result: R = call(function, args, kwargs)
            return result
        return function(*args, **kwargs)

    return wrapper


class _Library:
    """A library whose arrays are taken by DLPack, and given back by its ``from_dlpack``."""

    def __init__(self, name: str, functions: Any) -> None:
        self.name, self.functions = name, functions

    def view(self, value: Any) -> Any:
        """View an array of this library as one of NumPy or CuPy."""
        if not hasattr(self.functions, "from_dlpack"):
            raise DTypeError(
                f"a {_kind(value)} has __dlpack__, but {self.name} no from_dlpack for the result; "
                "pass numpy.from_dlpack(x)"
            )
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
        if str(getattr(value, "dtype", "")).endswith(BFLOAT16) and not self._hint(value):
            return self._host_view(value.view(self.functions.int16)).view(as_dtype(BFLOAT16))
        raise DTypeError(f"a {_kind(value)} has no view as an array{self._hint(value)}: {refused}")

    def give(self, array: Any) -> Any:
        """Return an array of NumPy or CuPy as one of this library, without a copy where it can."""
        if type(array) is np.ndarray and array.dtype.isbuiltin != 1:
            if array.dtype.name == BFLOAT16:  # DLPack has a code for it that NumPy does not know
                return self._given(array.view("int16")).view(self.functions.bfloat16)
            array = array.astype(array.dtype.newbyteorder("="))
        return self._given(array)

    def _host_view(self, value: Any) -> Any:
        return np.from_dlpack(value)

    def _given(self, array: Any) -> Any:
        try:
            return self.functions.from_dlpack(array)
        except BufferError:  # memory that is read-only, which some libraries do not take
            return self.functions.asarray(array.copy())

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
        return value.numpy()

    def _given(self, array: Any) -> Any:
        if type(array) is np.ndarray and array.flags.c_contiguous and array.flags.writeable:
            return self.functions.from_numpy(array)
        return super()._given(array)


#: What computes here: NumPy and CuPy.
_OWN = _Library("numpy", np)

#: By the type of a value; None for what is no array.
_libraries: dict[type, _Library | None] = {}
MOST_TYPES = 256


def _library(value: Any) -> _Library | None:
    """Return the library of an array, None for any other value; the next of its type is known."""
    if len(_libraries) >= MOST_TYPES:
        _libraries.clear()
    kind = type(value)
    library: _Library | None = None
    if issubclass(kind, (np.ndarray, *cupy_arrays())):
        library = _OWN
    elif hasattr(kind, "__dlpack__"):
        root = kind.__module__.partition(".")[0]
        space = getattr(value, "__array_namespace__", None)
        functions = sys.modules.get(root) if space is None else space()
        known = [other for other in _libraries.values() if other is not None]
        library = next(
            (other for other in known if functions is not None and other.functions is functions),
            (_Torch if root == "torch" else _Library)(root, functions),
        )
    _libraries[kind] = library
    return library


def _of_several(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> DTypeError:
    """Describe a call with arrays of two libraries: neither may decide which the result is of."""
    kinds = ", ".join(
        f"{name} a {_kind(given)}"
        for name, given in _named(function, args, kwargs)
        if hasattr(type(given), "__dlpack__")
    )
    return DTypeError(
        f"arrays of one call must be of one library, got {kinds}; convert, for example with the "
        "from_dlpack that each of them has"
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
