"""The kernels' own sources on the host model, through conv2d, held against the contract."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cuda_support.host_model import SCHEDULES
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
from fastconv.backends.cuda.configuration import TILES, Configuration, Tile
from fastconv.borders import PAD_MODES
from fastconv.dtypes import INTEGERS
from fastconv.problem import ConvProblem

FLOATS = ("float32", "float64")
LAYOUTS = ("NCHW", "NHWC")
NARROWEST = TILES["float32"][-1]

#: Every way a kernel can be built, but for border and activation.
TILED = [
    pytest.param(dtype, tile, id=f"{dtype}-{tile.bm}x{tile.bn}")
    for dtype in FLOATS
    for tile in TILES[dtype]
]


def tiled(tile: Tile, wide: bool = False) -> Callable[..., Configuration]:
    """Return a ladder of one rung: the implicit GEMM with this tile."""
    return lambda problem, strides=None: configuration.igemm_simt(problem, tile, wide)


def naive(problem: ConvProblem, strides: object = None) -> Configuration:
    """Return a ladder of one rung: the definition."""
    return configuration.direct_naive(problem)


def held(case: Case, layout: str) -> Case:
    """Return the case in a layout."""
    return case if layout == "NCHW" else case.channels_last()


#: Pixels, channels and terms around the tiles, primes and ones, and every other part of a problem.
SHAPES = [
    Case((1, 1, 1, 1), (4, 1, 1, 1)),
    Case((1, 9, 1, 1), (5, 9, 1, 1), bias=True),
    Case((2, 3, 1, 31), (13, 3, 1, 3)),
    Case((1, 8, 4, 8), (32, 8, 1, 1)),
    Case((1, 8, 3, 11), (33, 8, 1, 1), bias=True),
    Case((3, 7, 5, 5), (4, 7, 3, 3), pad=1),
    Case((1, 2, 13, 11), (37, 2, 3, 5), stride=(2, 3), pad=((2, 0), (1, 4)), bias=True),
    Case((1, 6, 9, 8), (10, 3, 3, 2), groups=2, dilation=(2, 3), pad=3),
    Case((2, 10, 4, 5), (20, 2, 2, 2), groups=5, pad="same", bias=True),
    Case((1, 3, 6, 7), (5, 3, 3, 3), pad="full", flip=True),
    Case((5, 6, 7), (6, 5, 3, 3), pad=1, stride=2),
    Case((2, 2, 1, 1), (4, 2, 1, 1), pad=1),
    Case((1, 17, 5, 7), (67, 17, 3, 1), pad=(1, 0), stride=2),
]

#: What the ladder hands to the definition.
NARROW = [
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((9, 7), (3, 3), pad=2, flip=True),
    Case((2, 6, 8, 9), (6, 1, 3, 3), groups=6, pad=1, stride=2, bias=True),
    Case((1, 4, 5, 6), (12, 1, 3, 2), groups=4, dilation=2, pad=((0, 3), (2, 1))),
    Case((1, 3, 17, 19), (3, 3, 2, 5), stride=(1, 4)),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "tile"), TILED)
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


BORDERS = [
    Case((2, 2, 4, 5), (5, 2, 3, 3), pad=((2, 1), (3, 7))),
    Case((1, 2, 1, 3), (4, 2, 2, 3), pad=9, stride=2),
    Case((1, 2, 5, 2), (4, 1, 3, 2), pad=((11, 0), (0, 6)), groups=2, dilation=2),
]


@pytest.mark.parametrize("choose", [naive, tiled(NARROWEST)], ids=["naive", "igemm"])
@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_borders(host_cuda, pad_mode: str, choose: Callable[..., Configuration]) -> None:
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
def test_activations(
    host_cuda, activation: str, dtype: str, choose: Callable[..., Configuration]
) -> None:
    host_cuda.force(choose)
    case = Case((2, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, activation=activation, dtype=dtype)
    for family in ("integers", "normal", "spread", "subnormal"):
        judge(host_cuda, case, family)
    special = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, -3, 3, 6, -6], dtype)
    arrays = Arrays(special.reshape(1, 1, 1, -1), np.ones((4, 1, 1, 1), dtype), None)
    got = compute(host_cuda, Case(arrays.x.shape, (4, 1, 1, 1), activation=activation), arrays) \
        if dtype == "float32" else None  # fmt: skip
    if got is not None:
        with np.errstate(all="ignore"):
            want = ACTIVATIONS[activation].function(special.astype(np.longdouble))
        np.testing.assert_array_equal(np.isnan(got[0, 0, 0]), np.isnan(want))
        np.testing.assert_array_equal(np.isinf(got[0, 0, 0]), np.isinf(want))


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64", "float16"])
def test_activations_of_other_numbers(host_cuda, dtype: str, activation: str) -> None:
    case = Case((1, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, dtype=dtype, activation=activation)
    judge(host_cuda, case, "integers")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float16_activations_round_once(host_cuda, activation: str) -> None:
    case = Case((1, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, dtype="float16")
    judge(host_cuda, case.with_(activation=activation), "normal")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(host_cuda, layout: str) -> None:
    """Steps, reversed axes, broadcasts, another memory order, out inside a larger array."""
    case = Case((2, 6, 5, 7), (8, 3, 3, 3), pad=1, groups=2, bias=True)
    arrays = draw(case, "normal")
    want = compute(host_cuda, case, arrays)

    def spread(array: np.ndarray) -> np.ndarray:
        roomy = np.full([2 * n for n in array.shape], np.nan, array.dtype)
        view = roomy[tuple(slice(None, None, -2) for _ in array.shape)]
        view[...] = array
        return view

    def reordered(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    for x, w in itertools.product((spread, reordered), repeat=2):
        whole = np.full((4, 8, 10, 7), np.nan, "f4")
        out = whole[::-2, :, 1::2][:, ::-1]
        bias = spread(arrays.bias)
        host_cuda(x(arrays.x), w(arrays.w), bias=bias, out=out, **case.arguments)
        assert_same_bits(np.ascontiguousarray(out), want, "strides")
        assert np.isnan(whole[:, :, ::2]).all(), "wrote beside out"
    one = np.broadcast_to(np.float32(1), (1, 4, 6, 6))
    got = compute(host_cuda, Case((1, 4, 6, 6), (4, 4, 3, 3)), Arrays(one, one[0, :, None, :3, :3]
                  .repeat(4, 1), None))  # fmt: skip
    assert (got == 36).all()


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
