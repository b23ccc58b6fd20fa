"""The native algorithms that read every tap in place: direct_filter, direct_signal,
direct_channels, direct_pointwise, dot_product, and the implicit GEMM where it copies blocks of x
with their border.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.cases import FAMILIES, Case, draw, generator, logical_image
from support.guard import Fence
from support.judge import (
    assert_same_bits,
    compute,
    judge,
    judge_determinism,
    judge_special_values,
    on,
)

import fastconv
from fastconv.borders import PAD_MODES

# Tiles of filters are up to 8 rows by 3 vectors; kernels of 3 rows have tiles of their own, and
# strides and dilations share rows in phases.
FILTERS = [
    Case((17, 50), (3, 3), pad=1),
    Case((30, 7), (7, 1), pad=(3, 0)),
    Case((23, 61), (2, 2), pad="same"),
    Case((29, 67), (9, 10), pad="same", flip=True),
    Case((20, 19), (31, 29), pad="same"),
    Case((3, 4), (63, 63), pad="same"),
    Case((70, 70), (63, 63), pad="full", stride=(9, 7)),
    Case((40, 90), (5, 5), stride=2, pad=2, bias=False),
    Case((40, 90), (5, 4), stride=(3, 2), dilation=(2, 3), pad=4),
    Case((41, 37), (4, 5), dilation=(4, 2), pad="same"),
    Case((2, 1, 12, 33), (2, 1, 3, 5), pad=1, bias=True, activation="relu"),
    Case((1, 3, 13, 50), (6, 1, 3, 3), groups=3, pad=1, bias=True),
    Case((1, 3, 13, 50), (1, 3, 5, 5), pad=2, bias=True, activation="sigmoid"),
    Case((2, 4, 15, 18), (3, 4, 6, 3), stride=2, pad=(5, 1)),
    Case((1, 5, 14, 14), (5, 1, 13, 13), groups=5, pad=6),
    Case((1, 1, 200, 3), (1, 1, 150, 2), pad=(60, 1)),
]

# Kernels of one row, of each of the tiles' shapes and with parts of a row: long ones in several
# stretches, blocks inside of x and at its borders, rows that end with parts of blocks.
SIGNALS = [
    Case((1, 1, 1, 1500), (1, 1, 1, 3), pad=(0, 1)),
    Case((9, 31), (1, 7), pad=(0, 3)),
    Case((1, 1, 1, 2000), (1, 1, 1, 64), pad="same", bias=True, activation="relu"),
    Case((1, 1, 1, 1900), (1, 1, 1, 65), pad=(0, 32), flip=True),
    Case((2, 1, 1, 1300), (2, 1, 1, 97), pad="same"),
    Case((1, 1, 1, 1400), (1, 1, 1, 128)),
    Case((3, 1, 1, 1500), (1, 1, 1, 225), pad="full", bias=True),
    Case((1, 1, 1, 2100), (1, 1, 1, 256)),
    Case((1, 1, 1, 600), (1, 1, 1, 400), pad=(0, 7)),
    Case((1, 2, 1, 2000), (3, 2, 1, 257), pad=(0, 100)),
    Case((1, 1, 1, 3000), (1, 1, 1, 1025), pad="same"),
    Case((2, 1, 1, 2500), (1, 1, 1, 2049), pad=(0, 9)),
    Case((1, 1, 1, 4600), (1, 1, 1, 4301), pad=(0, 5), bias=True),
    Case((1, 1, 1, 3100), (2, 1, 1, 300), dilation=(1, 3), pad=(0, 20)),
    Case((1, 1, 1, 900), (1, 1, 1, 40), dilation=(1, 16), pad="same"),
    Case((1, 1, 1, 3000), (1, 1, 1, 500), stride=(1, 2), pad=(0, 60)),
    Case((1, 3, 1, 1200), (3, 3, 1, 130), stride=(1, 3), dilation=(1, 2), pad=(0, 11)),
    Case((2, 6, 3, 700), (6, 1, 1, 31), groups=6, pad=(1, 15), bias=True),
    Case((1, 4, 5, 300), (2, 2, 1, 100), groups=2, stride=(2, 1), pad=((1, 0), (3, 50))),
]

# Lanes run along rows or across them; outputs come in sets, columns and rows in blocks.
CHANNELS = [
    Case((2, 8, 9, 11), (8, 4, 3, 3), groups=2, pad=1),
    Case((1, 12, 7, 7), (20, 6, 3, 3), groups=2, pad=1, bias=True),
    Case((1, 64, 7, 7), (64, 32, 3, 3), groups=2, pad=1, bias=True, activation="relu"),
    Case((2, 32, 14, 14), (34, 16, 3, 3), groups=2, pad=1, stride=2),
    Case((1, 64, 9, 8), (80, 32, 2, 3), groups=2, pad=(2, 1), activation="tanh", bias=True),
    Case((1, 4, 6, 40), (8, 2, 3, 1), groups=2, stride=2, pad=1),
    Case((1, 3, 21, 70), (9, 3, 7, 7), stride=2, pad=3),
    Case((1, 3, 23, 21), (17, 3, 5, 4), stride=(4, 2), dilation=(1, 2), pad=4, bias=True),
    Case((1, 1, 19, 35), (12, 1, 9, 9), pad=4),
    Case((1, 2, 3, 300), (5, 2, 3, 2), pad="same"),
    Case((1, 4, 2, 2), (4, 4, 2, 2), pad=((3, 0), (0, 5)), dilation=2),
    Case((1, 6, 1, 5), (12, 2, 1, 3), groups=3, pad=(0, 1)),
    Case((2, 34, 5, 6), (4, 17, 3, 3), groups=2, pad=1),
]

# Rows of 7 pixels share tiles in pairs, the last of an odd number alone; longer rows are cut
# evenly; several blocks of channels, and taps or channels first.
GEMM = [
    Case((2, 24, 7, 7), (40, 24, 3, 3), pad=1, bias=True),
    Case((1, 20, 6, 14), (97, 20, 3, 3), pad=((1, 0), (1, 1)), stride=(1, 2), activation="relu"),
    Case((1, 72, 9, 28), (128, 72, 3, 3), pad=1, stride=2),
    Case((1, 18, 14, 28), (64, 18, 3, 3), dilation=2, pad=2),
    Case((1, 16, 5, 530), (64, 16, 3, 3), pad=1, bias=True),
    Case((1, 128, 8, 13), (128, 64, 5, 1), groups=2, pad=(2, 0)),
    Case((1, 70, 12, 17), (96, 70, 1, 7), pad=(0, 3)),
    Case((1, 130, 10, 9), (48, 130, 3, 2)),
    Case((1, 3, 31, 29), (64, 3, 5, 4), stride=(4, 3), dilation=(1, 2), pad=4, bias=True),
    Case((1, 17, 4, 3), (32, 17, 3, 3), pad=((5, 1), (0, 4)), activation="tanh"),
]

# Images that shrink to one pixel: whole vectors and parts, few outputs left over, odd batches.
DOTS = [
    Case((1, 320, 1, 1), (48, 320, 1, 1), bias=True),
    Case((3, 261, 1, 1), (21, 261, 1, 1), bias=True, activation="relu"),
    Case((2, 12, 5, 6), (19, 12, 5, 6)),
    Case((5, 100, 7, 5), (40, 50, 3, 2), groups=2, dilation=3, stride=2, activation="sigmoid"),
]

# One to four outputs of 1x1 kernels: strips with and without a part of a vector, several of them,
# and channels that are no whole number of blocks, vectors or groups.
POINTS = [
    Case((2, 9, 17, 31), (2, 9, 1, 1), bias=True),
    Case((1, 37, 5, 7), (4, 37, 1, 1), bias=True, activation="relu"),
    Case((2, 14, 40, 61), (6, 7, 1, 1), groups=2, bias=True),
    Case((1, 64, 33, 65), (1, 64, 1, 1), activation="sigmoid"),
    Case((3, 5, 4, 4), (3, 5, 1, 1)),
]

ALGORITHM = dict.fromkeys(FILTERS, "direct_filter") | dict.fromkeys(CHANNELS, "direct_channels")
ALGORITHM |= dict.fromkeys(GEMM, "im2col_gemm") | dict.fromkeys(DOTS, "dot_product")
ALGORITHM |= dict.fromkeys(POINTS, "direct_pointwise") | dict.fromkeys(SIGNALS, "direct_signal")
ALL = [case for case in ALGORITHM for case in (case, case.channels_last())]


def algorithm(case: Case) -> str:
    present("native")
    return fastconv.explain(case.x, case.w, backend="native", bias=None, **case.arguments).algorithm


@pytest.mark.parametrize("case", ALGORITHM, ids=str)
def test_the_cases_are_taken(case: Case) -> None:
    if case.problem.groups == 1 or case.problem.c != case.problem.groups or case in SIGNALS:
        assert algorithm(case) == ALGORITHM[case]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_accuracy(case: Case) -> None:
    present("native")
    for dtype, family in itertools.product(("float32", "float64"), ("integers", "normal")):
        judge(on("native"), case.with_(dtype=dtype), family)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize(
    "case",
    [
        FILTERS[3],
        FILTERS[8],
        CHANNELS[0],
        CHANNELS[7],
        GEMM[0],
        GEMM[8],
        SIGNALS[6],
        SIGNALS[16],
        SIGNALS[18],
    ],
    ids=str,
)
def test_borders(case: Case, pad_mode: str) -> None:
    present("native")
    judge(on("native"), case.with_(pad_mode=pad_mode), "integers")
    judge(on("native"), case.channels_last().with_(pad_mode=pad_mode), "integers")


@pytest.mark.parametrize(
    "case",
    [*FILTERS[:4], *FILTERS[7:12], *CHANNELS[:8], *GEMM, *DOTS, *POINTS, *SIGNALS[:9]],
    ids=str,
)
def test_special_values(case: Case) -> None:
    present("native")
    case = case.with_(activation=None)
    for value, which in itertools.product((np.nan, np.inf, -np.inf), (0, 1)):
        for index in (0, -1):
            arrays = draw(case, "normal")
            arrays[which].flat[index] = value
            judge_special_values(on("native"), case, arrays)


@pytest.mark.parametrize(
    "case",
    [FILTERS[3], FILTERS[8], *FILTERS[10:14], *CHANNELS[:8], *GEMM, *DOTS, *POINTS, *SIGNALS],
    ids=str,
)
def test_bits_depend_on_no_threads_batch_or_alignment(case: Case) -> None:
    present("native")
    judge_determinism(on("native"), case, draw(case, "spread"))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_scratch_changes_blocks_and_not_bits(case: Case) -> None:
    present("native")
    for dtype in ("float32", "float64"):
        held = case.with_(dtype=dtype)
        arrays = draw(held, "spread")
        want = compute(on("native"), held, arrays)
        with fastconv.options(workspace=1 << 16):
            assert_same_bits(compute(on("native"), held, arrays), want, f"{held}: least scratch")
            report = fastconv.explain(
                arrays.x, arrays.w, backend="native", threads=1, **held.arguments
            )
            assert report.scratch_bytes <= 1 << 16


@pytest.mark.parametrize("case", ALL, ids=str)
def test_a_plan_has_the_call_s_bits(case: Case) -> None:
    """Packed weights, read in another order or along other lanes, make the same chains."""
    present("native")
    for dtype in ("float32", "float64"):
        held = case.with_(dtype=dtype)
        x, w, bias = draw(held, "spread")
        plan = fastconv.plan_conv2d(w, x.shape, bias=bias, backend="native", **held.arguments)
        want = fastconv.conv2d(x, w, bias=bias, backend="native", **held.arguments)
        assert_same_bits(plan(x), want, f"{held}: plan")
        room = np.full([2 * n for n in want.shape], 7, dtype)
        out = room[tuple(slice(None, None, 2) for _ in want.shape)]
        assert_same_bits(np.ascontiguousarray(plan(x, out=out)), want, f"{held}: plan into gaps")
        assert (room[..., 1::2] == 7).all()


@pytest.mark.parametrize(
    "case", [*FILTERS[:8], *CHANNELS, *GEMM, *DOTS, *POINTS, *SIGNALS], ids=str
)
def test_views_in_every_direction(case: Case) -> None:
    present("native")
    x, w, bias = draw(case, "spread")
    want = fastconv.conv2d(x, w, bias=bias, backend="native", **case.arguments)
    for held in (np.flip(np.ascontiguousarray(np.flip(x))), np.asfortranarray(x)):
        for kernel in (w, np.flip(np.ascontiguousarray(np.flip(w))), np.asfortranarray(w)):
            got = fastconv.conv2d(held, kernel, bias=bias, backend="native", **case.arguments)
            assert_same_bits(got, want, f"{case}: views")


GUARDED = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_native_algorithms import walk_guarded
walk_guarded()
print("sound")
"""


