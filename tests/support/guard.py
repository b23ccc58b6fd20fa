"""Arrays flush against pages that may not be touched: one element too far ends the process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastconv

from .cases import Arrays, Case, draw

Array = np.ndarray[Any, Any]
Convolve = Callable[..., Array]

PAGE = mmap.PAGESIZE
PROT_NONE = 0


class Fence:
    """Writable memory between two forbidden pages."""

    def __init__(self, pages: int) -> None:
        self._memory = mmap.mmap(-1, (pages + 2) * PAGE)
        whole = np.frombuffer(self._memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        for address in (whole.ctypes.data, whole.ctypes.data + (pages + 1) * PAGE):
            if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self._room = whole[PAGE:-PAGE]

    def hold(self, array: Array, side: str) -> Array:
        """Copy an array (its order in memory too) flush to the page ``before`` or ``after`` it."""
        assert array.nbytes <= self._room.nbytes, "a larger fence is needed"
        where = slice(array.nbytes) if side == "before" else slice(-array.nbytes, None)
        held = self._room[where].view(array.dtype)
        order = np.argsort([-s for s in array.strides], kind="stable")
        inner = held.reshape([array.shape[i] for i in order])
        result = inner.transpose(np.argsort(order))
        result[...] = array
        return result


def cases(size: int, dtype: str) -> Iterator[Case]:
    """Small problems in which some axis has `size` elements."""
    taps = min(size, 3)
    yield Case((1, 1, 1, size), (1, 1, 1, taps), dtype=dtype)
    yield Case((size, 1), (taps, 1), dtype=dtype)
    yield Case((1, size, 1, 2), (2, size, 1, 1), dtype=dtype)
    yield Case((1, 2, 2, 2), (size, 2, 1, 1), bias=True, dtype=dtype)
    yield Case((1, 2, 3, size), (3, 2, 3, 3), pad=1, bias=True, activation="relu", dtype=dtype)
    yield Case((1, 2, 4, size), (5, 2, 2, 1), stride=2, pad="same", dtype=dtype)
    yield Case((1, size, 3, 5), (size, 1, 3, 3), groups=size, pad=1, bias=True, dtype=dtype)
    yield Case((1, 3, 3, size), (size, 3, 3, 3), pad=1, pad_mode="reflect", dtype=dtype).with_(
        x=(1, 3, size, 3), layout="NHWC"
    )


def walk(convolve: Convolve, sizes: range, dtypes: list[str]) -> int:
    """Convolve with x, w, bias and out against the fence, and compare; returns the calls made."""
    fences = [Fence(8) for _ in range(4)]
    calls = 0
    for dtype in dtypes:
        for size in sizes:
            for case in cases(size, dtype):
                arrays = draw(case, "integers")
                want = fastconv.conv2d(
                    arrays.x, arrays.w, bias=arrays.bias, backend="reference", **case.arguments
                )
                for side in ("before", "after"):
                    held = Arrays(
                        *(
                            None if a is None else fence.hold(a, side)
                            for a, fence in zip(arrays, fences[:3], strict=True)
                        )
                    )
                    out = fences[3].hold(np.full_like(want, -1), side)
                    convolve(held.x, held.w, bias=held.bias, out=out, **case.arguments)
                    assert np.array_equal(out, want), f"{case} {dtype}, fenced {side}"
                    calls += 1
    return calls
