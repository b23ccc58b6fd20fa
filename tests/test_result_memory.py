"""Large results: memory that is used again, of arrays like any other."""

from __future__ import annotations

import ctypes
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.backends import present

import fastconv

Array = np.ndarray[Any, Any]

#: 36 MiB and 9 MiB.
LARGE, SMALL = (1, 3000, 3146), (1, 1500, 1573)


@pytest.fixture
def result() -> Callable[..., Array]:
    """Results of a 1x1 kernel, by the extension's short way."""
    present("native")
    w = np.full((1, 1, 1, 1), 2, np.float32)

    def call(shape: tuple[int, ...], value: float) -> Array:
        x = np.full(shape, value, np.float32)
        with fastconv.options(backend="native"):
            fastconv.conv2d(x[:, :2], w)  # of another shape
            fastconv.conv2d(x, w)
            y: Array = fastconv.conv2d(x, w)
        assert (y == 2 * value).all()
        return y

    return call


def test_memory_is_used_again_once_it_is_free(result: Callable[..., Array]) -> None:
    y = result(LARGE, 1)
    assert y.flags.owndata
    assert y.base is None
    assert y.ctypes.data % 64 == 0
    address = y.ctypes.data
    held = [result(LARGE, value) for value in (2, 3)]
    assert len({a.ctypes.data for a in (y, *held)}) == 3
    for array, value in zip((y, *held), (2, 4, 6), strict=True):
        assert (array == value).all()
    del y, array
    gc.collect()
    assert result(LARGE, 9).ctypes.data == address  # though an image of this size came between
    assert (held[0] == 4).all()
    assert (held[1] == 6).all()


def test_the_handler_of_other_arrays_is_left_alone(result: Callable[..., Array]) -> None:
    names = np._core.multiarray.get_handler_name  # type: ignore[attr-defined]
    before = names()
    y = result(LARGE, 1)
    assert "fastconv" in names(y)
    assert "fastconv" not in names(result(SMALL, 1))
    assert names() == before
    assert names(np.empty(10)) == before


def test_a_large_result_is_an_array_like_any_other(result: Callable[..., Array]) -> None:
    y = result(LARGE, 1)
    size = y.size
    y.resize(2 * size, refcheck=False)
    assert (y[:size] == 2).all()
    assert not y[size:].any()
    y.resize(10, refcheck=False)
    assert (y == 2).all()
    tracemalloc.start()
    try:
        y = result(LARGE, 3)
        assert tracemalloc.get_traced_memory()[0] >= y.nbytes
        del y
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 32 << 20
    finally:
        tracemalloc.stop()


class Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("allocator", ctypes.c_void_p * 5),
    )


CAPSULE, OWN = b"mem_handler", Handler()


def test_a_handler_of_the_program_s_own_is_kept(result: Callable[..., Array]) -> None:
    """Pinned or shared memory, say: the results that are worth keeping are just those it is for."""
    python, multiarray = ctypes.pythonapi, np._core.multiarray  # type: ignore[attr-defined]
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", python)
    )
    capsule = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
    )(("PyCapsule_New", python))
    table = ctypes.cast(pointer(multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(table[305])
    ctypes.memmove(ctypes.byref(OWN), pointer(get_handler(), CAPSULE), ctypes.sizeof(OWN))
    OWN.name = b"of the program"
    before = set_handler(capsule(ctypes.addressof(OWN), CAPSULE, None))
    try:
        y = result(LARGE, 1)
    finally:
        set_handler(before)
    assert multiarray.get_handler_name(y) == "of the program"
    assert "fastconv" in multiarray.get_handler_name(result(LARGE, 2))
