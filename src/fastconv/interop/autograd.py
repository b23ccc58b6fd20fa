"""fastconv's convolutions as primitives of HIPS autograd: derivatives of any order, both modes.

A convolution is bilinear in x and w, and so is each of its two gradients in what it takes. The
derivatives of the three are one another: a closed family.

Complex numbers follow autograd, whose transposes do not conjugate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd.extend import defjvp, defvjp, notrace_primitive, primitive
from autograd.numpy.numpy_vjps import match_complex
from autograd.tracer import isbox

import fastconv

from ..activations import ACTIVATIONS
from ..checks import layouts
from ..geometry import check_choice
from ..operators.request import check_names

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]

Function = Callable[..., Any]
#: What a convolution's result depends on smoothly, or is placed by: `out` and `dtype` are not here.
_OPTIONS = ("dilation", "groups", "flip", "layout", "precision", "backend", "threads")
_OWN = {
    "conv": (*_OPTIONS, "pad_mode"),
    "conv_transpose": (*_OPTIONS, "output_padding", "output_shape"),
}


class Family(NamedTuple):
    """A convolution and its gradients, as primitives of autograd."""

    forward: Function
    input_grad: Function
    weight_grad: Function


def _plain(array: Any) -> Any:
    """Conjugate what an operator of fastconv will conjugate again."""
    return array.conj() if array.dtype.kind == "c" else array


def _array(value: Any) -> Any:
    """Lists as arrays: gradients ask for their shapes."""
    return np.asarray(value) if isinstance(value, list | tuple) else value


def _like(operand: Any, gradient: Any) -> Any:
    """Make a gradient real, or complex, as its operand is; few need it."""
    if (operand.dtype.kind == "c") == (gradient.dtype.kind == "c"):
        return gradient
    return match_complex(operand, gradient)


def _family(name: str, spatial: int) -> Family:
    """Wrap an operator and its gradients, and tell autograd how they follow from each other."""
    operator, of_input, of_weight = (
        getattr(fastconv, name + ending) for ending in ("", "_input_grad", "_weight_grad")
    )

    def forward(x: Any, w: Any, bias: Any = None, **options: Any) -> Any:
        return operator(x, w, **options) if bias is None else operator(x, w, bias=bias, **options)

    def input_grad(x_shape: Any, w: Any, gy: Any, **options: Any) -> Any:
        return of_input(x_shape, _plain(w), gy, **options)

    def weight_grad(x: Any, w_shape: Any, gy: Any, **options: Any) -> Any:
        return of_weight(_plain(x), w_shape, gy, **options)

    family = Family(primitive(forward), primitive(input_grad), primitive(weight_grad))
    _define_reverse(family, spatial)
    _define_forward(family, spatial)
    return family


def _define_reverse(family: Family, spatial: int) -> None:
    """Vector-Jacobian products: v is the gradient of what a function returned."""
    conv, input_grad, weight_grad = family

    defvjp(
        conv,
        lambda y, x, w, bias=None, **o: lambda v: _like(x, input_grad(x.shape, w, v, **o)),
        lambda y, x, w, bias=None, **o: lambda v: _like(w, weight_grad(x, w.shape, v, **o)),
        lambda y, x, w, bias=None, **o: lambda v: _like(bias, _over_pixels(v, spatial, o)),
    )
    defvjp(
        input_grad,
        lambda gx, shape, w, gy, **o: lambda v: _like(w, weight_grad(v, w.shape, gy, **o)),
        lambda gx, shape, w, gy, **o: lambda v: _like(gy, conv(v, w, **o)),
        argnums=(1, 2),
    )
    defvjp(
        weight_grad,
        lambda gw, x, shape, gy, **o: lambda v: _like(x, input_grad(x.shape, v, gy, **o)),
        lambda gw, x, shape, gy, **o: lambda v: _like(gy, conv(x, v, **o)),
        argnums=(0, 2),
    )


def _define_forward(family: Family, spatial: int) -> None:
    """Jacobian-vector products: d is the change of one operand."""
    conv, input_grad, weight_grad = family
    defjvp(
        conv,
        lambda d, y, x, w, bias=None, **o: conv(d, w, **o),
        lambda d, y, x, w, bias=None, **o: conv(x, d, **o),
        lambda d, y, x, w, bias=None, **o: _at_all_pixels(d, y, spatial, o),
    )
    defjvp(
        input_grad,
        lambda d, gx, shape, w, gy, **o: input_grad(shape, d, gy, **o),
        lambda d, gx, shape, w, gy, **o: input_grad(shape, w, d, **o),
        argnums=(1, 2),
    )
    defjvp(
        weight_grad,
        lambda d, gw, x, shape, gy, **o: weight_grad(d, shape, gy, **o),
        lambda d, gw, x, shape, gy, **o: weight_grad(x, shape, d, **o),
        argnums=(0, 2),
    )


def _channels(rank: int, spatial: int, options: dict[str, Any]) -> int:
    """Axis of the channels in an array of images."""
    last = options.get("layout") == layouts(spatial)[1]
    return rank - 1 if last else rank - 1 - spatial


def _over_pixels(gy: Any, spatial: int, options: dict[str, Any]) -> Any:
    """Gradient of the bias."""
    channels = _channels(gy.ndim, spatial, options)
    return anp.sum(gy, axis=tuple(axis for axis in range(gy.ndim) if axis != channels))


def _at_all_pixels(bias: Any, y: Any, spatial: int, options: dict[str, Any]) -> Any:
    """A bias for each element of y."""
    shape = [1] * y.ndim
    shape[_channels(y.ndim, spatial, options)] = -1
    return anp.reshape(bias, shape) + anp.zeros(y.shape, dtype=y.dtype)


_activate: Function = primitive(lambda sums, name: ACTIVATIONS[name].function(sums))
_slope: Function = primitive(lambda sums, name: ACTIVATIONS[name].derivative(sums))
#: 1 between two kinks and 0 elsewhere: constant, to autograd.
_inside: Function = notrace_primitive(
    lambda sums, low, high: ((sums > low) & (sums < high)).astype(sums.dtype)
)


def _curvature(sums: Any, name: str) -> Any:
    """Second derivative of an activation, in functions that autograd derives further."""
    if name == "hardswish":
        return _inside(sums, -3, 3) / 3
    if name == "gelu":
        return anp.exp(-sums * sums / 2) * (2 - sums * sums) / anp.sqrt(2 * anp.pi)
    if name == "tanh":
        y = anp.tanh(sums)
        return -2 * y * (1 - y * y)
    if name in ("sigmoid", "silu"):
        y = (anp.tanh(sums / 2) + 1) / 2
        slope = y * (1 - y)
        bend = slope * (1 - 2 * y)
        return bend if name == "sigmoid" else 2 * slope + sums * bend
    return 0 * sums


defvjp(_activate, lambda y, sums, name: lambda v: v * _slope(sums, name))
defjvp(_activate, lambda d, y, sums, name: d * _slope(sums, name))
defvjp(_slope, lambda y, sums, name: lambda v: v * _curvature(sums, name))
defjvp(_slope, lambda d, y, sums, name: d * _curvature(sums, name))

_DOC = """`fastconv.{name}` that autograd can derive, with respect to x, w and bias.

    Parameters
    ----------
    x, w : array
        As in `fastconv.{name}`, of float32, float64, complex64 or complex128.
    stride, pad, bias, activation
        As in `fastconv.{name}`.
    {options}
        As in `fastconv.{name}`.

    Returns
    -------
    array
        As `fastconv.{name}`. There is no `out`, and no `dtype`: convert x or w.

    Raises
    ------
    ShapeError, DTypeError, BackendUnavailable, BackendUnsupported, MemoryError
        As `fastconv.{name}`.

    Notes
    -----
    Derivatives of every order, in reverse and in forward mode, each a call of `fastconv.{name}` or
    of one of its gradients. At the kink of an activation the derivative is the smaller one of both
    sides, as in `fastconv.activations`. Outside of autograd the activation is computed within the
    convolution; under it, behind, because its derivative needs what it was applied to.

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from fastconv.interop import autograd
    >>> x, w = np.ones({x}), np.ones({w})
    >>> gradient = grad(lambda w: autograd.{name}(x, w, 2).sum())(w)
    >>> gradient.shape == w.shape
    True
    """


def _public(operator: str, spatial: int) -> Function:
    """Return the function that users call: keywords checked, activation within or behind."""
    name = f"{operator}{spatial}d"
    conv = _family(name, spatial).forward
    bare = getattr(fastconv, name)
    known = ("stride", "pad", "bias", "activation", *_OWN[operator])

    def function(
        x: Any,
        w: Any,
        stride: Any = 1,
        pad: Any = 0,
        *,
        bias: Any = None,
        activation: str | None = None,
        **options: Any,
    ) -> Any:
        if options:
            check_names(name, options, known)
        if stride != 1:  # what is the default anyway costs autograd and fastconv a look
            options["stride"] = stride
        if pad != 0:
            options["pad"] = pad
        if not (isbox(x) or isbox(w) or isbox(bias)):
            return bare(x, w, bias=bias, activation=activation, **options)
        sums = conv(*(_array(v) for v in (x, w, bias)), **options)
        if activation is None:
            return sums
        check_choice("activation", activation, tuple(ACTIVATIONS))
        return _activate(sums, activation)

    function.__name__ = function.__qualname__ = name
    image, kernel = ("(2, 3" + f", {size}" * spatial + ")" for size in (9, 3))
    function.__doc__ = _DOC.format(
        name=name, options=", ".join(_OWN[operator]), x=image, w=kernel if operator == "conv" else
        kernel.replace("2", "3", 1).replace("3, 3", "3, 2", 1),
    )  # fmt: skip
    return function


conv1d, conv2d, conv3d = (_public("conv", spatial) for spatial in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    _public("conv_transpose", spatial) for spatial in (1, 2, 3)
)
