"""The choice: one ordered table of backends, specific to general, and every rejection's reason."""

from __future__ import annotations

import importlib
import sys
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from types import FrameType
from typing import NamedTuple, cast

from . import lowering
from .backends import Algorithm, Backend, deform_algorithm, deform_refusal
from .deformable import DeformProblem
from .errors import BackendUnavailable, BackendUnsupported
from .options import Options
from .problem import ConvProblem


class Entry(NamedTuple):
    """One row of the table: backend id, the kind of array it computes on, what it is."""

    name: str
    arrays: str
    what: str


#: Tried from the top; the last row takes every legal problem.
TABLE = (
    Entry("cuda", "cupy", "CUDA kernels compiled at run time"),
    Entry("native", "numpy", "C++ with a thread pool, an algorithm for each kind of problem"),
    Entry("numba", "numpy", "just-in-time compiled loops"),
    Entry("reference", "numpy", "the definition, in NumPy"),
)


#: An empty batch or no output channels: no backend is asked how it would compute nothing.
EMPTY = Algorithm("empty", 0)


@dataclass(frozen=True)
class Choice:
    """The backend chosen for a problem, the algorithm it runs, and why others were passed over.

    Attributes
    ----------
    backend : str
    algorithm : Algorithm
        Name and scratch bytes.
    rejected : tuple of (str, str)
        Backends above the chosen one, each with its reason.
    """

    backend: str
    algorithm: Algorithm
    rejected: tuple[tuple[str, str], ...]


@cache
def load(name: str) -> Backend:
    """Import a backend by name; optional packages are imported by the backend itself, lazily."""
    return cast(Backend, importlib.import_module(f".backends.{name}", __package__))


@cache
def availability(name: str) -> str | None:
    """Return None if the backend works on this machine, otherwise why not; asked once."""
    return load(name).available()


def _refusal(entry: Entry, problem: ConvProblem, options: Options, arrays: str) -> str | None:
    if entry.arrays != arrays:
        kinds = {"numpy": ("NumPy", "cupy.asnumpy"), "cupy": ("CuPy", "cupy.asarray")}
        kind, move = kinds[entry.arrays]
        return f"computes on {kind} arrays, these are {kinds[arrays][0]}'s; move them with {move}"
    missing = availability(entry.name)
    if missing is not None:
        return missing
    backend = load(entry.name)
    if isinstance(problem, DeformProblem) and (refusal := deform_refusal(backend)) is not None:
        return refusal
    refusals = (
        backend.supports(part, options) for part in lowering.parts(backend, problem, options)
    )
    return next((refusal for refusal in refusals if refusal is not None), None)


def _algorithm(backend: Backend, problem: ConvProblem, options: Options) -> Algorithm:
    if isinstance(problem, DeformProblem):
        return deform_algorithm(backend, problem, options)
    return lowering.algorithm(backend, problem, options)


@lru_cache(maxsize=4096)
def select(problem: ConvProblem, options: Options, arrays: str = "numpy") -> Choice:
    """Choose the backend for a problem: a pure function of its arguments and the machine.

    Parameters
    ----------
    problem : ConvProblem
    options : Options
        ``options.backend`` names a backend that serves or raises.
    arrays : {"numpy", "cupy"}
        Kind of array the caller holds; the result is of the same kind.

    Raises
    ------
    BackendUnavailable
        The named backend does not work on this machine.
    BackendUnsupported
        The named backend, or every backend for this kind of array, refuses the problem.
    """
    rejected: list[tuple[str, str]] = []
    for entry in TABLE:
        if options.backend not in (None, entry.name):
            continue
        reason = _refusal(entry, problem, options, arrays)
        if reason is None:
            if options.backend is None:
                _warn_if_native_is_missing(rejected)
            backend = load(entry.name)
            algorithm = EMPTY
            if problem.out_bytes:
                algorithm = _algorithm(backend, problem, options)
            return Choice(entry.name, algorithm, tuple(rejected))
        rejected.append((entry.name, reason))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in rejected)
    if options.backend is not None and (missing := availability(options.backend)) is not None:
        both = reasons if missing in reasons else f"{reasons}; and {missing}"
        raise BackendUnavailable(f"backend={options.backend!r} cannot be used: {both}")
    if arrays == "cupy" and availability("cuda") is not None:
        raise BackendUnavailable(f"no backend for CuPy arrays: {reasons}")
    named = f"backend={options.backend!r} cannot" if options.backend else "no backend can"
    raise BackendUnsupported(f"{named} compute {problem}: {reasons}")


def arrays_for(options: Options) -> str:
    """Kind of array that stands for bare shapes: the named backend's own, NumPy otherwise."""
    return next((e.arrays for e in TABLE if e.name == options.backend), "numpy")


def rejections(problem: ConvProblem, options: Options, arrays: str) -> list[tuple[str, str | None]]:
    """Every backend with its reason for refusing `problem`, or None where it could serve."""
    return [(e.name, _refusal(e, problem, options, arrays)) for e in TABLE]


_warned = False


def _warn_if_native_is_missing(rejected: list[tuple[str, str]]) -> None:
    """Say once that the fast CPU backend is missing; a named backend is never warned about."""
    global _warned
    reason = availability("native") if "native" in dict(rejected) else None
    if _warned or reason is None:
        return
    _warned = True
    warnings.warn(
        f"fastconv runs without its native backend: {reason}",
        RuntimeWarning,
        stacklevel=_frames_inside() + 1,
    )


def _frames_inside() -> int:
    """Count frames from the caller's on that belong to this package: the next is the user's."""
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] == __package__:
        frame, count = frame.f_back, count + 1
    return count
