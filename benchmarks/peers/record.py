"""What a run measured: plain data that goes to JSON and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from .catalogue import PEERS
from .task import Task

#: Raised whenever a field changes its meaning.
SCHEMA = 1


@dataclass
class Entry:
    """One column at one layer.

    Attributes
    ----------
    samples : list of float
        Seconds of one call: the median of each slice, one a round.
    refused : str or None
        Why there is no time: not supported, crashed, did not answer.
    ok : bool or None
        Whether the sampled result was right; None where none came.
    error_ratio : float or None
        Largest error as a share of the tolerance.
    note : str
    """

    samples: list[float] = field(default_factory=list)
    refused: str | None = None
    ok: bool | None = None
    error_ratio: float | None = None
    note: str = ""

    @property
    def seconds(self) -> float | None:
        """Median time; None without one, and for a wrong result."""
        return median(self.samples) if self.samples and self.ok else None


@dataclass
class LayerRecord:
    """All columns at one layer.

    Attributes
    ----------
    task : Task
    count : int
        How often the network holds the layer.
    peak : float or None
        Median multiply-add peak of the rounds, GFLOP/s.
    entries : dict of str to Entry
        By column.
    """

    task: Task
    count: int
    peak: float | None = None
    entries: dict[str, Entry] = field(default_factory=dict)

    def seconds(self, column: str) -> float | None:
        """Time of a column; None where there is none that counts."""
        entry = self.entries.get(column)
        return entry.seconds if entry else None

    def gflops(self, column: str) -> float | None:
        """Effective speed: operations of the direct sum over time."""
        seconds = self.seconds(column)
        return self.task.flops / seconds / 1e9 if seconds else None

    def best(self, columns: Iterable[str]) -> tuple[str, float] | None:
        """Fastest of some columns, with its time."""
        times = [(s, name) for name in columns if (s := self.seconds(name)) is not None]
        return (min(times)[1], min(times)[0]) if times else None


@dataclass
class Run:
    """A whole run.

    Attributes
    ----------
    settings : dict
        Threads, rounds, slice: what the command line asked.
    machine : dict
        Processor, versions of the libraries, measured bandwidth.
    columns : list of str
        In the order of the tables.
    absent : dict of str to str
        Peers that are not installed, and how to get them.
    layers : list of LayerRecord
    """

    settings: dict[str, Any]
    machine: dict[str, Any]
    columns: list[str]
    absent: dict[str, str] = field(default_factory=dict)
    layers: list[LayerRecord] = field(default_factory=list)

    def tables(self) -> list[list[LayerRecord]]:
        """Return the layers of each network, operator and dtype, in the order of the first ones."""
        found: dict[tuple[str, str, str], list[LayerRecord]] = {}
        for record in self.layers:
            found.setdefault(record.task.table, []).append(record)
        return list(found.values())

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            It is of another schema, or no such file at all.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise ValueError(f"{path} was not written by this version of benchmarks.peers")
        layers = [
            LayerRecord(
                Task(**row["task"]), row["count"], row["peak"],
                {name: Entry(**entry) for name, entry in row["entries"].items()},
            )
            for row in data.pop("layers")
        ]  # fmt: skip
        return cls(layers=layers, **data)


def merge(runs: Sequence[Run]) -> Run:
    """Join runs of different layers or dtypes, as far as they are of the same kind.

    Raises
    ------
    ValueError
        Runs of different numbers of threads or images: their ratios belong to different tables.
    """
    first = runs[0]
    for run in runs[1:]:
        for key in ("threads", "batch", "scaling"):
            if run.settings[key] != first.settings[key]:
                raise ValueError(f"the runs differ in {key}")
    columns = list(dict.fromkeys(c for run in runs for c in run.columns))
    rank = {name: i for i, name in enumerate(PEERS)}
    columns.sort(key=lambda name: rank.get(name, len(rank)))
    absent = {name: why for run in runs for name, why in run.absent.items() if name not in columns}
    layers = {record.task: record for run in runs for record in run.layers}
    return Run(first.settings, first.machine, columns, absent, list(layers.values()))
