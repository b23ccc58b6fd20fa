"""What convolutions cost: counted exactly, and measured on the backend that fastconv chooses."""

from __future__ import annotations

from typing import Any

import pytest

import fastconv
from benchmarks import measure, networks
from benchmarks.claims import plots
from benchmarks.claims.fits import PowerLaw, power_law
from benchmarks.claims.record import HOLDS, LIMITS, Claim, Plot, Record
from benchmarks.settings import Settings
from benchmarks.tables import Table
from fastconv import ConvProblem

NETWORKS = ("alexnet", "vgg16", "resnet50", "mobilenet_v2")


def _counted(problem: ConvProblem) -> tuple[int, int]:
    """Multiplications of the definition, and those with a pixel that is not padding: counted by
    walking over output pixels and taps, one axis at a time."""

    def axis(size: int, outputs: int, taps: int, i: int) -> tuple[int, int]:
        starts = [o * problem.stride[i] - problem.pad[i][0] for o in range(outputs)]
        places = [start + t * problem.dilation[i] for start in starts for t in range(taps)]
        return len(places), sum(0 <= place < size for place in places)

    rows, real_rows = axis(problem.h, problem.p, problem.r, 0)
    columns, real_columns = axis(problem.w, problem.q, problem.s, 1)
    kernels = problem.n * problem.k * problem.c // problem.groups
    return kernels * rows * columns, kernels * real_rows * real_columns


def test_cost_layer(benchmark: Any, record: Record) -> None:
    layer = networks.load("vgg16").layers[5]
    border = 0.0
    for network in networks.load_all():
        for each in network.layers:
            macs, on_pixels = _counted(each.problem())
            assert macs == each.macs, f"{network.name} {each.name}"
            border = max(border, 1 - on_pixels / macs)
    small = networks.load("vgg16").layers[-1].problem()
    small_share = 1 - _counted(small)[1] / small.cost.macs
    p = layer.problem()
    best = benchmark.pedantic(measure.layer_seconds, (layer,), rounds=1)
    backend, algorithm = measure.chosen(p, "default")
    threads = fastconv.show_config("dict")["options"]["threads"]
    assert best > 0
    record(
        Claim(
            "cost-layer",
            "One convolution is many multiplications and additions",
            "Each convolution operation involves multiple multiplications and additions",
            "`conv_cost` of every layer of every data file against a count that walks over "
            "output pixels and kernel taps; and the time of one layer, VGG-16's conv3_2.",
            (
                "One output element costs (C / groups) * R * S multiply-accumulates, one layer "
                "N * K * P * Q times as many: equal to the count for every layer.",
                f"VGG-16's conv3_2 (256 -> 256 channels, 3 x 3, {p.h} x {p.w} pixels): "
                f"{p.reduction} for one output element, {p.cost.macs / 1e9:.2f} * 10^9 for the "
                f"layer. {1e3 * best:.1f} ms on {backend} ({algorithm}), at most {threads} "
                f"threads: {1e12 * best / p.cost.macs:.1f} ps each, "
                f"{p.cost.flops / best / 1e9:.0f} GFLOP/s.",
                f"Part of the count is multiplication by padding: {100 * small_share:.0f} % in "
                f"VGG-16's last layers ({small.h} x {small.w} pixels), up to "
                f"{100 * border:.0f} % in the data files.",
            ),
            HOLDS,
            f"From 1 to {_largest_reduction()} of each, in the networks here.",
        )
    )


def _largest_reduction() -> int:
    return max(layer.problem().reduction for n in networks.load_all() for layer in n.layers)


def _network_table(seconds: dict[str, float]) -> Table:
    table = Table(("network", "convolutions", "million windows", "million MAC", "ms an image",
                   "ps / MAC", "images / s"))  # fmt: skip
    for network in networks.load_all(NETWORKS):
        time = seconds[network.name]
        table.add(
            network.title, str(sum(layer.count for layer in network.layers)),
            f"{network.outputs / 1e6:.1f}", f"{network.macs / 1e6:.0f}", f"{1e3 * time:.1f}",
            f"{1e12 * time / network.macs:.1f}", f"{1 / time:.0f}",
        )  # fmt: skip
    return table


def _network_seconds(name: str, repeats: int) -> float:
    layers = networks.load(name).layers
    return sum(measure.layer_seconds(layer, repeats) * layer.count for layer in layers)


