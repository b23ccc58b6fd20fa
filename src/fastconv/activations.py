"""The activations, by name: one table of definitions in NumPy, which the reference computes with.

The other backends implement the same functions in their own language, under the same names. Their
derivatives are here alone: gradients multiply with them before they convolve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

#: Slope of ``leaky_relu`` for negative values.
LEAKY_SLOPE = 0.01


class Activation(NamedTuple):
    """One activation: its code in compiled backends, its definition, whether integers have it.

    ``lipschitz`` bounds how much an error before the activation can grow. ``derivative`` is that
    of ``function``, of the same argument.
    """

    code: int
    function: Callable[[Array], Array]
    integers: bool
    lipschitz: float
    derivative: Callable[[Array], Array]


def _sigmoid(v: Array) -> Array:
    # exp of a non-positive argument only, so that nothing overflows
    e = np.exp(-np.abs(v))
    return np.where(v >= 0, 1 / (1 + e), e / (1 + e))


def _upper_tail(v: Array) -> Array:
    """Twice the normal distribution function."""
    erfc = np.frompyfunc(lambda t: math.erfc(float(t)), 1, 1)
    return np.asarray(erfc(-v / np.sqrt(v.dtype.type(2))), dtype=v.dtype)


def _gelu(v: Array) -> Array:
    result: Array = np.where(np.isneginf(v), v.dtype.type(0), v * _upper_tail(v) / 2)
    return result


def _silu(v: Array) -> Array:
    return np.where(np.isneginf(v), v.dtype.type(0), v * _sigmoid(v))


def _hardswish(v: Array) -> Array:
    result: Array = np.where(np.isneginf(v), v.dtype.type(0), v * np.clip(v + 3, 0, 6) / 6)
    return result


def _sigmoid_slope(v: Array) -> Array:
    # s (1 - s) would lose its digits where s rounds to 1
    e = np.exp(-np.abs(v))
    result: Array = e / (1 + e) ** 2
    return result


def _tanh_slope(v: Array) -> Array:
    e = np.exp(-np.abs(v)) ** 2
    result: Array = 4 * e / (1 + e) ** 2
    return result


def _silu_slope(v: Array) -> Array:
    near = np.clip(v, -800, 800)  # beyond, 0 and 1 in float64; an infinity times 0 is NaN
    result: Array = _sigmoid(near) + near * _sigmoid_slope(near)
    return result


def _gelu_slope(v: Array) -> Array:
    near = np.clip(v, -40, 40)
    density = np.exp(-near * near / 2) / np.sqrt(v.dtype.type(2 * math.pi))
    result: Array = _upper_tail(near) / 2 + near * density
    return result


def _hardswish_slope(v: Array) -> Array:
    rising = np.where(v <= -3, v.dtype.type(0), v / 3 + 0.5)
    return np.where(v >= 3, v.dtype.type(1), rising)


def _relu_slope(v: Array, below: float = 0) -> Array:
    one, other = v.dtype.type(1), v.dtype.type(below)
    result: Array = np.where(np.isnan(v), v, np.where(v > 0, one, other))
    return result


def _relu6_slope(v: Array) -> Array:
    return np.where(v >= 6, v.dtype.type(0), _relu_slope(v))


#: Every activation propagates NaN, and so does its derivative; silu, gelu and hardswish tend to 0
#: at -inf. At a kink the derivative is the smaller one of both sides, as in PyTorch.
ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(1, lambda v: np.maximum(v, 0), True, 1.0, _relu_slope),
    "relu6": Activation(2, lambda v: np.clip(v, 0, 6), True, 1.0, _relu6_slope),
    "leaky_relu": Activation(
        3,
        lambda v: np.where(v < 0, v * v.dtype.type(LEAKY_SLOPE), v),
        False,
        1.0,
        lambda v: _relu_slope(v, LEAKY_SLOPE),
    ),
    "sigmoid": Activation(4, _sigmoid, False, 0.25, _sigmoid_slope),
    "tanh": Activation(5, np.tanh, False, 1.0, _tanh_slope),
    "silu": Activation(6, _silu, False, 1.1, _silu_slope),
    "gelu": Activation(7, _gelu, False, 1.13, _gelu_slope),
    "hardswish": Activation(8, _hardswish, False, 1.5, _hardswish_slope),
}


def derivative(name: str) -> Callable[[Array], Array]:
    """Return the derivative of an activation, a function of what the activation is applied to.

    Parameters
    ----------
    name : str
        One of `ACTIVATIONS`.

    Returns
    -------
    callable
        Takes a float array v, the sums before the activation, and returns an array of its shape and
        dtype. Floats of 16 bits are computed with as they are: convert them to float32 first.

    Raises
    ------
    ValueError
        There is no such activation.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import activations
    >>> activations.derivative("relu6")(np.array([-1.0, 0, 3, 6, 7]))
    array([0., 0., 1., 0., 0.])
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; choose from {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name].derivative


def code(name: str | None) -> int:
    """Return the number compiled backends know the activation by; 0 is none."""
    return 0 if name is None else ACTIVATIONS[name].code
