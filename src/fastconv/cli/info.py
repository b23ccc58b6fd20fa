"""``python -m fastconv info``: what a bug report needs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from .._config import config
from . import machine
from .driver import query

EXAMPLES = """\
examples:
  python -m fastconv info
  python -m fastconv info --json > fastconv-info.json
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand to argparse's subparsers."""
    parser = commands.add_parser(
        "info",
        help="print what a bug report needs",
        description="Print version, build, backends, processor, thread pools, CUDA driver and the "
        "environment variables that matter.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def facts() -> dict[str, Any]:
    """Everything `info` prints, ready for JSON."""
    environment = machine.relevant_environment()  # before imports that add to it
    compiler, quota = machine.compiler(), machine.cpu_quota()
    return {
        **config(),
        "cpu": {
            "model": machine.cpu_model(),
            "quota": None if quota is None else f"{quota.cores:g} cores ({quota.source})",
            "affinity": machine.affinity(),
        },
        "compiler": None if compiler is None else compiler._asdict(),
        "packages": machine.packages(),
        "cuda driver": asdict(query()),
        "thread pools": machine.threadpools(),
        "environment": environment,
    }


def run(options: argparse.Namespace) -> int:
    """Print the facts."""
    found = facts()
    if options.json:
        print(json.dumps(found, indent=2, default=str))
        return 0
    for name, value in found.items():
        if isinstance(value, dict | list):
            print(f"{name}:{'' if value else ' none'}")
            for line in _lines(value):
                print(f"  {line}")
        else:
            print(f"{name}: {'none' if value is None else value}")
    return 0


def _lines(value: dict[str, Any] | list[Any]) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}: {_inline(item)}" for key, item in value.items()]
    return [_inline(item) for item in value]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_inline(item) for item in value) or "none"
    return "none" if value in (None, "") else str(value)
