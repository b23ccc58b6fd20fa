"""fastconv under autograd: what recording and replaying a convolution adds."""

from __future__ import annotations

from typing import Any

import autograd
import numpy as np
from autograd.extend import defvjp, primitive

import fastconv
from fastconv.interop import autograd as adapter

from .row import Row


@primitive
def _bare(x: Any, w: Any) -> Any:
    """The least that autograd asks of whoever brings a function to it."""
    return fastconv.conv2d(x, w, pad=1)


defvjp(
    _bare,
    lambda y, x, w: lambda g: fastconv.conv2d_input_grad(x.shape, w, g, pad=1),
    lambda y, x, w: lambda g: fastconv.conv2d_weight_grad(x, w.shape, g, pad=1),
)


def rows() -> list[Row]:
    """A call outside of autograd, and value and gradient of w."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 2, 8, 8)), rng.standard_normal((2, 2, 3, 3))
    ours = autograd.value_and_grad(lambda w: adapter.conv2d(x, w, pad=1).sum())
    bare = autograd.value_and_grad(lambda w: _bare(x, w).sum())
    return [
        Row(
            "conv2d, nothing recorded",
            lambda: adapter.conv2d(x, w, pad=1),
            lambda: fastconv.conv2d(x, w, pad=1),
        ),
        Row("conv2d and the gradient of w", lambda: ours(w), lambda: bare(w)),
    ]
