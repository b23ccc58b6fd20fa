"""The five convolution layers of AlexNet in the one-tower form that torchvision trains.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Layer(NamedTuple):
    """One convolution with bias and ReLU; `pool` says that 3 x 3 stride 2 max-pooling follows."""

    name: str
    channels: int
    filters: int
    kernel: int
    stride: int
    pad: int
    pool: bool


LAYERS = (
    Layer("AlexNet conv1", 3, 64, 11, 4, 2, True),
    Layer("AlexNet conv2", 64, 192, 5, 1, 2, True),
    Layer("AlexNet conv3", 192, 384, 3, 1, 1, False),
    Layer("AlexNet conv4", 384, 256, 3, 1, 1, False),
    Layer("AlexNet conv5", 256, 256, 3, 1, 1, True),
)

#: Smallest image side that leaves conv3 at least one pixel.
SMALLEST_IMAGE = 63


def parameters(layer: Layer, seed: int = 2012) -> tuple[Array, Array]:
    """Random weights and bias, scaled so that ReLU keeps the variance (He et al., 2015).

    Parameters
    ----------
    layer : Layer
    seed : int
        Layers differ at the same seed.

    Returns
    -------
    weights : ndarray (filters, channels, kernel, kernel) of float32
    bias : ndarray (filters,) of float32
    """
    generator = np.random.default_rng([seed, LAYERS.index(layer)])
    shape = (layer.filters, layer.channels, layer.kernel, layer.kernel)
    deviation = np.sqrt(2 / (layer.channels * layer.kernel**2))
    weights = generator.normal(0, deviation, shape).astype(np.float32)
    return weights, generator.normal(0, 0.05, layer.filters).astype(np.float32)


def max_pool(maps: Array) -> Array:
    """Largest value under a 3 x 3 window that moves by 2, windows inside the map only.

    Parameters
    ----------
    maps : ndarray (N, C, H, W)
        H and W at least 3.

    Returns
    -------
    ndarray (N, C, (H - 3) // 2 + 1, (W - 3) // 2 + 1)
    """
    windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(2, 3))
    pooled: Array = windows[:, :, ::2, ::2].max(axis=(4, 5))
    return pooled
