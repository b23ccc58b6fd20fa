"""The definition, as plain as it can be written: the oracle that every other backend is held to.

Floating-point sums run in `numpy.longdouble` (64 bits of mantissa on x86, 113 on most others),
integer sums modulo 2**64, so the only rounding a caller sees is the one to the result's dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS
from ..borders import source_index
from ..deformable import DeformProblem
from ..dtypes import BFLOAT16, is_float, itemsize
from ..options import Options
from ..problem import ConvProblem
from . import Algorithm

Array = np.ndarray[Any, Any]


def available() -> str | None:
    """Return None: the reference needs NumPy alone."""
    return None


def supports(problem: ConvProblem, options: Options) -> str | None:
    """Return None: the reference computes every legal problem."""
    return None


def computes(problem: ConvProblem) -> bool:
    """Return True: the definition is as plain for gradients, signals and volumes."""
    return True


def algorithm(problem: ConvProblem, options: Options) -> Algorithm:
    """Name the algorithm; scratch holds the sums and, one after the other, what works on them."""
    floating = is_float(problem.out_dtype)
    wide = 16 if floating else 8
    sums = problem.out_elements
    pixels = problem.depth.outputs * problem.p * problem.q
    gathered = problem.c * pixels * (2 * wide + itemsize(problem.dtype))  # two windows
    product = (problem.c + problem.k // problem.groups) * pixels * wide
    cast = 0 if floating else sums * itemsize(problem.out_dtype)
    weights = problem.k * (problem.c // problem.groups) * problem.taps
    operand = pixels * problem.n * problem.k if problem.result == "x" else weights
    return Algorithm("definition", sums * wide + max(gathered, product, cast) + operand * wide)


def _axes(problem: ConvProblem) -> list[tuple[int, int, int, int, int]]:
    """Return size, outputs, first pad, stride and dilation along depth, height and width."""
    depth = problem.depth
    return [
        (depth.size, depth.outputs, depth.pad[0], depth.stride, depth.dilation),
        (problem.h, problem.p, problem.pad[0][0], problem.stride[0], problem.dilation[0]),
        (problem.w, problem.q, problem.pad[1][0], problem.stride[1], problem.dilation[1]),
    ]


def _tap_indices(problem: ConvProblem, tap: tuple[int, ...]) -> tuple[Array, Array]:
    """Source pixels of one kernel tap, flat, and which of them are the border's zeros."""
    flat = np.zeros((1, 1, 1), dtype=np.int64)
    outside = np.zeros((1, 1, 1), dtype=bool)
    for axis, (size, outputs, pad, stride, dilation) in enumerate(_axes(problem)):
        index = tap[axis] * dilation - pad + np.arange(outputs, dtype=np.int64) * stride
        source = source_index(index, size, problem.pad_mode)
        shape = [1, 1, 1]
        shape[axis] = outputs
        flat = flat * size + source.reshape(shape)
        outside = outside | (source < 0).reshape(shape)
    return np.where(outside, 0, flat).reshape(-1), outside.reshape(-1)


def _spatial(array: Array) -> Array:
    """View an array of any dimensions as one with a single axis of pixels, or of taps."""
    return array.reshape(*array.shape[:2], math.prod(array.shape[2:]))


def accumulate(problem: ConvProblem, a: Array, b: Array, wide: np.dtype[Any]) -> Array:
    """Sum products in dtype `wide`, no bias, no activation: y, or the gradient of x or of w.

    O(N*K*P*Q*(C/groups)*R*S) multiply-accumulates. Border zeros are multiplied like any other
    pixel, so 0 * inf is NaN there as well.
    """
    result = problem.result
    g, cg, kg = problem.groups, problem.c // problem.groups, problem.k // problem.groups
    pixels = problem.depth.size * problem.h * problem.w
    outputs = problem.depth.outputs * problem.p * problem.q
    shapes = {
        "y": (problem.n, problem.k, outputs),
        "x": (problem.n, problem.c, pixels),
        "w": (problem.k, cg, problem.taps),
    }
    sums = np.zeros(shapes[result], dtype=wide)
    first, second = _spatial(a), _spatial(b)
    other = second.astype(wide)  # kernel, or gradient of y
    taps = np.ndindex(problem.depth.taps, problem.r, problem.s)
    for number, tap in enumerate(taps):
        sources, outside = _tap_indices(problem, tap)
        for image in range(problem.n):
            if result == "x":
                window = first[image].astype(wide)
            else:
                window = first[image][:, sources].astype(wide)
                window[:, outside] = 0
            for group in range(g):
                outs, ins = slice(group * kg, (group + 1) * kg), slice(group * cg, (group + 1) * cg)
                if result == "y":
                    sums[image, outs] += other[outs, :, number] @ window[ins]
                elif result == "w":
                    sums[outs, :, number] += other[image, outs] @ window[ins].T
                else:
                    spread = other[outs, :, number].T @ window[outs]
                    # at: one pixel may stand for several
                    np.add.at(sums[image, ins].T, sources[~outside], spread[:, ~outside].T)
    return sums.reshape(logical_shape(problem))


def logical_shape(problem: ConvProblem) -> tuple[int, ...]:
    """Shape of the result in logical order, all axes of the problem's dimensions present."""
    if problem.result == "w":
        return problem.w_shape
    if problem.result == "x":
        return (problem.n, problem.c, *problem.x_image)
    return (problem.n, problem.k, *problem.y_image)


