"""One axis of a block: what of x it reads, and how its border is made of that. A leaf."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..borders import source_index
from ..geometry import Pair


@dataclass(frozen=True)
class Span:
    """Along one axis: outputs, and the stretch of x with its border that they are made of.

    Attributes
    ----------
    start, stop : int
        Outputs.
    low, high : int
        Positions on the axis of x, outside of it in the border.
    size : int
        Of the axis of x.
    mode : str
        What the border holds: a `pad_mode`.
    """

    start: int
    stop: int
    low: int
    high: int
    size: int
    mode: str

    @property
    def out(self) -> slice:
        """The outputs."""
        return slice(self.start, self.stop)

    @property
    def is_inside(self) -> bool:
        """Whether no border is needed."""
        return self.low >= 0 and self.high <= self.size

    @property
    def reads(self) -> tuple[slice, ...]:
        """What to read of the axis: stretches in ascending order, each pixel once.

        More than one where the border comes from elsewhere; none where all of it is zeros.
        """
        if self.mode == "constant" or self.is_inside:
            low, high = max(self.low, 0), min(self.high, self.size)
            return (slice(low, high),) if low < high else ()
        needed = np.unique(self._sources())
        breaks = np.flatnonzero(np.diff(needed) > 1) + 1
        parts = np.split(needed, breaks)
        return tuple(slice(int(part[0]), int(part[-1]) + 1) for part in parts)

    @property
    def taken(self) -> np.ndarray[Any, Any] | None:
        """Which of the pixels read, one stretch after another, make the block; None: all of them.

        A pixel of the border may stand at several places.
        """
        if self.mode == "constant" or self.is_inside:
            return None
        sources = self._sources()
        return np.searchsorted(np.unique(sources), sources)

    @property
    def pad(self) -> Pair:
        """Zeros before and after what was read, or taken of it."""
        if self.mode != "constant":
            return 0, 0
        if not self.reads:  # one pixel of zeros stands for what is read
            return self.high - self.low - 1, 0
        return max(-self.low, 0), max(self.high - self.size, 0)

    @property
    def length(self) -> int:
        """Pixels of the block without zeros around it."""
        return self.high - self.low - sum(self.pad)

    def _sources(self) -> np.ndarray[Any, Any]:
        return source_index(np.arange(self.low, self.high), self.size, self.mode)


def pieces(span: Span, ends: Sequence[int]) -> list[tuple[int, slice]]:
    """Split what a span reads at chunks of x: (chunk, what of it). `ends` are theirs, after a 0."""
    found = []
    for read in span.reads:
        first, last = bisect_right(ends, read.start) - 1, bisect_left(ends, read.stop)
        for chunk in range(first, last):
            low, high = max(read.start, ends[chunk]), min(read.stop, ends[chunk + 1])
            if low < high:
                found.append((chunk, slice(low - ends[chunk], high - ends[chunk])))
    return found
