"""Measure what the cost model of large kernels by transforms knows of a machine.

``python -m benchmarks.calibrate`` prints the constants of `fastconv.backends.native.fft` beside
what they are here, on one core. They only have to say when transforms are faster than the direct
algorithms: a factor of 1.5 matters, a tenth does not.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import fastconv
from benchmarks.measure import seconds
from benchmarks.tables import Table, plain
from fastconv.backends.native import fft
from fastconv.dtypes import promote
from fastconv.options import current

DTYPES = ("float32", "float64")

#: Sides of the blocks that are timed: over them the cost of a pixel and of a call are fitted.
SIDES = (64, 96, 128, 192, 256, 384)


def _line(times: list[float]) -> tuple[float, float]:
    """Nanoseconds of a pixel, and of what does not depend on their number: least relative error."""
    inverse = 1 / np.array(times)
    terms = np.stack([np.square(SIDES) * inverse, inverse], axis=1)
    (pixel, call), *_ = np.linalg.lstsq(terms, np.ones(len(times)), rcond=None)
    return float(pixel), max(0.0, float(call))


def transform(module: Any, dtype: str, budget: float) -> float:
    """Nanoseconds of a pixel of a transform in either direction."""
    times = []
    for side in SIDES:
        block = np.ones((1, side, side), dtype)
        spectrum = module.rfft2(block)
        there = seconds(partial(module.rfft2, block), 3, budget)
        back = seconds(partial(module.irfft2, spectrum, s=(side, side)), 3, budget)
        times.append((there + back) / 2 * 1e9)
    return _line(times)[0]


def lines(module: Any, dtype: str, budget: float) -> float:
    """Nanoseconds of a pixel of a transform of several lines in either direction."""
    block = np.ones((fft.LINES[0], fft.LENGTHS[3]), dtype)
    spectra = module.rfft(block)
    there = seconds(partial(module.rfft, block), 3, budget)
    back = seconds(partial(module.irfft, spectra, block.shape[1]), 3, budget)
    return (there + back) / 2 * 1e9 / block.size


def multiply(dtype: str, budget: float) -> float:
    """Nanoseconds a pixel of multiplying two spectra and adding the product to a third."""
    side = SIDES[-1]
    kind = np.result_type(dtype, np.complex64)
    a, b, total = (np.ones((side, side // 2 + 1), kind) for _ in range(3))

    def step() -> None:
        nonlocal total
        total += a * b

    return seconds(step, 3, budget) * 1e9 / side**2


def whole_block(dtype: str, budget: float) -> tuple[float, float]:
    """Nanoseconds of a pixel, and of a call, of one block: gather, transform, multiply, store."""
    times, taps = [], 31
    w, options = np.ones((1, 1, taps, taps), dtype), replace(current(), threads=1)
    for side in SIDES:
        x = np.ones((1, 1, side, side), dtype)
        promotion = promote(x.dtype, w.dtype)
        problem = fastconv.ConvProblem.describe(x.shape, w.shape, promotion=promotion)
        way = fft.Fft(problem, options, w, keep=False)
        way._blocking = fft.Blocking((side, side), (problem.p, problem.q), 1)
        way._kept = [way._spectra(problem, options, w, slice(0, 1))]
        out = np.empty((1, 1, problem.p, problem.q), dtype)
        times.append(seconds(partial(way.run, problem, options, x, w, None, out), 3, budget) * 1e9)
    return _line(times)


def multiply_add(dtype: str, budget: float) -> float:
    """Nanoseconds of a product of the direct algorithm that transforms compete with."""
    x, w = np.ones((1, 1, 512, 512), dtype), np.ones((1, 1, 31, 31), dtype)
    call = partial(fastconv.conv2d, x, w, pad=15, backend="native", precision="strict", threads=1)
    call()
    return seconds(call, 3, budget) * 1e9 / fastconv.conv_cost(x, w, pad=15).macs


def measured(budget: float) -> dict[str, dict[str, float]]:
    """Return every constant's name with what it is here, by dtype; best of `budget` seconds."""
    found: dict[str, dict[str, float]] = {}
    # glibc keeps memory for the next block once as much has been freed: by images, in a program
    # that has any
    np.empty(16 << 20, np.uint8)
    for dtype in DTYPES:
        pixel, call = whole_block(dtype, budget)
        both = {"SLOW_TRANSFORM": transform(np.fft, dtype, budget)}
        both["SLOW_LINE_TRANSFORM"] = lines(np.fft, dtype, budget)
        if importlib.util.find_spec("scipy") is not None:
            module = importlib.import_module("scipy.fft")
            both["TRANSFORM"] = transform(module, dtype, budget)
            both["LINE_TRANSFORM"] = lines(module, dtype, budget)
        product = multiply(dtype, budget)
        # a block is transformed there and back, gathered and stored, and multiplied once
        move = (pixel - product) / 2 - both.get("TRANSFORM", both["SLOW_TRANSFORM"])
        both |= {"MULTIPLY": product, "MOVE": max(0.0, move), "CALL": call / 2}
        both["MULTIPLY_ADD"] = multiply_add(dtype, budget)
        for name, value in both.items():
            found.setdefault(name, {})[dtype] = value
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
