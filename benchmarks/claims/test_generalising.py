"""What trained networks make of digits that are turned, smaller, or new to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from examples import nn

from benchmarks.claims import learning_plots, training
from benchmarks.claims.record import HOLDS, IMPRECISE, LIMITS, Claim, Plot, Record
from benchmarks.settings import Settings
from benchmarks.tables import Table

Array = np.ndarray[Any, Any]

TURNED_SIZE, SCALED_SIZE = 12, 16
ANGLES = (0, 15, 30, 45, 60, 90, 120, 150, 180)
SCALES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


def _seeds(suite: Settings) -> range:
    return range(1 if suite.smoke else 3)


def _turned(x: Array, degrees: Any) -> Array:
    return training.resampled(x, np.broadcast_to(degrees, len(x)), np.ones(len(x)), TURNED_SIZE)


def _randomly_turned(x: Array, rng: np.random.Generator) -> Array:
    return _turned(x, rng.uniform(-180, 180, len(x)))


def _confusion(network: nn.Network, s: training.Split) -> Array:
    """Share of the test digits of each kind (rows), turned at random, that are named as each."""
    rng = np.random.default_rng(99)
    counts = np.zeros((10, 10))
    for _ in range(8):
        named = network.predict(_randomly_turned(s.test_x, rng))
        np.add.at(counts, (s.test_labels, named), 1)
    shares: Array = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _rotation(seed: int, epochs: int) -> dict[str, tuple[list[float], Array]]:
    """Accuracy by angle, and confusion on random angles, of both ways to train."""
    s = training.split(seed)
    results = {}
    for name, augment, times in (("upright", None, 1), ("turned", _randomly_turned, 2)):
        rng = np.random.default_rng(seed)
        network = training.deep(TURNED_SIZE, rng)
        x = s.x if augment else _turned(s.x, 0)
        training.fit(network, x, s.labels, epochs * times, rng, augment)
        curve = [
            training.accuracy(network, _turned(s.test_x, angle), s.test_labels) for angle in ANGLES
        ]
        results[name] = curve, _confusion(network, s)
    return results


def test_rotation_training(benchmark: Any, record: Record, suite: Settings) -> None:
    epochs = 4 if suite.smoke else 12
    first, *others = _seeds(suite)
    runs = [benchmark.pedantic(_rotation, (first, epochs), rounds=1)]
    runs += [_rotation(seed, epochs) for seed in others]
    curves = {name: np.array([run[name][0] for run in runs]) for name in ("upright", "turned")}
    confusion = {name: np.mean([run[name][1] for run in runs], axis=0) for name in curves}
    known = {name: float(np.diag(shares).mean()) for name, shares in confusion.items()}
    turned = confusion["turned"]
    mixed = turned[6, 9] + turned[9, 6]
    pairs = {(a, b): turned[a, b] + turned[b, a] for a in range(10) for b in range(a)}
    usual = float(np.mean(list(pairs.values())))
    most = max(pairs, key=lambda pair: pairs[pair])
    upright = {name: float(curve[:, 0].mean()) for name, curve in curves.items()}
    lost = upright["upright"] - upright["turned"]
    improves, confuses = known["turned"] > known["upright"] + 0.1, mixed > 3 * usual
    assert suite.smoke or improves
    table = Table(("trained on", *(f"{angle}°" for angle in ANGLES), "any angle"))
    for name, label in (("upright", "upright digits"), ("turned", "digits turned at random")):
        means = 100 * curves[name].mean(axis=0)
        table.add(label, *(f"{v:.1f} %" for v in means), f"{100 * known[name]:.1f} %")
    record(
        Claim(
            "rotation-training",
            "Training on rotated images helps, but not six and nine",
            "This is normally improved by training convolutions on images that are randomly "
            "rotated during training time but this is not always possible, for instance when "
            "trying to recognize numbers a six rotated 180 degrees upside down becomes a nine.",
            f"A network of two convolution layers trained on 1437 handwritten digits, upright or "
            f"turned by a random angle each time they are shown; 360 others to test, turned. "
            f"Means of {len(runs)} runs.",
            (
                f"Trained on upright digits the network names {100 * upright['upright']:.1f} % of "
                f"upright ones rightly, {100 * curves['upright'][:, ANGLES.index(45)].mean():.0f} "
                f"% at 45 degrees, {100 * known['upright']:.0f} % at any angle.",
                f"Upside down, {100 * curves['upright'][:, -1].mean():.0f} %: a 0, a 1 and an 8 "
                "are what they were.",
                f"Trained on turned digits it names {100 * known['turned']:.0f} % rightly at any "
                f"angle, and pays at the upright ones: {100 * upright['turned']:.1f} %, "
                f"{100 * lost:.1f} points fewer.",
                f"Of sixes at random angles {100 * turned[6, 9]:.0f} % are then taken for nines, "
                f"of nines {100 * turned[9, 6]:.0f} % for sixes: {mixed / usual:.0f} times as many "
                "as of a pair of digits on average"
                + (
                    ", more than of any other pair."
                    if most == (9, 6)
                    else f"; {most[1]} and {most[0]} are mixed up more often still."
                ),
            ),
            HOLDS if improves and confuses else LIMITS if improves else IMPRECISE,
            "Both: rotated digits are recognised, and six and nine are what it costs most."
            if improves and confuses and most == (9, 6)
            else "Rotated digits are recognised; six and nine are not the only ones mixed up."
            if improves
            else "Training on rotated digits did not help here.",
            (table,),
            Plot(
                lambda figure: learning_plots.rotation(figure, ANGLES, curves, turned),
                (9, 3.4),
                "Test digits named rightly by the angle they are turned by (lines: means, bands: "
                "all runs), and what the network trained on turned digits takes turned digits for.",
            ),
        )
    )


def _scaled(x: Array, scales: Any) -> Array:
    return training.resampled(x, np.zeros(len(x)), np.broadcast_to(scales, len(x)), SCALED_SIZE)


def _scale(seed: int, epochs: int) -> dict[str, list[float]]:
    """Accuracy by size, of a network trained at one size and of one trained at all."""
    s = training.split(seed)
    results = {}
    for name in ("large", "all"):
        rng = np.random.default_rng(seed)
        network = training.deep(SCALED_SIZE, rng)
        if name == "large":
            training.fit(network, _scaled(s.x, 2), s.labels, epochs, rng)
        else:
            training.fit(
                network, s.x, s.labels, epochs, rng,
                lambda x, rng: _scaled(x, rng.uniform(SCALES[0], SCALES[-1], len(x))),
            )  # fmt: skip
        results[name] = [
            training.accuracy(network, _scaled(s.test_x, scale), s.test_labels) for scale in SCALES
        ]
    return results


def test_scale_training(benchmark: Any, record: Record, suite: Settings) -> None:
    epochs = 2 if suite.smoke else 8
    first, *others = _seeds(suite)
    runs = [benchmark.pedantic(_scale, (first, epochs), rounds=1)]
    runs += [_scale(seed, epochs) for seed in others]
    curves = {name: np.array([run[name] for run in runs]) for name in ("large", "all")}
    large, every = (curves[name].mean(axis=0) for name in ("large", "all"))
    fails = large[0] < large[-1] - 0.2
    assert suite.smoke or (fails and every[0] > large[0])
    sizes = [f"{scale / 2:.0%}".replace("%", " %") for scale in SCALES]
    table = Table(("trained on", *sizes))
    table.add("large digits", *(f"{100 * v:.1f} %" for v in large))
    table.add("digits of all sizes", *(f"{100 * v:.1f} %" for v in every))
    example = training.split(0).test_x[:1]
    drawn = [_scaled(example, scale)[0, 0] for scale in (SCALES[-1], 1.4, SCALES[0])]
    record(
        Claim(
            "scale-training",
            "A network trained on large objects misses small ones",
            "A network trained to recognize large objects might fail to recognize the same objects "
            "when they are smaller in the image.",
            f"A network of two convolution layers trained on 1437 handwritten digits that fill "
            f"{SCALED_SIZE} x {SCALED_SIZE} pixels; 360 others to test, in the middle of as many "
            f"pixels, down to half as large. Means of {len(runs)} runs.",
            (
                f"At the size it was trained with it names {100 * large[-1]:.1f} % rightly, at 80 "
                f"% of that size {100 * large[SCALES.index(1.6)]:.0f} %, at half the size "
                f"{100 * large[0]:.0f} %; guessing gives 10 %.",
                f"Trained on digits of all these sizes, for as long, the same network names "
                f"{100 * every[0]:.0f} to {100 * every.max():.0f} % rightly at every size.",
                "So the network could; what it has learned is the size it was shown. The kernels "
                "are not to blame alone: the linear layer behind them reads maps at fixed places.",
            ),
            HOLDS if fails else IMPRECISE,
            "It fails where it has seen one size only; shown all sizes, it does not."
            if fails
            else "It recognised small digits as well.",
            (table,),
            Plot(
                lambda figure: learning_plots.scale(figure, drawn, SCALES, curves),
                (9, 2.9),
                "A digit at full, 70 % and half size, and test digits named rightly by their size "
                "(lines: means, bands: all runs).",
            ),
        )
    )


#: Name, weight decay, share of the numbers dropped.
REGULARISERS = (
    ("none", 0.0, 0.0), ("weight decay", 0.03, 0.0), ("dropout", 0.0, 0.5), ("both", 0.03, 0.5)
)  # fmt: skip
FEW, WRONG = 100, 0.2


def _small_network(rng: np.random.Generator, drop: float) -> nn.Network:
    dropout = [nn.Dropout(drop, rng)] if drop else []
    return nn.Network(
        [
            nn.Conv(1, 16, 3, rng), nn.Relu(), nn.Conv(16, 32, 3, rng), nn.Relu(), nn.MaxPool(),
            *dropout, nn.Linear(32 * 4 * 4, 10, rng),
        ]
    )  # fmt: skip


def _regularised(seeds: range, epochs: int, wrong: float) -> dict[str, Array]:
    """Training and test accuracy of every seed, by regulariser."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in REGULARISERS}
    for seed in seeds:
        s = training.split(seed, FEW)
        rng = np.random.default_rng(seed)
        labels = np.where(
            rng.random(FEW) < wrong, (s.labels + rng.integers(1, 10, FEW)) % 10, s.labels
        )
        for name, decay, drop in REGULARISERS:
            rng = np.random.default_rng(seed)
            network = _small_network(rng, drop)
            training.fit(network, s.x, labels, epochs, rng, decay=decay)
            learned = training.accuracy(network, s.x, labels)
            found[name].append((learned, training.accuracy(network, s.test_x, s.test_labels)))
    return {name: np.array(pairs) for name, pairs in found.items()}


