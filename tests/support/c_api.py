"""fastconv.h through ctypes: its structs, the functions of the capsule, problems from keywords."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

import fastconv
from fastconv.activations import ACTIVATIONS
from fastconv.borders import PAD_MODES

Array = np.ndarray[Any, Any]

STATUSES = (
    "OK", "NULL", "STRUCT_SIZE", "VALUE", "SIZE", "OVERFLOW", "MEMORY", "UNSUPPORTED", "NO_MEMORY",
    "PROCESSOR", "INTERNAL",
)  # fmt: skip
RESULTS = ("y", "x", "w")
DTYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "float16", "bfloat16")
CONTIGUOUS = -(2**63)


class Problem(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("result", c_int32), ("spatial", c_int32), ("dtype", c_int32),
        ("layout", c_int32), ("pad_mode", c_int32), ("activation", c_int32), ("n", c_int64),
        ("c", c_int64), ("k", c_int64), ("groups", c_int64), ("image", c_int64 * 3),
        ("kernel", c_int64 * 3), ("stride", c_int64 * 3), ("dilation", c_int64 * 3),
        ("pad_before", c_int64 * 3), ("pad_after", c_int64 * 3), ("x_stride", c_int64 * 5),
        ("w_stride", c_int64 * 5), ("y_stride", c_int64 * 5),
    )  # fmt: skip


class Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("threads", c_int32), ("precision", c_int32),
        ("workspace", c_int64),
    )  # fmt: skip


class Info(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("algorithm", c_char * 128), ("workspace_bytes", c_int64),
        ("packed_bytes", c_int64), ("threads", c_int32), ("reserved", c_int32),
    )  # fmt: skip


_P, _O, _I = ctypes.POINTER(Problem), ctypes.POINTER(Options), ctypes.POINTER(Info)
_PLAN = ctypes.POINTER(c_void_p)


class Api(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("version", ctypes.CFUNCTYPE(c_int)),
        ("version_string", ctypes.CFUNCTYPE(c_char_p)),
        ("isa", ctypes.CFUNCTYPE(c_char_p)),
        ("status_string", ctypes.CFUNCTYPE(c_char_p, c_int)),
        ("last_error", ctypes.CFUNCTYPE(c_char_p)),
        ("problem_init", ctypes.CFUNCTYPE(c_int, _P, c_size_t)),
        ("options_init", ctypes.CFUNCTYPE(c_int, _O, c_size_t)),
        ("output_size", ctypes.CFUNCTYPE(c_int, _P, c_void_p)),
        ("query", ctypes.CFUNCTYPE(c_int, _P, _O, _I)),
        ("run", ctypes.CFUNCTYPE(c_int, _P, _O, *[c_void_p] * 4)),
        ("plan_create", ctypes.CFUNCTYPE(c_int, _P, _O, c_void_p, c_void_p, _PLAN)),
        ("plan_run", ctypes.CFUNCTYPE(c_int, c_void_p, c_int64, c_void_p, c_void_p, c_int)),
        ("plan_query", ctypes.CFUNCTYPE(c_int, c_void_p, c_int64, c_int, _I)),
        ("plan_destroy", ctypes.CFUNCTYPE(None, c_void_p)),
    )


def api() -> Any:
    """Return the functions that the capsule holds, as an extension would find them."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = c_void_p, (ctypes.py_object, c_char_p)
    return Api.from_address(pointer(fastconv._C_API, b"fastconv._C_API"))


class Failed(Exception):
    """A status that is not OK: its name and the message."""

    def __init__(self, status: int) -> None:
        self.status, self.message = STATUSES[status], api().last_error().decode()
        super().__init__(f"{self.status}: {self.message}")


def check(status: int) -> None:
    if status:
        raise Failed(status)


def problem(**fields: Any) -> Problem:
    """Make a problem; sequences fill the beginning of arrays, what is not named has its default."""
    made = Problem()
    check(api().problem_init(ctypes.byref(made), ctypes.sizeof(made)))
    for name, value in fields.items():
        if isinstance(value, Sequence):
            getattr(made, name)[: len(value)] = value
        else:
            setattr(made, name, value)
    return made


def options(**fields: int) -> Options:
    made = Options()
    check(api().options_init(ctypes.byref(made), ctypes.sizeof(made)))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def element_strides(array: Array) -> list[int]:
    return [step // array.itemsize for step in array.strides]


def describe(
    x: Array, w: Array, y: Array, *, result: str = "y", stride: Any = 1, pad: Any = 0,
    dilation: Any = 1, groups: int = 1, pad_mode: str = "constant", last: bool = False,
    activation: str | None = None, dtype: str | None = None,
) -> Problem:  # fmt: skip
    """Describe arrays with logical axes (N, C, ...), by their strides; their memory may be missing.

    `pad` is a number, or (before, after) for each axis.
    """
    spatial = w.ndim - 2

    def along(value: Any) -> list[int]:
        return [value] * spatial if isinstance(value, int) else list(value)

    pads = [(pad, pad)] * spatial if isinstance(pad, int) else pad
    return problem(
        result=RESULTS.index(result), spatial=spatial, dtype=DTYPES.index(dtype or w.dtype.name),
        layout=int(last), pad_mode=PAD_MODES.index(pad_mode),
        activation=ACTIVATIONS[activation].code if activation else 0, n=x.shape[0], c=x.shape[1],
        k=w.shape[0], groups=groups, image=x.shape[2:], kernel=w.shape[2:], stride=along(stride),
        dilation=along(dilation), pad_before=[p[0] for p in pads], pad_after=[p[1] for p in pads],
        x_stride=element_strides(x), w_stride=element_strides(w), y_stride=element_strides(y),
    )  # fmt: skip


def address(array: Array | None) -> int | None:
    return None if array is None else array.ctypes.data


def run(
    of: Problem, a: Array | None, b: Array | None, bias: Array | None, out: Array | None,
    given: Options | None = None,
) -> None:  # fmt: skip
    check(api().run(of, given, *map(address, (a, b, bias, out))))


class Plan:
    """A plan, destroyed with its block."""

    def __init__(
        self, of: Problem, w: Array | None, bias: Array | None, given: Options | None = None
    ) -> None:
        self.handle = c_void_p()
        check(api().plan_create(of, given, address(w), address(bias), ctypes.byref(self.handle)))

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_: object) -> None:
        api().plan_destroy(self.handle)

    def run(self, n: int, a: Array | None, out: Array | None, threads: int = 0) -> None:
        check(api().plan_run(self.handle, n, address(a), address(out), threads))

    def query(self, n: int, threads: int = 0) -> Info:
        info = Info(ctypes.sizeof(Info))
        check(api().plan_query(self.handle, n, threads, info))
        return info


def query(of: Problem, given: Options | None = None) -> Info:
    info = Info(ctypes.sizeof(Info))
    check(api().query(of, given, info))
    return info
