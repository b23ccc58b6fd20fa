"""Winograd's minimal filtering, native, precision="fast": bounds, choice, cuts, special values.

The choice is a function of the problem alone, so each case names the tile that it must take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from support import guard
from support.backends import FLOATS, present
from support.cases import Arrays, Case, draw, generator, logical_image, logical_kernel
from support.judge import THREADS, assert_same_bits, compute, offset, on

import fastconv
from fastconv import accuracy
from fastconv.activations import ACTIVATIONS
from fastconv.borders import PAD_MODES

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


CASES = [
    (Case((2, 24, 4, 4), (24, 24, 3, 3), pad=1), "f2x3"),
    (Case((1, 33, 6, 5), (49, 33, 3, 3), pad=1, bias=True), "f2x3"),
    (Case((1, 128, 3, 3), (128, 128, 3, 3), pad=1), "f2x3"),
    (Case((2, 24, 8, 8), (24, 24, 3, 3), pad=1, bias=True), "f4x3"),
    (Case((1, 17, 13, 15), (37, 17, 3, 3), pad=1), "f4x3"),
    (Case((3, 16, 6, 6), (16, 16, 3, 3), pad=1), "f6x3"),
    (Case((1, 31, 12, 18), (19, 31, 3, 3), pad=1, bias=True), "f6x3"),
    (Case((1, 16, 29, 71), (33, 16, 3, 3), pad=((0, 2), (3, 1))), "f6x3"),
    (Case((1, 64, 30, 12), (34, 32, 3, 3), pad=1, groups=2), "f6x3"),
    (Case((1, 64, 3, 4), (64, 64, 5, 5), pad=2), "f2x5"),
    (Case((2, 16, 9, 11), (17, 16, 5, 5), pad=2, bias=True), "f4x5"),
    (Case((1, 13, 20, 20), (20, 13, 5, 5), pad="full"), "f4x5"),
]
CASES += [(case.channels_last(), tile) for case, tile in CASES]
FAMILIES = ["normal", "positive", "integers", "spread", "cancellation", "outlier"]
SHAPES = ("f2x3", "f4x3", "f6x3", "f2x5", "f4x5")


def logical(case: Case, arrays: Arrays) -> tuple[Array, Array]:
    return logical_image(arrays.x, case.layout), logical_kernel(arrays.w, case.flip)


def fast(case: Case, arrays: Arrays, tile: str, **options: Any) -> Array:
    """Convolve a case, which must take `tile`."""
    report = fastconv.explain(
        arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native", **case.arguments
    )
    assert report.algorithm == f"winograd_{tile}", f"{case} takes {report.algorithm}"
    return compute(on("native", precision="fast"), case, arrays, **options)


def judge(case: Case, arrays: Arrays, got: Array, tile: str) -> accuracy.Verdict:
    """Hold a result against the bound of its tile."""
    x, w = logical(case, arrays)
    found = accuracy.check(
        case.problem, x, w, arrays.bias, logical_image(got, case.layout),
        algorithm=f"winograd_{tile}",
    )  # fmt: skip
    assert found.ok, f"{case} {case.dtype}: {found.ratio:g} times the bound of {tile}"
    return found


def relative(case: Case, arrays: Arrays, got: Array) -> float:
    """L2 error of a result as a share of its norm."""
    x, w = logical(case, arrays)
    want = accuracy.expected(case.problem, x, w, arrays.bias).y
    error = logical_image(got, case.layout) - want
    return float(np.sqrt((error**2).sum() / (want**2).sum()))


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("case", "tile"), CASES, ids=str)
def test_bounds(case: Case, tile: str, dtype: str) -> None:
    case = case.with_(dtype=dtype)
    for family in FAMILIES:
        arrays = draw(case, family)
        got = fast(case, arrays, tile)
        found = judge(case, arrays, got, tile)
        assert found.error > 0 or family == "integers", "more exact than it can be"
        if family == "normal":
            limit = 2e-5 * np.finfo(dtype).eps / np.finfo("float32").eps
            assert relative(case, arrays, got) <= limit


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("case", "tile"), CASES[:12], ids=str)
def test_bounds_beside_underflow(case: Case, tile: str, dtype: str) -> None:
    """Where x or w is subnormal, eta bounds what u * T no longer does."""
    case = case.with_(dtype=dtype, bias=False)
    for family in ("subnormal", "underflow"):
        arrays = draw(case, family)
        judge(case, arrays, fast(case, arrays, tile), tile)
        x, w = arrays.x / arrays.x.max(), arrays.w * np.finfo(dtype).tiny
        tiny = Arrays(x.astype(dtype), w.astype(dtype), None)
        judge(case, tiny, fast(case, tiny, tile), tile)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_borders(layout: str, pad_mode: str) -> None:
    for base, tile in [
        (Case((2, 24, 6, 5), (24, 24, 3, 3), pad=((1, 2), (0, 3))), "f4x3"),
        (Case((1, 16, 2, 3), (40, 16, 3, 3), pad=((5, 7), (11, 6))), "f6x3"),
        (Case((1, 16, 1, 14), (16, 16, 3, 3), pad=((6, 7), (2, 2))), "f6x3"),
        (Case((1, 16, 7, 9), (16, 16, 5, 5), pad=((2, 3), (1, 4))), "f4x5"),
    ]:
        case = base.with_(pad_mode=pad_mode)
        case = case if layout == "NCHW" else case.channels_last()
        arrays = draw(case, "normal")
        judge(case, arrays, fast(case, arrays, tile), tile)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_activations(layout: str, activation: str | None) -> None:
    case = Case((1, 17, 15, 13), (37, 17, 3, 3), pad=1, bias=True, activation=activation)
    case = case if layout == "NCHW" else case.channels_last()
    for dtype in FLOATS:
        held = case.with_(dtype=dtype)
        arrays = draw(held, "normal")
        judge(held, arrays, fast(held, arrays, "f4x3"), "f4x3")


@pytest.mark.parametrize(("c", "tile"), [(512, "f2x3"), (1024, "f6x3"), (2048, "f4x3")])
def test_many_channels(c: int, tile: str) -> None:
    """The longest sums that each tile takes: errors grow with them, the bound does not."""
    shape = {"f2x3": (1, c, 5, 5), "f6x3": (1, c, 36, 36), "f4x3": (1, c, 32, 32)}[tile]
    case = Case(shape, (32, c, 3, 3), pad=1)
    for family in ("normal", "positive"):
        arrays = draw(case, family)
        got = fast(case, arrays, tile)
        x, w = logical(case, arrays)
        found = accuracy.check(
            case.problem, x, w, None, got, channels=[3], algorithm=f"winograd_{tile}"
        )
        assert found.ok, f"{family}: {found.ratio:g} times the bound"


def test_a_wrong_bound_would_be_noticed() -> None:
    """Strictly judged, or as a smaller tile on a larger one's data, results fail."""
    case = Case((1, 16, 30, 30), (16, 16, 3, 3), pad=1)
    arrays = draw(case, "outlier")
    got = fast(case, arrays, "f6x3")
    x, w = logical(case, arrays)
    assert not accuracy.check(case.problem, x, w, None, got).ok
    assert not accuracy.check(case.problem, x, w, None, got, algorithm="winograd_f2x3").ok
    arrays = draw(case, "normal")
    got = fast(case, arrays, "f6x3")
    judge(case, arrays, got, "f6x3")
    got[0, 7, 11, 13] += 1e-2
    x, w = logical(case, arrays)
    assert not accuracy.check(case.problem, x, w, None, got, algorithm="winograd_f6x3").ok


