"""The machine's two roofs: multiply-add peak and memory bandwidth."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np

from fastconv.peak import measure_peak

#: Bytes of each of the two arrays of the copy: beyond any cache.
COPIED = 256 << 20


def versions() -> dict[str, str]:
    """Nothing beside what the others say."""
    return {}


def peak(threads: int, dtype: str, seconds: float) -> dict[str, float | None]:
    """GFLOP/s of the register-only multiply-add loop."""
    return {"gflops": measure_peak(threads, dtype, seconds)}


def bandwidth(threads: int, rounds: int = 7) -> dict[str, float]:
    """GB/s read plus written by a copy of large arrays, every thread its part; median."""
    source = np.ones(COPIED // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        rates = []
        for _ in range(rounds):
            start = time.perf_counter()
            list(pool.map(lambda part: np.copyto(*part), parts))
            rates.append(2 * source.nbytes / (time.perf_counter() - start) / 1e9)
    return {"gbytes": median(rates)}
