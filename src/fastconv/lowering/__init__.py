"""Every operator as convolutions of images: what runs where a backend knows no better way.

A backend computes y of x and w in two dimensions, and whatever else it says it does
(`fastconv.backends.computes`). Gradients, transposed convolutions, signals and volumes are made of
such problems on views of the operands: nothing is unfolded or stuffed with zeros.

Operands come in logical order: a and b are x and w for y, the gradient of y and w for that of x, x
and the gradient of y for that of w. Images are (N, C, [D,] [H,] W) whatever their layout.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from ..activations import ACTIVATIONS
from ..backends import Algorithm, Backend, Direct, Ready, Weights, computes, pack, ready
from ..dtypes import COMPONENTS, as_dtype
from ..options import Options
from ..problem import ConvProblem
from . import borders, input_grad, planar, three_products, volume, weight_grad
from .way import Key, Run, Way

#: Batch sizes whose parts a plan remembers.
MOST_BATCHES = 64


@lru_cache(maxsize=1024)
def canonical(problem: ConvProblem) -> ConvProblem:
    """Return the same problem on images of two dimensions, or volumes, with batch and channels."""
    if problem.spatial == 3:
        return replace(problem, rank=5, layout="NDHWC" if problem.channels_last else "NCDHW")
    return replace(problem, rank=4, layout="NHWC" if problem.channels_last else "NCHW")


def parts(backend: Backend, problem: ConvProblem, options: Options) -> tuple[ConvProblem, ...]:
    """Return the different problems that `backend` itself computes for `problem`."""
    if problem.reduction == 0:
        return ()
    if computes(backend, problem):
        return (problem,)
    known: Any = backend  # a module
    return _parts(known, canonical(problem), options)


@lru_cache(maxsize=1024)
def _parts(backend: Any, problem: ConvProblem, options: Options) -> tuple[ConvProblem, ...]:
    if computes(backend, problem):
        return (problem,)
    found: dict[ConvProblem, None] = {}
    for part in _way(backend, problem, options).parts(problem):
        found.update(dict.fromkeys(_parts(backend, part, options)))
    return tuple(found)


def algorithm(backend: Backend, problem: ConvProblem, options: Options) -> Algorithm:
    """Name what runs for `problem`, and the most scratch memory that any part of it takes."""
    if problem.reduction == 0:
        return Algorithm("zeros", 0)
    if computes(backend, problem):
        return backend.algorithm(problem, options)
    if problem.dtype in COMPONENTS:
        whole = canonical(problem)
        if three_products.takes(backend, whole, options):
            real = algorithm(backend, three_products.part(whole), options)
            scratch = real.scratch_bytes + three_products.scratch_bytes(whole)
            return Algorithm(three_products.PREFIX + real.name, scratch)
        real = algorithm(backend, planar.part(whole), options)
        return Algorithm(real.name, real.scratch_bytes + planar.scratch_bytes(whole))
    each = [backend.algorithm(part, options) for part in parts(backend, problem, options)]
    names = dict.fromkeys(algorithm.name for algorithm in each)
    scratch = max((algorithm.scratch_bytes for algorithm in each), default=0)
    return Algorithm(
        " and ".join(names), scratch + _own_bytes(backend, canonical(problem), options)
    )


def _own_bytes(backend: Backend, problem: ConvProblem, options: Options) -> int:
    """Bytes that splitting `problem`, and its parts again, takes itself."""
    if computes(backend, problem):
        return 0
    way = _way(backend, problem, options)
    own = way.scratch_bytes(problem) if way in (volume, borders) else 0
    parts_own = (_own_bytes(backend, part, options) for part in way.parts(problem))
    return own + max(parts_own, default=0)


class Kept:
    """Weights of a plan, packed part by part when they are first used; any number of threads."""

    def __init__(self, problem: ConvProblem, image: str) -> None:
        self._problem, self._image = problem, image
        #: The short way from a caller's arrays, once weights are packed that are all there are.
        self.direct: Direct | None = None
        self._packed: dict[Key, Weights] = {}

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights packed so far."""
        return sum(weights.packed_bytes for weights in self._packed.values())

    def run(
        self, backend: Backend, options: Options, part: ConvProblem, a: Any, b: Any, bias: Any,
        out: Any, key: Key,
    ) -> None:  # fmt: skip
        """Compute a part whose weights are always those of the same `key`."""
        weights = self._packed.get(key)
        if weights is None:
            held = part
            if hasattr(backend, "direct") and options.precision == "strict":
                # its short way is from arrays as the caller holds them
                whole = canonical(self._problem.with_batch(part.n)) == part
                held = self._problem if whole else part
            packed = pack(backend, held, options, _made(b), bias, self._image)
            weights = self._packed.setdefault(key, packed)
            if held is self._problem:
                self.direct = weights.direct
        weights.run(part, options, a, out)


