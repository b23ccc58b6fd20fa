"""Complex numbers by three real multiplications for one, where ``precision="fast"`` permits it.

``A = xr wr``, ``B = xi wi``, ``M = (xr + xi) (wr + wi)``: the parts of ``x w`` are ``A - B`` and
``M - A - B`` (Gauss). The three are one convolution of three times the groups: images are held as
real parts, imaginary parts and sums of both, and so are weights, which a plan packs once. Gradients
are products with a conjugate, of w for that of x, of x for that of w.

Both parts are in M, and its rounding errors in the imaginary one, however small that is; see
`fastconv.accuracy.three_products`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..backends import Backend, has_planes, join_planes, split_planes
from ..dtypes import COMPONENTS, as_dtype, itemsize
from ..options import Options
from ..problem import ConvProblem
from .memory import Memory
from .way import Key, Run

#: What precedes the name of the algorithm that computes the three products.
PREFIX = "gauss_"

#: Channels of a group that it takes to fill vectors three times as they were filled twice.
LEAST_CHANNELS = 16
#: Complex multiply-adds, of which a quarter is saved, in the time that splitting a number of the
#: images, or joining one, takes; and by result the same of a weight. Calls split weights each time,
#: where four products read large ones in place; the gradient of x turns them besides. Joining those
#: of the gradient of w is no more than four products do.
PER_IMAGE = 128
#: The same of images whose channels are last, which four products read and write in place, and
#: which Winograd's filtering leaves less to save: the copies leave the caches in batches.
PER_IMAGE_IN_PLACE = 640
PER_WEIGHT = {"y": 128, "x": 256, "w": 32}


@lru_cache(maxsize=1024)
def pays(problem: ConvProblem) -> bool:
    """Whether three products are faster: a function of one image and its channels."""
    channels, outputs = problem.c // problem.groups, problem.k // problem.groups
    if problem.real or min(channels, outputs) < LEAST_CHANNELS:
        return False
    images = problem.c * math.prod(problem.x_image) + problem.k * math.prod(problem.y_image)
    weights = problem.k * channels * problem.taps
    saved = weights * math.prod(problem.y_image)
    in_place = problem.channels_last and _may_be_transformed(problem)
    per_image = PER_IMAGE_IN_PLACE if in_place else PER_IMAGE
    return saved >= per_image * images + PER_WEIGHT[problem.result] * weights


def _may_be_transformed(problem: ConvProblem) -> bool:
    """Whether Winograd's filtering may compute the products."""
    unit = set(problem.strides) | set(problem.dilations) == {1}
    return problem.result != "w" and unit and problem.kernel in ((3, 3), (5, 5))


def takes(backend: Backend, problem: ConvProblem, options: Options) -> bool:
    """Whether a problem of complex numbers is computed so."""
    return options.precision == "fast" and has_planes(backend) and pays(problem)


@lru_cache(maxsize=1024)
def part(problem: ConvProblem) -> ConvProblem:
    """Return the convolution of real numbers."""
    dtype = COMPONENTS[problem.dtype]
    return replace(
        problem, dtype=dtype, out_dtype=dtype, bias=False, c=3 * problem.c, k=3 * problem.k,
        groups=3 * problem.groups,
    )  # fmt: skip


def scratch_bytes(problem: ConvProblem) -> int:
    """Bytes of both operands and the result as three planes."""
    real = part(problem)
    images = real.n * real.c * math.prod(real.x_image)
    outputs = real.n * real.k * math.prod(real.y_image)
    weights = real.k * (real.c // real.groups) * real.taps
    return (images + outputs + weights) * itemsize(real.dtype)


class ThreeProducts:
    """The way (`fastconv.lowering.way.Way`) of one backend with its options."""

    def __init__(self, backend: Backend, options: Options) -> None:
        self._backend, self._options = backend, options

    def parts(self, problem: ConvProblem) -> Iterator[ConvProblem]:
        """Return the convolution of real numbers."""
        yield part(problem)

    def run(
        self, inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key
    ) -> None:
        """Compute a problem of complex numbers."""
        images = a.size + b.size if problem.result == "w" else a.size
        with Memory(3 * (images + out.size) * out.real.itemsize) as memory:
            self._run(inner, problem, a, b, bias, out, key, memory)

    def _run(
        self, inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key,
        memory: Memory,
    ) -> None:  # fmt: skip
        result, of_images = problem.result, -1 if problem.channels_last else 1
        first = self._split(a, of_images, result == "w", memory)
        if result == "w":
            second, axis = partial(self._split, b, of_images, False, memory), 0
        else:  # a plan may keep what it packs
            second, axis = partial(self._split, b, 0, result == "x", None), of_images
        held = np.moveaxis(out, 1, axis) if axis else out
        sums = _planes(held, axis, memory)
        inner(part(problem), first, second, None, np.moveaxis(sums, axis, 1) if axis else sums, key)
        target = held if held.flags.c_contiguous else np.empty(held.shape, held.dtype)
        join_planes(self._backend, self._options, sums, _length(held, axis), target)
        with np.errstate(over="ignore", invalid="ignore"):
            if target is not held:
                held[...] = target
            if bias is not None:
                out += bias.reshape(-1, *(1,) * (out.ndim - 2))

    def _split(self, array: Any, axis: int, conjugate: bool, memory: Memory | None) -> Any:
        """Return an array in logical order as three planes along its channels.

        They are counted by `axis` as the array lies in memory: the first one of weights.
        """
        numbers = np.ascontiguousarray(np.moveaxis(array, 1, axis) if axis else array)
        planes = _planes(numbers, axis, memory)
        length = _length(numbers, axis)
        split_planes(self._backend, self._options, numbers, length, conjugate, planes)
        return np.moveaxis(planes, axis, 1) if axis else planes


def _planes(held: Any, axis: int, memory: Memory | None) -> Any:
    """Return memory for three times the channels that `axis` counts."""
    shape, dtype = list(held.shape), as_dtype(COMPONENTS[held.dtype.name])
    shape[axis] *= 3
    return np.empty(shape, dtype) if memory is None else memory.empty(tuple(shape), dtype)


def _length(held: Any, axis: int) -> int:
    """Numbers whose planes follow one another: an image, a pixel, or all weights."""
    return math.prod(held.shape[axis:])
