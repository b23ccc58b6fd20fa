"""A small convolution on every backend that works here, held against the definition."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dispatch
from ..accuracy import check
from ..options import Options
from ..problem import ConvProblem


def run_backend(name: str) -> str | None:
    """Compute one problem with a border, groups, strides, bias and activation, on two threads.

    It is large enough that backends start their threads, which may be what is broken. Options
    come from here and not from the environment, whose faults are findings of their own.

    Returns
    -------
    str or None
        What went wrong; None where the result is within its bound.
    """
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 8, 45, 32)).astype(np.float32)
    w = generator.standard_normal((16, 4, 3, 3)).astype(np.float32)
    bias = generator.standard_normal(16).astype(np.float32)
    problem = ConvProblem.describe(
        x.shape, w.shape, stride=(2, 1), pad=1, groups=2, pad_mode="reflect",
        bias_shape=bias.shape, activation="relu",
    )  # fmt: skip
    arrays = next(e.arrays for e in dispatch.TABLE if e.name == name)
    try:
        xp: Any = np if arrays == "numpy" else importlib.import_module(arrays)
        out = xp.full(problem.out_shape, np.nan, np.float32)
        dispatch.load(name).run(
            problem, Options(threads=2), xp.asarray(x), xp.asarray(w), xp.asarray(bias), out
        )
        got = out if xp is np else xp.asnumpy(out)
    except Exception as error:  # whatever a broken installation raises is the finding
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    verdict = check(problem, x, w, bias, got)
    return None if verdict.ok else f"wrong result, error {verdict.ratio:.3g} times its bound"


def run_all(starting: Callable[[str], None]) -> dict[str, str | None]:
    """Test every available backend; `starting` is told each, since the first call may compile."""
    results = {}
    for entry in dispatch.TABLE:
        if dispatch.availability(entry.name) is None:
            starting(entry.name)
            results[entry.name] = run_backend(entry.name)
    return results