def walk_guarded() -> None:
    """Every case with its arrays flush against forbidden pages, at either end."""
    fences = [Fence(256) for _ in range(4)]
    for case, side in itertools.product(ALL, ("before", "after")):
        arrays = draw(case, "integers")
        want = fastconv.conv2d(
            arrays.x, arrays.w, bias=arrays.bias, backend="reference", **case.arguments
        )
        held: list[Any] = [
            None if a is None else fence.hold(a, side)
            for a, fence in zip(arrays, fences[:3], strict=True)
        ]
        out = fences[3].hold(np.full_like(want, -1), side)
        fastconv.conv2d(held[0], held[1], bias=held[2], out=out, backend="native", **case.arguments)
        plan = fastconv.plan_conv2d(
            held[1], held[0].shape, bias=held[2], backend="native", **case.arguments
        )
        if case.activation in (None, "relu"):
            assert np.array_equal(out, want), (case, side)
        first = out.copy()
        again = fences[3].hold(np.full_like(want, -1), side)
        plan(held[0], out=again)
        assert np.array_equal(again, first), (case, side)


def test_nothing_outside_of_the_arrays_is_read_or_written() -> None:
    present("native")
    assert processes.run(GUARDED, *paths()).strip() == "sound"


EVERY = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_native_algorithms import ALL, judge, on
for case in ALL:
    for dtype in ("float32", "float64"):
        judge(on("native"), case.with_(dtype=dtype), "integers")
        judge(on("native"), case.with_(dtype=dtype), "normal")
