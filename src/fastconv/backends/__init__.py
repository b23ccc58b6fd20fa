"""The backends. Each is a module (or package) with the four functions of `Backend`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..deformable import DeformProblem
from ..dtypes import COMPONENTS
from ..options import Options
from ..problem import ConvProblem


class Algorithm(NamedTuple):
    """What a backend would run: a name and the scratch memory it needs, in bytes, all threads."""

    name: str
    scratch_bytes: int


#: Function of arrays as the caller holds them, (x, w, bias, out) or for packed weights (x, out),
#: that returns the result, or declines by returning None and having done nothing.
Direct = Callable[..., Any]


#: Computes one problem of arrays as `Backend.run` takes them: (x, w, bias, out).
Ready = Callable[[Any, Any, Any, Any], None]


class Weights(Protocol):
    """Weights (and bias) made ready once, for any number of runs by any number of threads."""

    #: Takes (x, out); None where there is no such short way.
    direct: Direct | None

    @property
    def packed_bytes(self) -> int:
        """Bytes that the algorithm's own form of the weights takes; 0 where w is read as it is."""

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name the algorithm and its scratch memory: as the backend does, for packed weights."""

    def run(self, problem: ConvProblem, options: Options, x: Any, out: Any) -> None:
        """Compute `problem`, which may have any n, into `out`; the same bits as `Backend.run`."""


class Backend(Protocol):
    """What a backend knows. Arrays reach `run` checked, in logical (N, C, H, W) order.

    x (N,C,H,W), w (K,C/groups,R,S) and out (N,K,P,Q) are views with any strides that are whole
    multiples of the item size, aligned and in native byte order, of dtype ``problem.dtype`` (x, w)
    and ``problem.out_dtype`` (out, bias); bias is contiguous; ``out`` shares no memory with the
    inputs, is not empty, and holds arbitrary values on entry. ``flip`` has already been applied.
    """

    def available(self) -> str | None:
        """Return None if the backend works on this machine, otherwise the reason and the fix."""

    def supports(self, problem: ConvProblem, options: Options) -> str | None:
        """Return None if the backend computes `problem`, otherwise the reason and the fix."""

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name the algorithm for `problem`: a pure function, no arrays, no device."""

    def run(
        self, problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
    ) -> None:
        """Compute `problem` into `out`, every element of it."""


