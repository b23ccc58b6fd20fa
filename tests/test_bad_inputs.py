"""Inputs that crashed, corrupted memory or answered wrongly in other convolution libraries.

One table: where each was seen, the call, and what it must do here, on every backend. ``E`` is
ValueError, ``T`` TypeError, ``M`` MemoryError, ``EM`` either of the two, ``R`` equals the
definition. Rejected calls allocate next to nothing.
"""

from __future__ import annotations

import datetime
import functools
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import backends, oracle, processes
from support.cases import Arrays, Case, draw, generator
from support.judge import judge, judge_crop, on, verdict

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


def agree(*cases: Case, data: str = "integers") -> Callable[[str], None]:
    """Check cases against the definition, in float32 and float64."""

    def check(backend: str) -> None:
        for case in cases:
            for dtype in backends.FLOATS:
                judge(on(backend), case.with_(dtype=dtype), data)

    return check


# -- rows that need more than a call ---------------------------------------------------------------


def strided_kernel(backend: str) -> None:
    a = generator("24").integers(-9, 9, (3, 3, 4, 4)).astype("f4")
    x, w = np.ones((3, 3, 2, 2), "f4"), a[:, :, ::2, ::2]
    y = fastconv.conv2d(x, w, backend=backend)
    assert np.array_equal(y, np.broadcast_to(w.sum((1, 2, 3))[:, None, None], (3, 3, 1, 1)))


def channels_last_memory(backend: str) -> None:
    case = Case((1, 1, 100, 100), (64, 1, 3, 3), pad=1)
    x, w, _ = draw(case, "integers")
    held = [np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (x, w)]
    y = fastconv.conv2d(*held, pad=1, backend=backend)
    assert np.array_equal(y, oracle.windowed(case, Arrays(x, w, None)))


def border_wider_than_the_image(backend: str) -> None:
    x = np.arange(1, 17, dtype="f4").reshape(16, 1, 1, 1)
    y = fastconv.conv2d(x, np.full((1, 1, 1, 1), 3, "f4"), pad=1, backend=backend)
    want = np.zeros((16, 1, 3, 3), "f4")
    want[:, 0, 1, 1] = 3 * x[:, 0, 0, 0]
    assert np.array_equal(y, want)


def every_channel_count(backend: str) -> None:
    agree(*(Case((1, c, 3, 4), (k, c, 2, 3), pad=1) for c in range(1, 18) for k in range(1, 18)))(
        backend
    )


def im2col_beyond_int32(backend: str) -> None:
    """The whole problem on fast backends; the oracle runs one image of it, two channels."""
    case = Case((10, 1, 81, 980), (32, 1, 21, 11), stride=(2, 1), pad=(10, 5))
    if backend == "reference":
        case = case.with_(x=(1, 1, 81, 980), w=(2, 1, 21, 11))
    arrays = draw(case, "normal")
    y = on(backend)(arrays.x, arrays.w, **case.arguments)
    p, q = y.shape[2:]
    for rows in (slice(0, 2), slice(19, 21), slice(p - 2, p)):
        for columns in (slice(0, 7), slice(q - 7, q)):
            judge_crop(case, arrays, y, rows, columns)


LARGE_IM2COL = """
import resource, sys
import numpy as np
import fastconv
from support.cases import Arrays, Case
from support.judge import judge_crop, on

cap = 3 << 30
resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
case = Case((1, 64, 1167, 1167), (int(sys.argv[2]), 64, 5, 5), dilation=2)
x = np.arange(64 * 1167 * 1167, dtype=np.uint32).reshape(case.x)
x *= 2654435761
x >>= 23
x = x.view(np.int32)
x -= 256
x = x.astype(np.float32)
w = np.random.default_rng(30).standard_normal(case.w, np.float32)
y = on(sys.argv[1])(x, w, **case.arguments)
for rows in (slice(0, 1), slice(577, 578), slice(1158, 1159)):
    for columns in (slice(0, 3), slice(1150, 1159)):
        judge_crop(case, Arrays(x, w, None), y, rows, columns)
print("right")
"""


def im2col_beyond_memory(backend: str) -> None:
    """im2col would take 8.6 GB and 2.15e9 elements whatever K is; numba takes an eighth of K."""
    if backend == "reference":
        return  # the definition in longdouble is what the other two are held against, on crops
    channels = "64" if backend == "native" else "8"
    assert processes.run(LARGE_IM2COL, backend, channels).strip() == "right"


