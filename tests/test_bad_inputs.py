"""Inputs that crashed, corrupted memory or answered wrongly in other convolution libraries.

One table: where each was seen, the call, and what it must do here, on every backend. ``E`` is
ValueError, ``T`` TypeError, ``M`` MemoryError, ``EM`` either of the two, ``R`` equals the
definition. Rejected calls allocate next to nothing.
"""

from __future__ import annotations

import datetime
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import memory_traps, traps
from support.cases import Case, draw
from support.judge import judge_crop, on
from support.memory_traps import far_apart
from support.traps import agree

import fastconv
from fastconv import accuracy

Array = np.ndarray[Any, Any]

ERRORS: dict[str, tuple[type[Exception], ...]] = {
    "E": (ValueError,),
    "T": (TypeError,),
    "M": (MemoryError,),
    "EM": (ValueError, MemoryError),
}


def bc(*shape: int) -> Array:
    """A huge logical shape over a single byte."""
    return np.broadcast_to(np.int8(1), shape)


def matrix(*shape: int) -> Array:
    """NumPy's matrix, which is two-dimensional whatever is done to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.asmatrix(np.ones(shape))


class Call(NamedTuple):
    """One call: shapes stand for arrays of ones."""

    x: Any
    w: Any
    options: dict[str, Any]
    says: str = ""

    def run(self, backend: str) -> Array:
        """Make the call."""
        x, w = (np.ones(a, "f4") if isinstance(a, tuple) else a for a in (self.x, self.w))
        names = {"s": "stride", "p": "pad", "d": "dilation", "g": "groups"}
        options = {names.get(name, name): value for name, value in self.options.items()}
        y: Array = fastconv.conv2d(x, w, backend=backend, **options)
        return y


def call(x: Any, w: Any, says: str = "", **options: Any) -> Call:
    """Describe a call, and a part of the message it must raise."""
    return Call(x, w, options, says)


@pytest.fixture(autouse=True, scope="module")
def _release_memory() -> Iterator[None]:
    yield
    far_apart.cache_clear()


class Tensor:
    """An array of some other library."""

    __module__ = "elsewhere"
    shape, dtype, ndim = (1, 1, 4, 4), np.dtype("f4"), 4

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("must not be consumed")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("must not be copied to the host behind the caller's back")


# -- the table -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One row: number, where it was seen, the calls, what is expected."""

    number: int
    origin: str
    calls: list[Call] | Callable[[str], None]
    expect: str


IMAGE, ONE = (1, 1, 32, 32), (1, 1, 8, 8)
BIG, TAP = 2**63, (1, 1, 3, 3)
RIGHT = np.empty((1, 4, 6, 6), "f4")
READ_ONLY = RIGHT.copy()
READ_ONLY.flags.writeable = False

