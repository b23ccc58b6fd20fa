"""Volumes as one matrix product: the native way, planes that are left out, plans, bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import HALVES, present
from support.guard import Fence
from support.judge import assert_same_bits
from support.operators import Operands, OperatorCase

import fastconv
from fastconv import dispatch
from fastconv.backends import computes

Array = np.ndarray[Any, Any]

CASES = [
    # channels, images and planes of many sizes; batches of one plane of y and of several
    OperatorCase((1, 20, 6, 9, 10), (24, 20, 3, 3, 3), pad=1),
    OperatorCase((2, 33, 5, 7, 7), (40, 33, 3, 3, 3), pad=((0, 2), (1, 0), (2, 1))),
    OperatorCase((1, 64, 4, 14, 14), (64, 64, 3, 3, 3), pad=1),
    OperatorCase((1, 16, 9, 12, 11), (32, 16, 3, 3, 3), pad=1, stride=2),
    OperatorCase((2, 3, 11, 13, 12), (17, 3, 5, 5, 5), pad=2, stride=(2, 1, 2)),
    OperatorCase((1, 1, 9, 16, 15), (64, 1, 7, 7, 7), pad=3, stride=2),
    OperatorCase((1, 24, 7, 8, 9), (70, 12, 2, 3, 2), groups=2, pad=1, dilation=(2, 1, 2)),
    # stretches of the reduction that end within a plane of the kernel
    OperatorCase((1, 70, 4, 5, 6), (33, 70, 3, 2, 3), pad=1),
    # the kernel is deeper than the volume, and some planes of y see none of it
    OperatorCase((1, 16, 2, 5, 6), (20, 16, 5, 3, 3), pad=(4, 1, 1)),
    OperatorCase((1, 16, 2, 6, 5), (24, 16, 3, 3, 3), pad=((7, 3), 1, 1), stride=(2, 1, 1)),
    OperatorCase((1, 16, 3, 4, 4), (16, 16, 2, 1, 1), pad=((3, 4), 0, 0), dilation=(3, 1, 1)),
    # borders wider than the image
    OperatorCase((1, 32, 3, 9, 10), (32, 32, 3, 3, 3), pad=6, dilation=6),
    OperatorCase((1, 64, 3, 4, 3), (64, 64, 3, 3, 3), pad=(1, 9, 8), dilation=(1, 4, 4)),
    # one tap along some axes
    OperatorCase((2, 20, 5, 6, 7), (36, 20, 1, 1, 1)),
    OperatorCase((1, 20, 5, 6, 7), (36, 20, 3, 1, 1), pad=(1, 0, 0)),
    OperatorCase((1, 20, 5, 6, 7), (36, 20, 1, 3, 3), pad=(0, 1, 1), stride=(2, 1, 1)),
    OperatorCase((1, 16, 3, 5, 5), (16, 16, 1, 1, 1), pad=(1, 0, 0), stride=(2, 1, 1)),
    # few output channels: pixels are lanes
    OperatorCase((1, 48, 5, 9, 14), (3, 48, 3, 3, 3), pad=1),
    OperatorCase((1, 20, 4, 6, 6), (9, 20, 3, 3, 3), pad=1, flip=True),
    # one volume without a batch
    OperatorCase((18, 5, 7, 6), (24, 18, 3, 3, 3), pad=1),
]  # fmt: skip


def channels_last(case: OperatorCase) -> OperatorCase:
    order = (1, 2, 3, 0) if len(case.x) == 4 else (0, 2, 3, 4, 1)
    return case.with_(x=tuple(case.x[axis] for axis in order), last=True)


ALL = [held for case in CASES for held in (case, channels_last(case))]


def deepened(case: OperatorCase, operands: Operands) -> tuple[OperatorCase, Operands]:
    """The same convolution of a volume that holds the planes of its border."""
    pads = case.problem().pads
    axis = len(case.x) - 3 - case.last
    around = [(0, 0)] * len(case.x)
    around[axis] = pads[0]
    x = np.pad(operands.x, around)
    return case.with_(x=x.shape, pad=((0, 0), *pads[1:])), operands._replace(x=x)


def ways(case: OperatorCase, operands: Operands) -> Iterator[tuple[str, Array]]:
    """The same volume, computed in every way that must give the same bits."""
    x, w, _, bias = operands
    given: dict[str, Any] = {**case.options, "bias": bias, "backend": "native"}
    for threads in (1, 2, 5):
        yield f"{threads} threads", case.compute("y", operands, threads=threads, bias=bias)
        plan = fastconv.conv3d.plan(x.shape, w, threads=threads, **given)
        out = np.full(case.y, np.nan, case.dtype)
        yield f"plan, {threads} threads", plan(x, out=out)
    if len(case.x) == 5:
        images = np.concatenate([x, x[:1], x])
        yield "batch", fastconv.conv3d(images, w, **given)[-len(x) :]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_the_cases_are_one_matrix_product(case: OperatorCase) -> None:
    present("native")
    report = fastconv.conv3d.explain(case.x, case.w, backend="native", **case.options)
    assert report.algorithm == "im2col_gemm"
    assert computes(dispatch.load("native"), case.problem())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_every_case_is_exact_and_within_the_bound(case: OperatorCase, dtype: str) -> None:
    present("native")
    case = case.with_(dtype=dtype)
    assert case.judge("y", case.draw(exact=True), backend="native").error == 0
    case.judge("y", case.draw(), backend="native")


@pytest.mark.parametrize("case", ALL, ids=str)
def test_threads_batch_and_plans_change_no_bit(case: OperatorCase) -> None:
    present("native")
    operands = case.draw()
    want = case.compute("y", operands, backend="native", threads=1)
    for way, got in ways(case, operands):
        assert_same_bits(got, want, f"{case}: {way}")


@pytest.mark.parametrize("case", ALL, ids=str)
def test_planes_that_are_left_out_are_zeros(case: OperatorCase) -> None:
    """Also where a sum underflows to -0, which a product with a plane of zeros makes 0."""
    present("native")
    operands = case.draw()
    tiny = operands._replace(
        x=np.abs(operands.x) * np.float32(1e-30), w=-np.abs(operands.w) * np.float32(1e-30)
    )
    for held in (operands, tiny):
        deep, whole = deepened(case, held)
        want = deep.compute("y", whole, backend="native")
        assert_same_bits(case.compute("y", held, backend="native"), want, str(case))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", ALL, ids=str)
def test_zeros_of_the_border_times_infinity(case: OperatorCase, value: float) -> None:
    present("native")
    taps = case.w[2]
    for tap in {0, taps // 2, taps - 1}:
        operands = case.draw()
        operands.w[case.w[0] // 2, -1, tap, 0, -1] = value
        deep, whole = deepened(case, operands)
        want = deep.compute("y", whole, backend="native")
        assert np.isnan(want).any() or tap > 0 or not case.problem().depth.pad[0]
        for _, got in ways(case, operands):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_bias_and_activation_come_last(case: OperatorCase) -> None:
    present("native")
    operands = case.draw()
    k = case.w[0]
    bias = np.linspace(-2, 2, k, dtype=np.float32)
    sums = case.compute("y", operands, backend="native")
    shape = (k,) if case.last else (k, 1, 1, 1)
    want = np.maximum(sums + bias.reshape(shape), 0)
    got = case.compute("y", operands, backend="native", bias=bias, activation="relu")
    assert_same_bits(got, want, str(case))
    plan = fastconv.conv3d.plan(
        operands.x, operands.w, backend="native", bias=bias, activation="relu", **case.options
    )
    assert_same_bits(plan(operands.x), want, f"{case}, plan")


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", ALL[:4], ids=str)
def test_half_precision_takes_a_bias(case: OperatorCase, dtype: str) -> None:
    present("native")
    case = case.with_(dtype=dtype)
    operands = case.draw(exact=True)
    bias = np.arange(case.w[0]).astype(dtype) % 5
    got, want = (
        fastconv.conv3d(operands.x, operands.w, bias=bias, backend=backend, **case.options)
        for backend in ("native", "reference")
    )
    assert got.dtype == np.dtype(dtype)
    assert_same_bits(got, want, str(case))


def walk_fences() -> None:
    fences = [Fence(160) for _ in range(3)]
    for case in ALL:
        operands = case.draw(exact=True)
        want = case.compute("y", operands, backend="native")
        for side in ("before", "after"):
            x, w, out = (
                fence.hold(array, side)
                for fence, array in zip(fences, (operands.x, operands.w, want), strict=True)
            )
            out[...] = np.nan
            case.compute("y", operands._replace(x=x, w=w), backend="native", out=out)
            assert np.array_equal(out, want), f"{case}, fenced {side}"


FENCED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_conv3d
test_conv3d.walk_fences()
print("right")
"""

