"""The kernels' own sources on the host model, through conv2d, held against the contract."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from cuda_support.host_model import SCHEDULES
from cuda_support.shapes import (
    BORDERS,
    FLOATS,
    LAYOUTS,
    NARROW,
    NARROWEST,
    SHAPES,
    TILE_IDS,
    TILED,
    Choose,
    held,
    naive,
    tiled,
)
from hypothesis import given
from hypothesis import strategies as st
from support.cases import FAMILIES, Arrays, Case, draw, logical_image, logical_kernel
from support.judge import (
    assert_same_bits,
    compute,
    judge,
    judge_determinism,
    judge_special_values,
)

from fastconv.activations import ACTIVATIONS
from fastconv.backends.cuda import configuration
from fastconv.backends.cuda.configuration import TILES, Tile
from fastconv.borders import PAD_MODES
from fastconv.dtypes import INTEGERS


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "tile"), TILED, ids=TILE_IDS)
def test_every_tile(host_cuda, dtype: str, tile: Tile, layout: str) -> None:
    host_cuda.force(tiled(tile))
    for case in SHAPES:
        judge(host_cuda, held(case, layout).with_(dtype=dtype), "integers")
    for schedule, case in zip(itertools.cycle(SCHEDULES), SHAPES[4:8], strict=False):
        host_cuda.gpu.schedule = schedule
        judge(host_cuda, held(case, layout).with_(dtype=dtype), "normal")
    assert {launch.kernel for launch in host_cuda.gpu.launches} == {"igemm_simt"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_several_tiles_in_every_direction(host_cuda, dtype: str, layout: str) -> None:
    case = Case((2, 11, 9, 10), (70, 11, 3, 3), pad=1, bias=True, dtype=dtype)
    host_cuda.force(tiled(NARROWEST))
    judge(host_cuda, held(case, layout), "normal")
    blocks = host_cuda.gpu.launches[0].blocks
    assert blocks == -(-180 // 32) * -(-70 // 32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_wide_offsets(host_cuda, dtype: str, layout: str) -> None:
    host_cuda.force(tiled(NARROWEST, wide=True))
    for case in SHAPES:
        judge(host_cuda, held(case, layout).with_(dtype=dtype), "integers")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_families_of_data(host_cuda, dtype: str, family: str) -> None:
    host_cuda.force(tiled(NARROWEST))
    for case, layout in itertools.product((SHAPES[7], SHAPES[12]), LAYOUTS):
        judge(host_cuda, held(case, layout).with_(dtype=dtype), family)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, "float16", *INTEGERS])
def test_the_definition(host_cuda, dtype: str, layout: str) -> None:
    """direct_naive, for every dtype and all the surface."""
    host_cuda.force(naive)
    for case in SHAPES + NARROW:
        judge(host_cuda, held(case, layout).with_(dtype=dtype), "integers")
    if dtype[0] == "f":
        for family in FAMILIES:
            if (dtype, family) != ("float16", "underflow"):
                judge(host_cuda, held(SHAPES[7], layout).with_(dtype=dtype), family)


@pytest.mark.parametrize(
    ("operand", "result"), [("int8", "int8"), ("int8", "uint64"), ("uint16", "int64")]
)
def test_integers_wrap_at_the_width_asked_for(host_cuda, operand: str, result: str) -> None:
    case = Case((1, 3, 6, 7), (4, 3, 3, 3), pad=1, dtype=operand)
    x, w, _ = draw(case, "integers")
    got = host_cuda.cupy.empty((1, 4, 6, 7), result).get()
    host_cuda(x, w, out=got, dtype=result, **case.arguments)
    with np.errstate(over="ignore"):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(result)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        want = np.einsum("ncpqrs,kcrs->nkpq", windows, w.astype(result))
    assert_same_bits(got, want.astype(result), f"{operand} into {result}")


def test_the_ladder_covers_a_grid_of_channels(host_cuda) -> None:
    """C and K around the edges of the smallest tile, whatever kernel the ladder takes."""
    for c, k in itertools.product((1, 3, 8, 9), (1, 3, 4, 31, 32, 33)):
        judge(host_cuda, Case((1, c, 4, 9), (k, c, 2, 2), pad=1), "integers")
    kernels = {launch.kernel for launch in host_cuda.gpu.launches}
    assert kernels == {"direct_naive", "igemm_simt"}


@pytest.mark.parametrize("choose", [naive, tiled(NARROWEST)], ids=["naive", "igemm"])
@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_borders(host_cuda, pad_mode: str, choose: Choose) -> None:
    host_cuda.force(choose)
    for case, layout in itertools.product(BORDERS, LAYOUTS):
        judge(host_cuda, held(case, layout).with_(pad_mode=pad_mode), "integers")
    for value in (np.nan, np.inf, -np.inf):
        for array, where in itertools.product((0, 1), ((0, 0), (-1, -1))):
            arrays = draw(BORDERS[0], "normal")
            arrays[array][-1, -1][where] = value
            judge_special_values(host_cuda, BORDERS[0].with_(pad_mode=pad_mode), arrays)


@pytest.mark.parametrize("choose", [naive, tiled(NARROWEST)], ids=["naive", "igemm"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(host_cuda, activation: str, dtype: str, choose: Choose) -> None:
    host_cuda.force(choose)
    case = Case((2, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, activation=activation, dtype=dtype)
    for family in ("integers", "normal", "spread", "subnormal"):
        judge(host_cuda, case, family)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_special_values(host_cuda, activation: str) -> None:
    values = [np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, 1e-40, -3, 3, 6, -6]
    x = np.array(values, "f4").reshape(1, 1, 1, -1)
    arrays = Arrays(x, np.ones((4, 1, 1, 1), "f4"), None)
    got = compute(host_cuda, Case(x.shape, (4, 1, 1, 1), activation=activation), arrays)
    with np.errstate(all="ignore"):
        want = ACTIVATIONS[activation].function(x.astype(np.longdouble)).repeat(4, 1)
        bound = 8 * 2.0**-24 * np.maximum(np.abs(want), np.minimum(np.abs(x), 1))
        for mask in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(mask(got), mask(want))
        finite = np.isfinite(want)
        assert (np.abs(got - want)[finite] <= bound[finite]).all()


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float16"])
def test_activations_of_other_numbers(host_cuda, dtype: str, activation: str) -> None:
    case = Case((1, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, dtype=dtype, activation=activation)
    judge(host_cuda, case, "integers")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float16_activations_round_once(host_cuda, activation: str) -> None:
    case = Case((1, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, dtype="float16")
    judge(host_cuda, case.with_(activation=activation), "normal")


def spread(array: np.ndarray) -> np.ndarray:
    """Copy into every second place of a larger array, backwards."""
    roomy = np.full([2 * size for size in array.shape], np.nan, array.dtype)
    view = roomy[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def reordered(array: np.ndarray) -> np.ndarray:
    """Copy, with channels last in memory."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("choose", [naive, tiled(NARROWEST)], ids=["naive", "igemm"])
