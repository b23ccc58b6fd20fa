"""``python -m fastconv demo``: a photograph through image filters and AlexNet, on every backend."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import dispatch
from .._config import available_backends, version
from ..demo import alexnet, filters, photo
from . import arguments
from .console import FAILED, OK, Column, Progress, optional, percent, print_table, say, significant
from .errors import CommandError
from .machine import cpu_model
from .measure import Case, Measurement, measure, remarks

Array = np.ndarray[Any, Any]

EXAMPLES = """\
examples:
  python -m fastconv demo
  python -m fastconv demo --image holiday.jpg --output maps.png
  python -m fastconv demo --backends native,numba --threads 1 --no-plot
"""

COLUMNS = (
    Column("layer"),
    Column("backend"),
    Column("algorithm"),
    Column("ms", True),
    Column("GFLOP/s", True),
    Column("of peak", True),
    Column("err/bound", True),
    Column("check"),
)


def add_parser(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "demo",
        help="convolve a photograph on every backend, check, time and draw it",
        description="Run image filters and the convolutions of AlexNet over a photograph on every "
        "available backend, check each result against the definition, and draw the feature maps.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    arguments.add_backends(parser, "default: every one that works here")
    arguments.add_threads(parser)
    parser.add_argument("--image", type=Path, metavar="PATH", help="another picture (matplotlib)")
    parser.add_argument(
        "--output", type=Path, metavar="PATH", default=Path("fastconv-demo.png"),
        help="where the picture goes (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--no-plot", action="store_true", help="draw no picture")
    parser.add_argument(
        "--size", type=arguments.at_least(alexnet.SMALLEST_IMAGE), default=224, metavar="PIXELS",
        help="side of the photograph (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=arguments.at_least(1), default=5,
        help="timed rounds (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo; return 1 if any result is wrong, otherwise 0."""
    arguments.check_environment()
    backends = arguments.chosen_backends(options.backends, available_backends())
    _announce_missing(options)
    rgb = photo.square(_load(options.image), options.size)
    measurements = _measure_all(rgb, backends, options)
    _report(measurements)
    if options.backends is None:
        for entry in dispatch.TABLE:
            if entry.name not in backends:
                print(f"not available: {entry.name}: {dispatch.availability(entry.name)}")
    if not options.no_plot and optional("matplotlib") is not None:
        _draw(options, rgb, measurements)
    return 0 if all(m.ok for m in measurements) else 1


def _announce_missing(options: argparse.Namespace) -> None:
    """Say what the extra `demo` would add, where it is not installed."""
    consequences = {
        "numba": "no numba backend",
        "rich": "plain output",
        "matplotlib": "no picture",
    }
    missing = [name for name in consequences if optional(name) is None]
    if missing:
        effect = ", ".join(consequences[name] for name in missing)
        say(f"{', '.join(missing)} not installed: {effect}; pip install 'fastconv[demo]'")
    if options.image is not None and "matplotlib" in missing:
        raise CommandError("--image needs matplotlib: pip install 'fastconv[demo]'")
    folder = options.output.resolve().parent
    if not options.no_plot and not folder.is_dir():
        raise CommandError(f"--output: there is no folder {folder}")


def _load(path: Path | None) -> Array:
    if path is None:
        return photo.photograph()
    try:
        return photo.read(path)
    except (OSError, SyntaxError, ValueError) as error:  # what image decoders raise
        raise CommandError(f"--image: cannot read {path}: {error}") from None


