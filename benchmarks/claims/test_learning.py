"""That kernels are learned, what the first of them become, and what sharing their weights saves."""

from __future__ import annotations

from typing import Any

import numpy as np
from examples import nn

import fastconv
from benchmarks import networks
from benchmarks.claims import learning_plots, training
from benchmarks.claims.pictures import SOBEL_VERTICAL
from benchmarks.claims.record import HOLDS, IMPRECISE, LIMITS, Claim, Plot, Record
from benchmarks.settings import Settings
from benchmarks.tables import Table
from fastconv.demo import photo

Array = np.ndarray[Any, Any]

CLOSE = 1e-3

#: Kernels to be found again from what they do to a photograph.
TARGETS = {
    "Sobel": SOBEL_VERTICAL,
    "Laplacian": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "float32"),
    "random 5 x 5": np.random.default_rng(8).standard_normal((5, 5)).astype("float32"),
}


def _recovered(target: Array, seed: int, epochs: int) -> list[Array]:
    """Train a kernel on pairs of crops, as they are and filtered; the kernel of every epoch."""
    rng = np.random.default_rng(seed)
    picture = photo.grey_batch(photo.photograph())[0, 0]
    corners = rng.integers(0, 200, (256, 2))
    crops = np.stack([picture[top : top + 24, left : left + 24] for top, left in corners])[:, None]
    crops = (crops - crops.mean(axis=(2, 3), keepdims=True)) / np.float32(0.1)
    filtered = fastconv.conv2d(crops, target[None, None])
    w = rng.standard_normal((1, 1, *target.shape)).astype("float32") / 2
    optimizer = nn.SGD([w], 0.03)
    kernels = [w[0, 0].copy()]
    for _ in range(epochs):
        for chosen in nn.batches(len(crops), 16, rng):
            _, gy = nn.mean_squared_error(fastconv.conv2d(crops[chosen], w), filtered[chosen])
            optimizer.step([fastconv.conv2d_weight_grad(crops[chosen], w.shape, gy)])
        kernels.append(w[0, 0].copy())
    return kernels


def _frozen_or_learned(seed: int, epochs: int) -> tuple[float, float, float]:
    """Test accuracy with the first layers' kernels left random and learned, and how far they move.

    Frozen, only the linear layer behind them learns.
    """
    s = training.split(seed)
    accuracy = []
    moved = 0.0
    for frozen in (4, 0):
        rng = np.random.default_rng(seed)
        network = training.deep(8, rng)
        before = network.parameters[0].copy()
        training.fit(network, s.x, s.labels, epochs, rng, frozen=frozen)
        after = network.parameters[0]
        moved = float(np.linalg.norm(after - before) / np.linalg.norm(before))
        accuracy.append(training.accuracy(network, s.test_x, s.test_labels))
    return accuracy[0], accuracy[1], moved


