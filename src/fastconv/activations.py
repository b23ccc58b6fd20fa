"""The activations, by name: one table of definitions in NumPy, which the reference computes with.

The other backends implement the same functions in their own language, under the same names.
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

    ``lipschitz`` bounds how much an error before the activation can grow.
    """

    code: int
    function: Callable[[Array], Array]
    integers: bool
    lipschitz: float


def _sigmoid(v: Array) -> Array:
    # exp of a non-positive argument only, so that nothing overflows
    e = np.exp(-np.abs(v))
    return np.where(v >= 0, 1 / (1 + e), e / (1 + e))


def _gelu(v: Array) -> Array:
    erfc = np.frompyfunc(lambda t: math.erfc(float(t)), 1, 1)
    tail = np.asarray(erfc(-v / np.sqrt(v.dtype.type(2))), dtype=v.dtype)
    result: Array = np.where(np.isneginf(v), v.dtype.type(0), v * tail / 2)
    return result


def _silu(v: Array) -> Array:
    return np.where(np.isneginf(v), v.dtype.type(0), v * _sigmoid(v))


def _hardswish(v: Array) -> Array:
    result: Array = np.where(np.isneginf(v), v.dtype.type(0), v * np.clip(v + 3, 0, 6) / 6)
    return result


#: Every activation propagates NaN; silu, gelu and hardswish tend to 0 at -inf.
ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(1, lambda v: np.maximum(v, 0), True, 1.0),
    "relu6": Activation(2, lambda v: np.clip(v, 0, 6), True, 1.0),
    "leaky_relu": Activation(
        3, lambda v: np.where(v < 0, v * v.dtype.type(LEAKY_SLOPE), v), False, 1.0
    ),
    "sigmoid": Activation(4, _sigmoid, False, 0.25),
    "tanh": Activation(5, np.tanh, False, 1.0),
    "silu": Activation(6, _silu, False, 1.1),
    "gelu": Activation(7, _gelu, False, 1.13),
    "hardswish": Activation(8, _hardswish, False, 1.5),
}


def code(name: str | None) -> int:
    """Return the number compiled backends know the activation by; 0 is none."""
    return 0 if name is None else ACTIVATIONS[name].code
