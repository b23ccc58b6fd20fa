"""Deformable convolutions to test: cases, their arrays, their definition, and the bound."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import fastconv
from fastconv import accuracy
from fastconv.backends import reference
from fastconv.deformable import DeformProblem
from fastconv.dtypes import accumulator

from . import backends
from .cases import generator

Array = np.ndarray[Any, Any]
WIDE = np.dtype(np.longdouble)


@dataclass(frozen=True)
class Deform:
    """One call; shapes are logical whatever the layout."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    stride: Any = 1
    pad: Any = 0
    dilation: Any = 1
    groups: int = 1
    offset_groups: int = 1
    masked: bool = False
    bias: bool = False
    activation: str | None = None
    layout: str = "NCHW"
    dtype: str = "float32"

    @property
    def outputs(self) -> tuple[int, int]:
        shape = fastconv.output_shape(
            self.x, self.w, self.stride, self.pad, dilation=self.dilation, groups=self.groups
        )
        return shape[2], shape[3]

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "stride": self.stride, "pad": self.pad, "dilation": self.dilation,
            "groups": self.groups, "activation": self.activation, "layout": self.layout,
        }  # fmt: skip


class Arrays(NamedTuple):
    """Logical arrays of a call."""

    x: Array
    w: Array
    offset: Array
    mask: Array | None
    bias: Array | None


def draw(case: Deform, kind: str = "normal") -> Arrays:
    """Draw arrays; `integers` moves every tap by whole pixels, and all sums are exact."""
    rng = generator(f"{case} {kind}")
    n, taps = case.x[0], case.offset_groups * case.w[2] * case.w[3]

    def some(shape: tuple[int, ...], spread: float) -> Array:
        if kind == "integers":
            return rng.integers(-3, 4, shape).astype(case.dtype)
        return (rng.standard_normal(shape) * spread).astype(case.dtype)

    places = case.outputs
    return Arrays(
        some(case.x, 1),
        some(case.w, 1),
        some((n, 2 * taps, *places), 2),
        some((n, taps, *places), 0.5) if case.masked else None,
        some((case.w[0],), 1) if case.bias else None,
    )


def held(array: Array | None, layout: str) -> Array | None:
    """Hold logical images as a layout does."""
    if array is None or layout == "NCHW":
        return array
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def compute(case: Deform, arrays: Arrays, **options: Any) -> Array:
    """Compute into an `out` of NaN between margins; returns the logical result."""
    shape = (case.x[0], case.w[0], *case.outputs)
    shape = shape if case.layout == "NCHW" else (shape[0], shape[2], shape[3], shape[1])
    size, margin = math.prod(shape), 16
    buffer = np.empty(size + 2 * margin, arrays.x.dtype)
    buffer.view(np.uint8)[...] = 0xFF
    out = buffer[margin : margin + size].reshape(shape)
    x, moved, mask = (held(a, case.layout) for a in (arrays.x, arrays.offset, arrays.mask))
    got = fastconv.deform_conv2d(
        x, arrays.w, moved, mask=mask, bias=arrays.bias, out=out, offset_groups=case.offset_groups,
        **case.arguments, **options,
    )  # fmt: skip
    assert got is out
    margins = np.concatenate([buffer[:margin], buffer[margin + size :]])
    assert (margins.view(np.uint8) == 0xFF).all(), f"{case}: wrote outside of out"
    return out if case.layout == "NCHW" else out.transpose(0, 3, 1, 2)


def problem_of(case: Deform) -> DeformProblem:
    """Describe the call."""
    taps = case.offset_groups * case.w[2] * case.w[3]
    shape = (case.x[0], 2 * taps, *case.outputs)
    plain = {**case.arguments, "layout": "NCHW", "dtype": case.dtype}
    bias = np.zeros(case.w[0], case.dtype) if case.bias else None
    mask = (case.x[0], taps, *case.outputs) if case.masked else None
    explained = fastconv.deform_conv2d.explain(
        case.x, case.w, shape, mask=mask, bias=bias, **plain
    ).problem
    assert isinstance(explained, DeformProblem)
    return explained


def sampled(image: Array, y: Any, x: Any) -> tuple[Any, Any]:
    """Sample one channel at one place, and its magnitude, as torchvision's kernel does."""
    h, w = image.shape
    if np.isnan(y) or np.isnan(x):
        return WIDE.type(np.nan), WIDE.type(0)
    if y <= -1 or y >= h or x <= -1 or x >= w:
        return WIDE.type(0), WIDE.type(0)
    top, left = int(np.floor(y)), int(np.floor(x))
    value = size = WIDE.type(0)
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < h and 0 <= column < w:
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            value += weight * image[row, column]
            size += weight * abs(image[row, column])
    return value, size


