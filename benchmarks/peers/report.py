"""The tables: a row a layer, a column a peer, effective GFLOP/s; then the bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.tables import Table

from . import bars, operators
from .bars import BARS, OVERHEAD, geometric_mean
from .catalogue import OTHERS, OWN, PEERS
from .record import LayerRecord, Run

NOTE = (
    "GFLOP/s of the direct sum at the median time; above the peak: Winograd or FFT. Columns that "
    "begin with a slash: time of the best other library over fastconv's. -: not computed. WRONG: "
    "outside its tolerance, not counted. Reasons, all samples and errors are in the JSON."
)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _title(column: str) -> str:
    return PEERS[column].title if column in PEERS else column


def cell(record: LayerRecord, column: str) -> str:
    """Speed of a column, or why there is none."""
    entry = record.entries.get(column)
    if entry is None or entry.ok is None or (entry.ok and not entry.samples):
        return "-"
    return "WRONG" if not entry.ok else _figure(record.gflops(column))


def ratio(record: LayerRecord, own: str, peers: Sequence[str]) -> float | None:
    """Time of the best of `peers` over the time of a column of fastconv."""
    best, ours = record.best(peers), record.seconds(own)
    return best[1] / ours if best and ours else None


def _network(run: Run, records: Sequence[LayerRecord]) -> Table:
    """One network in one dtype, the geometric means of the ratios in the last row."""
    used = [c for c in run.columns if any(cell(r, c) != "-" for r in records)]
    own = [c for c in used if c in OWN]
    others = [c for c in used if c in OTHERS]
    first = records[0].task
    head = f"{operators.title(first)}, batch {first.n}, {_threads(run)}, GFLOP/s"
    ratios = own if others else []
    header = (
        "layer", "MFLOP", "peak", *(_title(c) for c in own + others), "best other",
        *(f"/{_title(c)}" for c in ratios),
    )  # fmt: skip
    made = Table(header, head, last_is_total=bool(ratios))
    for r in records:
        best = r.best(others)
        made.add(
            r.task.layer, _figure(r.task.flops / 1e6), _figure(r.peak),
            *(cell(r, c) for c in own + others), _title(best[0]) if best else "-",
            *(_text(ratio(r, c, others)) for c in ratios),
        )  # fmt: skip
    if ratios:
        means = [geometric_mean(v for r in records if (v := ratio(r, c, others))) for c in ratios]
        blank = [""] * (len(own) + len(others) + 3)
        made.add("geometric mean", *blank, *(_text(m) for m in means))
    return made


def _threads(run: Run) -> str:
    count = run.settings["threads"]
    return f"{count} thread{'s' if count != 1 else ''}"


def network_tables(run: Run) -> list[Table]:
    """A table for every network, operator and dtype that was measured, in that order."""
    return [_network(run, records) for records in run.tables() if records[0].task != OVERHEAD]


def summary(run: Run) -> Table:
    """The bars: geometric mean and worst layer of each, and what they are to reach."""
    header = ("time ratio", "layers", "mean", "bar", "worst", "bar", "worst layer", "")
    made = Table(header, "Bars", left=frozenset({0, 6, 7}))
    for bar in BARS:
        outcome = bars.judge(run, bar)
        if outcome is None:
            continue
        worst = outcome.worst
        verdict = "reached" if outcome.reached else "not reached"
        if outcome.missing:
            verdict += f", {len(outcome.missing)} missing: {outcome.missing[0]}"
        made.add(
            bar.title, str(len(outcome.ratios)), _text(outcome.mean), f"{bar.mean:g}",
            _text(worst[1] if worst else None), f"{bar.worst:g}", worst[0] if worst else "-",
            verdict,
        )  # fmt: skip
    return made


def worst_layers(run: Run, count: int = 3) -> Table:
    """The layers with the smallest ratio at every bar, and who is fastest there."""
    header = ("time ratio", "layer", "ratio", "fastest of them")
    made = Table(header, "Worst layers", left=frozenset({0, 1, 3}))
    by_name = {bars.name_of(r.task): r for r in run.layers}
    for bar in BARS:
        outcome = bars.judge(run, bar)
        ratios = outcome.ratios if outcome else {}
        for layer in sorted(ratios, key=ratios.__getitem__)[:count]:
            best = by_name[layer].best(bar.peers)
            made.add(bar.title, layer, _text(ratios[layer]), _title(best[0]) if best else "-")
    return made


def _spread(title: str, values: Mapping[str, float], percent: bool) -> str:
    def text(value: float) -> str:
        return f"{100 * value:.0f} %" if percent else f"{value:.2f}"

    mean = geometric_mean(values.values())
    assert mean is not None
    low = min(values, key=values.__getitem__)
    return f"{title}: geometric mean {text(mean)}, least {text(values[low])} ({low})"


def remarks(run: Run) -> list[str]:
    """Share of peak, the cost of a call, scaling, absent libraries: a line each."""
    lines = []
    for column in (c for c in run.columns if c in OWN):
        if shares := bars.shares_of_peak(run, column):
            lines.append(_spread(f"share of peak from 200 MFLOP, {_title(column)}", shares, True))
    for record in run.layers:
        if record.task.network == OVERHEAD.network:
            times = [(c, record.seconds(c)) for c in run.columns]
            row = ", ".join(f"{_title(c)} {1e6 * t:.1f}" for c, t in times if t)
            lines.append(f"a call of (1, 1, 8, 8) * (1, 1, 3, 3), microseconds: {row}")
    for column in run.columns:
        if values := bars.scaling(run.layers, column):
            title = f"{_title(column)}, one thread over {_threads(run)}"
            lines.append(f"{_spread(title, values, False)}; bar {bars.SCALING} on two")
    if peak := run.machine.get("peak_scaling"):
        lines.append(f"the multiply-add peak itself, {_threads(run)} over one: {peak:.2f}")
    return lines + [f"{column}: {why}" for column, why in run.absent.items()]


def scaling_table(run: Run, column: str) -> Table:
    """Milliseconds on one thread and on all, and their ratio, by layer."""
    header = ("layer", "1 thread, ms", f"{_threads(run)}, ms", "ratio")
    made = Table(header, f"{_title(column)}: scaling", last_is_total=True)
    for record in run.layers:
        one, many = record.seconds(f"{column}@1"), record.seconds(column)
        quotient = one / many if one and many else None
        milliseconds = [_figure(1e3 * t if t else None) for t in (one, many)]
        made.add(bars.name_of(record.task), *milliseconds, _text(quotient))
    made.add(
        "geometric mean", "", "", _text(geometric_mean(bars.scaling(run.layers, column).values()))
    )
    return made
