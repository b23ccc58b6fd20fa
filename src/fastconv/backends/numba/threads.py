"""Numba's threads: how many, one launch at a time where the layer demands it, none after a fork.

- The workqueue layer aborts the process when two Python threads launch at once, so launches take
  turns unless the layer is known to allow it (OpenMP, TBB). Parallel kernels of others, launched
  meanwhile, are out of reach: a process that has them needs one of those layers.
- GNU OpenMP terminates a forked child of a process that has used it, so a child whose parent had
  started Numba's threads computes on its own thread, with the same bits.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numba

CONCURRENT_LAYERS = ("omp", "tbb")

_turn = threading.Lock()
_forked = False
_broken = False


def _layer() -> str | None:
    """Return the threading layer that Numba has started in this process or a parent of it."""
    try:
        return str(numba.threading_layer())
    except ValueError:  # not started yet
        return None


def _after_fork() -> None:
    """Forget a lock that another thread of the parent may hold; threads did not survive."""
    global _turn, _forked
    _turn = threading.Lock()
    _forked = _forked or _layer() is not None


def _started_before_fork() -> bool:
    """Whether this process inherited Numba's state, by a fork before this module was imported."""
    if _layer() is None or not sys.platform.startswith("linux"):
        return False
    try:
        return len(os.listdir("/proc/self/task")) < int(numba.config.NUMBA_NUM_THREADS)
    except OSError:
        return False


if hasattr(os, "register_at_fork"):
    _forked = _started_before_fork()
    os.register_at_fork(after_in_child=_after_fork)


def usable(threads: int) -> int:
    """Threads that a launch may use: at most what Numba launches, 1 where none can."""
    return 1 if _forked or _broken else max(1, min(threads, int(numba.config.NUMBA_NUM_THREADS)))


@contextlib.contextmanager
def _masked(threads: int) -> Iterator[None]:
    """Use `threads` of Numba's threads; the caller's own setting is restored."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _start() -> None:
    """Have Numba start its threads, and set OpenMP's number of them: call it on another thread.

    OpenMP keeps that number by thread. On the caller's it would be that of PyTorch and all others
    that share the library, whatever ``torch.set_num_threads`` had said.
    """
    # a version of TBB that Numba passes over is no concern of whoever convolves
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numba.get_num_threads()


def start() -> bool:
    """Start Numba's threads unless they are; say once why where that fails, and return False."""
    global _broken
    if _layer() is not None:
        return True
    with _turn:
        if _broken:
            return False
        try:
            with ThreadPoolExecutor(1) as other:
                other.submit(_start).result()
            return True
        except ValueError as error:
            _broken, reason = True, " ".join(str(error).split())
    warnings.warn(
        f"fastconv's Numba backend computes on one thread: {reason} (NUMBA_THREADING_LAYER?)",
        RuntimeWarning,
        stacklevel=5,
    )
    return False


def launch(threads: int, parallel: Callable[[], None]) -> None:
    """Run a parallel kernel on `threads` threads, which have been started, when its turn comes."""
    turn = contextlib.nullcontext() if _layer() in CONCURRENT_LAYERS else _turn
    with turn, _masked(threads):
        parallel()
