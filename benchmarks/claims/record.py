"""One claim of the article: its words, what was measured, and what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.tables import Table

HOLDS = "holds"
LIMITS = "holds with limits"
IMPRECISE = "imprecise"

#: The claims in the order of the report: the operation, its geometry, its limits, its cost, and
#: what networks learn.
ORDER = (
    "sliding-window", "formula", "feature-maps", "horizontal-edges", "noise", "receptive-field",
    "stride", "padding", "dimensionality", "position", "orientation", "scale",
    "cost-layer", "cost-networks", "cost-linear", "cost-stride",
    "learned-kernels", "early-edges", "weight-sharing", "rotation-training", "scale-training",
    "regularisation",
)  # fmt: skip

#: Claims that nothing here measures, and what it would take.
NOT_MEASURED = (
    ("deeper layers detect more complex features like shapes, textures, or even entire objects",
     "needs a deep network trained on photographs; what depth alone gives is the receptive field, "
     "above"),
    ("This can make training [...] resource-intensive, particularly for large datasets and complex "
     "models",
     "needs such data; a convolution's two gradients cost as many multiply-accumulates as the "
     "convolution each"),
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A picture of the report.

    Attributes
    ----------
    draw : callable
        Fills an empty matplotlib figure.
    size : (float, float)
        Inches.
    caption : str
        What the picture shows, in one or two sentences.
    """

    draw: Callable[[Any], None]
    size: tuple[float, float]
    caption: str


@dataclass(frozen=True)
class Claim:
    """One section of the report.

    Attributes
    ----------
    key : str
        One of `ORDER`; names the plot's file.
    title, quote : str
        What is claimed, in our words and in the article's.
    measured : str
        What was computed, on what.
    findings : tuple of str
        Sentences with the numbers, one a bullet.
    verdict : str
        `HOLDS`, `LIMITS` or `IMPRECISE`.
    because : str
        The verdict's reason in one sentence, naming where the article is imprecise.
    tables : tuple of Table
    plot : Plot or None
    """

    key: str
    title: str
    quote: str
    measured: str
    findings: tuple[str, ...]
    verdict: str
    because: str
    tables: tuple[Table, ...] = field(default=())
    plot: Plot | None = None

    def __post_init__(self) -> None:
        if self.key not in ORDER:
            raise ValueError(f"{self.key!r} has no place in the report's order")
        if self.verdict not in (HOLDS, LIMITS, IMPRECISE):
            raise ValueError(f"{self.verdict!r} is no verdict")


#: Takes a claim whose assertions have passed into the report.
Record = Callable[[Claim], None]
