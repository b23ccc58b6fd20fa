"""All gradients of a convolution at once, its activation included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import activations
from ..api import conv2d
from ..arguments import as_array, module_of
from ..dtypes import accumulator, as_dtype
from ..geometry import check_choice
from ..interchange import served
from ..sizes import Spatial
from . import gradients
from .forward import conv1d, conv3d
from .naming import named
from .request import Common

WANTED = ("x", "w", "bias")


class Gradients(NamedTuple):
    """Gradients with respect to x, w and the bias; None for those that were not asked for."""

    x: Any
    w: Any
    bias: Any


_WORDS = """Gradients of ``sum(gy * {conv}(x, w, bias=bias, activation=activation))``.

    Parameters
    ----------
    x, w : array
        {x} and {w}, as in `{conv}`.
    gy : array
        Gradient of the output, {y}, of the rank of x.
    stride, pad, dilation, groups, pad_mode, flip, layout, dtype, precision, backend, threads
        As in `{conv}`.
    bias : array (K,), optional
        What the convolution added; only the activation's derivative needs it.
    activation : str, optional
        What the convolution applied: its argument is computed anew, and gy multiplied by its
        derivative there.
    wanted : sequence of str, default ("x", "w", "bias")
        Which gradients to compute.

    Returns
    -------
    Gradients
        Named tuple (x, w, bias).

    Raises
    ------
    ShapeError, DTypeError, BackendUnavailable, BackendUnsupported, MemoryError
        As `{conv}` and its single gradients.

    Notes
    -----
    As many multiply-accumulates as `{conv}` for each of x and w, and once more with an activation.
    The three share what that makes: gy is multiplied by the activation's derivative once, and read
    first for the bias, whose sums take no longer than reading it, then for w, then for x.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w, gy = {example}
    >>> grads = fastconv.{conv}_grads(x, w, gy, activation="relu")
    >>> grads.x.shape == x.shape, grads.w.shape == w.shape, grads.bias.shape
    (True, True, (4,))
    """

_EXAMPLES = {
    1: "np.ones((1, 2, 8)), np.ones((4, 2, 3)), np.ones((1, 4, 6))",
    2: "np.ones((1, 2, 8, 8)), np.ones((4, 2, 3, 3)), np.ones((1, 4, 6, 6))",
    3: "np.ones((1, 2, 4, 4, 4)), np.ones((4, 2, 3, 3, 3)), np.ones((1, 4, 2, 2, 2))",
}


def before_activation(
    convolve: Any, gy: Any, activation: str, *operands: Any, **options: Any
) -> Any:
    """Multiply gy by the activation's derivative at the convolution's own output."""
    v = convolve(*operands, **options)
    xp = module_of(v)
    wide = as_dtype(accumulator(v.dtype.name))
    sums = v.astype(wide, copy=False)
    if activation == "gelu" and xp is not np:  # CuPy has every function of NumPy's, which lacks erf
        sums = sums.get()
    slope = activations.derivative(activation)(sums)
    return (gy.astype(wide, copy=False) * xp.asarray(slope, dtype=wide)).astype(gy.dtype)


def _grads(spatial: Spatial, forward: Any) -> Any:
    name = f"conv{spatial}d_grads"
    input_grad = getattr(gradients, f"conv{spatial}d_input_grad")
    weight_grad = getattr(gradients, f"conv{spatial}d_weight_grad")
    bias_grad = getattr(gradients, f"conv{spatial}d_bias_grad")

    def grads(
        x: Any,
        w: Any,
        gy: Any,
        stride: Any = 1,
        pad: Any = 0,
        *,
        bias: Any = None,
        activation: str | None = None,
        wanted: Sequence[str] = WANTED,
        dilation: Any = 1,
        groups: int = 1,
        pad_mode: str = "constant",
        flip: bool = False,
        layout: str | None = None,
        dtype: Any = None,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> Gradients:
        for which in (wanted,) if isinstance(wanted, str) else wanted:
            check_choice("wanted", which, WANTED)
        x, w, gy = as_array("x", x), as_array("w", w), as_array("gy", gy)
        options = Common.among(locals()).given()
        weight_grad.check(x, w.shape, gy, **options)  # gy must be the output's gradient
        if activation is not None:
            check_choice("activation", activation, tuple(activations.ACTIVATIONS))
            gy = before_activation(forward, gy, activation, x, w, bias=bias, **options)
        # the shortest first, while the caches hold what the activation's derivative made of gy
        sums = bias_grad(gy, layout=layout, dtype=dtype) if "bias" in wanted else None
        gw = weight_grad(x, w.shape, gy, **options) if "w" in wanted else None
        gx = input_grad(x.shape, w, gy, **options) if "x" in wanted else None
        return Gradients(gx, gw, sums)

    words = _WORDS.replace("{example}", _EXAMPLES[spatial])
    return named(served(grads), name, words, spatial)


conv1d_grads = _grads(1, conv1d)
conv2d_grads = _grads(2, conv2d)
conv3d_grads = _grads(3, conv3d)
