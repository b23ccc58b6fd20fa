"""``python -m fastconv bench``: backends in turns on layers of real networks, or on one shape."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import dispatch
from .._config import available_backends, version
from ..activations import ACTIVATIONS
from ..borders import PAD_MODES
from ..checks import layouts
from ..geometry import PAD_NAMES
from ..options import PRECISIONS
from . import arguments, layers
from .console import FAILED, OK, Column, Progress, percent, print_table, significant
from .errors import CommandError, UsageError
from .info import facts
from .machine import cpu_model
from .measure import Case, Measurement, measure, remarks

Array = np.ndarray[Any, Any]

EXAMPLES = """\
examples:
  python -m fastconv bench
  python -m fastconv bench --network vgg16 --threads 1,2 --json vgg16.json
  python -m fastconv bench --x 8,64,56,56 --w 64,64,3,3 --pad 1 --dtype float64
  python -m fastconv bench --x 1,96,112,112 --w 96,1,3,3 --stride 2 --pad same --groups 96
"""

COLUMNS = (
    Column("layer"),
    Column("backend"),
    Column("algorithm"),
    Column("threads", True),
    Column("ms", True),
    Column("spread", True),
    Column("GFLOP/s", True),
    Column("of peak", True),
    Column("check"),
)

#: Arguments that describe one convolution; with `--network` they mean nothing.
SHAPE_ARGUMENTS = ("w", "stride", "pad", "dilation", "groups", "pad_mode", "layout")

#: Seconds a backend may spend on the samples of one layer.
BUDGET = 3.0


def add_parser(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "bench",
        help="time backends on layers of networks, or on one shape",
        description="Time backends in turns, verify every result against the definition on sampled "
        "channels, and print medians, spread, throughput and share of the measured peak.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--network", metavar="NAME",
        help=f"{', '.join(layers.NETWORKS)}, or a .toml file (default: layers of each)",
    )  # fmt: skip
    parser.add_argument("--x", type=_shape, metavar="N,C,H,W", help="one shape instead; needs --w")
    parser.add_argument("--w", type=_shape, metavar="K,C/groups,R,S")
    parser.add_argument("--stride", type=_size, metavar="S|H,W")
    parser.add_argument("--pad", type=_pad, metavar="P|H,W|T,B,L,R|NAME")
    parser.add_argument("--dilation", type=_size, metavar="D|H,W")
    parser.add_argument("--groups", type=int, metavar="G")
    parser.add_argument("--pad-mode", choices=PAD_MODES)
    parser.add_argument("--layout", choices=layouts(2), help="order of --x")
    parser.add_argument("--activation", choices=tuple(ACTIVATIONS))
    parser.add_argument("--precision", choices=PRECISIONS)
    parser.add_argument("--dtype", type=_dtype, default="float32", help="default: %(default)s")
    arguments.add_backends(parser, "default: all but the slow definition")
    parser.add_argument(
        "--threads", type=_threads, metavar="T,...", default=(None,),
        help="most threads a call may use, one measurement for each (default: usable cores)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=arguments.at_least(1), default=9, help="default: %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the samples too")
    parser.set_defaults(run=run)


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of integers like 1,3,8,8") from None


def _shape(text: str) -> tuple[int, ...]:
    shape = _integers(text)
    if len(shape) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} has {len(shape)} sizes, not 4")
    if min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: every size must be at least 1")
    return shape


def _size(text: str) -> int | tuple[int, ...]:
    values = _integers(text)
    return values[0] if len(values) == 1 else values


def _pad(text: str) -> Any:
    if text in PAD_NAMES:
        return text
    values = _integers(text)
    if len(values) == 4:
        return (values[:2], values[2:])
    return values[0] if len(values) == 1 else values


def _dtype(text: str) -> str:
    try:
        dtype = np.dtype(text)
    except TypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no dtype") from None
    if dtype.kind not in "iuf":
        raise argparse.ArgumentTypeError(f"{text!r}: integers and floats can be convolved")
    return dtype.name


def _threads(text: str) -> tuple[int, ...]:
    convert = arguments.at_least(1)
    return tuple(convert(part) for part in text.split(","))


def _random(generator: np.random.Generator, shape: Sequence[int], dtype: str) -> Array:
    if np.dtype(dtype).kind != "f":
        return generator.integers(0, 8, shape).astype(dtype)
    return generator.standard_normal(shape, np.float32).astype(dtype)


def _case(
    name: str, x: Sequence[int], w: Sequence[int], geometry: dict[str, Any], dtype: str
) -> Callable[[], Case]:
    """Delay the arrays, so that one layer's at a time are in memory."""

    def build() -> Case:
        generator = np.random.default_rng(0)
        try:
            arrays = _random(generator, x, dtype), _random(generator, w, dtype)
        except MemoryError:
            raise CommandError(f"{name}: arrays of this size do not fit into memory") from None
        return Case(name, *arrays, None, geometry)

    return build


