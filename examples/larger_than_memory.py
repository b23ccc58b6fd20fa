"""Convolve an image that no worker could hold, in a Zarr store, while one worker is killed.

    python examples/larger_than_memory.py                                 # 6 GB, workers of 1 GB
    python examples/larger_than_memory.py --megabytes 400 --limit 320MB --chunk 512

The image is ``x[i, j] = p[i] + q[j]`` of random integers p and q, so that its convolution is
``P[i] + Q[j]``, of p and q alone and exact: every pixel of the result is compared with it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr
from dask.distributed import Client, LocalCluster

from fastconv.interop.dask import conv2d

Vector = np.ndarray[Any, Any]
Box = tuple[slice, slice]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=6000, help="size of the image")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--limit", default="1GB", help="memory of a worker")
    parser.add_argument("--chunk", type=int, default=2048, help="pixels along a side of a chunk")
    parser.add_argument("--directory", help="where the two Zarr stores go; default: temporary")
    parser.add_argument("--spare", action="store_true", help="kill no worker")
    return parser.parse_args(arguments)


def line_sums(line: Vector, weights: Vector) -> Vector:
    """Sum weighted neighbours in a line that is reflected at its ends: in integers, by shifts."""
    reach = len(weights) // 2
    padded = np.pad(line, reach, mode="reflect")
    shifts = (padded[i : i + len(line)] * weight for i, weight in enumerate(weights))
    return np.sum(list(shifts), axis=0)


def peaks(pids: set[int], found: dict[int, int]) -> None:
    """Note the most memory that each process has held so far, in bytes."""
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text("ascii")
        except OSError:
            continue
        lines = (line.split() for line in status.splitlines())
        held = {words[0]: words[1] for words in lines if words and words[0] == "VmHWM:"}
        if held:
            found[pid] = max(found.get(pid, 0), int(held["VmHWM:"]) * 1024)


def pids_of(cluster: LocalCluster) -> set[int]:
    """Processes of the workers that are there now."""
    return {nanny.pid for nanny in cluster.workers.values() if nanny.pid}


def written(store: Path) -> int:
    """Count the chunks of the result that are on the disk."""
    return sum(1 for path in (store / "c").glob("*/*") if "." not in path.name)


def convolve(
    cluster: LocalCluster, client: Client, y: Any, store: Path, spare: bool
) -> dict[int, int]:
    """Write y, kill a worker half-way, and return the most memory that each worker held."""
    found: dict[int, int] = {}
    target = zarr.create_array(store, shape=y.shape, chunks=y.chunksize, dtype=y.dtype)
    future = client.compute(da.store(y, target, lock=False, compute=False))
    half = y.npartitions // 2
    while not future.done():
        peaks(pids_of(cluster), found)
        time.sleep(0.1)
        if not spare and written(store) >= half:
            spare, victim = True, min(pids_of(cluster))
            os.kill(victim, signal.SIGKILL)
            print(f"killed worker {victim} after {written(store)} of {y.npartitions} chunks")
    future.result()
    peaks(pids_of(cluster), found)
    return found


def boxes(rows: Vector, columns: Vector, chunk: int) -> Iterator[tuple[Box, Vector]]:
    """Go through the chunks of an image ``rows[i] + columns[j]``: where, and what they hold."""
    for top in range(0, len(rows), chunk):
        for left in range(0, len(columns), chunk):
            here = slice(top, top + chunk), slice(left, left + chunk)
            yield here, rows[here[0], None] + columns[here[1]]


def make(store: Path, rows: Vector, columns: Vector, chunk: int) -> None:
    """Write an image."""
    shape = len(rows), len(columns)
    x = zarr.create_array(store, shape=shape, chunks=(chunk, chunk), dtype="float32")
    for here, values in boxes(rows, columns, chunk):
        x[here] = values


def wrong(store: Path, rows: Vector, columns: Vector, chunk: int) -> int:
    """Count the pixels that are not what they must be."""
    y = zarr.open_array(store, mode="r")
    return sum(int((y[here] != values).sum()) for here, values in boxes(rows, columns, chunk))


def main(arguments: list[str] | None = None) -> int:
    """Make the image, convolve it and compare; returns 1 where a pixel is wrong."""
    given = parse(arguments)
    side = int((given.megabytes * 1e6 / 4) ** 0.5)
    rng = np.random.default_rng(0)
    p, q = rng.integers(0, 100, (2, side))
    w = rng.integers(-5, 6, (7, 7))
    truth = line_sums(p, w.sum(1)), line_sums(q, w.sum(0))
    with tempfile.TemporaryDirectory(dir=given.directory, ignore_cleanup_errors=True) as folder:
        image, result = Path(folder, "x.zarr"), Path(folder, "y.zarr")
        make(image, p, q, given.chunk)
        options = {"temporary-directory": folder, "distributed.admin.tick.limit": "60s"}
        with (
            dask.config.set(options),
            LocalCluster(
                n_workers=given.workers, threads_per_worker=1, memory_limit=given.limit,
                dashboard_address=None, silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            x = da.from_zarr(image)
            print(f"x: {x.nbytes / 1e9:.2f} GB in {x.npartitions} chunks; {given.limit} a worker")
            start = time.perf_counter()
            y = conv2d(x, w.astype("f4"), pad="same", pad_mode="reflect")
            found = convolve(cluster, client, y, result, given.spare)
            print(f"convolved and stored in {time.perf_counter() - start:.1f} s")
        for pid, peak in sorted(found.items()):
            print(f"worker {pid}: {peak / 1e6:.0f} MB at most")
        count = wrong(result, *truth, given.chunk)
    print(f"{count} of {side * side} pixels are wrong")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
