"""Complex numbers as real ones: the real and the imaginary parts as channels, or as images.

``y = w x`` of complex numbers is ``[yr, yi] = [[wr, -wi], [wi, wr]] [xr, xi]`` of real ones: one
convolution of twice the channels on either side, whose gradient with respect to x is that of the
real numbers it is made of, ``conj(w) gy``. In the gradient of w, ``gy conj(x)``, both parts of x
are images of one batch. Where one operand is real nothing is multiplied by zero: parts of a complex
x that meets real weights are images of their own, a real x makes both parts of y from as many
channels as it has.

The parts of a group's channels stand beside one another, so that groups stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..arguments import module_of
from ..dtypes import COMPONENTS, as_dtype, itemsize
from ..problem import ConvProblem
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
    if problem.real == "b":
        return replace(real, n=2 * n, bias=False)
    if problem.real == "a":
        return replace(real, k=2 * k) if problem.result == "y" else replace(real, c=2 * c)
    return replace(real, c=2 * c, k=2 * k)


def scratch_bytes(problem: ConvProblem) -> int:
    """Bytes of both operands and the result as real numbers."""
    real = part(problem)
    images = real.n * real.c * real.depth.size * real.h * real.w
    outputs = real.n * real.k * real.depth.outputs * real.p * real.q
    weights = real.k * (real.c // real.groups) * real.taps
    return (images + outputs + weights) * itemsize(real.dtype)


def run(inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute a problem of complex numbers."""
    real = part(problem)

    def compute(a: Any, b: Any, bias: Any, out: Any) -> None:
        inner(real, a, b, bias, out, key)

    way = _weight_grad if problem.result == "w" else _images
    way(compute, problem, real, a, b, bias, out)


def _images(
    inner: Compute, problem: ConvProblem, real: ConvProblem, a: Any, b: Any, bias: Any, out: Any
) -> None:
    """Compute y, or the gradient of x."""
    groups = problem.groups
    if problem.real == "b":
        both = _empty(problem, a, 2 * problem.n, a.shape[1], a.shape[2:])
        both[: problem.n], both[problem.n :] = a.real, a.imag
        sums = _empty(problem, a, real.n, out.shape[1], out.shape[2:])
        inner(both, b, None, sums)
        out.real, out.imag = sums[: problem.n], sums[problem.n :]
        if bias is not None:
            out += bias.reshape(-1, *(1,) * (out.ndim - 2))
        return
    image = a
    if problem.real != "a":
        image = _empty(problem, a, problem.n, 2 * a.shape[1], a.shape[2:])
        _put(_parts(image, groups, 1), _grouped(a, groups, 1), 2)
    if bias is not None:
        addend = module_of(bias).empty(2 * bias.size, dtype=as_dtype(real.dtype))
        _put(_parts(addend, groups, 0), _grouped(bias, groups, 0), 1)
        bias = addend
    weights = module_of(b).empty(real.w_shape, dtype=as_dtype(real.dtype))
    _put_weights(problem, weights, b)
    sums = _empty(problem, a, real.n, 2 * out.shape[1], out.shape[2:])
    inner(image, weights, bias, sums)
    _join(_grouped(out, groups, 1), _parts(sums, groups, 1), 2)


def _put_weights(problem: ConvProblem, weights: Any, w: Any) -> None:
    """Write [[wr, -wi], [wi, wr]], or the half of it that a real image meets."""
    groups = problem.groups
    if problem.real == "a" and problem.result == "x":
        columns = _parts(weights, 1, 1)
        columns[:, 0, 0], columns[:, 0, 1] = w.real, -w.imag
        return
    # (groups, part of y, K/groups, part of x, C/groups, ...)
    split, source = _parts(weights, groups, 0), _grouped(w, groups, 0)
    if problem.real == "a":
        _put(split, source, 1)
        return
    whole = split.reshape(*split.shape[:3], 2, -1, *split.shape[4:])
    whole[:, 0, :, 0], whole[:, 0, :, 1] = source.real, -source.imag
    whole[:, 1, :, 0], whole[:, 1, :, 1] = source.imag, source.real


def _weight_grad(
    inner: Compute, problem: ConvProblem, real: ConvProblem, a: Any, b: Any, bias: Any, out: Any
) -> None:
    """Compute the gradient of w: gy times the conjugate of x."""
    groups, n = problem.groups, problem.n
    sums = module_of(out).empty(real.w_shape, dtype=as_dtype(real.dtype))
    image, gy = a, b
    if problem.real == "b":
        image = _empty(problem, a, n, 2 * problem.c, a.shape[2:])
        parts, source = _parts(image, groups, 1), _grouped(a, groups, 1)
        parts[:, :, 0], parts[:, :, 1] = source.real, -source.imag
        inner(image, gy, None, sums)
        split = _parts(sums, 1, 1)
        out.real, out.imag = split[:, 0, 0], split[:, 0, 1]
        return
    gy = _empty(problem, b, real.n, real.k, b.shape[2:])
    parts, source = _parts(gy, groups, 1), _grouped(b, groups, 1)
    _put(parts[:n], source, 2)
    if problem.real != "a":
        image = _empty(problem, a, real.n, problem.c, a.shape[2:])
        image[:n], image[n:] = a.real, a.imag
        parts[n:, :, 0], parts[n:, :, 1] = source.imag, -source.real
    inner(image, gy, None, sums)
    _join(_grouped(out, groups, 0), _parts(sums, groups, 0), 1)


def _empty(problem: ConvProblem, like: Any, n: int, channels: int, image: tuple[int, ...]) -> Any:
    """Return memory for images of real numbers, in the order of the problem's, as (N, C, ...)."""
    xp, dtype = module_of(like), as_dtype(COMPONENTS[problem.dtype])
    if not problem.channels_last:
        return xp.empty((n, channels, *image), dtype=dtype)
    return xp.moveaxis(xp.empty((n, *image, channels), dtype=dtype), -1, 1)


def _grouped(array: Any, groups: int, axis: int) -> Any:
    """View channels along `axis` as (groups, channels of a group)."""
    shape = array.shape
    return array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def _parts(array: Any, groups: int, axis: int) -> Any:
    """View twice as many channels as (groups, part, channels of a group)."""
    shape = array.shape
    return array.reshape(*shape[:axis], groups, 2, shape[axis] // groups // 2, *shape[axis + 1 :])


def _put(parts: Any, array: Any, axis: int) -> None:
    """Write complex numbers as their parts, which `axis` counts."""
    before = (slice(None),) * axis
    parts[(*before, 0)], parts[(*before, 1)] = array.real, array.imag


def _join(array: Any, parts: Any, axis: int) -> None:
    """Read complex numbers from their parts, which `axis` counts."""
    before = (slice(None),) * axis
    array.real, array.imag = parts[(*before, 0)], parts[(*before, 1)]
