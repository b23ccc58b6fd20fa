"""The stand-in's arrays: NumPy's in a wrapper that refuses whatever CuPy refuses.

That is implicit conversion to NumPy, mixed operands and another device's arrays.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .fake_cupy import HostGPU


class Device:
    """One of the GPUs; a context manager that makes it the current one."""

    def __init__(self, gpu: HostGPU, index: int) -> None:
        self._gpu, self.id = gpu, index
        self._outer: list[int] = []

    @property
    def compute_capability(self) -> str:
        """Such as "90"."""
        return self._gpu.capability

    def synchronize(self) -> None:
        """Wait for the GPU, which a convolution must not do."""
        self._gpu.synchronized.append(self.id)

    def __enter__(self) -> Device:
        self._outer.append(self._gpu.current)
        self._gpu.current = self.id
        return self

    def __exit__(self, *exception: object) -> None:
        self._gpu.current = self._outer.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """CuPy's array, on memory of the host."""

    def __init__(self, gpu: HostGPU, host: np.ndarray[Any, Any], device: int) -> None:
        self._gpu, self._host, self._device = gpu, host, device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    device = property(lambda self: Device(self._gpu, self._device))
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __dlpack__(self, **keywords: Any) -> Any:
        raise AssertionError("CuPy arrays are taken as they are")

    flags = property(lambda self: self._host.flags)

    def _like(self, host: np.ndarray[Any, Any]) -> ndarray:
        return ndarray(self._gpu, host, self._device)

    def host(self, value: Any) -> Any:
        """Return what stands behind an operand of one of CuPy's kernels, or a number."""
        assert self._gpu.current == self._device, "a kernel of CuPy on another device's array"
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        if not isinstance(value, ndarray):
            return value
        assert value._device == self._device, "arrays of two devices"
        return value._host

    def __array_ufunc__(self, ufunc: Any, method: str, *given: Any, **named: Any) -> ndarray:
        """Compute NumPy's function, as CuPy does by its own of that name."""
        assert method == "__call__"
        return self._like(np.asarray(ufunc(*map(self.host, given), **named)))

    def __array_function__(self, function: Any, types: Any, given: Any, named: Any) -> ndarray:
        """Compute one of the functions that CuPy has, too."""
        assert function in (np.where, np.clip), f"{function.__name__} of an array of CuPy's"
        return self._like(np.asarray(function(*map(self.host, given), **named)))

    def __getitem__(self, key: Any) -> ndarray:
        found = self._host[_indices(key)]
        return self._like(np.asarray(found))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_indices(key)] = self.host(value)

    def __iadd__(self, other: Any) -> ndarray:
        self._host += self.host(other)
        return self

    @property
    def real(self) -> ndarray:
        """View of the real parts."""
        return self._like(self._host.real)

    @real.setter
    def real(self, value: ndarray) -> None:
        self._host.real = self.host(value)

    @property
    def imag(self) -> ndarray:
        """View of the imaginary parts."""
        return self._like(self._host.imag)

    @imag.setter
    def imag(self, value: ndarray) -> None:
        self._host.imag = self.host(value)

    def conj(self) -> ndarray:
        """Return the conjugates."""
        return self._like(self.host(self).conj())

    def sum(self, axis: Any = None, dtype: Any = None) -> ndarray:
        """Add up."""
        return self._like(np.asarray(self.host(self).sum(axis=axis, dtype=dtype)))

    def transpose(self, *axes: Any) -> ndarray:
        """View with other axis order."""
        return self._like(self._host.transpose(*axes))

    def swapaxes(self, first: int, second: int) -> ndarray:
        """View with two axes swapped."""
        return self._like(self._host.swapaxes(first, second))

    def reshape(self, *shape: Any) -> ndarray:
        """View with another shape, or copy where there is none."""
        return self._like(self._host.reshape(*shape))

    def view(self, dtype: Any) -> ndarray:
        """View the bytes as numbers of another dtype."""
        return self._like(self._host.view(dtype))

    def astype(self, dtype: Any, order: str = "K", copy: bool = True) -> ndarray:
        """Convert, on the array's own device, which must be current as in CuPy."""
        return self._like(self.host(self).astype(dtype, order=order, copy=copy))

    def get(self) -> np.ndarray[Any, Any]:
        """Copy to the host."""
        return self._host.copy()


def _indices(key: Any) -> Any:
    """Return a key with the arrays in it as NumPy's; those of the host are refused."""
    if isinstance(key, tuple):
        return tuple(_indices(part) for part in key)
    assert not isinstance(key, np.ndarray), "an index on the host"
    return key._host if isinstance(key, ndarray) else key