def test_learned_kernels(benchmark: Any, record: Record, suite: Settings) -> None:
    epochs, seeds = (60, range(3)) if not suite.smoke else (15, range(1))
    names = list(TARGETS)
    kernels = {names[0]: benchmark.pedantic(_recovered, (TARGETS[names[0]], 0, epochs), rounds=1)}
    kernels |= {name: _recovered(TARGETS[name], 0, epochs) for name in names[1:]}
    errors = {
        name: np.array([np.abs(k - TARGETS[name]).max() for k in kernels[name]]) for name in names
    }
    runs = np.array([_frozen_or_learned(seed, 4 if suite.smoke else 12) for seed in seeds])
    frozen, learned, moved = runs.mean(axis=0)
    found = errors["Sobel"][-1] < CLOSE
    better = learned > frozen
    assert suite.smoke or (found and better)
    table = Table(("kernel", "error at first", *(f"epoch {e}" for e in (1, 5, 15, epochs))))
    for name, curve in errors.items():
        table.add(name, *(f"{curve[e]:.2g}" for e in (0, 1, 5, 15, epochs)))
    accuracy = {"random": runs[:, 0], "learned": runs[:, 1]}
    record(
        Claim(
            "learned-kernels",
            "Kernels are learned, not given",
            "The values in the kernel are learned during the training of the neural network, "
            "allowing the network to automatically learn to detect the most useful features for "
            "the task at hand.",
            "Three kernels, each to be found again by gradient descent from 256 crops of a "
            "photograph and what the kernel makes of them; and the digits of scikit-learn, learned "
            f"by a network whose kernels stay as they were drawn and by one that learns them, "
            f"{len(runs)} runs each.",
            (
                f"From random numbers the 3 x 3 kernel comes within {errors['Sobel'][-1]:.1g} of "
                f"the Sobel kernel in {epochs} epochs, its largest weight being 2, and within "
                f"{errors['random 5 x 5'][-1]:.1g} of a kernel without any design.",
                f"On the digits, {100 * frozen:.1f} % of the test digits are named rightly with "
                f"random kernels and only the last layer learning, {100 * learned:.1f} % with all "
                f"learned; the first layer moves by {100 * moved:.0f} % of its length.",
                '"Most useful" is what gradient descent from one start finds: other seeds find '
                "other kernels, of the same use.",
            ),
            (HOLDS if better else LIMITS) if found else IMPRECISE,
            "A kernel is found from what it does; random ones go far, learned ones farther."
            if better
            else "A kernel is found from what it does, but learning it was of no use for the task.",
            (table,),
            Plot(
                lambda figure: learning_plots.learned(figure, kernels["Sobel"], errors, accuracy),
                (10, 3.0),
                "A kernel on its way to the Sobel kernel, the error of three kernels by epoch, and "
                "digits named rightly with random and with learned kernels (a dot a run).",
            ),
        )
    )


