"""Ask all columns in turn: prepare, check, then round after round a slice of calls of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .catalogue import PEERS, Peer
from .check import Checker
from .child import Child, Gone, Refused
from .record import Entry, LayerRecord
from .task import Task


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds.

    Attributes
    ----------
    rounds : int
    slice : float
        Calls are repeated until this has passed, in every round.
    budget : float
        A column that has spent more at a layer takes part in no further round of it.
    patience : float
        A column that has not answered by then is killed.
    """

    rounds: int = 7
    slice: float = 0.02
    budget: float = 2.0
    patience: float = 90.0


@dataclass(frozen=True)
class Column:
    """A peer with its number of threads.

    Attributes
    ----------
    name : str
        Key in the records: the peer's name, with ``@1`` where it runs on one thread for `scaling`.
    peer : Peer
    threads : int
    """

    name: str
    peer: Peer
    threads: int


def columns_of(names: Sequence[str], threads: int) -> list[Column]:
    """Make the columns of the peers named."""
    return [Column(name, PEERS[name], threads) for name in names]


#: The column that measures the machine's roofs.
MACHINE = "machine"

#: Crashes and time-outs after which a column is left alone.
LIVES = 3


class Field:
    """The processes of all columns; each is started when it is first needed.

    Parameters
    ----------
    columns : sequence of Column
    threads : int
        Of the peak and the bandwidth.
    folder : Path
        Temporary; receives logs and samples.
    pace : Pace

    Attributes
    ----------
    lost : dict of str to list of str
        Crashes and time-outs, by column.
    versions : dict of str to str
        Of the libraries that were started.
    """

    def __init__(self, columns: Sequence[Column], threads: int, folder: Path, pace: Pace) -> None:
        self.columns, self._folder, self._pace = tuple(columns), folder, pace
        self._children: dict[str, Child] = {}
        self.lost: dict[str, list[str]] = {}
        self.versions: dict[str, str] = {}
        machine = Column(MACHINE, Peer(MACHINE, "", "machine", (), "", ()), threads)
        self._by_name = {c.name: c for c in (*columns, machine)}

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.kill()

    def _child(self, name: str) -> Child:
        """The column's process, started if there is none."""
        if name in self._children:
            return self._children[name]
        lost = self.lost.get(name, [])
        if len(lost) >= LIVES:
            raise Refused(f"given up after {LIVES} times: {lost[-1]}")
        column = self._by_name[name]
        child = Child(
            column.peer.module, column.peer.name, column.threads, self._folder / f"{name}.log"
        )
        try:
            child.greet()
        except BaseException:
            child.kill()
            raise
        self._children[name] = child
        self.versions |= child.versions
        return child

    def _ask(self, name: str, do: str, **request: Any) -> dict[str, Any]:
        try:
            return self._child(name).ask(self._pace.patience, do, **request)
        except Gone as gone:  # one layer broke it; the next one may not
            self._children.pop(name, None)
            self.lost.setdefault(name, []).append(str(gone))
            raise Refused(str(gone)) from None

    def machine(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Ask for a figure of the machine; empty where it cannot be had."""
        try:
            return self._ask(MACHINE, "measure", what=what, **arguments)
        except Refused:
            return {}

    def layer(
        self, task: Task, count: int = 1, tell: Callable[[str], None] = lambda column: None
    ) -> LayerRecord:
        """Measure one layer on all columns.

        Parameters
        ----------
        task : Task
        count : int
            For the record.
        tell : callable
            Told each column before it prepares.
        """
        record = LayerRecord(task, count)
        checker = Checker(task)
        for column in self.columns:
            tell(column.name)
            record.entries[column.name] = self._prepare(column, task, checker)
        self._rounds(record)
        for column in self.columns:
            self._drop(column.name)
        return record

    def _prepare(self, column: Column, task: Task, checker: Checker) -> Entry:
        peer = column.peer
        if (reason := peer.refuses(task)) is not None:
            return Entry(refused=reason)
        path = self._folder / f"{column.name}.npy"
        try:
            answer = self._ask(column.name, "prepare", task=task.to_json())
            self._ask(
                column.name, "sample", images=checker.images, channels=checker.channels,
                path=str(path),
            )  # fmt: skip
            finding = checker.judge(np.load(path, allow_pickle=False), peer.tolerance)
        except Refused as refusal:
            return Entry(refused=str(refusal))
        except ValueError as error:
            return Entry(refused=f"wrong: {error}", ok=False)
        finally:
            path.unlink(missing_ok=True)
        entry = Entry(note=answer["note"], ok=finding.ok, error_ratio=finding.ratio)
        if answer["seconds"] > self._pace.budget:  # once is enough
            entry.samples.append(answer["seconds"])
        return entry

    def _rounds(self, record: LayerRecord) -> None:
        peaks, spent = [], dict.fromkeys(record.entries, 0.0)
        dtype = "float64" if record.task.dtype == "float64" else "float32"
        for turn in range(self._pace.rounds):
            measured = self.machine("peak", dtype=dtype, seconds=self._pace.slice).get("gflops")
            peaks += [measured] if measured else []
            order = list(record.entries.items())
            shift = turn % len(order)  # nobody always runs behind the same neighbour
            for name, entry in order[shift:] + order[:shift]:
                if entry.refused is None and not self._enough(entry, spent[name]):
                    self._slice(name, entry, spent)
        record.peak = median(peaks) if peaks else None

    def _enough(self, entry: Entry, spent: float) -> bool:
        return bool(entry.samples) and (
            spent > self._pace.budget or entry.samples[0] > self._pace.budget
        )

    def _slice(self, name: str, entry: Entry, spent: dict[str, float]) -> None:
        try:
            answer = self._ask(name, "slice", seconds=self._pace.slice)
        except Refused as refusal:
            entry.refused, entry.samples = str(refusal), []
            return
        entry.samples.append(answer["seconds"])
        spent[name] += answer["seconds"] * answer["calls"]

    def _drop(self, name: str) -> None:
        if name in self._children:
            with contextlib.suppress(Refused):
                self._ask(name, "drop")
