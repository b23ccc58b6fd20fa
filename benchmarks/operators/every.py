"""One call of every operator: whole numbers, so that each result is exact and comes with a proof.

Sizes are such that the definition takes a fraction of a second.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastconv

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Call:
    """One call of an operator, and its result by other means.

    Attributes
    ----------
    name : str
        Of fastconv's operator.
    given : tuple
    options : dict
    proof : callable, optional
        Takes the same arguments; default: the operator itself, on the reference backend.
    """

    name: str
    given: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    proof: Callable[..., Any] | None = None

    def run(self) -> Any:
        """Compute it."""
        return getattr(fastconv, self.name)(*self.given, **self.options)

    def expected(self) -> Any:
        """Compute it by the definition."""
        if self.proof is not None:
            return self.proof(*self.given, **self.options)
        return getattr(fastconv, self.name)(*self.given, **self.options, backend="reference")


def whole(*shape: int, dtype: str = "float32") -> Array:
    """Draw small integers; the same ones for the same shape."""
    rng = np.random.default_rng(zlib.crc32(repr(shape).encode()))
    least = 0 if dtype == "uint8" else -3
    return rng.integers(least, 4, shape).astype(dtype)


def _gradients(name: str, x: Array, w: Array, **options: Any) -> list[Call]:
    """Return an operator of x and w and its two gradients."""
    y = getattr(fastconv, name).output_shape(x, w, **options)
    gy = whole(*y)
    return [
        Call(name, (x, w), options),
        Call(f"{name}_input_grad", (x.shape, w, gy), options),
        Call(f"{name}_weight_grad", (x, w.shape, gy), options),
    ]


def _convolutions() -> list[Call]:
    calls = []
    images = {1: (1, 24, 2000), 2: (1, 24, 28, 28), 3: (1, 6, 8, 16, 16)}
    for d, shape in images.items():
        x, w = whole(*shape), whole(16, shape[1], *(3,) * d)
        if d == 2:
            y = whole(*fastconv.output_shape(x.shape, w.shape, pad=1))
            calls += [
                Call("conv2d", (x, w), {"pad": 1}),
                Call("conv2d_input_grad", (x.shape, w, y), {"pad": 1}),
                Call("conv2d_weight_grad", (x, w.shape, y), {"pad": 1}),
            ]
        else:
            calls += _gradients(f"conv{d}d", x, w, pad=1)
            y = whole(*getattr(fastconv, f"conv{d}d").output_shape(x, w, pad=1))
        calls.append(Call(f"conv{d}d_grads", (x, w, y), {"pad": 1}, _each_gradient(d)))
        calls.append(Call(f"conv{d}d_bias_grad", (y,), proof=_sums))
        small = whole(1, 16, *(14, 14, 14)[:d]) if d < 3 else whole(1, 16, 5, 6, 7)
        calls += _gradients(f"conv_transpose{d}d", small, whole(16, 8, *(4,) * d), stride=2, pad=1)
    return calls


def _each_gradient(d: int) -> Callable[..., Any]:
    """Return the three gradients, each by its own operator."""

    def proof(x: Array, w: Array, gy: Array, **options: Any) -> tuple[Any, ...]:
        options["backend"] = "reference"
        gx = getattr(fastconv, f"conv{d}d_input_grad")(x.shape, w, gy, **options)
        return gx, getattr(fastconv, f"conv{d}d_weight_grad")(x, w.shape, gy, **options), _sums(gy)

    return proof


def _sums(gy: Array) -> Array:
    """Sums of each channel."""
    return gy.sum(axis=(0, *range(2, gy.ndim)))


def _each_image(function: str) -> Callable[..., Any]:
    """Return the results of one call an image."""

    def proof(a: Any, b: Any, gy: Any = None, **options: Any) -> Array:
        options["backend"] = "reference"
        operator = getattr(fastconv, function)
        found = []
        for i in range(len(b if gy is None else gy)):
            first = a[1:] if isinstance(a, tuple) else a[i]
            second = b[1:] if isinstance(b, tuple) else b[i]
            more = () if gy is None else (gy[i],)
            found.append(operator(first, second, *more, **options))
        return np.stack(found)

    return proof


def _per_sample() -> list[Call]:
    x, w, gy = whole(2, 12, 20, 20), whole(2, 12, 12, 3, 3), whole(2, 12, 20, 20)
    name, options = "conv2d_per_sample", {"pad": 1}
    return [
        Call(name, (x, w), options, _each_image("conv2d")),
        Call(f"{name}_input_grad", (x.shape, w, gy), options, _each_image("conv2d_input_grad")),
        Call(f"{name}_weight_grad", (x, w.shape, gy), options, _each_image("conv2d_weight_grad")),
    ]


def _patches() -> list[Call]:
    x = whole(1, 8, 32, 32)

    def windows(image: Array, kernel: tuple[int, int]) -> Array:
        view = np.lib.stride_tricks.sliding_window_view(image, kernel, (2, 3))
        return view.transpose(0, 1, 4, 5, 2, 3)

    def columns(image: Array, kernel: tuple[int, int]) -> Array:
        return windows(image, kernel).reshape(1, 8 * 9, -1)

    def added_up(cols: Array, image: tuple[int, int], kernel: tuple[int, int]) -> Array:
        ones = np.eye(9, dtype="f4").reshape(9, 1, *kernel)  # each tap alone, as weights
        split = cols.reshape(8, 9, 30, 30)
        grad: Array = fastconv.conv2d_input_grad((8, 1, *image), ones, split, backend="reference")
        return grad.reshape(1, 8, *image)

    return [
        Call("im2col", (x, (3, 3)), proof=columns),
        Call("im2col_view", (x, (3, 3)), proof=windows),
        Call("col2im", (whole(1, 72, 900), (32, 32), (3, 3)), proof=added_up),
    ]


def _layers() -> list[Call]:
    x = whole(1, 16, 28, 28)
    image, kernel = whole(120, 120), whole(7, 7)
    bytes_, weights = whole(1, 16, 28, 28, dtype="uint8"), whole(16, 16, 3, 3, dtype="int8")
    offset = whole(1, 18, 28, 28)
    scaled = (bytes_, 0.25, 1, weights, 0.5, 2, 4.0, 3)
    return [
        Call("correlate2d", (image, kernel, "same", "symm")),
        Call("convolve2d", (image, kernel)),
        Call("depthwise_conv2d", (x, whole(32, 1, 3, 3)), {"pad": 1}),
        Call("separable_conv2d", (x, whole(32, 1, 3, 3), whole(24, 32, 1, 1)), {"pad": 1}),
        Call("deform_conv2d", (x, whole(16, 16, 3, 3), offset), {"pad": 1}),
        Call("conv2d_integer", (bytes_, weights), {"x_zero_point": 1, "w_zero_point": 2}),
        Call("qlinear_conv2d", scaled, {"pad": 1}),
    ]


def calls() -> list[Call]:
    """Return a call of every operator."""
    return [*_convolutions(), *_per_sample(), *_patches(), *_layers()]
