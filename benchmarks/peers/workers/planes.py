"""Filters of libraries that know one plane, or one signal, and one kernel a call."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.task import Array, Task

from . import Unsupported


def planes(task: Task, x: Array, w: Array) -> list[tuple[Array, Array]]:
    """Pair every output plane's image with its kernel, images outermost.

    Raises
    ------
    Unsupported
        Sums over channels, strides, dilations, or another size than the image's.
    """
    same = task.stride == task.dilation == 1
    same = same and all(taps == 2 * task.pad + 1 for taps in task.kernel)
    if w.shape[1] != 1 or not same:
        raise Unsupported("filters planes alone: stride 1, zeros around, the image's own size")
    share = task.k // task.groups
    return [
        (np.ascontiguousarray(x[n, k // share]), np.ascontiguousarray(w[k, 0]))
        for n in range(task.n)
        for k in range(task.k)
    ]


def stacked(task: Task, got: list[Array]) -> Array:
    """Put the planes of `planes` together: (N, K, P, Q)."""
    return np.stack(got).reshape(task.n, task.k, *got[0].shape)
