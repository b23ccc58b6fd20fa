"""Every operator as convolutions of images: what runs where a backend knows no better way.

A backend computes y of x and w in two dimensions, and whatever else it says it does
(`fastconv.backends.computes`). Gradients, transposed convolutions, signals and volumes are made of
such problems on views of the operands: nothing is unfolded or stuffed with zeros.

Operands come in logical order: a and b are x and w for y, the gradient of y and w for that of x, x
and the gradient of y for that of w. Images are (N, C, [D,] [H,] W) whatever their layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..backends import Algorithm, Backend, computes
from ..dtypes import COMPONENTS
from ..options import Options
from ..problem import ConvProblem
from . import borders, input_grad, planar, volume, weight_grad


def canonical(problem: ConvProblem) -> ConvProblem:
    """Return the same problem on images of two dimensions, or volumes, with batch and channels."""
    if problem.spatial == 3:
        return replace(problem, rank=5, layout="NDHWC" if problem.channels_last else "NCDHW")
    return replace(problem, rank=4, layout="NHWC" if problem.channels_last else "NCHW")


def parts(backend: Backend, problem: ConvProblem) -> tuple[ConvProblem, ...]:
    """Return the different problems that `backend` itself computes for `problem`."""
    if computes(backend, problem):
        return (problem,)
    known: Any = backend  # a module
    return _parts(known, canonical(problem))


@lru_cache(maxsize=1024)
def _parts(backend: Any, problem: ConvProblem) -> tuple[ConvProblem, ...]:
    if computes(backend, problem):
        return (problem,)
    found: dict[ConvProblem, None] = {}
    for part in _split(problem):
        found.update(dict.fromkeys(_parts(backend, part)))
    return tuple(found)


def _split(problem: ConvProblem) -> Iterator[ConvProblem]:
    """Return the problems one step below, not all of which a backend need compute."""
    if problem.dtype in COMPONENTS:
        return iter((planar.part(problem),))
    if problem.spatial == 3:
        return volume.parts(problem)
    if problem.pad_mode != "constant":
        return borders.parts(problem)
    if problem.result == "x":
        return input_grad.parts(problem)
    return weight_grad.parts(problem)


def algorithm(backend: Backend, problem: ConvProblem, options: Options) -> Algorithm:
    """Name what runs for `problem`, and the most scratch memory that any part of it takes."""
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


def run(
    backend: Backend, problem: ConvProblem, options: Options, a: Any, b: Any, bias: Any, out: Any
) -> None:
    """Compute `problem` into `out` by the problems that `backend` computes."""
    if computes(backend, problem):
        backend.run(problem, options, a, b, bias, out)
        return
    plane = problem.spatial == 1
    if plane:
        a, b, out = (array[:, :, None] for array in (a, b, out))
    _run(backend, canonical(problem), options, a, b, bias, out)


def _run(
    backend: Backend, problem: ConvProblem, options: Options, a: Any, b: Any, bias: Any, out: Any
) -> None:
    def inner(part: ConvProblem, a: Any, b: Any, bias: Any, out: Any) -> None:
        _run(backend, part, options, a, b, bias, out)

    if problem.out_elements == 0:
        return
    if computes(backend, problem):
        backend.run(problem, options, a, b, bias, out)
    elif problem.dtype in COMPONENTS:
        planar.run(inner, problem, a, b, bias, out)
    elif problem.spatial == 3:
        volume.run(inner, problem, a, b, bias, out)
    elif problem.pad_mode != "constant":
        borders.run(inner, problem, a, b, bias, out)
    else:
        way = input_grad.run if problem.result == "x" else weight_grad.run
        way(inner, problem, a, b, bias, out)
