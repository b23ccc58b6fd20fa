"""Large kernels by the discrete Fourier transform, block by block (overlap-save).

A block of the padded image is transformed, multiplied by the conjugate spectrum of the kernel, and
transformed back: all but the last (R - 1, S - 1) rows and columns are the correlation (Stockham,
"High-speed convolution and correlation", 1966). Blocks have one size, whatever the image, so that
scratch memory is bounded; each is one task on one thread. Kernels of one row need no transform
across rows: blocks of a line, and a task transforms several neighbouring ones together, which costs
half as much a pixel. Transforms are SciPy's where it is installed, otherwise NumPy's.

Errors are proportional to the norms of the whole block, not to the pixels under a kernel, and one
infinity spoils a block: an image with a non-finite result is computed again by the ladder.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...borders import source_index
from ...options import Options
from ...problem import ConvProblem
from .tasks import for_each

NAME = "fft"
Array = np.ndarray[Any, Any]

#: Sides of blocks, products of small primes; a smaller image has a block of its own size.
SIDES = (64, 96, 128, 192, 256, 384, 512, 768)
#: Lengths of blocks of a line, and how many of them a task may transform together.
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
LINES = (4, 1)

# Nanoseconds on one core, measured on AVX-512 with SciPy 1.16; they only have to say when
# transforms are faster than a kernel that runs near the peak of multiply-adds. In a checkout
# `python -m benchmarks.calibrate` measures them.
TRANSFORM = {"float32": 2.5, "float64": 3.8}  # a pixel, either direction
SLOW_TRANSFORM = {"float32": 9.0, "float64": 4.0}  # NumPy's
LINE_TRANSFORM = {"float32": 1.3, "float64": 2.1}  # of several lines together, SciPy's
SLOW_LINE_TRANSFORM = {"float32": 2.0, "float64": 2.1}  # NumPy's
MULTIPLY = {"float32": 0.45, "float64": 0.9}  # a pixel and pair of channels
MOVE = {"float32": 0.8, "float64": 1.6}  # a pixel: gathering a block, storing a result
CALL = 4e4  # a transform's own overhead, with what belongs to it
# A product of the ladder's algorithms: 0.018 where a core has 110 GFLOP/s (Zen 4), 0.0075 where it
# has 265 (Zen 5); between them, so that neither takes the slower way.
MULTIPLY_ADD = {"float32": 0.012, "float64": 0.024}
#: How much faster it must be, for what the figures above do not know; and what it must save.
LEAST_GAIN = 1.3
LEAST_SAVED = 5e5


@cache
def _module() -> Any:
    """SciPy's transforms, or NumPy's."""
    try:
        return importlib.import_module("scipy.fft")
    except ImportError:
        return np.fft


class Blocking(NamedTuple):
    """Sides of a block, valid outputs in it, and output channels whose spectra are held at once.

    Blocks of a line have no second side, and a task has several of them.
    """

    sides: tuple[int, int]
    valid: tuple[int, int]
    channels: int
    lines: int = 1

    @property
    def tall(self) -> bool:
        """Whether there are rows to transform across."""
        return self.sides[0] > 1

    @property
    def step(self) -> tuple[int, int]:
        """Valid outputs of a task."""
        return self.valid[0], self.valid[1] * self.lines


def _extents(problem: ConvProblem) -> tuple[int, int]:
    (dh, dw), r, s = problem.dilation, problem.r, problem.s
    return (r - 1) * dh + 1, (s - 1) * dw + 1


def _even_side(size: int) -> int:
    """Smallest even product of 2, 3 and 5 that is at least `size`."""
    side = size + size % 2
    while True:
        rest = side
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return side
        side += 2


def _sides(extent: int, outputs: int, known: tuple[int, ...]) -> list[int]:
    """Sides a block may have along one axis."""
    whole = _even_side(outputs + extent - 1)
    return [side for side in known if 2 * extent <= side < whole] + (
        [whole] if whole <= known[-1] else []
    )


def _shapes(problem: ConvProblem) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield sides of blocks and how many lines of them a task may have."""
    height, width = _extents(problem)
    if problem.r > 1:
        columns = _sides(width, problem.q, SIDES)
        yield from (((lh, lw), 1) for lh in _sides(height, problem.p, SIDES) for lw in columns)
        return
    for length in _sides(width, problem.q, LENGTHS):
        yield from (((1, length), lines) for lines in LINES)