class UnpackedWeights:
    """Weights of a backend that has no form of its own for them: arrays, kept."""

    direct: Direct | None = None
    packed_bytes = 0

    def __init__(self, backend: Backend, w: Any, bias: Any | None) -> None:
        self._backend, self._w, self._bias = backend, w, bias

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name what the backend runs."""
        return self._backend.algorithm(problem, options)

    def run(self, problem: ConvProblem, options: Options, x: Any, out: Any) -> None:
        """Compute `problem` into `out`."""
        self._backend.run(problem, options, x, self._w, self._bias, out)


def computes(backend: Backend, problem: ConvProblem) -> bool:
    """Whether `backend` computes a problem as it stands; others are split (`fastconv.lowering`).

    Every backend computes y of images of two dimensions. One that computes more has a function
    ``computes(problem)`` that says what. None computes complex numbers.
    """
    if problem.dtype in COMPONENTS:
        return False
    if problem.result == "y" and problem.spatial == 2:
        return True
    function = getattr(backend, "computes", None)
    return function is not None and bool(function(problem))


def deform_refusal(backend: Backend) -> str | None:
    """Return None if `backend` computes deformable convolutions, otherwise the reason and the fix.

    One that does has two functions more: ``deform(problem, options, x, w, offset, mask, bias,
    out)``, arrays as `Backend.run` takes them, offset and mask (or None) in logical (N, channels,
    P, Q) order and the accumulator's dtype, and ``deform_algorithm(problem, options)``.
    """
    if hasattr(backend, "deform"):
        return None
    return (
        "has no deformable convolution; the backends for NumPy arrays compute it: move the arrays "
        "with cupy.asnumpy(...), and name another backend, or none"
    )


def deform_algorithm(backend: Backend, problem: DeformProblem, options: Options) -> Algorithm:
    """Name what `backend` runs for a deformable convolution."""
    known: Any = backend  # a module
    algorithm: Algorithm = known.deform_algorithm(problem, options)
    return algorithm


def deform(
    backend: Backend, problem: DeformProblem, options: Options, x: Any, w: Any,
    moves: tuple[Any, Any | None], bias: Any | None, out: Any,
) -> None:  # fmt: skip
    """Compute a deformable convolution into `out`; `moves` are offset and mask."""
    known: Any = backend  # a module
    known.deform(problem, options, x, w, *moves, bias, out)


def requantise(
    backend: Backend, options: Options, sums: Any, scale: Any, length: int, each: bool,
    limits: tuple[float, float], zero: int, out: Any,
) -> bool:  # fmt: skip
    """Scale sums of int32 into the bytes of `out`, round half to even, saturate; or return False.

    Sums lie in rows of `length`, whose scales are float32: those of row modulo their number, or
    with `each` those of the elements of any row. Scaled they are held between `limits`, the numbers
    that give the least and the largest byte before `zero` is added. A backend with a way of its own
    has a function ``requantise(options, sums, scale, length, each, limits, zero, out)``.
    """
    function = getattr(backend, "requantise", None)
    return function is not None and bool(
        function(options, sums, scale, length, each, limits, zero, out)
    )


def has_planes(backend: Backend) -> bool:
    """Whether `backend` splits complex numbers into planes, for `split_planes`, `join_planes`.

    One that does has the two functions without their first argument; arrays are contiguous.
    """
    return hasattr(backend, "split_planes")


def split_planes(
    backend: Backend, options: Options, numbers: Any, length: int, conjugate: bool, planes: Any
) -> None:
    """Write complex numbers, or their conjugates, as real parts, imaginary parts and their sums.

    Numbers lie in rows of `length`: three rows of planes for one, one after another.
    """
    known: Any = backend  # a module
    known.split_planes(options, numbers, length, conjugate, planes)


def join_planes(backend: Backend, options: Options, planes: Any, length: int, numbers: Any) -> None:
    """Write ``a - b`` and ``m - a - b`` of planes a, b, m as the parts of complex numbers."""
    known: Any = backend  # a module
    known.join_planes(options, planes, length, numbers)


def algorithm_for(backend: Backend, problem: ConvProblem, options: Options, w: Any) -> Algorithm:
    """Name the algorithm for weights that are known: with ``precision="fast"`` it may differ.

    A backend for which that is so has a function ``algorithm_for(problem, options, w)``.
    """
    function = getattr(backend, "algorithm_for", None)
    if function is None or not computes(backend, problem):
        return backend.algorithm(problem, options)
    algorithm: Algorithm = function(problem, options, w)
    return algorithm


def ready(backend: Backend, problem: ConvProblem, options: Options) -> Ready:
    """Return ``backend.run`` of a problem that it computes, for many runs.

    A backend that would look up again what no array changes has a function ``ready(problem,
    options)``.
    """
    function = getattr(backend, "ready", None)
    if function is not None:
        found: Ready = function(problem, options)
        return found

    def run(a: Any, b: Any, bias: Any | None, out: Any) -> None:
        backend.run(problem, options, a, b, bias, out)

    return run


def direct(
    backend: Backend, problem: ConvProblem, options: Options, flip: bool, image: str
) -> Direct | None:
    """Return the backend's short way for arrays that need no conversion, None where it has none.

    A backend that has one has a function ``direct(problem, options, flip, image)``, which is asked
    for every problem; with x of dtype `image`, which may be another than the problem's, it may
    serve or decline.
    """
    function = None if problem.dtype in COMPONENTS else getattr(backend, "direct", None)
    found: Direct | None = None if function is None else function(problem, options, flip, image)
    return found


def pack(
    backend: Backend, problem: ConvProblem, options: Options, w: Any, bias: Any | None, image: str
) -> Weights:
    """Make w and bias, which nobody changes any more, ready for many runs on `backend`.

    A backend with a form of its own for weights has a function ``pack(problem, options, w, bias,
    image)``; the short way of what it returns may take x of dtype `image`, as `direct`'s.
    """
    function = getattr(backend, "pack", None)
    if function is None:
        return UnpackedWeights(backend, w, bias)
    weights: Weights = function(problem, options, w, bias, image)
    return weights
