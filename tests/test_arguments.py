"""Arrays of every kind, rank and layout in; strides and pads in every spelling."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from support.example import BIAS, WANT, W, X, call
from support.held import HELD
from support.judge import assert_same_bits

import fastconv


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_every_kind_of_array(backend: str, held: Any) -> None:
    for x, w, bias in ((held(X), W, BIAS), (X, held(W), BIAS), (X, W, held(BIAS)),
                       (held(X), held(W), held(BIAS))):  # fmt: skip
        y = call(backend, x, w, bias, dtype="f4")
        assert type(y) is np.ndarray
        assert y.dtype.isnative
        assert_same_bits(y, WANT, "another way to hold the same numbers")
    assert np.array_equal(X, X.copy())


def test_broadcast_inputs(backend: str) -> None:
    """Strides of zero: one stored image or kernel stands for many."""
    x = np.broadcast_to(X[:1, :1], (5, 3, 7, 8))
    w = np.broadcast_to(W[:1, :1], W.shape)
    want = fastconv.conv2d(x.copy(), w.copy(), backend="reference")
    assert np.array_equal(fastconv.conv2d(x, w, backend=backend), want)
    pixel = np.broadcast_to(np.float32(2), (1, 3, 40, 50))
    assert (fastconv.conv2d(pixel, w, backend=backend) == 2 * w.sum((1, 2, 3))[:, None, None]).all()


def test_inputs_are_left_alone(backend: str) -> None:
    x, w, bias = X.copy(), W.copy(), BIAS.copy()
    call(backend, x, w, bias, activation="relu")
    assert all(np.array_equal(a, b) for a, b in ((x, X), (w, W), (bias, BIAS)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("rank", [2, 3, 4])
def test_ranks_and_layouts(backend: str, rank: int, layout: str) -> None:
    w = W[0, 0] if rank == 2 else W
    x = {2: X[0, 0], 3: X[0], 4: X}[rank]
    want = fastconv.conv2d(x, w, 2, 1, backend="reference")
    if layout == "NCHW" or rank == 2:
        assert_same_bits(fastconv.conv2d(x, w, 2, 1, layout=layout, backend=backend), want, layout)
        return
    last = np.moveaxis(x, -3, -1)
    for held in (last, np.ascontiguousarray(last)):
        y = fastconv.conv2d(held, w, 2, 1, layout=layout, backend=backend)
        assert y.flags.c_contiguous
        assert_same_bits(np.ascontiguousarray(np.moveaxis(y, -1, -3)), want, "NHWC")


def test_one_image_is_a_batch_of_one(backend: str) -> None:
    assert_same_bits(call(backend, X[1]), WANT[1], "rank 3")


@pytest.mark.parametrize("rank", [2, 4])
def test_flip_turns_the_kernel(backend: str, rank: int) -> None:
    x, w = (X, W) if rank == 4 else (X[0, 0], W[0, 0])
    turned = w[..., ::-1, ::-1]
    got = fastconv.conv2d(x, w, pad=1, flip=True, backend=backend)
    assert_same_bits(got, fastconv.conv2d(x, turned, pad=1, backend=backend), "flip")
    assert not np.array_equal(got, fastconv.conv2d(x, w, pad=1, backend=backend))


def test_spellings_of_strides_and_pads(backend: str) -> None:
    for stride, pad, dilation in (
        ((2, 2), (1, 1), (1, 1)),
        ([2, 2], [[1, 1], [1, 1]], [1, 1]),
        (np.int64(2), np.uint8(1), np.int8(1)),
        (np.array([2, 2]), np.array([[1, 1], [1, 1]]), True),
    ):
        got = fastconv.conv2d(X, W, stride, pad, dilation=dilation, bias=BIAS, backend=backend)
        assert_same_bits(got, WANT, f"stride {stride!r}, pad {pad!r}")


def test_equal_keys_of_another_type_are_still_refused(backend: str) -> None:
    """1.0 == 1 and hash(1.0) == hash(1): no cache may mistake one for the other."""
    fastconv.conv2d(X, W, 1, 1, dilation=1, groups=1, backend=backend)
    for name in ("stride", "pad", "dilation", "groups"):
        with pytest.raises(TypeError):
            fastconv.conv2d(X, W, **{name: 1.0}, backend=backend)


def test_positional_arguments_end_after_pad() -> None:
    with pytest.raises(TypeError):
        fastconv.conv2d(X, W, 1, 1, 1)


def test_signatures_agree() -> None:
    """Written out one by one, for editors and `help`: names, order, defaults and types are one."""
    call = list(inspect.signature(fastconv.conv2d).parameters.values())
    assert list(inspect.signature(fastconv.explain).parameters.values()) == call
    for function, own in (
        (fastconv.plan_conv2d, {"x_shape", "x_dtype", "workspace"}),
        (fastconv.output_shape, set()),
        (fastconv.conv_cost, set()),
    ):
        given = inspect.signature(function).parameters
        names = given.keys() - own
        shared = [p for p in call if p.name in names]
        assert [p for p in given.values() if p.name not in own] == shared, function
    planned = inspect.signature(fastconv.plan_conv2d).parameters.keys()
    assert {p.name for p in call} - planned == {"x", "out"}, "a plan is told of them later"
