"""The picture of a table: bars per layer as shares of peak, and a roofline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import operators
from .bars import ALL, DIRECT, OVERHEAD, PLAIN
from .catalogue import OTHERS
from .record import LayerRecord, Run

#: Series: title, columns of which the fastest is drawn, colour, marker.
SERIES = (
    ("best direct peer", DIRECT, "0.70", "s"),
    ("best of all peers", OTHERS, "0.35", "D"),
    ("fastconv, plain call (of operators: better layout)", PLAIN, "#9ecae1", "o"),
    ("fastconv plan, strict (better layout)", ("strict", "strict_nhwc"), "#2171b5", "o"),
    ("fastconv plan, fast", ("fast",), "#e6550d", "^"),
)

assert set(ALL) < set(OTHERS)


def save(run: Run, path: Path) -> list[Path]:
    """Draw one picture for every network, operator and dtype.

    Returns
    -------
    list of Path
        `path` itself for a single picture; otherwise with network and dtype in the name, and with
        the operator.
    """
    from matplotlib.figure import Figure

    tables = [records for records in run.tables() if records[0].task != OVERHEAD]
    written = []
    for records in tables:
        drawn = [r for r in records if r.peak]
        if not drawn:
            continue
        width = min(max(11.0, 4 + 0.55 * len(drawn)), 24.0)
        figure = Figure(figsize=(width, 11.5), dpi=110, layout="constrained")
        top, bottom = figure.subplots(2, 1, height_ratios=(1, 1.1))
        _bars(top, drawn)
        _roofline(bottom, run, drawn)
        first = drawn[0].task
        threads, title = run.settings["threads"], operators.title(first)
        figure.suptitle(
            f"{title}, batch {first.n}, {threads} thread{'s' if threads != 1 else ''}"
            f" ({run.machine.get('processor', '')})"
        )
        names = [first.network, first.dtype]
        names += [first.operator] if first.operator != "conv2d" else []
        target = path.with_stem("-".join([path.stem, *names])) if len(tables) > 1 else path
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target)
        written.append(target)
    return written


def _share(record: LayerRecord, columns: tuple[str, ...]) -> float | None:
    best = record.best(columns)
    return record.task.flops / best[1] / 1e9 / record.peak if best and record.peak else None


def _present(records: list[LayerRecord]) -> list[tuple[str, tuple[str, ...], str, str]]:
    return [s for s in SERIES if any(_share(r, s[1]) is not None for r in records)]


def _bars(axes: Any, records: list[LayerRecord]) -> None:
    series = _present(records)
    width = 0.84 / max(1, len(series))
    for i, (title, columns, colour, _) in enumerate(series):
        shares = [_share(r, columns) for r in records]
        at = [x + (i - (len(series) - 1) / 2) * width for x in range(len(records))]
        heights = [100 * s if s is not None else 0.0 for s in shares]
        axes.bar(at, heights, width, label=title, color=colour, edgecolor="white", linewidth=0.3)
    axes.axhline(100, color="black", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(records)), [r.task.layer for r in records])
    axes.tick_params(axis="x", rotation=45 if len(records) > 6 else 0)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right" if len(records) > 6 else "center")
    axes.set_xlim(-0.6, len(records) - 0.4)
    axes.set_ylabel("share of the measured multiply-add peak, %")
    axes.grid(axis="y", linewidth=0.4)
    axes.set_axisbelow(True)
    # above the axes, where no bar can hide it
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series), frameon=False)


def _roofline(axes: Any, run: Run, records: list[LayerRecord]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    intensities = [r.task.flops / r.task.bytes for r in records]
    peaks = sorted(r.peak for r in records if r.peak)
    peak, bandwidth = peaks[len(peaks) // 2], run.machine.get("gbytes")
    for title, columns, colour, marker in _present(records):
        points = [
            (x, r.task.flops / best[1] / 1e9)
            for x, r in zip(intensities, records, strict=True)
            if (best := r.best(columns))
        ]
        axes.scatter(
            *zip(*points, strict=True), color=colour, marker=marker, label=title,
            s=70 if marker == "s" else 32, edgecolor="black", linewidth=0.4, zorder=3,
        )  # fmt: skip
    low, high = min(intensities) / 1.5, max(intensities) * 1.5
    axes.axhline(peak, color="black", label=f"peak {peak:.0f} GFLOP/s")
    if bandwidth:
        low = min(low, peak / bandwidth / 2)  # both roofs are to be seen
        end = min(high, peak / bandwidth)
        axes.plot(
            [low, end], [low * bandwidth, end * bandwidth], color="black", linestyle="--",
            label=f"memory {bandwidth:.0f} GB/s",
        )  # fmt: skip
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low, high)
    axes.set_xlabel("operations of the direct sum per byte of x, w and y")
    axes.set_ylabel("GFLOP/s")
    axes.grid(which="both", linewidth=0.3)
    axes.legend(loc="best")