# -- how it fails in kind --------------------------------------------------------------------------

FAILING = [
    (Case((1, 24, 8, 8), (24, 24, 3, 3), pad=1), "f4x3", 4),
    (Case((1, 16, 12, 18), (16, 16, 3, 3), pad=1), "f6x3", 6),
    (Case((1, 32, 4, 4), (32, 32, 3, 3), pad=1), "f2x3", 2),
]


@pytest.mark.parametrize(("case", "tile", "outputs"), FAILING, ids=str)
def test_an_outlier_disturbs_its_tiles_and_no_others(case: Case, tile: str, outputs: int) -> None:
    """1e8 leaks into outputs that do not use it, but only where its tile's do."""
    arrays = draw(case, "normal")
    calm = fast(case, arrays, tile)
    arrays.x[0, 5, 0, 0] = 1e8
    got = fast(case, arrays, tile)
    judge(case, arrays, got, tile)
    changed = (got != calm).any(axis=1)[0]
    assert changed[:outputs, :outputs].all(), "the whole first tile"
    assert not changed[outputs:].any()
    assert not changed[:, outputs:].any()
    strict = fastconv.conv2d(arrays.x, arrays.w, pad=1, backend="native")
    unused = np.abs(got - strict)[0, :, outputs - 1, outputs - 1].max()
    assert outputs == 2 or unused > 1e-2, "it leaks: that is why fast is opt-in"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("case", "tile", "outputs"), FAILING, ids=str)
