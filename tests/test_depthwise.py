"""The native depthwise algorithm: every register tile, border, stride and layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.backends import FLOATS, present
from support.cases import Case, draw
from support.judge import assert_same_bits, compute, judge, judge_determinism, on

import fastconv


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


def case(c: int, h: int, w: int, r: int, s: int, multiplier: int = 1, **options: object) -> Case:
    return Case((2, c, h, w), (c * multiplier, 1, r, s), groups=c, **options)


SHAPES = [
    case(c, h, w, r, r, stride=stride, pad=r // 2)
    for (c, h, w), r, stride in itertools.product(
        [(3, 7, 7), (17, 14, 14), (2, 29, 33), (33, 5, 71)], (3, 5, 7), (1, 2)
    )
]
ODD = [
    case(5, 13, 18, 3, 3, 2, stride=2, pad=((0, 2), (1, 0)), bias=True, activation="relu"),
    case(4, 9, 40, 3, 3, stride=(2, 1), pad=1, pad_mode="reflect", bias=True),
    case(4, 40, 9, 3, 3, stride=(1, 2), pad=2, pad_mode="wrap"),
    # a border on the right alone, which even and odd columns picked in registers would miss
    case(5, 16, 16, 3, 3, stride=2, pad=((0, 1), (0, 1)), pad_mode="edge"),
    case(3, 8, 70, 3, 3, stride=2, pad=((1, 0), (0, 1)), pad_mode="reflect"),
    case(6, 12, 11, 5, 3, stride=3, pad="same", pad_mode="edge", activation="silu"),
    case(6, 15, 16, 3, 3, dilation=2, pad=2, pad_mode="symmetric"),
    case(7, 1, 9, 1, 7, 3, pad="same"),
    case(7, 9, 1, 7, 1, pad="same", flip=True),
    case(3, 3, 3, 5, 5, pad=6),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES + ODD, ids=str)
def test_every_tile_is_within_the_bound(shape: Case, dtype: str, layout: str) -> None:
    held = shape.with_(dtype=dtype)
    held = held.channels_last() if layout == "NHWC" else held
    for family in ("integers", "spread"):
        judge(on("native"), held, family)


@pytest.mark.parametrize("shape", [SHAPES[3], SHAPES[9], ODD[0], ODD[3]], ids=str)
def test_same_bits_for_threads_batch_and_plans(shape: Case) -> None:
    for held in (shape, shape.channels_last()):
        arrays = draw(held, "spread")
        judge_determinism(on("native"), held, arrays)
        plan = fastconv.plan_conv2d(
            arrays.w, arrays.x.shape, bias=arrays.bias, backend="native", **held.arguments
        )
        assert plan.explain().algorithm == "depthwise"
        assert_same_bits(plan(arrays.x), compute(on("native"), held, arrays), f"{held}: plan")


def test_a_dropped_tap_is_noticed() -> None:
    held = SHAPES[1]

    def without_a_tap(x: np.ndarray, w: np.ndarray, **arguments: object) -> object:
        w = w.copy()
        w[:, :, -1, -1] = 0
        return fastconv.conv2d(x, w, backend="native", **arguments)

    with pytest.raises(AssertionError):
        judge(without_a_tap, held, "integers")
