"""SciPy's names on fastconv, beside fastconv's own operators and SciPy itself."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.signal

import fastconv
from fastconv.interop import scipy as adapter

from .row import Row


def rows() -> list[Row]:
    """Few pixels, so that the call itself is what takes the time."""
    rng = np.random.default_rng(0)
    image, kernel = rng.standard_normal((8, 8)), rng.standard_normal((3, 3))
    signal, taps = rng.standard_normal(16), rng.standard_normal(3)
    return [
        Row(
            "signal.convolve2d, same",
            lambda: adapter.convolve2d(image, kernel, "same"),
            lambda: fastconv.conv2d(image, kernel, pad=((1, 1), (1, 1)), flip=True),
            lambda: scipy.signal.convolve2d(image, kernel, "same"),
        ),
        Row(
            "signal.correlate, direct",
            lambda: adapter.correlate(signal, taps, method="direct"),
            lambda: fastconv.conv1d(signal, taps, pad=(2, 2)),
            lambda: scipy.signal.correlate(signal, taps, method="direct"),
        ),
        Row(
            "ndimage.convolve",
            lambda: adapter.ndimage.convolve(image, kernel),
            lambda: fastconv.conv2d(
                image, kernel, pad=((1, 1), (1, 1)), pad_mode="symmetric", flip=True
            ),
            lambda: scipy.ndimage.convolve(image, kernel),
        ),
        Row(
            "ndimage.correlate1d",
            lambda: adapter.ndimage.correlate1d(image, taps, 0),
            lambda: fastconv.conv2d(
                image, taps[:, None], pad=((1, 1), (0, 0)), pad_mode="symmetric"
            ),
            lambda: scipy.ndimage.correlate1d(image, taps, 0),
        ),
    ]
