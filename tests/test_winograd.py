"""Winograd's minimal filtering, native, precision="fast": bounds, and how it fails in kind."""

from __future__ import annotations

import numpy as np
import pytest
from support.backends import FLOATS, present
from support.cases import Arrays, Case, draw, generator
from support.judge import assert_same_bits
from support.winograd import CASES, TILES, fast, judge, logical, of_largest, relative

import fastconv
from fastconv import accuracy
from fastconv.activations import ACTIVATIONS
from fastconv.borders import PAD_MODES


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


FAMILIES = ["normal", "positive", "integers", "spread", "cancellation", "outlier"]


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
        (Case((1, 16, 2, 3), (40, 16, 3, 3), pad=((5, 7), (11, 6))), "f6x4x3"),
        (Case((1, 16, 1, 14), (16, 16, 3, 3), pad=((6, 7), (2, 2))), "f6x4x3"),
        (Case((1, 16, 7, 9), (16, 16, 5, 5), pad=((2, 3), (1, 4))), "f3x5"),
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
        judge(held, arrays, fast(held, arrays, "f5x3"), "f5x3")


@pytest.mark.parametrize(
    ("c", "size", "tile"),
    [(512, 4, "f2x3"), (1024, 36, "f6x4x3"), (1024, 20, "f5x3"), (2048, 32, "f4x3")],
)
def test_many_channels(c: int, size: int, tile: str) -> None:
    """The longest sums that each tile takes: errors grow with them, the bound does not."""
    case = Case((1, c, size, size), (32, c, 3, 3), pad=1)
    for family in ("normal", "positive"):
        arrays = draw(case, family)
        got = fast(case, arrays, tile)
        x, w = logical(case, arrays)
        found = accuracy.check(
            case.problem, x, w, None, got, channels=[3], algorithm=f"winograd_{tile}"
        )
        assert found.ok, f"{family}: {found.ratio:g} times the bound"


# -- the class: single large pixels ----------------------------------------------------------------

LONE = [
    (Case((8, 16, 4, 4), (64, 16, 3, 3), pad=1), "f2x3"),
    (Case((8, 24, 8, 8), (64, 24, 3, 3), pad=1), "f4x3"),
    (Case((8, 16, 5, 5), (64, 16, 3, 3), pad=1), "f5x3"),
    (Case((8, 16, 6, 8), (64, 16, 3, 3), pad=1), "f6x4x3"),
    (Case((8, 64, 3, 4), (64, 64, 5, 5), pad=2), "f2x5"),
    (Case((8, 16, 6, 6), (64, 16, 5, 5), pad=2), "f3x5"),
]


def lone(case: Case, seed: int, *, dense: bool = False) -> Arrays:
    """One channel, one tap of each kernel, and one pixel of each image or all of them alike."""
    rng = generator("lone", case, seed)
    x, w = np.zeros(case.x, case.dtype), np.zeros(case.w, case.dtype)
    (n, _, h, q), (k, _, r, s) = x.shape, w.shape
    images, outputs = np.arange(n), np.arange(k)
    if dense:
        x[:, 3] = rng.choice([-1, 1], (n, h, q)) * rng.uniform(0.97, 1, (n, h, q))
    else:
        x[images, 3, rng.integers(h, size=n), rng.integers(q, size=n)] = rng.uniform(1, 2, n)
    w[outputs, 3, rng.integers(r, size=k), rng.integers(s, size=k)] = rng.uniform(1, 2, k)
    return Arrays(x, w, None)


@pytest.mark.parametrize(("case", "tile"), LONE, ids=str)
def test_one_large_pixel_and_one_large_tap(case: Case, tile: str) -> None:
    """The data that errs most against the largest pixel: nothing else is there to share in T."""
    worst = 0.0
    for seed in range(40):
        arrays = lone(case, seed)
        got = fast(case, arrays, tile)
        judge(case, arrays, got, tile)
        worst = max(worst, of_largest(case, arrays, got, tile))
    assert TILES[tile].limit / 20 < worst <= TILES[tile].limit