def test_regularisation(benchmark: Any, record: Record, suite: Settings) -> None:
    seeds = range(1 if suite.smoke else 5)
    epochs = 10 if suite.smoke else 60
    noisy = benchmark.pedantic(_regularised, (seeds, epochs, WRONG), rounds=1)
    clean = _regularised(seeds, epochs, 0)
    gaps = {
        kind: {name: float((pairs[:, 0] - pairs[:, 1]).mean()) for name, pairs in found.items()}
        for kind, found in (("noisy", noisy), ("clean", clean))
    }
    overfits = gaps["noisy"]["none"] > 0.1
    names = [name for name, _, _ in REGULARISERS[1:]]
    narrower = {
        kind: [name for name in names if gap[name] < gap["none"] - 0.005]
        for kind, gap in gaps.items()
    }
    assert suite.smoke or (overfits and "both" in narrower["noisy"])
    table = Table(
        ("regularisation", "training", "test", "gap", "training, labels right", "test", "gap")
    )
    for name, _, _ in REGULARISERS:
        cells = []
        for kind, found in (("noisy", noisy), ("clean", clean)):
            cells += [f"{100 * v:.1f} %" for v in found[name].mean(axis=0)]
            cells.append(f"{100 * gaps[kind][name]:.1f}")
        table.add(name, *cells)
    everywhere = all(len(found) == len(names) for found in narrower.values())
    record(
        Claim(
            "regularisation",
            "Convolutions overfit unless regularised",
            "While convolutions help to reduce overfitting by focusing on key features and "
            "reducing the dimensionality of the data, they can still overfit on the training data "
            "if not properly regularized.",
            f"Two convolution layers trained on {FEW} handwritten digits, {100 * WRONG:.0f} % of "
            f"them with a wrong label, and again with all labels right: accuracy on these {FEW}, "
            f"and on 360 others with their right labels. Means of {len(seeds)} runs.",
            (
                f"Without regularisation the network learns {100 * noisy['none'][:, 0].mean():.0f} "
                f"% of the {FEW} labels, wrong ones included, and names "
                f"{100 * noisy['none'][:, 1].mean():.0f} % of new digits rightly: a gap of "
                f"{100 * gaps['noisy']['none']:.0f} points.",
                f"Weight decay of 0.03 brings it to {100 * gaps['noisy']['weight decay']:.0f}, "
                f"dropout of one half to {100 * gaps['noisy']['dropout']:.0f}, both to "
                f"{100 * gaps['noisy']['both']:.0f} points; the test accuracy with both is "
                f"{100 * noisy['both'][:, 1].mean():.0f} %.",
                f"With right labels there is less to overfit to: {100 * gaps['clean']['none']:.1f} "
                f"points without, {100 * gaps['clean']['weight decay']:.1f} with decay, "
                f"{100 * gaps['clean']['dropout']:.1f} with dropout, "
                f"{100 * gaps['clean']['both']:.1f} with both.",
                "What narrows the gap most lowers the training accuracy most: the network stops "
                "learning wrong labels by heart.",
            ),
            (HOLDS if everywhere else LIMITS) if overfits and narrower["noisy"] else IMPRECISE,
            "They overfit, and regularisation narrows the gap between training and test; it does "
            "not close it."
            if overfits and narrower["noisy"]
            else "Regularisation did not narrow the gap here.",
            (table,),
            Plot(
                lambda figure: learning_plots.regularisation(figure, noisy, clean),
                (9, 3.0),
                "Accuracy on the digits learned and on new ones, of each run, with a fifth of the "
                "labels wrong and with all of them right.",
            ),
        )
    )
