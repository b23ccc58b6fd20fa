"""Classic 3 x 3 image filters, written as neural networks apply them: not turned around."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Filter(NamedTuple):
    """One filter: its title, its taps and whether the result is an edge map.

    An edge map is signed, zero where the image is flat; the other filters return an image.
    """

    title: str
    taps: tuple[tuple[float, float, float], ...]
    edges: bool


FILTERS = (
    Filter("Horizontal edges", ((1, 1, 1), (0, 0, 0), (-1, -1, -1)), True),
    Filter("Vertical edges", ((1, 0, -1), (1, 0, -1), (1, 0, -1)), True),
    Filter("Laplacian", ((0, 1, 0), (1, -4, 1), (0, 1, 0)), True),
    Filter("Sobel, vertical gradient", ((-1, -2, -1), (0, 0, 0), (1, 2, 1)), True),
    Filter("Sobel, horizontal gradient", ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), True),
    Filter("Sharpen", ((0, -1, 0), (-1, 5, -1), (0, -1, 0)), False),
    Filter("Blur", ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),
           False),
    Filter("Emboss", ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)), False),
)  # fmt: skip


def bank(channels: int) -> Array:
    """Every filter on every channel, for ``groups=channels``.

    Parameters
    ----------
    channels : int
        1 for a grey image, 3 for a depthwise convolution of red, green and blue.

    Returns
    -------
    ndarray (channels * len(FILTERS), 1, 3, 3) of float32
        The filters of channel 0 first, then those of channel 1, and so on.
    """
    taps = np.array([f.taps for f in FILTERS], np.float32)[:, None]
    return np.concatenate([taps] * channels)
