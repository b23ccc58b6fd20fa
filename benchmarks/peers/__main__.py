"""Compare fastconv with other libraries, layer by layer.

Examples
--------
    python -m benchmarks.peers --network vgg16 --peers torch,torch_cl
    python -m benchmarks.peers --network all
    python -m benchmarks.peers --network filters --dtype float32,uint8
    python -m benchmarks.peers --network resnet50 --scaling
    python -m benchmarks.peers --operator input_grad,transposed --batch 8
    python -m benchmarks.peers --load reports/peers-vgg16.json reports/peers-resnet50.json
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

from benchmarks import networks, tables
from benchmarks.tables import Table
from fastconv.cli.console import say
from fastconv.options import usable_cores

from . import report
from .catalogue import OTHERS, OWN
from .measuring import Asked, measure
from .operators import CHOICES, SOURCES
from .record import Run, merge
from .rounds import Pace
from .task import DTYPES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    known, computed = ", ".join(networks.NAMES), ", ".join(CHOICES)
    add = parser.add_argument
    add("--network", help=f"'all', or some of {known}, separated by commas (default resnet50); "
        f"with --operator some of {', '.join(SOURCES)} (all)")  # fmt: skip
    add("--operator", help=f"'all', or some of {computed}, in the place of convolutions")
    add("--layers", default="", metavar="TEXT", help="only layers whose name contains this")
    add("--peers", default="all", help=f"'all', 'none', or some of {', '.join(OTHERS)}")
    add("--columns", default="all", help=f"of fastconv: 'all', or some of {', '.join(OWN)}")
    add("--dtype", default="float32", help=f"some of {', '.join(DTYPES)}; uint8 is an image of "
        "bytes, filtered in float32, its conversion timed")  # fmt: skip
    add("--batch", type=_positive, default=1, help="images a call (default 1)")
    add("--threads", type=_positive, default=usable_cores(), help="of every library (all cores)")
    add("--rounds", type=_positive, help=f"slices of each column (default {Pace().rounds})")
    add("--quick", action="store_true", help="3 rounds, and less patience with slow columns")
    add("--scaling", action="store_true", help="time --columns (default strict, of "
        "operators fastconv) on one thread too")  # fmt: skip
    add("--load", type=Path, nargs="+", metavar="JSON", help="show earlier runs; measure nothing")
    add("--json", type=Path, help="default reports/peers-NETWORK.json, or -OPERATOR")
    add("--plot", type=Path, help="default reports/peers-NETWORK.png")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _choice(option: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text in ("all", "none"):
        return known if text == "all" else ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"{option}: no {', '.join(unknown)}; choose from {', '.join(known)}")
    return names


def _asked(options: argparse.Namespace) -> Asked:
    pace = Pace(rounds=3, budget=0.5) if options.quick else Pace()
    if options.rounds:
        pace = Pace(options.rounds, pace.slice, pace.budget, pace.patience)
    columns, network = options.columns, options.network
    if options.scaling and columns == "all":
        columns = "fastconv" if options.operator else "strict"  # not all operators have plans
    peers = "none" if options.scaling else options.peers
    if options.operator:
        sources = _choice("--network", network or "none", SOURCES)
    else:
        sources = _choice("--network", network or "resnet50", networks.NAMES)
    return Asked(
        networks=sources,
        layers=options.layers,
        columns=_choice("--columns", columns, OWN) + _choice("--peers", peers, OTHERS),
        dtypes=_choice("--dtype", options.dtype, DTYPES),
        batch=options.batch,
        threads=options.threads,
        scaling=options.scaling,
        pace=pace,
        operators=_choice("--operator", options.operator or "none", tuple(CHOICES)),
    )


def _print(table: Table) -> None:
    if table.rows:
        on_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns
        print(tables.terminal(table, True, width) if on_terminal else tables.plain(table))
        print()


def _show(run: Run) -> None:
    scaled = [column for column in run.columns if f"{column}@1" in run.columns]
    for table in report.network_tables(run) if not scaled else ():
        _print(table)
    for column in scaled:
        _print(report.scaling_table(run, column))
    _print(report.worst_layers(run))
    _print(report.summary(run))
    print(*report.remarks(run), report.NOTE, sep="\n")


def _stem(run: Run) -> str:
    computed = dict.fromkeys(r.task.operator for r in run.layers if r.task.operator != "conv2d")
    if computed:
        return "-".join(computed)
    keys = dict.fromkeys(r.task.network for r in run.layers if r.task.network in networks.NAMES)
    return "all" if set(keys) == set(networks.NAMES) else "-".join(keys) or "none"


def main(arguments: list[str] | None = None) -> None:
    """Measure or load; print tables, bars and remarks; write JSON and pictures."""
    options = _parser().parse_args(arguments)
    if options.load:
        try:
            run = merge([Run.load(path) for path in options.load])
        except (OSError, ValueError) as error:
            sys.exit(f"--load: {error}")
    else:
        asked = _asked(options)
        if not asked.tasks():
            sys.exit(f"--layers: no layer's name contains {options.layers!r}, of what was asked")
        run = measure(asked)
    _show(run)
    stem = Path("reports") / f"peers-{_stem(run)}{'-scaling' if options.scaling else ''}"
    written = []
    if not options.load or options.json:
        written.append(options.json or stem.with_suffix(".json"))
        run.save(written[0])
    if options.plot or not (options.load or options.scaling):
        if importlib.util.find_spec("matplotlib") is None:
            say("no picture: pip install matplotlib")
        else:
            from . import plot

            written += plot.save(run, options.plot or stem.with_suffix(".png"))
    if written:
        print(f"written to {', '.join(map(str, written))}")


if __name__ == "__main__":
    main()
