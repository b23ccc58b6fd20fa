"""The native depthwise algorithm: every type, register tile, border, stride and layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import guard, processes
from support.backends import FLOATS, HALVES, present
from support.cases import Arrays, Case, draw
from support.judge import (
    assert_same_bits,
    compute,
    judge,
    judge_determinism,
    judge_special_values,
    on,
    verdict,
)

import fastconv

INTEGERS = ("int8", "uint8", "int16", "uint16")
DTYPES = (*FLOATS, *HALVES, *INTEGERS)
LAYOUTS = ("NCHW", "NHWC")


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
#: Biases and activations of whole vectors of channels, and of the last ones.
FINISHED = [
    case(c, 9, 10, 3, 3, pad=1, bias=True, activation=activation)
    for c, activation in itertools.product((16, 41), ("relu6", "tanh"))
]


def typed(shape: Case, dtype: str, layout: str = "NCHW") -> Case:
    held = shape.with_(dtype=dtype)
    if dtype in INTEGERS and shape.activation in ("silu", "tanh"):
        held = held.with_(activation="relu6")
    return held.channels_last() if layout == "NHWC" else held


def planned(held: Case, arrays: Arrays) -> fastconv.Plan:
    return fastconv.plan_conv2d(
        arrays.w, arrays.x.shape, bias=arrays.bias, x_dtype=arrays.x.dtype, backend="native",
        **held.arguments,
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES + ODD + FINISHED, ids=str)
def test_every_tile_is_within_the_bound(shape: Case, dtype: str, layout: str) -> None:
    held = typed(shape, dtype, layout)
    for family in ("integers",) if dtype in INTEGERS else ("integers", "spread"):
        judge(on("native"), held, family)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [SHAPES[3], SHAPES[9], ODD[0], ODD[3], FINISHED[3]], ids=str)
def test_same_bits_for_threads_batch_and_plans(shape: Case, dtype: str) -> None:
    for layout in LAYOUTS:
        held = typed(shape, dtype, layout)
        arrays = draw(held, "integers" if dtype in INTEGERS else "spread")
        judge_determinism(on("native"), held, arrays)
        plan = planned(held, arrays)
        assert plan.explain().algorithm == "depthwise"
        assert_same_bits(plan(arrays.x), compute(on("native"), held, arrays), f"{held}: plan")


@pytest.mark.parametrize("dtype", HALVES)
def test_fast_floats_of_16_bits_are_the_same(dtype: str) -> None:
    """Pairs of channels, which precision="fast" multiplies as they are, are none here."""
    for layout in LAYOUTS:
        held = typed(FINISHED[1], dtype, layout)
        arrays = draw(held, "normal")
        fast = on("native", precision="fast")
        assert_same_bits(compute(fast, held, arrays), compute(on("native"), held, arrays), layout)
        report = fastconv.explain(
            *arrays[:2], bias=arrays.bias, backend="native", precision="fast", **held.arguments
        )
        assert report.algorithm == "depthwise"


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides_of_memory(dtype: str) -> None:
    """Lanes that are apart in x, in y, or in both, and channels that are but not their pixels."""
    held = typed(case(18, 11, 19, 3, 3, pad=1, bias=True), dtype)
    arrays = draw(held, "integers")
    want = compute(on("native"), held, arrays)
    for order in ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)):
        back = np.argsort(order)
        x = np.repeat(arrays.x.transpose(order), 2, axis=3)[..., ::2].transpose(back)
        together = np.ascontiguousarray(arrays.x[:, :, ::-1].transpose(order)).transpose(back)
        for image, step in itertools.product((x, together[:, :, ::-1]), (1, 2)):
            shape = [want.shape[axis] for axis in order]
            room = np.zeros([*shape[:3], shape[3] * step], want.dtype)
            out = room[..., ::step].transpose(back)
            fastconv.conv2d(
                image, arrays.w[::-1].copy()[::-1], bias=arrays.bias, out=out, backend="native",
                **held.arguments,
            )  # fmt: skip
            assert_same_bits(np.ascontiguousarray(out), want, f"{order} {step}")
            assert np.count_nonzero(room) <= want.size


@pytest.mark.parametrize("dtype", [*HALVES, *INTEGERS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_beyond_the_operands_is_touched(dtype: str, layout: str) -> None:
    shapes = [case(c, 3, q, 3, 3, pad=1, bias=True) for c, q in ((1 + 1, 7), (9, 17), (33, 40))]
    shapes += [SHAPES[5], SHAPES[14], SHAPES[19], *ODD, *FINISHED]
    fences = [guard.Fence(16) for _ in range(4)]
    for shape in shapes:
        held = typed(shape, dtype, layout)
        arrays = draw(held, "integers")
        want = compute(on("native"), held, arrays)
        plan = planned(held, arrays)
        for side in ("before", "after"):
            x, w, bias = (
                None if a is None else fence.hold(a, side)
                for a, fence in zip(arrays, fences[:3], strict=True)
            )
            out = fences[3].hold(np.full_like(want, 77), side)
            fastconv.conv2d(x, w, bias=bias, out=out, backend="native", **held.arguments)
            assert_same_bits(out, want, f"{held}, fenced {side}")
            out = fences[3].hold(np.full_like(want, 77), side)
            plan(x, out=out)
            assert_same_bits(out, want, f"{held}, planned, fenced {side}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_sums_of_extreme_integers_wrap_around(dtype: str, layout: str) -> None:
    info = np.iinfo(dtype)
    for value, weight in itertools.product((info.min, info.max), repeat=2):
        for taps in (3, 4, 9):
            held = typed(case(19, 9, 20, taps, taps), dtype, layout)
            x, w = np.full(held.x, value, dtype), np.full(held.w, weight, dtype)
            total = (taps * taps * int(value) * int(weight) + 2**31) % 2**32 - 2**31
            assert (compute(on("native"), held, Arrays(x, w, None)) == total).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_not_finite_stays_where_it_belongs(dtype: str, layout: str) -> None:
    for shape, value in itertools.product((SHAPES[2], SHAPES[3], ODD[1]), (np.inf, np.nan)):
        held = typed(shape, dtype, layout)
        arrays = draw(held, "normal")
        for array, where in ((arrays.x, (0, -1, -1, -1)), (arrays.w, (0, 0, 0, -1))):
            changed = arrays._replace(**{"x" if array is arrays.x else "w": array.copy()})
            (changed.x if array is arrays.x else changed.w)[where] = value
            judge_special_values(on("native"), held, changed)


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_are_rounded_once(dtype: str) -> None:
    """Of 1 + tiny - 1 what float32 keeps is left; a bias of 16 bits counts like a product."""
    held = typed(case(33, 5, 40, 3, 1, bias=True), dtype)
    tiny = 2.0**-20
    column = np.array([1, tiny, -1], np.float32).reshape(1, 1, 3, 1)
    w = np.broadcast_to(column, held.w).astype(dtype)
    arrays = Arrays(np.ones(held.x, dtype), w, np.full(held.w[0], tiny, dtype))
    for one in (held, held.channels_last()):
        x = np.ones(one.x, dtype)
        got = compute(on("native"), one, arrays._replace(x=x))
        assert verdict(one, arrays._replace(x=x), got).ok
        assert (got == np.asarray(2 * tiny, dtype)).all()


def test_a_dropped_tap_is_noticed() -> None:
    def without_a_tap(x: np.ndarray, w: np.ndarray, **arguments: object) -> object:
        w = w.copy()
        w[:, :, -1, -1] = 0
        return fastconv.conv2d(x, w, backend="native", **arguments)

    for dtype in DTYPES:
        with pytest.raises(AssertionError):
            judge(without_a_tap, typed(SHAPES[1], dtype), "integers")


FAMILY = """
import test_depthwise as tests
for dtype in tests.DTYPES:
    tests.test_any_strides_of_memory(dtype)
    for shape in (tests.SHAPES[3], tests.ODD[0]):
        tests.test_same_bits_for_threads_batch_and_plans(shape, dtype)
    for layout in tests.LAYOUTS:
        for shape in tests.SHAPES[::5] + tests.ODD + tests.FINISHED:
            tests.test_every_tile_is_within_the_bound(shape, dtype, layout)
        if dtype in tests.HALVES:
            tests.test_what_is_not_finite_stays_where_it_belongs(dtype, layout)
        if dtype in tests.INTEGERS:
            tests.test_sums_of_extreme_integers_wrap_around(dtype, layout)
        if dtype not in tests.FLOATS:
            tests.test_nothing_beyond_the_operands_is_touched(dtype, layout)
for dtype in tests.HALVES:
    tests.test_sums_are_rounded_once(dtype)
"""


def test_every_instruction_set() -> None:
    processes.run_on_every_isa(FAMILY)
