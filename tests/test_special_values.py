"""C7: NaN, infinities and subnormals, and the floating-point environment itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import control_word, processes
from support.backends import FLOATS, HALVES, serves
from support.cases import Arrays, Case, draw, generator, logical_image, logical_kernel
from support.judge import compute, judge_special_values, on

import fastconv
from fastconv.activations import ACTIVATIONS
from fastconv.borders import PAD_MODES

CASES = [
    Case((1, 2, 5, 6), (3, 2, 3, 3), pad=1),
    Case((1, 2, 7, 6), (3, 2, 3, 3), pad=1, stride=2, bias=True),
    Case((1, 2, 6, 7), (2, 2, 2, 3), pad="full", dilation=(2, 1)),
    Case((2, 4, 5, 5), (4, 2, 3, 3), pad=1, groups=2),
    Case((1, 3, 5, 18), (3, 1, 3, 3), pad=1, groups=3),
    Case((1, 2, 4, 19), (17, 2, 1, 1), pad=1),
    Case((1, 17, 4, 17), (9, 17, 3, 3), pad=((0, 2), (1, 3))),
    Case((1, 3, 4, 4), (2, 3, 1, 1)),
    Case((6, 5), (3, 3), pad=1, flip=True),
    Case((1, 2, 5, 6), (3, 2, 3, 3), pad=1).channels_last(),
]
SPECIAL = {"nan": np.nan, "+inf": np.inf, "-inf": -np.inf}


def place(array: np.ndarray, where: str, value: float) -> None:
    """Put `value` into one element of the last image (or kernel), at a corner, edge or inside."""
    rows, columns = array.shape[-2:]
    row, column = {
        "corner": (0, 0),
        "far corner": (rows - 1, columns - 1),
        "edge": (0, columns // 2),
        "interior": (rows // 2, columns // 2),
    }[where]
    array[-1, -1, row, column] = value


@pytest.mark.parametrize("value", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("where", ["corner", "far corner", "edge", "interior"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_the_image(backend: str, case: Case, where: str, value: float) -> None:
    for dtype in (*FLOATS, *HALVES):
        arrays = draw(case.with_(dtype=dtype), "normal")
        place(logical_image(arrays.x, case.layout), where, value)
        judge_special_values(on(backend), case.with_(dtype=dtype), arrays)


@pytest.mark.parametrize("value", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("where", ["corner", "interior"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_the_kernel(backend: str, case: Case, where: str, value: float) -> None:
    """An infinite tap over the zero border gives NaN there: 0 * inf is summed like the rest."""
    for dtype in (*FLOATS, *HALVES):
        arrays = draw(case.with_(dtype=dtype), "normal")
        place(logical_kernel(arrays.w, False), where, value)
        judge_special_values(on(backend), case.with_(dtype=dtype), arrays)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_pad_mode(backend: str, pad_mode: str, layout: str) -> None:
    base = Case((2, 2, 4, 5), (3, 2, 3, 3), pad=((2, 1), (3, 7)), pad_mode=pad_mode)
    case = base if layout == "NCHW" else base.channels_last()
    for value, where in itertools.product(SPECIAL.values(), ("corner", "interior")):
        image, kernel = draw(case, "normal"), draw(case, "normal")
        place(logical_image(image.x, layout), where, value)
        judge_special_values(on(backend), case, image)
        place(kernel.w, where, value)
        judge_special_values(on(backend), case, kernel)


def test_many_at_once(backend: str) -> None:
    """Infinities of both signs meet zeros and each other, in x, w and bias."""
    for case, dtype in itertools.product(CASES, FLOATS):
        held = case.with_(dtype=dtype)
        rng = generator("specials", held)
        pool = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, 0.5], dtype)
        odds = [0.02, 0.02, 0.02, 0.04, 0.1, 0.2, 0.3, 0.3]
        arrays = draw(held, "normal")
        for array in arrays:
            if array is not None:
                array[...] = rng.choice(pool, array.shape, p=odds)
        judge_special_values(on(backend), held, arrays)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_nan_kernel_on_a_zero_image_is_nan(backend: str, pad_mode: str) -> None:
    for dtype, (r, s) in itertools.product(FLOATS, [(1, 1), (3, 3), (5, 5)]):
        x, w = np.zeros((1, 2, 6, 7), dtype), np.full((3, 2, r, s), np.nan, dtype)
        y = fastconv.conv2d(x, w, pad=2, pad_mode=pad_mode, backend=backend)
        assert np.isnan(y).all()


def test_one_infinite_tap_over_the_border(backend: str) -> None:
    """x = 1, one infinite tap: infinite where it meets a pixel, NaN where it meets a zero."""
    for dtype, tap in itertools.product(FLOATS, np.ndindex(3, 3)):
        w = np.ones((1, 1, 3, 3), dtype)
        w[0, 0, tap[0], tap[1]] = np.inf
        y = fastconv.conv2d(np.ones((1, 1, 4, 5), dtype), w, pad=1, backend=backend)
        inside = np.zeros((4, 5), bool)
        for p, q in np.ndindex(4, 5):
            inside[p, q] = 0 <= p + tap[0] - 1 < 4 and 0 <= q + tap[1] - 1 < 5
        assert np.array_equal(np.isposinf(y[0, 0]), inside)
        assert np.array_equal(np.isnan(y[0, 0]), ~inside)


#: Value at +inf and at -inf, from the definitions.
LIMITS = {
    "relu": (np.inf, 0.0),
    "relu6": (6.0, 0.0),
    "leaky_relu": (np.inf, -np.inf),
    "sigmoid": (1.0, 0.0),
    "tanh": (1.0, -1.0),
    "silu": (np.inf, 0.0),
    "gelu": (np.inf, 0.0),
    "hardswish": (np.inf, 0.0),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_activations_of_special_values(backend: str, dtype: str, activation: str) -> None:
    if not serves(backend, dtype):
        with pytest.raises(fastconv.BackendUnsupported):
            fastconv.conv2d(np.ones((1, 1), dtype), np.ones((1, 1), dtype), backend=backend)
        return
    x = np.ones((1, 1, 4, 24), dtype)
    x[0, 0, 0, ::2], x[0, 0, 1, ::2], x[0, 0, 2, ::2] = np.nan, np.inf, -np.inf
    w = np.ones((1, 1, 1, 1), dtype)
    y = fastconv.conv2d(x, w, activation=activation, backend=backend)[0, 0]
    assert np.isnan(y[0, ::2]).all()
    assert (y[1, ::2] == LIMITS[activation][0]).all()
    assert (y[2, ::2] == LIMITS[activation][1]).all()
    assert np.isfinite(y[:, 1::2]).all()
    assert (y[:, 1::2] == y[3, 3]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_activations_far_out(backend: str, dtype: str, activation: str) -> None:
    """Large finite arguments neither overflow on the way nor turn into NaN."""
    far = [88.5, 90.0, 104.0, 710.0, 746.0, 1e4, 1e30, float(np.finfo(dtype).max) / 4]
    x = np.array([far, [-v for v in far]], dtype)
    y = fastconv.conv2d(x, np.ones((1, 1), dtype), activation=activation, backend=backend)
    with np.errstate(all="ignore"):
        want = ACTIVATIONS[activation].function(x.astype(np.longdouble)).astype(dtype)
    close = np.abs(y - want) <= 16 * np.finfo(dtype).eps * np.abs(want)
    assert (close | (y == want) | (np.abs(want) < 1e-30)).all(), (y, want)
    assert not np.isnan(y).any()
    assert (np.abs(y[1]) <= np.abs(x[1])).all()


def test_overflow_is_infinite(backend: str) -> None:
    for dtype in [d for d in (*FLOATS, "float16") if serves(backend, d)]:
        big = np.finfo(dtype).max
        x = np.array([[big, -big, 1, big]], dtype)
        y = fastconv.conv2d(x, np.array([[2]], dtype), backend=backend)
        assert y.tolist() == [[np.inf, -np.inf, 2, np.inf]]


def test_signed_zero_and_subnormal_identity(backend: str) -> None:
    """A 1x1 kernel of 1 hands subnormals through unchanged."""
    for dtype in [d for d in (*FLOATS, "float16") if serves(backend, d)]:
        tiny = np.finfo(dtype).smallest_subnormal
        x = (np.arange(-40, 40).astype(dtype) * tiny).reshape(1, 1, 8, 10)
        y = compute(
            on(backend),
            Case(x.shape, (1, 1, 1, 1), dtype=dtype),
            Arrays(x, np.ones((1, 1, 1, 1), dtype), None),
        )
        assert np.array_equal(x, y)
        assert np.count_nonzero(y) == 79


def test_the_floating_point_environment_is_left_alone(backend: str) -> None:
    assert processes.run(control_word.SCRIPT, backend).strip() == "sound"
