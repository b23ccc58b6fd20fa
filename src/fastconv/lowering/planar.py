"""Complex numbers as real ones: the real and the imaginary parts as neighbouring channels.

``y = w x`` of complex numbers is ``[yr, yi] = [[wr, -wi], [wi, wr]] [xr, xi]`` of real ones: one
convolution of twice the channels on either side, whose gradient with respect to x is that of the
real numbers it is made of, ``conj(w) gy``. Where w is larger than the images, that matrix is not
written: each part of w meets both parts of x, as images of one batch. In the gradient of w,
``gy conj(x)``, both parts of x are images of one batch, too. Where one operand is real nothing is
multiplied by zero: parts of a complex x that meets real weights are images of their own, a real x
makes both parts of y from as many channels as it has.

The parts of a channel stand beside one another, as they do in memory: images whose channels are
last are read and written in place, and groups stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..arguments import module_of
from ..dtypes import COMPONENTS, as_dtype, itemsize
from ..problem import ConvProblem
from .memory import Memory
from .way import Key, Run

#: Computes the real problem: (a, b, bias, out).
Compute = Callable[[Any, Any, Any, Any], None]


def parts(problem: ConvProblem) -> Iterator[ConvProblem]:
    """Return the convolution of real numbers."""
    yield part(problem)


@lru_cache(maxsize=1024)
def part(problem: ConvProblem) -> ConvProblem:
    """Return the convolution of real numbers."""
    dtype = COMPONENTS[problem.dtype]
    real = replace(problem, dtype=dtype, out_dtype=dtype, real="")
    n, c, k = problem.n, problem.c, problem.k
    if problem.result == "w":
        if problem.real == "a":
            return replace(real, k=2 * k)
        return replace(real, c=2 * c) if problem.real == "b" else replace(real, n=2 * n, k=2 * k)
    if problem.real == "b" or _has_large_weights(problem):
        return replace(real, n=2 * n, bias=False)
    if problem.real == "a":
        return replace(real, k=2 * k) if problem.result == "y" else replace(real, c=2 * c)
    return replace(real, c=2 * c, k=2 * k)


@lru_cache(maxsize=1024)
def _has_large_weights(problem: ConvProblem) -> bool:
    """Whether complex weights are more than one complex image and its result together."""
    problem = problem.chosen_as
    images = problem.c * math.prod(problem.x_image) + problem.k * math.prod(problem.y_image)
    return not problem.real and problem.k * (problem.c // problem.groups) * problem.taps > images


def scratch_bytes(problem: ConvProblem) -> int:
    """Bytes of both operands and the result as real numbers."""
    real = part(problem)
    images = real.n * real.c * real.depth.size * real.h * real.w
    outputs = real.n * real.k * real.depth.outputs * real.p * real.q
    weights = real.k * (real.c // real.groups) * real.taps
    if problem.result != "w" and _has_large_weights(problem):
        images, outputs = (images, 2 * outputs) if problem.result == "y" else (2 * images, outputs)
        weights = 0
    return (images + outputs + weights) * itemsize(real.dtype)


def run(inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute a problem of complex numbers."""
    real = part(problem)

    def compute(a: Any, b: Any, bias: Any, out: Any) -> None:
        inner(real, a, b, bias, out, key)

    with Memory(scratch_bytes(problem)) as memory:
        if problem.result == "w":
            _weight_grad(compute, problem, real, a, b, out, memory)
        elif _has_large_weights(problem):
            _large_weights(inner, problem, real, a, b, bias, out, key, memory)
        elif problem.real == "b":
            _real_weights(compute, problem, real, a, b, bias, out, memory)
        else:
            _images(compute, problem, real, a, b, bias, out, memory)


def _real_weights(
    inner: Compute, problem: ConvProblem, real: ConvProblem, a: Any, b: Any, bias: Any, out: Any,
    memory: Memory,
) -> None:  # fmt: skip
    """Compute y, or the gradient of x, from real weights: the parts are images of one batch."""
    n = problem.n
    both = _empty(problem, a, real.n, a.shape[1], a.shape[2:], memory)
    both[:n], both[n:] = a.real, a.imag
    sums = _empty(problem, a, real.n, out.shape[1], out.shape[2:], memory)
    inner(both, b, None, sums)
    out.real, out.imag = sums[:n], sums[n:]
    if bias is not None:
        out += bias.reshape(-1, *(1,) * (out.ndim - 2))


def _large_weights(
    inner: Run, problem: ConvProblem, real: ConvProblem, a: Any, b: Any, bias: Any, out: Any,
    key: Key, memory: Memory,
) -> None:  # fmt: skip
    """Compute y, or the gradient of x: both parts of images by each part of w, read in place."""
    n = problem.n
    both = _empty(problem, a, real.n, a.shape[1], a.shape[2:], memory)
    both[:n], both[n:] = a.real, a.imag
    shape = real.n, out.shape[1], out.shape[2:]
    by_real, by_imag = (_empty(problem, a, *shape, memory) for _ in "ri")
    inner(real, both, b.real, None, by_real, (*key, "real"))
    inner(real, both, b.imag, None, by_imag, (*key, "imag"))
    if problem.result == "x":  # conj(w)
        np.negative(by_imag, out=by_imag)
    with np.errstate(over="ignore", invalid="ignore"):
        out.real, out.imag = by_real[:n] - by_imag[n:], by_real[n:] + by_imag[:n]
        if bias is not None:
            out += bias.reshape(-1, *(1,) * (out.ndim - 2))


