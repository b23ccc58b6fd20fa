"""Taps that meet only the zeros of a constant border: the implicit GEMM leaves them out, and its
results are those of the full sum, which an image that holds its border has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.cases import Arrays, Case, draw
from support.guard import Fence
from support.judge import assert_same_bits, judge_special_values, on

import fastconv

Array = np.ndarray[Any, Any]

CASES = [
    # two rows of y in a tile, whole rows, rows in pieces, one column and one row
    Case((1, 64, 7, 7), (64, 64, 3, 3), pad=1),
    Case((1, 64, 7, 7), (40, 64, 3, 3), pad=((0, 1), (1, 0)), bias=True),
    Case((1, 64, 14, 14), (64, 64, 3, 3), pad=1),
    Case((1, 64, 14, 14), (48, 64, 3, 3), pad=1, stride=2),
    Case((1, 130, 13, 13), (65, 130, 3, 3), pad=1, activation="relu"),
    Case((1, 72, 28, 28), (96, 72, 3, 3), pad=1),
    Case((1, 64, 40, 1), (64, 64, 5, 1), pad=(2, 0)),
    Case((1, 64, 1, 60), (64, 64, 1, 3), pad=(0, 1)),
    # several pixels of a row see the border through one tap
    Case((1, 64, 9, 9), (64, 64, 5, 5), pad=2),
    Case((1, 48, 8, 7), (64, 48, 7, 7), pad=3),
    Case((1, 40, 33, 33), (64, 40, 3, 3), pad=12, dilation=12),
    Case((1, 64, 10, 11), (64, 64, 3, 3), pad=6, dilation=6),
    Case((1, 66, 12, 40), (70, 33, 4, 2), groups=2, pad=((2, 5), (4, 1)), stride=(3, 2)),
    # the border is wider than the image, and some pixels see nothing else
    Case((1, 64, 3, 2), (64, 64, 3, 3), pad=((17, 4), (30, 3)), bias=True),
    Case((1, 64, 5, 5), (64, 64, 2, 3), pad=9, stride=2, dilation=3),
    # taps step over a narrow image
    Case((1, 64, 2, 1), (64, 64, 3, 3), pad=((9, 3), (7, 5)), dilation=4),
    # few output channels: pixels are lanes
    Case((1, 48, 14, 14), (10, 48, 3, 3), pad=1),
]
ALL = [case for case in CASES for case in (case, case.channels_last())]
NO_PAD = ((0, 0), (0, 0))


def with_border(case: Case, x: Array) -> tuple[Case, Array]:
    """The same problem with the border in the image."""
    down, across = case.problem.pad
    last = case.layout == "NHWC"
    pads = [(0, 0), down, across, (0, 0)] if last else [(0, 0), (0, 0), down, across]
    held = np.pad(x, pads)
    return case.with_(x=held.shape, pad=NO_PAD), held


def ways(case: Case, arrays: Arrays) -> Iterator[tuple[str, Array]]:
    """The convolution of one image, computed in every way that must give the same bits."""
    x, w, bias = arrays
    every: dict[str, Any] = dict(case.arguments, bias=bias, backend="native")
    for threads in (1, 3):
        yield f"call, {threads} threads", fastconv.conv2d(x, w, threads=threads, **every)
        plan = fastconv.plan_conv2d(w, x.shape, threads=threads, **every)
        out = np.full_like(plan(x), np.nan)
        yield f"plan, {threads} threads", plan(x, out=out)
        images = np.concatenate([x, x])
        yield f"batch, {threads} threads", fastconv.conv2d(images, w, threads=threads, **every)[1:]


def judge_full_sum(case: Case, arrays: Arrays) -> None:
    full, held = with_border(case, arrays.x)
    want = fastconv.conv2d(held, arrays.w, bias=arrays.bias, backend="native", **full.arguments)
    for way, got in ways(case, arrays):
        assert_same_bits(got, want, f"{case}: {way}")


@pytest.mark.parametrize("case", ALL, ids=str)
def test_the_cases_are_taken(case: Case) -> None:
    present("native")
    full, _ = with_border(case, np.empty(case.x))
    for held in (case, full):
        report = fastconv.explain(held.x, held.w, backend="native", bias=None, **held.arguments)
        assert report.algorithm == "im2col_gemm"


@pytest.mark.parametrize("case", ALL, ids=str)
def test_results_are_those_of_the_full_sum(case: Case) -> None:
    present("native")
    for dtype in ("float32", "float64"):
        held = case.with_(dtype=dtype)
        judge_full_sum(held, draw(held, "normal"))


def walk_full_sums() -> None:
    for case in ALL:
        judge_full_sum(case, draw(case, "normal"))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_sums_that_underflow_end_as_the_full_sum(case: Case) -> None:
    """A negative product that underflows makes a sum -0, the next product of the border 0."""
    present("native")
    arrays = draw(case, "normal")
    tiny = Arrays(arrays.x * np.float32(1e-30), arrays.w * np.float32(1e-30), arrays.bias)
    judge_full_sum(case, tiny)
    judge_full_sum(case, Arrays(np.abs(tiny.x), -np.abs(tiny.w), arrays.bias))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_weights_that_are_not_finite(case: Case) -> None:
    """0 * inf is NaN: no tap may be left out, whichever way the weights are read."""
    present("native")
    case = case.with_(activation=None)
    r, s = case.w[2:]
    corners = itertools.product((0, r - 1), (0, s - 1))
    for value, (row, column) in zip((np.nan, -np.inf, -np.inf, np.nan), corners, strict=True):
        arrays = draw(case, "normal")
        arrays.w[case.w[0] // 2, -1, row, column] = value
        judge_full_sum(case, arrays)
        judge_special_values(on("native"), case, arrays)


def test_weights_that_are_not_finite_in_one_of_many_places() -> None:
    """Found wherever they are: packed before, in parts, and read in place."""
    present("native")
    for case in (CASES[0].with_(w=(70, 64, 3, 3)), CASES[3]):
        for held in (case, case.channels_last()):
            x, w, bias = draw(held, "normal")
            for position in range(0, w.size, 997):
                spoiled = w.copy()
                spoiled.flat[position] = np.inf
                judge_full_sum(held, Arrays(x, spoiled, bias))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_little_scratch(case: Case) -> None:
    present("native")
    arrays = draw(case, "normal")
    want = fastconv.conv2d(arrays.x, arrays.w, bias=arrays.bias, backend="native", **case.arguments)
    for workspace in (1 << 16, 1 << 19, 1 << 21):
        with fastconv.options(workspace=workspace):
            for way, got in ways(case, arrays):
                assert_same_bits(got, want, f"{case}: {way}, {workspace} bytes")


GUARDED = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_border_taps import walk_guarded
walk_guarded()
print("sound")
"""
FULL_SUMS = GUARDED.replace("walk_guarded", "walk_full_sums")


def walk_guarded() -> None:
    """Every case with its arrays flush against forbidden pages, at either end."""
    fences = [Fence(256) for _ in range(2)]
    for case, side in itertools.product(ALL, ("before", "after")):
        x, w, bias = draw(case, "normal")
        held = Arrays(fences[0].hold(x, side), fences[1].hold(w, side), bias)
        judge_full_sum(case, held)


def here() -> str:
    return str(Path(__file__).parent)


def test_nothing_outside_of_the_arrays_is_read() -> None:
    present("native")
    assert processes.run(GUARDED, here()).strip() == "sound"


@pytest.mark.parametrize("isa", ["baseline", "avx2", "neon"])
def test_other_instruction_sets(isa: str) -> None:
    present("native")
    if isa not in fastconv.show_config("dict")["native"]["compiled for"].split():
        pytest.skip(f"not compiled for {isa}")
    answer = processes.run(FULL_SUMS, here(), environment={"FASTCONV_ISA": isa})
    assert answer.strip() == "sound"
