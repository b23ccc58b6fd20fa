"""One claim of the article: its words, what was measured, and what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.tables import Table

HOLDS = "holds"
LIMITS = "holds with limits"
IMPRECISE = "imprecise"

#: The claims in the order of the report: the operation, its geometry, its limits, its cost.
ORDER = (
    "sliding-window", "formula", "feature-maps", "horizontal-edges", "noise", "receptive-field",
    "stride", "padding", "dimensionality", "position", "orientation", "scale",
    "cost-layer", "cost-networks", "cost-linear", "cost-stride",
)  # fmt: skip

#: Claims about learning: they need a network that is trained, which fastconv does not do yet.
NOT_MEASURED = (
    ("The values in the kernel are learned during the training of the neural network",
     "needs gradients and a training run"),
    ("The first layer might detect simple features like edges and colors, while deeper layers "
     "detect more complex features",
     "needs trained kernels to look at; what depth alone gives is the receptive field, above"),
    ("convolutions help to reduce overfitting by focusing on key features",
     "needs the training and test error of networks with and without convolutions"),
    ("they can still overfit on the training data if not properly regularized",
     "needs the same, over training time"),
    ("This is normally improved by training convolutions on images that are randomly rotated",
     "needs training with and without rotated images"),
    ("a convolutional neural network trained to recognize a cat might fail to do so if the cat is "
     "upside down",
     "needs a trained network; a single kernel's answer to a rotated object is measured above"),
    ("A network trained to recognize large objects might fail to recognize the same objects when "
     "they are smaller",
     "needs a trained network; a single kernel's answer to a rescaled object is measured above"),
    ("This can make training [...] resource-intensive",
     "needs the gradients' cost; only the forward convolutions are timed above"),
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
