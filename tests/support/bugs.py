"""Planted bugs: a backend's ``run`` gone wrong, in every way the judges must notice."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastconv.activations import ACTIVATIONS
from fastconv.backends import reference
from fastconv.problem import ConvProblem

Array = np.ndarray[Any, Any]
Run = Callable[..., None]

#: Every bug, as a parameter of a test: the `run`, the judges that must notice, what one says.
BUGS: list[Any] = []


def bug(*caught_by: str, text: str = "") -> Callable[[Run], Run]:
    """Register a bug with the judges that must notice it, and what one of them says."""

    def register(run: Run) -> Run:
        BUGS.append(pytest.param(run, caught_by, text, id=run.__name__.replace("_", " ")))
        return run

    return register


def correct(problem: ConvProblem, x: Array, w: Array, bias: Array | None) -> Array:
    """Compute what the bugs start from."""
    y = np.empty((problem.n, problem.k, problem.p, problem.q), problem.out_dtype)
    reference.run(problem, None, x, w, bias, y)  # type: ignore[arg-type]
    return y


def summed(problem: ConvProblem, x: Array, w: Array, chunks: int) -> Array:
    """Sum `chunks` parts of the channels apart, each and all in the accumulator's precision."""
    edges = np.linspace(0, problem.c, chunks + 1).astype(int)
    total = np.zeros((problem.n, problem.k, problem.p, problem.q), problem.accumulator)
    for begin, end in itertools.pairwise(edges):
        part = dataclasses.replace(problem, c=int(end - begin), bias=False, activation=None)
        if end > begin:
            wide = reference.accumulate(part, x[:, begin:end], w[:, begin:end], np.dtype("f8"))
            total += wide.astype(problem.accumulator)
    return total


@bug("accuracy", "integers", "float16")
def drops_a_tap(problem, options, x, w, bias, out) -> None:
    w = w.copy()
    w[:, :, -1, -1] = 0
    out[...] = correct(problem, x, w, bias)


@bug("accuracy", "integers", text="times the bound")
def skips_the_tail_column(problem, options, x, w, bias, out) -> None:
    whole = problem.q // 4 * 4
    out[..., :whole] = correct(problem, x, w, bias)[..., :whole]