def test_what_is_not_finite_spoils_its_tiles_and_no_others(
    case: Case, tile: str, outputs: int, value: float
) -> None:
    arrays = draw(case, "normal")
    calm = fast(case, arrays, tile)
    arrays.x[0, 5, 0, 0] = value
    got = fast(case, arrays, tile)
    assert not np.isfinite(got[0, :, :2, :2]).any(), "outputs that use it"
    assert_same_bits(got[:, :, outputs:], calm[:, :, outputs:], "tiles below")
    assert_same_bits(got[:, :, :, outputs:], calm[:, :, :, outputs:], "tiles to the right")


def test_weights_that_are_not_finite_spoil_their_channel() -> None:
    case, tile, _ = FAILING[0]
    arrays = draw(case, "normal")
    calm = fast(case, arrays, tile)
    arrays.w[3, 2, 1, 1] = np.nan
    got = fast(case, arrays, tile)
    assert np.isnan(got[:, 3]).all()
    others = [k for k in range(24) if k != 3]
    assert_same_bits(got[:, others], calm[:, others], "other channels")


def test_pixels_beyond_the_last_output_are_not_used() -> None:
    """A tile at the edge may be larger than what is left of the image."""
    case = Case((1, 24, 14, 14), (24, 24, 3, 3), pad=((1, 0), (1, 0)), pad_mode="wrap")
    arrays = draw(case, "normal")
    wider = np.full((1, 24, 16, 20), np.nan, "float32")
    wider[:, :, :14, :14] = arrays.x
    inner = arrays._replace(x=wider[:, :, :14, :14])
    assert_same_bits(fast(case, inner, "f4x3"), fast(case, arrays, "f4x3"), "inside")
    arrays.x[:, :, :2, :2] = np.nan  # a wrap beyond the right and bottom edge would find them
    assert np.isfinite(fast(case, arrays, "f4x3")[:, :, -4:, -4:]).all()


# -- the choice ------------------------------------------------------------------------------------


def algorithm(x: tuple[int, ...], w: tuple[int, ...], **arguments: Any) -> str:
    arguments = {"pad": 1, "precision": "fast", "backend": "native", **arguments}
    return fastconv.explain(x, w, **arguments).algorithm


