"""The pictures of the claims report. Each function fills an empty matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BLUE, ORANGE, GREEN, RED, GREY = "#2f6db3", "#e08a1e", "#3d9970", "#c0392b", "#7a8288"
CYCLE = (BLUE, ORANGE, GREEN, RED, "#8e5ea2")

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "image.interpolation": "nearest",
}


def picture(axes: Any, image: Array, title: str, signed: bool = False) -> None:
    """Show an image; signed ones with zero in the middle of the scale."""
    limit = float(np.abs(image).max()) or 1.0
    axes.imshow(image, cmap="gray", vmin=-limit if signed else 0, vmax=limit)
    axes.set_title(title)
    axes.set_axis_off()


def formula(figure: Any, image: Array, correlated: Array, convolved: Array) -> None:
    a, b, c = figure.subplots(1, 3)
    picture(a, image, "image I")
    picture(b, correlated, "what networks compute (flip=False)", signed=True)
    picture(c, convolved, "the printed formula (flip=True)", signed=True)


def feature_maps(figure: Any, image: Array, maps: Array, names: Sequence[str]) -> None:
    first, *others = figure.subplots(1, 1 + len(names))
    picture(first, image, "input")
    for axes, name, answer in zip(others, names, maps, strict=True):
        picture(axes, answer, name, signed=bool(answer.min() < 0))


def edges(
    figure: Any, image: Array, maps: tuple[Array, Array], angles: Array, answers: Array
) -> None:
    a, b, c, d = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    picture(a, image, "input")
    picture(b, np.abs(maps[0]), "horizontal-edge kernel")
    picture(c, np.abs(maps[1]), "vertical-edge kernel")
    fine = np.linspace(0, 180, 181)
    d.plot(fine, np.cos(np.deg2rad(fine)), color=GREY, linewidth=1, linestyle=":", label="cosine")
    d.plot(angles, answers / answers[0], "o", color=BLUE, label="measured")
    d.set(xlabel="angle of the edge, degrees", title="answer / answer at 0°")
    d.set_xticks(range(0, 181, 45))
    d.legend()


def stride(
    figure: Any, strides: Sequence[int], sizes: Sequence[int], overlaps: Sequence[float],
    unread: Sequence[float], kernel: int,
) -> None:  # fmt: skip
    a, b = figure.subplots(1, 2)
    a.plot(strides, [sizes[0] / s for s in strides], color=GREY, linewidth=1, linestyle=":",
           label="1 / stride")  # fmt: skip
    a.plot(strides, sizes, "o", color=BLUE, label="map")
    a.set(xlabel="stride", ylabel="pixels across", ylim=(0, None), title="size of the feature map")
    a.legend()
    b.plot(strides, [100 * v for v in overlaps], "o-", color=BLUE,
           label="overlap with the previous step")  # fmt: skip
    b.plot(strides, [100 * v for v in unread], "s-", color=ORANGE, label="input columns never read")
    b.axvline(kernel, color=GREY, linewidth=1, linestyle=":")
    b.set(xlabel="stride", ylabel="%", ylim=(-4, 108), title=f"kernel of {kernel} x {kernel}")
    b.legend()


def dimensionality(figure: Any, curves: dict[str, list[tuple[int, float]]]) -> None:
    axes = figure.subplots()
    axes.axhline(1, color=GREY, linewidth=1)
    axes.text(7, 1.08, "the image", ha="right", color=GREY)
    for color, (name, curve) in zip(CYCLE, curves.items(), strict=False):
        axes.plot(*zip(*curve, strict=True), "o-", color=color, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.invert_xaxis()
    ticks = (224, 112, 56, 28, 14, 7)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    heights = (0.25, 0.5, 1, 2, 4, 8, 16)
    axes.set_yticks(heights, [f"{h:g}" for h in heights])
    axes.minorticks_off()
    axes.set(xlabel="pixels across the map, first layers to last", ylabel="numbers, x image")
    axes.legend()


def orientation(
    figure: Any, page: Array, found: Array, turned: Array, angles: Sequence[float],
    scores: Sequence[float],
) -> None:  # fmt: skip
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.6))
    a, b, c = left.subplots(3, 1)
    picture(a, page, "page")
    picture(b, np.maximum(found, 0), "kernel of the six, flip=False")
    picture(c, np.maximum(turned, 0), "kernel of the six, flip=True")
    d = right.subplots()
    d.plot(angles, scores, "o-", color=BLUE)
    d.annotate("nine", (180, scores[angles.index(180)]), xytext=(0, 10), ha="center",
               textcoords="offset points")  # fmt: skip
    d.annotate("six", (0, 1), xytext=(10, -2), textcoords="offset points")
    d.set(xlabel="the six is turned by, degrees", ylim=(0, 1.08),
          title="largest answer / largest answer to the upright six")  # fmt: skip
    d.set_xticks(range(0, 361, 90))


def scale(
    figure: Any, drawn: dict[float, Array], scales: Sequence[float], scores: Sequence[float]
) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    for axes, factor in zip(left.subplots(1, 3), (0.5, 1.0, 1.3), strict=True):
        picture(axes, drawn[factor], f"x {factor:g}")
    axes = right.subplots()
    axes.axvline(1, color=GREY, linewidth=1, linestyle=":")
    axes.plot(scales, scores, "o-", color=BLUE)
    axes.set(xlabel="size of the six", ylim=(0, 1.08), title="largest answer / that at size 1")


def cost_networks(figure: Any, each: dict[str, tuple[int, float]]) -> None:
    a, b = figure.subplots(1, 2, sharey=True)
    names = list(each)
    macs = [count / 1e9 for count, _ in each.values()]
    price = [1e12 * time / count for count, time in each.values()]
    for axes, values, form in ((a, macs, "{:.2f}"), (b, price, "{:.1f}")):
        bars = axes.barh(names, values, color=CYCLE[: len(names)], height=0.62)
        axes.bar_label(bars, [form.format(v) for v in values], padding=3)
        axes.set_xlim(0, max(values) * 1.15)
        axes.grid(visible=False, axis="y")
    a.invert_yaxis()
    a.set_title("multiply-accumulates, billions")
    b.set_title("time of one, ps")


def cost_linear(figure: Any, fits: dict[str, Any]) -> None:
    all_axes = figure.subplots(1, len(fits), sharey=True)
    for axes, color, (name, (sizes, times, _, timed)) in zip(
        all_axes, CYCLE, fits.items(), strict=True
    ):
        ms = 1e3 * np.asarray(times)
        middle = np.exp(np.log(sizes).mean()), np.exp(np.log(ms).mean())
        axes.plot(sizes, middle[1] * np.asarray(sizes) / middle[0], color=GREY, linewidth=1,
                  linestyle=":")  # fmt: skip
        axes.plot(sizes, ms, "o-", color=color)
        axes.set(xscale="log", yscale="log", xlabel=name, title=f"{name}: {timed}")
        axes.set_xticks(sizes, [str(s) for s in sizes])
        if len(sizes) > 5:
            axes.set_xticks([s for s in sizes if s not in (4, 49, 81)])
        axes.minorticks_off()
    all_axes[0].set_ylabel("ms")


def cost_stride(
    figure: Any, strides: Sequence[int], macs: Sequence[int], times: Sequence[float]
) -> None:
    axes = figure.subplots()
    axes.plot(strides, [m / macs[0] for m in macs], "o:", color=GREY, label="counted, 1 / stride²")
    axes.plot(strides, [t / times[0] for t in times], "s-", color=BLUE, label="time")
    axes.set(xscale="log", yscale="log", xlabel="stride", ylabel="cost / cost at stride 1")
    axes.set_xticks(strides, [str(s) for s in strides])
    axes.minorticks_off()
    axes.legend()
