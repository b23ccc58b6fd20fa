"""From what the command line asked to a finished run."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks import networks
from fastconv.cli.console import Progress, say
from fastconv.cli.machine import cpu_model

from . import operators
from .bars import OVERHEAD
from .catalogue import PEERS
from .record import Run
from .rounds import Column, Field, Pace
from .task import Task


@dataclass(frozen=True)
class Asked:
    """What to measure.

    Attributes
    ----------
    networks : tuple of str
        Of `operators`, where there are any: of which networks and subjects alone, all if empty.
    layers : str
        Only layers whose name contains this.
    columns : tuple of str
        Names from the catalogue, fastconv's own first.
    dtypes : tuple of str
    batch, threads : int
    scaling : bool
        Put a column on one thread beside each column.
    pace : Pace
    operators : tuple of str
        Names of `benchmarks.peers.operators.CHOICES`, in the place of the networks' convolutions.
    """

    networks: tuple[str, ...]
    layers: str
    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    batch: int
    threads: int
    scaling: bool
    pace: Pace
    operators: tuple[str, ...] = ()

    def tasks(self) -> list[tuple[Task, int]]:
        """Layers with how often their network holds them; bytes are for image filters alone."""
        if self.operators:
            found = (
                entry
                for dtype in self.dtypes
                for name in self.operators
                for entry in operators.tasks(name, self.batch, dtype, self.networks)
                if dtype != "uint8"
            )
            return list(dict.fromkeys(entry for entry in found if self.layers in entry[0].layer))
        return [
            (Task.of(layer, self.batch, dtype), layer.count)
            for dtype in self.dtypes
            for network in networks.load_all(self.networks)
            for layer in network.layers
            if self.layers in layer.name and (dtype != "uint8" or network.name == "filters")
        ]


def measure(asked: Asked) -> Run:
    """Measure every task on every column whose library is installed.

    A column that refuses a layer, crashes, hangs or computes something wrong is recorded so, and
    stops nothing.
    """
    absent = {name: why for name in asked.columns if (why := PEERS[name].missing())}
    for name, why in absent.items():
        say(f"{name}: {why}")
    columns = [
        Column(name, PEERS[name], asked.threads) for name in asked.columns if name not in absent
    ]
    if asked.scaling:
        columns += [Column(f"{c.name}@1", c.peer, 1) for c in columns]
    settings = {
        "threads": asked.threads, "batch": asked.batch, "scaling": asked.scaling,
        **asdict(asked.pace),
    }  # fmt: skip
    run = Run(settings, {"processor": cpu_model()}, [c.name for c in columns], absent)
    tasks = asked.tasks()
    if "float32" in asked.dtypes and not asked.scaling and not asked.operators:
        tasks.append((OVERHEAD, 1))
    with (
        tempfile.TemporaryDirectory(prefix="peers-") as folder,
        Field(columns, asked.threads, Path(folder), asked.pace) as field,
        Progress(len(tasks)) as progress,
    ):
        run.machine |= field.machine("bandwidth")
        if asked.scaling:
            run.machine["peak_scaling"] = _peak_scaling(field, asked.threads)
        for task, count in tasks:
            progress.step(f"{task.name} {task.dtype}")
            run.layers.append(field.layer(task, count))
        run.machine |= {"versions": field.versions, "lost": field.lost}
    return run


def _peak_scaling(field: Field, threads: int) -> float | None:
    """Peak of all threads over that of one: what the machine gives any program at this moment."""
    rates: dict[int, list[float]] = {1: [], threads: []}
    for _ in range(7):
        for count, found in rates.items():
            answer = field.machine("peak", threads=count, dtype="float32", seconds=0.05)
            found += [answer["gflops"]] if answer.get("gflops") else []
    return median(rates[threads]) / median(rates[1]) if all(rates.values()) else None