def _measure_all(
    rgb: Array, backends: Sequence[str], options: argparse.Namespace
) -> list[Measurement]:
    """Measure the filters, then AlexNet layer by layer, each on the real output of the last."""
    grey, planes = photo.grey_batch(rgb), photo.rgb_batch(rgb)
    same = {"pad": "same", "pad_mode": "reflect"}
    cases = [
        Case(f"{len(filters.FILTERS)} filters, grey", grey, filters.bank(1), options=same),
        Case(f"{len(filters.FILTERS)} filters, RGB", planes, filters.bank(3),
             options={**same, "groups": 3}),
    ]  # fmt: skip
    measurements: list[Measurement] = []
    with Progress((len(cases) + len(alexnet.LAYERS)) * len(backends)) as progress:

        def run_case(case: Case) -> Array:
            found = measure(
                case, backends, options.threads, rounds=options.rounds,
                starting=partial(progress.step_on, case.name),
            )  # fmt: skip
            measurements.extend(found)
            results = [m.y for m in found if m.y is not None]
            if not results:
                raise CommandError(f"{case.name}: {found[0].failure or found[0].refusal}")
            return results[0]

        for case in cases:
            run_case(case)
        maps = photo.normalised_batch(rgb)
        for layer in alexnet.LAYERS:
            weights, bias = alexnet.parameters(layer)
            geometry = {"stride": layer.stride, "pad": layer.pad, "activation": "relu"}
            maps = run_case(Case(layer.name, maps, weights, bias, geometry))
            if layer.pool and layer is not alexnet.LAYERS[-1]:
                maps = alexnet.max_pool(maps)
    return measurements


def _error_share(m: Measurement) -> str:
    if m.verdict is None:
        return "-"
    return "exact" if m.verdict.ratio == 0 else percent(m.verdict.ratio)


def _row(m: Measurement, repeated: bool) -> list[str]:
    name = "" if repeated else m.case
    if m.refusal is not None:
        return [name, m.backend, "not computed", *"-----"]
    if m.failure is not None:
        return [name, m.backend, *"-----", FAILED]
    share = m.share_of_peak
    return [
        name,
        m.backend,
        m.algorithm,
        significant(1e3 * m.median),
        significant(m.gflops),
        "-" if share is None else percent(share),
        _error_share(m),
        OK if m.ok else FAILED,
    ]


def _report(measurements: Sequence[Measurement]) -> None:
    rows, rules, previous = [], [], None
    for index, m in enumerate(measurements):
        rows.append(_row(m, m.case == previous))
        if previous is not None and m.case != previous:
            rules.append(index - 1)
        previous = m.case
    threads = measurements[0].threads
    title = (
        f"fastconv {version()} on {cpu_model()}, float32, at most {threads} "
        f"thread{'s' if threads != 1 else ''}, ms: median"
    )
    print_table(title, COLUMNS, rows, rules)
    peaks = [m.peak for m in measurements if m.peak is not None]
    if peaks:
        print(f"peak: {significant(float(np.median(peaks)))} GFLOP/s of multiply-adds, measured")
    else:
        print("peak: not measured (it takes the native backend)")
    print(
        "err/bound: largest error found, as a share of the bound that is derived for it; up to "
        "100 % passes"
    )
    checked = {m.case: f"{m.channels} of {m.y.shape[1]}" for m in measurements if m.y is not None}
    print(f"check: every pixel of evenly spread channels: {', '.join(checked.values())}")
    for line in remarks(measurements):
        print(line)


def _draw(options: argparse.Namespace, rgb: Array, measurements: Sequence[Measurement]) -> None:
    from ..demo import figure

    first: dict[str, Array] = {}
    for m in measurements:
        if m.y is not None:
            first.setdefault(m.case, m.y[0])
    grey_maps, rgb_maps, alexnet_maps = list(first.values())[:3]
    credit = photo.CREDIT if options.image is None else f"Photograph: {options.image.name}"
    total = sum(m.flops for m in measurements if m.backend == measurements[0].backend) / 1e9
    footer = f"{credit}  ·  fastconv {version()}: {total:.2f} GFLOP in {len(first)} convolutions"
    try:
        figure.draw(options.output, rgb, grey_maps, rgb_maps, alexnet_maps, footer)
    except (OSError, ValueError) as error:  # ValueError: a suffix that names no image format
        raise CommandError(f"--output: cannot write {options.output}: {error}") from None
    print(f"picture: {options.output}")