def test_any_strides(host_cuda, choose: Choose) -> None:
    """Steps, reversed axes, broadcasts, another memory order, out inside a larger array."""
    host_cuda.force(choose)
    case = Case((2, 6, 5, 7), (8, 3, 3, 3), pad=1, groups=2, bias=True)
    arrays = draw(case, "normal")
    want = compute(host_cuda, case, arrays)
    for x, w in itertools.product((spread, reordered), repeat=2):
        whole = np.full((4, 8, 10, 7), np.nan, "f4")
        out = whole[::-2, :, 1::2][:, ::-1]
        bias = spread(arrays.bias)
        host_cuda(x(arrays.x), w(arrays.w), bias=bias, out=out, **case.arguments)
        assert_same_bits(np.ascontiguousarray(out), want, f"{x.__name__}, {w.__name__}")
        assert np.isnan(whole[:, :, ::2]).all(), "wrote beside out"
        assert np.isnan(whole[::2]).all(), "wrote beside out"
    ones = Arrays(
        np.broadcast_to(np.float32(1), (1, 4, 6, 6)),
        np.broadcast_to(np.float32(1), (5, 4, 3, 3)),
        None,
    )
    assert (compute(host_cuda, Case((1, 4, 6, 6), (5, 4, 3, 3)), ones) == 36).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_special_values(host_cuda, layout: str) -> None:
    for case, value in itertools.product((SHAPES[5], SHAPES[7]), (np.nan, np.inf, -np.inf)):
        case = held(case, layout)
        arrays = draw(case, "normal")
        logical_kernel(arrays.w, False)[-1, -1, -1, -1] = value
        judge_special_values(host_cuda, case, arrays)
        arrays = draw(case, "normal")
        logical_image(arrays.x, layout)[0, 0, 0, 0] = value
        judge_special_values(host_cuda, case, arrays)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_tile_computes_the_same_bits(host_cuda, dtype: str, layout: str) -> None:
    """Hence the ladder may look at the batch: the tile it takes changes no result."""
    case = held(Case((2, 7, 6, 7), (9, 7, 3, 3), pad=1, bias=True, dtype=dtype), layout)
    arrays = draw(case, "spread")
    host_cuda.force(tiled(TILES[dtype][0]))
    want = compute(host_cuda, case, arrays)
    for tile, wide in itertools.product(TILES[dtype], (False, True)):
        host_cuda.force(tiled(tile, wide))
        assert_same_bits(compute(host_cuda, case, arrays), want, f"{tile}, wide={wide}")


