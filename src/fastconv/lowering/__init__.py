"""Every operator as convolutions of images: what runs where a backend knows no better way.

A backend computes y of x and w in two dimensions, and whatever else it says it does
(`fastconv.backends.computes`). Gradients, transposed convolutions, signals and volumes are made of
such problems on views of the operands: nothing is unfolded or stuffed with zeros.

Operands come in logical order: a and b are x and w for y, the gradient of y and w for that of x, x
and the gradient of y for that of w. Images are (N, C, [D,] [H,] W) whatever their layout.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..activations import ACTIVATIONS
from ..backends import Algorithm, Backend, Weights, computes, pack
from ..dtypes import COMPONENTS, as_dtype
from ..options import Options
from ..problem import ConvProblem
from . import borders, input_grad, planar, volume, weight_grad
from .way import Key, Way


@lru_cache(maxsize=1024)
def canonical(problem: ConvProblem) -> ConvProblem:
    """Return the same problem on images of two dimensions, or volumes, with batch and channels."""
    if problem.spatial == 3:
        return replace(problem, rank=5, layout="NDHWC" if problem.channels_last else "NCDHW")
    return replace(problem, rank=4, layout="NHWC" if problem.channels_last else "NCHW")


def parts(backend: Backend, problem: ConvProblem) -> tuple[ConvProblem, ...]:
    """Return the different problems that `backend` itself computes for `problem`."""
    if problem.reduction == 0:
        return ()
    if computes(backend, problem):
        return (problem,)
    known: Any = backend  # a module
    return _parts(known, canonical(problem))


@lru_cache(maxsize=1024)
def _parts(backend: Any, problem: ConvProblem) -> tuple[ConvProblem, ...]:
    if computes(backend, problem):
        return (problem,)
    found: dict[ConvProblem, None] = {}
    for part in _way(problem).parts(problem):
        found.update(dict.fromkeys(_parts(backend, part)))
    return tuple(found)


def algorithm(backend: Backend, problem: ConvProblem, options: Options) -> Algorithm:
    """Name what runs for `problem`, and the most scratch memory that any part of it takes."""
    if problem.reduction == 0:
        return Algorithm("zeros", 0)
    if computes(backend, problem):
        return backend.algorithm(problem, options)
    if problem.dtype in COMPONENTS:
        whole = canonical(problem)
        real = algorithm(backend, planar.part(whole), options)
        return Algorithm(real.name, real.scratch_bytes + planar.scratch_bytes(whole))
    each = [backend.algorithm(part, options) for part in parts(backend, problem)]
    names = dict.fromkeys(algorithm.name for algorithm in each)
    own = volume.scratch_bytes if problem.spatial == 3 else borders.scratch_bytes
    scratch = max((algorithm.scratch_bytes for algorithm in each), default=0)
    return Algorithm(" and ".join(names), scratch + own(canonical(problem)))


class Kept:
    """Weights of a plan, packed part by part when they are first used; any number of threads."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._packed: dict[Key, Weights] = {}

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights packed so far."""
        return sum(weights.packed_bytes for weights in self._packed.values())

    def run(
        self, backend: Backend, part: ConvProblem, options: Options, a: Any, b: Any, bias: Any,
        out: Any, key: Key,
    ) -> None:  # fmt: skip
        """Compute a part whose weights are always those of the same `key`."""
        weights = self._packed.get(key)
        if weights is None:
            packed = pack(backend, part, options, b, bias, self._image)
            weights = self._packed.setdefault(key, packed)
        weights.run(part, options, a, out)


def run(
    backend: Backend,
    problem: ConvProblem,
    options: Options,
    a: Any,
    b: Any,
    bias: Any,
    out: Any,
    kept: Kept | None = None,
) -> None:
    """Compute `problem` into `out` by the problems that `backend` computes.

    `kept` are packed weights, of a plan whose b and bias never change.
    """
    if problem.reduction == 0:
        _empty_sums(problem, bias, out)
        return
    if kept is None and computes(backend, problem):
        backend.run(problem, options, a, b, bias, out)
        return

    def inner(part: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
        if part.out_elements == 0:
            return
        if not computes(backend, part):
            _way(part).run(inner, part, a, b, bias, out, key)
        elif kept is not None:
            kept.run(backend, part, options, a, b, bias, out, key)
        else:
            backend.run(part, options, a, b, bias, out)

    if problem.spatial == 1:
        a, b, out = (array[:, :, None] for array in (a, b, out))
    inner(canonical(problem), a, b, bias, out, ())


def _empty_sums(problem: ConvProblem, bias: Any, out: Any) -> None:
    """Write sums of nothing: of no images, or of no channels. Backends need not know of them."""
    out[...] = 0
    if bias is not None:
        out[...] = bias.reshape(-1, *(1,) * (out.ndim - 2))
    if problem.activation is not None:
        wide = out.astype(as_dtype(problem.accumulator))
        out[...] = ACTIVATIONS[problem.activation].function(wide)


def _way(problem: ConvProblem) -> Way:
    """Return the module that splits a problem."""
    if problem.dtype in COMPONENTS:
        return planar
    if problem.spatial == 3:
        return volume
    if problem.pad_mode != "constant":
        return borders
    return input_grad if problem.result == "x" else weight_grad