def test_cost_networks(benchmark: Any, record: Record, suite: Settings) -> None:
    names = NETWORKS if not suite.smoke else ("alexnet", "mobilenet_v2")
    seconds = {name: _network_seconds(name, 1 if suite.smoke else 3) for name in names[:-1]}
    seconds[names[-1]] = benchmark.pedantic(
        _network_seconds, (names[-1], 1 if suite.smoke else 3), rounds=1
    )
    # A smoke test times two networks; the others' rows stand on AlexNet's time per MAC.
    for network in networks.load_all(NETWORKS):
        alexnet = networks.load("alexnet")
        seconds.setdefault(network.name, seconds["alexnet"] * network.macs / alexnet.macs)
    each = {n.title: (n.macs, seconds[n.name]) for n in networks.load_all(NETWORKS)}
    costs = [time / macs for macs, time in each.values()]
    counts = {n.name: n.macs for n in networks.load_all(NETWORKS)}
    assert counts == {
        "alexnet": 655566528, "vgg16": 15346630656, "resnet50": 4087136256,
        "mobilenet_v2": 299494272,
    }  # fmt: skip
    record(
        Claim(
            "cost-networks",
            "A network has millions or billions of these operations",
            "a network may have millions or even billions of these operations",
            "The convolutions of four networks on one image of 224 x 224: counted, and each "
            "distinct layer timed, batch 1, times its count.",
            (
                'Read as applications of a kernel ("convolution operation", windows), networks '
                "have millions: 0.5 million in AlexNet, 13.5 million in VGG-16.",
                "Read as multiplications and additions, they have 0.3 to 15.3 thousand million "
                "multiply-accumulates, twice as many operations.",
                f"The price of one differs by a factor of {max(costs) / min(costs):.1f} between "
                "the networks: the count alone does not tell the time. Depthwise layers reuse "
                "each pixel R * S times only, small maps leave the edges of tiles empty.",
                *(("Smoke run: VGG-16 and ResNet-50 are estimated.",) if suite.smoke else ()),
            ),
            HOLDS,
            "Millions of windows, billions of multiply-accumulates.",
            (_network_table(seconds),),
            Plot(
                lambda figure: plots.cost_networks(figure, each),
                (9, 2.6),
                "Multiply-accumulates of the convolutions, and the time of one.",
            ),
        )
    )


def _square(channels: int, pixels: int) -> ConvProblem:
    return ConvProblem.describe(
        (1, channels, pixels, pixels), (channels, channels, 3, 3), pad="same"
    )


def _affordable_channels(smoke: bool) -> int:
    """Channels at which a 3x3 layer on 56 x 56 pixels takes about 4 ms here, at most 64."""
    if smoke:
        return 8
    trial = measure.case(_square(16, 56))
    trial.run()
    rate = trial.problem.cost.macs / measure.seconds(trial.run, 3, budget=0.1)
    affordable = (0.004 * rate / (56 * 56 * 9)) ** 0.5
    return max((c for c in (8, 16, 32, 64) if c <= affordable), default=8)


