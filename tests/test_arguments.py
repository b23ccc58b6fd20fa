"""conv2d's Python surface: arrays of every kind in, `out` of every kind, options, reports."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import CPU, FLOATS, serves
from support.cases import generator
from support.judge import assert_same_bits

import fastconv
from fastconv.options import current

Array = np.ndarray[Any, Any]

RNG = generator("arguments")
X = RNG.integers(-9, 9, (2, 3, 7, 8)).astype("f4")
W = RNG.integers(-9, 9, (4, 3, 3, 2)).astype("f4")
BIAS = RNG.integers(-9, 9, 4).astype("f4")
WANT = fastconv.conv2d(X, W, 2, 1, bias=BIAS, backend="reference")


def call(backend: str, x: Any = X, w: Any = W, bias: Any = BIAS, **more: Any) -> Array:
    result: Array = fastconv.conv2d(x, w, 2, 1, bias=bias, backend=backend, **more)
    return result


# -- arrays in -------------------------------------------------------------------------------------


def misaligned(a: Array) -> Array:
    """Hold `a` at an odd address."""
    view = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)
    assert not view.flags.aligned
    return view


def read_only(a: Array) -> Array:
    held = a.copy()
    held.flags.writeable = False
    return held


def spaced(a: Array) -> Array:
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


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_every_kind_of_array(backend: str, held: Any) -> None:
    for x, w, bias in ((held(X), W, BIAS), (X, held(W), BIAS), (X, W, held(BIAS)),
                       (held(X), held(W), held(BIAS))):  # fmt: skip
        y = call(backend, x, w, bias, dtype="f4")
        assert type(y) is np.ndarray
        assert y.dtype.isnative
        assert_same_bits(y, WANT, "another way to hold the same numbers")
    assert np.array_equal(X, X.copy())


def test_broadcast_inputs(backend: str) -> None:
    """Strides of zero: one stored image or kernel stands for many."""
    x = np.broadcast_to(X[:1, :1], (5, 3, 7, 8))
    w = np.broadcast_to(W[:1, :1], W.shape)
    want = fastconv.conv2d(x.copy(), w.copy(), backend="reference")
    assert np.array_equal(fastconv.conv2d(x, w, backend=backend), want)
    pixel = np.broadcast_to(np.float32(2), (1, 3, 40, 50))
    assert (fastconv.conv2d(pixel, w, backend=backend) == 2 * w.sum((1, 2, 3))[:, None, None]).all()


def test_inputs_are_left_alone(backend: str) -> None:
    x, w, bias = X.copy(), W.copy(), BIAS.copy()
    call(backend, x, w, bias, activation="relu")
    assert all(np.array_equal(a, b) for a, b in ((x, X), (w, W), (bias, BIAS)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_ranks_and_layouts(backend: str, rank: int, layout: str) -> None:
    w = W[0, 0] if rank == 2 else W
    x = {2: X[0, 0], 3: X[0], 4: X}[rank]
    want = fastconv.conv2d(x, w, 2, 1, backend="reference")
    if layout == "NCHW" or rank == 2:
        assert_same_bits(fastconv.conv2d(x, w, 2, 1, layout=layout, backend=backend), want, layout)
        return
    last = np.moveaxis(x, -3, -1)
    for held in (last, np.ascontiguousarray(last)):
        y = fastconv.conv2d(held, w, 2, 1, layout=layout, backend=backend)
        assert y.flags.c_contiguous
        assert_same_bits(np.ascontiguousarray(np.moveaxis(y, -1, -3)), want, "NHWC")


def test_one_image_is_a_batch_of_one(backend: str) -> None:
    assert_same_bits(call(backend, X[1]), WANT[1], "rank 3")


@pytest.mark.parametrize("rank", [2, 4])
def test_flip_turns_the_kernel(backend: str, rank: int) -> None:
    x, w = (X, W) if rank == 4 else (X[0, 0], W[0, 0])
    turned = w[..., ::-1, ::-1]
    got = fastconv.conv2d(x, w, pad=1, flip=True, backend=backend)
    assert_same_bits(got, fastconv.conv2d(x, turned, pad=1, backend=backend), "flip")
    assert not np.array_equal(got, fastconv.conv2d(x, w, pad=1, backend=backend))


def test_spellings_of_strides_and_pads(backend: str) -> None:
    for stride, pad, dilation in (
        ((2, 2), (1, 1), (1, 1)),
        ([2, 2], [[1, 1], [1, 1]], [1, 1]),
        (np.int64(2), np.uint8(1), np.int8(1)),
        (np.array([2, 2]), np.array([[1, 1], [1, 1]]), True),
    ):
        got = fastconv.conv2d(X, W, stride, pad, dilation=dilation, bias=BIAS, backend=backend)
        assert_same_bits(got, WANT, f"stride {stride!r}, pad {pad!r}")


def test_equal_keys_of_another_type_are_still_refused(backend: str) -> None:
    """1.0 == 1 and hash(1.0) == hash(1): no cache may mistake one for the other."""
    fastconv.conv2d(X, W, 1, 1, dilation=1, groups=1, backend=backend)
    for name in ("stride", "pad", "dilation", "groups"):
        with pytest.raises(TypeError):
            fastconv.conv2d(X, W, **{name: 1.0}, backend=backend)


# -- dtypes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "w", "result"),
    [
        ("f4", "f4", "f4"),
        ("f4", "f8", "f8"),
        ("f2", "f4", "f4"),
        ("i4", "f8", "f8"),
        ("i2", "f4", "f4"),
        ("i4", "f4", "f8"),
        ("u1", "u1", "i4"),
        ("i1", "i2", "i4"),
        ("i4", "i1", "i8"),
        ("u8", "u8", "u8"),
        ("?", "?", "i4"),
        ("?", "f4", "f4"),
        ("f2", "f2", "f2"),
    ],
)
def test_mixed_dtypes(backend: str, x: str, w: str, result: str) -> None:
    image, kernel = abs(X).astype(x), abs(W).astype(w)
    common = np.result_type(image.dtype, kernel.dtype)
    if not serves(backend, "uint8" if common.kind == "b" else common.name):
        with pytest.raises(fastconv.BackendUnsupported, match="computes float32, float64"):
            fastconv.conv2d(image, kernel, backend=backend)
        return
    y = fastconv.conv2d(image, kernel, backend=backend)
    assert y.dtype == result
    wide = fastconv.conv2d(image.astype("f8"), kernel.astype("f8"), backend="reference")
    assert np.array_equal(y, wide.astype(result))


@pytest.mark.parametrize("dtype", ["f8", np.float64, np.dtype("f8"), float])
def test_dtype_sets_the_result(backend: str, dtype: Any) -> None:
    x, w = X / np.float32(3), W / np.float32(7)
    y = fastconv.conv2d(x, w, dtype=dtype, backend=backend)
    assert y.dtype == np.float64
    assert_same_bits(y, fastconv.conv2d(x.astype("f8"), w.astype("f8"), backend=backend), "dtype")


def test_dtype_narrows(backend: str) -> None:
    y = fastconv.conv2d(X.astype("f8"), W.astype("f8"), dtype="f4", backend=backend)
    assert_same_bits(y, fastconv.conv2d(X, W, backend=backend), "float64 as float32")
    half = fastconv.conv2d(X, W, dtype="f2", backend=backend)
    assert_same_bits(half, fastconv.conv2d(X, W, backend=backend).astype("f2"), "rounded once")


def test_dtype_of_integers(backend: str) -> None:
    if not serves(backend, "int8"):
        return
    x = np.full((1, 1, 4, 4), 100, "i1")
    w = np.full((1, 1, 3, 3), 100, "i1")
    assert (fastconv.conv2d(x, w, backend=backend) == 90_000).all()
    # the native backend sums in 32 bits alone
    for dtype in ("i4",) if backend == "native" else ("i1", "i4", "i8"):
        y = fastconv.conv2d(x, w, dtype=dtype, backend=backend)
        assert y.dtype == dtype
        assert (y == np.array(90_000).astype(dtype)).all()
    assert fastconv.conv2d(x, w, dtype="f4", backend=backend).dtype == np.float32


def test_integer_arithmetic_wraps_the_same_everywhere(backend: str) -> None:
    if not serves(backend, "int64"):
        return
    x = np.full((1, 1), 2**62, "i8")
    assert fastconv.conv2d(x, np.array([[2]]), backend=backend)[0, 0] == -(2**63)
    assert fastconv.conv2d(x, np.array([[4]]), backend=backend)[0, 0] == 0


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", "i4,f4", "c8", "int4?"])
def test_dtypes_that_make_no_sense(dtype: Any) -> None:
    with pytest.raises(TypeError):
        fastconv.conv2d(X, W, dtype=dtype, backend="reference")


def test_bias_dtypes(backend: str) -> None:
    for bias in (BIAS.astype("f8"), BIAS.astype("i8"), BIAS.astype("f2"), BIAS.astype(">f4"),
                 BIAS.tolist()):  # fmt: skip
        assert_same_bits(call(backend, bias=bias), WANT, "bias of another dtype")
    with pytest.raises(fastconv.DTypeError, match="bias"):
        fastconv.conv2d(X.astype("i4"), W.astype("i4"), bias=BIAS, backend="reference")
    with pytest.raises(fastconv.DTypeError, match="bias"):
        call(backend, bias=BIAS.astype("c8"))


@pytest.mark.parametrize("shape", [(3,), (4, 1), (1,), (), (0,), (1, 4, 1, 1)])
def test_bias_shapes(backend: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(fastconv.ShapeError, match="bias has shape"):
        call(backend, bias=np.zeros(shape, "f4"))


# -- out -------------------------------------------------------------------------------------------


def outputs() -> dict[str, Array]:
    """`out` arrays held in every way, all of the right shape and full of NaN."""
    n, k, p, q = WANT.shape
    flat = np.full(WANT.nbytes + 1, 0xFF, np.uint8)
    record = np.empty(WANT.shape, np.dtype([("flag", "u1"), ("value", "f4")]))
    held = {
        "plain": np.empty(WANT.shape, "f4"),
        "fortran": np.empty(WANT.shape, "f4", order="F"),
        "spaced": np.empty((n, k, p, 2 * q), "f4")[..., ::2],
        "reversed": np.empty(WANT.shape, "f4")[:, ::-1, ::-1, ::-1],
        "channels last": np.empty((n, p, q, k), "f4").transpose(0, 3, 1, 2),
        "inside": np.empty((n + 2, k + 2, p + 2, q + 2), "f4")[1:-1, 1:-1, 1:-1, 1:-1],
        "misaligned": flat[1:].view("f4").reshape(WANT.shape),
        "record field": record["value"],
        "big-endian": np.empty(WANT.shape, ">f4"),
    }
    for array in held.values():
        array[...] = np.nan
    return held


@pytest.mark.parametrize("kind", outputs())
def test_out_of_every_kind(backend: str, kind: str) -> None:
    out = outputs()[kind]
    assert call(backend, out=out) is out
    assert np.array_equal(out, WANT)


def test_out_writes_nothing_beside(backend: str) -> None:
    whole = np.full((2, 4, 6, 12), 7, "f4")
    out = whole[:, :, 1:-1, 2:-1:2]
    assert out.shape == WANT.shape
    call(backend, out=out)
    assert np.array_equal(out, WANT)
    out[...] = 7
    assert (whole == 7).all()


def test_out_as_a_subclass(backend: str) -> None:
    out = np.empty(WANT.shape, "f4").view(type("Tagged", (np.ndarray,), {}))
    assert call(backend, out=out) is out
    assert np.array_equal(np.asarray(out), WANT)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_out_may_overlap_x(backend: str, pad_mode: str, dtype: str) -> None:
    image = generator("overlap").integers(-9, 9, (2, 3, 9, 8)).astype(dtype)
    kernel = generator("kernel").integers(-3, 3, (3, 3, 3, 3)).astype(dtype)
    want = fastconv.conv2d(image, kernel, pad=1, pad_mode=pad_mode, backend="reference")
    x = image.copy()
    assert fastconv.conv2d(x, kernel, pad=1, pad_mode=pad_mode, out=x, backend=backend) is x
    assert np.array_equal(x, want)
    x = image.copy()
    fastconv.conv2d(x, kernel, pad=1, pad_mode=pad_mode, out=x[::-1, ..., ::-1], backend=backend)
    assert np.array_equal(x[::-1, ..., ::-1], want)
    room = np.zeros(image.size + 5, dtype)
    x, out = room[:-5].reshape(image.shape), room[5:].reshape(image.shape)
    x[...] = image
    fastconv.conv2d(x, kernel, pad=1, pad_mode=pad_mode, out=out, backend=backend)
    assert np.array_equal(out, want)


def test_out_may_overlap_w_and_bias(backend: str) -> None:
    x = X[:, :, :5, :4]
    want = fastconv.conv2d(x, W, bias=BIAS, backend="reference")
    room = np.zeros(W.size + 4, "f4")
    w, out = room[: W.size].reshape(W.shape), room[W.size - 68 : W.size + 4].reshape(want.shape)
    w[...] = W
    fastconv.conv2d(x, w, bias=BIAS, out=out, backend=backend)
    assert np.array_equal(out, want)
    out = np.zeros(want.shape, "f4")
    bias = out.reshape(-1)[:4]
    bias[...] = BIAS
    fastconv.conv2d(x, W, bias=bias, out=out, backend=backend)
    assert np.array_equal(out, want)


def test_out_for_every_rank_and_layout(backend: str) -> None:
    for x, w, layout in (
        (X[0], W, "NCHW"), (X[0, 0], W[0, 0], "NCHW"), (np.moveaxis(X, 1, -1), W, "NHWC"),
        (np.moveaxis(X[0], 0, -1), W, "NHWC"),
    ):  # fmt: skip
        want = fastconv.conv2d(x, w, layout=layout, backend="reference")
        out = np.full(want.shape[::-1], np.nan, "f4").transpose()
        assert fastconv.conv2d(x, w, layout=layout, out=out, backend=backend) is out
        assert np.array_equal(out, want)


@pytest.mark.parametrize(
    ("out", "error", "text"),
    [
        (np.empty((2, 4, 4, 4), "f4"), fastconv.OutputError, r"\(2, 4, 4, 5\)"),
        (np.empty((2, 4, 4, 5), "f8"), fastconv.OutputError, "float64; pass dtype='float64'"),
        (np.empty((2, 4, 4, 5), "i4"), fastconv.OutputError, "int32"),
        (np.empty((4, 4, 5), "f4"), fastconv.OutputError, r"\(2, 4, 4, 5\)"),
        (np.broadcast_to(np.float32(0), (2, 4, 4, 5)), fastconv.OutputError, "read-only"),
        ([[0.0]], TypeError, "out must be a plain array"),
        ("out", TypeError, "out must be a plain array"),
    ],
)
def test_out_that_cannot_hold_the_result(backend: str, out: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        call(backend, out=out)


def test_out_of_the_dtype_asked_for(backend: str) -> None:
    for dtype in ("f8", "f4", "f2"):
        out = np.empty(WANT.shape, dtype)
        assert call(backend, out=out, dtype=dtype) is out
        assert np.array_equal(out, WANT.astype(dtype))


def test_results_are_fresh_memory(backend: str) -> None:
    one, two = call(backend), call(backend)
    assert not np.shares_memory(one, two)
    assert one.flags.writeable
    assert one.flags.c_contiguous
    assert one.flags.owndata or one.base is not None


# -- options ---------------------------------------------------------------------------------------


def test_options_nest_and_come_back() -> None:
    before = current()
    with fastconv.options(backend="reference", threads=2) as outer:
        assert (outer.backend, outer.threads) == ("reference", 2)
        with fastconv.options(threads=5, workspace=1 << 20):
            assert (current().backend, current().threads) == ("reference", 5)
            assert current().workspace == 1 << 20
        assert current() == outer
        with contextlib.suppress(RuntimeError), fastconv.options(precision="fast"):
            assert current().precision == "fast"
            raise RuntimeError("inside")
        assert current() == outer
    assert current() == before


def test_an_argument_beats_the_context() -> None:
    with fastconv.options(backend="reference", threads=3):
        report = fastconv.explain(X, W, threads=2)
        assert (report.backend, report.threads) == ("reference", 2)
        assert fastconv.explain(X, W).threads == 3


def test_options_belong_to_their_thread() -> None:
    seen = {}
    with fastconv.options(threads=7):

        def look() -> None:
            seen["threads"] = current().threads

        other = threading.Thread(target=look)
        other.start()
        other.join()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: current().threads).result() == current().threads
    assert seen["threads"] == current().threads != 7


def test_options_belong_to_their_task() -> None:
    async def task(threads: int, turns: list[int]) -> None:
        with fastconv.options(threads=threads):
            for _ in range(5):
                await asyncio.sleep(0)
                turns.append(threads)
                assert current().threads == threads

    async def both() -> list[int]:
        turns: list[int] = []
        await asyncio.gather(task(3, turns), task(11, turns))
        return turns

    turns = asyncio.run(both())
    assert turns[:2] in ([3, 11], [11, 3]), "the tasks did not interleave"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"threads": 0}, ValueError),
        ({"threads": -1}, ValueError),
        ({"threads": 1.5}, TypeError),
        ({"threads": "2"}, TypeError),
        ({"precision": "exact"}, ValueError),
        ({"precision": 1}, TypeError),
        ({"backend": "torch"}, ImportError),
        ({"backend": ""}, ImportError),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        fastconv.conv2d(X, W, **given)
    with pytest.raises(error), fastconv.options(**given):
        pass


def test_options_know_their_names() -> None:
    with pytest.raises(TypeError):
        fastconv.options(thread=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="workspace"), fastconv.options(workspace=10):
        pass


ENVIRONMENT = """
import fastconv, numpy as np
from fastconv.options import current
o = current()
print(o.backend, o.precision, o.threads, o.workspace)
print(fastconv.explain((1, 1, 4, 4), (1, 1, 2, 2)).backend)
with fastconv.options(backend="reference", threads=1):
    print(current().backend, current().threads)
