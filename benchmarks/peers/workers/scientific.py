"""SciPy's four ways to filter an image or a signal: ``signal`` direct and by FFT, ``ndimage``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
from scipy import ndimage, signal

from benchmarks.peers.task import Array, Task, operands

from . import Prepared
from .planes import planes, stacked

Filter = Callable[[Array, Array], Array]


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"scipy": scipy.__version__}


def _correlate(image: Array, kernel: Array) -> Array:
    y: Array = ndimage.correlate(image, kernel, mode="constant")
    return y


#: Correlations by their column's name; those of `signal` turn the kernel back.
FILTERS: dict[str, Filter] = {
    "convolve2d": lambda a, k: signal.convolve2d(a, k[::-1, ::-1], "same"),
    "ndimage": _correlate,
    "fftconvolve": lambda a, k: signal.fftconvolve(a, np.flip(k), "same"),
    "oaconvolve": lambda a, k: signal.oaconvolve(a, np.flip(k), "same"),
}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Filter every output plane; `threads` is for the FFTs, the rest runs on one."""
    x, w = operands(task)
    pairs = planes(task, x, w)
    function, convert = FILTERS[variant], task.dtype == "uint8"

    def call() -> list[Array]:
        with scipy.fft.set_workers(threads):
            return [function(a.astype(np.float32) if convert else a, k) for a, k in pairs]

    return Prepared(call, lambda got: stacked(task, got))
