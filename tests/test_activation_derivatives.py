"""Derivatives of the activations: by differences, by PyTorch, and where they have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv import activations, grad
from fastconv.activations import ACTIVATIONS

Array = np.ndarray[Any, Any]

#: Kinks, and points at which a formula would overflow, cancel or multiply an infinity by 0.
KINKS = [-3.0, 0.0, 3.0, 6.0]
FAR = [-np.inf, -1e300, -800.0, -745.0, -40.0, 40.0, 745.0, 800.0, 1e300, np.inf]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_against_differences(name: str) -> None:
    v = np.linspace(-9, 9, 97) + 0.0123  # no kink within the step
    assert not np.isin(v, KINKS).any()
    slope = activations.derivative(name)
    assert grad.check(ACTIVATIONS[name].function, v, lambda v, gy: gy * slope(v), raises=True)
    assert not grad.check(ACTIVATIONS[name].function, v, lambda v, gy: gy * slope(v - 0.02))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_pytorch(name: str, dtype: str) -> None:
    """Everywhere, kinks included; PyTorch's own formulas lose digits by a few units of 1."""
    torch = pytest.importorskip("torch")
    points = np.array([*np.linspace(-12, 12, 481), *KINKS, *FAR[2:-2]], dtype)
    v = torch.tensor(points, requires_grad=True)
    named = {"silu": torch.nn.functional.silu, "gelu": torch.nn.functional.gelu}
    function = named.get(name) or getattr(torch.nn.functional, name)
    function(v).sum().backward()
    got = activations.derivative(name)(points)
    assert got.dtype == points.dtype
    np.testing.assert_allclose(got, v.grad.numpy(), rtol=0, atol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "silu", "gelu"])
def test_small_slopes_keep_their_digits(name: str) -> None:
    """Far to the left, where 1 - tanh(v)**2 and s (1 - s) would be 0 or noise."""
    exact = {
        "sigmoid": lambda v: np.exp(v) / (1 + np.exp(v)) ** 2,
        "tanh": lambda v: 4 * np.exp(2 * v) / (1 + np.exp(2 * v)) ** 2,
        "silu": lambda v: np.exp(v) * (1 + v + np.exp(v)) / (1 + np.exp(v)) ** 2,
        "gelu": None,
    }[name]
    if exact is None:
        special = pytest.importorskip("scipy.special")
        exact = lambda v: special.ndtr(v) + v * np.exp(-v * v / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    v = np.linspace(-37 if name == "gelu" else -300, -20, 57)
    np.testing.assert_allclose(activations.derivative(name)(v), exact(v), rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_and_nan(name: str, dtype: str) -> None:
    """Infinities give the limits, NaN stays NaN, nothing overflows (warnings are errors here)."""
    low = activations.LEAKY_SLOPE if name == "leaky_relu" else 0
    high = 0 if name in ("relu6", "sigmoid", "tanh") else 1
    with np.errstate(over="ignore"):
        far = np.array(FAR, dtype)
    slope = activations.derivative(name)(far)
    np.testing.assert_array_equal(slope[:3], np.full(3, low, dtype))
    np.testing.assert_array_equal(slope[-3:], np.full(3, high, dtype))
    nan = activations.derivative(name)(np.array([np.nan, 1], dtype))
    assert np.isnan(nan[0])
    assert np.isfinite(nan[1])


def test_any_shape() -> None:
    for name in ACTIVATIONS:
        for shape in ((), (0,), (2, 3, 0), (2, 3)):
            slope = activations.derivative(name)(np.ones(shape, "float32"))
            assert slope.shape == shape
            assert slope.dtype == np.float32


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="no activation 'swish'; choose from relu, relu6"):
        activations.derivative("swish")