def _cases(options: argparse.Namespace) -> list[Callable[[], Case]]:
    """Builders of the cases that were asked for."""
    given = {name: getattr(options, name) for name in SHAPE_ARGUMENTS}
    given = {name: value for name, value in given.items() if value is not None}
    common = {
        name: getattr(options, name)
        for name in ("activation", "precision")
        if getattr(options, name) is not None
    }
    if options.x is not None:
        if options.w is None or options.network is not None:
            raise UsageError("--x needs --w, and excludes --network")
        w = given.pop("w")
        name = f"{'x'.join(map(str, options.x))} * {'x'.join(map(str, w))}"
        return [_case(name, options.x, w, {**given, **common}, options.dtype)]
    if given:
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} needs --x")
    found = []
    for layer in layers.named(options.network):
        name, geometry = f"{layer.network} {layer.name}", {**layer.geometry, **common}
        found.append(_case(name, *layer.shapes(), geometry, options.dtype))
    return found


def run(options: argparse.Namespace) -> int:
    """Measure and print; return 1 if any result is wrong, otherwise 0."""
    arguments.check_environment()
    everything = available_backends()
    # the last row of the table is the definition itself: results are held against it anyway
    fast = tuple(name for name in everything if name != dispatch.TABLE[-1].name)
    backends = arguments.chosen_backends(options.backends, fast or everything)
    cases = _cases(options)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise CommandError(f"--json: there is no folder {options.json.resolve().parent}")
    measurements: list[Measurement] = []
    with Progress(len(cases) * len(options.threads) * len(backends)) as progress:
        for build in cases:
            case = build()
            for threads in options.threads:
                measurements += measure(
                    case, backends, threads, rounds=options.rounds, budget=BUDGET,
                    starting=partial(progress.step_on, case.name),
                    keep=False,
                )  # fmt: skip
    _report(measurements, options.dtype)
    if options.json is not None:
        _write(options.json, measurements, options)
    if all(m.refusal is not None for m in measurements):
        return 1
    return 0 if all(m.ok for m in measurements) else 1


def _row(m: Measurement, repeated: bool) -> list[str]:
    name = "" if repeated else m.case
    if m.refusal is not None:
        return [name, m.backend, "not computed", str(m.threads), *"-----"]
    if m.failure is not None:
        return [name, m.backend, "-", str(m.threads), *"----", FAILED]
    share = m.share_of_peak
    return [
        name,
        m.backend,
        m.algorithm,
        str(m.threads),
        significant(1e3 * m.median),
        percent(m.spread) if len(m.seconds) > 1 else "-",
        significant(m.gflops),
        "-" if share is None else percent(share),
        OK if m.ok else FAILED,
    ]


def _report(measurements: Sequence[Measurement], dtype: str) -> None:
    rows: list[list[str]] = []
    rules: list[int] = []
    previous: str | None = None
    for index, m in enumerate(measurements):
        if previous is not None and m.case != previous:
            rules.append(index - 1)
        rows.append(_row(m, m.case == previous))
        previous = m.case
    print_table(f"fastconv {version()} on {cpu_model()}, {dtype}", COLUMNS, rows, rules)
    print("ms: median over the rounds; spread: half the range between the quartiles")
    if all(m.peak is None for m in measurements):
        print("of peak: not measured (it takes the native backend, float32 or float64)")
    for line in remarks(measurements):
        print(line)


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None


def _write(path: Path, measurements: Sequence[Measurement], options: argparse.Namespace) -> None:
    results = [
        {
            "case": m.case,
            "backend": m.backend,
            "algorithm": m.algorithm or None,
            "threads": m.threads,
            "dtype": options.dtype,
            "flops": m.flops,
            "seconds": list(m.seconds),
            "median": m.median if m.seconds else None,
            "gflops": m.gflops if m.seconds else None,
            "peak_gflops": m.peak,
            "error_share_of_bound": _finite(m.verdict.ratio) if m.verdict else None,
            "ok": m.ok if m.refusal is None else None,
            "refusal": m.refusal,
            "failure": m.failure,
        }
        for m in measurements
    ]
    try:
        path.write_text(
            json.dumps({"machine": facts(), "results": results}, indent=2, default=str) + "\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise CommandError(f"--json: cannot write {path}: {error}") from None
    print(f"samples: {path}")
