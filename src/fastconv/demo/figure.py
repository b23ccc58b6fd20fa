"""The picture: photograph, filtered images, and what AlexNet's first layer makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .filters import FILTERS

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

Array = np.ndarray[Any, Any]

DPI = 110
#: Pixels between the tiles of a mosaic.
GAP = 2


def edge_strength(response: Array) -> Array:
    """Magnitude of a signed response, scaled so that 1 % of the pixels saturate."""
    magnitude = np.abs(response)
    return np.clip(magnitude / max(float(np.percentile(magnitude, 99)), 1e-12), 0, 1)


def mosaic(maps: Array, columns: int) -> Array:
    """Tile feature maps, each scaled to its own range, on a NaN ground.

    Parameters
    ----------
    maps : ndarray (K, P, Q)
    columns : int

    Returns
    -------
    ndarray (rows * (P + GAP) - GAP, columns * (Q + GAP) - GAP) of float64
        In [0, 1].
    """
    k, p, q = maps.shape
    rows = -(-k // columns)
    canvas = np.full((rows * (p + GAP) - GAP, columns * (q + GAP) - GAP), np.nan)
    for index, tile in enumerate(maps):
        top, left = index // columns * (p + GAP), index % columns * (q + GAP)
        low, high = np.percentile(tile, [1, 99])
        scaled = (tile - low) / max(float(high - low), 1e-12)
        canvas[top : top + p, left : left + q] = np.clip(scaled, 0, 1)
    return canvas


def draw(
    path: Path, rgb: Array, grey_maps: Array, rgb_maps: Array, alexnet_maps: Array, footer: str
) -> None:
    """Write the picture as PNG; needs matplotlib.

    Parameters
    ----------
    path : Path
    rgb : ndarray (H, W, 3)
        The photograph, in [0, 1].
    grey_maps : ndarray (len(FILTERS), H, W)
        Every filter on the grey image.
    rgb_maps : ndarray (3 * len(FILTERS), H, W)
        Every filter on red, then green, then blue.
    alexnet_maps : ndarray (K, P, Q)
        Feature maps of the first layer.
    footer : str
        One line below the pictures.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # the figure keeps a strip at the bottom for the footer
    margins = ConstrainedLayoutEngine(rect=(0.004, 0.03, 0.992, 0.966))
    figure = Figure(figsize=(15.2, 8.3), dpi=DPI, facecolor="white", layout=margins)
    left, right = cast(
        "tuple[SubFigure, SubFigure]", figure.subfigures(1, 2, width_ratios=(1, 1.06), wspace=0.01)
    )
    left.suptitle("Photograph and 3 x 3 filters", fontsize=13, fontweight="bold")
    coloured = rgb_maps.reshape(3, len(FILTERS), *rgb_maps.shape[1:])
    panels: list[tuple[str, Array, str | None]] = [("Photograph", rgb, None)]
    for index, item in enumerate(FILTERS):
        if item.edges:
            panels.append((item.title, edge_strength(grey_maps[index]), "magma"))
        else:
            image = np.clip(coloured[:, index].transpose(1, 2, 0), 0, 1)
            panels.append((f"{item.title} (depthwise, RGB)", image, None))
    for axes, (title, image, colours) in zip(left.subplots(3, 3).flat, panels, strict=True):
        axes.imshow(image, cmap=colours, vmin=0, vmax=1)
        axes.set_title(title, fontsize=9.5)
        axes.set_axis_off()
    count, p, q = alexnet_maps.shape
    right.suptitle(
        f"AlexNet layer 1: {count} feature maps of {p} x {q}, random weights, ReLU",
        fontsize=13, fontweight="bold",
    )  # fmt: skip
    axes = right.subplots()
    axes.imshow(mosaic(alexnet_maps, columns=8), cmap="viridis", vmin=0, vmax=1)
    axes.set_axis_off()
    figure.text(0.5, 0.008, footer, ha="center", va="bottom", fontsize=9, color="0.35")
    figure.savefig(path)