"""


def test_the_environment_sets_defaults() -> None:
    printed = processes.run(
        ENVIRONMENT,
        environment={
            "FASTCONV_BACKEND": "reference", "FASTCONV_PRECISION": "fast",
            "FASTCONV_THREADS": "3", "FASTCONV_WORKSPACE": "1000000", "OMP_NUM_THREADS": "9",
        },
    )  # fmt: skip
    assert printed.split() == ["reference", "fast", "3", "1000000", "reference", "reference", "1"]


def test_omp_num_threads_is_respected() -> None:
    printed = processes.run(
        "from fastconv.options import current; print(current().threads)",
        environment={"OMP_NUM_THREADS": "5,2"},
    )
    assert printed.strip() == "5"


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("FASTCONV_THREADS", "many", "FASTCONV_THREADS='many'"),
        ("FASTCONV_THREADS", "-1", "threads must be at least 1"),
        ("FASTCONV_BACKEND", "torch", "there is no backend 'torch'"),
        ("FASTCONV_PRECISION", "exact", "unknown precision 'exact'"),
        ("FASTCONV_WORKSPACE", "12", "workspace must be at least"),
    ],
)
def test_an_environment_that_makes_no_sense(variable: str, value: str, error: str) -> None:
    done = processes.start("import fastconv; fastconv.conv2d([[1.]], [[1.]])",
                           environment={variable: value})  # fmt: skip
    assert done.returncode == 1
    assert error in done.stderr.splitlines()[-1]


# -- backend= and reports --------------------------------------------------------------------------


def test_forced_means_forced(backend: str) -> None:
    assert fastconv.explain(X, W, backend=backend).backend == backend
    assert_same_bits(call(backend), WANT, "integers are exact on every backend")


def test_cuda_never_takes_numpy_arrays() -> None:
    with pytest.raises((fastconv.BackendUnavailable, fastconv.BackendUnsupported), match="cuda"):
        fastconv.conv2d(X, W, backend="cuda")


def test_available_backends() -> None:
    names = fastconv.available_backends()
    assert names[-1] == "reference"
    order = ("cuda", "native", "numba", "reference")
    assert list(names) == [n for n in order if n in names]


def test_explain_says_what_would_happen(backend: str) -> None:
    report = fastconv.explain(X, W, 2, 1, bias=BIAS, activation="relu", backend=backend, threads=2)
    assert report.backend == backend
    assert report.algorithm
    assert report.scratch_bytes >= 0
    assert report.cost == fastconv.conv_cost(X, W, 2, 1) or report.cost.bytes > 0
    assert report.problem.out_shape == WANT.shape
    named = {name for name, _ in report.rejected} | set(report.able) | {backend}
    assert named == {"cuda", "native", "numba", "reference"}
    for text in (backend, report.algorithm, "N=2, C=3, H=7, W=8", "relu", "scratch", "MAC"):
        assert text in str(report)


def test_explain_raises_as_the_call_would() -> None:
    with pytest.raises(fastconv.ShapeError):
        fastconv.explain((1, 1, 2, 2), (1, 1, 3, 3))
    with pytest.raises(fastconv.DTypeError):
        fastconv.explain(X, W, dtype="c8")


def test_output_shape_is_what_conv2d_returns(backend: str) -> None:
    for arguments in ({}, {"stride": 2, "pad": "same"}, {"pad": ((0, 1), (2, 3)), "dilation": 2}):
        y = fastconv.conv2d(X, W, **arguments, backend=backend)
        assert fastconv.output_shape(X, W, **arguments) == y.shape
        assert fastconv.output_shape(X.shape, W.shape, **arguments) == y.shape
    assert fastconv.output_shape(X.tolist(), W) == (2, 4, 5, 7)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    facts = fastconv.show_config(mode="dict")
    assert set(facts["backends"]) == {"cuda", *CPU}
    assert facts["backends"]["reference"] == "available"
    assert fastconv.show_config() is None
    printed = capsys.readouterr().out
    for word in ("fastconv", "numpy", "backends", "native", "threads"):
        assert word in printed
    with pytest.raises(ValueError, match="mode"):
        fastconv.show_config(mode="html")  # type: ignore[call-overload]


def test_errors_are_the_ones_numpy_users_expect() -> None:
    assert issubclass(fastconv.ShapeError, ValueError)
    assert issubclass(fastconv.DTypeError, TypeError)
    assert issubclass(fastconv.OutputError, ValueError)
    assert issubclass(fastconv.BackendUnavailable, ImportError)
    assert issubclass(fastconv.BackendUnsupported, NotImplementedError)
    assert issubclass(fastconv.SizeError, MemoryError)
    for name in fastconv.__all__:
        assert getattr(fastconv, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'conv3d'"):
        fastconv.conv3d  # noqa: B018


def test_positional_arguments_end_after_pad() -> None:
    with pytest.raises(TypeError):
        fastconv.conv2d(X, W, 1, 1, 1)