class Lowered:
    """A problem by the problems that `backend` computes, looked up when they are first met.

    ``lowered(a, b, bias, out)`` computes, any number of threads at once. `kept` are packed weights,
    of a plan whose b and bias never change.
    """

    def __init__(
        self, backend: Backend, problem: ConvProblem, options: Options, kept: Kept | None = None
    ) -> None:
        self._backend, self._options, self._kept = backend, options, kept
        self._signals = problem.spatial == 1
        self._whole = canonical(problem)
        self._ready: Ready | None = None
        if problem.reduction == 0:
            self._ready = partial(_empty_sums, problem)
        elif kept is None and computes(backend, problem):
            self._ready = ready(backend, problem, options)
        self._parts: dict[ConvProblem, Run] = {}
        self._ways: dict[ConvProblem, Any] = {}

    def __call__(self, a: Any, b: Any, bias: Any, out: Any) -> None:
        """Compute into `out`."""
        if self._ready is not None:
            self._ready(a, b, bias, out)
            return
        if self._signals:
            a, b, out = a[:, :, None], b[:, :, None], out[:, :, None]
        self._inner(self._whole, a, b, bias, out, ())

    def _inner(self, part: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
        compute = self._parts.get(part)
        if compute is not None:
            compute(part, a, b, bias, out, key)
            return
        way = self._ways.get(part)
        if way is not None:
            way.run(self._inner, part, a, _made(b), bias, out, key)
            return
        self._find(part)
        self._inner(part, a, b, bias, out, key)

    def _find(self, part: ConvProblem) -> None:
        """Find what computes a part."""
        if part.out_elements == 0:
            self._parts[part] = _nothing
        elif not computes(self._backend, part):
            keeps = self._kept is not None
            self._ways[part] = _way(self._backend, part, self._options, keeps)
        elif self._kept is not None:
            self._parts[part] = partial(self._kept.run, self._backend, self._options)
        else:
            self._parts[part] = partial(_run_ready, ready(self._backend, part, self._options))


class LoweredWeights:
    """Weights of a plan whose backend splits its problem; see `fastconv.backends.Weights`."""

    direct: Direct | None = None

    def __init__(
        self, backend: Backend, problem: ConvProblem, options: Options, w: Any, bias: Any,
        image: str,
    ) -> None:  # fmt: skip
        self._backend, self._w, self._bias = backend, w, bias
        self._kept = Kept(problem, image)
        self._lowered: dict[ConvProblem, Lowered] = {}

    @property
    def packed_bytes(self) -> int:
        """Bytes of the weights packed so far."""
        return self._kept.packed_bytes

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name what the backend runs."""
        return algorithm(self._backend, problem, options)

    def run(self, problem: ConvProblem, options: Options, x: Any, out: Any) -> None:
        """Compute `problem` into `out`."""
        lowered = self._lowered.get(problem)
        if lowered is None:
            lowered = Lowered(self._backend, problem, options, self._kept)
            if len(self._lowered) < MOST_BATCHES:
                self._lowered[problem] = lowered
        lowered(x, self._w, self._bias, out)


def weights_of(
    backend: Backend, problem: ConvProblem, options: Options, w: Any, bias: Any, image: str
) -> Weights:
    """Make w and bias ready for many runs: packed now, or part by part when first used."""
    if computes(backend, problem):
        return pack(backend, problem, options, w, bias, image)
    return LoweredWeights(backend, problem, options, w, bias, image)


def _made(b: Any) -> Any:
    """Return an operand, which may be a function that makes it."""
    return b() if callable(b) else b


def _run_ready(
    compute: Ready, part: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key
) -> None:
    """Compute a part by what its backend has made ready."""
    compute(a, _made(b), bias, out)


def _nothing(part: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
    """Compute a part without elements."""


def _empty_sums(problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any) -> None:
    """Write sums of nothing: of no images, or of no channels. Backends need not know of them."""
    out[...] = 0
    if bias is not None:
        out[...] = bias.reshape(-1, *(1,) * (out.ndim - 2))
    if problem.activation is not None:
        wide = out.astype(as_dtype(problem.accumulator))
        out[...] = ACTIVATIONS[problem.activation].function(wide)


def _way(backend: Backend, problem: ConvProblem, options: Options, keeps: bool = False) -> Way:
    """Return what splits a problem: of these modules, or three products of complex numbers."""
    if problem.dtype in COMPONENTS:
        if three_products.takes(backend, problem, options):
            return three_products.ThreeProducts(backend, options, keeps)
        return planar
    if problem.spatial == 3 and (problem.result != "x" or problem.pad_mode != "constant"):
        return volume
    if problem.pad_mode != "constant":
        return borders
    return input_grad if problem.result == "x" else weight_grad
