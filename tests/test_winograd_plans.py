"""Winograd's minimal filtering, native: which problems take it, plans, threads and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from support import guard
from support.backends import FLOATS, present
from support.cases import Arrays, Case, draw, generator
from support.judge import THREADS, assert_same_bits, offset
from support.winograd import CASES, TILES, algorithm, fast

import fastconv
from fastconv import accuracy


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


# -- the choice ------------------------------------------------------------------------------------


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
    assert seen == {f"winograd_{shape}" for shape in TILES}
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
    for c, k, tile in ((300, 70, "f6x4x3"), (130, 200, "f5x3")):
        size = 36 if tile == "f6x4x3" else 14
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
        (Case((1, 17, 12, 19), (19, 17, 3, 3), pad=1, bias=True), "f6x4x3"),
        (Case((1, 17, 13, 15), (37, 17, 3, 3), pad=1, bias=True), "f5x3"),
        (Case((1, 16, 9, 11), (17, 16, 5, 5), pad=2, bias=True), "f3x5"),
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
                (24, 24, 8, 8, 3, 1), (32, 32, 4, 4, 3, 1), (17, 37, 13, 15, 3, 1),
                (31, 19, 12, 18, 3, 1), (33, 49, 6, 5, 3, 1), (32, 40, 30, 12, 3, 2),
                (64, 64, 3, 4, 5, 1), (16, 17, 9, 11, 5, 1),
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
    assert len(seen) == 6, seen
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