TABLE = [
    Row(1, "TensorFlow CVE-2021-29526, -37675: FPE", [call((0, 0, 0, 0), (0, 0, 0, 0))], "E"),
    Row(2, "CVE-2021-41209: FPE", [
        call((1, 1, 3, 3), (1, 1, 0, 3), "along R"), call((1, 1, 3, 3), (1, 1, 3, 0), "along S"),
    ], "E"),
    Row(3, "CVE-2021-29527, CVE-2023-27579", [call((1, 1, 1, 1), (1, 0, 1, 1), "zero input")], "E"),
    Row(4, "CVE-2021-29602, depthwise", [call((1, 0, 4, 4), (4, 1, 1, 1), "zero input")], "E"),
    Row(5, "CVE-2021-29594: divides by batch", [call((0, 3, 8, 8), (4, 3, 3, 3))], "(0, 4, 6, 6)"),
    Row(6, "GHSA-37jf-mjv6-xfqw", [call((1, 3, 8, 8), (0, 3, 3, 3))], "(1, 0, 6, 6)"),
    Row(7, "CVE-2021-29585, pytorch#27598", [
        call(IMAGE, (32, 1, 3, 3), "stride", s=0, p=(0, 1)),
        call(IMAGE, (32, 1, 3, 3), "stride", s=(1, 0)),
        call(IMAGE, (32, 1, 3, 3), "stride", s=(0, 1)),
    ], "E"),
    Row(8, "pytorch#73193", [call((1, 1, 1, 24000), (1, 1, 1, 24000), s=0, d=0, g=0)], "E"),
    Row(9, "pytorch#71080, #49523", [
        call(ONE, TAP, "groups", g=0), call(ONE, TAP, "groups", g=-BIG),
    ], "E"),
    Row(10, "MNN#4797", [
        call(ONE, TAP, "dilation", d=0), call(ONE, TAP, "dilation", d=(1, 0)),
    ], "E"),
    Row(11, "xla#48713: reads out of bounds", [
        call(ONE, TAP, "pad", p=-1), call(ONE, TAP, "pad", p=(-15, 0)),
        call(ONE, TAP, "stride", s=-1), call(ONE, TAP, "dilation", d=-1),
        call(ONE, TAP, "pad", p=((0, -1), (0, 0))), call(ONE, TAP, "stride", s=(1, -BIG)),
    ], "E"),
    Row(12, "pytorch#56224: called 6442450943 negative", [
        call(ONE, TAP, "P=12884901892", p=6442450943), call(ONE, TAP, str(BIG - 1), p=BIG - 1),
        call(ONE, TAP, str(BIG), p=BIG), call(ONE, TAP, str(2 * BIG), p=2 * BIG),
    ], "EM"),
    Row(13, "pytorch#165976: size product wraps", [
        call(ONE, TAP, f"P={2**56 + 6}", p=2**55),
    ], "M"),
    Row(14, "pytorch#73189: im2col SIGSEGV", [
        call(ONE, bc(1, 1, 1879048192, 1879048192), "covers 1879048192"),
    ], "E"),
    Row(15, "XNNPACK#10709: R*S wraps to 0", [call(ONE, bc(1, 1, 65536, 65536), "65536")], "E"),
    Row(16, "pytorch#9592: truncating division", [
        call((1, 1, 4, 4), (1, 1, 3, 3), "covers 5 pixels", d=2, s=2),
    ], "E"),
    Row(17, "boundary pair, fits", agree(Case((1, 1, 3, 3), (1, 1, 3, 3))), "R"),
    Row(17, "boundary pair, one too large", [call((1, 1, 3, 3), (1, 1, 4, 4), "covers 4")], "E"),
    Row(18, "XNNPACK#11118", [call((1, 4, 8, 8), (8, 3, 3, 3), "check groups= and layout=")], "E"),
    Row(18, "the same with a fix", [
        call((1, 6, 8, 8), (8, 3, 3, 3), "groups=2?"),
        call((1, 8, 8, 3), (8, 3, 3, 3), "layout='NHWC'?"),
    ], "E"),
    Row(19, "CVE-2021-29540", [
        call((1, 3, 8, 8), (4, 3, 3, 3), "shape", out=np.empty((1, 4, 6, 5), "f4")),
        call((1, 3, 8, 8), (4, 3, 3, 3), "dtype", out=RIGHT.astype("f8")),
        call((1, 3, 8, 8), (4, 3, 3, 3), "read-only", out=READ_ONLY),
        call((1, 3, 8, 8), (4, 3, 3, 3), "read-only",
             out=np.broadcast_to(np.float32(0), (1, 4, 6, 6))),
    ], "E"),
    Row(20, "onnx#6180, onnxruntime#28731", [
        call((7, 6, 1, 5), (7, 2, 3, 2, 1)), call(np.float32(1), np.float32(1)),
        call((8,), (3,)), call((), (1, 1, 3, 3)), call(ONE, ()), call((1,) * 6, (1,) * 4),
    ], "E"),
    Row(21, "onnx2c#41", [
        call(ONE, TAP, "stride", s=[2]), call(ONE, TAP, "stride", s=(1, 2, 3)),
        call(ONE, TAP, "stride", s=()), call(ONE, TAP, "dilation", d=(1, 1, 1)),
        call(ONE, TAP, "pad", p=()), call(ONE, TAP, "pad", p=(1, 1, 1)),
    ], "E"),
    Row(22, "index rules", [
        call(ONE, TAP, name, **{name[0]: value})
        for name in ("stride", "dilation", "groups") for value in (1.0, "1", np.nan, None)
    ] + [call(ONE, TAP, "pad", p=value) for value in (1.0, np.nan, None)], "T"),
    Row(22, "whatever has __index__ is fine", lambda backend: agree(
        Case((1, 2, 8, 8), (2, 1, 3, 3), stride=np.int64(2), pad=np.uint8(1),
             dilation=np.int16(1), groups=np.int8(2)),
    )(backend), "R"),
    Row(23, "scipy#8814", [call((1, 1, 300, 300), bc(1, 1, 1, 700000), "700000")], "E"),
    Row(24, "pytorch#1246", traps.strided_kernel, "R"),
    Row(25, "pytorch#82060", traps.channels_last_memory, "R"),
    Row(26, "pytorch#90142: pad >= kernel", traps.border_wider_than_the_image, "R"),
    Row(27, "1x1 shortcuts", agree(
        Case((2, 2, 7, 8), (3, 2, 1, 1), stride=2), Case((2, 2, 7, 8), (3, 2, 1, 1), pad=1),
        Case((2, 2, 7, 8), (3, 2, 1, 1), stride=2, pad=1),
    ), "R"),
    Row(28, "pytorch#21597", traps.every_channel_count, "R"),
    Row(29, "oneDNN#122: im2col int32", memory_traps.im2col_beyond_int32, "R"),
    Row(30, "pytorch#9404: 3 GB are enough", memory_traps.im2col_beyond_memory, "R"),
    Row(31, "scipy#10761: byte offset > 2**31", memory_traps.offsets_beyond_two_gigabytes, "R"),
    Row(32, "tensorflow#63391, pytorch#12484: NaN lost", traps.nan_is_not_lost, "R"),
    Row(33, "0*inf at the border", traps.zero_times_infinity, "R"),
    Row(34, "scipy#7388: byte-swapped", traps.byte_swapped, "R"),
    Row(35, "scipy#10527: int32 x, float64 w", traps.mixed_promotes, "R"),
    Row(36, "scipy#6076: 2**62 * 2", traps.integers_wrap, "R"),
    Row(37, "dtype guard", [
        call(bad, np.ones((1, 1, 1, 1), "f4")) for bad in (
            np.ones(ONE, object), np.full(ONE, "1"), np.full(ONE, b"1"), np.zeros(ONE, "M8[s]"),
            np.zeros(ONE, "m8[s]"), np.zeros(ONE, "f4,f4"),
            [[None]], [["a"]], "image", {1: 2}, datetime.date(2000, 1, 1), object(),
        )
    ] + [
        call(ONE, np.ones(TAP, object)), call(ONE, None),
        call(ONE, TAP, "bias", bias=np.ones(1, object)), call(ONE, TAP, "bias", bias=["a"]),
    ], "T"),
    Row(38, "subclasses: masked", [
        call(np.ma.masked_array(np.ones(ONE, "f4")), TAP, "filled"),
        call(ONE, np.ma.masked_array(np.ones(TAP, "f4")), "filled"),
        call(ONE, TAP, "masked", bias=np.ma.masked_array(np.ones(1, "f4"))),
    ], "T"),
    Row(38, "subclasses: matrix is two-dimensional", [
        call(matrix(8, 8), np.ones((1, 1, 3, 3))),
        call(np.ones((1, 1, 8, 8)), matrix(3, 3)),
    ], "E"),
    Row(39, "XNNPACK#4190: tail over-read", memory_traps.guard_pages, "R"),
    Row(40, "memory layout", traps.memory_layout, "R"),
    Row(41, "device mix", [
        call(Tensor(), TAP, "of one library, got x a"),
        call(ONE, Tensor(), "w a elsewhere.Tensor"),
        call(ONE, TAP, "bias a", bias=Tensor()), call(ONE, TAP, "out a", out=Tensor()),
        call(Tensor(), Tensor(), "no from_dlpack"),
    ], "T"),
    Row(42, "allocation fails inside a parallel region", memory_traps.refused_allocation, "M"),
]  # fmt: skip


