"""Dtypes of x, w, bias and the result: promotion, `dtype=`, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.backends import serves
from support.example import BIAS, WANT, W, X, call
from support.judge import assert_same_bits

import fastconv


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