def _images(
    inner: Compute, problem: ConvProblem, real: ConvProblem, a: Any, b: Any, bias: Any, out: Any,
    memory: Memory,
) -> None:  # fmt: skip
    """Compute y, or the gradient of x."""
    if bias is not None:
        addend = module_of(bias).empty(2 * bias.size, dtype=as_dtype(real.dtype))
        _put(_pairs(addend, 0), bias, 1)
        bias = addend
    image = a if problem.real == "a" else _as_real(problem, a, memory)
    weights = partial(_real_matrix, problem, real, b)
    sums = _in_place(problem, out)
    if sums is not None:
        inner(image, weights, bias, sums)
        return
    sums = _empty(problem, a, real.n, 2 * out.shape[1], out.shape[2:], memory)
    inner(image, weights, bias, sums)
    parts = _pairs(sums, 1)
    out.real, out.imag = parts[:, :, 0], parts[:, :, 1]


def _real_matrix(problem: ConvProblem, real: ConvProblem, w: Any) -> Any:
    """Return [[wr, -wi], [wi, wr]], or the half of it that a real image meets."""
    weights = module_of(w).empty(real.w_shape, dtype=as_dtype(real.dtype))
    if problem.real == "a":
        if problem.result == "x":
            columns = _pairs(weights, 1)
            columns[:, :, 0], columns[:, :, 1] = w.real, -w.imag
        else:
            _put(_pairs(weights, 0), w, 1)
        return weights
    whole = _pairs(_pairs(weights, 1), 0)  # (K, part of y, C/groups, part of x, ...)
    whole[:, 0, :, 0] = whole[:, 1, :, 1] = w.real
    whole[:, 1, :, 0] = w.imag
    whole[:, 0, :, 1] = -w.imag
    return weights


def _weight_grad(
    inner: Compute, problem: ConvProblem, real: ConvProblem, a: Any, b: Any, out: Any,
    memory: Memory,
) -> None:  # fmt: skip
    """Compute the gradient of w: gy times the conjugate of x, its parts images of one batch."""
    n, image, gy = problem.n, a, b
    sums = module_of(out).empty(real.w_shape, dtype=as_dtype(real.dtype))
    if problem.real == "b":
        inner(_as_real(problem, a, memory), gy, None, sums)
        columns = _pairs(sums, 1)
        out.real, out.imag = columns[:, :, 0], -columns[:, :, 1]
        return
    if problem.real == "a":
        gy = _as_real(problem, b, memory)
    else:
        gy = _empty(problem, b, real.n, real.k, b.shape[2:], memory)
        parts = _pairs(gy, 1)
        _put(parts[:n], b, 2)
        parts[n:, :, 0], parts[n:, :, 1] = b.imag, -b.real
        image = _empty(problem, a, real.n, problem.c, a.shape[2:], memory)
        image[:n], image[n:] = a.real, a.imag
    inner(image, gy, None, sums)
    rows = _pairs(sums, 0)
    out.real, out.imag = rows[:, 0], rows[:, 1]


def _as_real(problem: ConvProblem, images: Any, memory: Memory) -> Any:
    """Return complex images as real ones of twice the channels, in place where they stand so."""
    view = _in_place(problem, images)
    if view is not None:
        return view
    real = _empty(problem, images, images.shape[0], 2 * images.shape[1], images.shape[2:], memory)
    _put(_pairs(real, 1), images, 2)
    return real


def _in_place(problem: ConvProblem, images: Any) -> Any:
    """View complex images whose channels are neighbours as real ones; None for others."""
    if not problem.channels_last or module_of(images) is not np:
        return None
    if images.strides[1] != images.itemsize or images.dtype != problem.dtype:
        return None
    last = np.moveaxis(images, 1, -1)
    return np.moveaxis(last.view(as_dtype(COMPONENTS[problem.dtype])), -1, 1)


def _empty(
    problem: ConvProblem, like: Any, n: int, channels: int, image: tuple[int, ...], memory: Memory
) -> Any:
    """Return memory for images of real numbers, in the order of the problem's, as (N, C, ...)."""
    xp, dtype = module_of(like), as_dtype(COMPONENTS[problem.dtype])
    empty = memory.empty if xp is np else xp.empty
    if not problem.channels_last:
        return empty((n, channels, *image), dtype)
    return xp.moveaxis(empty((n, *image, channels), dtype), -1, 1)


def _pairs(array: Any, axis: int) -> Any:
    """View twice as many channels along `axis` as (channels, part)."""
    shape = array.shape
    return array.reshape(*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :])


def _put(parts: Any, array: Any, axis: int) -> None:
    """Write numbers as their parts, which `axis` counts."""
    before = (slice(None),) * axis
    parts[(*before, 0)], parts[(*before, 1)] = array.real, array.imag
