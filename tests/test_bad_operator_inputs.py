"""Bad inputs of the operators beside `conv2d`: one clear error each, and nothing allocated.

As `test_bad_inputs`: ``E`` is ValueError, ``T`` TypeError, ``M`` MemoryError. Shapes stand for
arrays of ones, `Shape` for a shape that is an argument itself.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastconv

Array = np.ndarray[Any, Any]
ERRORS = {
    "E": ValueError, "T": TypeError, "M": MemoryError, "B": fastconv.BackendUnavailable,
}  # fmt: skip
DIMENSIONS = (1, 2, 3)
HUGE = 2**40


class Shape(tuple[Any, ...]):
    """A shape that is an argument: not the shape of an array of ones."""


class Row(NamedTuple):
    """What is wrong, the call, its error and a part of its words."""

    wrong: str
    operator: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    expect: str
    says: str


def row(wrong: str, operator: str, *arguments: Any, expect: str, says: str, **options: Any) -> Row:
    """Describe a row."""
    return Row(wrong, operator, arguments, options, expect, says)


def ones(value: Any) -> Any:
    """Make the array that a shape stands for."""
    if isinstance(value, Shape):
        return tuple(value)
    plain = isinstance(value, tuple) and all(type(size) is int for size in value)
    return np.ones(value, "f4") if plain and value else value


def wide(*shape: int, dtype: str = "f4") -> Array:
    """A large array over the memory of one number."""
    return np.broadcast_to(np.ones((), dtype), shape)


def text(*shape: int) -> Array:
    """An array of words."""
    return np.full(shape, "one")


def read_only(*shape: int, dtype: str = "f4") -> Array:
    """An array that cannot be written to."""
    array = np.ones(shape, dtype)
    array.flags.writeable = False
    return array


def gradients(d: int) -> list[Row]:
    """Gradients of convolutions in d dimensions, of x (2, 4, 8, ...) and w (6, 2, 3, ...)."""
    x, w, y = (2, 4, *(8,) * d), (6, 2, *(3,) * d), (2, 6, *(6,) * d)
    gx, gw, every = f"conv{d}d_input_grad", f"conv{d}d_weight_grad", f"conv{d}d_grads"
    axes, two = ("Q", "P, Q", "O, P, Q")[d - 1], {"groups": 2}
    expected = f"(N=2, K=6, {', '.join(f'{axis}=6' for axis in axes.split(', '))})"
    rows = []
    for wrong in ((*x[:-1], 9), x[:1], (*x, 1)):
        rows += [row("gy", gx, Shape(x), w, wrong, expect="E", says=expected, **two),
                 row("gy", gw, x, Shape(w), wrong, expect="E", says=expected, **two),
                 row("gy", every, x, w, wrong, expect="E", says=expected, **two)]  # fmt: skip
    for name, shape, says in (
        ("rank", (4, 8), f"conv{d}d_input_grad takes x"),
        ("channels", (2, 5, *x[2:]), "w expects"),
        ("negative", (-2, *x[1:]), "x_shape must be at least 0, got -2"),
        ("kernel does not fit", (*x[:-1], 2), "covers 3 pixels"),
        ("no pixels", (*x[:-1], 0), "no pixels along W" if d > 1 else "no pixels along L"),
    ):
        if (d, name) != (1, "rank"):
            rows.append(row(f"x_shape: {name}", gx, Shape(shape), w, y, expect="E", says=says,
                            **two))  # fmt: skip
    for name, shape, says in (
        ("rank", w[:-1], f"conv{d}d_weight_grad takes"),
        ("channels", (6, 3, *w[2:]), "w expects 3 input channels"),
        ("negative", (6, 2, *w[2:-1], -3), "w_shape must be at least 0, got -3"),
        ("groups", (5, 2, *w[2:]), "groups=2"),
        ("no taps", (*w[:-1], 0), "along S"),
    ):
        rows.append(row(f"w_shape: {name}", gw, x, Shape(shape), y, expect="E", says=says, **two))
    for bad in (1.5, "8", None):
        rows += [
            row("x_shape", gx, Shape((*x[:-1], bad)), w, y, expect="T",
                says="x_shape must be a sequence of integers", **two),
            row("w_shape", gw, x, Shape((*w[:-1], bad)), y, expect="T",
                says="w_shape must be a sequence of integers", **two),
        ]  # fmt: skip
    rows += [
        row("x_shape", gx, 8, w, y, expect="T", says="x_shape must be a sequence of integers"),
        row("w_shape", gw, x, None, y, expect="T", says="w_shape must be a sequence of integers"),
        row("x_shape", gx, Shape((1, 1, *(HUGE,) * d)), (1, 1, *(1,) * d), (1, 1, *(2,) * d),
            stride=HUGE - 1, expect="M" if d > 1 else "E", says="" if d > 1 else "gy")
        if d > 1 else
        row("x_shape", gx, Shape((HUGE, HUGE, 1)), wide(1, HUGE, 1), wide(HUGE, 1, 1),
            expect="M", says="more than an address space holds"),
        row("w_shape", gw, wide(1, HUGE, *x[2:]), Shape((HUGE, HUGE, *w[2:])),
            wide(1, HUGE, *y[2:]), expect="M", says="more than an address space holds"),
        row("w", gx, Shape(x), text(*w), y, expect="T", says="w has dtype", **two),
        row("gy", gw, x, Shape(w), text(*y), expect="T", says="gy has dtype", **two),
        row("groups", gx, Shape(x), w, y, expect="E", says="groups", groups=0),
        row("stride", gw, x, Shape(w), y, expect="T", says="stride", stride=1.0, **two),
        row("stride", gx, Shape(x), w, y, expect="E", says="stride", stride=(1,) * (d + 1), **two),
        row("pad", gx, Shape(x), w, y, expect="E", says="pad", pad=-1, **two),
        row("pad", gx, Shape(x), w, y, expect="E", says="unknown pad", pad="equal", **two),
        row("pad_mode", gw, x, Shape(w), y, expect="E", says="pad_mode", pad_mode="mirror", **two),
        row("layout", gw, x, Shape(w), y, expect="E", says="layout", layout="NCHWD", **two),
        row("out", gx, Shape(x), w, y, expect="E", says="got shape", out=np.ones(y, "f4"), **two),
        row("out", gw, x, Shape(w), y, expect="E", says="got dtype float64", out=np.ones(w), **two),
        row("out", gw, x, Shape(w), y, expect="E", says="read-only", out=read_only(*w), **two),
        row("out", gx, Shape(x), w, y, expect="T", says="out must be", out=[1.0], **two),
        row("dtype", gx, Shape(x), w, y, expect="T", says="no dtype", dtype="f3", **two),
        row("backend", gx, Shape(x), w, y, expect="B", says="backend", backend="gpu", **two),
        row("threads", gw, x, Shape(w), y, expect="E", says="threads", threads=0, **two),
        row("unknown", gx, Shape(x), w, y, expect="T", says="did you mean pad?", padding=1),
        row("unknown", gw, x, Shape(w), y, expect="T", says="did you mean stride?", strides=1),
        row("wanted", every, x, w, y, expect="E", says="unknown wanted 'y'", wanted="y", **two),
        row("activation", every, x, w, y, expect="E", says="activation", activation="f", **two),
        row("bias", every, x, w, y, expect="E", says="bias has shape (5,)", bias=np.ones(5, "f4"),
            activation="relu", **two),
        row("gy", f"conv{d}d_bias_grad", (3,), expect="E", says=f"conv{d}d_bias_grad takes gy"),
        row("layout", f"conv{d}d_bias_grad", y, expect="E", says="layout", layout="NC"),
        row("gy", f"conv{d}d_bias_grad", text(*y), expect="T", says="gy"),
    ]  # fmt: skip
    return rows


def transposed(d: int) -> list[Row]:
    """Transposed convolutions in d dimensions, of x (2, 4, 5, ...) and w (4, 3, 3, ...)."""
    x, w = (2, 4, *(5,) * d), (4, 3, *(3,) * d)
    name = f"conv_transpose{d}d"
    gx, gw, y = name + "_input_grad", name + "_weight_grad", (2, 3, *(11,) * d)
    first = ("L", "H", "D")[d - 1]
    two = {"stride": 2}
    return [
        row("rank", name, (4,) * d, w, expect="E", says=f"{name} takes x"),
        row("rank", name, x, w[:-1], expect="E", says=f"{name} takes x"),
        row("channels", name, x, (3, 4, *w[2:]), expect="E", says="w expects 3 input channels"),
        row("groups", name, x, w, expect="E", says="groups=3 does not divide C=4", groups=3),
        row("groups", name, x, w, expect="T", says="groups", groups="2"),
        row("no pixels", name, (*x[:-1], 0), w, expect="E", says="no pixels along"),
        row("no taps", name, x, (*w[:-1], 0), expect="E", says="along S"),
        row("output_padding", name, x, w, expect="E", says="output_padding=2 must be smaller",
            output_padding=2, **two),
        row("output_padding", name, x, w, expect="E", says="output_padding=1 must be smaller",
            output_padding=1),
        row("output_padding", name, x, w, expect="E", says="output_padding must be at least 0",
            output_padding=-1, **two),
        row("output_padding", name, x, w, expect="T", says="output_padding", output_padding=0.5),
        row("output_padding", name, x, w, expect="E", says="output_padding",
            output_padding=(0,) * (d + 1)),
        row("output_shape", name, x, w, expect="E", says="output_shape must be at least 1",
            output_shape=(0,) * d),
        row("output_shape", name, x, w, expect="E", says="output_shape must be at least 1",
            output_shape=(-7,) * d),
        row("output_shape", name, x, w, expect="T", says="output_shape",
            output_shape=(7.0,) * d),
        row("output_shape", name, x, w, expect="E", says="output_shape",
            output_shape=(7,) * (d + 1)),
        row("output_shape", name, x, w, expect="E", says="output_shape=", pad=1,
            output_shape=(7,) * d),
        row("output_shape", name, x, w, expect="E", says="unknown pad 'even'", pad="even",
            output_shape=(7,) * d),
        row("output_shape", name, x, w, expect="M", says="more than an address space holds",
            output_shape=(2**62,) * d),
        row("pad", name, x, w, expect="E", says=f"empty along {first}", pad=4),
        row("pad", name, x, w, expect="E", says="unknown pad 'full'", pad="full"),
        row("pad", name, x, w, expect="E", says="pad", pad=-1),
        row("stride", name, x, w, expect="E", says="stride", stride=0),
        row("stride", name, (1, 1, *(2,) * d), (1, 8, *(1,) * d), expect="M",
            says="more than an address space holds", stride=2**60),
        row("bias", name, x, w, expect="E", says="bias has shape (4,), expected (K=3,)",
            bias=np.ones(4, "f4")),
        row("bias", name, x, w, expect="T", says="bias has dtype", bias=np.ones(3, "c8")),
        row("activation", name, x, w, expect="E", says="activation", activation="step"),
        row("layout", name, x, w, expect="E", says="layout", layout="channels_last"),
        row("out", name, x, w, expect="E", says="got shape", out=np.ones(x, "f4")),
        row("x", name, text(*x), w, expect="T", says="x has dtype"),
        row("pad_mode", name, x, w, expect="T", says="no argument 'pad_mode'", pad_mode="edge"),
        row("gy", gx, Shape(x), w, x, expect="E", says=f"(N=2, K=3, {first}=11", **two),
        row("gy", gw, x, Shape(w), (*y[:-1], 12), expect="E", says=f"(N=2, K=3, {first}=11", **two),
        row("gy", gx, Shape(x), w, y[1:], expect="E", says="gy has shape", **two),
        row("x_shape", gx, Shape((2, 4.5, *x[2:])), w, y, expect="T", says="x_shape must be",
            **two),
        row("x_shape", gx, Shape((2, -4, *x[2:])), w, y, expect="E", says="x_shape must be", **two),
        row("w_shape", gw, x, Shape((4, 3)), y, expect="E", says=f"{gw} takes", **two),
        row("w_shape", gw, x, 3, y, expect="T", says="w_shape must be a sequence", **two),
    ]  # fmt: skip


X, W, Y = (2, 4, 8, 8), (2, 6, 2, 3, 3), (2, 6, 6, 6)
PER_SAMPLE = [
    row("images", "conv2d_per_sample", X, (3, *W[1:]), expect="E", says="kernels for each of N"),
    row("rank", "conv2d_per_sample", X, W[1:], expect="E", says="with w (N, K, C/groups, R, S)"),
    row("unknown", "conv2d_per_sample", X, W, expect="T", says="did you mean pad?", padding=1),
    row("unknown", "conv2d_per_sample", X, W, expect="T", says="no argument 'colour'", colour=1),
    row("out", "conv2d_per_sample", X, W, expect="E", says="read-only", out=read_only(*Y),
        groups=2),
    row("out", "conv2d_per_sample", X, W, expect="T", says="out must be", out=[1.0], groups=2),
    row("out", "conv2d_per_sample", X, W, expect="E", says="out must be", out=np.ones(Y),
        groups=2),
    row("activation", "conv2d_per_sample", X, W, expect="E", says="activation", activation="f",
        groups=2),
    row("bias", "conv2d_per_sample", X, W, expect="E", says="bias has shape (2, 5)",
        bias=np.ones((2, 5), "f4"), groups=2),
    row("bias", "conv2d_per_sample", X, W, expect="E", says="bias has shape", groups=2,
        bias=np.ones((1, 2, 6), "f4")),
    row("x_shape", "conv2d_per_sample_input_grad", Shape((2, 4, 8, 0.5)), W, Y, expect="T",
        says="x_shape must be a sequence of integers", groups=2),
    row("x_shape", "conv2d_per_sample_input_grad", Shape((3, *X[1:])), W, Y, expect="E",
        says="kernels for each of N images", groups=2),
    row("gy", "conv2d_per_sample_input_grad", Shape(X), W, (2, 6, 6, 7), expect="E",
        says="(N=2, K=6, P=6, Q=6)", groups=2),
    row("gy", "conv2d_per_sample_input_grad", Shape(X), W, (1, 6, 6, 6), expect="E",
        says="(N=2, K=6, P=6, Q=6)", groups=2),
    row("w_shape", "conv2d_per_sample_weight_grad", X, Shape((2, -6, *W[2:])), Y, expect="E",
        says="w_shape must be at least 0", groups=2),
    row("gy", "conv2d_per_sample_weight_grad", X, Shape(W), (2, 6, 6), expect="E",
        says="(N=2, K=6, P=6, Q=6)", groups=2),
    row("size", "conv2d_per_sample_weight_grad", wide(2**18, 4, 3, 3),
        Shape((2**18, HUGE, 4, 3, 3)), wide(2**18, HUGE, 1, 1), expect="M",
        says="more than an address space holds"),
]  # fmt: skip

BYTES, KERNEL = np.ones((1, 2, 4, 4), "u1"), np.ones((3, 2, 3, 3), "i1")
SCALED: tuple[Any, ...] = (BYTES, 1.0, 0, KERNEL, 1.0, 0, 1.0, 0)


def scaled(place: int, value: Any) -> tuple[Any, ...]:
    """Return the arguments of `qlinear_conv2d` with one replaced."""
    return (*SCALED[:place], value, *SCALED[place + 1 :])


NAMES = ("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point")
QUANTISED = [
    *(
        row(f"{NAMES[place]}={value}", "qlinear_conv2d", *scaled(place, value), expect="E",
            says=f"{NAMES[place]} must be positive and finite")
        for place in (1, 4, 6) for value in (np.nan, np.inf, -1.0, 0.0)
    ),
    *(
        row(NAMES[place], "qlinear_conv2d", *scaled(place, np.ones(2, "f4")), expect="E",
            says=f"{NAMES[place]} must be one number")
        for place in (1, 4, 6)
    ),
    *(
        row(NAMES[place], "qlinear_conv2d", *scaled(place, value), expect=expect, says=says)
        for place in (2, 5, 7)
        for value, expect, says in (
            (0.5, "T", f"{NAMES[place]} must be an integer"),
            ("0", "T", f"{NAMES[place]} must be an integer"),
            (None, "T", f"{NAMES[place]} must be an integer"),
            (2**70, "E", f"{NAMES[place]}="), (300, "E", f"{NAMES[place]}=300 lies outside"),
            (-129, "E", f"{NAMES[place]}=-129 lies outside"),
            (np.zeros((3, 1), "i1"), "E", f"{NAMES[place]} must be one number"),
        )
    ),
    row("scale of words", "qlinear_conv2d", *scaled(1, "1"), expect="E", says="x_scale must be"),
    row("product of scales", "qlinear_conv2d", BYTES, 1e30, 0, KERNEL, 1e30, 0, 1.0, 0, expect="E",
        says="too large for float32"),
    row("x", "qlinear_conv2d", *scaled(0, BYTES.astype("f4")), expect="T", says="x is float32",
        dtype="uint8"),
    row("w", "qlinear_conv2d", *scaled(3, KERNEL.astype("i2")), expect="T", says="w is int16"),
    row("rank", "qlinear_conv2d", *scaled(0, BYTES[0, 0, 0]), expect="E", says="takes x"),
    row("channels", "qlinear_conv2d", *scaled(3, KERNEL[:, :1]), expect="E", says="w expects 1"),
    row("out", "qlinear_conv2d", *SCALED, out=read_only(1, 3, 2, 2, dtype="u1"), expect="E",
        says="read-only"),
    row("out", "qlinear_conv2d", *SCALED, out=[1], expect="T", says="out must be"),
    row("out", "qlinear_conv2d", *SCALED, out=np.ones((1, 3, 2, 1), "u1"), expect="E",
        says="out must be (1, 3, 2, 2) uint8"),
    row("bias", "qlinear_conv2d", *SCALED, np.ones(3, "f4"), expect="T", says="bias is float32"),
    row("bias", "qlinear_conv2d", *SCALED, np.ones((3, 1), "i4"), expect="E",
        says="bias has shape"),
    row("pad", "qlinear_conv2d", *SCALED, pad=-1, expect="E", says="pad"),
    row("dtype", "qlinear_conv2d", *SCALED, dtype="f4", expect="T", says="int8 or uint8"),
    row("layout", "conv2d_integer", BYTES, KERNEL, layout="NCL", expect="E", says="layout"),
    row("out", "conv2d_integer", BYTES, KERNEL, out=np.ones((1, 3, 2, 2), "i8"), expect="E",
        says="got dtype int64"),
    row("size", "conv2d_integer", wide(1, 2, 4, 4, dtype="u1"), KERNEL, pad=2**55, expect="M",
        says="more than an address space holds"),
]  # fmt: skip

PATCHES = [
    row("kernel", "im2col", (1, 3, 3), (2, 2.0), expect="T", says="kernel must be an integer"),
    row("kernel", "im2col", (1, 3, 3), -1, expect="E", says="kernel must be at least 1"),
    row("kernel", "im2col", (1, 3, 3), Shape((2**62, 2**62)), expect="M",
        says="must stay below 2**61"),
    row("rank", "im2col", (3,), 2, expect="E", says="im2col takes x"),
    row("size", "im2col", (1, 3, 3), 2, pad=2**55, expect="M", says="address space"),
    row("size", "im2col", wide(1, 2**34, 2**15, 1), Shape((2**14, 1)), expect="M",
        says="address space"),
    row("x", "im2col", [["a"]], 1, expect="T", says="x is no array of numbers"),
    row("stride", "im2col_view", (1, 3, 3), 2, 0, expect="E", says="stride"),
    row("pad", "im2col_view", (1, 3, 3), 2, pad=1, expect="T", says="pad"),
    row("image_shape", "col2im", (4, 4), Shape((3, 3.0)), 2, expect="T",
        says="image_shape must be"),
    row("image_shape", "col2im", (4, 4), Shape((3, -3)), 2, expect="E", says="image_shape must be"),
    row("image_shape", "col2im", (4, 4), Shape((3, 4)), 2, expect="E", says="= 6 for"),
    row("image_shape", "col2im", (4, 4), Shape((2**62, 2**62)), 2, expect="M",
        says="must stay below 2**61"),
    row("size", "col2im", (1, 4), Shape((2**40, 2**40)), 1, 2**40 - 1, expect="M",
        says="address space"),
    row("cols", "col2im", (5, 4), Shape((3, 3)), 2, expect="E", says="cols (N, C*4, L)"),
    row("cols", "col2im", (4,), Shape((3, 3)), 2, expect="E", says="col2im takes cols"),
    row("layout", "col2im", (4, 4), Shape((3, 3)), 2, layout="NCL", expect="E", says="layout"),
]  # fmt: skip

LAYERS = [
    row("x", "conv1d", (2, 3, 4, 5), (1, 3, 3), expect="E", says="conv1d takes x (N, C, L)"),
    row("w", "conv3d", (1, 2, 4, 4, 4), (3, 2, 3, 3), expect="E", says="conv3d takes"),
    row("pad", "conv1d", (1, 2, 9), (3, 2, 3), pad=((1, 1), (1, 1)), expect="E", says="pad"),
    row("stride", "conv3d", (1, 2, 4, 4, 4), (3, 2, 1, 1, 1), stride=(1, 2), expect="E",
        says="stride"),
    row("layout", "conv1d", (1, 2, 9), (3, 2, 3), layout="NCHW", expect="E",
        says="choose from 'NCL'"),
    row("layout", "conv3d", (1, 4, 4, 4, 2), (3, 2, 3, 3, 3), expect="E", says="layout='NDHWC'?"),
    row("size", "conv3d", (1, 1, 2, 2, 2), (1, 1, 1, 1, 1), pad=2**30, expect="M",
        says="more than an address space holds"),
    row("size", "conv1d", (1, 1, 2), (1, 1, 1), pad=2**62, expect="EM", says=""),
    row("unknown", "conv1d", (1, 2, 9), (3, 2, 3), padding=1, expect="T", says="did you mean pad?"),
    row("unknown", "conv3d", (1, 2, 4, 4, 4), (3, 2, 3, 3, 3), kernel=1, expect="T",
        says="conv3d has no argument 'kernel'"),
    row("missing", "conv1d", (1, 2, 9), expect="T", says="'w'"),
    row("depthwise", "depthwise_conv2d", (1, 3, 4, 4), (4, 1, 3, 3), expect="E", says="C=3"),
    row("depthwise", "depthwise_conv2d", (1, 3, 4, 4), (6, 1, 3, 3), groups=3, expect="T",
        says="no argument 'groups'"),
    row("separable", "separable_conv2d", (1, 3, 4, 4), (6, 1, 3, 3), (2, 3, 1, 1), expect="E",
        says="w_pointwise must be (K, C*M=6, 1, 1)"),
    row("separable", "separable_conv2d", (1, 3, 4, 4), (6, 1, 3, 3), (2, 6, 1, 1),
        out=read_only(1, 2, 2, 2), expect="E", says="read-only"),
    row("offset", "deform_conv2d", (1, 2, 4, 4), (3, 2, 3, 3), (1, 18, 2, 3), expect="E",
        says="offset"),
    row("offset", "deform_conv2d", (1, 2, 4, 4), (3, 2, 3, 3), text(1, 18, 2, 2), expect="T",
        says="offset"),
    row("mask", "deform_conv2d", (1, 2, 4, 4), (3, 2, 3, 3), (1, 18, 2, 2),
        mask=np.ones((1, 8, 2, 2), "f4"), expect="E", says="mask"),
    row("pad_mode", "deform_conv2d", (1, 2, 4, 4), (3, 2, 3, 3), (1, 18, 2, 2), pad_mode="edge",
        expect="T", says="no argument 'pad_mode'"),
    row("plan", "correlate2d", (3, 3), (2, 2), "all", expect="E", says="unknown mode 'all'"),
]  # fmt: skip

TABLE = [
    *(r for d in DIMENSIONS for r in (*gradients(d), *transposed(d))),
    *PER_SAMPLE, *QUANTISED, *PATCHES, *LAYERS,
]  # fmt: skip


def named(number: int, r: Row) -> str:
    """Name a row."""
    return f"{number}-{r.operator}-{r.wrong}"


@pytest.mark.parametrize("r", TABLE, ids=[named(i, r) for i, r in enumerate(TABLE)])
def test_row(r: Row) -> None:
    arguments = [ones(a) for a in r.arguments]
    operator = getattr(fastconv, r.operator)
    errors = tuple(ERRORS[letter] for letter in r.expect)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with pytest.raises(errors) as caught:
            operator(*arguments, **r.options)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert r.says in message, message
    assert "Common" not in message, f"a name of no caller's: {message}"
    assert peak < 1 << 20, f"a rejected call took {peak} bytes"
    files = [Path(entry.path).parts for entry in caught.traceback]
    assert r.expect == "T" or "fastconv" in files[-1], f"not raised on purpose, in {files[-1]}"


def test_the_table_names_every_operator() -> None:
    named = {r.operator for r in TABLE}
    kinds = ("conv", "depthwise", "separable", "deform", "qlinear", "im2col", "col2im", "corr")
    computing = {name for name in fastconv.__all__ if name.startswith(kinds)}
    assert computing - named <= {"conv2d", "conv2d_blocks", "conv_cost", "convolve2d"}
