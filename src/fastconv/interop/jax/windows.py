"""``jax.lax.conv_general_dilated`` in terms of convolutions and their gradients.

Where x is dilated and the window does not stride, y is the gradient of a strided convolution.
Where there are both, the pixels of y between which the window meets the same elements of the kernel
make a convolution of their own, of x as it is: nothing is stuffed with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...geometry import Shape
from .convolution import Convolution
from .primitive import convolve, merge, split


class Window(NamedTuple):
    """How the kernel moves along one axis."""

    stride: int
    before: int
    after: int
    spread: int  # of x
    dilation: int  # of the kernel

    def outputs(self, size: int, taps: int) -> int:
        """Pixels of y."""
        dilated = (size - 1) * self.spread + 1 if size else 0
        reach = (taps - 1) * self.dilation + 1
        return (dilated + self.before + self.after - reach) // self.stride + 1


class Axes(NamedTuple):
    """Where the axes of the three arrays stand, as ``jax.lax.ConvDimensionNumbers`` has them."""

    x: Shape
    w: Shape
    y: Shape


def convolved(
    x: Any, w: Any, axes: Axes, windows: Sequence[Window], groups: int, dtype: str
) -> Any:
    """Compute y, which has pixels."""
    if not any(window.spread > 1 for window in windows):
        return _plain(x, w, axes, windows, groups, dtype)
    if any(window.stride > 1 for window in windows):
        return _phases(x, w, axes, windows, groups, dtype)
    return _transposed(x, w, axes, windows, groups, dtype)


def _sizes(array: Any, axes: Shape) -> Shape:
    """Sizes along the axes of an image or a kernel."""
    return tuple(array.shape[axis] for axis in axes[2:])


def _computed(a: Any, b: Any, result: Any, conv: Convolution, dtype: str) -> Any:
    if conv.is_zero():
        return jnp.zeros(conv.shape(result), dtype)
    return convolve(a, b, result, conv, dtype)


def _plain(x: Any, w: Any, axes: Axes, windows: Sequence[Window], groups: int, dtype: str) -> Any:
    conv = Convolution(
        x.shape[axes.x[0]], x.shape[axes.x[1]], w.shape[axes.w[0]], groups,
        _sizes(x, axes.x), _sizes(w, axes.w),
        tuple(window.stride for window in windows), tuple(window.dilation for window in windows),
        tuple((window.before, window.after) for window in windows), *axes,
    )  # fmt: skip
    return _computed(x, w, "y", conv, dtype)


def _transposed(
    x: Any, w: Any, axes: Axes, windows: Sequence[Window], groups: int, dtype: str
) -> Any:
    """Compute y as the gradient with respect to the input of a convolution that makes x."""
    k = w.shape[axes.w[0]]
    if groups > 1:  # (K, C/groups) as (C, K/groups)
        w = merge(split(w, axes.w[0], groups), axes.w[0], axes.w[1])
    taps, sizes = _sizes(w, axes.w), _sizes(x, axes.x)
    along = list(zip(windows, sizes, taps, strict=True))
    reaches = [(count - 1) * window.dilation for window, _, count in along]
    conv = Convolution(
        x.shape[axes.x[0]], k, x.shape[axes.x[1]], groups,
        tuple(window.outputs(size, count) for window, size, count in along), taps,
        tuple(window.spread for window in windows), tuple(window.dilation for window in windows),
        tuple(
            (reach - window.before, reach - window.after)
            for window, reach in zip(windows, reaches, strict=True)
        ),
        axes.y, (axes.w[1], axes.w[0], *axes.w[2:]), axes.x, flip=True,
    )  # fmt: skip
    return _computed(x, w, "x", conv, dtype)


def _phases(x: Any, w: Any, axes: Axes, windows: Sequence[Window], groups: int, dtype: str) -> Any:
    """Take apart the first axis along which x is dilated."""
    place = next(i for i, window in enumerate(windows) if window.spread > 1)
    window, x_axis, w_axis = windows[place], axes.x[2 + place], axes.w[2 + place]
    size, taps = x.shape[x_axis], w.shape[w_axis]
    outputs = window.outputs(size, taps)
    step = window.spread // gcd(window.spread, window.stride)  # of pixels of y that are alike
    skip = window.spread // gcd(window.spread, window.dilation)  # of elements of w they meet
    stride = window.stride // gcd(window.spread, window.stride)
    dilation = window.dilation // gcd(window.spread, window.dilation)
    y = None
    for pixel in range(min(step, outputs)):
        begin = pixel * window.stride - window.before  # in dilated x
        met = [
            i for i in range(min(skip, taps)) if (begin + i * window.dilation) % window.spread == 0
        ]
        if not met:
            continue
        (tap,) = met
        first = (begin + tap * window.dilation) // window.spread
        count, kernel = len(range(pixel, outputs, step)), len(range(tap, taps, skip))
        end = first + (count - 1) * stride + (kernel - 1) * dilation + 1
        part = Window(stride, -first, end - size, 1, dilation)
        elements = jax.lax.slice_in_dim(w, tap, taps, skip, w_axis)
        others = (*windows[:place], part, *windows[place + 1 :])
        phase = convolved(x, elements, axes, others, groups, dtype)
        gaps = [(0, 0, 0)] * phase.ndim
        gaps[axes.y[2 + place]] = (pixel, outputs - 1 - pixel - (count - 1) * step, step - 1)
        spread = jax.lax.pad(phase, jnp.zeros((), phase.dtype), gaps)
        y = spread if y is None else y + spread
    if y is not None:
        return y
    shape = dict(zip(axes.y, (x.shape[axes.x[0]], w.shape[axes.w[0]]), strict=False))
    along = zip(windows, _sizes(x, axes.x), _sizes(w, axes.w), strict=True)
    shape.update(zip(axes.y[2:], (win.outputs(n, t) for win, n, t in along), strict=True))
    return jnp.zeros([shape[axis] for axis in range(len(shape))], dtype)
