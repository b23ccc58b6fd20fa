"""Images of other numbers than the result's: converted as they are read, with the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.backends import present
from support.cases import Case, generator
from support.guard import Fence
from support.judge import assert_same_bits

import fastconv
from fastconv import calls
from fastconv.backends import native
from fastconv.dtypes import promote
from fastconv.options import resolve
from fastconv.problem import ConvProblem

Array = np.ndarray[Any, Any]

INTEGERS = ("uint8", "int8", "uint16", "int16")
#: Pixels and weights whose convolution the extension computes without a copy of the image.
PAIRS = [*itertools.product(INTEGERS, ("float32", "float64")), ("float32", "float64")]

CASES = [
    Case((17, 50), (3, 3), pad=1),
    Case((9, 131), (1, 7), pad=(0, 3), pad_mode="reflect"),
    Case((30, 7), (7, 1), pad=(3, 0), pad_mode="wrap"),
    Case((29, 67), (9, 10), pad="same", flip=True),
    Case((3, 4), (23, 23), pad="same"),
    Case((40, 90), (5, 4), stride=(3, 2), dilation=(2, 3), pad=4),
    Case((2, 3, 12, 33), (2, 3, 3, 5), pad=1, bias=True, activation="relu"),
    Case((2, 3, 13, 50), (6, 1, 13, 3), groups=3, pad=1, bias=True),
]


def draw(case: Case, pixel: str, dtype: str) -> tuple[Array, Array, Array | None]:
    rng = generator(f"{case} {pixel} {dtype}")
    if pixel == "float32":
        x = rng.standard_normal(case.x, np.float32)
    else:
        info = np.iinfo(pixel)
        x = rng.integers(info.min, info.max + 1, case.x).astype(pixel)
    w = rng.standard_normal(case.w).astype(dtype)
    return x, w, rng.standard_normal(case.w[0]).astype(dtype) if case.bias else None


def short_way(case: Case, x: Array, w: Array) -> Callable[..., Array | None]:
    """The extension's own function for these dtypes."""
    present("native")
    described = ConvProblem.describe(
        x.shape, w.shape, promotion=promote(x.dtype, w.dtype),
        bias_shape=(w.shape[0],) if case.bias else None,
        **{name: value for name, value in case.arguments.items() if name != "flip"},
    )  # fmt: skip
    options = resolve(None, None, None)
    found = native.direct(described, options, case.flip, x.dtype.name)
    assert found is not None
    return found


@pytest.mark.parametrize("pair", PAIRS, ids="*".join)
@pytest.mark.parametrize("case", [*CASES, *(c.channels_last() for c in CASES[6:])], ids=str)
def test_the_bits_are_those_of_a_converted_copy(case: Case, pair: tuple[str, str]) -> None:
    x, w, bias = draw(case, *pair)
    call = case.arguments | {"bias": bias, "backend": "native"}
    want = fastconv.conv2d(x.astype(w.dtype), w, **call)
    assert_same_bits(fastconv.conv2d(x, w, **call), want, str(case))
    y = short_way(case, x, w)(x, w, bias, None)
    assert y is not None, "declined"
    assert_same_bits(y, want, str(case))
    calls.forget()
    fastconv.conv2d(x, w, **call)
    assert_same_bits(fastconv.conv2d(x, w, **call), want, str(case))  # by the short way
    plan = fastconv.plan_conv2d(w, x.shape, x_dtype=x.dtype, **call)
    assert_same_bits(plan(x), want, str(case))
    assert_same_bits(plan(x.astype(w.dtype)), want, str(case))


@pytest.mark.parametrize("pair", PAIRS, ids="*".join)
def test_any_strides(pair: tuple[str, str]) -> None:
    case = CASES[0]
    x, w, _ = draw(case, *pair)
    want = fastconv.conv2d(x.astype(w.dtype), w, pad=1)
    way = short_way(case, x, w)
    for axes, step in itertools.product(((0, 1), (1, 0)), (1, -1, 3)):
        room = np.zeros((160, 160), x.dtype).transpose(axes)
        held = room[:: abs(step), :: abs(step)][: x.shape[0], : x.shape[1]][:: np.sign(step)]
        held = held[:, :: np.sign(step)]
        held[...] = x
        y = way(held, w, None, None)
        assert y is not None
        assert_same_bits(y, want, str(case))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("pair", PAIRS, ids="*".join)
def test_nothing_beyond_the_image_is_read(pair: tuple[str, str], side: str) -> None:
    fence = Fence(4)
    for width in (1, 2, 7, 15, 16, 17, 33, 50, 70):
        case = Case((4, width), (3, min(width, 3)), pad=1)
        x, w, _ = draw(case, *pair)
        assert short_way(case, x, w)(fence.hold(x, side), w, None, None) is not None


def test_a_result_over_the_image() -> None:
    case = CASES[0]
    x, w, _ = draw(case, "uint8", "float32")
    room = np.zeros(x.size * 4, np.uint8)
    held = room[: x.size].reshape(x.shape)
    held[...] = x
    out = room.view(np.float32).reshape(x.shape)
    want = fastconv.conv2d(x.astype(np.float32), w, pad=1)
    assert short_way(case, held, w)(held, w, None, out) is None, "it would read what it wrote"
    fastconv.conv2d(held, w, pad=1, out=out)
    assert_same_bits(out, want, str(case))


def test_pixels_that_would_be_rounded_are_left_alone() -> None:
    w = np.ones((3, 3), np.float32)
    x = np.full((9, 9), 1 + 2.0**-40)
    y = fastconv.conv2d(x, w, dtype="float32", backend="native")
    assert y.dtype == np.float32
    plan = fastconv.plan_conv2d(w, x.shape, x_dtype="float64", backend="native")
    for given in (x.astype(np.float32), x.astype(np.uint16)):  # with w: float32
        with pytest.raises(fastconv.DTypeError, match="x_dtype="):
            plan(given)