def _edges(size: int) -> Array:
    """Straight edges in 18 directions, at several offsets, less their mean and of norm 1."""
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    drawn = []
    for turn in np.deg2rad(np.arange(0, 180, 10)):
        for offset in np.arange(0.5 - size // 2, size // 2, 0.5):
            edge = np.clip(0.5 + np.cos(turn) * x + np.sin(turn) * y - offset, 0, 1)
            drawn.append((edge - edge.mean()).ravel())
    edges = np.array(drawn)
    return edges / np.linalg.norm(edges, axis=1, keepdims=True)


def _explained(kernels: Array) -> Array:
    """Share of each kernel's variation that one straight edge explains, the best of all."""
    flat = kernels.reshape(len(kernels), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    best: Array = np.abs(flat @ _edges(kernels.shape[-1]).T).max(axis=1) ** 2
    return best


def _first_layer(seed: int, epochs: int, size: int) -> tuple[Array, Array, Array]:
    """Kernels at first, after training, and the latter with the weights of each in random order."""
    s = training.split(seed)
    rng = np.random.default_rng(seed)
    network = nn.Network(
        [
            nn.Conv(1, 16, size, rng), nn.Relu(), nn.Conv(16, 32, 3, rng), nn.Relu(), nn.MaxPool(),
            nn.Linear(32 * 4 * 4, 10, rng),
        ]
    )  # fmt: skip
    w = network.parameters[0]
    w *= 0.1  # so that little of the random start is left in the end
    first = w[:, 0].copy()
    training.fit(network, s.x, s.labels, epochs, rng, decay=5e-3)
    shuffled = np.array([rng.permutation(k.ravel()).reshape(k.shape) for k in w[:, 0]])
    return first, w[:, 0].copy(), shuffled


def test_early_edges(benchmark: Any, record: Record, suite: Settings) -> None:
    epochs, seeds = (15, range(3)) if not suite.smoke else (3, range(1))
    runs = {5: [benchmark.pedantic(_first_layer, (0, epochs, 5), rounds=1)]}
    runs[5] += [_first_layer(seed, epochs, 5) for seed in seeds[1:]]
    runs[3] = [_first_layer(seed, epochs, 3) for seed in seeds]
    names = ("at first", "shuffled", "trained")
    scores = {
        size: {
            name: np.array([_explained(run[part]) for run in runs[size]])
            for name, part in zip(names, (0, 2, 1), strict=True)
        }
        for size in runs
    }
    more = all(
        score["trained"].mean() > 1.1 * max(score["at first"].mean(), score["shuffled"].mean())
        for score in scores.values()
    )
    mostly = all(score["trained"].mean() > 0.5 for score in scores.values())
    assert suite.smoke or more
    table = Table(("kernels", *names))
    for size, score in sorted(scores.items()):
        table.add(f"{size} x {size}", *(f"{100 * score[name].mean():.0f} %" for name in names))
    three, five = scores[3], scores[5]
    record(
        Claim(
            "early-edges",
            "Early kernels find edges",
            "The first layer might detect simple features like edges and colors, while deeper "
            "layers detect more complex features like shapes, textures, or even entire objects.",
            "The 16 kernels of the first layer of a network trained on handwritten digits (grey, "
            "8 x 8 pixels), each against straight edges of 18 directions: the share of its "
            "variation that the best one explains. To compare, the small random kernels before "
            "training, and the trained ones with the weights of each in random order; "
            f"{len(runs[5])} runs.",
            (
                f"Of a trained 3 x 3 kernel one edge explains {100 * three['trained'].mean():.0f} "
                f"% on average; of a random one {100 * three['at first'].mean():.0f} %, of the "
                f"same weights shuffled {100 * three['shuffled'].mean():.0f} %.",
                f"Of 5 x 5 kernels {100 * five['trained'].mean():.0f} %, "
                f"{100 * five['at first'].mean():.0f} % and {100 * five['shuffled'].mean():.0f} %.",
                "So training pulls kernels towards edges; many end as something else: lines, "
                "corners and spots.",
                "The digits have no colours; whether deeper layers find shapes is not measured "
                "here, only that they see more of the image ([deeper layers](#receptive-field)).",
            ),
            (HOLDS if mostly else LIMITS) if more else IMPRECISE,
            "More than chance would have it, and not all of them."
            if more
            else "No more than chance would have it.",
            (table,),
            Plot(
                lambda figure: learning_plots.early_edges(figure, *runs[5][0][:2], five),
                (10, 3.4),
                "The 5 x 5 kernels of one run at first and after training, and what one straight "
                "edge explains of each kernel of all runs (lines: means).",
            ),
        )
    )


def _dense_matrix(w: Array, size: int) -> Array:
    """The matrix of a convolution with `same` padding: what it makes of every single pixel."""
    units = np.eye(w.shape[1] * size * size, dtype="float32")
    return np.asarray(
        fastconv.conv2d(units.reshape(-1, w.shape[1], size, size), w, pad="same")
    ).reshape(len(units), -1)


def _shared_or_dense(seed: int, learned: int, epochs: int) -> tuple[float, float, float, float]:
    """Training and test accuracy of a convolution, and of a dense layer for the same map."""
    s = training.split(seed, learned)
    found = []
    for name in ("shared", "dense"):
        rng = np.random.default_rng(seed)
        first = nn.Conv(1, 8, 3, rng) if name == "shared" else nn.Linear(64, 512, rng)
        network = nn.Network([first, nn.Relu(), nn.Linear(512, 10, rng)])
        training.fit(network, s.x, s.labels, epochs, rng)
        found.append(training.accuracy(network, s.x, s.labels))
        found.append(training.accuracy(network, s.test_x, s.test_labels))
    return found[0], found[1], found[2], found[3]


def test_weight_sharing(benchmark: Any, record: Record, suite: Settings) -> None:
    w = np.arange(1, 55, dtype="float32").reshape(3, 2, 3, 3)
    matrix = benchmark(_dense_matrix, w, 8)
    distinct = set(np.unique(matrix)) - {0}
    zeros = float(np.mean(matrix == 0))
    assert distinct == set(w.ravel().tolist())
    counts, rows = {}, []
    for network in networks.load_all(("alexnet", "vgg16", "resnet50", "mobilenet_v2")):
        problems = [layer.problem() for layer in network.layers]
        pairs = [
            (p.k * (p.c // p.groups) * p.r * p.s, p.c * p.h * p.w * p.k * p.p * p.q)
            for p in problems
        ]
        counts[network.title] = pairs
        totals = [
            sum(layer.count * pair[i] for layer, pair in zip(network.layers, pairs, strict=True))
            for i in (0, 1)
        ]
        least = min(dense / shared for shared, dense in pairs)
        rows.append((network.title, totals, least))
    sizes = (50, 200, 1437) if not suite.smoke else (50, 200)
    seeds = range(1 if suite.smoke else 3)
    runs = {
        n: np.array([_shared_or_dense(seed, n, max(10, 4000 // n)) for seed in seeds])
        for n in sizes
    }
    accuracy = {
        "convolution, 80 numbers": {n: found[:, 1] for n, found in runs.items()},
        "dense layer, 33280 numbers": {n: found[:, 3] for n, found in runs.items()},
    }
    gains = {n: float((found[:, 1] - found[:, 3]).mean()) for n, found in runs.items()}
    last = sizes[-1]
    table = Table(("network", "weights of its convolutions", "dense", "least ratio of a layer"))
    for title, (shared, dense), least in rows:
        table.add(title, f"{shared / 1e6:.2f} million", f"{dense / 1e9:.0f} thousand million",
                  f"{least:.0f}")  # fmt: skip
    least = min(ratio for *_, ratio in rows)
    gained = all(gain > 0.01 for gain in gains.values())
    record(
        Claim(
            "weight-sharing",
            "Convolutions need far fewer weights, and overfit less",
            "Convolutions also play a crucial role in overcoming overfitting [...] By extracting "
            "and focusing on key features, convolutions help to reduce the dimensionality of the "
            "input data",
            "A convolution written as the matrix that it is; the weights of all convolution layers "
            "of four networks against those of dense layers that map the same numbers to the same "
            "numbers; and digits learned with a convolution of 8 kernels of 3 x 3 and with a dense "
            f"layer for the same map of 8 x 8 x 8, {len(seeds)} runs.",
            (
                f"The matrix of a 3 x 3 convolution of 8 x 8 pixels, 2 -> 3 channels, has "
                f"{matrix.size} entries: {100 * zeros:.0f} % are 0, the others are its "
                f"{len(distinct)} weights again and again.",
                f"No layer of the four networks saves less than a factor of {least:.0f}; VGG-16's "
                f"convolutions have {rows[1][1][0] / 1e6:.1f} million weights, and would have "
                f"{rows[1][1][1] / 1e12:.0f} million million.",
                f"A network with 80 numbers in its first layer names "
                f"{100 * runs[last][:, 1].mean():.1f} % of the test digits rightly, one with 33280 "
                f"{100 * runs[last][:, 3].mean():.1f} %, after {last} digits; after {sizes[0]}, "
                f"{100 * runs[sizes[0]][:, 1].mean():.1f} and "
                f"{100 * runs[sizes[0]][:, 3].mean():.1f} %.",
                f"Of the digits shown they know {100 * runs[last][:, 0].mean():.1f} and "
                f"{100 * runs[last][:, 2].mean():.1f} %: few weights in this layer do not keep a "
                "network from learning its examples by heart; the map is as large, and the last "
                "layer is dense in both.",
            ),
            HOLDS if gained else LIMITS,
            "Far fewer weights, and new digits are recognised better."
            if gained
            else "Far fewer weights, exactly counted; on these digits a dense layer in its place "
            "does not overfit more.",
            (table,),
            Plot(
                lambda figure: learning_plots.weight_sharing(figure, counts, accuracy),
                (9, 3.2),
                "Weights of convolution layers and of dense layers for the same map (dotted: "
                "equal), and test digits named rightly by the number of digits learned.",
            ),
        )
    )
