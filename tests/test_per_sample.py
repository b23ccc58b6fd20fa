"""Kernels of each image's own: the same as one call an image, forwards and backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv

RNG = np.random.default_rng(0)
X = RNG.integers(-9, 9, (3, 4, 7, 6)).astype("f4")
KINDS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "pad": 1, "groups": 2},
    {"pad": ((0, 2), (1, 0)), "dilation": 2, "flip": True},
    {"pad": 2, "pad_mode": "wrap", "groups": 4},
]


def weights(groups: int) -> np.ndarray:
    """Draw small integers, whose sums are exact in any order."""
    return RNG.integers(-9, 9, (3, 8, 4 // groups, 3, 2)).astype("f4")


def last(images: np.ndarray, layout: str) -> np.ndarray:
    """Hold images in another layout."""
    return images if layout == "NCHW" else np.moveaxis(images, 1, -1).copy()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("own_bias", [None, False, True])
def test_each_image_alone(kind: dict[str, Any], layout: str, own_bias: bool | None) -> None:
    w = weights(kind.get("groups", 1))
    bias = None if own_bias is None else RNG.integers(-9, 9, (3, 8)).astype("f4")
    each = [None] * 3 if bias is None else bias if own_bias else bias[[0, 0, 0]]
    want = np.stack([
        fastconv.conv2d(X[i], w[i], bias=each[i], activation="relu", **kind) for i in range(3)
    ])  # fmt: skip
    shared = bias[0] if bias is not None and not own_bias else bias
    options = dict(kind, bias=shared, activation="relu", layout=layout)
    got = fastconv.conv2d_per_sample(last(X, layout), w, **options)
    np.testing.assert_array_equal(got, last(want, layout))
    out = np.full((*got.shape, 2), np.nan, "f4")
    for held in (np.full(got.shape, np.nan, "f4"), out[..., 0]):
        assert fastconv.conv2d_per_sample(last(X, layout), w, out=held, **options) is held
        np.testing.assert_array_equal(held, got)
    assert np.isnan(out[..., 1]).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_of_each_image_alone(kind: dict[str, Any], layout: str) -> None:
    w = weights(kind.get("groups", 1))
    gy = RNG.integers(-9, 9, fastconv.conv2d_per_sample(X, w, **kind).shape).astype("f4")
    gx = np.stack([
        fastconv.conv2d_input_grad(X[i].shape, w[i], gy[i], **kind) for i in range(3)
    ])  # fmt: skip
    gw = np.stack([
        fastconv.conv2d_weight_grad(X[i], w[i].shape, gy[i], **kind) for i in range(3)
    ])  # fmt: skip
    options = dict(kind, layout=layout)
    x, g = last(X, layout), last(gy, layout)
    got = fastconv.conv2d_per_sample_input_grad(x.shape, w, g, **options)
    np.testing.assert_array_equal(got, last(gx, layout))
    out = np.full(w.shape, np.nan, "f4")
    got = fastconv.conv2d_per_sample_weight_grad(x, w.shape, g, out=out, **options)
    assert got is out
    np.testing.assert_array_equal(got, gw)


def test_no_images() -> None:
    assert fastconv.conv2d_per_sample(X[:0], weights(1)[:0]).shape == (0, 8, 5, 5)


def test_integers() -> None:
    x, w = X.astype("i1"), weights(1).astype("i1")
    got = fastconv.conv2d_per_sample(x, w)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, fastconv.conv2d_per_sample(X, w.astype("f4")))


@pytest.mark.parametrize(
    ("x", "w", "options", "says"),
    [
        (X, weights(1)[:2], {}, r"kernels for each of N images; got x \(3, 4, 7, 6\) and w \(2"),
        (X, weights(1)[0], {}, r"with w \(N, K, C/groups, R, S\)"),
        (X[0], weights(1), {}, r"takes x \(N, C, H, W\)"),
        (X, weights(2), {}, "groups=2"),
        (X, weights(1), {"bias": np.ones(7, "f4")}, r"bias has shape \(7,\)"),
        (X, weights(1), {"bias": np.ones((2, 8), "f4")}, r"expected \(K=8,\) or \(N=3, K=8\)"),
        (X, weights(1), {"layout": "NHWC"}, "layout='NCHW'"),
        (
            X,
            weights(1),
            {"out": np.ones((3, 8, 5, 4), "f4")},
            r"out must be \(3, 8, 5, 5\) float32",
        ),
    ],
)
def test_errors(x: Any, w: Any, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fastconv.conv2d_per_sample(x, w, **options)


def test_gradients_of_another_shape() -> None:
    with pytest.raises(fastconv.ShapeError, match="gy has shape"):
        fastconv.conv2d_per_sample_input_grad(X.shape, weights(1), X)