def flat() -> list[Any]:
    """One test a call, named by row."""
    return [
        pytest.param(row.expect, item, id=f"{row.number}-{row.origin}")
        for row in TABLE
        for item in (row.calls if isinstance(row.calls, list) else [row.calls])
    ]


def test_the_table_is_whole() -> None:
    assert {row.number for row in TABLE} == set(range(1, 43))


@pytest.mark.parametrize(("expect", "item"), flat())
def test_row(backend: str, expect: str, item: Call | Callable[[str], None]) -> None:
    if not isinstance(item, Call):
        item(backend)
        return
    if expect not in ERRORS:
        assert str(item.run(backend).shape) == expect
        return
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with pytest.raises(ERRORS[expect]) as caught:
            item.run(backend)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20, f"a rejected call took {peak} bytes"
    message = str(caught.value)
    assert message, "an error with nothing to say"
    assert item.says in message
    assert "negative" not in message
    raised_in = Path(caught.traceback[-1].path)
    assert raised_in.parent.name == "fastconv", f"not raised on purpose, in {raised_in}"


def test_empty_results_are_written_nowhere(backend: str) -> None:
    """Rows 5 and 6 with everything else switched on."""
    w = np.ones((4, 3, 3, 3), "f4")
    for x, kernel, shape in (
        (np.ones((0, 3, 8, 8), "f4"), w, (0, 4, 8, 8)),
        (np.ones((1, 3, 8, 8), "f4"), w[:0], (1, 0, 8, 8)),
    ):
        out = np.empty(shape, "f4")
        bias = np.zeros(kernel.shape[0], "f4")
        y = fastconv.conv2d(
            x, kernel, pad=1, bias=bias, activation="gelu", out=out, backend=backend
        )
        assert y is out
        last = fastconv.conv2d(x.transpose(0, 2, 3, 1), kernel, layout="NHWC", backend=backend)
        assert last.shape == (shape[0], 6, 6, shape[1])


