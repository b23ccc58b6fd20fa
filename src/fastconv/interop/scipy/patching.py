"""SciPy's functions replaced where SciPy, and whoever imported them, looks them up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from . import ndimage, signal  # noqa: F401  (they fill the table of drop-ins)
from .drop_in import STANDS_FOR, Calls, Function, counting

_lock = threading.RLock()
#: For each place that is patched: the function that was there, and how many `patch` blocks hold it.
_held: dict[tuple[str, str], tuple[Function, int]] = {}


def _places(packages: tuple[str, ...]) -> list[tuple[ModuleType, str]]:
    """Find the modules that hold one of SciPy's functions or its drop-in, and under which name."""
    places = []
    drop_ins = set(STANDS_FOR.values())
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType) or not any(
            name == package or name.startswith(package + ".") for package in packages
        ):
            continue
        for attribute, value in list(vars(module).items()):
            if callable(value) and _is_one(value, drop_ins):
                places.append((module, attribute))
    return places


def _is_one(value: Function, drop_ins: set[Function]) -> bool:
    try:
        return value in STANDS_FOR or value in drop_ins
    except TypeError:  # not hashable
        return False


@contextmanager
def patch(*modules: ModuleType | str) -> Iterator[Calls]:
    """Let fastconv compute SciPy's convolutions and correlations until the block ends.

    Parameters
    ----------
    *modules : module or str
        Packages beside SciPy that imported a function by its name (``from scipy.signal import
        convolve2d``) before: theirs is replaced as well, and in what they contain.

    Yields
    ------
    Calls
        ``computed`` counts the calls that fastconv computed, by function; ``handed`` those that
        went to SciPy's own, by function and reason.

    Notes
    -----
    All threads see the patch. Blocks may nest and overlap; the last one to end restores.
    SciPy's own callers are served, too: `gaussian_filter`, `sobel`, `laplace`, `savgol_filter`,
    `wiener` and others filter with these functions.

    Examples
    --------
    >>> import numpy as np, scipy.signal
    >>> import fastconv.interop.scipy
    >>> with fastconv.interop.scipy.patch() as calls:
    ...     y = scipy.signal.convolve2d(np.ones((8, 8)), np.ones((3, 3)))
    >>> calls
    signal.convolve2d: 1 by fastconv
    """
    names = tuple(m if isinstance(m, str) else m.__name__ for m in modules)
    with _lock:
        places = _install(("scipy", *names))
    try:
        with counting() as calls:
            yield calls
    finally:
        with _lock:
            _restore(places)


def _install(packages: tuple[str, ...]) -> list[tuple[str, str]]:
    held = []
    for module, attribute in _places(packages):
        place = (module.__name__, attribute)
        there = getattr(module, attribute)
        if place in _held:
            own, blocks = _held[place]
            _held[place] = own, blocks + 1
        elif there in STANDS_FOR:
            _held[place] = there, 1
            setattr(module, attribute, STANDS_FOR[there])
        else:
            continue  # a drop-in that somebody imported as such
        held.append(place)
    return held


def _restore(places: list[tuple[str, str]]) -> None:
    for place in places:
        own, blocks = _held[place]
        if blocks > 1:
            _held[place] = own, blocks - 1
            continue
        del _held[place]
        module = sys.modules.get(place[0])
        # whoever replaced it in the meantime keeps what is there
        if module is not None and getattr(module, place[1], None) is STANDS_FOR[own]:
            setattr(module, place[1], own)
