"""``python -m benchmarks.peers --network vgg16 --peers torch,torch_cl``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import networks, tables
from fastconv.cli.console import Progress, say
from fastconv.cli.machine import cpu_model
from fastconv.options import usable_cores

from . import report
from .catalogue import OTHERS, OWN, PEERS
from .record import Run
from .rounds import Field, Pace, columns_of, restrict
from .task import DTYPES, Task


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    known = ", ".join(networks.NAMES)
    parser.add_argument("--network", default="resnet50", help=f"'all', or some of {known}")
    parser.add_argument("--layers", default="", help="only layers whose name contains this")
    parser.add_argument("--peers", default="all", help=f"some of {', '.join(OTHERS)}, or 'none'")
    parser.add_argument("--columns", default="all", help=f"of fastconv: some of {', '.join(OWN)}")
    parser.add_argument("--dtype", default="float32", help=f"some of {', '.join(DTYPES)}")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, help=f"default {Pace().rounds}")
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--json", type=Path, help="default reports/peers-NETWORK.json")
    return parser


def _choice(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text in ("all", "none"):
        return known if text == "all" else ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{option}: no {', '.join(unknown)}; choose from {', '.join(known)}")
    return names


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    asked = _parser().parse_args(arguments)
    names = _choice("--network", asked.network, networks.NAMES)
    dtypes = _choice("--dtype", asked.dtype, DTYPES)
    wanted = _choice("--columns", asked.columns, OWN) + _choice("--peers", asked.peers, OTHERS)
    absent = {name: why for name in wanted if (why := PEERS[name].missing())}
    for name, why in absent.items():
        say(f"{name}: {why}")
    columns = [name for name in wanted if name not in absent]
    tasks = [
        (Task.of(layer, asked.batch, dtype), layer.count)
        for dtype in dtypes
        for network in networks.load_all(names)
        for layer in network.layers
        if asked.layers in layer.name
    ]
    pace = restrict(Pace(), asked.quick, asked.rounds)
    settings = {"threads": asked.threads, "rounds": pace.rounds, "slice": pace.slice}
    run = Run(settings, {"processor": cpu_model()}, columns, absent)
    with (
        tempfile.TemporaryDirectory() as folder,
        Field(columns_of(columns, asked.threads), asked.threads, Path(folder), pace) as field,
        Progress(len(tasks)) as progress,
    ):
        run.machine |= {"versions": field.versions, **field.machine("bandwidth")}
        for task, count in tasks:
            progress.step(f"{task.name} {task.dtype}")
            run.layers.append(field.layer(task, count))
        run.absent |= field.failed
    for table in report.tables(run):
        print(tables.plain(table), end="\n\n")
    path = asked.json or Path("reports") / f"peers-{'-'.join(names)}.json"
    run.save(path)
    print(report.NOTE)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
