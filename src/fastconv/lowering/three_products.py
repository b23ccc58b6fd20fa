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
#: which Winograd's filtering leaves less to save.
PER_IMAGE_IN_PLACE = 320
PER_WEIGHT = {"y": 40, "x": 256, "w": 32}
#: Bytes of the planes of images that are split, multiplied and joined before the next ones are:
#: what caches keep, and no less than those of the weights, which are read for each such part of
#: a batch. Calls have Winograd's filtering transform them each time: parts are larger by a factor.
KEPT = 4 << 20
TRANSFORMED = 16


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


@lru_cache(maxsize=1024)
def images_together(problem: ConvProblem, keeps: bool) -> int:
    """Return how many images pass through the three products before the next ones.

    `keeps` tells whether weights are those of a plan, which keeps what it has made of them.
    """
    if problem.result == "w" or problem.n == 0:
        return problem.n
    times = TRANSFORMED if not keeps and _may_be_transformed(problem) else 1
    room = max(KEPT, times * _weight_bytes(problem))
    most = max(1, room * problem.n // _plane_bytes(problem))
    return -(-problem.n // -(-problem.n // most))


def _plane_bytes(problem: ConvProblem) -> int:
    """Bytes of all images and results as three planes."""
    real = part(problem)
    images, outputs = real.c * math.prod(real.x_image), real.k * math.prod(real.y_image)
    return real.n * (images + outputs) * itemsize(real.dtype)


def _block_bytes(problem: ConvProblem, keeps: bool) -> int:
    """Bytes of what exists at a time, but for the weights of a plan."""
    images = _plane_bytes(_some(problem, images_together(problem, keeps)))
    return images + (0 if keeps and problem.result != "w" else _weight_bytes(problem))


@lru_cache(maxsize=1024)
def _some(problem: ConvProblem, n: int) -> ConvProblem:
    """Return the problem of a part of a batch."""
    return problem.with_batch(n)


def _weight_bytes(problem: ConvProblem) -> int:
    """Bytes of weights as three planes."""
    real = part(problem)
    return real.k * (real.c // real.groups) * real.taps * itemsize(real.dtype)


def scratch_bytes(problem: ConvProblem) -> int:
    """Bytes of operands and results as three planes."""
    return _block_bytes(problem, False)


class ThreeProducts:
    """The way (`fastconv.lowering.way.Way`) of one backend with its options.

    `keeps` tells whether it serves a plan, which keeps what is made of its weights.
    """

    def __init__(self, backend: Backend, options: Options, keeps: bool) -> None:
        self._backend, self._options, self._keeps = backend, options, keeps

    def parts(self, problem: ConvProblem) -> Iterator[ConvProblem]:
        """Return the convolution of real numbers."""
        yield part(problem)

    def run(
        self, inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key
    ) -> None:
        """Compute a problem of complex numbers."""
        with Memory(_block_bytes(problem, self._keeps)) as memory:
            if problem.result == "w":
                self._run_weights(inner, problem, a, b, out, key, memory)
            else:
                self._run_images(inner, problem, a, b, out, key, memory)
        if bias is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                out += bias.reshape(-1, *(1,) * (out.ndim - 2))

    def _run_images(
        self, inner: Run, problem: ConvProblem, a: Any, b: Any, out: Any, key: Key, memory: Memory
    ) -> None:
        """Compute y or the gradient of x, some images at a time."""
        axis, count = -1 if problem.channels_last else 1, images_together(problem, self._keeps)
        held = np.moveaxis(out, 1, axis)
        split = partial(self._split, b, 0, problem.result == "x")
        weights = partial(split, None) if self._keeps else split(memory)
        begin = memory.used
        for n in range(0, problem.n, count):
            images = a[n : n + count]
            some = part(_some(problem, len(images)))
            memory.used = begin
            planes = self._split(images, axis, False, memory)
            sums = _planes(held[n : n + count], axis, memory)
            inner(some, planes, weights, None, np.moveaxis(sums, axis, 1), key)
            self._join(sums, axis, held[n : n + count])

    def _run_weights(
        self, inner: Run, problem: ConvProblem, a: Any, b: Any, out: Any, key: Key, memory: Memory
    ) -> None:
        """Compute the gradient of w."""
        axis = -1 if problem.channels_last else 1
        first, second = self._split(a, axis, True, memory), self._split(b, axis, False, memory)
        sums = _planes(out, 0, memory)
        inner(part(problem), first, second, None, sums, key)
        self._join(sums, 0, out)

    def _join(self, sums: Any, axis: int, out: Any) -> None:
        """Write sums in three planes as complex numbers."""
        target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        join_planes(self._backend, self._options, sums, _length(out, axis), target)
        if target is not out:
            with np.errstate(over="ignore", invalid="ignore"):
                out[...] = target

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
