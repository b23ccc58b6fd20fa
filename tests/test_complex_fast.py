"""Complex numbers by three real products: which take them, their bounds, and what they promise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support.backends import present

import fastconv
from fastconv import accuracy, complex_accuracy
from fastconv.backends import native, split_planes
from fastconv.lowering import three_products
from fastconv.lowering.memory import Memory
from fastconv.options import resolve

#: Of x and w: large enough for three products, by sums as they stand and by Winograd's.
X, W = (2, 48, 20, 20), (48, 48, 3, 3)
DIRECT: dict[str, Any] = {"pad": 2, "dilation": 2}
OPTIONS: tuple[dict[str, Any], ...] = (DIRECT, {"pad": 1})


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


def normal(seed: int, shape: tuple[int, ...], dtype: str = "c8") -> np.ndarray:
    """Draw both parts from N(0, 1)."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


def whole(seed: int, shape: tuple[int, ...], dtype: str = "c8") -> np.ndarray:
    """Draw small integers."""
    return np.rint(2 * normal(seed, shape)).astype(dtype)


def algorithm(x: Any, w: Any, **options: Any) -> str:
    """Name what fast precision takes."""
    return fastconv.explain(x, w, **{"precision": "fast", **options}).algorithm


def last(images: np.ndarray) -> np.ndarray:
    """Hold images channels last."""
    return np.ascontiguousarray(np.moveaxis(images, 1, -1))


# -- the choice ------------------------------------------------------------------------------------


def test_the_choice_depends_on_the_problem_alone() -> None:
    for options in OPTIONS:
        want = algorithm(normal(0, X), normal(1, W), **options)
        assert want.startswith("gauss_winograd" if options["pad"] == 1 else "gauss_im2col_gemm")
        assert want in accuracy.FAST
        for n, threads, dtype in ((1, 1, "c8"), (5, 3, "c16")):
            x, w = np.ones((n, *X[1:]), dtype), np.ones(W, dtype)
            assert algorithm(x, w, threads=threads, **options) == want
            plan = fastconv.plan_conv2d(w, x.shape, precision="fast", threads=threads, **options)
            assert plan.explain().algorithm == want


def test_what_it_leaves_to_four_products() -> None:
    x, w = np.ones(X, "c8"), np.ones(W, "c8")
    assert "gauss" not in algorithm(x, w, precision="strict", **DIRECT)
    assert "gauss" not in algorithm(x.real, w, **DIRECT)
    assert "gauss" not in algorithm(x, w.real, **DIRECT)
    assert "gauss" not in algorithm(x, w[:8], **DIRECT)
    assert "gauss" not in algorithm(x, w[:, :3], groups=16, **DIRECT)
    assert "gauss" not in algorithm(x, w[:, :, :1, :1])
    assert "gauss" not in algorithm(x[..., :5, :5], w, **DIRECT)  # as much to split as to compute
    assert "gauss" not in algorithm(x, w, backend="reference", **DIRECT)
    assert "gauss" in algorithm(last(x), w, layout="NHWC", **DIRECT)
    assert "gauss" not in algorithm(last(x), w, layout="NHWC", pad=1)  # read and written in place
    report = fastconv.explain(x, w, precision="fast", backend="reference")
    with pytest.raises(fastconv.DTypeError, match="check its parts"):
        complex_accuracy.expected(report.problem, x, w, None, report.algorithm)


def test_scratch_memory_is_said() -> None:
    report = fastconv.explain(np.ones(X, "c8"), np.ones(W, "c8"), precision="fast", **DIRECT)
    assert report.scratch_bytes > 3 * 4 * 2 * np.prod(X)


# -- accuracy --------------------------------------------------------------------------------------


