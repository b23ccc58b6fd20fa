"""The native gradient of x: every phase of every stride, both layouts, and the same bits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.guard import Fence
from support.judge import THREADS, assert_same_bits
from support.operators import OperatorCase

import fastconv
from fastconv.backends import native

Array = np.ndarray[Any, Any]
FLOATS = ("float32", "float64")
LAYOUTS = (False, True)  # channels last


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


def dense(c: int, k: int, h: int, w: int, r: int, s: int, **options: Any) -> OperatorCase:
    return OperatorCase((options.pop("n", 2), c, h, w), (k, c, r, s), **options)


def grouped(groups: int, c: int, k: int, size: int, r: int, **options: Any) -> OperatorCase:
    """Groups of c input and k output channels."""
    shape = (groups * k, c, r, r)
    return OperatorCase((2, groups * c, size, size + 3), shape, groups=groups, **options)


CASES = [
    dense(32, 64, 29, 31, 3, 3, stride=2, pad=1),  # phases of 1, 2, 2 and 4 taps, odd sizes
    dense(48, 40, 28, 30, 3, 3, stride=2, pad=1),  # even sizes: an output padding of 1
    dense(40, 33, 14, 14, 4, 4, stride=2, pad=1),  # as generators do it
    dense(33, 40, 16, 18, 2, 2, stride=2),  # kernel == stride: no two pixels meet
    dense(48, 20, 15, 16, 1, 1, stride=2),  # three of four phases meet no taps
    dense(300, 34, 14, 14, 1, 1, stride=2, n=1),  # tiles reach over several rows of gx
    dense(20, 600, 9, 10, 3, 3, stride=2, pad=1, n=1),  # sums that are stored half done
    dense(70, 530, 9, 10, 1, 1, stride=2, n=1),
    dense(6, 300, 11, 9, 3, 3, stride=(1, 2), pad=1, n=1),
    dense(3, 64, 40, 44, 7, 7, stride=2, pad=3, n=1),  # few channels, as of images
    dense(3, 20, 32, 32, 4, 4, stride=2, pad=1),
    dense(1, 9, 21, 20, 5, 5, stride=2, pad=2),
    dense(20, 12, 17, 22, 2, 2, stride=3),  # strides beyond the kernel
    dense(17, 12, 17, 22, 1, 2, stride=(3, 4), pad=(0, 1)),
    dense(16, 12, 19, 22, 3, 3, stride=4, dilation=2, pad=2),  # common divisors: rows without taps
    dense(16, 12, 19, 22, 3, 2, stride=6, dilation=4, pad=3),
    dense(16, 12, 19, 22, 3, 3, stride=2, dilation=2, pad=1),
    dense(16, 24, 12, 13, 3, 3, stride=2, dilation=3, pad=3),
    dense(16, 24, 9, 9, 3, 3, pad=5),  # gradients that begin inside of gy
    dense(16, 24, 9, 8, 3, 3, stride=2, pad=6),
    dense(16, 24, 23, 20, 3, 3, stride=5, pad=((0, 3), (2, 0))),
    dense(24, 32, 12, 12, 3, 3, pad=1),  # one phase
    dense(40, 64, 7, 7, 1, 1),
    # channels of whole panels, few pixels: the taps of all phases are packed together
    dense(64, 20, 14, 15, 3, 3, stride=2, pad=1),
    dense(128, 33, 9, 10, 4, 4, stride=2, pad=1),
    dense(64, 70, 8, 10, 2, 2, stride=2),
    dense(192, 24, 9, 7, 3, 3, pad=1),
    dense(64, 24, 13, 12, 3, 3, stride=2, pad=2, dilation=2),  # one of four phases has taps
    dense(64, 300, 20, 21, 3, 3, stride=3, pad=1, n=1),
    dense(128, 24, 4, 3, 3, 3, stride=3, pad=1),  # a phase of taps without pixels
    # kernels side by side: rows of a product are taps, whose tiles begin with either of a pair
    dense(32, 530, 10, 72, 2, 2, stride=2, n=1),
    dense(7, 20, 12, 22, 3, 2, stride=(3, 2)),
    dense(13, 300, 5, 66, 1, 2, stride=(1, 2), n=1),
    dense(9, 24, 40, 32, 2, 2, stride=2),
    grouped(4, 8, 16, 12, 3, stride=2, pad=1),
    grouped(3, 8, 1, 9, 3, stride=2, pad=1),
    grouped(3, 1, 4, 9, 3, stride=2, pad=1),
    grouped(20, 1, 1, 14, 3, stride=2, pad=1),
    grouped(20, 1, 1, 9, 1, stride=2),
    grouped(4, 2, 2, 9, 5, stride=1, pad=2, dilation=2),
]


def judge(case: OperatorCase, **options: Any) -> None:
    """Integers exactly, others within their bound, into an `out` full of NaN."""
    operands = case.draw(exact=True)
    got = case.compute("x", operands, backend="native", **options)
    want = case.compute("x", operands, backend="reference")
    assert np.array_equal(got, want), f"{case}: not exact"
    case.judge("x", case.draw(), backend="native", **options)


def variants(case: OperatorCase, last: bool, dtype: str) -> OperatorCase:
    n, c, h, w = case.x
    return case.with_(x=(n, h, w, c) if last else case.x, last=last, dtype=dtype)


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_definition(case: OperatorCase, dtype: str, last: bool) -> None:
    case = variants(case, last, dtype)
    assert native.computes(case.problem("x"))
    judge(case)


EVERY_ISA = """
from test_input_grad import CASES, judge, variants
for number, case in enumerate(CASES):
    for last in (False, True):
        judge(variants(case, last, ("float32", "float64")[(number + last) % 2]))
