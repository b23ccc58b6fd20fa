"""The parts of a result that are held against the definition, and their exact values.

What is stored of a result is a few positions along its first two axes, the first and the last among
them: images and channels, or, of the gradient of w, output and input channels. Along an image's
first axis bands of it are computed exactly, the first and the last among them, whole along the
other axes, so that every border is looked at; of the gradient of w every tap is.

Complex numbers are pairs of channels: y of 2*K real channels from x of 2*C, (re, im) each, is the
same sum, and its definition and bounds are those of real numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmarks.measure import window
from fastconv import ConvProblem, accuracy
from fastconv.accuracy import WIDE, Expected
from fastconv.dtypes import float_limits, is_float

from .task import Array, Task, operands


class Part(NamedTuple):
    """Where a part lies in the sample, and its exact values."""

    index: tuple[slice, ...]
    want: Expected


class Operands(NamedTuple):
    """A problem of real numbers with its operands, and what is stored of its result."""

    problem: ConvProblem
    a: Array
    b: Array
    first: list[int]
    second: list[int]


def positions(task: Task) -> tuple[list[int], list[int]]:
    """Choose along the result's first two axes: the ends, and of channels of images two more."""
    first, second = task.result_shape[:2]
    chosen = {0, second - 1}
    if task.problem.result != "w":
        chosen |= set(np.random.default_rng(second).integers(0, second, 2).tolist())
    return sorted({0, first - 1}), sorted(chosen)


def parts(task: Task, first: list[int], second: list[int], macs: int) -> Iterator[Part]:
    """Compute the exact values of bands of about `macs` multiply-accumulates in all."""
    a, b = operands(task)
    if task.dtype == "complex64":
        yield from _images(_real(task.problem, a, b, first, second), macs)
        return
    if task.computed != task.dtype:
        a, b = a.astype(task.computed), b.astype(task.computed)
    given = Operands(task.problem, a, b, first, second)
    yield from _kernels(given) if task.problem.result == "w" else _images(given, macs)


def as_real(sample: Array) -> Array:
    """View complex images as twice as many channels; real ones stay as they are."""
    if not np.iscomplexobj(sample):
        return sample
    pairs = np.stack((sample.real, sample.imag), axis=2)
    return pairs.reshape(sample.shape[0], -1, *sample.shape[2:])


def _real(p: ConvProblem, x: Array, w: Array, first: list[int], second: list[int]) -> Operands:
    """Write a convolution of complex numbers as one of real ones."""
    kernel = np.empty((2 * p.k, 2 * p.c // p.groups, *p.kernel), np.float32)
    kernel[::2, ::2] = kernel[1::2, 1::2] = w.real
    kernel[::2, 1::2], kernel[1::2, ::2] = -w.imag, w.imag
    channels = [2 * channel + part for channel in second for part in (0, 1)]
    return Operands(replace(p, c=2 * p.c, k=2 * p.k), as_real(x), kernel, first, channels)


def _images(given: Operands, macs: int) -> Iterator[Part]:
    """Bands of sampled channels of sampled images."""
    p = given.problem
    of_x = p.result == "x"
    channels, height = (p.c, p.x_image[0]) if of_x else (p.k, p.y_image[0])
    stored = len(given.first) * len(given.second)
    row = max(1, stored * p.cost.macs // (p.n * channels * height))
    # a band of a gradient has something of every phase of the stride
    bands = _bands(height, max(1, macs // row), p.strides[0] if of_x else 1)
    cut = given._replace(problem=replace(p, n=len(given.first)), a=given.a[given.first])
    compute = _inputs if of_x else _outputs
    for band in bands:
        for i, channel in enumerate(given.second):
            yield Part((slice(None), slice(i, i + 1), slice(*band)), compute(cut, band, channel))


def _outputs(given: Operands, band: tuple[int, int], channel: int) -> Expected:
    """Rows of one channel of y."""
    p = given.problem
    part, read = window(p, *band)
    width = p.c // p.groups
    first = channel // (p.k // p.groups) * width
    one = replace(part, c=width, k=1, groups=1, dtype=p.dtype, out_dtype=p.out_dtype)
    x, w = given.a[:, first : first + width, read], given.b[channel : channel + 1]
    return accuracy.expected(one, x, w)


def _inputs(given: Operands, band: tuple[int, int], channel: int) -> Expected:
    """Rows of one channel of the gradient of x: what the rows of y that read them add to them."""
    p = given.problem
    begin, end = band
    pad, stride = p.pads[0][0], p.strides[0]
    reach = (p.kernel[0] - 1) * p.dilations[0]
    reading = max(-(-(begin + pad - reach) // stride), 0), (end - 1 + pad) // stride + 1
    reading = reading[0], min(reading[1], p.y_image[0])
    shape = (p.n, 1, end - begin, *p.x_image[1:])
    tiny = float_limits(p.accumulator).smallest_subnormal if is_float(p.out_dtype) else 0
    y, bound, magnitude = np.zeros(shape, WIDE), np.full(shape, tiny, WIDE), np.zeros(shape, WIDE)
    if reading[0] < reading[1]:
        part, read = window(p, *reading)
        width = p.k // p.groups
        group, inside = divmod(channel, p.c // p.groups)
        outputs = slice(group * width, (group + 1) * width)
        one = replace(
            part, c=1, k=width, groups=1, dtype=p.dtype, out_dtype=p.out_dtype, result="x"
        )
        gy, w = given.a[:, outputs, slice(*reading)], given.b[outputs, inside : inside + 1]
        found = accuracy.expected(one, gy, w)
        low, high = max(begin, read.start), min(end, read.stop)
        target, source = (
            slice(low - begin, high - begin),
            slice(low - read.start, high - read.start),
        )
        y[:, :, target] = found.y[:, :, source]
        bound[:, :, target] = found.bound[:, :, source]
        magnitude[:, :, target] = found.magnitude[:, :, source]
    return Expected(y, bound, magnitude)


def _kernels(given: Operands) -> Iterator[Part]:
    """All taps of the sampled pairs of channels, summed over all images."""
    p = given.problem
    for i, channel in enumerate(given.first):
        group = channel // (p.k // p.groups)
        read = [group * (p.c // p.groups) + inside for inside in given.second]
        one = replace(p, c=len(read), k=1, groups=1)
        want = accuracy.expected(one, given.a[:, read], given.b[:, channel : channel + 1])
        yield Part((slice(i, i + 1),), want)


def _bands(height: int, affordable: int, least: int) -> list[tuple[int, int]]:
    """All rows, or the first, some in the middle and the last, `least` or more of each."""
    size = max(least, affordable // 3)
    if affordable >= height or size >= height:
        return [(0, height)]
    starts = sorted({0, (height - size) // 2, height - size})
    return [(start, start + size) for start in starts]
