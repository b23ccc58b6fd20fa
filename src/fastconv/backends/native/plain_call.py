"""One call of the extension by plain numbers: what csrc/python/plain_calls.hpp reads."""

from __future__ import annotations

from collections.abc import Sequence

from ...options import Options
from ...problem import ConvProblem
from . import fields

_COMPUTED = ("y", "x", "w")


def numbers(
    problem: ConvProblem, options: Options, views: Sequence[tuple[int, Sequence[int]]]
) -> list[int]:
    """Describe a call that `fastconv.backends.native.is_one_call`.

    Views are those of both operands and of the result: an offset and the strides of the logical
    axes, (N, C, [D,] [H,] W), in elements.
    """
    found = [_COMPUTED.index(problem.result), *fields(problem).values()]
    found += [options.threads, options.workspace, options.precision == "fast"]
    for offset, (outer, channels, *image) in views:
        plane, height, width = (0,) * (3 - len(image)) + tuple(image)
        found += [offset, outer, channels, height, width, plane]
    return [int(number) for number in found]
