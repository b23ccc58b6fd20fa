"""``python -m fastconv doctor``: what keeps fastconv from being fast or right, and the fix."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .console import say
from .findings import PROBLEM, Finding, judge
from .machine import Machine, cpu_model, gather
from .selftest import run_all
from .weights import examine_file

EXAMPLES = """\
examples:
  python -m fastconv doctor
  python -m fastconv doctor --weights resnet50.npz
  python -m fastconv doctor --json

exit status: 0 healthy, 1 something needs fixing
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "doctor",
        help="find what keeps fastconv from being fast or right",
        description="Look for a missing extension or compiler, unusable Numba or CUDA driver, "
        "oversubscribed threads, bad environment variables and harmful weights; test every "
        "backend; say what to do.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="examine the arrays of a .npy or .npz file too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine and print; return 1 if something needs fixing, otherwise 0."""
    weights = [] if options.weights is None else examine_file(options.weights)
    machine = gather(run_all(lambda name: say(f"testing {name}")))
    findings = [*judge(machine), *weights]
    healthy = all(f.level != PROBLEM for f in findings)
    if options.json:
        report = {"healthy": healthy, "findings": [asdict(f) for f in findings]}
        print(json.dumps({**report, "machine": asdict(machine)}, indent=2, default=sorted))
    else:
        _print(machine, findings, options.weights)
    return 0 if healthy else 1


def _print(machine: Machine, findings: Sequence[Finding], weights: Path | None) -> None:
    cores = f"{machine.affinity} core{'s' if machine.affinity != 1 else ''}"
    print(f"machine: {cpu_model()}, {cores}")
    for name, reason in machine.backends.items():
        if reason is not None:
            state = f"not available: {reason}"
        elif machine.selftest.get(name) is None:
            state = "works, tested"
        else:
            state = "FAILED its test"
        print(f"backend: {name}: {state}")
    if weights is not None and not any(f.topic == "weights" for f in findings):
        print(f"weights: {weights}: no subnormal and no non-finite numbers")
    for finding in findings:
        print(f"\n{finding.level}: {finding.topic}: {finding.what}")
        if finding.fix:
            print(f"    fix: {finding.fix}")
    problems = sum(f.level == PROBLEM for f in findings)
    print(f"\n{problems} problem{'s' if problems != 1 else ''}" if problems else "\nhealthy")
