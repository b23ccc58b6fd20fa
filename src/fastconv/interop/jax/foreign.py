"""What csrc/jax/ffi.cpp reads: a problem and options of fastconv.h, and where the arrays are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...backends import native
from ...options import PRECISIONS, Options
from ...problem import ConvProblem
from ...sizes import Result
from .convolution import OPERANDS, View

_RESULTS: tuple[Result, ...] = ("y", "x", "w")
_AXES, _RANK = 3, 5


def numbers(problem: ConvProblem, options: Options, views: Mapping[Result, View]) -> list[int]:
    """Describe a call that is `fastconv.backends.native.is_one_call`, in the order of the structs.

    Views are those of x, w and y.
    """
    known = native.fields(problem)
    codes = ("element", "channels_last", "pad_mode", "activation", "n", "c", "k", "groups")
    found = [_RESULTS.index(problem.result), problem.spatial, *(known[name] for name in codes)]
    before, after = zip(*problem.pads, strict=True)
    for along in (
        problem.x_image, problem.kernel, problem.strides, problem.dilations, before, after
    ):  # fmt: skip
        found += _filled(along, _AXES)
    for array in ("x", "w", "y"):
        found += _filled(views[array].strides, _RANK)
    found += [options.threads, PRECISIONS.index(options.precision), options.workspace]
    found += [views[array].offset for array in (*OPERANDS[problem.result], problem.result)]
    return [int(number) for number in found]


def _filled(values: Iterable[int], count: int) -> list[int]:
    """Return values, and zeros behind them where nothing is read."""
    given = list(values)
    return given + [0] * (count - len(given))
