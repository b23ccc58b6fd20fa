"""Pictures to convolve: whole numbers from 0 to 255 in float32, so that every sum is exact."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SOBEL_HORIZONTAL = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "float32")
SOBEL_VERTICAL = np.ascontiguousarray(SOBEL_HORIZONTAL.T)


def _coordinates(size: int, angle: float, scale: float) -> tuple[Array, Array, float]:
    """x to the right and y downwards, -1 to 1, turned by `angle` degrees; width of a pixel."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    turn = np.deg2rad(angle)
    u = (np.cos(turn) * x + np.sin(turn) * y) / scale
    v = (np.cos(turn) * y - np.sin(turn) * x) / scale
    return u, v, 2 / size / scale


def _ink(distance: Array, pixel: float) -> Array:
    """Coverage of each pixel, 0 to 255, from the signed distance to the outline."""
    ink: Array = np.round(255 * np.clip(0.5 - distance / pixel, 0, 1)).astype("float32")
    return ink


def six(size: int = 41, angle: float = 0, scale: float = 1) -> Array:
    """Draw the digit six, (size, size), turned clockwise by `angle` degrees.

    A ring, and an arc that leaves it at its leftmost point; outlines are anti-aliased.
    """
    x, y, pixel = _coordinates(size, angle, scale)
    bowl = np.abs(np.hypot(x, y - 0.33) - 0.36)
    # The arc's circle touches the ring at (-0.36, 0.33); the arc ends 1.03 above that.
    cx, cy, radius = 0.79, 0.33, 1.15
    last = np.arcsin(1.03 / radius)
    turned = np.arctan2(cy - y, cx - x)
    on_arc = (turned > 0) & (turned < last)
    arc = np.where(on_arc, np.abs(np.hypot(x - cx, y - cy) - radius), np.inf)
    end = np.hypot(x - (cx - radius * np.cos(last)), y - (cy - radius * np.sin(last)))
    return _ink(np.minimum(np.minimum(bowl, arc), end) - 0.11, pixel)


def place(glyphs: list[tuple[Array, int, int]], height: int, width: int) -> Array:
    """Put glyphs on an empty page, centred at the given rows and columns."""
    page = np.zeros((height, width), "float32")
    for glyph, row, column in glyphs:
        h, w = glyph.shape
        top, left = row - h // 2, column - w // 2
        page[top : top + h, left : left + w] = np.maximum(
            page[top : top + h, left : left + w], glyph
        )
    return page


def half_plane(size: int, angle: float) -> Array:
    """Draw an edge through the centre: 255 on its lower side, `angle` degrees from horizontal."""
    x, y, pixel = _coordinates(size, 0, 1)
    turn = np.deg2rad(angle)
    return _ink(-(np.cos(turn) * y + np.sin(turn) * x), pixel)


def house(size: int = 96) -> Array:
    """Draw a house: horizontal edges, vertical edges, and two slopes."""
    x, y, pixel = _coordinates(size, 0, 1)

    def box(cx: float, cy: float, w: float, h: float) -> Array:
        distance: Array = np.maximum(np.abs(x - cx) - w, np.abs(y - cy) - h)
        return distance

    roof = np.maximum((np.abs(x) - 0.9 * (y + 0.85)) * 0.74, y + 0.08)
    walls = box(0, 0.36, 0.52, 0.44)
    wall = _ink(walls, pixel) * 0.7
    windows = np.minimum(box(-0.24, 0.28, 0.13, 0.13), box(0.24, 0.28, 0.13, 0.13))
    door = box(0, 0.64, 0.1, 0.16)
    page = np.maximum(wall, _ink(roof, pixel))
    return np.round(np.where(np.minimum(windows, door) < 0, 25, page)).astype("float32")