def available_gigabytes() -> float:
    """Memory that can be had without swapping; plenty where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1e3
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable"))


@functools.cache
def far_apart() -> tuple[Array, Array]:
    """Return an image of 2.4 GB and room for its result: built once, paging in takes longest."""
    if available_gigabytes() < 6:
        pytest.skip("needs 5 GB of free memory")
    x = np.empty((1, 1, 300000, 1000))
    x[..., 0::2, 0::2] = x[..., 1::2, 1::2] = 0
    x[..., 0::2, 1::2] = x[..., 1::2, 0::2] = 1
    return x, np.empty((1, 1, 300000, 999))


@pytest.fixture(autouse=True, scope="module")
def _release_memory() -> Iterator[None]:
    yield
    far_apart.cache_clear()


def offsets_beyond_two_gigabytes(backend: str) -> None:
    """The oracle takes every 499th row, whose byte offsets pass 2**31 all the same."""
    x, out = far_apart()
    w, stride = np.ones((1, 1, 1, 2)), 1
    if backend == "reference":
        out, stride = out[:, :, :602], (499, 1)
    out.fill(np.nan)
    y = fastconv.conv2d(x, w, stride, out=out, backend=backend)
    assert y[0, 0, -1].min() == y[0, 0, -1].max() == 1
    assert y.min() == y.max() == 1


def nan_is_not_lost(backend: str) -> None:
    for dtype in backends.FLOATS:
        for taps in (1, 3):
            w = np.full((2, 3, taps, taps), np.nan, dtype)
            y = fastconv.conv2d(np.zeros((1, 3, 6, 7), dtype), w, pad=taps // 2, backend=backend)
            assert np.isnan(y).all()


def zero_times_infinity(backend: str) -> None:
    w = np.ones((1, 1, 3, 3), "f4")
    w[0, 0, 0, 2] = np.inf
    y = fastconv.conv2d(np.ones((1, 1, 5, 6), "f4"), w, pad=1, backend=backend)
    border = np.zeros((5, 6), bool)
    border[0, :] = border[:, -1] = True
    assert np.array_equal(np.isnan(y[0, 0]), border)
    assert np.isposinf(y[0, 0][~border]).all()


def byte_swapped(backend: str) -> None:
    case = Case((2, 3, 7, 8), (4, 3, 3, 3), pad=1)
    for code in ("f4", "f8"):
        x, w, _ = draw(case.with_(dtype=np.dtype(code).name), "integers")
        want = oracle.windowed(case, Arrays(x, w, None))
        for swapped in ((True, False), (False, True), (True, True)):
            held = [a.astype(">" + code) if s else a for a, s in zip((x, w), swapped, strict=True)]
            y = fastconv.conv2d(*held, pad=1, backend=backend)
            assert y.dtype == np.dtype(code)
            assert np.array_equal(y, want)
        out = np.empty(want.shape, ">" + code)
        assert fastconv.conv2d(x, w, pad=1, out=out, backend=backend) is out
        assert np.array_equal(out, want)


def mixed_promotes(backend: str) -> None:
    x = generator("35").integers(-(2**31), 2**31, (1, 1, 5, 5)).astype("i4")
    y = fastconv.conv2d(x, np.full((1, 1, 1, 1), 0.5), backend=backend)
    assert y.dtype == np.float64
    assert np.array_equal(y, x * 0.5)


def integers_wrap(backend: str) -> None:
    x, w = np.full((1, 1, 1, 9), 2**62), np.full((1, 1, 1, 1), 2)
    if not backends.serves(backend, "int64"):
        with pytest.raises(fastconv.BackendUnsupported, match="int64"):
            fastconv.conv2d(x, w, backend=backend)
        return
    assert (fastconv.conv2d(x, w, backend=backend) == -(2**63)).all()
    assert (fastconv.conv2d(x, w * 2, backend=backend) == 0).all()


GUARDED = """
import sys
from support.guard import walk
from support.judge import on
print(walk(on(sys.argv[1]), range(1, 34), sys.argv[2].split(",")))
"""


def guard_pages(backend: str) -> None:
    wanted = ("float32", "float16", "int8") if backend == "numba" else backends.ALL_DTYPES[:4]
    dtypes = [d for d in wanted if backends.serves(backend, d)]  # compiling a dtype takes seconds
    calls = processes.run(GUARDED, backend, ",".join(dtypes))
    assert int(calls) == len(dtypes) * 33 * 8 * 2


def memory_layout(backend: str) -> None:
    case = Case((2, 3, 6, 7), (4, 3, 3, 2))
    x, w, _ = draw(case, "integers")
    for image in (x, x[..., ::-1, ::-1]):
        odd = np.frombuffer(b"\0" + image.tobytes(), "u1", offset=1).view("f4").reshape(x.shape)
        assert not odd.flags.writeable
        for held in (image, odd):
            y = fastconv.conv2d(held, w, backend=backend)
            assert verdict(case, Arrays(np.ascontiguousarray(image), w, None), y).error == 0
    odd = np.frombuffer(b"\0" + w.tobytes(), "u1", offset=1).view("f4").reshape(w.shape)
    assert np.array_equal(
        fastconv.conv2d(x, odd, backend=backend), fastconv.conv2d(x, w, backend=backend)
    )


class Tensor:
    """An array of some other library."""

    shape, dtype, ndim = (1, 1, 4, 4), np.dtype("f4"), 4

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("must not be consumed")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("must not be copied to the host behind the caller's back")


REFUSED_SCRATCH = """
import resource, sys
import numpy as np
import fastconv
from support.cases import Case, draw
from support.judge import on

