"""What a way of splitting a problem has: the modules beside this one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Protocol

from ..problem import ConvProblem

#: Which part of the second operand a problem reads: equal keys of one problem, equal weights.
Key = tuple[Hashable, ...]


class Run(Protocol):
    """Computes a part of a problem from logical arrays.

    b is what `key` says, or a function that makes it: a plan that has packed it asks no more.
    """

    def __call__(self, part: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key) -> None:
        """Compute `part` into `out`."""


class Way(Protocol):
    """One way of splitting problems into smaller ones."""

    def parts(self, problem: ConvProblem) -> Iterator[ConvProblem]:
        """Return the problems one step below, not all of which a backend need compute."""

    def run(
        self, inner: Run, problem: ConvProblem, a: Any, b: Any, bias: Any, out: Any, key: Key
    ) -> None:
        """Compute `problem` into `out`, its parts by `inner`."""
