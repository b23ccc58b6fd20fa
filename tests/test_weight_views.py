"""Weights in every order of axes, in both directions, with gaps: packing sees only their memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.cases import Case, draw
from support.guard import Fence
from support.judge import assert_same_bits

import fastconv

Array = np.ndarray[Any, Any]

# odd numbers of channels and outputs, a whole vector and a half, one lane, one step; several blocks
# of the reduction; more outputs than a panel
CASES = [
    Case((1, 21, 7, 7), (37, 21, 3, 3), pad=1),
    Case((1, 70, 7, 7), (33, 70, 3, 3), pad=1),
    Case((1, 67, 5, 6), (49, 67, 1, 1)),
    Case((1, 9, 6, 9), (40, 9, 2, 5), pad=(1, 2)),
    Case((1, 3, 9, 9), (17, 3, 7, 7), pad=3),
    Case((1, 260, 4, 3), (65, 260, 2, 2), pad=1),
    # few outputs: pixels are lanes, weights rows
    Case((1, 21, 9, 9), (5, 21, 3, 3), pad=1),
]

# weights enough that a call packs them first, channels last: parts of panels, groups
BATCHES = [
    Case((8, 200, 9, 9), (153, 200, 3, 3), pad=1),
    Case((9, 320, 7, 7), (190, 160, 3, 3), pad=1, groups=2, bias=True),
    Case((8, 100, 8, 8), (110, 100, 5, 5), pad=2),
]
MANY = [case for case in BATCHES for case in (case.channels_last(), case)]
ALL = [case for case in CASES for case in (case, case.channels_last())]

#: Elements from one index to the next along the innermost axes in memory.
GAPS = ((1, 1, 1, 1), (2, 1, 1, 1), (2, 2, 1, 1), (3, 1, 1, 1))
SIGNS = ((1, 1, 1, 1), (1, 1, -1, -1), (-1, 1, 1, -1), (-1, -1, -1, -1))


def hold(w: Array, order: tuple[int, ...], sign: tuple[int, ...], gap: tuple[int, ...]) -> Array:
    """Return the memory of a copy of w with its axes in this order, NaN between its elements."""
    sizes = [
        (w.shape[axis] - 1) * step + 1 for axis, step in zip(order, reversed(gap), strict=True)
    ]
    memory = np.full(sizes, np.nan, w.dtype)
    view(memory, order, sign, gap)[...] = w
    return memory


def view(
    memory: Array, order: tuple[int, ...], sign: tuple[int, ...], gap: tuple[int, ...]
) -> Array:
    """Return the weights in what `hold` made."""
    steps = tuple(slice(None, None, step) for step in reversed(gap))
    turned = tuple(slice(None, None, step) for step in sign)
    return memory[steps].transpose(np.argsort(order))[turned]


def forms(every: bool) -> Iterator[tuple[Any, Any, Any]]:
    """Orders of axes, signs and gaps: those of gradients and phases, or all of them."""
    if every:
        yield from itertools.product(itertools.permutations(range(4)), SIGNS, GAPS)
    else:
        orders = ((1, 0, 2, 3), (0, 2, 3, 1), (2, 3, 1, 0))
        yield from itertools.product(orders, SIGNS[1:3], GAPS)


def check_forms(case: Case, every: bool, fence: Fence | None = None) -> None:
    x, w, _ = draw(case, "normal")
    arguments: dict[str, Any] = dict(case.arguments, backend="native", threads=1)
    want = fastconv.conv2d(x, w, **arguments)
    out = np.empty_like(want)
    for order, sign, gap in forms(every):
        memory = hold(w, order, sign, gap)
        for side in ("before", "after"):
            room = memory if fence is None else fence.hold(memory, side)
            weights = view(room, order, sign, gap)
            out.fill(np.nan)
            fastconv.conv2d(x, weights, out=out, **arguments)
            assert_same_bits(out, want, f"{case}: {order}, {sign}, {gap}")
            if fence is None:
                break
        plan = fastconv.plan_conv2d(weights, x.shape, **arguments)
        assert_same_bits(plan(x), want, f"{case}, plan: {order}, {sign}, {gap}")


@pytest.mark.parametrize("case", ALL, ids=str)
def test_every_order_sign_and_gap(case: Case) -> None:
    present("native")
    check_forms(case, every=True)
    check_forms(case.with_(dtype="float64"), every=False)


@pytest.mark.parametrize("case", ALL[:4], ids=str)
def test_a_weight_that_is_not_finite_meets_the_border(case: Case) -> None:
    """0 * inf is NaN: packing finds every such weight, and no other."""
    present("native")
    x, w, _ = draw(case, "integers")
    generator = np.random.default_rng(5)
    for order, sign, gap in forms(every=False):
        where = tuple(int(generator.integers(size)) for size in w.shape)
        spoilt = w.copy()
        spoilt[where] = generator.choice([np.inf, -np.inf, np.nan])
        want = fastconv.conv2d(x, spoilt, backend="reference", **case.arguments)
        assert not np.isfinite(want).all()
        weights = view(hold(spoilt, order, sign, gap), order, sign, gap)
        plan = fastconv.plan_conv2d(weights, x.shape, backend="native", **case.arguments)
        for got in (
            fastconv.conv2d(x, weights, backend="native", **case.arguments),
            plan(x),
        ):
            assert np.array_equal(got, want, equal_nan=True), f"{where}: {order}, {sign}, {gap}"


@pytest.mark.parametrize("case", MANY, ids=str)
def test_calls_of_many_images_pack_once(case: Case) -> None:
    """The bits of each image alone and of a plan, for any threads, workspace and view."""
    present("native")
    x, w, bias = draw(case, "normal")
    arguments: dict[str, Any] = dict(case.arguments, bias=bias, backend="native")
    each = [fastconv.conv2d(x[i : i + 1], w, **arguments) for i in range(len(x))]
    want = np.concatenate(each)
    assert_same_bits(fastconv.plan_conv2d(w, x.shape, **arguments)(x), want, f"{case}, plan")
    reports = [fastconv.explain(x[:n], w, threads=2, **case.arguments) for n in (1, len(x))]
    assert reports[1].algorithm == "im2col_gemm"
    if case.layout == "NHWC":
        assert reports[1].scratch_bytes > w.nbytes, "weights are packed first"
    out = np.empty_like(want)
    turned = view(hold(w, (1, 0, 2, 3), (1, 1, -1, -1), (1, 1, 1, 1)), (1, 0, 2, 3),
                  (1, 1, -1, -1), (1, 1, 1, 1))  # fmt: skip
    for threads, weights, workspace in itertools.product(
        (1, 2, 5), (w, turned), (8 << 20, 1 << 16)
    ):
        with fastconv.options(workspace=workspace):
            out.fill(np.nan)
            fastconv.conv2d(x, weights, out=out, threads=threads, **arguments)
            assert_same_bits(out, want, f"{case}: {threads} threads, {workspace} bytes")


@pytest.mark.parametrize("case", MANY, ids=str)
def test_calls_of_many_images_find_weights_that_are_not_finite(case: Case) -> None:
    present("native")
    x, w, _ = draw(case, "integers")
    for where in ((0, 0, 0, 0), tuple(size - 1 for size in w.shape)):
        spoilt = w.copy()
        spoilt[where] = np.inf
        got = fastconv.conv2d(x, spoilt, backend="native", threads=2, **case.arguments)
        for i in range(len(x)):
            want = fastconv.conv2d(x[i : i + 1], spoilt, backend="native", **case.arguments)
            assert np.array_equal(got[i : i + 1], want, equal_nan=True), f"{case}, {where}"


def test_refused_scratch_of_packed_weights() -> None:
    present("native")
    from fastconv import _native

    x, w, _ = draw(MANY[0], "normal")
    want = fastconv.conv2d(x, w, backend="native", **MANY[0].arguments)
    _native.fail_next_allocations(1)
    try:
        with pytest.raises(MemoryError):
            fastconv.conv2d(x, w, backend="native", **MANY[0].arguments)
    finally:
        _native.fail_next_allocations(0)
    got = fastconv.conv2d(x, w, backend="native", **MANY[0].arguments)
    assert_same_bits(got, want, "after a refusal")


GUARDED = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from support.guard import Fence
from test_weight_views import ALL, check_forms
fence = Fence(600)
for case in ALL:
    check_forms(case, False, fence)
    check_forms(case.with_(dtype="float64"), False, fence)
print("sound")
"""


def paths() -> list[str]:
    return [str(Path(__file__).parent)]


def test_nothing_outside_of_the_weights_is_read() -> None:
    present("native")
    assert processes.run(GUARDED, *paths()).strip() == "sound"


@pytest.mark.parametrize("isa", ["baseline", "avx2", "neon"])
def test_other_instruction_sets(isa: str) -> None:
    present("native")
    facts = fastconv.show_config("dict")["native"]
    if isa not in facts["compiled for"].split():
        pytest.skip(f"not compiled for {isa}")
    answer = processes.run(GUARDED, *paths(), environment={"FASTCONV_ISA": isa})
    assert answer.strip() == "sound"
