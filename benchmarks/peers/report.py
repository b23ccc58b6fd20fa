"""The tables: a row a layer, a column a peer, effective GFLOP/s."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks import networks
from benchmarks.tables import Table

from .catalogue import OTHERS, OWN, PEERS
from .record import LayerRecord, Run

NOTE = (
    "GFLOP/s of the direct sum at the median time (above the peak: Winograd or FFT). Columns of "
    "ratios: best peer's time over fastconv's. -: not computed; WRONG: result outside its "
    "tolerance, not counted; the reasons are in the JSON."
)


def geometric_mean(values: Iterable[float]) -> float | None:
    """Geometric mean of positive numbers; None of none."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def cell(record: LayerRecord, column: str) -> str:
    """Speed of a column, or why there is none."""
    entry = record.entries.get(column)
    if entry is None or entry.ok is None:
        return "-"
    return "WRONG" if not entry.ok else _figure(record.gflops(column))


def ratio(record: LayerRecord, own: str, peers: Sequence[str]) -> float | None:
    """Time of the best of `peers` over the time of a column of fastconv."""
    best, ours = record.best(peers), record.seconds(own)
    return best[1] / ours if best and ours else None


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def table(run: Run, network: str, dtype: str) -> Table:
    """One network in one dtype, the geometric means of the ratios in the last row."""
    records = [r for r in run.layers if (r.task.network, r.task.dtype) == (network, dtype)]
    used = [c for c in run.columns if any(r.entries[c].ok is not None for r in records)]
    own = [c for c in used if c in OWN]
    others = [c for c in used if c in OTHERS]
    title = networks.load(network).title if network in networks.NAMES else network
    s = run.settings
    head = f"{title}, {dtype}, batch {records[0].task.n}, {s['threads']} threads, GFLOP/s"
    header = (
        "layer", "MFLOP", "peak", *(_title(c) for c in own + others), "best",
        *(f"/{_title(c)}" for c in own),
    )  # fmt: skip
    made = Table(header, head, left=frozenset({0}), last_is_total=bool(others))
    for r in records:
        best = r.best(others)
        made.add(
            r.task.layer, _figure(r.task.flops / 1e6), _figure(r.peak),
            *(cell(r, c) for c in own + others), _title(best[0]) if best else "-",
            *(_text(ratio(r, c, others)) for c in own),
        )  # fmt: skip
    if others:
        means = [geometric_mean(v for r in records if (v := ratio(r, c, others))) for c in own]
        blank = [""] * (len(own) + len(others) + 3)
        made.add("geometric mean", *blank, *(_text(m) for m in means))
    return made


def _title(column: str) -> str:
    return PEERS[column].title if column in PEERS else column


def tables(run: Run) -> list[Table]:
    """A table for every network and dtype that was measured, in that order."""
    keys = dict.fromkeys((r.task.network, r.task.dtype) for r in run.layers)
    return [table(run, network, dtype) for network, dtype in keys]