def _rounded_to_bfloat16(y: Array) -> Array:
    """Round to 8 bits, ties to even, in float32: casts by way of float32 would round twice."""
    _, exponent = np.frexp(y)
    unit = np.maximum(exponent - 8, -133)
    rounded: Array = np.ldexp(np.rint(np.ldexp(y, -unit)), unit).astype(np.float32)
    return rounded


def run(
    problem: ConvProblem,
    options: Options,
    a: Array,
    b: Array,
    bias: Array | None,
    out: Array,
) -> None:
    """Compute the definition into `out`; see `fastconv.backends.Backend`."""
    floating = is_float(problem.out_dtype)
    wide = np.dtype(np.longdouble if floating else np.uint64)
    with np.errstate(all="ignore"):
        _finish(problem, accumulate(problem, a, b, wide), bias, out)


def _finish(problem: ConvProblem, y: Array, bias: Array | None, out: Array) -> None:
    """Add the bias to exact sums, apply the activation and round once, into `out`."""
    if bias is not None:
        y += bias.astype(y.dtype).reshape(-1, *(1,) * problem.spatial)
    if not is_float(problem.out_dtype):
        y = y.astype(problem.out_dtype)
    if problem.activation is not None:
        y = ACTIVATIONS[problem.activation].function(y)
    if problem.out_dtype == BFLOAT16:
        y = _rounded_to_bfloat16(y)
    out[...] = y


def deform_algorithm(problem: DeformProblem, options: Options) -> Algorithm:
    """Name the definition, and its scratch; see `fastconv.backends`."""
    pixels = problem.p * problem.q
    samples = 3 * problem.c * pixels + 8 * pixels  # of one tap: a sum, a corner, their product
    weights = problem.k * problem.reduction
    image = problem.c * problem.h * problem.w
    elements = samples + weights + image + problem.out_elements + problem.k * pixels
    return Algorithm("definition", elements * np.dtype(np.longdouble).itemsize)


def _neighbours(offset: Array, base: Array, size: int) -> tuple[Array, Array, Array]:
    """Return the pixel before each moved place of one axis, the share of the one behind it.

    And whether the place lies less than one pixel outside of the image.
    """
    finite = np.isfinite(offset)
    offset = np.where(finite, offset, 0)
    floor = np.floor(offset)
    low, after = base + floor, offset - floor
    inside = finite & (low < size) & ((low >= 0) | ((low == -1) & (after > 0)))
    return np.where(inside, low, -1).astype(np.int64), after, inside


def _samples(image: Array, row: Array, column: Array, scale: Array, places: Any) -> Array:
    """Blend the four pixels around each place (P, Q) of an image (C, H, W), times `scale`."""
    (h, base_h), (w, base_w) = places
    top, down, inside_h = _neighbours(row, base_h, h)
    left, across, inside_w = _neighbours(column, base_w, w)
    scale = np.where(np.isnan(row + column), np.nan, scale)
    total = np.zeros((len(image), *row.shape), image.dtype)
    for y, weight_y in ((top, 1 - down), (top + 1, down)):
        for x, weight_x in ((left, 1 - across), (left + 1, across)):
            met = inside_h & inside_w & (y >= 0) & (y < h) & (x >= 0) & (x < w)
            pixels = image[:, np.where(met, y, 0), np.where(met, x, 0)]
            pixels[:, ~met] = 0
            total += scale * (weight_y * weight_x) * pixels
    return total


def deform_sums(
    problem: DeformProblem, x: Array, w: Array, offset: Array, mask: Array | None, wide: Any
) -> Array:
    """Sum products of weights and samples in dtype `wide`, no bias, no activation: (N, K, P, Q).

    O(N*K*P*Q*(C/groups)*R*S) multiply-accumulates.
    """
    g, cg, kg = problem.groups, problem.c // problem.groups, problem.k // problem.groups
    shared = problem.c // problem.offset_groups
    sums = np.zeros((problem.n, problem.k, problem.p * problem.q), wide)
    kernel, one = w.astype(wide), np.ones((problem.p, problem.q), wide)
    (_, p, top, stride_h, spread_h), (_, q, left, stride_w, spread_w) = _axes(problem)[1:]
    samples = np.empty((problem.c, problem.p * problem.q), wide)
    for image in range(problem.n):
        pixels, moves = x[image].astype(wide), offset[image].astype(wide)
        for tap, (r, s) in enumerate(np.ndindex(problem.r, problem.s)):
            rows = r * spread_h - top + np.arange(p, dtype=np.int64)[:, None] * stride_h
            columns = s * spread_w - left + np.arange(q, dtype=np.int64) * stride_w
            places = ((problem.h, rows), (problem.w, columns))
            for group in range(problem.offset_groups):
                number = group * problem.taps + tap
                scale = one if mask is None else mask[image, number].astype(wide)
                members = slice(group * shared, (group + 1) * shared)
                moved = moves[2 * number], moves[2 * number + 1]
                samples[members] = _samples(pixels[members], *moved, scale, places).reshape(
                    shared, -1
                )
            for group in range(g):
                outs, ins = slice(group * kg, (group + 1) * kg), slice(group * cg, (group + 1) * cg)
                sums[image, outs] += kernel[outs, :, r, s] @ samples[ins]
    return sums.reshape(logical_shape(problem))


def deform(
    problem: DeformProblem, options: Options, x: Array, w: Array, offset: Array,
    mask: Array | None, bias: Array | None, out: Array,
) -> None:  # fmt: skip
    """Compute the definition of a deformable convolution; see `fastconv.backends`."""
    with np.errstate(all="ignore"):
        sums = deform_sums(problem, x, w, offset, mask, np.dtype(np.longdouble))
        _finish(problem, sums, bias, out)
