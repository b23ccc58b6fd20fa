"""Native gradients of depthwise layers: where tiles, rows, boxes and borders begin and end."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.guard import Fence
from support.judge import MARGIN, THREADS, assert_same_bits, offset
from support.operators import OperatorCase

import fastconv
from fastconv.backends import native, reference

Array = np.ndarray[Any, Any]
FLOATS = ("float32", "float64")
RESULTS = ("x", "w")


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


def layer(
    c: int, h: int, w: int, stride: Any = 1, pad: Any = 1, n: int = 2, r: int = 3, s: int = 3,
    each: int = 1, **options: Any,
) -> OperatorCase:  # fmt: skip
    """A depthwise layer in NCHW."""
    return OperatorCase((n, c, h, w), (c * each, 1, r, s), stride, pad, groups=c, **options)


def last(case: OperatorCase) -> OperatorCase:
    """The same layer, channels last."""
    n, c, h, w = case.x
    return case.with_(x=(n, h, w, c), last=True)


CASES = [
    layer(16, 7, 7, n=5),  # several images a box; one vector a row
    layer(17, 14, 14, 2),
    layer(5, 9, 16),  # whole vectors of pixels
    layer(33, 8, 33, 2),
    layer(4, 40, 17),  # rows beyond one block
    layer(130, 5, 6, n=1),  # channels beyond one task
    layer(20, 6, 5, 2, 0),
    layer(16, 3, 3, 1, 0, n=1),  # one pixel of y
    layer(6, 70, 70, n=1),  # several boxes
    layer(32, 64, 65, 2, n=3),
    layer(16, 7, 9, 2, ((0, 1), (0, 1))),  # as TensorFlow pads
    layer(16, 6, 8, 2, ((2, 0), (3, 4))),  # pixels of gx before the first of gy, and beyond
    layer(18, 9, 7, 2, ((5, 6), (6, 5))),  # rows of gy that meet nothing
    layer(19, 5, 8, 1, ((4, 0), (0, 5))),
    layer(16, 1, 1, 2, 1),
    layer(7, 1, 300, 2, 1),  # wider than planes are
    layer(8, 2, 258, 1, 1, n=1),
    layer(9, 8, 3),  # too narrow for lanes that are pixels
    layer(16, 11, 10, (1, 2)),
    layer(16, 12, 12, 3),
    layer(24, 13, 12, 2, 2, r=5, s=5),
    layer(12, 9, 9, 1, 0, dilation=2),
    layer(10, 12, 11, 1, 1, each=2),
    layer(6, 8, 12, 2, 1, each=3),
    layer(18, 8, 9, 2, 1, flip=True),
    layer(10, 8, 9, 1, 3, pad_mode="reflect"),
    layer(17, 8, 9, 2, 2, pad_mode="wrap"),
]
LAYERS = [made for case in CASES for made in (case, last(case))]


def judge(case: OperatorCase, result: str, **options: Any) -> None:
    """Hold a gradient against the definition, exactly for integers."""
    for exact in (True, False):
        found = case.judge(result, case.draw(exact), backend="native", **options)
        assert found.error == 0 or not exact, f"{case}, {result}: off by {found.error:g}, not exact"


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_definition(case: OperatorCase, dtype: str, result: str) -> None:
    judge(case.with_(dtype=dtype), result)


EVERY_ISA = """
from test_depthwise_grad import FLOATS, LAYERS
for number, case in enumerate(LAYERS):
    for result in "x", "w":
        found = case.with_(dtype=FLOATS[number // 2 % 3 == 0])
        assert found.judge(result, found.draw(True), backend="native").error == 0, (case, result)
"""


def test_every_instruction_set() -> None:
    processes.run_on_every_isa(EVERY_ISA)


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_same_bits_for_any_number_of_threads_and_any_address(case: OperatorCase) -> None:
    operands = case.draw()
    for result in RESULTS:
        want = case.compute(result, operands, backend="native", threads=1)
        for threads in THREADS:
            got = case.compute(result, operands, backend="native", threads=threads)
            assert_same_bits(got, want, f"{case}, {result}, {threads} threads")
        moved = operands._replace(x=offset(operands.x, 3), gy=offset(operands.gy, 5))
        got = case.compute(result, moved, backend="native")
        assert_same_bits(got, want, f"{case}, {result}, elsewhere")


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_gradients_of_x_know_no_batch(case: OperatorCase) -> None:
    operands = case.draw()
    want = case.compute("x", operands, backend="native")
    for i in range(case.x[0]):
        alone = case.with_(x=(1, *case.x[1:]))
        some = operands._replace(x=operands.x[i : i + 1], gy=operands.gy[i : i + 1])
        got = alone.compute("x", some, backend="native", threads=2)
        assert_same_bits(got, want[i : i + 1], f"{case}, image {i} alone")


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_any_strides(case: OperatorCase) -> None:
    """Views backwards, with gaps and in the other layout, as operands and as `out`."""
    operands = case.draw()
    for result in RESULTS:
        want = case.compute(result, operands, backend="native")
        for axis, step in itertools.product(range(4), (-1, 2)):
            views = {n: strided(getattr(operands, n), axis, step) for n in ("x", "w", "gy")}
            out = strided(np.full_like(want, np.nan), axis, step)
            got = case.compute(result, operands._replace(**views), backend="native", out=out)
            assert_same_bits(np.ascontiguousarray(got), want, f"{case}, {result}, {axis}, {step}")
        turned = operands._replace(x=turn(operands.x), gy=turn(operands.gy))
        got = case.compute(result, turned, backend="native")
        assert_same_bits(got, want, f"{case}, {result}, the other order in memory")


def turn(image: Array) -> Array:
    """Copy an image whose last axis is the slowest but one in memory."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)


def strided(array: Array, axis: int, step: int) -> Array:
    """Copy an array into a view with a step along one axis, between elements that are NaN."""
    shape = list(array.shape)
    shape[axis] *= abs(step)
    room = np.moveaxis(np.full(shape, np.nan, array.dtype), axis, 0)
    view = np.moveaxis(room[::step], 0, axis)
    view[...] = array
    return view


@pytest.mark.parametrize("result", RESULTS)
def test_nothing_beside_the_result_is_written(result: str) -> None:
    for case in LAYERS:
        operands = case.draw()
        shape = case.problem(result).out_shape
        size = int(np.prod(shape))
        buffer = np.full(size + 2 * MARGIN, np.nan, "f4")
        out = buffer[MARGIN:-MARGIN].reshape(shape)
        case.compute(result, operands, backend="native", out=out)
        assert not np.isnan(out).any(), f"{case}, {result}"
        assert np.isnan(buffer[:MARGIN]).all(), f"{case}, {result}"
        assert np.isnan(buffer[-MARGIN:]).all(), f"{case}, {result}"


GUARDED = """
from support.guard import Fence
from test_depthwise_grad import fenced
print(fenced(Fence(16)))
"""


def fenced(fence: Fence) -> int:
    """Gradients whose arrays, one after the other, end at a page that may not be touched."""
    calls = 0
    for c, (h, w), stride, pad, dtype in itertools.product(
        (4, 16, 19), ((3, 5), (6, 17), (4, 35)), (1, 2), (0, 1, 2), FLOATS
    ):
        for case in (layer(c, h, w, stride, pad, 1, dtype=dtype),):
            for made, result in itertools.product((case, last(case)), RESULTS):
                operands = made.draw(exact=True)
                want = made.compute(result, operands, backend="reference")
                names = [name for name in ("x", "w", "gy") if name != result]
                for name, side in itertools.product((*names, "out"), ("before", "after")):
                    out = np.full_like(want, np.nan)
                    held = operands
                    if name == "out":
                        out = fence.hold(out, side)
                    else:
                        array = fence.hold(getattr(operands, name), side)
                        held = operands._replace(**{name: array})
                    got = made.compute(result, held, backend="native", out=out)
                    assert np.array_equal(got, want), f"{made}, {result}, {name} {side}"
                    calls += 1
    return calls


def test_nothing_outside_of_arrays_is_touched() -> None:
    assert int(processes.run(GUARDED)) > 800


@pytest.mark.parametrize(("result", "which"), [("x", "gy"), ("w", "x"), ("w", "gy")])
def test_special_values(result: str, which: str) -> None:
    """NaN and infinities where the sum of all products puts them, border zeros among them."""
    for case in (layer(18, 9, 10), layer(16, 9, 10, 2), layer(17, 6, 7, 2, 2)):
        for made, value in itertools.product((case, last(case)), (np.inf, np.nan)):
            problem = replace(made.problem(result), layout="NCHW")
            for row, col in ((0, 0), (0, 2), (2, 1), (-1, -1), (1, -1)):
                operands = made.draw()
                x, w, gy = made.images(operands.x), operands.w, made.images(operands.gy)
                a, b = (gy, w) if result == "x" else (x, gy)
                {"x": x, "gy": gy}[which][-1, 0, row, col] = value
                want = np.empty(w.shape if result == "w" else x.shape, np.float32)
                reference.run(problem, None, a, b, None, want)  # type: ignore[arg-type]
                got = made.compute(result, operands, backend="native")
                got = got if result == "w" else made.images(got)
                for mask in (np.isnan, np.isposinf, np.isneginf):
                    assert np.array_equal(mask(got), mask(want)), (made, row, col, value, which)


def test_transposed_with_bias_and_plans() -> None:
    rng = np.random.default_rng(1)
    for c, last_axis, stride, act in itertools.product(
        (5, 32), (False, True), (1, 2), (None, "relu")
    ):
        x = rng.standard_normal((2, c, 6, 9)).astype("f4")
        x = x.transpose(0, 2, 3, 1).copy() if last_axis else x
        w = rng.standard_normal((c, 1, 3, 3)).astype("f4")
        options: dict[str, Any] = {
            "stride": stride, "pad": 1, "groups": c, "activation": act,
            "bias": rng.standard_normal(c).astype("f4"), "layout": "NHWC" if last_axis else "NCHW",
        }  # fmt: skip
        got = fastconv.conv_transpose2d(x, w, backend="native", **options)
        want = fastconv.conv_transpose2d(x, w, backend="reference", **options)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
        plan = fastconv.conv_transpose2d.plan(x.shape, w, backend="native", **options)
        assert_same_bits(plan(x), got, f"{c} channels, {options}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_transposed_larger_than_its_copies(dtype: str) -> None:
    """Rows and columns before the first copy of the kernel are written, too."""
    rng = np.random.default_rng(2)
    w = rng.integers(-2, 3, (8, 1, 3, 3)).astype(dtype)
    for layout, *more in itertools.product(("NCHW", "NHWC"), range(4), range(4)):
        shape = (1, 8, 6, 7) if layout == "NCHW" else (1, 6, 7, 8)
        x = rng.integers(-2, 3, shape).astype(dtype)
        for pad in (0, "same_lower"):
            options: dict[str, Any] = {
                "stride": 2, "groups": 8, "layout": layout, "pad": pad,
                "output_shape": (13 + more[0], 15 + more[1]),
            }  # fmt: skip
            want = fastconv.conv_transpose2d(x, w, backend="reference", **options)
            got = np.full_like(want, np.nan)
            fastconv.conv_transpose2d(x, w, backend="native", out=got, **options)
            np.testing.assert_array_equal(got, want, str(options))


def test_names() -> None:
    for case in (layer(32, 56, 56, 2), last(layer(32, 56, 56, 2))):
        for stride, name in ((1, "depthwise"), (2, "input_grad_depthwise")):
            problem = case.with_(stride=stride).problem("x")
            if name == "depthwise" or native.computes(problem):
                options = fastconv.conv2d_input_grad.explain(
                    case.x, case.w, case.with_(stride=stride).y, stride=stride, pad=1, groups=32,
                    layout=case.layout, backend="native", threads=2,
                )  # fmt: skip
                assert options.algorithm == name
                assert options.scratch_bytes < 1 << 20


def test_refused_scratch() -> None:
    from fastconv import _native

    for case in (layer(16, 20, 20, 2), last(layer(16, 20, 20, 2))):
        operands = case.draw()
        for result in RESULTS:
            want = case.compute(result, operands, backend="native")
            _native.fail_next_allocations(1)
            try:
                with pytest.raises(MemoryError):
                    case.compute(result, operands, backend="native")
            finally:
                _native.fail_next_allocations(0)
            again = case.compute(result, operands, backend="native")
            assert_same_bits(again, want, "after a refusal")
