"""The same numbers held in memory in every way a caller may hold them: inputs and `out`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def misaligned(a: Array) -> Array:
    """Hold `a` at an odd address."""
    view = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)
    assert not view.flags.aligned
    return view


def read_only(a: Array) -> Array:
    """Hold `a` where nothing may be written."""
    held = a.copy()
    held.flags.writeable = False
    return held


def spaced(a: Array) -> Array:
    """Hold each element of `a` between two NaN."""
    held = np.full((*a.shape[:-1], 3 * a.shape[-1]), np.nan, a.dtype)
    held[..., 1::3] = a
    return held[..., 1::3]


def packed_field(a: Array) -> Array:
    """One field of a packed record: strides that are no multiple of the item size."""
    held = np.zeros(a.shape, np.dtype([("flag", "u1"), ("value", a.dtype)]))
    held["value"] = a
    view = held["value"]
    assert view.strides[-1] % view.itemsize
    return view


HELD = {
    "plain": lambda a: a,
    "fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "reversed throughout": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "spaced": spaced,
    "misaligned": misaligned,
    "record field": packed_field,
    "read-only": read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "big-endian, misaligned": lambda a: misaligned(a.astype(a.dtype.newbyteorder(">"))),
    "list": lambda a: a.tolist(),
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "subclass": lambda a: a.view(type("Tagged", (np.ndarray,), {})),
    "array interface": lambda a: type(
        "Holder", (), {"__array_interface__": a.__array_interface__, "keep": a}
    )(),
}


def outputs(shape: tuple[int, int, int, int]) -> dict[str, Array]:
    """`out` arrays held in every way, of one shape (N, K, P, Q) and full of NaN."""
    n, k, p, q = shape
    flat = np.full(4 * math.prod(shape) + 1, 0xFF, np.uint8)
    record = np.empty(shape, np.dtype([("flag", "u1"), ("value", "f4")]))
    held = {
        "plain": np.empty(shape, "f4"),
        "fortran": np.empty(shape, "f4", order="F"),
        "spaced": np.empty((n, k, p, 2 * q), "f4")[..., ::2],
        "reversed": np.empty(shape, "f4")[:, ::-1, ::-1, ::-1],
        "channels last": np.empty((n, p, q, k), "f4").transpose(0, 3, 1, 2),
        "inside": np.empty((n + 2, k + 2, p + 2, q + 2), "f4")[1:-1, 1:-1, 1:-1, 1:-1],
        "misaligned": flat[1:].view("f4").reshape(shape),
        "record field": record["value"],
        "big-endian": np.empty(shape, ">f4"),
    }
    for array in held.values():
        array[...] = np.nan
    return held
