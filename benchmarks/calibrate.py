"""Measure what the cost model of large kernels by transforms knows of a machine.

``python -m benchmarks.calibrate`` prints the constants of `fastconv.backends.native.fft` beside
what they are here, on one core. They only have to say when transforms are faster than the direct
algorithms: a factor of 1.5 matters, a tenth does not.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from functools import partial
from typing import Any

import numpy as np

import fastconv
from benchmarks.measure import Array, seconds
from benchmarks.tables import Table, plain
from fastconv.backends.native import fft

DTYPES = ("float32", "float64")

#: Sides of the blocks that are transformed: their times give the cost of a pixel and of a call.
SIDES = (64, 512)


def transform(module: Any, dtype: str, budget: float) -> tuple[float, float]:
    """Nanoseconds of a pixel, and of a call, of a transform in either direction."""
    times = []
    for side in SIDES:
        block = np.ones((1, side, side), dtype)
        spectrum = module.rfft2(block)
        there = seconds(partial(module.rfft2, block), 3, budget)
        back = seconds(partial(module.irfft2, spectrum, s=(side, side)), 3, budget)
        times.append((there + back) / 2 * 1e9)
    small, large = (side**2 for side in SIDES)
    slope = (times[1] - times[0]) / (large - small)
    return slope, max(0.0, times[0] - slope * small)


def multiply(dtype: str, budget: float) -> float:
    """Nanoseconds a pixel of multiplying two spectra and adding the product to a third."""
    side = SIDES[1]
    kind = np.result_type(dtype, np.complex64)
    a, b, total = (np.ones((side, side // 2 + 1), kind) for _ in range(3))

    def step() -> None:
        nonlocal total
        total += a * b

    return seconds(step, 3, budget) * 1e9 / side**2


def move(dtype: str, budget: float) -> float:
    """Nanoseconds a pixel of gathering a block of an image, or of storing one of a result."""
    side = SIDES[1]
    image, out = np.ones((2 * side, 2 * side), dtype), np.empty((2 * side, 2 * side), dtype)

    def gather() -> Array:
        block = np.zeros((side, side), dtype)
        block[...] = image[:side, :side]
        return block

    def store() -> None:
        out[:side, :side] = image[side:, side:]

    return (seconds(gather, 3, budget) + seconds(store, 3, budget)) / 2 * 1e9 / side**2


def multiply_add(dtype: str, budget: float) -> float:
    """Nanoseconds of a product of the direct algorithm that transforms compete with."""
    x, w = np.ones((1, 1, 512, 512), dtype), np.ones((1, 1, 31, 31), dtype)
    call = partial(fastconv.conv2d, x, w, pad=15, backend="native", precision="strict", threads=1)
    call()
    return seconds(call, 3, budget) * 1e9 / fastconv.conv_cost(x, w, pad=15).macs


def measured(budget: float) -> dict[str, dict[str, float]]:
    """Return every constant's name with what it is here, by dtype; best of `budget` seconds."""
    found: dict[str, dict[str, float]] = {}
    for dtype in DTYPES:
        if importlib.util.find_spec("scipy") is not None:
            module = importlib.import_module("scipy.fft")
            pixel, call = transform(module, dtype, budget)
            found.setdefault("TRANSFORM", {})[dtype] = pixel
            found.setdefault("CALL", {})[dtype] = call
        found.setdefault("SLOW_TRANSFORM", {})[dtype] = transform(np.fft, dtype, budget)[0]
        for name, function in (("MULTIPLY", multiply), ("MOVE", move)):
            found.setdefault(name, {})[dtype] = function(dtype, budget)
        found.setdefault("MULTIPLY_ADD", {})[dtype] = multiply_add(dtype, budget)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate", description=__doc__)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds for each figure")
    budget = parser.parse_args(arguments).budget
    table = Table(("constant", "dtype", "fft.py", "here"), "nanoseconds, one core")
    for name, by_dtype in measured(budget).items():
        for dtype, here in by_dtype.items():
            held = getattr(fft, name)
            held = held[dtype] if isinstance(held, dict) else held
            table.add(name, dtype, f"{held:g}", f"{here:.3g}")
    print(plain(table))


if __name__ == "__main__":
    main()
