"""What only the Numba backend has: halves, register tiles, two ways to gather."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.backends import ALL_DTYPES, required

import fastconv
from fastconv import dtypes
from fastconv.accuracy import check
from fastconv.backends import reference
from fastconv.borders import PAD_MODES, source_index
from fastconv.dispatch import availability
from fastconv.options import MINIMUM_WORKSPACE, Options
from fastconv.problem import ConvProblem

if availability("numba") is not None and "numba" not in required():
    pytest.skip("Numba is not installed", allow_module_level=True)

import numba

from fastconv.backends import numba as backend
from fastconv.backends.numba import blocking, gather, half, intrinsics, launch, threads

Array = np.ndarray
NUMBERS = np.random.default_rng(20261122)
SERIAL = Options(backend="numba", threads=1)


def draw(shape: tuple[int, ...], dtype: str) -> Array:
    if dtypes.is_float(dtype):
        return NUMBERS.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return NUMBERS.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def describe(x: Array, w: Array, dtype: str | None = None, **options: object) -> ConvProblem:
    wanted = None if dtype is None else np.dtype(dtype)
    promotion = dtypes.promote(x.dtype, w.dtype, wanted)
    return ConvProblem.describe(x.shape, w.shape, promotion=promotion, **options)


def compute(
    problem: ConvProblem, x: Array, w: Array, bias: Array | None = None, options: Options = SERIAL
) -> Array:
    """Run the backend on logical arrays, into memory of ones."""
    out = np.empty((problem.n, problem.k, problem.p, problem.q), problem.out_dtype)
    out.view(np.uint8)[...] = 0xFF
    backend.run(problem, options, x, w, bias, out)
    return out


def judge(problem: ConvProblem, x: Array, w: Array, bias: Array | None, got: Array) -> None:
    verdict = check(problem, x, w, bias, got)
    assert verdict.ok, f"{problem}: {verdict}"


# --- halves ---------------------------------------------------------------------------------------


def test_every_half_converts_exactly() -> None:
    @numba.njit
    def convert(halves: Array, singles: Array) -> None:
        for i in range(halves.size):
            singles[i] = half.half_to_single(halves[i])

    halves = np.arange(1 << 16).astype(np.uint16)
    got = np.empty(halves.size, np.float32)
    convert(halves, got)
    want = halves.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(want)
    assert np.array_equal(np.isnan(got), ~numbers)
    assert np.array_equal(got[numbers].view(np.uint32), want[numbers].view(np.uint32))


def rounding_cases() -> Array:
    """All halves, what lies between them, ties, their neighbours, and the ends of the range."""
    halves = np.arange(1 << 15).astype(np.uint16).view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    ties = (halves[:-1] + halves[1:]) / np.float32(2)  # exact: float32 has 13 bits more
    ends = np.float32([65504, 65519.996, 65520, 65536, 1e30, np.inf, 2**-25, 2**-24, 1e-30, 1e-45])
    positive = np.concatenate([halves, ties, ends, NUMBERS.lognormal(0, 8, 10000)])
    positive = positive.astype(np.float32)
    near = [positive, np.nextafter(positive, np.float32(np.inf)), np.nextafter(positive, 0)]
    both = np.concatenate(near)
    return np.concatenate([both, -both])


def test_singles_round_to_the_nearest_half_ties_to_even() -> None:
    @numba.njit
    def convert(singles: Array, halves: Array) -> None:
        for i in range(singles.size):
            halves[i] = half.single_to_half(singles[i])

    singles = rounding_cases()
    got = np.empty(singles.size, np.uint16)
    convert(singles, got)
    with np.errstate(over="ignore"):
        want = singles.astype(np.float16)
    assert np.array_equal(got, want.view(np.uint16))


def test_every_nan_stays_one() -> None:
    bits = np.uint32([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFC12345])
    for value in bits.view(np.float32):
        for w in (np.float16(1), np.float16(0)):
            x = np.full((1, 1, 1, 1), np.float16(value) if np.isnan(value) else value, "float16")
            got = fastconv.conv2d(x, np.full((1, 1, 1, 1), w), backend="numba")
            assert np.isnan(got).all()


def test_halves_accumulate_in_single_precision() -> None:
    """2048 + 1 + 1 + ... stands still in half precision."""
    x = np.ones((1, 2049, 1, 1), np.float16)
    x[0, 0] = 2048
    w = np.ones((1, 2049, 1, 1), np.float16)
    assert fastconv.conv2d(x, w, backend="numba") == 4096


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_each_dtype_with_its_default_result(dtype: str) -> None:
    x, w = draw((2, 6, 9, 37), dtype), draw((8, 3, 3, 3), dtype)
    problem = describe(x, w, pad=1, groups=2, pad_mode="reflect")
    judge(problem, x, w, None, compute(problem, x, w))


@pytest.mark.parametrize("result", ["int8", "uint16", "int32", "uint64"])
def test_integers_wrap_modulo_the_result(result: str) -> None:
    """From bytes to any width, signed or not, with weights of other signedness."""
    x, w = draw((1, 3, 5, 6), "int8"), draw((5, 3, 2, 2), "int8")
    problem = describe(x, w, dtype=result)
    bias = draw((5,), result)
    problem = replace(problem, bias=True)
    want = np.empty((1, 5, 4, 5), result)
    reference.run(problem, SERIAL, x, w, bias, want)
    assert np.array_equal(compute(problem, x, w, bias), want)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_integer_activations(dtype: str, activation: str) -> None:
    x, w = draw((1, 2, 6, 6), dtype), draw((3, 2, 3, 3), dtype)
    problem = describe(x, w, dtype=dtype, activation=activation)
    judge(problem, x, w, None, compute(problem, x, w))


# --- tiles and blocks -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_around_the_edges_of_the_register_tile(dtype: str) -> None:
    itemsize = np.dtype(dtype).itemsize
    rows, width = intrinsics.tile_of(itemsize)[0], intrinsics.panel_width(itemsize)
    for k in (1, 2, 3, rows - 1, rows, rows + 1, 2 * rows + 7):
        for q in (1, width - 1, width, width + 1, 2 * width + 1):
            x, w = draw((1, 3, 4, q), dtype), draw((k, 3, 3, 1), dtype)
            problem = describe(x, w, pad=((1, 1), (0, 0)))
            judge(problem, x, w, None, compute(problem, x, w))


@pytest.mark.parametrize(
    ("c", "r", "s"),
    [(1, 1, 1), (255, 1, 1), (256, 1, 1), (257, 1, 1), (29, 3, 3), (2, 16, 16), (3, 17, 19)],
)
def test_around_the_steps_of_the_reduction(c: int, r: int, s: int) -> None:
    x, w = draw((1, c, r + 1, s + 2), "float32"), draw((3, c, r, s), "float32")
    problem = describe(x, w)
    judge(problem, x, w, None, compute(problem, x, w))


def forced(monkeypatch: pytest.MonkeyPatch, strip: bool) -> None:
    """Make one way of gathering free and the other expensive."""
    monkeypatch.setattr(blocking, "_cost", lambda problem, machine, b: float(b.strip != strip))
    launch.plan.cache_clear()


GEOMETRIES = [
    {},
    {"pad": 2, "stride": 2},
    {"pad": ((5, 0), (1, 7)), "stride": (3, 2), "dilation": (1, 3), "pad_mode": "wrap"},
    {"pad": 3, "stride": (1, 5), "dilation": 2, "pad_mode": "symmetric", "groups": 3},
    {"pad": 40, "stride": (5, 3), "pad_mode": "reflect", "groups": 6},
    {"pad": "full", "dilation": (4, 1), "pad_mode": "edge", "groups": 2},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_both_ways_of_gathering_agree_to_the_bit(
    geometry: dict[str, object], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = draw((2, 12, 17, 45), dtype), draw((18, 12 // geometry.get("groups", 1), 3, 4), dtype)
    problem = describe(x, w, **geometry)
    results = []
    for strip in (True, False):
        forced(monkeypatch, strip)
        name = backend.algorithm(problem, SERIAL).name
        assert name == ("strip_gemm" if strip else "im2col_gemm")
        results.append(compute(problem, x, w))
    launch.plan.cache_clear()
    assert results[0].tobytes() == results[1].tobytes()
    judge(problem, x, w, None, results[0])


def test_both_ways_are_taken() -> None:
    """Wide images and few channels in strips, small deep ones in im2col panels."""
    wide = ConvProblem(1, 1, 480, 640, 1, 5, 5)
    deep = ConvProblem(1, 512, 7, 7, 512, 3, 3, pad=((1, 1), (1, 1)))
    huge_kernel = ConvProblem(1, 1, 300, 300, 1, 200, 200)
    names = [backend.algorithm(p, SERIAL).name for p in (wide, deep, huge_kernel)]
    assert names == ["strip_gemm", "im2col_gemm", "im2col_gemm"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_scratch_is_bounded_by_the_workspace_whatever_the_problem(dtype: str) -> None:
    for problem in (
        ConvProblem(1, 3, 2**20, 2**20, 64, 11, 11),
        ConvProblem(64, 4096, 3, 3, 4096, 3, 3),
        ConvProblem(1, 1, 2**40, 2**10, 1, 2**9, 2**9),
        ConvProblem(8, 960, 56, 56, 960, 3, 3, groups=960, dilation=(7, 9)),
        ConvProblem(1, 255, 9, 9, 7, 1, 1, stride=(2**40, 2**40)),
    ):
        held = replace(problem, dtype=dtype, out_dtype=dtype)
        for workspace in (MINIMUM_WORKSPACE, 8 << 20):
            options = Options(threads=1, workspace=workspace)
            assert 0 < backend.algorithm(held, options).scratch_bytes <= workspace + 64


@pytest.mark.parametrize("workspace", [MINIMUM_WORKSPACE, 1 << 18, 8 << 20])
def test_workspace_changes_no_bit(workspace: int) -> None:
    """Small workspaces also leave the conversion of the weights to the tasks."""
    for dtype in ("float16", "float32"):
        x, w = draw((2, 40, 20, 33), dtype), draw((70, 40, 3, 3), dtype)
        w = np.asfortranarray(w)
        problem = describe(x, w, pad=1)
        want = compute(problem, x, w)
        got = compute(problem, x, w, options=Options(threads=2, workspace=workspace))
        assert got.tobytes() == want.tobytes()


def test_border_is_the_one_of_the_reference() -> None:
    @numba.njit
    def every(size: int, mode: int, out: Array) -> None:
        for i in range(out.size):
            out[i] = gather.border(i - out.size // 2, size, mode)

    for mode, name in enumerate(PAD_MODES):
        for size in (1, 2, 3, 7):
            got = np.empty(61, np.int64)
            every(size, mode, got)
            assert np.array_equal(got, source_index(np.arange(61) - 30, size, name)), (name, size)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_any_strides_of_x_w_and_out(dtype: str) -> None:
    x, w = draw((2, 6, 11, 38), dtype), draw((9, 6, 3, 2), dtype)
    problem = describe(x, w, pad=2, stride=(1, 2), pad_mode="symmetric")
    want = compute(problem, x, w)
    spaced = np.repeat(np.repeat(x, 2, 3), 3, 1)[:, ::3, :, ::2]
    xs = [x[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1], spaced, np.asfortranarray(x)]
    ws = [w[::-1, :, ::-1].copy()[::-1, :, ::-1], np.repeat(w, 2, 0)[::2], np.asfortranarray(w)]
    for held_x in xs:
        for held_w in ws:
            held_x.flags.writeable = held_w.flags.writeable = False
            for out in (
                np.empty((2, problem.p, problem.q, 9), problem.out_dtype).transpose(0, 3, 1, 2),
                np.empty((2, 18, problem.p, 2 * problem.q), problem.out_dtype)[:, ::-2, :, ::-2],
            ):
                backend.run(problem, SERIAL, held_x, held_w, None, out)
                assert np.array_equal(out, want)


def test_strided_out_leaves_the_gaps_alone() -> None:
    x, w = draw((1, 3, 9, 40), "float32"), draw((5, 3, 3, 3), "float32")
    problem = describe(x, w)
    memory = np.full((1, 5, 14, 76), np.float32(7))
    backend.run(problem, SERIAL, x, w, None, memory[:, :, ::2, ::2])
    untouched = np.ones(memory.shape, bool)
    untouched[:, :, ::2, ::2] = False
    assert (memory[untouched] == 7).all()
    assert np.array_equal(memory[:, :, ::2, ::2], compute(problem, x, w))


# --- numbers --------------------------------------------------------------------------------------


def test_zero_times_infinity_at_the_border() -> None:
    x = np.ones((1, 2, 6, 40), np.float32)
    w = np.zeros((3, 2, 3, 3), np.float32)
    w[1, 0, 0, 0], w[2, 1, 2, 2] = np.inf, np.nan
    problem = describe(x, w, pad=((1, 2), (3, 1)))
    got = compute(problem, x, w)
    judge(problem, x, w, None, got)
    assert np.isnan(got[0, 1, 0]).all()
    assert np.isposinf(got[0, 1, 1:, 3:]).any()


def test_subnormals_are_kept() -> None:
    for dtype in ("float32", "float64", "float16"):
        tiny = np.finfo(dtype).smallest_subnormal
        x, w = np.full((1, 1, 2, 40), tiny, dtype), np.ones((1, 1, 1, 1), dtype)
        assert (fastconv.conv2d(x, w, backend="numba") == tiny).all()


def test_long_sums_of_equal_numbers_stay_accurate() -> None:
    """Sums of sums: one running float32 sum of these would be 100 times further off."""
    x, w = np.full((1, 2**17, 1, 1), np.float32(0.1)), np.ones((1, 2**17, 1, 1), np.float32)
    got = float(fastconv.conv2d(x, w, backend="numba").item())
    assert abs(got / (float(np.float32(0.1)) * 2**17) - 1) < 2e-5


def test_a_forked_child_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_forked", True)
    assert threads.usable(8) == 1
