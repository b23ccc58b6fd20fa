"""`fastconv.grad.check`: right gradients pass, each planted mistake is found and located."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import grad
from fastconv.errors import DTypeError, GradientError, ShapeError

Array = np.ndarray[Any, Any]

OPTIONS: dict[str, Any] = {"stride": 2, "pad": ((1, 2), (0, 1)), "pad_mode": "reflect"}


def arrays(seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((2, 2, 8, 7)), rng.standard_normal((4, 2, 3, 3))
    return x, w, rng.standard_normal(4)


def function(x: Array, w: Array, bias: Array) -> Array:
    return np.asarray(fastconv.conv2d(x, w, bias=bias, **OPTIONS))


def gradients(x: Array, w: Array, bias: Array, gy: Array) -> list[Array]:
    return [
        fastconv.conv2d_input_grad(x.shape, w, gy, **OPTIONS),
        fastconv.conv2d_weight_grad(x, w.shape, gy, **OPTIONS),
        fastconv.conv2d_bias_grad(gy),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_right_gradients_agree(seed: int) -> None:
    report = grad.check(function, arrays(seed), gradients, seed=seed, raises=True)
    assert report
    assert report.ok
    assert report.failures == ()
    assert report.worst.ratio < 0.5  # the tolerance is not at its limit either
    assert {c.input for c in report.comparisons} == {"x", "w", "bias"}
    assert "derivatives agree" in str(report)


def _factor_2(found: list[Array]) -> None:
    found[1] *= 2


def _dropped_tap(found: list[Array]) -> None:
    found[1][3, 1, 2, 2] = 0


def _shifted_index(found: list[Array]) -> None:
    found[0][:] = np.roll(found[0], 1, axis=3)


def _one_pixel(found: list[Array]) -> None:
    found[0][1, 0, 5, 3] += 1e-5


def _no_bias(found: list[Array]) -> None:
    found[2][:] = 0


def _nan(found: list[Array]) -> None:
    found[0][0, 1, 2, 3] = np.nan


PLANTED: list[tuple[Callable[[list[Array]], None], str, tuple[int, ...] | None]] = [
    (_factor_2, "w", None), (_dropped_tap, "w", (3, 1, 2, 2)), (_shifted_index, "x", None),
    (_one_pixel, "x", (1, 0, 5, 3)), (_no_bias, "bias", None), (_nan, "x", (0, 1, 2, 3)),
]  # fmt: skip


@pytest.mark.parametrize("elements", [0, 10, 100, 1000])
@pytest.mark.parametrize(("plant", "name", "index"), PLANTED)
def test_planted_mistakes_are_found_and_located(
    plant: Callable[[list[Array]], None], name: str, index: tuple[int, ...] | None, elements: int
) -> None:
    """Element by element, by a choice of elements, and by directions alone."""

    def wrong(x: Array, w: Array, bias: Array, gy: Array) -> list[Array]:
        found = [np.array(g) for g in gradients(x, w, bias, gy)]
        plant(found)
        return found

    report = grad.check(function, arrays(), wrong, elements=elements)
    assert not report
    assert {c.input for c in report.failures} == {name}
    assert report.worst.input == name
    if index is not None:
        assert report.worst.index == index
    with pytest.raises(GradientError, match=f"the gradient is wrong at {name}") as raised:
        grad.check(function, arrays(), wrong, elements=elements, raises=True)
    assert isinstance(raised.value, AssertionError)


def test_the_report_says_what_is_wrong() -> None:
    """The element, both numbers, how many differ, and the factor between them."""
    x, w, bias = arrays()
    gy = np.ones(function(x, w, bias).shape)
    right = gradients(x, w, bias, gy)
    report = grad.check(function, (x, w, bias), [right[0], 2 * right[1], right[2]], gy=gy)
    worst = report.worst
    assert worst.input == "w"
    assert worst.index is not None
    assert worst.analytic == pytest.approx(2 * right[1][worst.index])
    assert worst.numerical == pytest.approx(right[1][worst.index])
    assert worst.error == abs(worst.analytic - worst.numerical)
    text = str(report)
    assert f"w{list(worst.index)}: analytic" in text
    assert "w: 72 of 72 elements, 4 of 4 directions differ" in text
    assert "x: 0 of 100 elements, 0 of 4 directions differ" in text
    assert "w: analytic is 2 times numerical throughout" in text
    assert "x: analytic" not in text
    assert repr(report) == text


def test_inputs_by_name_and_gradients_of_some() -> None:
    x, w, bias = arrays()

    def of_w(x: Array, w: Array, bias: Array, gy: Array) -> dict[str, Array]:
        return {"w": fastconv.conv2d_weight_grad(x, w.shape, gy, **OPTIONS)}

    report = grad.check(function, {"w": w, "bias": bias, "x": x}, of_w)
    assert report
    assert {c.input for c in report.comparisons} == {"w"}
    with pytest.raises(ShapeError, match=r"\['v'\], which are no inputs"):
        grad.check(function, {"w": w, "bias": bias, "x": x}, lambda gy, **_: {"v": gy})


def test_one_input_and_a_number() -> None:
    point = np.array([1.0, -2.0, 30, 1e-7])
    assert grad.check(lambda v: np.sum(v * v), point, 2 * point)
    assert not grad.check(lambda v: np.sum(v * v), point, 2 * point + [0, 0, 0, 1e-5])
    assert grad.check(np.exp, np.float64(2), lambda v, gy: gy * np.exp(v))
    assert not grad.check(np.exp, np.float64(2), lambda v, gy: np.exp(v)), "gy is random"


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_tolerance_follows_the_scale(scale: float) -> None:
    x, w, bias = arrays()
    sized = (x * scale, w / scale, bias)
    assert grad.check(function, sized, gradients)

    def off(x: Array, w: Array, bias: Array, gy: Array) -> list[Array]:
        found = gradients(x, w, bias, gy)
        return [found[0], found[1] * (1 + 1e-6), found[2]]

    assert not grad.check(function, sized, off)


def test_curvature_is_not_taken_for_a_mistake() -> None:
    point = np.linspace(-3, 3, 60)
    assert grad.check(np.sin, point, lambda v, gy: gy * np.cos(v))
    assert grad.check(np.sin, point, lambda v, gy: gy * np.cos(v), step=1e-4)
    assert not grad.check(np.sin, point, lambda v, gy: gy * np.cos(v) * (1 + 1e-6))


def test_a_kink_excuses_nothing() -> None:
    """Beside a kink two steps see two slopes: no tolerance grows with that."""
    point = np.array([1.0, 3e-6, -1.0])
    report = grad.check(np.abs, point, lambda v, gy: gy * [1, -1, -1])
    assert report.worst.index == (1,)
    assert "kink" in str(report)
    assert grad.check(np.abs, np.array([1.0, 1e-2, -1.0]), lambda v, gy: gy * np.sign(v))


def test_large_inputs_take_few_calls() -> None:
    """10**6 elements: a wrong one among those not chosen is found by directions, and located."""
    calls = 0
    point = np.random.default_rng(3).standard_normal((100, 100, 100))

    def cubes(v: Array) -> float:
        nonlocal calls
        calls += 1
        return float(np.sum(v**3))

    right = 3 * point**2
    assert grad.check(cubes, point, right, elements=5)
    wrong = right.copy()
    wrong[12, 34, 56] += 1
    report = grad.check(cubes, point, wrong, elements=5)
    assert report.worst.index == (12, 34, 56)
    assert calls < 250


def test_inputs_are_read_only_float64() -> None:
    def writes(v: Array) -> Array:
        v += 1
        return v

    with pytest.raises(ValueError, match="read-only"):
        grad.check(writes, np.ones(3), np.ones(3), gy=np.ones(3))
    assert grad.check(lambda v: v * v, np.arange(1, 4), lambda v, gy: 2 * v * gy)


def test_bad_arguments() -> None:
    x, w, bias = arrays()
    with pytest.raises(DTypeError, match="returns float32 for float64 inputs"):
        grad.check(lambda v: v.astype("f4"), x, lambda v, gy: gy)
    with pytest.raises(ShapeError, match=r"gradient of w has shape \(2, 4, 3, 3\)"):
        grad.check(fastconv.conv2d, (x, w), lambda x, w, gy: (None, w.transpose(1, 0, 2, 3)))
    with pytest.raises(ShapeError, match=r"1 gradients for 3 inputs \(\['x', 'w', 'bias'\]\)"):
        grad.check(function, (x, w, bias), lambda x, w, bias, gy: gy)
    with pytest.raises(ShapeError, match="pass the gy"):
        grad.check(np.exp, x, np.exp(x))
    with pytest.raises(ShapeError, match=r"gy has shape \(2,\)"):
        grad.check(np.exp, x, np.exp(x), gy=np.ones(2))
    rng = np.random.default_rng()
    with pytest.raises(ValueError, match="something else for the same inputs"):
        grad.check(lambda v: v * rng.random(), x, lambda v, gy: gy)
    with pytest.raises(ValueError, match="nothing to check"):
        grad.check(np.exp, x, np.exp, elements=0, directions=0)
    with pytest.raises(ValueError, match="must be positive"):
        grad.check(np.exp, x, np.exp, step=0)
    with pytest.raises(ValueError, match="none of the inputs"):
        grad.check(fastconv.conv2d, (x, w), lambda x, w, gy: (None, None))