"""


def test_every_instruction_set() -> None:
    processes.run_on_every_isa(EVERY_ISA)


def transposed(case: OperatorCase, dtype: str, **options: Any) -> tuple[Array, Array, Array, dict]:
    """Operands of a transposed convolution that makes images of the case's shape."""
    case = case.with_(dtype=dtype)
    operands = case.draw()
    image = [i for i, axis in enumerate(case.layout) if axis in "HW"]
    sizes = tuple(case.x[i] for i in image)
    given = {
        "stride": case.stride, "pad": case.pad, "dilation": case.dilation, "groups": case.groups,
        "layout": case.layout, **options,
    }  # fmt: skip
    bias = np.random.default_rng(3).standard_normal(case.images(operands.x).shape[1])
    smallest = fastconv.conv_transpose2d.output_shape(operands.gy, operands.w, **given)
    given["output_padding"] = tuple(
        size - smallest[i] for size, i in zip(sizes, image, strict=True)
    )
    return operands.gy, operands.w, bias.astype(dtype), given


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("activation", [None, "sigmoid", "relu"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bias_and_activation_reach_every_pixel(
    case: OperatorCase, activation: str | None, last: bool
) -> None:
    case = variants(case, last, "float64")
    if np.any(np.array(case.pad) > 4):
        pytest.skip("negative output paddings")
    x, w, bias, options = transposed(case, "float64", activation=activation)
    want = fastconv.conv_transpose2d(x, w, bias=bias, backend="reference", **options)
    assert want.shape == case.x
    out = np.full_like(want, np.nan)
    fastconv.conv_transpose2d(x, w, bias=bias, backend="native", out=out, **options)
    assert np.allclose(out, want, rtol=1e-11, atol=1e-11), f"{case}"
    plan = fastconv.conv_transpose2d.plan(x, w, bias=bias, backend="native", **options)
    assert_same_bits(plan(x), out, f"{case}, plan")


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_for_threads_batches_and_plans(case: OperatorCase, last: bool) -> None:
    case = variants(case, last, "float32")
    operands = case.draw()
    want = case.compute("x", operands, backend="native", threads=1)
    for threads in THREADS:
        got = case.compute("x", operands, backend="native", threads=threads)
        assert_same_bits(got, want, f"{case}, {threads} threads")
    # eight images and more have their weights packed first
    many = case.with_(x=(8, *case.x[1:]))
    images = operands._replace(gy=np.concatenate([operands.gy] * 8)[-8:])
    images = images._replace(x=np.empty(many.x, "f4"))
    got = many.compute("x", images, backend="native", threads=2)
    assert_same_bits(got[-min(2, len(want)) :], want[-2:], f"{case}, eight images")
    with fastconv.options(workspace=1 << 16):
        small = case.compute("x", operands, backend="native", threads=2)
    assert_same_bits(small, want, f"{case}, a small workspace")
    one = case.with_(x=(1, *case.x[1:]))
    first = operands._replace(x=operands.x[:1], gy=operands.gy[:1])
    assert_same_bits(one.compute("x", first, backend="native"), want[:1], f"{case}, one image")
    plan = fastconv.conv2d_input_grad.plan(
        case.x, operands.w, case.y, backend="native", threads=2, **case.options
    )
    for _ in range(2):
        assert_same_bits(plan(operands.gy), want, f"{case}, plan")
    assert_same_bits(plan(operands.gy[:1]), want[:1], f"{case}, plan of one image")


@pytest.mark.parametrize("case", [CASES[i] for i in (0, 3, 4, 6, 9, 23)], ids=str)
def test_same_bits_wherever_operands_lie(case: OperatorCase) -> None:
    """Views with gaps and negative strides, and a result that is one."""
    operands = case.draw()
    want = case.compute("x", operands, backend="native")
    for axis, step in itertools.product(range(4), (-1, 2, 3)):
        views = []
        for array in (operands.gy, operands.w, np.empty_like(want)):
            shape = list(array.shape)
            shape[axis] *= abs(step)
            room = np.full(shape, np.nan, array.dtype)
            view = np.moveaxis(np.moveaxis(room, axis, 0)[::step], 0, axis)
            view[...] = array
            views.append((room, view))
        (_, gy), (_, w), (room, out) = views
        room[...] = np.nan
        fastconv.conv2d_input_grad(case.x, w, gy, out=out, backend="native", **case.options)
        assert_same_bits(np.ascontiguousarray(out), want, f"{case}, axis {axis} by {step}")
        assert np.isnan(room).sum() == room.size - want.size


@pytest.mark.parametrize("last", LAYOUTS)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("stride", [1, 2])
def test_weights_that_are_not_finite_reach_as_far_as_those_of_plans(
    stride: int, bad: float, last: bool
) -> None:
    """The zeros of the border are multiplied by such weights, in whatever way they are packed."""
    case = variants(dense(64, 20, 14, 13, 3, 3, stride=stride, pad=1), last, "float32")
    operands = case.draw()
    operands.w[7, 33, 0, 2] = bad
    with np.errstate(invalid="ignore"):
        plan = fastconv.conv2d_input_grad.plan(
            case.x, operands.w, case.y, backend="native", **case.options
        )
        want = plan(operands.gy)
        got = case.compute("x", operands, backend="native", threads=2)
    assert np.array_equal(got, want, equal_nan=True)
    assert not np.isfinite(want).all()
    assert np.isfinite(want).any()


GUARDED = """
from support.guard import Fence
from test_input_grad import fenced
print(fenced(Fence(160)))
"""


def fenced(fence: Fence) -> int:
    """Gradients whose arrays, one after the other, end at a page that may not be touched."""
    calls = 0
    for c, k, (h, w), (r, stride), last, dtype in itertools.product(
        (1, 5, 16, 19, 64), (1, 3, 16, 21), ((3, 5), (6, 7), (1, 33)),
        ((1, 2), (2, 2), (3, 2), (1, 1)),
        LAYOUTS, FLOATS,
    ):  # fmt: skip
        for groups in {1, c}:
            pad = r // 2
            case = variants(
                OperatorCase(
                    (1, c, h, w), (k * groups, c // groups, r, r), stride=stride, pad=pad,
                    groups=groups,
                ), last, dtype,
            )  # fmt: skip
            operands = case.draw(exact=True)
            want = case.compute("x", operands, backend="reference")
            for which, side in itertools.product(range(3), ("before", "after")):
                held = [operands.gy, operands.w, np.empty_like(want)]
                held[which] = fence.hold(held[which], side)
                fastconv.conv2d_input_grad(
                    case.x, held[1], held[0], out=held[2], backend="native", **case.options
                )
                assert np.array_equal(held[2], want), case
                calls += 1
    return calls


def test_nothing_outside_of_arrays_is_touched() -> None:
    assert int(processes.run(GUARDED)) > 4000


def test_refused_scratch() -> None:
    from fastconv import _native

    for case in (CASES[0], CASES[9], CASES[23]):
        operands = case.draw()
        want = case.compute("x", operands, backend="native")
        _native.fail_next_allocations(1)
        try:
            with pytest.raises(MemoryError):
                case.compute("x", operands, backend="native")
        finally:
            _native.fail_next_allocations(0)
        assert_same_bits(case.compute("x", operands, backend="native"), want, "after a refusal")