def scaled(real: float, imaginary: float, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw parts of different magnitudes."""
    drawn = normal(seed, shape)
    return (real * drawn.real + 1j * imaginary * drawn.imag).astype("c8")


def spread(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw exponents over 2^+-18, of each part for itself."""
    powers = 2.0 ** np.random.default_rng(seed).integers(-18, 19, (2, *shape))
    drawn = normal(seed, shape)
    return (drawn.real * powers[0] + 1j * drawn.imag * powers[1]).astype("c8")


def cancelling(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw numbers whose channels, in pairs, cancel where the other operand is constant."""
    drawn = normal(seed, shape)
    drawn[:, 1::2] = -drawn[:, ::2]
    return drawn


def outliers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw numbers with a few of 1e8."""
    drawn = normal(seed, shape)
    drawn.flat[:: drawn.size // 7] *= 1e8
    return drawn


HARD = {
    "normal": (normal(0, X), normal(1, W)),
    "large real parts": (scaled(1e6, 1, 0, X), scaled(1e6, 1, 1, W)),
    "large and small": (scaled(1e6, 1, 0, X), scaled(1, 1e6, 1, W)),
    "opposite parts": ((1 - 1j) * abs(normal(0, X)), (1 - 1j) * abs(normal(1, W))),
    "one sign": (abs(normal(0, X).real) * (1 + 1j), abs(normal(1, W).real) * (1 + 1j)),
    "exponents": (spread(0, X), spread(1, W)),
    "cancelling": (cancelling(0, X), np.full(W, 0.3 + 0.7j)),
    "outliers": (outliers(0, X), normal(1, W)),
    "subnormal": (normal(0, X) * 1e-20, normal(1, W) * 1e-20),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("options", OPTIONS, ids=["direct", "winograd"])
def test_bound(kind: str, options: dict[str, Any]) -> None:
    x, w = (a.astype("c8") for a in HARD[kind])
    x = x[:1]
    for bias in (None, (normal(2, W[:1]) * abs(x).max()).astype("c8")):
        report = fastconv.explain(x, w, bias=bias, precision="fast", **options)
        y = fastconv.conv2d(x, w, bias=bias, precision="fast", **options)
        verdict = complex_accuracy.check(report.problem, x, w, bias, y, report.algorithm)
        assert verdict.ok, verdict
        if kind in ("normal", "large real parts"):
            # the errors are those of rounding, and a wrong element is far beyond the bound
            assert 0 < verdict.ratio < 0.5
            y[0, 5, 3, 3] *= 1.01
            assert not complex_accuracy.check(report.problem, x, w, bias, y, report.algorithm).ok


def test_errors_of_one_part_are_in_the_other() -> None:
    """What strict precision promises for each part, and fast does not."""
    x, w = scaled(1e6, 1, 0, X), scaled(1e6, 1, 1, W)
    strict = fastconv.conv2d(x, w, **DIRECT)
    fast = fastconv.conv2d(x, w, precision="fast", **DIRECT)
    exact = fastconv.conv2d(x.astype("c16"), w.astype("c16"), **DIRECT)
    scale = abs(exact.imag).max()
    assert abs(strict.imag - exact.imag).max() < 1e-5 * scale
    assert 1e-3 * scale < abs(fast.imag - exact.imag).max()
    assert abs(fast.real - exact.real).max() < 1e-5 * abs(exact.real).max()


def test_what_is_not_finite_reaches_both_parts() -> None:
    x, w = normal(0, X), normal(1, W)
    x.imag[1, 7, 9, 4], x.real[0, 3, 0, 0] = np.inf, np.nan
    reached = fastconv.conv2d((~np.isfinite(x)).astype("f4"), np.ones(W, "f4"), **DIRECT) > 0
    with np.errstate(all="raise"):  # as of any operator
        y = fastconv.conv2d(x, w, precision="fast", **DIRECT)
    assert (np.isfinite(y.real) == ~reached).all()
    assert (np.isfinite(y.imag) == ~reached).all()


# -- operators and arrays --------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_integers_are_exact(channels_last: bool, dtype: str) -> None:
    """In sums as they stand, of y and of both gradients; flipped, grouped, with a bias."""
    hold = last if channels_last else np.ascontiguousarray
    shapes = (2, 96, 32, 32), (96, 48, 3, 3), (96,)
    x, w, bias = (whole(seed, shape, dtype) for seed, shape in enumerate(shapes))
    options: dict[str, Any] = {
        "layout": "NHWC" if channels_last else "NCHW", "groups": 2, "flip": True, **DIRECT,
    }  # fmt: skip
    assert algorithm(hold(x), w, **options).startswith("gauss_")
    want = fastconv.conv2d(hold(x), w, bias=bias, **options)
    out = np.full(want.shape, np.nan, dtype)
    assert fastconv.conv2d(hold(x), w, bias=bias, out=out, precision="fast", **options) is out
    np.testing.assert_array_equal(out, want)
    gy = whole(3, want.shape, dtype)
    given = (
        ("conv2d_input_grad", (hold(x).shape, w, gy)),
        ("conv2d_weight_grad", (hold(x), w.shape, gy)),
    )
    for name, operands in given:
        function = getattr(fastconv, name)
        report = function.explain(*operands, precision="fast", **options)
        assert report.algorithm.startswith("gauss_")
        got = function(*operands, precision="fast", **options)
        np.testing.assert_array_equal(got, function(*operands, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=["direct", "winograd"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_same_bits(options: dict[str, Any], channels_last: bool) -> None:
    """Of a plan and a call, on any number of threads, in any batch."""
    hold = last if channels_last else np.ascontiguousarray
    layout = "NHWC" if channels_last else "NCHW"
    x, w, bias = hold(normal(0, (3, *X[1:]))), normal(1, W), normal(2, W[:1])
    given = {"bias": bias, "layout": layout, "precision": "fast", **options}
    want = fastconv.conv2d(x, w, threads=1, **given)
    kernel = w.copy()
    plan = fastconv.plan_conv2d(kernel, x.shape, **given)
    kernel[...] = np.nan
    for part in (x, x[:1], x[1:]):
        out = np.full((len(part), *want.shape[1:]), np.nan, "c8")
        np.testing.assert_array_equal(plan(part, out), fastconv.conv2d(part, w, **given))
    np.testing.assert_array_equal(plan(x), want)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, threads=3, **given), want)
    np.testing.assert_array_equal(fastconv.conv2d(x[1], w, **given), want[1])


@pytest.mark.parametrize("options", OPTIONS, ids=["direct", "winograd"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_some_images_at_a_time(
    options: dict[str, Any], channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a batch, the last one smaller, have the bits of the whole."""
    hold = last if channels_last else np.ascontiguousarray
    x, w, bias = hold(normal(0, (5, *X[1:]))), normal(1, W), normal(2, W[:1])
    given = {"layout": "NHWC" if channels_last else "NCHW", "precision": "fast", **options}
    gy = normal(3, fastconv.conv2d(x, w, **given).shape)

    def results() -> list[np.ndarray]:
        plan = fastconv.plan_conv2d(w, x.shape, bias=bias, **given)
        return [
            plan(x), plan(x[:3]), fastconv.conv2d(x, w, bias=bias, **given),
            fastconv.conv2d_input_grad(x.shape, w, gy, **given),
        ]  # fmt: skip

    want = results()
    image = 3 * 4 * 2 * 48 * 20 * 20
    monkeypatch.setattr(three_products, "KEPT", 2 * image + image // 2)
    monkeypatch.setattr(three_products, "TRANSFORMED", 0)
    monkeypatch.setattr(three_products, "_weight_bytes", lambda problem: 0)
    three_products.images_together.cache_clear()
    try:
        got = results()
    finally:
        three_products.images_together.cache_clear()
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_how_many_images_are_together() -> None:
    def together(n: int, keeps: bool, x: tuple[int, ...], w: tuple[int, ...], pad: int) -> int:
        numbers = np.broadcast_to(np.zeros((), "c8"), x), np.broadcast_to(np.zeros((), "c8"), w)
        problem = fastconv.explain(*numbers, pad=pad, precision="fast").problem
        return three_products.images_together(problem.with_batch(n), keeps)

    large, small = ((1, 64, 56, 56), (64, 64, 3, 3)), ((1, 512, 7, 7), (512, 512, 3, 3))
    assert together(8, True, *large, 1) == 1
    assert together(8, True, *small, 1) == 8
    between = (1, 256, 14, 14), (256, 256, 3, 3)
    assert together(8, True, *between, 1) == 4  # of equal parts, none more than 5
    assert together(8, False, *between, 1) == 8  # calls transform weights each time


def test_arrays_with_gaps() -> None:
    x, w = normal(0, X), normal(1, W)
    given = {"precision": "fast", **DIRECT}
    want = fastconv.conv2d(x, w, **given)
    room = np.zeros((*X[:3], 2 * X[3]), "c8")[:, ::-1, :, ::2]
    room[...] = x
    out = np.zeros((*want.shape, 2), "c8")
    got = fastconv.conv2d(room, np.asfortranarray(w), out=out[..., 1], **given)
    np.testing.assert_array_equal(got, want)
    assert not out[..., 0].any()


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_planes(dtype: str) -> None:
    """Every element, of rows shorter and longer than a task, and none beyond the array."""
    for rows, length, threads in itertools.product((1, 3, 1000), (1, 7, 9000), (1, 2)):
        if rows * length > 1 << 16:
            continue
        numbers = whole(rows, (rows, length), dtype)
        options = resolve(None, None, threads, None)
        room = np.full(3 * numbers.size + 16, np.nan, numbers.real.dtype)
        planes = room[8:-8].reshape(rows, 3, length)
        for sign in (1, -1):
            split_planes(native, options, numbers, length, sign < 0, planes)
            parts = numbers.real, sign * numbers.imag, numbers.real + sign * numbers.imag
            np.testing.assert_array_equal(planes, np.stack(parts, axis=1))
        assert np.isnan(room[:8]).all()
        assert np.isnan(room[-8:]).all()
        held = np.full(numbers.size + 8, np.nan, dtype)
        native.join_planes(options, planes, length, held[4:-4])
        a, b, m = (planes[:, i].ravel() for i in range(3))
        np.testing.assert_array_equal(held[4:-4], a - b + 1j * (m - a - b))
        assert np.isnan(held[:4]).all()
        assert np.isnan(held[-4:]).all()


def test_planes_refuse_other_memory() -> None:
    numbers, options = np.ones((4, 6), "c8"), resolve(None, None, 1, None)
    for planes, length in (
        (np.ones((4, 17), "f4"), 6),
        (np.ones((4, 18), "f8"), 6),
        (np.ones((4, 36), "f4")[:, ::2], 6),
        (np.ones((4, 18), "f4"), 5),
    ):
        with pytest.raises(ValueError, match="complex planes"):
            native.split_planes(options, numbers, length, False, planes)


def test_the_model_counts_one_image() -> None:
    problem = fastconv.explain(np.ones(X, "c8"), np.ones(W, "c8"), **DIRECT).problem
    assert three_products.pays(problem)
    assert three_products.pays(problem.with_batch(50))


def test_memory_of_calls_inside_one_another() -> None:
    """A signal's handler may convolve while a call has the thread's block."""
    f4 = np.dtype("f4")
    with Memory(400) as outer:
        first = outer.empty((10, 5), f4)
        first[...] = 1
        with Memory(400) as inner:
            inner.empty((100,), f4)[...] = 2
        second = outer.empty((50,), f4)
        second[...] = 3
        more = outer.empty((1000,), f4)  # than was asked for: an array of its own
        more[...] = 4
        assert (first == 1).all()
        assert (second == 3).all()
        assert not np.shares_memory(first, second)
    with Memory(400) as again:
        assert np.shares_memory(again.empty((10, 5), f4), first)
