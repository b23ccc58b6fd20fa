"""Floats of 16 bits: every value widened exactly, sums in float32, one rounding to even."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support import guard, processes
from support.backends import HALVES, present
from support.judge import assert_same_bits

import fastconv
from fastconv import dispatch
from fastconv.accuracy import check
from fastconv.dtypes import as_dtype, promote
from fastconv.problem import ConvProblem

Array = np.ndarray[Any, Any]

#: (x, w, arguments): direct and strided taps, groups, more channels than one part of a reduction.
PROBLEMS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 20, 14, 14), (30, 20, 3, 3), {"pad": 1}),
    ((2, 3, 37, 40), (16, 3, 7, 7), {"pad": 3, "stride": 2}),
    ((2, 12, 15, 17), (12, 1, 3, 3), {"pad": 1, "groups": 12, "stride": (2, 3)}),
    ((2, 70, 14, 15), (70, 1, 3, 3), {"pad": 1, "groups": 70, "activation": "silu"}),
    ((2, 35, 19, 33), (70, 1, 5, 5), {"pad": 2, "groups": 35, "stride": 2, "pad_mode": "wrap"}),
    ((2, 40, 7, 9), (33, 40, 1, 1), {}),
    ((2, 16, 9, 50), (8, 8, 2, 5), {"groups": 2, "dilation": 3, "pad_mode": "reflect", "pad": 4}),
    ((1, 1, 50, 60), (1, 1, 31, 9), {"pad": "same", "pad_mode": "wrap"}),
    ((2, 700, 6, 6), (60, 700, 3, 3), {"pad": 1, "activation": "silu"}),
    ((2, 131, 1, 1), (37, 131, 1, 1), {"activation": "tanh"}),
    ((2, 1100, 3, 2), (18, 550, 3, 3), {"pad": ((1, 0), (0, 1)), "groups": 2}),
]  # fmt: skip


def every_value(dtype: str) -> Array:
    return np.arange(1 << 16, dtype=np.uint16).view(as_dtype(dtype))


def draw(dtype: str, *shape: int) -> Array:
    values = np.random.default_rng(shape).standard_normal(shape)
    return values.astype(np.float32).astype(as_dtype(dtype))


def describe(x: Array, w: Array, bias: Array | None, arguments: dict[str, Any]) -> ConvProblem:
    return ConvProblem.describe(
        x.shape, w.shape, promotion=promote(x.dtype, w.dtype),
        bias_shape=None if bias is None else bias.shape, **arguments,
    )  # fmt: skip


def strict_algorithm(x_shape: tuple[int, ...], arguments: dict[str, Any]) -> str:
    return "depthwise" if arguments.get("groups") == x_shape[1] > 1 else "half_gemm"


@pytest.mark.parametrize("dtype", HALVES)
def test_every_value_passes_unchanged(backend: str, dtype: str) -> None:
    """Subnormals, infinities and both zeros; NaN stays NaN."""
    values = every_value(dtype).reshape(1, 1, 256, 256)
    one = np.ones((1, 1, 1, 1), as_dtype(dtype))
    twice, ones = values.reshape(1, 2, 128, 256), np.ones((2, 1, 1, 1), as_dtype(dtype))
    for x, w, arguments in (
        (values, one, {}), (one, values.reshape(-1, 1, 1, 1), {}), (twice, ones, {"groups": 2}),
        (values, np.ones((256, 1, 1, 1), as_dtype(dtype)), {"groups": 256, "layout": "NHWC"}),
    ):  # fmt: skip
        y = fastconv.conv2d(x, w, backend=backend, **arguments)
        assert y.dtype == as_dtype(dtype)
        bits, want = y.reshape(-1).view(np.uint16), values.reshape(-1).view(np.uint16)
        infinity = int(as_dtype(dtype).type(np.inf).view(np.uint16))
        number = want & 0x7FFF <= infinity
        negative_zero = want == 0x8000  # 0 + -0 is 0
        assert np.array_equal(bits[number & ~negative_zero], want[number & ~negative_zero])
        assert (bits[~number] & 0x7FFF > infinity).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_ties_go_to_even(backend: str, dtype: str) -> None:
    """Sums of two values that float32 holds exactly, halfway between two of the result."""
    values = every_value(dtype)
    with np.errstate(invalid="ignore"):
        finite = values[np.isfinite(values)]
    wide = finite.astype(np.float64)
    with np.errstate(over="ignore"):
        unit = np.abs(np.nextafter(finite, as_dtype(dtype).type(np.inf)).astype(np.float64) - wide)
    for share in (0.5, 0.25, 0.75):
        part = (unit * share).astype(np.float32)
        small = part.astype(as_dtype(dtype))
        exact = (small.astype(np.float64) == unit * share) & np.isfinite(unit)
        total = wide + small.astype(np.float64)
        exact &= total.astype(np.float32).astype(np.float64) == total
        assert exact.sum() > 1000
        with np.errstate(over="ignore"):
            want = total[exact].astype(np.float32).astype(as_dtype(dtype))
        pairs = np.stack([finite[exact], small[exact]])
        # as channels of one image, and as rows of both channels of another
        for x, shape, groups in (
            (pairs[None, :, None, :], (1, 2, 1, 1), 1),
            (np.stack([pairs, pairs])[None], (2, 1, 2, 1), 2),
        ):
            w = np.ones(shape, as_dtype(dtype))
            y = fastconv.conv2d(x, w, groups=groups, backend=backend).reshape(groups, -1)
            for row in y:
                assert np.array_equal(
                    row.view(np.uint16)[row != 0], want.view(np.uint16)[want != 0]
                )


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_are_not_rounded_to_16_bits(backend: str, dtype: str) -> None:
    """In 16 bits, adding ones stops at 2048, or at 256."""
    for c in (1000, 4096):
        x, w = np.ones((1, c, 2, 3), as_dtype(dtype)), np.ones((2, c, 1, 1), as_dtype(dtype))
        assert (fastconv.conv2d(x, w, backend=backend) == as_dtype(dtype).type(c)).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_plans_scratch_threads_and_layouts_change_no_bit(dtype: str, problem: Any) -> None:
    present("native")
    x_shape, w_shape, arguments = problem
    x, w = draw(dtype, *x_shape), draw(dtype, *w_shape)
    bias = draw(dtype, w_shape[0])
    want = fastconv.conv2d(x, w, bias=bias, backend="native", threads=1, **arguments)
    assert check(describe(x, w, bias, arguments), x, w, bias, want).ok
    for workspace, threads in itertools.product((1 << 16, 1 << 18, 8 << 20), (1, 2, 3)):
        with fastconv.options(workspace=workspace, threads=threads, backend="native"):
            assert_same_bits(fastconv.conv2d(x, w, bias=bias, **arguments), want, "plain")
            plan = fastconv.plan_conv2d(w, x.shape, bias=bias, x_dtype=x.dtype, **arguments)
            assert_same_bits(plan(x), want, "plan")
            assert_same_bits(plan(x[:1]), want[:1], "one image")
            report = fastconv.explain(x, w, bias=bias, **arguments)
            assert report.algorithm == strict_algorithm(x_shape, arguments)
            assert report.scratch_bytes <= threads * workspace
            last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
            turned = fastconv.conv2d(last, w, bias=bias, layout="NHWC", **arguments)
            assert check(
                describe(x, w, bias, arguments), x, w, bias, turned.transpose(0, 3, 1, 2)
            ).ok
    room = np.zeros([2 * n for n in want.shape], x.dtype)
    out = room[::2, ::-2, 1::2, ::2]
    strided = x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1]
    fastconv.conv2d(strided, w, bias=bias, out=out, backend="native", **arguments)
    assert_same_bits(np.ascontiguousarray(out), want, "strided")
    assert np.count_nonzero(room.view(np.uint16)) <= want.size


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("problem", [*PROBLEMS[:7], *PROBLEMS[-2:]], ids=str)
def test_nothing_beyond_the_operands_is_read(dtype: str, problem: Any) -> None:
    present("native")
    x_shape, w_shape, arguments = problem
    x, w = draw(dtype, 1, *x_shape[1:]), draw(dtype, *w_shape)
    want = fastconv.conv2d(x, w, backend="native", **arguments)
    fences = [guard.Fence(a.nbytes // guard.PAGE + 1) for a in (x, w)]
    for side in ("before", "after"):
        held = [fence.hold(a, side) for fence, a in zip(fences, (x, w), strict=True)]
        assert_same_bits(fastconv.conv2d(*held, backend="native", **arguments), want, side)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_fast_bfloat16(problem: Any) -> None:
    """Pairs multiplied as they are, where the processor can: any scratch, threads and layout."""
    present("native")
    if "bfloat16" not in HALVES:
        pytest.skip("ml_dtypes is not installed")
    x_shape, w_shape, arguments = problem
    x, w = draw("bfloat16", *x_shape), draw("bfloat16", *w_shape)
    bias = draw("bfloat16", w_shape[0])
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    strict = strict_algorithm(x_shape, arguments)
    pairs = w_shape[1] % 2 == 0 and x_shape[2:] != (1, 1) and "bf16" in the_isa()
    for layout, given in (("NCHW", x), ("NHWC", last)):
        options = {**arguments, "layout": layout}
        with fastconv.options(backend="native", precision="fast", threads=1):
            want = fastconv.conv2d(given, w, bias=bias, **options)
            report = fastconv.explain(given, w, bias=bias, **options)
        assert report.algorithm == ("bfloat16_gemm" if pairs else strict)
        logical = want if layout == "NCHW" else want.transpose(0, 3, 1, 2)
        algorithm = report.algorithm if pairs else None
        verdict = check(describe(x, w, bias, arguments), x, w, bias, logical, algorithm=algorithm)
        assert verdict.ok, verdict
        for workspace, threads in ((1 << 16, 2), (1 << 18, 3), (8 << 20, 2)):
            with fastconv.options(
                workspace=workspace, threads=threads, backend="native", precision="fast"
            ):
                plan = fastconv.plan_conv2d(w, given.shape, bias=bias, x_dtype=x.dtype, **options)
                assert_same_bits(fastconv.conv2d(given, w, bias=bias, **options), want, "plain")
                assert_same_bits(plan(given), want, "plan")
                assert_same_bits(plan(given[:1]), want[:1], "one image")


def the_isa() -> str:
    return str(fastconv.show_config("dict")["native"]["isa"])


def test_what_fast_bfloat16_flushes() -> None:
    """Subnormal operands and products count as zero, and the bound knows it; strict keeps them."""
    present("native")
    if "bfloat16" not in HALVES or "bf16" not in the_isa():
        pytest.skip("no instruction that multiplies pairs")
    half = as_dtype("bfloat16")
    x = np.full((1, 16, 6, 20), 2.0**-130, half)
    w = np.full((17, 16, 1, 1), 1.0, half)
    for a, b in ((x, w), (np.ones_like(x), np.full_like(w, 2.0**-130))):
        strict = fastconv.conv2d(a, b, backend="native")
        fast = fastconv.conv2d(a, b, backend="native", precision="fast")
        assert (strict == half.type(2.0**-126)).all()
        assert (fast == 0).all()
        problem = describe(a, b, None, {})
        assert not check(problem, a, b, None, fast).ok
        assert check(problem, a, b, None, fast, algorithm="bfloat16_gemm").ok


def test_fast_bfloat16_keeps_what_is_not_finite_where_it_belongs() -> None:
    present("native")
    if "bfloat16" not in HALVES:
        pytest.skip("ml_dtypes is not installed")
    for value in (np.inf, -np.inf, np.nan):
        x, w = draw("bfloat16", 1, 18, 9, 33), draw("bfloat16", 20, 18, 3, 3)
        x[0, 17, 4, 20] = value
        for layout, axes in (("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1))):
            given = np.ascontiguousarray(x.transpose(axes))
            y = fastconv.conv2d(
                given, w, pad=1, layout=layout, backend="native", precision="fast"
            ).astype("f4")
            want = fastconv.conv2d(given, w, pad=1, layout=layout, backend="native").astype("f4")
            assert np.array_equal(np.isnan(y), np.isnan(want))
            assert np.array_equal(y[np.isinf(want)], want[np.isinf(want)])
            assert np.count_nonzero(~np.isfinite(y)) == 9 * 20


def test_bfloat16_promotes_like_float16_does() -> None:
    if "bfloat16" not in HALVES:
        pytest.skip("ml_dtypes is not installed")
    half = as_dtype("bfloat16")
    for other, want in (
        ("bfloat16", "bfloat16"), ("bool", "bfloat16"), ("int8", "bfloat16"),
        ("float16", "float32"), ("int16", "float32"), ("float32", "float32"),
        ("int32", "float64"), ("float64", "float64"),
    ):  # fmt: skip
        for pair in ((half, np.dtype(other) if other != "bfloat16" else half),):
            assert promote(*pair)[:3] == (want, want, want)
            assert promote(*pair[::-1])[:3] == (want, want, want)
    assert promote(half, half, np.dtype("float32"))[:3] == ("float32", "float32", "float32")
    assert promote(np.dtype("f4"), half, half)[:3] == ("float32", "float32", "bfloat16")
    assert promote(half, half, np.dtype("f2"))[:3] == ("float32", "float32", "float16")
    with pytest.raises(fastconv.DTypeError, match="cutting off fractions"):
        promote(half, half, np.dtype("int32"))


def test_bfloat16_by_name(backend: str) -> None:
    if "bfloat16" not in HALVES:
        pytest.skip("ml_dtypes is not installed")
    x, w = np.ones((2, 3, 5, 5), "f4"), np.full((4, 3, 3, 3), 1 + 2**-8, "f4")
    y = fastconv.conv2d(x, w, dtype="bfloat16", backend=backend)
    assert y.dtype.name == "bfloat16"
    assert (y.astype("f4") == 27.125).all()  # of 27.1055; operands rounded first give 27
    plan = fastconv.plan_conv2d(w.astype(y.dtype), x.shape, x_dtype="bfloat16", backend=backend)
    assert plan(x.astype(y.dtype)).dtype == y.dtype


FAMILY = """
import test_half as tests
for dtype in tests.HALVES:
    tests.test_every_value_passes_unchanged("native", dtype)
    tests.test_ties_go_to_even("native", dtype)
    tests.test_sums_are_not_rounded_to_16_bits("native", dtype)
    for problem in tests.PROBLEMS:
        tests.test_plans_scratch_threads_and_layouts_change_no_bit(dtype, problem)
if "bfloat16" in tests.HALVES:
    for problem in tests.PROBLEMS:
        tests.test_fast_bfloat16(problem)
"""


def test_every_instruction_set() -> None:
    present("native")
    processes.run_on_every_isa(FAMILY)


def test_half_needs_no_ml_dtypes() -> None:
    """bfloat16 is asked for by name where its package is missing: one clear error."""
    source = """
    import sys
    sys.modules["ml_dtypes"] = None
    import numpy as np
    import fastconv
    x = np.ones((1, 1, 3, 3), np.float16)
    assert (fastconv.conv2d(x, x) == 9).all()
    try:
        fastconv.conv2d(x, x, dtype="bfloat16")
    except fastconv.DTypeError as error:
        print(error)
    """
    import textwrap

    assert "pip install ml_dtypes" in processes.run(textwrap.dedent(source))
    assert dispatch.availability("reference") is None
