"""precision="fast" beyond the extension's ladder: what separable kernels and transforms promise
alike, and when they are taken."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.backends import present
from support.cases import Case, draw, generator, logical_image
from support.fast import BOTH, SEPARABLE, TRANSFORMED, fast, judge, operands
from support.judge import assert_same_bits
from support.memory import traced_peak

import fastconv
from fastconv import accuracy, calls
from fastconv.backends.native import separable


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")
    calls.forget()


@pytest.mark.parametrize(("case", "algorithm"), BOTH, ids=str)
def test_determinism(
    small: None, monkeypatch: pytest.MonkeyPatch, case: Case, algorithm: str
) -> None:
    """The same bits for any threads, any place in the batch, any cut into bands."""
    arrays = operands(case, algorithm)
    want = fast(case, arrays, algorithm, threads=1)
    for threads in (1, 2, 3, 7):
        assert_same_bits(fast(case, arrays, algorithm, threads=threads), want, f"{threads} threads")
    if arrays.x.ndim == 4:
        for n in range(arrays.x.shape[0]):
            one = case.with_(x=(1, *case.x[1:]))
            alone = fast(one, arrays._replace(x=arrays.x[n : n + 1]), algorithm)
            assert_same_bits(alone, want[n : n + 1], f"image {n} alone")
    if algorithm == "separable":
        monkeypatch.setattr(separable, "BAND_BYTES", 1 << 20)
        assert_same_bits(fast(case, arrays, algorithm), want, "another cut")


@pytest.mark.parametrize(("case", "algorithm"), BOTH, ids=str)
def test_plans(small: None, case: Case, algorithm: str) -> None:
    arrays = operands(case, algorithm)
    want = fast(case, arrays, algorithm)
    plan = fastconv.plan_conv2d(
        arrays.w, case.x, bias=arrays.bias, precision="fast", backend="native", **case.arguments
    )
    report = plan.explain()
    assert report.algorithm == algorithm
    assert report.packed_bytes > 0
    assert_same_bits(plan(arrays.x), want, "a plan")
    out = np.full_like(want, np.nan)
    assert plan(arrays.x, out=out) is out
    assert_same_bits(out, want, "out")
    assert_same_bits(pickle.loads(pickle.dumps(plan))(arrays.x), want, "pickled")  # noqa: S301
    if arrays.x.ndim == 4:
        twice = np.concatenate([arrays.x, arrays.x])
        assert_same_bits(plan(twice), np.concatenate([want, want]), "another batch")


def test_a_plan_too_large_to_keep_spectra(small: None) -> None:
    case = Case((1, 1, 40, 40), (150, 1, 9, 9))
    arrays = draw(case, "normal")
    with fastconv.options(workspace=1 << 16):
        want = fast(case, arrays, "fft")
        plan = fastconv.plan_conv2d(arrays.w, case.x, precision="fast", backend="native")
    assert plan.explain().packed_bytes == 0
    assert_same_bits(plan(arrays.x), want, "a plan without spectra")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_that_are_not_finite_are_strict(small: None, value: float, layout: str) -> None:
    """Wherever it is, it spoils its own image alone, and there nothing that it does not reach."""
    case = Case((3, 2, 30, 40), (4, 2, 7, 7), pad=3, bias=True, activation="relu")
    case = case.channels_last() if layout == "NHWC" else case
    arrays = draw(case, "normal")
    finite = fast(case, arrays, "fft")
    for where in ((0, 0), (29, 39), (15, 20), (3, 36)):
        x = arrays.x.copy()
        logical_image(x, layout)[1, 1, where[0], where[1]] = value
        got = fast(case, arrays._replace(x=x), "fft")
        strict = fastconv.conv2d(x, arrays.w, bias=arrays.bias, backend="native", **case.arguments)
        assert_same_bits(got[1], strict[1], f"{value} at {where}")
        assert_same_bits(got[[0, 2]], finite[[0, 2]], "the other images")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_kernels_that_are_not_finite_are_strict(small: None, value: float) -> None:
    for case, algorithm in ((TRANSFORMED[2], "fft"), (SEPARABLE[2], "separable")):
        arrays = operands(case, algorithm)
        arrays.w[1, 0, 2, 2] = value
        got = fastconv.conv2d(
            arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native",
            **case.arguments,
        )  # fmt: skip
        assert "fft" != fastconv.explain(
            arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native",
            **case.arguments,
        ).algorithm != "separable"  # fmt: skip
        want = fastconv.conv2d(
            arrays.x, arrays.w, bias=arrays.bias, backend="native", **case.arguments
        )
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.isnan(want).any() or np.isinf(want).any()


def test_strict_never_takes_them(small: None) -> None:
    for case, algorithm in BOTH:
        arrays = operands(case, algorithm)
        for given in (arrays.w, arrays.w.shape):
            report = fastconv.explain(
                arrays.x, given, bias=arrays.bias, backend="native", **case.arguments
            )
            assert report.algorithm not in ("fft", "separable")


def test_large_filters_take_them_without_being_told() -> None:
    """The limits as they are: sizes for which the gain is beyond doubt, and far below it."""
    gauss = np.exp(-(np.linspace(-2, 2, 31) ** 2)).astype("f4")
    image = (1, 1, 1080, 1920)
    rng = generator("large")
    noise = rng.standard_normal((1, 1, 63, 63)).astype("f4")

    def algorithm(w: Any, **more: Any) -> str:
        return fastconv.explain(
            image, w, pad="same", precision="fast", backend="native", **more
        ).algorithm

    assert algorithm(np.multiply.outer(gauss, gauss)[None, None]) == "separable"
    assert algorithm(noise) == "fft"
    assert algorithm(noise, stride=2) != "fft"
    assert algorithm(noise[..., :3, :3]) not in ("fft", "separable")
    assert algorithm(np.ones((1, 1, 3, 3), "f4")) != "separable"
    assert algorithm(noise.astype("f8"), dtype="f8") == "fft"


def test_the_choice_depends_on_neither_batch_nor_threads() -> None:
    w = generator("batch").standard_normal((8, 1, 31, 31)).astype("f4")
    for kernel in (w, np.ones_like(w)):
        names = {
            fastconv.explain(
                (n, 8, 300, 400), kernel, groups=8, precision="fast", backend="native", threads=t
            ).algorithm
            for n in (1, 2, 17)
            for t in (1, 2, 7)
        }
        assert len(names) == 1


def test_scratch_is_what_explain_says_and_does_not_grow_with_the_image() -> None:
    """NumPy's allocations are traced; SciPy's transforms allocate theirs through NumPy."""
    w = generator("scratch").standard_normal((2, 1, 41, 41)).astype("f4")
    for kernel in (w, np.ones_like(w)):
        said = []
        for size in (1400, 2800):
            x = np.ones((1, 2, size, size), "f4")
            call = {"pad": 20, "groups": 2, "precision": "fast", "threads": 2, "backend": "native"}
            report = fastconv.explain(x, kernel, **call)
            assert report.algorithm in ("fft", "separable")
            out = fastconv.conv2d(x, kernel, **call)
            peak = traced_peak(partial(fastconv.conv2d, x, kernel, out=out, **call))
            assert peak <= report.scratch_bytes + (1 << 18), (report.algorithm, size)
            said.append(report.scratch_bytes)
        assert said[1] <= 1.1 * said[0]
        assert said[1] < 64 << 20


def test_no_image_and_no_channels(small: None) -> None:
    x, w = np.ones((0, 1, 30, 30), "f4"), np.ones((1, 1, 7, 7), "f4")
    assert fastconv.conv2d(x, w, precision="fast", backend="native").shape == (0, 1, 24, 24)
    one = np.ones((1, 1, 30, 30), "f4")
    assert fastconv.conv2d(one, w[:0], precision="fast", backend="native").shape == (1, 0, 24, 24)
    plan = fastconv.plan_conv2d(w, x.shape, precision="fast", backend="native")
    assert plan(one).shape == (1, 1, 24, 24)


@pytest.mark.parametrize(("case", "algorithm"), BOTH[:2] + BOTH[7:9], ids=str)
def test_the_bounds_notice_mistakes(small: None, case: Case, algorithm: str) -> None:
    """A neighbour's pixel, a result of half the precision, a sign, a stale element."""
    arrays = operands(case, algorithm)
    right = fast(case, arrays, algorithm)
    for wrong in (np.roll(right, 1, -1), right.astype("f2").astype("f4"), -right):
        with pytest.raises(AssertionError, match="times the bound"):
            judge(case, arrays, wrong, algorithm)
    right[(0,) * right.ndim] += np.float32(np.abs(right).max())
    with pytest.raises(AssertionError, match="times the bound"):
        judge(case, arrays, right, algorithm)


def test_bounds_of_unknown_algorithms_are_strict() -> None:
    case = Case((1, 2, 9, 9), (3, 2, 3, 3))
    arrays = draw(case, "normal")
    y = fastconv.conv2d(arrays.x, arrays.w, backend="native")
    strict = accuracy.check(case.problem, arrays.x, arrays.w, None, y)
    same = accuracy.check(case.problem, arrays.x, arrays.w, None, y, algorithm="im2col_gemm")
    assert strict == same
    part = accuracy.check(case.problem, arrays.x, arrays.w, None, y, [1], algorithm="fft")
    assert part.ok
    assert part.ratio != strict.ratio
