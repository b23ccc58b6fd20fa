"""fastconv.h through its capsule: the bits of the Python functions, every error, threads, forks."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import backends, c_api, processes
from support.c_api import Failed, Plan
from support.operators import OperatorCase, cases

import fastconv
from fastconv import _config, accuracy
from fastconv.backends import native
from fastconv.dtypes import is_float

Array = np.ndarray[Any, Any]
DTYPES = tuple(d for d in c_api.DTYPES if d in (*backends.FLOATS, *backends.HALVES) or "int" in d)


@pytest.fixture(autouse=True)
def _native() -> None:
    backends.present("native")


def has_kernel(case: OperatorCase, result: str) -> bool:
    """What the table at the top of fastconv.h says."""
    problem = case.problem(result)
    flat = (*problem.depth[:2], problem.depth.outputs, problem.depth.pad[0]) == (1, 1, 1, 0)
    wide, zeros = case.dtype in ("float32", "float64"), case.pad_mode == "constant"
    if result == "y":
        return flat or (wide and zeros)
    if not flat or not is_float(case.dtype):
        return False
    return zeros or (result == "w" and wide)


def poisoned(shape: tuple[int, ...], dtype: Any) -> Array:
    made = np.empty(shape, dtype)
    made.view(np.uint8)[...] = 0xFF
    return made


def same_bits(got: Array, expected: Array) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("result", c_api.RESULTS)
@settings(max_examples=250)
@given(case=cases(dtypes=DTYPES), threads=st.integers(1, 3))
def test_the_bits_of_the_python_functions(result: str, case: OperatorCase, threads: int) -> None:
    """Any strides: channels last, kernels turned round, images without a batch."""
    operands = case.draw()
    problem = case.problem(result)
    own = poisoned(problem.out_shape, problem.out_dtype)
    x, w, gy = case.images(operands.x), case.kernels(operands.w), case.images(operands.gy)
    logical = case.kernels(own) if result == "w" else case.images(own)
    a, b = {"y": (x, w), "x": (gy, w), "w": (x, gy)}[result]
    arrays = {"y": (x, w, logical), "x": (logical, w, gy), "w": (x, logical, gy)}[result]
    described = c_api.describe(
        *arrays, result=result, stride=case.stride, pad=problem.pads, dilation=case.dilation,
        groups=case.groups, pad_mode=case.pad_mode, last=problem.channels_last, dtype=case.dtype,
    )  # fmt: skip
    options = c_api.options(threads=threads)
    if not has_kernel(case, result):
        with pytest.raises(Failed, match="UNSUPPORTED"):
            c_api.run(described, a, b, None, logical, options)
        assert (own.view(np.uint8) == 0xFF).all()
        return
    c_api.run(described, a, b, None, logical, options)
    found = accuracy.check(problem, a, b, None, logical)
    assert found.ok, f"{found.ratio:g} times the bound"
    if case.spatial < 3 or result != "y" or native.computes(problem):
        same_bits(own, case.compute(result, operands, backend="native"))
    if result != "w":
        with Plan(described, b, None, options) as plan:
            again = poisoned(own.shape, own.dtype)
            plan.run(x.shape[0], a, again)
            same_bits(again, own)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True])
def test_plans_own_their_weights(dtype: str, last: bool) -> None:
    """Weights and bias may go once a plan is made, whatever algorithm it has, for any batch."""
    rng = np.random.default_rng(7)
    for c, k, groups, image, kernel in [
        (6, 6, 6, (9, 8), (3, 3)), (1, 4, 1, (9, 8), (3, 3)), (8, 9, 1, (7, 7), (1, 1)),
        (4, 20, 1, (3, 5), (3, 5)), (12, 20, 2, (9, 9), (3, 3)), (5, 7, 1, (1, 30), (1, 4)),
    ]:  # fmt: skip

        def draw(*shape: int) -> Array:
            return rng.integers(0, 5, shape).astype(dtype)

        x = draw(3, *image, c) if last else draw(3, c, *image)
        w = draw(k, c // groups, *kernel)
        bias = rng.integers(0, 5, k).astype(dtype if is_float(dtype) else "int32")
        layout = "NHWC" if last else "NCHW"
        expected = fastconv.conv2d(
            x, w, groups=groups, bias=bias, activation="relu", layout=layout, backend="native"
        )
        y = poisoned(expected.shape, expected.dtype)
        x, out = (np.moveaxis(array, -1, 1) if last else array for array in (x, y))
        described = c_api.describe(x, w, out, groups=groups, last=last, activation="relu")
        with Plan(described, w, bias) as plan:
            w.view(np.uint8)[...] = 0xFF
            bias[...] = 77
            for n in (3, 1):
                y.view(np.uint8)[...] = 0xFF
                plan.run(n, x, out)
                same_bits(y[:n], expected[:n])
            assert (y[1:].view(np.uint8) == 0xFF).all()  # what is beyond a batch is not touched


def test_transposed_convolution_with_bias() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 5, 6, 7)), rng.standard_normal((5, 4, 3, 2))
    bias = rng.standard_normal(4)
    for dtype in (*backends.FLOATS, *backends.HALVES):
        arrays = [array.astype(dtype) for array in (x, w, bias)]
        expected = fastconv.conv_transpose2d(
            arrays[0], arrays[1], stride=3, bias=arrays[2], activation="gelu", backend="native"
        )
        y = poisoned(expected.shape, expected.dtype)
        described = c_api.describe(y, arrays[1], arrays[0], result="x", stride=3, activation="gelu")
        c_api.run(described, arrays[0], arrays[1], arrays[2], y)
        same_bits(y, expected)  # stride 3, kernel 2 wide: pixels of bias alone among them


def small(**changes: Any) -> c_api.Problem:
    """A problem that nothing is wrong with, but for what is changed."""
    fields: dict[str, Any] = {"c": 2, "k": 4, "image": (6, 5), "kernel": (3, 3), **changes}
    return c_api.problem(**fields)


def test_small_is_right() -> None:
    """What the errors below are measured against computes; so does a struct of a later version."""
    x, w, y = np.ones((1, 2, 6, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), poisoned((1, 4, 4, 3), "f4")
    c_api.run(small(), x, w, None, y)
    assert (y == 18).all()

    class Later(ctypes.Structure):
        _fields_ = (("problem", c_api.Problem), ("more", ctypes.c_int64))

    later = Later()
    pointer = ctypes.cast(ctypes.byref(later), ctypes.POINTER(c_api.Problem))
    c_api.check(c_api.api().problem_init(pointer, ctypes.sizeof(later)))
    later.problem.c, later.problem.k = 2, 4
    later.problem.image[:2], later.problem.kernel[:2] = (6, 5), (3, 3)
    y[...] = 0
    c_api.check(c_api.api().run(pointer, None, *map(c_api.address, (x, w, None, y))))
    assert (y == 18).all()
    later.more = 1
    assert c_api.api().run(pointer, None, *map(c_api.address, (x, w, None, y))) == 2


HUGE = 2**60
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("STRUCT_SIZE", {"struct_size": 0}, "fastconv_problem_init"),
    ("STRUCT_SIZE", {"struct_size": 2**40}, "fastconv_problem_init"),
    *(
        ("VALUE", {name: number}, f"{name} is {number}")
        for name, most in (
            ("result", 2), ("spatial", 3), ("dtype", 7), ("layout", 1), ("pad_mode", 4),
            ("activation", 8),
        )
        for number in (-1, most + 1, 2**31 - 1)
    ),
    ("VALUE", {"spatial": 0}, "spatial is 0"),
    ("VALUE", {"dtype": 2, "activation": 4}, "fractions"),
    ("VALUE", {"result": 2, "activation": 1}, "no activation"),
    ("SIZE", {"n": -1}, "n is -1"),
    *(
        ("SIZE", {name: number}, f"{name} is {number}")
        for name in ("c", "k", "groups") for number in (0, -3)
    ),
    ("SIZE", {"groups": 3}, "groups is 3"),
    *(
        ("SIZE", {name: (6 if name == "image" else 1, number)}, rf"{name}\[1\] is {number}")
        for name in ("image", "kernel", "stride", "dilation") for number in (0, -1, -(2**63))
    ),
    ("SIZE", {"pad_before": (0, -1)}, r"pad_before\[1\] is -1"),
    ("SIZE", {"pad_after": (-1, 0)}, r"pad_after\[0\] is -1"),
    ("SIZE", {"kernel": (7, 3)}, "covers 7 pixels .* image has 6"),
    ("SIZE", {"dilation": (1, 3)}, "covers 7 pixels .* image has 5"),
    *(
        ("OVERFLOW", {name: (6 if name == "image" else 1, number)}, r"2\^61")
        for name in ("image", "stride", "dilation", "pad_before", "pad_after")
        for number in (2**61, 2**63 - 1)
    ),
    ("OVERFLOW", {"pad_before": (HUGE, 0), "pad_after": (HUGE, 0)}, r"2\^61"),
    ("OVERFLOW", {"dilation": (HUGE, 1)}, r"2\^61"),
    ("OVERFLOW", {"n": HUGE}, "x is larger"),
    ("OVERFLOW", {"n": HUGE, "x_stride": (0, 0, 0, 0)}, "x is larger"),
    ("OVERFLOW", {"k": HUGE}, "w is larger"),
    ("OVERFLOW", {"image": (2**40, 2**40)}, "x is larger"),
    ("OVERFLOW", {"pad_before": (2**40, 2**40)}, "y is larger"),
    ("OVERFLOW", {"x_stride": (0, 2**62, 1, 1)}, r"x_stride\[1\]"),
    ("OVERFLOW", {"w_stride": (-(2**61), 0, 0, 0)}, r"w_stride\[0\]"),
    ("OVERFLOW", {"y_stride": (1, 1, 2**60, 1)}, "y is larger"),
    ("MEMORY", {"y_stride": (12, 12, 0, 1)}, r"y_stride\[2\] is 0"),
    ("UNSUPPORTED", {"result": 1, "dtype": 2}, "gradients of integers"),
    ("UNSUPPORTED", {"result": 1, "pad_mode": 1}, "borders"),
    ("UNSUPPORTED", {"result": 2, "pad_mode": 1, "dtype": 6}, "borders"),
    ("UNSUPPORTED", {"spatial": 3, "image": (6, 5, 4), "kernel": (3, 3, 3), "dtype": 2}, "volumes"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "changes", "message"), BAD)
def test_bad_problems(status: str, changes: dict[str, Any], message: str) -> None:
    """Every function that takes a problem refuses it alike, and writes nothing."""
    x, w, y = np.ones((1, 2, 6, 5), "f8"), np.ones((4, 2, 3, 3), "f8"), poisoned((1, 4, 6, 5), "f8")
    bad = small(**changes)
    with pytest.raises(Failed, match=f"{status}: .*{message}"):
        c_api.run(bad, x, w, None, y)
    with pytest.raises(Failed, match=status):
        c_api.query(bad)
    with pytest.raises(Failed, match=status), Plan(bad, w, None):
        pass
    if status != "UNSUPPORTED":
        with pytest.raises(Failed, match=status):
            c_api.check(c_api.api().output_size(bad, np.zeros(3, "i8").ctypes.data))
    assert (y.view(np.uint8) == 0xFF).all()


def test_bad_pointers() -> None:
    x, w, y = np.ones((1, 2, 6, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), poisoned((1, 4, 4, 3), "f4")
    run, api = c_api.run, c_api.api()
    off = np.ones(100, "u1")[1:]
    for arguments, expected in [
        ((None, w, None, y), "NULL: a is"), ((x, None, None, y), "NULL: b is"),
        ((x, w, None, None), "NULL: out is"), ((off, w, None, y), "MEMORY: a is misaligned"),
        ((x, off, None, y), "MEMORY: b is misaligned"), ((x, w, off, y), "MEMORY: bias is mis"),
        ((x, w, None, off), "MEMORY: out is misaligned"), ((x, w, None, x), "MEMORY: out is a"),
        ((x, w, None, w), "MEMORY: out is b"), ((x, w, y, y), "MEMORY: out is bias"),
    ]:  # fmt: skip
        with pytest.raises(Failed, match=expected):
            run(small(), *arguments)
    assert (y.view(np.uint8) == 0xFF).all()
    with pytest.raises(Failed, match="VALUE: a gradient of w has no bias"):
        run(small(result=2), x, np.ones((1, 4, 4, 3), "f4"), w, np.zeros_like(w))
    with pytest.raises(Failed, match="NULL: w is"), Plan(small(), None, None):
        pass
    with pytest.raises(Failed, match=r"UNSUPPORTED: .* no weights"), Plan(small(result=2), w, None):
        pass
    for status in (
        api.run(None, None, None, None, None, None), api.query(small(), None, None),
        api.output_size(small(), None), api.plan_create(small(), None, None, None, None),
        api.plan_run(None, 1, None, None, 0), api.plan_query(None, 1, 0, None),
        api.problem_init(None, 400), api.options_init(None, 24),
    ):  # fmt: skip
        assert c_api.STATUSES[status] == "NULL"
    api.plan_destroy(None)
    with Plan(small(), w, None) as plan:
        for arguments, expected in [
            ((-1, x, y), "SIZE: n is -1"), ((HUGE, x, y), "OVERFLOW"), ((1, None, y), "NULL: a"),
            ((1, x, None), "NULL: out"), ((1, x, x), "MEMORY: out is a"),
            ((1, x, y, -1), "VALUE: threads"), ((1, x, y, 2**20), "VALUE: threads"),
        ]:  # fmt: skip
            with pytest.raises(Failed, match=expected):
                plan.run(*arguments)


def test_bad_options() -> None:
    x, w, y = np.ones((1, 2, 6, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), poisoned((1, 4, 4, 3), "f4")
    for changes, expected in [
        ({"struct_size": 8}, "STRUCT_SIZE: .*fastconv_options_init"), ({"threads": -1}, "VALUE"),
        ({"threads": 2**20}, "VALUE: threads"), ({"precision": 2}, "VALUE: precision"),
        ({"workspace": 0}, "VALUE: workspace"), ({"workspace": 1 << 62}, "VALUE: workspace"),
    ]:  # fmt: skip
        with pytest.raises(Failed, match=expected):
            c_api.run(small(), x, w, None, y, c_api.options(**changes))
    info = c_api.Info(8)
    assert c_api.STATUSES[c_api.api().query(small(), None, info)] == "STRUCT_SIZE"


def test_statuses_have_words_and_threads_their_own_messages() -> None:
    words = [c_api.api().status_string(number).decode() for number in range(len(c_api.STATUSES))]
    assert len(set(words)) == len(words)
    assert c_api.api().status_string(len(words)).decode() == "no status of this library"
    with pytest.raises(Failed):
        c_api.query(small(n=-5))
    found: list[bytes] = []
    other = threading.Thread(target=lambda: found.append(c_api.api().last_error()))
    other.start()
    other.join()
    assert found == [b""]
    assert c_api.api().last_error() == b"n is -5, and must be at least 0"


def test_show_config_tells_where_the_library_is() -> None:
    """It is the very one whose functions the capsule holds."""
    library = ctypes.CDLL(fastconv.show_config("dict")["native"]["library"])
    there, here = (
        ctypes.cast(function, ctypes.c_void_p).value
        for function in (library.fastconv_run, c_api.api().run)
    )
    assert there == here


def test_no_images() -> None:
    """Nothing is read or written, null is an array of nothing; the gradient of w is zero."""
    w, gw = np.ones((4, 2, 3, 3), "f4"), poisoned((4, 2, 3, 3), "f4")
    for result in (0, 1):
        c_api.run(small(n=0, result=result), None, w, None, None)
        with Plan(small(result=result), w, None) as plan:
            plan.run(0, None, None)
    c_api.run(small(n=0, result=2), None, None, None, gw)
    assert not gw.any()


def test_refused_memory_is_a_status() -> None:
    x, w, y = np.ones((1, 2, 6, 5), "f4"), np.ones((4, 2, 3, 3), "f4"), poisoned((1, 4, 4, 3), "f4")
    native._native.fail_next_allocations(1)
    with pytest.raises(Failed, match="NO_MEMORY"):
        c_api.run(small(), x, w, None, y)
    c_api.run(small(), x, w, None, y)
    assert (y == 18).all()


def test_query_says_what_runs() -> None:
    x, w = (2, 8, 20, 20), (16, 8, 3, 3)
    described = small(n=2, c=8, k=16, image=(20, 20))
    for options in ({"threads": 1}, {"threads": 2}, {"threads": 1, "precision": 1}):
        precision = "fast" if options.get("precision") else "strict"
        said = fastconv.explain(
            x, w, backend="native", threads=options["threads"], precision=precision
        )
        found = c_api.query(described, c_api.options(**options))
        assert found.algorithm.decode() == said.algorithm
        assert found.workspace_bytes == said.scratch_bytes
        assert 1 <= found.threads <= options["threads"]
        assert found.packed_bytes == 0
    with Plan(described, np.ones(w, "f4"), None, c_api.options(threads=1)) as plan:
        held = plan.query(2)
        assert held.algorithm.decode() == "im2col_gemm"
        assert held.packed_bytes >= 16 * 8 * 9 * 4
    fast = c_api.options(precision=1)
    assert c_api.query(small(c=64, k=64, image=(28, 28)), fast).algorithm.startswith(b"winograd")


def test_threads_share_a_plan() -> None:
    """Calls at the same time, each on several threads, have the bits of one alone."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((4, 16, 20, 20), "f4"), rng.standard_normal((24, 16, 3, 3), "f4")
    expected = fastconv.conv2d(x, w, pad=1, backend="native", threads=1)
    described = c_api.describe(x, w, expected, pad=1)
    wrong: list[str] = []
    with Plan(described, w, None) as plan:

        def work(number: int) -> None:
            y = np.empty_like(expected)
            for turn in range(30):
                n = 1 + (number + turn) % 4
                y[...] = np.nan
                plan.run(n, x, y, threads=1 + turn % 3)
                if y[:n].tobytes() != expected[:n].tobytes():
                    wrong.append(f"thread {number}, turn {turn}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


FORK = """
import os, numpy as np
from support import c_api
x, w = np.ones((4, 16, 40, 40), "f4"), np.ones((32, 16, 3, 3), "f4")
y = np.empty((4, 32, 38, 38), "f4")
plan = c_api.Plan(c_api.describe(x, w, y), w, None)
plan.run(4, x, y, threads=2)
child = os.fork()
y[...] = 0
plan.run(4, x, y, threads=2)
good = bool((y == 144).all())
if child == 0:
    os._exit(0 if good else 3)
print(good, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_plans_survive_a_fork() -> None:
    assert processes.run(FORK).split() == ["True", "0"]


def test_without_the_native_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the C interface says what is missing; so does copying the extension alone."""

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    with monkeypatch.context() as patch:
        patch.setattr(_config.importlib, "import_module", absent)
        for ask in (
            fastconv.get_include, fastconv.get_cmake_dir, fastconv.get_pkgconfig_dir,
            lambda: fastconv._C_API,
        ):  # fmt: skip
            with pytest.raises(fastconv.BackendUnavailable, match="without its native part"):
                ask()
    monkeypatch.setattr(native._native, "__file__", "/nowhere/_native.so")
    with pytest.raises(fastconv.BackendUnavailable, match=r"there is no .*nowhere.*include"):
        fastconv.get_include()