@bug("accuracy", "float16", text="inf times the bound")
def leaves_one_output_unwritten(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    y[-1, -1, -1, 0] = out[-1, -1, -1, 0]
    out[...] = y


@bug("float16")
def accumulates_in_float16(problem, options, x, w, bias, out) -> None:
    total = np.zeros(out.shape, problem.out_dtype)
    for c in range(problem.c // problem.groups):
        part = dataclasses.replace(problem, c=problem.groups, bias=False, activation=None)
        channel = x[:, c :: problem.c // problem.groups]
        total += correct(part, channel, w[:, c : c + 1], None)
    if bias is not None:
        total += bias[:, None, None]
    if problem.activation:
        total = ACTIVATIONS[problem.activation].function(total)
    out[...] = total


@bug("accuracy")
def computes_float64_in_float32(problem, options, x, w, bias, out) -> None:
    single = dataclasses.replace(problem, dtype="float32", out_dtype="float32")
    narrow = [None if a is None else a.astype("f4") for a in (x, w, bias)]
    out[...] = correct(single, *narrow)


@bug("determinism", text="threads")
def splits_the_reduction_between_threads(problem, options, x, w, bias, out) -> None:
    if problem.groups == 1 and problem.activation is None:
        y = summed(problem, x, w, options.threads)
        out[...] = y if bias is None else y + bias[:, None, None]
    else:
        out[...] = correct(problem, x, w, bias)


@bug("determinism", text="image 0 alone")
def sums_a_batch_in_another_order(problem, options, x, w, bias, out) -> None:
    if problem.groups == 1 and problem.activation is None:
        y = summed(problem, x, w, 1 if problem.n == 1 else 3)
        out[...] = y if bias is None else y + bias[:, None, None]
    else:
        out[...] = correct(problem, x, w, bias)


@bug("determinism", text="offset by")
def sums_unaligned_data_in_another_order(problem, options, x, w, bias, out) -> None:
    if problem.groups == 1 and problem.activation is None:
        y = summed(problem, x, w, 1 + x.ctypes.data % 16 // 4)
        out[...] = y if bias is None else y + bias[:, None, None]
    else:
        out[...] = correct(problem, x, w, bias)


_calls = itertools.count()


@bug("determinism", text="elements differ")
def has_a_race(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if next(_calls) % 3 == 1:
        y[0, 0, 0, 0] = np.nextafter(y[0, 0, 0, 0], y.dtype.type(np.inf))
    out[...] = y


@bug("determinism", text="shuffled batch")
def uses_the_first_image_s_border(problem, options, x, w, bias, out) -> None:
    out[...] = correct(problem, x, w, bias)
    if problem.n > 1:
        out[-1, :, 0] = np.nextafter(out[-1, :, 0], out.dtype.type(0))


@bug("accuracy", "integers")
def swaps_vertical_and_horizontal_stride(problem, options, x, w, bias, out) -> None:
    swapped = dataclasses.replace(problem, stride=problem.stride[::-1])
    y = correct(swapped, x, w, bias)
    out[...] = 0
    rows, columns = min(out.shape[2], y.shape[2]), min(out.shape[3], y.shape[3])
    out[:, :, :rows, :columns] = y[:, :, :rows, :columns]


@bug("accuracy", "integers")
def forgets_the_bias_of_the_last_channel(problem, options, x, w, bias, out) -> None:
    if bias is not None:
        bias = bias.copy()
        bias[-1] = 0
    out[...] = correct(problem, x, w, bias)


@bug("accuracy", "integers")
def ignores_dilation(problem, options, x, w, bias, out) -> None:
    y = correct(dataclasses.replace(problem, dilation=(1, 1)), x, w, bias)
    out[...] = y[:, :, : out.shape[2], : out.shape[3]]


@bug("accuracy", "integers")
def gives_every_group_the_first_group_s_channels(problem, options, x, w, bias, out) -> None:
    size = problem.c // problem.groups
    out[...] = correct(problem, np.tile(x[:, :size], (1, problem.groups, 1, 1)), w, bias)


@bug("accuracy", "integers")
def takes_reflect_for_symmetric(problem, options, x, w, bias, out) -> None:
    mode = "symmetric" if problem.pad_mode == "reflect" else problem.pad_mode
    out[...] = correct(dataclasses.replace(problem, pad_mode=mode), x, w, bias)


@bug("accuracy")
def activates_before_the_bias(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, None)
    out[...] = y if bias is None else y + bias[:, None, None] * np.float32(1 + 1e-5)


@bug("accuracy", "special_values")
def clears_subnormals_and_what_comes_near(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if y.dtype.kind == "f":
        y[np.abs(y) < np.finfo(y.dtype).tiny] = 0
        y[~np.isfinite(y)] = 0
    out[...] = y


@bug("accuracy", text="subnormal")
def flushes_subnormal_results(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if y.dtype == np.float32:
        y[np.abs(y) < np.finfo(y.dtype).tiny] = 0
    out[...] = y


@bug("accuracy")
def treats_subnormal_pixels_as_zeros(problem, options, x, w, bias, out) -> None:
    if x.dtype.kind == "f":
        x = np.where(np.abs(x) < np.finfo(x.dtype).tiny, 0, x)
    out[...] = correct(problem, x, w, bias)


@bug("special_values", text="NaN misplaced")
def skips_the_zero_border(problem, options, x, w, bias, out) -> None:
    """0 * inf is never summed: right for finite weights alone."""
    finite = np.where(np.isfinite(w), w, 0)
    lost = reference.accumulate(problem, np.ones_like(x), (w != finite) * 1.0, np.dtype("f8"))
    y = correct(problem, x, finite, bias)
    out[...] = np.where(lost > 0, np.inf, y)


@bug("special_values", text="misplaced")
def spoils_the_whole_tile_with_one_nan(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if y.dtype.kind == "f":
        y[:, :, :4, :4] += 0 * y[:, :, :4, :4].sum(dtype=y.dtype)
    out[...] = y


@bug("integers")
def saturates_instead_of_wrapping(problem, options, x, w, bias, out) -> None:
    if out.dtype.kind == "f":
        out[...] = correct(problem, x, w, bias)
        return
    wide = reference.accumulate(problem, x, w, np.dtype(np.longdouble))
    info = np.iinfo(out.dtype)
    out[...] = np.clip(wide, info.min // 2, info.max // 2).astype(out.dtype)


@bug("accuracy", text="wrote outside of out")
def writes_one_element_past_the_end(problem, options, x, w, bias, out) -> None:
    out[...] = correct(problem, x, w, bias)
    if out.flags.c_contiguous:
        ctypes.memset(out.ctypes.data + out.nbytes, 0, out.itemsize)


@bug("accuracy", text="an input was written to")
def works_in_place_on_its_input(problem, options, x, w, bias, out) -> None:
    out[...] = correct(problem, x, w, bias)
    x[...] = 0
