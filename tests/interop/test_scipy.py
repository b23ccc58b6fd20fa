"""The drop-ins for SciPy beside SciPy: results, dtypes, errors, and what is handed over."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import processes
from support.oracles import oracle

import fastconv

signal, ndimage = oracle("scipy.signal"), oracle("scipy.ndimage")

from fastconv.interop import scipy as ours  # noqa: E402
from fastconv.interop.scipy.drop_in import counting  # noqa: E402

Array = np.ndarray[Any, Any]
DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64", "longdouble", "complex64", "complex128", ">f8", ">i4",
]  # fmt: skip


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind in "biu":
        low = 0 if kind in "bu" else -99
        return rng.integers(low, 2 if kind == "b" else 99, shape).astype(dtype)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if kind == "c" else x).astype(dtype)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A result, or what was raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # whatever SciPy raises, the drop-in has to
        return type(error), str(error)


def same(found: Any, expected: Any, scale: float) -> None:
    """Of one dtype and shape; integers to the bit, floats within the rounding of their sums."""
    if isinstance(expected, tuple) or isinstance(found, tuple):
        assert type(found) is type(expected), (found, expected)
        assert found == expected
        return
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
    else:
        eps = float(np.finfo(expected.dtype).eps)
        np.testing.assert_allclose(found, expected, rtol=0, atol=8 * eps * scale)


PLANAR = ["convolve2d", "correlate2d"]
ANY_RANK = ["convolve", "correlate"]


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("fillvalue", [0, 2, 1.5])
def test_planar(name: str, mode: str, boundary: str, fillvalue: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = [
        ((7, 6), (3, 2)),
        ((4, 5), (6, 7)),
        ((3, 9), (3, 4)),
        ((1, 1), (2, 3)),
        ((2, 5), (3, 2)),
    ]
    with counting() as calls:
        for first, second in shapes:
            for dtypes in [("int32", "int32"), ("uint8", "int16"), ("float32", "float32"),
                           ("float64", "int8"), ("complex64", "complex64"),
                           ("float32", "complex128")]:  # fmt: skip
                a, b = random(rng, first, dtypes[0]), random(rng, second, dtypes[1])
                args = (a, b, mode, boundary, fillvalue)
                expected = outcome(getattr(signal, name), *args)
                same(outcome(getattr(ours, name), *args), expected, 99 * 99 * b.size)
    assert calls.computed[f"signal.{name}"] >= 8


@pytest.mark.parametrize("name", ANY_RANK)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
def test_any_rank(name: str, mode: str, method: str) -> None:
    rng = np.random.default_rng(1)
    shapes = [
        ((9,), (4,)), ((3,), (7,)), ((7, 6), (3, 2)), ((4, 5), (6, 7)), ((3, 4), (4, 3)),
        ((5, 4, 6), (2, 3, 2)), ((2, 2, 3), (4, 3, 3)), ((3, 3, 3, 3), (2, 2, 2, 2)), ((), ()),
        ((3,), (2, 2)), ((0,), (2,)),
    ]  # fmt: skip
    with counting() as calls:
        for first, second in shapes:
            for dtypes in itertools.product(["int16", "float32", "complex128"], repeat=2):
                a, b = random(rng, first, dtypes[0]), random(rng, second, dtypes[1])
                expected = outcome(getattr(signal, name), a, b, mode, method)
                scale = 99 * 20 * max(min(a.size, b.size), 1)
                same(outcome(getattr(ours, name), a, b, mode, method), expected, scale)
    assert bool(calls.computed) == (method != "fft")


@pytest.mark.parametrize("name", [*PLANAR, *ANY_RANK])
def test_every_pair_of_dtypes(name: str) -> None:
    rng = np.random.default_rng(2)
    for first, second in itertools.product(DTYPES, repeat=2):
        a, b = random(rng, (6, 5), first), random(rng, (2, 3), second)
        expected = outcome(getattr(signal, name), a, b)
        scale = 6 * 99 * 5
        if isinstance(expected, np.ndarray) and expected.dtype == "float16":
            scale *= 4
        same(outcome(getattr(ours, name), a, b), expected, scale)


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "spam"}, {"mode": 1}, {"boundary": "spam"}, {"fillvalue": 1j},
        {"fillvalue": [1, 2]},
        {"fillvalue": 300}, {"fillvalue": 0.5}, {"fillvalue": np.float32(2)}, {"fillvalue": True},
        {"fillvalue": []}, {"spam": 1}, {"fillvalue": float("nan")},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_odd_arguments(name: str, arguments: dict[str, Any]) -> None:
    for dtype in ("uint8", "float64"):
        x = np.ones((2, 2), dtype)
        expected = outcome(getattr(signal, name), x, x, **arguments)
        same(outcome(getattr(ours, name), x, x, **arguments), expected, 9)


def test_what_is_no_plain_array_is_scipys() -> None:
    class Subclass(np.ndarray[Any, Any]):
        pass

    x = np.arange(12.0).reshape(3, 4)
    for odd in (x.view(Subclass), np.ma.masked_greater(x, 5), x.astype(object)):
        with counting() as calls:
            found = outcome(ours.convolve2d, odd, x)
            same(np.asarray(found), np.asarray(outcome(signal.convolve2d, odd, x)), 1e3) \
                if not isinstance(found, tuple) else None  # fmt: skip
        assert not calls.computed
    with counting() as calls:
        same(ours.convolve2d([[1, 2]], [[3, 4]]), signal.convolve2d([[1, 2]], [[3, 4]]), 1)
    assert calls.computed


def test_kernels_that_are_not_finite_meet_no_zeros_where_scipy_has_none() -> None:
    kernel = np.array([1.0, np.inf, 1.0])
    for mode, x in itertools.product(("full", "same"), (np.arange(1.0, 3), np.arange(1.0, 9))):
        np.testing.assert_array_equal(
            ours.convolve(x, kernel, mode, "direct"), signal.convolve(x, kernel, mode, "direct")
        )
        np.testing.assert_array_equal(
            ours.convolve2d(x[None], kernel[None], mode),
            signal.convolve2d(x[None], kernel[None], mode),
        )


def test_integers_that_doubles_do_not_hold() -> None:
    """Sums beyond 2**53 wrap as SciPy's do, whoever computes them; smaller ones are fastconv's."""
    rng = np.random.default_rng(9)
    for dtype in ("int64", "uint64", "int32", "uint32"):
        for bits in (20, 31, 62):
            if bits > 8 * np.dtype(dtype).itemsize:
                continue
            x, w = (rng.integers(2 ** (bits - 1), 2**bits, n).astype(dtype) for n in (40, 7))
            with counting() as calls:
                same(ours.convolve(x, w, method="direct"), np.convolve(x, w), 0)
                same(ours.convolve2d(x[None], w[None]), np.convolve(x, w)[None], 0)
            assert bool(calls.computed) == (bits == 20)


MODES = [
    "reflect",
    "grid-mirror",
    "mirror",
    "nearest",
    "constant",
    "grid-constant",
    "wrap",
    "grid-wrap",
]
NAMES = ["correlate", "convolve"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_ndimage(name: str, mode: str) -> None:
    rng = np.random.default_rng(3)
    cases: list[tuple[tuple[int, ...], tuple[int, ...], Any]] = [
        ((9,), (3,), 0), ((9,), (4,), -2), ((1,), (5,), 1), ((7, 6), (3, 2), 0),
        ((7, 6), (2, 4), [0, 1]),
        ((2, 3), (5, 9), 0), ((5, 4, 6), (3, 2, 3), -1), ((3, 1, 4, 2), (2, 1, 3, 1), 0),
        ((2, 3, 4, 2), (2, 2, 2, 2), 0), ((4, 4), (3, 3), 2), ((4, 4), (3,), 0),
        ((0, 3), (1, 2), 0),
    ]  # fmt: skip
    dtypes = ["uint8", "int16", "int64", "float32", "float64", "bool", "complex64", "float16"]
    with counting() as calls:
        for shape, taps, origin in cases:
            for dtype, weight in itertools.product(dtypes, ["int64", "float64", "complex128"]):
                x, w = random(rng, shape, dtype), random(rng, taps, weight)
                for cval in (0.0, 2, 1 - 1j) if "constant" in mode else (0.0,):
                    kwargs = {"mode": mode, "cval": cval, "origin": origin}
                    expected = outcome(getattr(ndimage, name), x, w, **kwargs)
                    found = outcome(getattr(ours.ndimage, name), x, w, **kwargs)
                    same(found, expected, 300 * 300 * w.size)
    assert calls.computed[f"ndimage.{name}"] > 80


@pytest.mark.parametrize("name", ["correlate1d", "convolve1d"])
@pytest.mark.parametrize("mode", ["reflect", "mirror", "constant"])
def test_ndimage_along_one_axis(name: str, mode: str) -> None:
    rng = np.random.default_rng(4)
    with counting() as calls:
        for shape in [(9,), (5, 6), (4, 3, 5), (2, 3, 4, 3), (2, 2, 3, 2, 3)]:
            for axis in range(-len(shape), len(shape) + 1):
                for taps, origin in [(3, 0), (4, 1), (1, 0), (5, -2), (3, 5)]:
                    x, w = rng.standard_normal(shape), rng.standard_normal(taps)
                    kwargs = {"axis": axis, "mode": mode, "cval": 1.5, "origin": origin}
                    expected = outcome(getattr(ndimage, name), x, w, **kwargs)
                    same(outcome(getattr(ours.ndimage, name), x, w, **kwargs), expected, 30)
    assert calls.computed[f"ndimage.{name}"] > 60


@pytest.mark.parametrize("name", NAMES)
def test_ndimage_along_some_axes(name: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 5, 3))
    cases: list[tuple[Any, tuple[int, ...], Any]] = [
        (1, (3,), 0), ((0, 2), (3, 2), 0), ((2, 0), (3, 2), [1, 0]), ((-1, 1), (2, 2), [0, -1]),
        ((0, 1, 2), (2, 2, 2), 0), ((2, 1, 0), (2, 3, 3), [0, 1, 0]), ((0, 0), (3, 2), 0),
        (3, (3,), 0), ((0,), (3, 2), 0), ((), (), 0), (1.5, (3,), 0),
    ]  # fmt: skip
    for axes, taps, origin in cases:
        w = rng.standard_normal(taps)
        kwargs = {"axes": axes, "origin": origin}
        expected = outcome(getattr(ndimage, name), x, w, **kwargs)
        same(outcome(getattr(ours.ndimage, name), x, w, **kwargs), expected, 60)


@pytest.mark.parametrize("output", [None, "f4", np.uint8, np.dtype("i2"), np.float64, "spam", "c8",
                                    bool, "f2", 3])  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
@pytest.mark.filterwarnings("ignore:promoting specified output")
def test_output_dtypes(output: Any, dtype: str) -> None:
    rng = np.random.default_rng(6)
    x, w = random(rng, (6, 7), dtype), np.array([[1, 2], [-3, 4]])
    expected = outcome(ndimage.correlate, x, w, output)
    same(outcome(ours.ndimage.correlate, x, w, output), expected, 1e4)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64"])
def test_output_arrays(dtype: str) -> None:
    """Given arrays are written and returned: whole, strided, the input itself."""
    x, w = np.arange(42.0).reshape(6, 7), np.array([[1.0, 2], [0, 4]])
    expected = ndimage.correlate(x, w).astype(dtype)
    for output in (np.full((6, 7), 7, dtype), np.full((12, 7), 7, dtype)[::2]):
        y = ours.ndimage.correlate(x, w, output)
        assert y is output
        np.testing.assert_array_equal(y, expected)
    image = x.astype(dtype)
    assert ours.ndimage.correlate(image, w, image) is image
    np.testing.assert_array_equal(image, expected)


def test_weights_that_ndimage_takes_for_zero() -> None:
    x = np.array([3.0, 1e20, np.nan, 5, 7, 9, 11, 13])
    for weights in (
        [1, 0, 2],
        [1e-17, 1, 3e-17],
        [1e-18, 2e-18, 3e-18],
        [3e-17, 0, -2e-17, 5e-17, 1],
    ):
        for name in ("correlate", "convolve", "correlate1d", "convolve1d"):
            w = np.array(weights)
            expected = getattr(ndimage, name)(x, w)
            np.testing.assert_allclose(
                getattr(ours.ndimage, name)(x, w), expected, rtol=1e-14, err_msg=f"{name} {weights}"
            )


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64"]),
    st.sampled_from(["uint8", "int16", "int32", "uint32", "int64", "float32", "float64"]),
    st.sampled_from(["box", "integers", "gauss", "random"]),
    st.sampled_from(["correlate", "convolve", "correlate1d", "convolve1d"]),
)
def test_integers_are_cut_off_to_the_bit(
    seed: int, output: str, dtype: str, weights: str, name: str
) -> None:
    rng = np.random.default_rng(seed)
    rank = 1 if name.endswith("1d") else 2
    taps = tuple(rng.integers(1, 5, rank))
    box = np.ones(taps) / np.prod(taps)
    w = {
        "box": box,
        "integers": rng.integers(-4, 5, taps),
        "gauss": np.exp(-np.square(np.arange(box.size) - box.size / 2)).reshape(taps) / 2.5,
        "random": rng.standard_normal(taps),
    }[weights]
    x = rng.integers(0, 100, (13, 17)) * (1 if rng.integers(2) else 3)
    x = x.astype(dtype)
    expected = getattr(ndimage, name)(x, w, output=output)
    with counting() as calls:
        np.testing.assert_array_equal(getattr(ours.ndimage, name)(x, w, output=output), expected)
    for _, reason in calls.handed:
        assert reason in (
            "integers of sums that round, many of them next to an integer",
            "sums beyond the integers that C converts",
        )


def test_sums_next_to_integers_are_those_of_scipy() -> None:
    """Means are integers now and then, or nearly so; cut off as they are, some would be wrong."""
    rng = np.random.default_rng(7)
    x, wrong = rng.integers(0, 256, (64, 300)).astype("u1"), Counter[str]()
    with counting() as calls:
        for taps in [(40,), (41,), (46,), (7, 7), (6, 8)]:
            w = np.full(taps, 1 / np.prod(taps))
            for name in ["correlate1d", "convolve1d"] if len(taps) == 1 else ["correlate"]:
                expected = getattr(ndimage, name)(x, w)
                np.testing.assert_array_equal(getattr(ours.ndimage, name)(x, w), expected)
                sums = getattr(ours.ndimage, name)(x.astype(float), w)
                wrong[name] += int((sums.astype("u1") != expected).sum())
    assert not calls.handed
    assert wrong["correlate1d"] > 10
    assert wrong["convolve1d"] > 10


def test_patch_serves_every_way_to_scipys_functions_and_restores() -> None:
    import scipy
    from scipy.signal import _signaltools

    before = signal.convolve2d, ndimage.correlate, _signaltools.correlate
    x, w = np.ones((8, 8)), np.ones((3, 3))
    with ours.patch() as outer:
        assert signal.convolve2d is ours.convolve2d
        assert scipy.ndimage.correlate is ours.ndimage.correlate
        signal.convolve2d(x, w)
        with ours.patch() as inner:
            ndimage.gaussian_filter(x, 1.0)
            signal.convolve(x, w, method="fft")
        assert signal.convolve2d is ours.convolve2d
        assert inner.computed == {"ndimage.correlate1d": 2}
        assert inner.handed == {("signal.convolve", "method='fft'"): 1}
    assert outer.computed == {"signal.convolve2d": 1, "ndimage.correlate1d": 2}
    assert (signal.convolve2d, ndimage.correlate, _signaltools.correlate) == before
    assert "signal.convolve: 1 by SciPy, method='fft'" in repr(outer)
    signal.convolve2d(x, w)
    assert outer.computed["signal.convolve2d"] == 1


def test_patch_of_modules_that_imported_names_and_after_errors() -> None:
    import types

    module = types.ModuleType("imported_names")
    module.blur = signal.convolve2d  # type: ignore[attr-defined]
    import sys

    sys.modules["imported_names"] = module
    try:
        with pytest.raises(ValueError, match="2-D"), ours.patch(module) as calls:
            module.blur([1.0], [2.0])
        assert calls.handed == {("signal.convolve2d", "arrays of 1 and 1 axes"): 1}
        assert module.blur is signal.convolve2d is not ours.convolve2d
    finally:
        del sys.modules["imported_names"]


def test_overlapping_patches_of_threads_restore_at_the_last() -> None:
    before = signal.convolve2d
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with ours.patch():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with ours.patch():
        thread.start()
        assert entered.wait(30)
    assert signal.convolve2d is ours.convolve2d
    leave.set()
    thread.join(30)
    assert signal.convolve2d is before


WRAPPED = """
import numpy as np, scipy.ndimage, scipy.signal
from fastconv.interop import scipy as ours
x = np.arange(30.0).reshape(5, 6)
blurred = scipy.ndimage.gaussian_filter(x, 1.0)
before = scipy.signal.convolve2d
with ours.patch() as calls:
    np.testing.assert_allclose(scipy.ndimage.gaussian_filter(x, 1.0), blurred)
    scipy.signal.convolve2d(x, x)
assert scipy.signal.convolve2d is before and before is not ours.convolve2d
print(sorted(calls.computed.items()))
"""


def test_where_scipy_wraps_its_functions() -> None:
    computed = processes.run(WRAPPED, environment={"SCIPY_ARRAY_API": "1"})
    assert computed.strip() == "[('ndimage.correlate1d', 2), ('signal.convolve2d', 1)]"


def test_missing_backends_are_no_reason_to_ask_scipy() -> None:
    with fastconv.options(backend="cuda"), pytest.raises(fastconv.FastconvError):
        ours.convolve2d(np.ones((3, 3)), np.ones((2, 2)))


def test_an_open_method_is_chosen_by_the_shapes() -> None:
    rng = np.random.default_rng(8)
    long, short = rng.standard_normal(20000).astype("f4"), rng.standard_normal(5).astype("f4")
    with counting() as calls:
        y = ours.correlate(long, long[::-1])
        np.testing.assert_array_equal(y, signal.correlate(long, long[::-1], method="fft"))
        same(ours.correlate(long, short), signal.correlate(long, short), 100)
    assert calls.computed == {"signal.correlate": 1}
    assert calls.handed == {("signal.correlate", "method='auto', which takes transforms here"): 1}
