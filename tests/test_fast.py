"""precision="fast" beyond the extension's ladder: separable kernels and transforms.

Each result is held against the bound of its algorithm. Limits that say when an algorithm pays are
lowered, so that small problems, whose exact results are cheap, take it too.
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.backends import FLOATS, present
from support.cases import Arrays, Case, draw, generator, logical_image, logical_kernel
from support.judge import assert_same_bits, compute
from support.memory import traced_peak

import fastconv
from fastconv import accuracy, calls
from fastconv.backends.native import fast as fast_ways
from fastconv.backends.native import fft, separable, tasks

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")
    calls.forget()


def forget() -> None:
    fft._blocking.cache_clear()
    fast_ways._paying.cache_clear()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let small problems take the fast ways, in blocks that are small as well."""
    monkeypatch.setattr(separable, "LEAST_WORK", 0)
    monkeypatch.setattr(separable, "LEAST_GAIN", 1.0)
    monkeypatch.setattr(separable, "BAND_BYTES", 4096)
    monkeypatch.setattr(fft, "LEAST_SAVED", -np.inf)
    monkeypatch.setattr(fft, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(fft, "SIDES", (16, 24, 36, 40, 64))
    forget()
    yield
    forget()


def fast(case: Case, arrays: Arrays, algorithm: str, **options: Any) -> Array:
    """Convolve a case, which must take `algorithm`, and return the logical result."""
    report = fastconv.explain(
        arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native", **case.arguments
    )
    assert report.algorithm == algorithm, f"{case} takes {report.algorithm}"

    def convolve(x: Array, w: Array, **arguments: Any) -> Any:
        return fastconv.conv2d(x, w, precision="fast", backend="native", **arguments)

    return compute(convolve, case, arrays, **options)


def judge(case: Case, arrays: Arrays, got: Array, algorithm: str) -> float:
    """Hold a result against the bound of its algorithm."""
    verdict = accuracy.check(
        case.problem, logical_image(arrays.x, case.layout), logical_kernel(arrays.w, case.flip),
        arrays.bias, logical_image(got, case.layout), algorithm=algorithm,
    )  # fmt: skip
    assert verdict.ok, f"{case} {case.dtype}: {verdict.ratio:g} times the bound of {algorithm}"
    return verdict.ratio


# -- separable kernels -----------------------------------------------------------------------------

SEPARABLE = [
    Case((1, 1, 40, 50), (1, 1, 5, 7), pad="same", pad_mode="reflect"),
    Case((40, 50), (9, 9), pad="full", flip=True),
    Case((2, 3, 40, 30), (6, 1, 5, 5), groups=3, pad=2, activation="relu", bias=True),
    Case((2, 3, 40, 30), (3, 1, 7, 4), groups=3, pad=((1, 9), (0, 3)), pad_mode="symmetric"),
    Case((1, 2, 40, 30), (2, 1, 7, 7), groups=2, stride=(2, 3), pad=3, pad_mode="edge"),
    Case((1, 2, 40, 30), (2, 1, 5, 5), groups=2, dilation=(2, 3), pad="same", pad_mode="wrap"),
    Case((2, 17, 30, 20), (34, 1, 5, 5), groups=17, pad="same", bias=True).channels_last(),
    Case((3, 9, 11), (3, 1, 5, 5), groups=3, pad=20, pad_mode="reflect", activation="gelu"),
    Case((1, 3, 3), (1, 1, 5, 5), pad=7, pad_mode="wrap"),
    Case((1, 1, 4), (1, 1, 4, 4), pad=((4, 5), (3, 3))),
]  # fmt: skip

FAMILIES = ("normal", "positive", "spread", "outlier", "subnormal", "underflow")


def outer(case: Case, arrays: Arrays) -> Arrays:
    """Replace the kernels by rounded outer products of a row and a column of their own."""
    w = arrays.w.astype(np.longdouble)
    products = w[..., :, :1] * w[..., :1, :]
    scale = np.abs(products).max(axis=(-2, -1), keepdims=True)
    return arrays._replace(w=(products / np.where(scale == 0, 1, scale)).astype(case.dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SEPARABLE, ids=str)
def test_separable_kernels(small: None, case: Case, dtype: str) -> None:
    case = case.with_(dtype=dtype)
    for family in FAMILIES:
        arrays = outer(case, draw(case, family))
        got = fast(case, arrays, "separable")
        assert judge(case, arrays, got, "separable") > 0 or family == "subnormal"


@pytest.mark.parametrize("dtype", FLOATS)
def test_rounded_outer_products_are_recognised(dtype: str) -> None:
    for seed in range(200):
        rng = generator("outer", seed)
        k, r, s = rng.integers(1, 4), rng.integers(2, 32), rng.integers(2, 32)
        wide = np.longdouble
        u, v = (rng.standard_normal((k, n)).astype(dtype).astype(wide) for n in (r, s))
        if seed % 3 == 0:  # magnitudes over many orders
            u *= np.exp2(rng.integers(-20, 20, u.shape)).astype(wide)
            v *= np.exp2(rng.integers(-20, 20, v.shape)).astype(wide)
        w = (u[:, None, :, None] * v[:, None, None, :]).astype(dtype)
        factors = separable.factor(w)
        assert factors is not None, f"seed {seed}"
        again = factors.column.astype(wide) * factors.row.astype(wide)
        limit = 2 * np.finfo(dtype).eps * np.abs(w).max(axis=(1, 2, 3), keepdims=True)
        assert (np.abs(again - w) <= limit).all(), f"seed {seed}"
        assert np.abs(factors.column).max() <= 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_no_outer_product_is_refused(dtype: str) -> None:
    """One element off by more than roundings, in any place, or a kernel that is not finite."""
    eps = np.finfo(dtype).eps
    u, v = np.array([1.0, 2, 3, 4, 1]), np.array([1.0, -1, 2, 1])
    w = np.multiply.outer(u, v)[None, None].astype(dtype)
    assert separable.factor(w) is not None
    for index in np.ndindex(w.shape):
        off = w.copy()
        off[index] += 8 * eps * np.abs(w).max()
        assert separable.factor(off) is None, index
        assert separable.factor(np.concatenate([w, off])) is None, "the second kernel"
        off[index] = np.nan
        assert separable.factor(off) is None
        off[index] = np.inf
        assert separable.factor(off) is None
    assert separable.factor(np.zeros((1, 1, 3, 3), dtype)) is not None
    assert separable.factor(np.eye(3, dtype=dtype)[None, None]) is None
    huge = np.full((1, 1, 3, 3), np.finfo(dtype).max, dtype)
    factors = separable.factor(huge)
    assert factors is None or np.isfinite(factors.row).all()
    tiny = np.full((1, 1, 3, 3), np.finfo(dtype).smallest_subnormal, dtype)
    assert separable.factor(tiny) is not None


def test_zero_kernels(small: None) -> None:
    case = Case((1, 2, 20, 20), (2, 1, 5, 5), groups=2, pad=2)
    arrays = draw(case, "normal")
    arrays.w[...] = 0
    assert not fast(case, arrays, "separable").any()


# -- transforms ------------------------------------------------------------------------------------

TRANSFORMED = [
    Case((1, 1, 70, 90), (1, 1, 11, 13), pad="same", pad_mode="reflect"),
    Case((60, 50), (9, 20), pad="full", flip=True, activation="silu"),
    Case((2, 4, 40, 50), (6, 2, 7, 7), groups=2, pad=3, activation="relu", bias=True),
    Case((2, 3, 40, 30), (5, 3, 7, 6), pad=((1, 9), (0, 3)), pad_mode="symmetric", bias=True),
    Case((1, 2, 40, 45), (4, 1, 6, 6), groups=2, dilation=(2, 3), pad="same", pad_mode="wrap"),
    Case((3, 5, 20, 30), (10, 1, 9, 5), groups=5, pad="same", pad_mode="edge").channels_last(),
    Case((3, 9, 11), (4, 3, 5, 5), pad=25, pad_mode="reflect", activation="gelu"),
    Case((3, 9, 11), (4, 3, 5, 5), pad=((0, 25), (30, 0))),
    Case((1, 8, 8), (1, 1, 8, 8)),
    Case((1, 5, 6), (1, 1, 25, 25), pad="full", pad_mode="wrap"),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_transforms(small: None, case: Case, dtype: str) -> None:
    case = case.with_(dtype=dtype)
    for family in FAMILIES:
        arrays = draw(case, family)
        got = fast(case, arrays, "fft")
        assert judge(case, arrays, got, "fft") > 0 or family == "subnormal"


@pytest.mark.parametrize("case", TRANSFORMED[:4], ids=str)
def test_transforms_of_numpy_alone(
    small: None, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    monkeypatch.setattr(fft, "_module", lambda: np.fft)
    for dtype in FLOATS:
        held = case.with_(dtype=dtype)
        arrays = draw(held, "normal")
        judge(held, arrays, fast(held, arrays, "fft"), "fft")


@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_few_spectra_at_a_time(small: None, case: Case) -> None:
    """A small workspace holds the spectra of a few output channels only."""
    arrays = draw(case, "normal")
    with fastconv.options(workspace=1 << 16):
        report = fastconv.explain(
            arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native", threads=1,
            **case.arguments,
        )  # fmt: skip
        if report.algorithm != "fft":
            return
        assert report.scratch_bytes <= 2 << 16
        judge(case, arrays, fast(case, arrays, "fft"), "fft")


# -- what both promise -----------------------------------------------------------------------------

BOTH = [(case, "separable") for case in SEPARABLE[:7]] + [(c, "fft") for c in TRANSFORMED[:7]]


def operands(case: Case, algorithm: str) -> Arrays:
    arrays = draw(case, "normal")
    return outer(case, arrays) if algorithm == "separable" else arrays


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


# -- the bounds themselves -------------------------------------------------------------------------


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


# -- tasks -----------------------------------------------------------------------------------------


def test_tasks_run_once_each_and_errors_come_back() -> None:
    for threads in (1, 2, 5):
        done: list[int] = []
        tasks.for_each(done.append, range(100), threads)
        assert sorted(done) == list(range(100))

        def fail(task: int) -> None:
            if task == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tasks.for_each(fail, range(1000), threads)
    tasks.for_each(lambda task: None, [], 3)


def test_tasks_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(tasks.threading.Thread, "start", refuse)
    done: list[int] = []
    tasks.for_each(done.append, range(10), 4)
    assert done == list(range(10))