@pytest.mark.parametrize("case", [SHAPES[5], SHAPES[8], NARROW[2]], ids=str)
def test_determinism(host_cuda, case: Case) -> None:
    judge_determinism(host_cuda, case, draw(case, "spread"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_schedules_do_not_matter(host_cuda, dtype: str) -> None:
    host_cuda.force(tiled(NARROWEST))
    case = Case((1, 7, 6, 7), (9, 7, 3, 3), pad=1, dtype=dtype)
    arrays = draw(case, "spread")
    want = compute(host_cuda, case, arrays)
    for schedule, seed in itertools.product(SCHEDULES, range(3)):
        host_cuda.gpu.schedule, host_cuda.gpu.seed = schedule, seed
        assert_same_bits(compute(host_cuda, case, arrays), want, f"{schedule} {seed}")


def test_fewer_threads_than_outputs(host_cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """direct_naive takes further outputs in turn where the grid is at its limit."""
    monkeypatch.setattr(configuration, "NAIVE_BLOCKS", 2)
    host_cuda.force(naive)
    case = Case((2, 3, 19, 21), (2, 3, 3, 3), pad=1)
    judge(host_cuda, case, "normal")
    assert host_cuda.gpu.launches[0].blocks == 2


def test_the_batch_is_no_part_of_the_choice_of_kernel() -> None:
    """Kernels sum in different orders; only the tile may depend on the batch."""
    for case in SHAPES + NARROW:
        problem = case.problem
        kernels = {configuration.choose(replace(problem, n=n)).kernel for n in (1, 2, 64, 4096)}
        assert len(kernels) == 1


@st.composite
def problems(draw_from: st.DrawFn) -> Case:
    """Small legal problems of every geometry, in float32."""
    size = draw_from

    def pair(low: int, high: int) -> tuple[int, int]:
        return size(st.integers(low, high)), size(st.integers(low, high))

    groups, (r, s), (dh, dw) = size(st.integers(1, 3)), pair(1, 4), pair(1, 3)
    pads = pair(0, 4), pair(0, 4)
    h, w = (
        size(st.integers(max(1, (taps - 1) * step + 1 - sum(pad)), 12))
        for taps, step, pad in zip((r, s), (dh, dw), pads, strict=True)
    )
    x = (size(st.integers(1, 3)), groups * size(st.integers(1, 5)), h, w)
    kernel = (groups * size(st.integers(1, 20)), x[1] // groups, r, s)
    case = Case(
        x, kernel, stride=pair(1, 4), pad=pads, dilation=(dh, dw), groups=groups,
        bias=size(st.booleans()), flip=size(st.booleans()),
    )  # fmt: skip
    return held(case, size(st.sampled_from(LAYOUTS)))


@given(problems())
def test_random_problems(host_cuda, case: Case) -> None:
    judge(host_cuda, case, "integers")
