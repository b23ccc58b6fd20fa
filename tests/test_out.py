"""`out=` of every kind, overlapping the inputs or not, and what cannot hold the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.backends import FLOATS
from support.cases import generator
from support.example import BIAS, WANT, W, X, call
from support.held import outputs

import fastconv


@pytest.mark.parametrize("kind", outputs(WANT.shape))
def test_out_of_every_kind(backend: str, kind: str) -> None:
    out = outputs(WANT.shape)[kind]
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