def _spectrum_bytes(sides: tuple[int, int], item: int) -> int:
    return sides[0] * (sides[1] // 2 + 1) * 2 * item


def _thread_bytes(problem: ConvProblem, sides: tuple[int, int], lines: int) -> int:
    """Scratch of one thread: a group's spectra, one sum and product, a block before and after."""
    item = np.dtype(problem.dtype).itemsize
    inputs = problem.c // problem.groups
    blocks = 2 if lines == 1 else inputs + 2  # lines of all inputs are copied at once
    pixels = blocks * sides[0] * sides[1]
    return lines * ((inputs + 3) * _spectrum_bytes(sides, item) + pixels * item)


def _time(problem: ConvProblem, blocking: Blocking, fast: bool) -> float:
    """Estimated nanoseconds of one image on one core."""
    (lh, lw), (vh, vw), dtype = blocking.sides, blocking.step, problem.dtype
    pixels = lh * lw * blocking.lines
    blocks = -(-problem.p // vh) * -(-problem.q // vw)
    inputs, outputs = problem.c // problem.groups, problem.k // problem.groups
    again = -(-outputs // blocking.channels)  # how often a group's blocks are transformed
    pairs = problem.k * inputs
    known = (
        (LINE_TRANSFORM, SLOW_LINE_TRANSFORM) if blocking.lines > 1 else (TRANSFORM, SLOW_TRANSFORM)
    )
    transform = known[not fast][dtype] * pixels + CALL
    move = MOVE[dtype] * pixels
    each = (problem.c * again + problem.k) * (transform + move) + pairs * MULTIPLY[dtype] * pixels
    return blocks * each + pairs * ((TRANSFORM if fast else SLOW_TRANSFORM)[dtype] * lh * lw + CALL)


@lru_cache(maxsize=1024)
def _blocking(problem: ConvProblem, workspace: int, fast: bool) -> tuple[float, Blocking | None]:
    """Fastest blocking that fits the workspace, with its estimated time."""
    best: tuple[float, Blocking | None] = (float("inf"), None)
    item = np.dtype(problem.dtype).itemsize
    inputs, extents = problem.c // problem.groups, _extents(problem)
    for (lh, lw), lines in _shapes(problem):
        room = workspace // (inputs * _spectrum_bytes((lh, lw), item))
        if room < 1 or _thread_bytes(problem, (lh, lw), lines) > workspace:
            continue
        valid = (lh - extents[0] + 1, lw - extents[1] + 1)
        blocking = Blocking((lh, lw), valid, min(room, problem.k), lines)
        time = _time(problem, blocking, fast)
        if time < best[0]:
            best = time, blocking
    return best


def _block(problem: ConvProblem, options: Options) -> tuple[float, Blocking | None]:
    alone = problem if problem.n == 1 else replace(problem, n=1)
    return _blocking(alone, options.workspace, _module() is not np.fft)


def pays(problem: ConvProblem, options: Options) -> bool:
    """Whether transforms would be faster than the ladder's algorithm."""
    if problem.stride != (1, 1) or problem.r * problem.s < 25:
        return False
    direct = problem.k * problem.p * problem.q * problem.reduction * MULTIPLY_ADD[problem.dtype]
    if direct < LEAST_SAVED:
        return False
    time, blocking = _block(problem, options)
    return blocking is not None and time * LEAST_GAIN < direct and direct - time > LEAST_SAVED


def takes(w: Array) -> bool:
    """Whether these weights have a spectrum."""
    return bool(np.isfinite(w).all())


def scratch_bytes(problem: ConvProblem, options: Options) -> int:
    """Bytes of all threads together, and of the spectra that one run holds."""
    blocking = _block(problem, options)[1]
    assert blocking is not None
    inputs, item = problem.c // problem.groups, np.dtype(problem.dtype).itemsize
    spectra = blocking.channels * inputs * _spectrum_bytes(blocking.sides, item)
    return options.threads * _thread_bytes(problem, blocking.sides, blocking.lines) + spectra


class _Task(NamedTuple):
    """One block of one image, for output channels that share input channels."""

    image: int
    block: tuple[int, int]
    outputs: slice


class Fft:
    """The way; holds all spectra if it will run many times and they fit; see `fast.Way`."""

    name = NAME

    def __init__(self, problem: ConvProblem, options: Options, w: Array, keep: bool) -> None:
        blocking = _block(problem, options)[1]
        assert blocking is not None
        self._blocking: Blocking = blocking
        self._kept: list[Array] | None = None
        item = np.dtype(problem.dtype).itemsize
        pairs = problem.k * problem.c // problem.groups
        if keep and pairs * _spectrum_bytes(blocking.sides, item) <= 8 * options.workspace:
            self._kept = [self._spectra(problem, options, w, k) for k in self._chunks(problem)]
        self.packed_bytes = sum(a.nbytes for a in self._kept or ())

    def scratch_bytes(self, problem: ConvProblem, options: Options) -> int:
        """Return the bytes of all threads together."""
        if self._kept is None:
            return scratch_bytes(problem, options)
        blocking = self._blocking
        return options.threads * _thread_bytes(problem, blocking.sides, blocking.lines)

    def run(
        self, problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
    ) -> None:
        """Compute block after block, and images that are not finite once more by the ladder."""
        from . import convolve

        spoilt: set[int] = set()
        for i, chunk in enumerate(self._chunks(problem)):
            kept = self._kept
            spectra = self._spectra(problem, options, w, chunk) if kept is None else kept[i]

            def compute(task: _Task, spectra: Array = spectra, first: int = chunk.start) -> None:
                if task.image not in spoilt and not self._compute(
                    problem, options, task, x, spectra, first, bias, out
                ):
                    spoilt.add(task.image)

            for_each(compute, self._tasks(problem, chunk), options.threads)
        strict, one = replace(options, precision="strict"), replace(problem, n=1)
        for n in sorted(spoilt):
            convolve(one, strict, x[n : n + 1], w, bias, out[n : n + 1])

    def _chunks(self, problem: ConvProblem) -> list[slice]:
        step = self._blocking.channels
        return [slice(k, min(k + step, problem.k)) for k in range(0, problem.k, step)]

    def _tasks(self, problem: ConvProblem, chunk: slice) -> Iterator[_Task]:
        each = problem.k // problem.groups
        step = self._blocking.step
        for n in range(problem.n):
            for group in range(chunk.start // each, -(-chunk.stop // each)):
                outputs = slice(max(chunk.start, group * each), min(chunk.stop, (group + 1) * each))
                for p in range(0, problem.p, step[0]):
                    for q in range(0, problem.q, step[1]):
                        yield _Task(n, (p, q), outputs)

    def _spectra(self, problem: ConvProblem, options: Options, w: Array, chunk: slice) -> Array:
        """Conjugate spectra (k, C/groups, lh, lw//2 + 1) of some kernels."""
        lh, lw = self._blocking.sides
        (dh, dw), item = problem.dilation, np.dtype(problem.dtype)
        shape = (chunk.stop - chunk.start, w.shape[1], lh, lw // 2 + 1)
        spectra = np.empty(shape, np.result_type(item, np.complex64))

        def transform(k: int) -> None:
            padded = np.zeros((w.shape[1], lh, lw), item)
            padded[:, : problem.r * dh : dh, : problem.s * dw : dw] = w[chunk.start + k]
            np.conjugate(self._transform(padded), out=spectra[k], casting="same_kind")

        for_each(transform, range(shape[0]), options.threads)
        return spectra

    def _compute(
        self, problem: ConvProblem, options: Options, task: _Task, x: Array, spectra: Array,
        first: int, bias: Any, out: Array,
    ) -> bool:  # fmt: skip
        """Compute one block; False if it is not finite, and then without a meaning."""
        inputs = problem.c // problem.groups
        group = task.outputs.start // (problem.k // problem.groups)
        channels = slice(group * inputs, (group + 1) * inputs)
        rows, columns = (
            slice(at, min(at + valid, size))
            for at, valid, size in zip(
                task.block, self._blocking.step, (problem.p, problem.q), strict=True
            )
        )
        block = self._gather(problem, x[task.image, channels], task.block)
        image = self._transform(block)
        for k in range(task.outputs.start, task.outputs.stop):
            product = image[0] * spectra[k - first, 0]
            for c in range(1, inputs):
                product += image[c] * spectra[k - first, c]
            y = self._back(product)
            y = y[: rows.stop - rows.start, : columns.stop - columns.start]
            if not np.isfinite(y).all():
                return False
            _finish(problem, options, y, k, bias, out[task.image, k, rows, columns])
        return True

    def _transform(self, block: Array) -> Array:
        """Spectra of the last two axes, or of each line."""
        spectra: Array = (_module().rfft2 if self._blocking.tall else _module().rfft)(block)
        return spectra

    def _back(self, product: Array) -> Array:
        """Return the outputs of a block, or of the lines of one task side by side."""
        sides, valid = self._blocking.sides, self._blocking.valid
        y: Array
        if self._blocking.tall:
            y = _module().irfft2(product, s=sides)
            return y
        y = _module().irfft(product, sides[1])
        return y[:, : valid[1]].reshape(1, -1)

    def _gather(self, problem: ConvProblem, image: Array, at: tuple[int, int]) -> Array:
        """Pixels of the padded image under a block: (C/groups, lh, lw), zeros beyond its end.

        Of lines: (C/groups, lines, lw), views of what they share.
        """
        lines, step = self._blocking.lines, self._blocking.valid[1]
        lh, lw = self._blocking.sides
        if lines == 1:
            return self._pixels(problem, image, at, lh, lw)
        row = self._pixels(problem, image, at, 1, (lines - 1) * step + lw)[:, 0]
        windows: Array = np.lib.stride_tricks.sliding_window_view(row, lw, axis=1)[:, ::step]
        return windows

    def _pixels(
        self, problem: ConvProblem, image: Array, at: tuple[int, int], lh: int, lw: int
    ) -> Array:
        """Return `lh` rows of `lw` pixels of the padded image, zeros beyond its end."""
        block = np.zeros((image.shape[0], lh, lw), problem.dtype)
        parts: list[tuple[slice, Any]] = []
        for axis, side in enumerate((lh, lw)):
            size, pad = (problem.h, problem.w)[axis], problem.pad[axis]
            start = at[axis] - pad[0]
            stop = min(start + side, size + pad[1])
            if start >= 0 and stop <= size:
                parts.append((slice(0, stop - start), slice(start, stop)))
            elif problem.pad_mode == "constant":
                first, last = max(start, 0), max(min(stop, size), max(start, 0))
                parts.append((slice(first - start, last - start), slice(first, last)))
            else:
                source = source_index(np.arange(start, stop), size, problem.pad_mode)
                parts.append((slice(0, stop - start), source))
        (rows, from_rows), (columns, from_columns) = parts
        block[:, rows, columns] = image[:, from_rows][:, :, from_columns]
        return block


def _finish(
    problem: ConvProblem, options: Options, y: Array, k: int, bias: Any, out: Array
) -> None:
    """Store sums with bias and activation: a 1x1 convolution by one, which is exact."""
    if bias is None and problem.activation is None:
        out[...] = y
        return
    from . import convolve

    height, width = y.shape
    one = ConvProblem(
        1, 1, height, width, 1, 1, 1, dtype=problem.dtype, out_dtype=problem.out_dtype,
        bias=bias is not None, activation=problem.activation,
    )  # fmt: skip
    sums = np.ascontiguousarray(y, dtype=problem.dtype)[None, None]
    addend = None if bias is None else bias[k : k + 1]
    kernel = np.ones((1, 1, 1, 1), problem.dtype)
    alone = replace(options, threads=1, precision="strict")
    convolve(one, alone, sums, kernel, addend, out[None, None])
