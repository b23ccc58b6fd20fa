"""The drop-ins for scipy.ndimage beside SciPy: borders, origins, axes, outputs, rounding."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.like_scipy import outcome, random, same
from support.oracles import oracle

signal, ndimage = oracle("scipy.signal"), oracle("scipy.ndimage")

from fastconv.interop import scipy as ours  # noqa: E402
from fastconv.interop.scipy.drop_in import counting  # noqa: E402

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
