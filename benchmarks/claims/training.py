"""Networks that the claims about learning train: handwritten digits, turned, resized, few, or many.

The layers are those of ``examples/nn.py``: NumPy and fastconv.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from examples import nn

Array = np.ndarray[Any, Any]

#: Turns a batch of images into what the network sees of them in one epoch.
Augment = Callable[[Array, np.random.Generator], Array]

TESTED = 360


class Split(NamedTuple):
    """Digits to learn, and digits to test with: images (N, 1, 8, 8) in [0, 1], and their names."""

    x: Array
    labels: Array
    test_x: Array
    test_labels: Array


@cache
def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images / 16).astype("float32")[:, None], digits.target


def split(seed: int, learned: int | None = None) -> Split:
    """Cut the digits at random: 360 to test with, `learned` of the others (default: all)."""
    x, labels = _digits()
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = order[:TESTED], order[TESTED:][:learned]
    return Split(x[train], labels[train], x[test], labels[test])


def resampled(x: Array, degrees: Array, scales: Array, size: int) -> Array:
    """Draw every image in the middle of `size` x `size` pixels, turned clockwise and resized.

    Bilinear between the centres of pixels, 0 outside; `degrees` and `scales` are one an image.
    """
    n, _, h, w = x.shape
    axis = np.arange(size) - (size - 1) / 2
    v, u = np.meshgrid(axis, axis, indexing="ij")
    turn = np.deg2rad(degrees)[:, None, None]
    cos, sin = np.cos(turn), np.sin(turn)
    scale = np.broadcast_to(np.asarray(scales, float), (n,))[:, None, None]
    # half an output pixel is 1 / (2 scale) of the source: centres are met exactly at scale 1
    column = (cos * u + sin * v) / scale + (w - 1) / 2
    row = (cos * v - sin * u) / scale + (h - 1) / 2
    padded = np.pad(x[:, 0], ((0, 0), (1, 2), (1, 2)))
    row, column = np.clip(row, -1, h) + 1, np.clip(column, -1, w) + 1
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = row - top, column - left
    image = np.arange(n)[:, None, None]
    drawn = (1 - down) * (
        (1 - right) * padded[image, top, left] + right * padded[image, top, left + 1]
    ) + down * (
        (1 - right) * padded[image, top + 1, left] + right * padded[image, top + 1, left + 1]
    )
    return drawn[:, None].astype("float32")


def deep(size: int, rng: np.random.Generator, kernels: tuple[int, int] = (8, 16)) -> nn.Network:
    """Two convolutions, each with relu and pooling, and a linear layer, for `size` x `size`."""
    first, second = kernels
    return nn.Network(
        [
            nn.Conv(1, first, 3, rng), nn.Relu(), nn.MaxPool(),
            nn.Conv(first, second, 3, rng), nn.Relu(), nn.MaxPool(),
            nn.Linear(second * (size // 4) ** 2, 10, rng),
        ]
    )  # fmt: skip


def fit(
    network: nn.Network, x: Array, labels: Array, epochs: int, rng: np.random.Generator,
    augment: Augment | None = None, rate: float = 0.05, decay: float = 0.0,
    frozen: int = 0,
) -> None:  # fmt: skip
    """Train with momentum, the rate falling to 0 as a cosine; `frozen` first parameters stay."""
    parameters = network.parameters[frozen:]
    optimizer = nn.SGD(parameters, rate, decay=decay)
    for epoch in range(epochs):
        optimizer.rate = rate * (1 + np.cos(np.pi * epoch / epochs)) / 2
        seen = x if augment is None else augment(x, rng)
        for chosen in nn.batches(len(seen), 32, rng):
            logits = network.forward(seen[chosen], True)
            _, gradient = nn.softmax_cross_entropy(logits, labels[chosen])
            network.backward(gradient)
            optimizer.step(network.gradients[frozen:])


def accuracy(network: nn.Network, x: Array, labels: Array) -> float:
    """Share of the images that are named rightly."""
    return float(np.mean(network.predict(x) == labels))