print("right")
"""


def paths() -> list[str]:
    return [str(Path(__file__).parent)]


@pytest.mark.parametrize("isa", ["baseline", "avx2", "neon"])
def test_other_instruction_sets(isa: str) -> None:
    present("native")
    facts = fastconv.show_config("dict")["native"]
    if isa not in facts["compiled for"].split():
        pytest.skip(f"not compiled for {isa}")
    answer = processes.run(EVERY, *paths(), environment={"FASTCONV_ISA": isa})
    assert answer.strip() == "right"


def test_a_large_image_in_pieces() -> None:
    """Bands, blocks of columns and tasks meet without a seam."""
    present("native")
    rng = generator("seams")
    x = rng.integers(-9, 9, (1, 3, 333, 2100)).astype("float32")
    for w, arguments in (
        (rng.integers(-9, 9, (6, 1, 3, 3)), {"groups": 3, "pad": 1}),
        (rng.integers(-9, 9, (2, 3, 11, 7)), {"pad": "same"}),
        (rng.integers(-9, 9, (1, 1, 3, 3)), {"pad": 1}),
        (rng.integers(-9, 9, (1, 1, 15, 15)), {"pad": "same"}),
        (rng.integers(-9, 9, (1, 1, 5, 5)), {"pad": 2, "pad_mode": "reflect"}),
        (rng.integers(-9, 9, (8, 3, 5, 5)), {"stride": 2, "pad": 2}),
        (rng.integers(-9, 9, (5, 3, 3, 3)), {"dilation": (9, 200), "pad": "same"}),
    ):
        kernel = w.astype("float32")
        image = x[:, : w.shape[1] * int(arguments.get("groups", 1))]
        got = fastconv.conv2d(image, kernel, backend="native", **arguments)
        want = fastconv.conv2d(image, kernel, backend="numba", **arguments)
        assert np.array_equal(got, want), arguments


def test_families_are_all_judged() -> None:
    present("native")
    for family in FAMILIES:
        judge(on("native"), FILTERS[4], family)
        judge(on("native"), CHANNELS[1], family)


def test_images_and_planes_agree() -> None:
    """A two-axis call is the one-channel call; NHWC of one channel too."""
    present("native")
    case = FILTERS[4]
    x, w, _ = draw(case, "spread")
    want = fastconv.conv2d(x, w, backend="native", **case.arguments)
    planes = case.with_(x=(1, 1, *case.x), w=(1, 1, *case.w))
    got = fastconv.conv2d(x[None, None], w[None, None], backend="native", **planes.arguments)
    assert_same_bits(logical_image(got, "NCHW")[0, 0], want, "planes")
