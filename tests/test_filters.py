"""`correlate2d` and `convolve2d` against `scipy.signal`, whose meaning they have."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv

FUNCTIONS = ("correlate2d", "convolve2d")
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
          "float64", "bool")  # fmt: skip
BOUNDARIES = ("fill", "wrap", "symm", "pad", "circular", "symmetric")


def whole(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Integers so small that floats add them exactly, and the whole range of an integer dtype."""
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.integers(-9, 9, shape).astype(dtype)


def both(function: str, *arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return our result and SciPy's."""
    want = getattr(scipy.signal, function)(*arguments, **options)
    return getattr(fastconv, function)(*arguments, **options), want


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(
    function=st.sampled_from(FUNCTIONS),
    first=SIZES,
    second=SIZES,
    dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    mode=st.sampled_from(("full", "valid", "same")),
    boundary=st.sampled_from(BOUNDARIES),
    fillvalue=st.sampled_from((0, 0, 1, 3, 2.75)),
    seed=st.integers(0, 1000),
)
def test_as_scipy(
    function: str, first: Any, second: Any, dtypes: Any, mode: str, boundary: str, fillvalue: Any,
    seed: int,
) -> None:  # fmt: skip
    assume(dtypes != ("bool", "bool"))
    if mode == "valid":  # one is the larger one along both axes
        assume(all(a >= b for a, b in zip(first, second, strict=True)) or
               all(a <= b for a, b in zip(first, second, strict=True)))  # fmt: skip
    rng = np.random.default_rng(seed)
    a, b = whole(rng, first, dtypes[0]), whole(rng, second, dtypes[1])
    if np.result_type(a, b).kind == "f":  # sums of small integers are exact in any order
        a, b = (np.clip(array, -9, 9) if array.dtype.kind == "i" else
                np.minimum(array, 9) if array.dtype.kind == "u" else array
                for array in (a, b))  # fmt: skip
    got, want = both(function, a, b, mode, boundary, fillvalue)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", ["full", "same"])
def test_kernels_larger_than_the_image(function: str, boundary: str, mode: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (3, 2)), rng.integers(-9, 9, (16, 11))
    got, want = both(function, a, b, mode, boundary)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fractions(function: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((40, 50)).astype(dtype), rng.standard_normal((7, 6)).astype(dtype)
    got, want = both(function, a, b, "same", "fill", 0.3)
    assert got.dtype == want.dtype
    bound = 8 * b.size * np.finfo(dtype).eps * np.abs(a).max() * np.abs(b).sum()
    np.testing.assert_allclose(got, want, rtol=0, atol=float(bound))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 3), (2, 2)), ((3, 3), (0, 2)), ((2, 3), (2, 0)), ((0, 0), (0, 0)), ((0, 3), (0, 3))],
)
def test_empty_arrays(function: str, mode: str, first: Any, second: Any) -> None:
    a, b = np.ones(first), np.ones(second)
    try:
        want = getattr(scipy.signal, function)(a, b, mode)
    except ValueError:
        with pytest.raises(fastconv.ShapeError):
            getattr(fastconv, function)(a, b, mode)
        return
    np.testing.assert_array_equal(getattr(fastconv, function)(a, b, mode), want)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_empty_image_has_nothing_to_repeat(function: str) -> None:
    """SciPy divides by zero, which ends the process."""
    with pytest.raises(fastconv.ShapeError, match="no pixels along H"):
        getattr(fastconv, function)(np.ones((0, 3)), np.ones((2, 2)), "full", "wrap")


def test_lists_and_views() -> None:
    got, want = both("correlate2d", [[1, 2], [3, 4]], [[1, 1]])
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    a = np.arange(60.0).reshape(6, 10).astype(">f8")[::-1, ::2]
    np.testing.assert_array_equal(*both("convolve2d", a, a[:2, :3], "same", "symm"))


def test_sums_that_the_operands_dtype_does_not_hold() -> None:
    a, b = np.full((16, 16), 2**7 - 1, "i1"), np.full((16, 16), -(2**7), "i1")
    np.testing.assert_array_equal(*both("correlate2d", a, b))
    fill = both("correlate2d", a.astype("i2"), b, "full", "fill", 30_000)
    np.testing.assert_array_equal(*fill)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("shapes", "options", "says"),
    [
        (((3,), (2, 2)), {}, r"takes two 2-D arrays, got in1 \(3,\) and in2 \(2, 2\)"),
        (((3, 3, 3), (2, 2)), {}, "takes two 2-D arrays"),
        (((3, 3), (2, 4)), {"mode": "valid"}, r"in1 \(3, 3\) and in2 \(2, 4\); crop one"),
        (((3, 3), (2, 2)), {"mode": "all"}, "unknown mode 'all'; choose from 'full'"),
        (((3, 3), (2, 2)), {"boundary": "reflect"}, "unknown boundary 'reflect'; choose"),
        (((3, 3), (2, 2)), {"fillvalue": [1, 2]}, "fillvalue must be a number"),
        (((3, 3), (2, 2)), {"fillvalue": "a"}, "fillvalue must be a number"),
        (((3, 3), (2, 2)), {"fillvalue": 2j}, "fillvalue=2j does not fit .* float64"),
    ],
)
def test_errors(function: str, shapes: Any, options: Any, says: str) -> None:
    a, b = (np.ones(shape) for shape in shapes)
    with np.errstate(all="ignore"), warnings.catch_warnings(), pytest.raises(ValueError):  # noqa: PT011, PT012
        warnings.simplefilter("ignore")
        getattr(scipy.signal, function)(a, b, **options)
    with pytest.raises(fastconv.ShapeError, match=says):
        getattr(fastconv, function)(a, b, **options)


@pytest.mark.parametrize(("dtype", "value"), [("i1", 128), ("u1", -1), ("i4", np.nan)])
def test_fill_values_that_do_not_fit(dtype: str, value: Any) -> None:
    with pytest.raises(fastconv.ShapeError, match="does not fit"):
        fastconv.correlate2d(np.ones((3, 3), dtype), np.ones((2, 2), dtype), fillvalue=value)


def test_dtypes_that_have_no_sums() -> None:
    with pytest.raises(fastconv.DTypeError, match="two arrays of bool"):
        fastconv.correlate2d(np.ones((3, 3), bool), np.ones((2, 2), bool))
    with pytest.raises(fastconv.DTypeError, match="in2 has dtype object"):
        fastconv.correlate2d(np.ones((3, 3)), np.ones((2, 2), object))


def test_float16_is_added_up_in_float32() -> None:
    a = np.full((4, 600), 2.0, "f2")
    got = fastconv.correlate2d(a, np.ones((1, 512), "f2"), "valid")
    assert got.dtype == np.float16
    assert (got == 1024).all()