backend = sys.argv[1]
case = Case((1, 256, 64, 64), (64, 256, 3, 3), pad=1, dtype="float64")
arrays = draw(case, "integers")
out = np.empty(case.problem.out_shape)
convolve = on(backend, threads=2)
small = [a[:, :16] for a in arrays[:2]]
want = fastconv.conv2d(*small, pad=1, backend="reference")
# compile and start threads while there is memory
assert np.array_equal(convolve(*small, pad=1), want)

scratch = fastconv.explain(*arrays[:2], pad=1, backend=backend, threads=2).scratch_bytes
assert scratch > 1 << 17, f"{scratch} bytes are not enough to refuse"
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
hoard, size = [], 1 << 24  # until no block of 64 KiB is left, in the heap or outside
while size >= 1 << 16:
    try:
        hoard.append(np.empty(size, np.uint8))
    except MemoryError:
        size //= 2
refusals = 0
for repeat in range(3):
    try:
        convolve(*arrays[:2], pad=1, out=out)
    except MemoryError:
        refusals += 1
del hoard
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
assert refusals == 3, f"scratch was granted {3 - refusals} times"
assert np.array_equal(convolve(*small, pad=1), want)
print("refused, then right")
"""


def refused_by_the_extension() -> None:
    """The extension's own switch refuses the next allocations: one, two, every thread's."""
    from fastconv import _native  # type: ignore[attr-defined]

    case = Case((2, 70, 20, 20), (40, 70, 3, 3), pad=1)
    arrays = draw(case, "normal")
    want = on("native")(arrays.x, arrays.w, pad=1)
    for count in (1, 2, 5):
        for threads in (1, 2, 7):
            _native.fail_next_allocations(count)
            try:
                with pytest.raises(MemoryError):
                    on("native")(arrays.x, arrays.w, pad=1, threads=threads)
            finally:
                _native.fail_next_allocations(0)
            again = on("native")(arrays.x, arrays.w, pad=1, threads=threads)
            assert np.array_equal(again, want)


def refused_allocation(backend: str) -> None:
    if backend == "native":
        refused_by_the_extension()
    if not Path("/proc/self/statm").exists():
        pytest.skip("this platform does not say how much address space is in use")
    assert processes.run(REFUSED_SCRATCH, backend).strip() == "refused, then right"


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
    Row(24, "pytorch#1246", strided_kernel, "R"),
    Row(25, "pytorch#82060", channels_last_memory, "R"),
    Row(26, "pytorch#90142: pad >= kernel", border_wider_than_the_image, "R"),
    Row(27, "1x1 shortcuts", agree(
        Case((2, 2, 7, 8), (3, 2, 1, 1), stride=2), Case((2, 2, 7, 8), (3, 2, 1, 1), pad=1),
        Case((2, 2, 7, 8), (3, 2, 1, 1), stride=2, pad=1),
    ), "R"),
    Row(28, "pytorch#21597", every_channel_count, "R"),
    Row(29, "oneDNN#122: im2col int32", im2col_beyond_int32, "R"),
    Row(30, "pytorch#9404: 3 GB are enough", im2col_beyond_memory, "R"),
    Row(31, "scipy#10761: byte offset > 2**31", offsets_beyond_two_gigabytes, "R"),
    Row(32, "tensorflow#63391, pytorch#12484: NaN lost", nan_is_not_lost, "R"),
    Row(33, "0*inf at the border", zero_times_infinity, "R"),
    Row(34, "scipy#7388: byte-swapped", byte_swapped, "R"),
    Row(35, "scipy#10527: int32 x, float64 w", mixed_promotes, "R"),
    Row(36, "scipy#6076: 2**62 * 2", integers_wrap, "R"),
    Row(37, "dtype guard", [
        call(bad, np.ones((1, 1, 1, 1), "f4")) for bad in (
            np.ones(ONE, object), np.full(ONE, "1"), np.full(ONE, b"1"), np.zeros(ONE, "M8[s]"),
            np.zeros(ONE, "m8[s]"), np.zeros(ONE, "f4,f4"), np.ones(ONE, "c8"),
            [[None]], [["a"]], "image", {1: 2}, datetime.date(2000, 1, 1), object(),
        )
    ] + [
        call(ONE, np.ones(TAP, object)), call(ONE, np.ones(TAP, "c16")), call(ONE, None),
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
    Row(39, "XNNPACK#4190: tail over-read", guard_pages, "R"),
    Row(40, "memory layout", memory_layout, "R"),
    Row(41, "device mix", [
        call(Tensor(), TAP, "numpy.asarray(x)"), call(ONE, Tensor(), "numpy.asarray(w)"),
        call(ONE, TAP, "bias", bias=Tensor()), call(ONE, TAP, "out", out=Tensor()),
    ], "T"),
    Row(42, "allocation fails inside a parallel region", refused_allocation, "M"),
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
