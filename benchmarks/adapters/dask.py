"""What the adapter for dask adds to a block, and to what dask takes itself."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

import fastconv
from fastconv.interop import dask as adapter

from .row import Row


def rows() -> list[Row]:
    """A task alone; and a chunk through dask's scheduler, beside `map_blocks` of our own call."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((8, 32, 32)).astype("f4"), rng.standard_normal((8, 8, 3, 3))
    w = w.astype("f4")

    def bare(block: Any) -> Any:
        return fastconv.conv2d(block, w, threads=1)

    chunk = da.from_array(x, chunks=-1)
    ours = adapter.conv2d(chunk, w)
    layer = dict(ours.dask.layers[ours.name])
    work = next(value for value in layer.values() if isinstance(value, adapter.Work))
    theirs = chunk.map_blocks(bare, chunks=ours.chunks, meta=x[:0, :0, :0])
    return [
        Row("a task, 8 x 32 x 32", lambda: adapter._compute(work, (0, 0, 0), [[x]]),
            lambda: bare(x)),
        Row("one chunk, by the scheduler", lambda: ours.compute(scheduler="sync"),
            lambda: theirs.compute(scheduler="sync")),
    ]  # fmt: skip