def test_an_empty_batch_is_still_checked(backend: str) -> None:
    """The message names the axis that is empty for a reason of its own."""
    with pytest.raises(fastconv.ShapeError, match="height P would be empty"):
        fastconv.conv2d(np.ones((0, 1, 2, 8), "f4"), np.ones((1, 1, 3, 3), "f4"), backend=backend)


def test_crops_judge_like_the_whole() -> None:
    """The sampled judgement of rows 29 and 30 accepts what is right and sees what is wrong."""
    case = Case((1, 2, 9, 12), (3, 2, 3, 3), stride=(2, 1), pad=(1, 2), dilation=(1, 2))
    arrays = draw(case, "normal")
    y = on("reference")(arrays.x, arrays.w, **case.arguments)
    p, q = y.shape[2:]
    assert accuracy.check(case.problem, arrays.x, arrays.w, None, y).ok
    for rows in (slice(0, 2), slice(1, 4), slice(p - 1, p)):
        for columns in (slice(0, 3), slice(2, 6), slice(q - 4, q)):
            judge_crop(case, arrays, y, rows, columns)
            wrong = y.copy()
            wrong[0, 1, rows.stop - 1, columns.start] += 0.01
            with pytest.raises(AssertionError):
                judge_crop(case, arrays, wrong, rows, columns)