def test_the_choice_depends_on_the_problem_alone() -> None:
    seen = set()
    for size, c, r in ((4, 32, 3), (8, 32, 3), (14, 64, 3), (28, 64, 3), (4, 64, 5), (20, 24, 5)):
        w = (c, c, r, r)
        want = algorithm((1, c, size, size), w, pad=r // 2)
        seen.add(want)
        for n, threads, dtype in ((8, 1, "float32"), (3, 7, "float64")):
            shape = (n, c, size, size)
            assert want == algorithm(shape, w, pad=r // 2, threads=threads, dtype=dtype)
        with fastconv.options(workspace=1 << 16):
            assert want == algorithm((1, c, size, size), w, pad=r // 2)
    assert seen == {f"winograd_{shape}" for shape in SHAPES}
    assert set(accuracy.FAST) >= seen


def test_what_it_leaves_to_others() -> None:
    x, w = (1, 64, 28, 28), (64, 64, 3, 3)
    assert algorithm(x, w).startswith("winograd")
    assert not algorithm(x, w, precision="strict").startswith("winograd")
    assert not algorithm(x, w, stride=2).startswith("winograd")
    assert not algorithm(x, w, dilation=2).startswith("winograd")
    assert not algorithm(x, (64, 64, 1, 1)).startswith("winograd")
    assert not algorithm(x, (64, 64, 3, 1)).startswith("winograd")
    assert not algorithm(x, (64, 1, 3, 3), groups=64).startswith("winograd")
    assert not algorithm((1, 3, 224, 224), (64, 3, 3, 3)).startswith("winograd")
    assert not algorithm((1, 4096, 28, 28), (64, 4096, 3, 3)).startswith("winograd")
    for dtype in ("float16", "int8", "uint16"):
        report = fastconv.explain(
            np.ones(x, dtype), np.ones(w, dtype), pad=1, precision="fast", backend="native"
        )
        assert not report.algorithm.startswith("winograd")


# -- cuts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("case", "tile"), CASES, ids=str)
def test_determinism(case: Case, tile: str, dtype: str) -> None:
    """The same bits for any threads, workspace, place in the batch, alignment and plan."""
    case = case.with_(dtype=dtype)
    arrays = draw(case, "spread")
    want = fast(case, arrays, tile, threads=1)
    for threads in THREADS:
        assert_same_bits(fast(case, arrays, tile, threads=threads), want, f"{threads} threads")
    moved = Arrays(*(None if a is None else offset(a, 3) for a in arrays))
    assert_same_bits(fast(case, moved, tile), want, "another alignment")
    for workspace in (1 << 16, 1 << 18, 1 << 20):
        with fastconv.options(workspace=workspace):
            held = fast(case, arrays, tile, threads=2)
            report = fastconv.explain(
                arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native",
                threads=2, **case.arguments,
            )  # fmt: skip
        assert report.scratch_bytes <= 2 * workspace
        assert_same_bits(held, want, f"{workspace} bytes of scratch")
    plan = fastconv.plan_conv2d(
        arrays.w, case.x, bias=arrays.bias, precision="fast", backend="native", **case.arguments
    )
    assert plan.explain().algorithm == f"winograd_{tile}"
    assert plan.explain().packed_bytes > 0
    out = np.full_like(want, np.nan)
    assert_same_bits(plan(arrays.x, out=out), want, "a plan")
    assert_same_bits(plan(np.concatenate([arrays.x] * 3))[-1:], want[-1:], "a larger batch")
    for i in range(case.x[0]):
        one = case.with_(x=(1, *case.x[1:]))
        alone = fast(one, arrays._replace(x=arrays.x[i : i + 1]), tile)
        assert_same_bits(alone, want[i : i + 1], f"image {i} alone")


@pytest.mark.parametrize("workspace", [1 << 16, 1 << 19])
def test_weights_larger_than_the_workspace(workspace: int) -> None:
    """They are transformed a few channels or a few panels at a time, with the same bits."""
    rng = generator("large weights")
    for c, k, tile in ((300, 70, "f6x3"), (130, 200, "f4x3")):
        size = 36 if tile == "f6x3" else 14
        x = rng.standard_normal((1, c, size, size)).astype("float32")
        w = rng.standard_normal((k, c, 3, 3)).astype("float32")
        assert algorithm(x.shape, w.shape) == f"winograd_{tile}"
        want = fastconv.conv2d(x, w, pad=1, precision="fast", backend="native")
        with fastconv.options(workspace=workspace):
            got = fastconv.conv2d(x, w, pad=1, precision="fast", backend="native", threads=2)
            plan = fastconv.plan_conv2d(w, x.shape, pad=1, precision="fast", backend="native")
            assert_same_bits(plan(x), want, "a plan")
        assert_same_bits(got, want, f"{workspace} bytes of scratch")


@pytest.mark.parametrize("dtype", FLOATS)
def test_memory_layout_of_the_operands(dtype: str) -> None:
    case = Case((2, 37, 8, 13), (21, 37, 3, 3), pad=1, dtype=dtype)
    x, w, _ = draw(case, "spread")
    want = fast(case, Arrays(x, w, None), "f4x3")
    wide = np.zeros((2, 37, 8, 26), dtype)
    wide[..., ::2] = x
    reversed_x = np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]
    by_pixel = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    by_tap = np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    for held_x in (wide[..., ::2], reversed_x, by_pixel, np.asfortranarray(x)):
        for held_w in (w, by_tap, np.ascontiguousarray(w[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]):
            got = fast(case, Arrays(held_x, held_w, None), "f4x3")
            assert_same_bits(got, want, f"strides {held_x.strides} and {held_w.strides}")
    for room in (
        np.full((2, 8, 13, 42), 7, dtype).transpose(0, 3, 1, 2)[:, ::-2],
        np.full((2, 21, 16, 26), 7, dtype)[:, :, ::2, ::2],
        np.full((2, 21, 8, 13), 7, dtype)[:, ::-1, :, ::-1],
    ):
        got = fastconv.conv2d(x, w, pad=1, out=room, precision="fast", backend="native")
        assert_same_bits(got, want, f"out with strides {room.strides}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_beyond_the_arrays_is_touched(dtype: str) -> None:
    """x, w, bias and out flush against forbidden pages."""
    fences = [guard.Fence(64) for _ in range(4)]
    for case, tile in [
        (Case((1, 32, 9, 10), (33, 32, 3, 3), bias=True), "f4x3"),
        (Case((1, 17, 8, 20), (16, 17, 3, 3), pad=1, bias=True, activation="relu"), "f4x3"),
        (Case((1, 17, 12, 19), (19, 17, 3, 3), pad=1, bias=True), "f6x3"),
        (Case((1, 16, 9, 11), (17, 16, 5, 5), pad=2, bias=True), "f4x5"),
    ]:
        for held in (case, case.channels_last()):
            held = held.with_(dtype=dtype)
            arrays = draw(held, "normal")
            want = fast(held, arrays, tile)
            for side in ("before", "after"):
                fenced = Arrays(
                    *(
                        None if a is None else fence.hold(a, side)
                        for a, fence in zip(arrays, fences[:3], strict=True)
                    )
                )
                out = fences[3].hold(np.full_like(want, -1), side)
                fastconv.conv2d(
                    fenced.x, fenced.w, bias=fenced.bias, out=out, precision="fast",
                    backend="native", **held.arguments,
                )  # fmt: skip
                assert_same_bits(out, want, f"{held}, fenced {side}")


def test_a_failed_allocation_is_a_memory_error_and_the_next_call_is_right() -> None:
    native = pytest.importorskip("fastconv._native")
    case, tile = CASES[3]
    arrays = draw(case, "normal")
    want = fast(case, arrays, tile)
    native.fail_next_allocations(1)
    with pytest.raises(MemoryError):
        fastconv.conv2d(arrays.x, arrays.w, pad=1, precision="fast", backend="native")
    assert_same_bits(fast(case, arrays, tile), want, "the next call")


def test_scratch_does_not_grow_with_the_image() -> None:
    w = (64, 64, 3, 3)
    small, large = (
        fastconv.explain((1, 64, n, n), w, pad=1, precision="fast", backend="native").scratch_bytes
        for n in (100, 10000)
    )
    assert large <= 2 * small


ISA = """
    import numpy as np, fastconv
    from fastconv.accuracy import check
    from fastconv.dtypes import promote
    from fastconv.problem import ConvProblem
    rng = np.random.default_rng(1)
    seen = set()
    for dtype in ("float32", "float64"):
        for layout in ("NCHW", "NHWC"):
            for c, k, h, q, r, groups in (
                (33, 49, 6, 5, 3, 1), (17, 37, 13, 15, 3, 1), (31, 19, 12, 18, 3, 1),
                (32, 40, 30, 12, 3, 2), (64, 64, 3, 4, 5, 1), (16, 17, 9, 11, 5, 1),
            ):
                x = rng.standard_normal((2, c, h, q)).astype(dtype)
                w = rng.standard_normal((k, c // groups, r, r)).astype(dtype)
                bias = rng.standard_normal(k).astype(dtype)
                given = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
                call = dict(pad=r // 2, groups=groups, layout=layout, bias=bias,
                            activation="relu", backend="native", precision="fast")
                problem = ConvProblem.describe(
                    given.shape, w.shape, pad=r // 2, groups=groups, layout=layout,
                    promotion=promote(x.dtype, w.dtype), bias_shape=(k,), activation="relu")
                name = fastconv.explain(given, w, **call).algorithm
                assert name.startswith("winograd"), name
                seen.add(name)
                y = fastconv.conv2d(given, w, **call)
                with fastconv.options(workspace=1 << 16):
                    assert np.array_equal(y, fastconv.conv2d(given, w, threads=1, **call))
                plan = fastconv.plan_conv2d(w, given.shape, **call)
                assert np.array_equal(y, plan(given))
                y = y if layout == "NCHW" else y.transpose(0, 3, 1, 2)
                verdict = check(problem, x, w, bias, y, algorithm=name)
                assert verdict.ok, (problem, name, verdict)
    assert len(seen) == 5, seen
    print(fastconv.show_config("dict")["native"]["isa"])
"""


def test_every_instruction_set_this_processor_has() -> None:
    for isa in fastconv.show_config("dict")["native"]["compiled for"].split():
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(ISA)],
            env={**os.environ, "FASTCONV_ISA": isa},
            capture_output=True,
            text=True,
            timeout=300,
        )
        if "lacks it" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == isa