@pytest.mark.parametrize(("case", "tile"), LONE, ids=str)
def test_tiles_of_large_pixels(case: Case, tile: str) -> None:
    """Pixels of any signs, all large, on one tap: why the bound takes the norm of a tile."""
    worst = 0.0
    for seed in range(20):
        arrays = lone(case, seed, dense=True)
        got = fast(case, arrays, tile)
        judge(case, arrays, got, tile)
        worst = max(worst, of_largest(case, arrays, got, tile))
    assert tile == "f2x3" or worst > TILES[tile].limit, "the largest pixel would not do"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("case", "tile"), CASES[:12], ids=str)
def test_class(case: Case, tile: str, dtype: str) -> None:
    """16, 32 or 96 * u * T, T of the largest pixels, on data of every kind."""
    case = case.with_(dtype=dtype, bias=False)
    if case.groups > 1:
        case = case.with_(x=(1, 32, *case.x[2:]), groups=1)
    for family in ("normal", "positive", "spread", "cancellation", "outlier"):
        arrays = draw(case, family)
        assert of_largest(case, arrays, fast(case, arrays, tile), tile) <= TILES[tile].limit


def test_a_wrong_bound_would_be_noticed() -> None:
    """Strictly judged, or as a smaller tile, results fail; so does one wrong pixel."""
    case, tile = LONE[3]
    failed = {None: 0, "winograd_f2x3": 0}
    for seed in range(10):
        arrays = lone(case, seed)
        got = fast(case, arrays, tile)
        for name in failed:
            verdict = accuracy.check(case.problem, arrays.x, arrays.w, None, got, algorithm=name)
            failed[name] += not verdict.ok
    assert all(failed.values()), failed
    arrays = draw(case, "normal")
    got = fast(case, arrays, tile)
    judge(case, arrays, got, tile)
    got[0, 7, 3, 5] += 1e-2
    x, w = logical(case, arrays)
    assert not accuracy.check(case.problem, x, w, None, got, algorithm=f"winograd_{tile}").ok


# -- how it fails in kind --------------------------------------------------------------------------

FAILING = [
    (Case((1, 24, 8, 8), (24, 24, 3, 3), pad=1), "f4x3", (4, 4)),
    (Case((1, 16, 12, 18), (16, 16, 3, 3), pad=1), "f6x4x3", (6, 4)),
    (Case((1, 32, 4, 4), (32, 32, 3, 3), pad=1), "f2x3", (2, 2)),
]


@pytest.mark.parametrize(("case", "tile", "outputs"), FAILING, ids=str)
def test_an_outlier_disturbs_its_tiles_and_no_others(
    case: Case, tile: str, outputs: tuple[int, int]
) -> None:
    """1e8 leaks into outputs that do not use it, but only where its tile's do."""
    arrays = draw(case, "normal")
    calm = fast(case, arrays, tile)
    rows, columns = outputs
    arrays.x[0, 5, 0, 0] = 1e8
    got = fast(case, arrays, tile)
    judge(case, arrays, got, tile)
    changed = (got != calm).any(axis=1)[0]
    assert changed[:rows, :columns].all(), "the whole first tile"
    assert not changed[rows:].any()
    assert not changed[:, columns:].any()
    strict = fastconv.conv2d(arrays.x, arrays.w, pad=1, backend="native")
    unused = np.abs(got - strict)[0, :, rows - 1, columns - 1].max()
    assert rows == 2 or unused > 1e-2, "it leaks: that is why fast is opt-in"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("case", "tile", "outputs"), FAILING, ids=str)
def test_what_is_not_finite_spoils_its_tiles_and_no_others(
    case: Case, tile: str, outputs: tuple[int, int], value: float
) -> None:
    arrays = draw(case, "normal")
    calm = fast(case, arrays, tile)
    rows, columns = outputs
    arrays.x[0, 5, 0, 0] = value
    got = fast(case, arrays, tile)
    assert not np.isfinite(got[0, :, :2, :2]).any(), "outputs that use it"
    assert_same_bits(got[:, :, rows:], calm[:, :, rows:], "tiles below")
    assert_same_bits(got[:, :, :, columns:], calm[:, :, :, columns:], "tiles to the right")


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
    assert_same_bits(fast(case, inner, "f5x3"), fast(case, arrays, "f5x3"), "inside")
    arrays.x[:, :, :2, :2] = np.nan  # a wrap beyond the right and bottom edge would find them
    assert np.isfinite(fast(case, arrays, "f5x3")[:, :, -4:, -4:]).all()
