"""Depthwise and separable convolutions: the same convolutions as `conv2d`, and as PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.judge import assert_same_bits

import fastconv

X = np.random.default_rng(0).standard_normal((2, 6, 9, 8)).astype("f4")


def weights(seed: int, *shape: int) -> np.ndarray:
    """Draw weights from N(0, 1)."""
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def last(a: np.ndarray) -> np.ndarray:
    """Hold images channels last."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_depthwise_is_grouped(multiplier: int, layout: str) -> None:
    w, bias = weights(1, 6 * multiplier, 1, 3, 2), weights(2, 6 * multiplier)
    options: dict[str, Any] = {
        "pad": "same", "bias": bias, "activation": "relu", "flip": True, "pad_mode": "edge",
    }  # fmt: skip
    want = fastconv.conv2d(X, w, 2, groups=6, **options)
    if layout == "NCHW":
        got = fastconv.depthwise_conv2d(X, w, 2, **options)
    else:
        got = fastconv.depthwise_conv2d(last(X), w, 2, layout=layout, **options)
        got = got.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_the_weights_of_tensorflow() -> None:
    """Its definition: y[n, p, q, c*M + m] = sum over r, s of x[n, p+r, q+s, c] * v[r, s, c, m]."""
    rng = np.random.default_rng(0)
    x, v = rng.integers(-9, 9, (1, 5, 6, 3)), rng.integers(-9, 9, (2, 3, 3, 2))
    want = np.zeros((1, 4, 4, 6), int)
    for r, s, c, m in np.ndindex(*v.shape):
        want[..., c * 2 + m] += x[:, r : r + 4, s : s + 4, c] * v[r, s, c, m]
    w = v.transpose(2, 3, 0, 1).reshape(6, 1, 2, 3)
    np.testing.assert_array_equal(fastconv.depthwise_conv2d(x, w, layout="NHWC"), want)
    u = rng.integers(-9, 9, (1, 1, 6, 5))
    mixed = fastconv.separable_conv2d(x, w, u.transpose(3, 2, 0, 1), layout="NHWC")
    np.testing.assert_array_equal(mixed, want @ u[0, 0])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_separable(layout: str) -> None:
    torch = pytest.importorskip("torch")
    first, second, bias = weights(3, 12, 1, 3, 3), weights(4, 5, 12, 1, 1), weights(5, 5)
    x, a, b, c = (torch.from_numpy(array) for array in (X, first, second, bias))
    a = a.flip(2, 3)
    x = torch.nn.functional.pad(x, (1, 1, 1, 1), "circular")
    between = torch.nn.functional.conv2d(x, a, None, 2, 0, 1, 6)
    want = torch.nn.functional.conv2d(between, b, c).relu().numpy()
    out = np.full(want.shape if layout == "NCHW" else last(want).shape, np.nan, "f4")
    got = fastconv.separable_conv2d(
        X if layout == "NCHW" else last(X), first, second, 2, 1, bias=bias, activation="relu",
        layout=layout, out=out, flip=True, pad_mode="wrap",
    )  # fmt: skip
    assert got is out
    np.testing.assert_allclose(got, want if layout == "NCHW" else last(want), rtol=1e-4, atol=1e-4)


def test_one_image_and_no_image() -> None:
    first, second = weights(3, 12, 1, 3, 3), weights(4, 5, 12, 1, 1)
    whole = fastconv.separable_conv2d(X, first, second)
    assert_same_bits(fastconv.separable_conv2d(X[1], first, second), whole[1], "one image")
    assert fastconv.separable_conv2d(X[:0], first, second).shape == (0, *whole.shape[1:])
    assert fastconv.depthwise_conv2d.output_shape((6, 9, 8), (12, 1, 3, 3)) == (12, 7, 6)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((6, 2, 3, 3), r"w must be \(C\*M, 1, R, S\), M kernels for each of C=6 channels"),
        ((7, 1, 3, 3), r"got \(7, 1, 3, 3\) with x \(2, 6, 9, 8\) \(NCHW\); check layout="),
        ((3, 3), r"depthwise_conv2d takes x \(N, C, H, W\)"),
        ((6, 1, 19, 3), "the kernel covers 19 pixels"),
    ],
)
def test_errors(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(fastconv.ShapeError, match=says):
        fastconv.depthwise_conv2d(X, np.ones(shape, "f4"))


def test_everything_is_checked_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("something ran")

    monkeypatch.setattr("fastconv.calls.Call.run", never)
    first, second = np.ones((6, 1, 3, 3), "f4"), np.ones((5, 6, 1, 1), "f4")
    for arguments, options, says in (
        ((X, first, second[:, :5]), {}, r"w_pointwise must be \(K, C\*M=6, 1, 1\) after"),
        ((X, first, np.ones((5, 6), "f4")), {}, "w_pointwise must be"),
        ((X, first, second), {"bias": np.ones(6, "f4")}, r"bias has shape \(6,\)"),
        ((X, first[:, 0], second), {}, r"w_depthwise \(6, 3, 3\)"),
    ):
        with pytest.raises(fastconv.ShapeError, match=says):
            fastconv.separable_conv2d(*arguments, **options)
    with pytest.raises(fastconv.OutputError, match=r"out must be \(2, 5, 7, 6\) float32"):
        fastconv.separable_conv2d(X, first, second, out=np.empty((2, 6, 7, 6), "f4"))