EVERY_ISA = """
import sys
sys.path.insert(0, sys.argv[1])
import test_conv3d
for number, case in enumerate(test_conv3d.ALL):
    held = case.with_(dtype=("float32", "float64")[number % 2])
    assert held.judge("y", held.draw(exact=True), backend="native").error == 0
    operands = case.draw()
    want = case.compute("y", operands, backend="native", threads=1)
    for way, got in test_conv3d.ways(case, operands):
        assert got.tobytes() == want.tobytes(), (case, way)
"""


def here() -> str:
    return __file__.rpartition("/")[0]


def test_nothing_is_read_or_written_beyond_the_arrays() -> None:
    present("native")
    assert processes.run(FENCED, here()).strip() == "right"


def test_every_instruction_set() -> None:
    present("native")
    processes.run_on_every_isa(EVERY_ISA.replace("sys.argv[1]", repr(here())))


def test_refused_memory_is_an_error() -> None:
    present("native")
    from fastconv import _native  # type: ignore[attr-defined]

    case = CASES[0]
    operands = case.draw()
    _native.fail_next_allocations(1)
    with pytest.raises(MemoryError):
        case.compute("y", operands, backend="native")
    case.judge("y", operands, backend="native")


def test_scratch_does_not_grow_with_the_volume() -> None:
    present("native")
    small, large = (
        fastconv.conv3d.explain((1, 32, d, 64, 64), (32, 32, 3, 3, 3), pad=1, backend="native")
        for d in (8, 512)
    )
    assert large.scratch_bytes <= 2 * small.scratch_bytes
    assert large.scratch_bytes < 16 << 20
