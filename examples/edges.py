"""Find an edge filter again from what it does: kernels are learned, not given.

From crops of a photograph and the same crops filtered with a 3 x 3 Sobel kernel, a kernel of random
numbers is trained until it is the Sobel kernel, to 1/1000 of its units. The convolution and its
gradient are fastconv's; nothing is told of the kernel but its size.

    pip install '.[examples]' && python examples/edges.py
"""

from __future__ import annotations

import sys
from typing import Any

import nn
import numpy as np
import show

import fastconv
from fastconv.demo import photo

Array = np.ndarray[Any, Any]

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "float32")
CLOSE = 1e-3
CROPS, SIZE, BATCH = 256, 24, 16
RATE = 0.03


def pairs(rng: np.random.Generator) -> tuple[Array, Array]:
    """Cut crops out of the photograph, of one mean and contrast, and filter them."""
    picture = photo.grey_batch(photo.photograph())[0, 0]
    corners = rng.integers(0, picture.shape[0] - SIZE + 1, (CROPS, 2))
    crops = np.stack([picture[top : top + SIZE, left : left + SIZE] for top, left in corners])
    crops = crops[:, None] - crops.mean(axis=(1, 2))[:, None, None, None]
    crops /= crops.std()
    return crops, np.asarray(fastconv.conv2d(crops, SOBEL[None, None]))


def train(epochs: int, seed: int) -> tuple[Array, Array]:
    """Train until the kernel is close; returns the kernel of every epoch, and every loss."""
    rng = np.random.default_rng(seed)
    crops, filtered = pairs(rng)
    w = (0.5 * rng.standard_normal((1, 1, 3, 3))).astype("float32")
    optimizer = nn.SGD([w], RATE)
    kernels, losses = [w[0, 0].copy()], []
    with show.LossBar(epochs) as bar:
        for _ in range(epochs):
            total = 0.0
            for chosen in nn.batches(CROPS, BATCH, rng):
                x = crops[chosen]
                loss, gy = nn.mean_squared_error(fastconv.conv2d(x, w), filtered[chosen])
                optimizer.step([fastconv.conv2d_weight_grad(x, w.shape, gy)])
                total += loss * len(chosen) / CROPS
            kernels.append(w[0, 0].copy())
            losses.append(total)
            off = distance(kernels[-1])
            bar.epoch(total, f"largest error of the kernel {off:.2g}")
            if off < CLOSE:
                break
    return np.array(kernels), np.array(losses)


def distance(kernel: Array) -> float:
    """Largest difference from the Sobel kernel."""
    return float(np.abs(kernel - SOBEL).max())


def draw(figure: Any, kernels: Array, losses: Array) -> None:
    """The photograph, filtered with the kernel that was learned; the kernel, and its way there."""
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    picture = photo.grey_batch(photo.photograph())[0, 0]
    a, b, c = top.subplots(1, 3, width_ratios=(1, 1, 1.2))
    show.image(a, picture, "photograph")
    show.image(b, np.abs(fastconv.conv2d(picture, kernels[-1], pad="same", pad_mode="edge")),
               "filtered with the kernel learned")  # fmt: skip
    c.semilogy(range(1, len(losses) + 1), losses, color=show.BLUE, label="loss")
    c.semilogy([distance(kernel) for kernel in kernels], color=show.ORANGE,
               label="largest error of the kernel")  # fmt: skip
    c.axhline(CLOSE, color=show.GREY, linewidth=1, linestyle=":")
    c.set_xlabel("epoch")
    c.legend(frameon=False, fontsize=8)
    show.plain(c, "training")
    last = len(kernels) - 1
    shown = sorted({0, min(1, last), min(3, last), last})
    for axes, epoch in zip(bottom.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        show.image(axes, kernels[epoch], f"epoch {epoch}", signed=True)
        dark = 0.6 * np.abs(kernels[epoch]).max()
        for (row, column), value in np.ndenumerate(kernels[epoch]):
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=9,
                      color="white" if abs(value) > dark else "black")  # fmt: skip


def main() -> None:
    """Train, show the kernel, and draw."""
    options = show.arguments(__doc__, epochs=60, output="edges.png")
    kernels, losses = train(options.epochs, options.seed)
    print(np.array2string(kernels[-1], precision=4, suppress_small=True))
    show.save(lambda figure: draw(figure, kernels, losses), (9, 6), options.output)
    if distance(kernels[-1]) >= CLOSE:
        sys.exit(f"not yet the Sobel kernel: more than {options.epochs} epochs are needed")


if __name__ == "__main__":
    main()
