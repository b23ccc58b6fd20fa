"""Operators at the edge of what is legal: nothing to compute, and results over their operands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import processes

import fastconv

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_empty_batches_and_channels_are_no_errors(d: int) -> None:
    """What has no images or no channels of its own is empty, or zeros."""
    image, small = (5,) * d, (3,) * d
    name = f"conv{d}d"
    x, w, y = np.ones((0, 4, *image), "f4"), np.ones((6, 4, *small), "f4"), (0, 6, *small)
    gy = np.ones(y, "f4")
    assert getattr(fastconv, name)(x, w).shape == y
    assert getattr(fastconv, name + "_input_grad")(x.shape, w, gy).shape == x.shape
    gw = getattr(fastconv, name + "_weight_grad")(x, w.shape, gy, out=np.full_like(w, np.nan))
    assert (gw == 0).all()
    none = w[:0]
    gx = getattr(fastconv, name + "_input_grad")(
        (2, 4, *image), none, np.ones((2, 0, *small), "f4")
    )
    assert gx.shape == (2, 4, *image)
    assert (gx == 0).all()
    up = getattr(fastconv, f"conv_transpose{d}d")(np.ones((0, 6, *small), "f4"), w)
    assert up.shape == (0, 4, *image)


SUMS_OF_NOTHING = """
import sys
import numpy as np
import fastconv

backend, dtype = sys.argv[1:]
for d in (1, 2, 3):
    for size in (1, 5, 40):
        image, small, g = (size,) * d, (3,) * d, 2
        w, gy = np.ones((0, 4, *small), dtype), np.ones((2, 0, *image), dtype)
        for options in ({}, {"stride": 2}, {"layout": ("NLC", "NHWC", "NDHWC")[d - 1]}):
            x = (2, 8, *image) if "layout" not in options else (2, *image, 8)
            given = dict(options, pad=1, groups=g)
            described = fastconv if d == 2 else getattr(fastconv, f"conv{d}d")
            gy_none = np.ones(described.output_shape(x, w.shape, **given), dtype)
            given["backend"] = backend
            gx = getattr(fastconv, f"conv{d}d_input_grad")(x, w, gy_none, **given)
            assert gx.shape == x and not gx.any()
        bias = np.array([-3, 2, 7, 0], dtype)
        kernel = np.ones((0, 2, *small), dtype)
        up = getattr(fastconv, f"conv_transpose{d}d")(
            gy, kernel, groups=g, bias=bias, activation="relu", backend=backend
        )
        assert (up == np.maximum(bias, 0).reshape(-1, *(1,) * d)).all()
        for n in range(1, 3000, 7):  # what was written beside an array shows here, at the latest
            np.empty(n)
print("fine")
"""


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
def test_sums_of_no_channels(backend: str, dtype: str) -> None:
    """In a process of its own: reading no channels once wrote beside the result."""
    assert processes.run(SUMS_OF_NOTHING, backend, dtype).strip() == "fine"


@pytest.mark.parametrize("operand", ["x", "w", "gy"])
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv3d"])
def test_out_may_be_an_operand(backend: str, name: str, operand: str) -> None:
    """A result that overlaps what it is made of is as it would be elsewhere."""
    d = int(name[4])
    rng = np.random.default_rng(d)
    shape = (2, 2, *(4,) * d)
    arrays = {n: rng.integers(-9, 9, shape).astype("f4") for n in ("x", "gy")}
    arrays["w"] = rng.integers(-9, 9, (2, 2, *(3,) * d)).astype("f4")
    options: dict[str, Any] = {"pad": 1, "backend": backend}

    def run(a: dict[str, Array], out: Array | None = None) -> Array:
        if operand == "gy":
            grad = getattr(fastconv, name + "_input_grad")
            return grad(shape, a["w"], a["gy"], out=out, **options)
        if operand == "w":
            grad = getattr(fastconv, name + "_weight_grad")
            return grad(a["x"], a["w"].shape, a["gy"], out=out, **options)
        return getattr(fastconv, name)(a["x"], a["w"], out=out, **options)

    want = run(arrays)
    held = {n: a.copy() for n, a in arrays.items()}
    if operand == "w":  # a view that lies across x
        room = np.zeros(held["x"].size + held["w"].size, "f4")
        room[: held["x"].size] = held["x"].reshape(-1)
        held["x"] = room[: held["x"].size].reshape(shape)
        out = room[1 : 1 + held["w"].size].reshape(held["w"].shape)
    else:
        out = held[operand]
    assert run(held, out) is out
    np.testing.assert_array_equal(out, want)
