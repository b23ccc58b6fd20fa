"""Functions in SciPy's place: computed by fastconv where it serves, by SciPy's own elsewhere."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...errors import BackendUnavailable, FastconvError

Function = Callable[..., Any]


class Calls:
    """What became of the calls of SciPy's functions.

    Attributes
    ----------
    computed : Counter of str
        Calls that fastconv computed, by function: ``"signal.convolve2d"``, ``"ndimage.correlate"``.
    handed : Counter of (str, str)
        Calls that went to SciPy's own function, by function and reason.
    """

    def __init__(self) -> None:
        self.computed: Counter[str] = Counter()
        self.handed: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        """One line a function and reason."""
        lines = [f"{name}: {n} by fastconv" for name, n in sorted(self.computed.items())]
        lines += [f"{name}: {n} by SciPy, {why}" for (name, why), n in sorted(self.handed.items())]
        return "\n".join(lines) or "no calls"


_counting: tuple[Calls, ...] = ()
_lock = threading.Lock()


@contextmanager
def counting() -> Iterator[Calls]:
    """Count the calls made in all threads until the block ends; blocks may nest."""
    global _counting
    calls = Calls()
    with _lock:
        _counting = (*_counting, calls)
    try:
        yield calls
    finally:
        with _lock:
            _counting = tuple(c for c in _counting if c is not calls)


def _count(name: str, reason: str | None) -> None:
    with _lock:
        for calls in _counting:
            if reason is None:
                calls.computed[name] += 1
            else:
                calls.handed[name, reason] += 1


#: Every drop-in, by the function of SciPy that it stands for.
STANDS_FOR: dict[Function, Function] = {}


def stands_for(own: Function, name: str) -> Callable[[Function], Function]:
    """Make a drop-in of a function that returns a result, or the reason why SciPy is to be asked.

    The reason is a str. What SciPy would refuse is such a case: SciPy words its errors itself.
    """

    def decorate(compute: Function) -> Function:
        @functools.wraps(compute)
        def function(*args: Any, **kwargs: Any) -> Any:
            try:
                result = compute(*args, **kwargs)
            except BackendUnavailable:
                raise
            except FastconvError as error:
                result = str(error)
            if type(result) is not str:
                if _counting:
                    _count(name, None)
                return result
            if _counting:
                _count(name, result)
            return own(*args, **kwargs)

        STANDS_FOR[own] = function
        # what SciPy's own callers look up, where SCIPY_ARRAY_API wraps what others do
        STANDS_FOR[inspect.unwrap(own)] = function
        return function

    return decorate


def array_of(value: Any) -> Any:
    """Return an array that fastconv may take as SciPy would; None for anything else."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, int | float | complex | list | tuple):
        return np.asarray(value)
    return None
