"""The pictures of the claims about learning. Each function fills an empty matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.claims.plots import BLUE, CYCLE, GREY, ORANGE, picture

Array = np.ndarray[Any, Any]


def _band(axes: Any, x: Sequence[float], runs: Array, color: str, label: str) -> None:
    """Mean of all runs as a line, and their range around it."""
    axes.fill_between(x, 100 * runs.min(axis=0), 100 * runs.max(axis=0), color=color, alpha=0.2,
                      linewidth=0)  # fmt: skip
    axes.plot(x, 100 * runs.mean(axis=0), "o-", color=color, label=label)


def _kernel(axes: Any, kernel: Array, title: str) -> None:
    limit = float(np.abs(kernel).max()) or 1.0
    axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def rotation(
    figure: Any, angles: Sequence[int], curves: dict[str, Array], confusion: Array
) -> None:
    a, b = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _band(a, angles, curves["upright"], BLUE, "trained on upright digits")
    _band(a, angles, curves["turned"], ORANGE, "trained on digits turned at random")
    a.set(xlabel="turned by, degrees", ylim=(0, 103), title="test digits named rightly, %")
    a.set_xticks(range(0, 181, 45))
    a.legend(loc="center right")
    shown = 100 * np.where(np.eye(10, dtype=bool), np.nan, confusion)
    image = b.imshow(shown, cmap="Oranges", vmin=0)
    b.set(xlabel="taken for", ylabel="digit", title="mistakes at any angle, %")
    b.set_xticks(range(10))
    b.set_yticks(range(10))
    b.grid(visible=False)
    figure.colorbar(image, ax=b, shrink=0.85)
    for row, column in ((6, 9), (9, 6)):
        dark = shown[row, column] > 0.6 * np.nanmax(shown)
        b.text(column, row, f"{shown[row, column]:.0f}", ha="center", va="center", fontsize=7,
               color="white" if dark else "black")  # fmt: skip


def scale(
    figure: Any, drawn: Sequence[Array], scales: Sequence[float], curves: dict[str, Array]
) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2))
    for axes, pixels, size in zip(left.subplots(1, 3), drawn, (100, 70, 50), strict=True):
        picture(axes, pixels, f"{size} %")
    axes = right.subplots()
    sizes = [50 * s for s in scales]
    _band(axes, sizes, curves["large"], BLUE, "trained on large digits")
    _band(axes, sizes, curves["all"], ORANGE, "trained on all sizes")
    axes.axhline(10, color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="size of the digit, %", ylim=(0, 103), title="test digits named rightly, %")
    axes.legend()


def regularisation(figure: Any, noisy: dict[str, Array], clean: dict[str, Array]) -> None:
    both = figure.subplots(1, 2, sharey=True)
    titles = "a fifth of the labels wrong", "all labels right"
    for axes, found, title in zip(both, (noisy, clean), titles, strict=True):
        for place, runs in enumerate(found.values()):
            learned, tested = 100 * runs.T
            spread = np.linspace(-0.18, 0.18, len(runs)) if len(runs) > 1 else np.zeros(1)
            axes.vlines(place + spread, tested, learned, color="#d5dade", linewidth=2)
            axes.plot(place + spread, learned, "o", color=GREY,
                      label="training" if place == 0 else None)  # fmt: skip
            axes.plot(place + spread, tested, "o", color=ORANGE,
                      label="test" if place == 0 else None)  # fmt: skip
        axes.set_xticks(range(len(found)), list(found))
        axes.grid(visible=False, axis="x")
        axes.set_title(title)
    both[0].set_ylabel("named rightly, %")
    both[1].legend(loc="lower right")


def learned(
    figure: Any, kernels: Array, errors: dict[str, Array], accuracy: dict[str, Array]
) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.7))
    shown = sorted({0, 1, min(3, len(kernels) - 1), len(kernels) - 1})
    for axes, epoch in zip(left.subplots(2, 2).flat, shown, strict=False):
        _kernel(axes, kernels[epoch], f"epoch {epoch}")
    a, b = right.subplots(1, 2, width_ratios=(1.5, 1))
    for color, (name, curve) in zip(CYCLE, errors.items(), strict=False):
        a.semilogy(range(len(curve)), curve, color=color, label=name)
    a.set(xlabel="epoch", title="largest error of the kernel")
    a.legend(fontsize=7)
    for place, runs in enumerate(accuracy.values()):
        b.plot(np.full(len(runs), place), 100 * runs, "o", color=CYCLE[place])
    b.set_xticks(range(len(accuracy)), list(accuracy))
    b.set_xlim(-0.6, len(accuracy) - 0.4)
    b.set_title("test digits named rightly, %")


def early_edges(figure: Any, first: Array, last: Array, scores: dict[str, Array]) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=(1.7, 1))
    above, below = left.subfigures(2, 1)
    for part, kernels, title in ((above, first, "at first"), (below, last, "after training")):
        part.suptitle(title, fontsize=9)
        for axes, kernel in zip(part.subplots(2, 8).flat, kernels, strict=True):
            _kernel(axes, kernel, "")
    axes = right.subplots()
    for place, (values, color) in enumerate(zip(scores.values(), CYCLE, strict=False)):
        spread = np.linspace(-0.2, 0.2, values.size)
        axes.plot(place + spread, 100 * np.sort(values.ravel()), ".", color=color)
        axes.hlines(100 * values.mean(), place - 0.3, place + 0.3, color=color)
    axes.set_xticks(range(len(scores)), list(scores))
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 100), title="what an edge explains of each kernel, %")


def weight_sharing(
    figure: Any, counts: dict[str, list[tuple[int, int]]], accuracy: dict[str, dict[int, Array]]
) -> None:
    a, b = figure.subplots(1, 2, width_ratios=(1.3, 1))
    for color, (name, pairs) in zip(CYCLE, counts.items(), strict=False):
        shared, dense = zip(*pairs, strict=True)
        a.loglog(shared, dense, "o", color=color, label=name)
    ends = np.array(a.get_xlim())
    a.plot(ends, ends, color=GREY, linewidth=1, linestyle=":")
    a.set(xlabel="weights of the convolution", title="weights of a dense layer for the same map")
    a.legend(fontsize=7)
    for color, (name, runs) in zip((BLUE, ORANGE), accuracy.items(), strict=True):
        values = np.array(list(runs.values())).T
        _band(b, list(runs), values, color, name)
    b.set(xscale="log", xlabel="digits to learn", title="test digits named rightly, %")
    sizes = list(next(iter(accuracy.values())))
    b.set_xticks(sizes, [str(size) for size in sizes])
    b.minorticks_off()
    b.legend(loc="lower right")
