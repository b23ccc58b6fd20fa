"""precision="fast" beyond the extension's ladder: problems, and their results held to a bound.

Limits that say when an algorithm pays are lowered, so that small problems, whose exact results are
cheap, take it too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import accuracy, calls
from fastconv.backends.native import fast as fast_ways
from fastconv.backends.native import fft, separable

from .backends import present
from .cases import Arrays, Case, draw, logical_image, logical_kernel
from .judge import compute

Array = np.ndarray[Any, Any]


SEPARABLE = [
    Case((1, 1, 40, 50), (1, 1, 5, 7), pad="same", pad_mode="reflect"),
    Case((40, 50), (9, 9), pad="full", flip=True),
    Case((2, 3, 40, 30), (6, 1, 5, 5), groups=3, pad=2, activation="relu", bias=True),
    Case((2, 3, 40, 30), (3, 1, 7, 4), groups=3, pad=((1, 9), (0, 3)), pad_mode="symmetric"),
    Case((1, 2, 40, 30), (2, 1, 7, 7), groups=2, stride=(2, 3), pad=3, pad_mode="edge"),
    Case((1, 2, 40, 30), (2, 1, 5, 5), groups=2, dilation=(2, 3), pad="same", pad_mode="wrap"),
    Case((2, 17, 30, 20), (34, 1, 5, 5), groups=17, pad="same", bias=True).channels_last(),
    Case((3, 9, 11), (3, 1, 5, 5), groups=3, pad=20, pad_mode="reflect", activation="gelu"),
    Case((1, 3, 3), (1, 1, 5, 5), pad=7, pad_mode="wrap"),
    Case((1, 1, 4), (1, 1, 4, 4), pad=((4, 5), (3, 3))),
]  # fmt: skip

TRANSFORMED = [
    Case((1, 1, 70, 90), (1, 1, 11, 13), pad="same", pad_mode="reflect"),
    Case((60, 50), (9, 20), pad="full", flip=True, activation="silu"),
    Case((2, 4, 40, 50), (6, 2, 7, 7), groups=2, pad=3, activation="relu", bias=True),
    Case((2, 3, 40, 30), (5, 3, 7, 6), pad=((1, 9), (0, 3)), pad_mode="symmetric", bias=True),
    Case((1, 2, 40, 45), (4, 1, 6, 6), groups=2, dilation=(2, 3), pad="same", pad_mode="wrap"),
    Case((3, 5, 20, 30), (10, 1, 9, 5), groups=5, pad="same", pad_mode="edge").channels_last(),
    Case((3, 9, 11), (4, 3, 5, 5), pad=25, pad_mode="reflect", activation="gelu"),
    Case((3, 9, 11), (4, 3, 5, 5), pad=((0, 25), (30, 0))),
    Case((1, 8, 8), (1, 1, 8, 8)),
    Case((1, 5, 6), (1, 1, 25, 25), pad="full", pad_mode="wrap"),
    Case((1, 1, 1, 700), (1, 1, 1, 40), pad="same"),
    Case((2, 4, 1, 300), (6, 2, 1, 33), groups=2, dilation=(1, 2), pad=(0, 50), bias=True),
    Case((1, 3, 4, 90), (5, 3, 1, 27), pad="same", pad_mode="reflect", activation="relu"),
    Case((3, 1, 1, 400), (2, 1, 1, 64), pad=(0, 9), flip=True).channels_last(),
    Case((1, 1, 1, 70), (1, 1, 1, 65)),
]

BOTH = [(case, "separable") for case in SEPARABLE[:7]] + [(c, "fft") for c in TRANSFORMED[:7]]

FAMILIES = ("normal", "positive", "spread", "outlier", "subnormal", "underflow")


def forget() -> None:
    """Choose anew: what was chosen before a limit changed is kept otherwise."""
    calls.forget()
    fft._blocking.cache_clear()
    fast_ways._paying.cache_clear()


def lower_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small problems take the fast ways, in blocks that are small as well."""
    present("native")
    monkeypatch.setattr(separable, "LEAST_WORK", 0)
    monkeypatch.setattr(separable, "LEAST_GAIN", 1.0)
    monkeypatch.setattr(separable, "BAND_BYTES", 4096)
    monkeypatch.setattr(fft, "LEAST_SAVED", -np.inf)
    monkeypatch.setattr(fft, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(fft, "SIDES", (16, 24, 36, 40, 64))
    monkeypatch.setattr(fft, "LENGTHS", (48, 80, 128, 140))
    forget()


def fast(case: Case, arrays: Arrays, algorithm: str, **options: Any) -> Array:
    """Convolve a case, which must take `algorithm`, and return the logical result."""
    report = fastconv.explain(
        arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native", **case.arguments
    )
    assert report.algorithm == algorithm, f"{case} takes {report.algorithm}"

    def convolve(x: Array, w: Array, **arguments: Any) -> Any:
        return fastconv.conv2d(x, w, precision="fast", backend="native", **arguments)

    return compute(convolve, case, arrays, **options)


def judge(case: Case, arrays: Arrays, got: Array, algorithm: str) -> float:
    """Hold a result against the bound of its algorithm."""
    verdict = accuracy.check(
        case.problem, logical_image(arrays.x, case.layout), logical_kernel(arrays.w, case.flip),
        arrays.bias, logical_image(got, case.layout), algorithm=algorithm,
    )  # fmt: skip
    assert verdict.ok, f"{case} {case.dtype}: {verdict.ratio:g} times the bound of {algorithm}"
    return verdict.ratio


def outer(case: Case, arrays: Arrays) -> Arrays:
    """Replace the kernels by rounded outer products of a row and a column of their own."""
    w = arrays.w.astype(np.longdouble)
    products = w[..., :, :1] * w[..., :1, :]
    scale = np.abs(products).max(axis=(-2, -1), keepdims=True)
    return arrays._replace(w=(products / np.where(scale == 0, 1, scale)).astype(case.dtype))


def operands(case: Case, algorithm: str) -> Arrays:
    arrays = draw(case, "normal")
    return outer(case, arrays) if algorithm == "separable" else arrays
