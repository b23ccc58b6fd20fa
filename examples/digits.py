"""Train a small network on handwritten digits: NumPy, fastconv, and no framework.

    conv 3x3, 16 kernels - relu - conv 3x3, 32 kernels - relu - max-pool - dropout - linear

on the 1797 digits of 8 x 8 pixels that come with scikit-learn, 360 of them kept for the test. It
takes a few seconds and names 98 to 99 % of the test digits rightly.

    pip install '.[examples]' && python examples/digits.py
"""

from __future__ import annotations

from typing import Any, NamedTuple

import nn
import numpy as np
import show

Array = np.ndarray[Any, Any]

TESTED = 360
RATE = 0.05


class Data(NamedTuple):
    """Images (N, 1, 8, 8) in [0, 1] and the digits they show."""

    x: Array
    labels: Array
    test_x: Array
    test_labels: Array


def load(rng: np.random.Generator) -> Data:
    """Read the digits and keep a random part for the test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images / 16).astype("float32")[:, None]
    order = rng.permutation(len(x))
    test, train = order[:TESTED], order[TESTED:]
    return Data(x[train], digits.target[train], x[test], digits.target[test])


def build(rng: np.random.Generator) -> nn.Network:
    """Build the network with random weights."""
    return nn.Network(
        [
            nn.Conv(1, 16, 3, rng),
            nn.Relu(),
            nn.Conv(16, 32, 3, rng),
            nn.Relu(),
            nn.MaxPool(),
            nn.Dropout(0.25, rng),
            nn.Linear(32 * 4 * 4, 10, rng),
        ]
    )


def train(epochs: int, seed: int) -> tuple[nn.Network, Data, Array]:
    """Train; returns the network, its data, and (loss, training and test accuracy) by epoch."""
    rng = np.random.default_rng(seed)
    data = load(rng)
    network = build(rng)
    optimizer = nn.SGD(network.parameters, RATE, decay=1e-4)
    curve = []
    with show.LossBar(epochs) as bar:
        for epoch in range(epochs):
            optimizer.rate = RATE * (1 + np.cos(np.pi * epoch / epochs)) / 2
            loss = nn.train_epoch(network, optimizer, data.x, data.labels, rng)
            right = network.predict(data.x) == data.labels
            tested = network.predict(data.test_x) == data.test_labels
            curve.append((loss, right.mean(), tested.mean()))
            bar.epoch(loss, f"test {100 * tested.mean():.1f} %")
    return network, data, np.array(curve)


def draw(figure: Any, network: nn.Network, data: Data, curve: Array) -> None:
    """Loss, accuracy, the first layer's kernels, and the digits that are named wrongly."""
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.2, 1))
    a, b = top.subplots(1, 2)
    epochs = np.arange(1, len(curve) + 1)
    a.semilogy(epochs, curve[:, 0], color=show.BLUE)
    a.set_xlabel("epoch")
    show.plain(a, "loss")
    b.plot(epochs, 100 * curve[:, 1], color=show.GREY, label="training")
    b.plot(epochs, 100 * curve[:, 2], color=show.ORANGE, label="test")
    b.set(xlabel="epoch", ylim=(min(90, 100 * curve[-1, 1:].min()), 100.3))
    b.legend(frameon=False, loc="lower right")
    show.plain(b, "named rightly, %")
    left, right = bottom.subfigures(1, 2)
    left.suptitle("kernels of the first layer, learned", fontsize=10)
    kernels = network.parameters[0][:, 0]
    for axes, kernel in zip(left.subplots(2, 8).flat, kernels, strict=True):
        show.image(axes, kernel, "", signed=True)
    named = network.predict(data.test_x)
    wrong = np.flatnonzero(named != data.test_labels)[:6]
    right.suptitle("test digits named wrongly" if len(wrong) else "", fontsize=10)
    for axes in (all_axes := right.subplots(1, 6)):
        axes.set_axis_off()
    for axes, index in zip(all_axes, wrong, strict=False):
        title = f"{data.test_labels[index]}, not {named[index]}"
        show.image(axes, data.test_x[index, 0], title)


def main() -> None:
    """Train, say how well, and draw."""
    options = show.arguments(__doc__, epochs=20, output="digits.png")
    network, data, curve = train(options.epochs, options.seed)
    count = sum(p.size for p in network.parameters)
    print(f"{count} parameters, {len(data.x)} digits to learn, {len(data.test_x)} to test")
    print(f"test accuracy: {100 * curve[-1, 2]:.2f} %")
    show.save(lambda figure: draw(figure, network, data, curve), (9, 5), options.output)


if __name__ == "__main__":
    main()
