"""What the adapter for dask adds to a block, and to a graph."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

import fastconv
from fastconv.interop import dask as adapter

from .row import Row


def rows() -> list[Row]:
    """A task alone; a chunk through dask's scheduler; chunks with borders, beside `map_overlap`."""
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
    many = da.from_array(np.tile(x, (1, 4, 4)), chunks=(8, 32, 32))

    def of_many() -> Any:
        return adapter.conv2d(many, w, pad=1).compute(scheduler="sync")

    def overlapping() -> Any:
        blocks = many.map_overlap(bare, depth=(0, 1, 1), boundary=0, trim=False, meta=x[:0, :0, :0])
        return blocks.compute(scheduler="sync")

    return [
        Row("a task, 8 x 32 x 32", lambda: adapter._compute(work, (0, 0, 0), [[x]]),
            lambda: bare(x)),
        Row("one chunk, by the scheduler", lambda: ours.compute(scheduler="sync"),
            lambda: theirs.compute(scheduler="sync")),
        Row("16 chunks with borders; bare: map_overlap", of_many, overlapping),
    ]  # fmt: skip
