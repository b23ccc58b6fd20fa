"""What a check of gradients found, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

#: Curvature excuses no more than this share of a derivative: beyond it f has a kink, or is noise.
LEAST_SMOOTH = 1e-3


@dataclass(frozen=True)
class Comparison:
    """One derivative, by the gradient and by differences.

    Attributes
    ----------
    input : str
        Name of the input.
    index : tuple of int or None
        Its element; None for a derivative along a direction.
    analytic, numerical : float
    doubled : float
        `numerical` with twice the step: far from it where the function is not smooth.
    tolerance : float
    """

    input: str
    index: tuple[int, ...] | None
    analytic: float
    numerical: float
    doubled: float
    tolerance: float

    @property
    def error(self) -> float:
        """Distance of the two."""
        return abs(self.analytic - self.numerical)

    @property
    def ratio(self) -> float:
        """Error as a share of the tolerance; infinite where either derivative is not finite."""
        if not np.isfinite(self.error):
            return np.inf
        return self.error / self.tolerance if self.error else 0.0

    @property
    def ok(self) -> bool:
        """Whether they agree."""
        return self.ratio <= 1

    @property
    def smooth(self) -> bool:
        """Whether two steps give one derivative, so that the function has one here."""
        return abs(self.doubled - self.numerical) <= LEAST_SMOOTH * max(
            abs(self.doubled), abs(self.numerical), self.tolerance / LEAST_SMOOTH
        )

    def __str__(self) -> str:
        """Print where, and both numbers."""
        place = " along a direction" if self.index is None else str(list(self.index))
        return (
            f"{self.input}{place}: analytic {self.analytic:.9g}, numerical {self.numerical:.9g}, "
            f"off by {self.error:.2g}, tolerance {self.tolerance:.2g}"
        )


@dataclass(frozen=True)
class Report:
    """What `check` found; true where every derivative agrees.

    Attributes
    ----------
    comparisons : tuple of Comparison
        All derivatives that were compared.
    """

    comparisons: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        """Whether every derivative agrees."""
        return all(c.ok for c in self.comparisons)

    @property
    def worst(self) -> Comparison:
        """The derivative with the largest error for its tolerance; an element before a direction.

        Where an element fails, it says more than the direction that fails with it.
        """
        return max(self.comparisons, key=lambda c: (not c.ok and c.index is not None, c.ratio))

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """Derivatives that do not agree."""
        return tuple(c for c in self.comparisons if not c.ok)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        """Print the worst derivative, how many of each input differ, and what those share."""
        if self.ok:
            return f"{len(self.comparisons)} derivatives agree; the worst: {self.worst}"
        lines = [f"the gradient is wrong at {self.worst}"]
        for name in dict.fromkeys(c.input for c in self.comparisons):
            counts = []
            for what, direction in (("elements", False), ("directions", True)):
                tried = [
                    c for c in self.comparisons
                    if c.input == name and (c.index is None) == direction
                ]  # fmt: skip
                if tried:
                    counts.append(f"{sum(not c.ok for c in tried)} of {len(tried)} {what}")
            lines.append(f"{name}: {', '.join(counts)} differ")
        lines += self._remarks()
        return "\n".join(lines)

    __repr__ = __str__  # what pytest prints of a failed `assert check(...)`

    def _remarks(self) -> Iterator[str]:
        if not self.worst.smooth:
            yield (
                f"differences with twice the step give {self.worst.doubled:.9g}: the function has "
                "a kink or a jump here, or is computed with less than float64; move the inputs, or "
                "choose another step="
            )
        failing = {c.input for c in self.failures}
        for name in sorted(failing):
            factor = _factor([c for c in self.comparisons if c.input == name])
            if factor is not None:
                yield f"{name}: analytic is {factor:.6g} times numerical throughout"


def _factor(comparisons: Sequence[Comparison]) -> float | None:
    """Find the one factor between all analytic and numerical derivatives, if there is one."""
    a, n, tolerance = np.array([(c.analytic, c.numerical, c.tolerance) for c in comparisons]).T
    if len(a) < 2 or not np.isfinite(a).all() or not (n @ n) > 0:
        return None
    factor = float(a @ n / (n @ n))
    found = (np.abs(a - factor * n) <= (1 + abs(factor)) * tolerance + 1e-6 * np.abs(n)).all()
    return factor if found and abs(factor) > 1e-3 else None