def _series(channels: int, smoke: bool) -> dict[str, list[tuple[int, ConvProblem]]]:
    """For each size, problems that differ in it alone; `same` padding keeps P = H and Q = W."""
    factors = (1, 2, 4) if smoke else (1, 2, 4, 8, 16)
    kernels = (1, 3, 5) if smoke else (1, 2, 3, 5, 7, 9, 11)
    c, pixels = channels, 56

    def problem(h: int = pixels, w: int = pixels, c_: int = c, k: int = c, r: int = 3) -> Any:
        return ConvProblem.describe((1, c_, h, w), (k, c_, r, r), pad="same")

    return {
        "H": [(14 * f, problem(h=14 * f)) for f in factors],
        "W": [(14 * f, problem(w=14 * f)) for f in factors],
        "C": [(c * f // 4, problem(c_=c * f // 4)) for f in factors if c * f >= 4],
        "K": [(c * f // 4, problem(k=c * f // 4)) for f in factors if c * f >= 4],
        "R*S": [(r * r, problem(r=r)) for r in kernels],
    }


def _times(problems: list[ConvProblem], rounds: int) -> list[float]:
    """Best time of each problem; the rounds go through all of them, so that a busy moment of the
    machine does not fall on one."""
    cases = [measure.case(problem) for problem in problems]
    for each in cases:
        each.run()
    times = [float("inf")] * len(cases)
    for _ in range(rounds):
        times = [min(t, measure.seconds(c.run)) for t, c in zip(times, cases, strict=True)]
    return times


def _fits(
    series: dict[str, list[tuple[int, ConvProblem]]], rounds: int
) -> dict[str, tuple[list[int], list[float], PowerLaw, PowerLaw]]:
    """Sizes, times, and the fits of counted cost and of time, by the size that varies."""
    fits = {}
    for name, points in series.items():
        sizes = [size for size, _ in points]
        times = _times([problem for _, problem in points], rounds)
        macs = [problem.cost.macs for _, problem in points]
        fits[name] = sizes, times, power_law(sizes, macs), power_law(sizes, times)
    return fits


def _exponents(fits: dict[str, tuple[list[int], list[float], PowerLaw, PowerLaw]]) -> Table:
    table = Table(("size", "from", "to", "exponent of MACs", "exponent of time",
                   "time at the largest"))  # fmt: skip
    for name, (sizes, times, counted, timed) in fits.items():
        table.add(name, str(sizes[0]), str(sizes[-1]), f"{counted.exponent:.6f}", str(timed),
                  f"{1e3 * times[-1]:.2f} ms")  # fmt: skip
    return table


def test_cost_linear(benchmark: Any, record: Record, suite: Settings) -> None:
    channels = _affordable_channels(suite.smoke)
    series = _series(channels, suite.smoke)
    fits = benchmark.pedantic(_fits, (series, 2 if suite.smoke else 9), rounds=1)
    slopes = [timed.exponent for *_, timed in fits.values()]
    for name, (_, _, counted, timed) in fits.items():
        assert counted.exponent == pytest.approx(1, abs=1e-9), name
        assert counted.margin == pytest.approx(0, abs=1e-6), name
        # On a busy machine waiting can hide all growth; growth like the square it cannot fake.
        assert suite.smoke or -0.5 < timed.exponent < 1.9, f"{name}: {timed}"
    record(
        Claim(
            "cost-linear",
            "The cost is linear in every size",
            "Convolutions, especially in deep neural networks, can be computationally expensive. "
            "Each convolution operation involves multiple multiplications and additions",
            f"A layer of {channels} -> {channels} channels, 3 x 3, on 56 x 56 pixels with `same` "
            "padding, one of H, W, C, K, R * S varied at a time: exponents fitted to the "
            "logarithms by least squares, with 95 % confidence intervals.",
            (
                "Counted, the cost is proportional to each size: every exponent is 1, exactly.",
                f"Measured, the exponents lie between {min(slopes):.2f} and {max(slopes):.2f}. "
                "Below 1 means that the large problems are cheaper for each "
                "multiply-accumulate: a call has fixed costs, and small sizes leave part of a "
                "SIMD tile empty. Caches push the other way.",
                "Without padding, H and W enter as H - R + 1 and W - S + 1, and the count is "
                "linear only where the image is much larger than the kernel.",
            ),
            LIMITS,
            "The count is linear exactly; time is, up to fixed costs, tile edges and caches.",
            (_exponents(fits),),
            Plot(
                lambda figure: plots.cost_linear(figure, fits),
                (10, 2.6),
                "Time against one size at a time, both logarithmic; the grey line has slope 1.",
            ),
        )
    )


def test_cost_stride(benchmark: Any, record: Record, suite: Settings) -> None:
    channels = _affordable_channels(suite.smoke)
    pixels = 60 if suite.smoke else 120
    strides = (1, 2, 3, 4, 5, 6)  # all divide the image, so that P = H / stride exactly
    problems = [
        ConvProblem.describe(
            (1, channels, pixels, pixels), (channels, channels, 3, 3), stride=s, pad="same"
        )
        for s in strides
    ]
    times = benchmark.pedantic(_times, (problems, 2 if suite.smoke else 9), rounds=1)
    macs = [problem.cost.macs for problem in problems]
    counted, timed = power_law(strides, macs), power_law(strides, times)
    table = Table(("stride", *map(str, strides)))
    table.add("million MAC", *(f"{m / 1e6:.1f}" for m in macs))
    table.add("ms", *(f"{1e3 * t:.2f}" for t in times))
    table.add("ps / MAC", *(f"{1e12 * t / m:.1f}" for t, m in zip(times, macs, strict=True)))
    assert macs == [macs[0] // (s * s) for s in strides]
    assert counted.exponent == pytest.approx(-2, abs=1e-9)
    assert suite.smoke or -3.5 < timed.exponent < 0.5, timed
    record(
        Claim(
            "cost-stride",
            "Stride cuts the cost by its square",
            "A larger stride results in a smaller feature map and less overlap.",
            f"{channels} -> {channels} channels, 3 x 3, on {pixels} x {pixels} pixels, strides 1 "
            "to 6.",
            (
                f"Counted: exponent {counted.exponent:.6f}. The cost falls as 1 / stride^2, "
                "because the map shrinks in both directions.",
                f"Measured: exponent {timed}. Wider steps read memory less evenly, and smaller "
                "maps carry the fixed costs of a call.",
            ),
            LIMITS,
            "The count falls exactly so where the stride divides the size; time follows it until "
            "fixed costs show.",
            (table,),
            Plot(
                lambda figure: plots.cost_stride(figure, strides, macs, times),
                (5, 2.9),
                "Cost by stride relative to stride 1, both axes logarithmic.",
            ),
        )
    )