def definition(case: Deform, arrays: Arrays) -> tuple[Array, Array]:
    """Sums and their magnitudes, one sample after the other; no code is shared with the library."""
    a = Arrays(*(None if v is None else v.astype(WIDE) for v in arrays))
    (n, c, _, _), (k, cg, r, s) = case.x, case.w
    p, q = case.outputs
    stride, pad, dilation = (
        v if isinstance(v, tuple) else (v, v) for v in (case.stride, case.pad, case.dilation)
    )
    y, size = np.zeros((n, k, p, q), WIDE), np.zeros((n, k, p, q), WIDE)
    taps = r * s
    for i, ch, row, column, ty, tx in itertools.product(*map(range, (n, c, p, q, r, s))):
        tap = ch // (c // case.offset_groups) * taps + ty * s + tx
        down, across = a.offset[i, 2 * tap, row, column], a.offset[i, 2 * tap + 1, row, column]
        value, magnitude = sampled(
            a.x[i, ch],
            WIDE.type(row * stride[0] - pad[0] + ty * dilation[0]) + down,
            WIDE.type(column * stride[1] - pad[1] + tx * dilation[1]) + across,
        )
        scale = WIDE.type(1) if a.mask is None else a.mask[i, tap, row, column]
        group = ch // cg
        outs = slice(group * (k // case.groups), (group + 1) * (k // case.groups))
        kernel = a.w[outs, ch % cg, ty, tx]
        y[i, outs, row, column] += kernel * value * scale
        size[i, outs, row, column] += abs(kernel) * magnitude * abs(scale)
    if a.bias is not None:
        y, size = y + a.bias[:, None, None], size + np.abs(a.bias)[:, None, None]
    return y, size


def by_reference(case: Deform, arrays: Arrays) -> tuple[Array, Array]:
    """Return the same from the reference backend's sums."""
    problem = problem_of(case)
    found = []
    for take in (lambda v: v, np.abs):
        x, w = take(arrays.x.astype(WIDE)), take(arrays.w.astype(WIDE))
        mask = None if arrays.mask is None else take(arrays.mask.astype(WIDE))
        sums = reference.deform_sums(problem, x, w, arrays.offset, mask, WIDE)
        if arrays.bias is not None:
            sums = sums + take(arrays.bias.astype(WIDE))[:, None, None]
        found.append(sums)
    return found[0], found[1]


def assert_close(case: Deform, got: Array, want: tuple[Array, Array]) -> None:
    """Hold a result against the operator's bound."""
    y, size = want
    terms = case.w[1] * case.w[2] * case.w[3] + 8 + case.bias
    u = accuracy.unit_roundoff(accumulator(case.dtype))
    bound = terms * u / (1 - terms * u) * size
    if case.activation == "relu":
        y = np.maximum(y, 0)
    if accumulator(case.dtype) != case.dtype:
        u_out = accuracy.unit_roundoff(case.dtype)
        bound = u_out * np.abs(y) + (1 + u_out) * bound + 2.0**-24
    error = np.abs(got.astype(WIDE) - y)
    worst = tuple(int(i) for i in np.unravel_index(np.argmax(error - bound), error.shape))
    assert (error <= bound).all(), f"{case}: {got[worst]} at {worst}, not {y[worst]}"


CASES = [
    Deform((1, 1, 5, 6), (1, 1, 1, 1)),
    Deform((2, 3, 6, 5), (2, 3, 3, 3), pad=1, masked=True, bias=True),
    Deform((1, 4, 7, 6), (6, 2, 3, 2), groups=2, offset_groups=4, stride=(2, 1), pad=(0, 2)),
    Deform((1, 6, 5, 9), (4, 3, 2, 3), groups=2, offset_groups=3, dilation=(2, 3), pad=2),
    Deform((2, 4, 6, 6), (4, 1, 3, 3), groups=4, offset_groups=2, pad=1, masked=True),
    Deform((1, 4, 6, 6), (8, 1, 3, 3), groups=4, activation="relu", bias=True, stride=2),
    Deform((1, 3, 1, 7), (2, 3, 1, 3), pad=(0, 1), masked=True),
]
LARGER = [
    Deform((1, 33, 9, 11), (35, 33, 3, 3), pad=1, masked=True, bias=True),
    Deform((2, 64, 8, 8), (64, 64, 3, 3), pad=1, offset_groups=2),
    Deform((1, 130, 7, 9), (17, 130, 3, 3), pad=1, offset_groups=10, masked=True),
    Deform((1, 24, 12, 10), (6, 4, 3, 5), groups=6, offset_groups=3, stride=2, pad=2, bias=True),
    Deform((1, 700, 4, 5), (40, 700, 1, 2), masked=True, activation="relu"),
    Deform((3, 5, 20, 31), (70, 5, 3, 3), pad=2, dilation=2),
]


def varied(cases: list[Deform]) -> list[Deform]:
    """Every case in both layouts and all floats."""
    return [
        Deform(**{**case.__dict__, "layout": layout, "dtype": dtype})
        for case in cases
        for layout in ("NCHW", "NHWC")
        for dtype in (*backends.FLOATS, *backends.HALVES)
    ]
