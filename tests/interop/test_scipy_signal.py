"""The drop-ins for scipy.signal beside SciPy: results, dtypes, errors, what is handed over."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support.like_scipy import outcome, random, same
from support.oracles import oracle

signal, ndimage = oracle("scipy.signal"), oracle("scipy.ndimage")

from fastconv.interop import scipy as ours  # noqa: E402
from fastconv.interop.scipy.drop_in import counting  # noqa: E402

DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64", "longdouble", "complex64", "complex128", ">f8", ">i4",
]  # fmt: skip


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


def test_an_open_method_is_chosen_by_the_shapes() -> None:
    rng = np.random.default_rng(8)
    long, short = rng.standard_normal(20000).astype("f4"), rng.standard_normal(5).astype("f4")
    with counting() as calls:
        y = ours.correlate(long, long[::-1])
        np.testing.assert_array_equal(y, signal.correlate(long, long[::-1], method="fft"))
        same(ours.correlate(long, short), signal.correlate(long, short), 100)
    assert calls.computed == {"signal.correlate": 1}
    assert calls.handed == {("signal.correlate", "method='auto', which takes transforms here"): 1}
