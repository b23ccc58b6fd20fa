"""Fresh interpreters: for what must not be inherited, and for what might not survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import fastconv

#: Seconds after which a child counts as hung; nothing is timed.
PATIENCE = 240


def start(
    source: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter that imports the same fastconv and `support`."""
    paths = [str(Path(fastconv.__file__).parents[1]), str(Path(__file__).parents[1])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        env=variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def run(source: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a script as `start` does and return what it printed; fail where it does not end well."""
    done = start(source, *arguments, environment=environment)
    assert done.returncode == 0, f"{describe(done.returncode)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_on_every_isa(source: str) -> None:
    """Run a script with each instruction set that was compiled and that this processor has."""
    facts = fastconv.show_config("dict")["native"]
    isas = facts["compiled for"].split()
    assert facts["isa"] in isas
    for isa in isas:
        ending = "\nimport fastconv\nprint(fastconv.show_config('dict')['native']['isa'])\n"
        done = start(source + ending, environment={"FASTCONV_ISA": isa})
        if "lacks it" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == isa


def describe(returncode: int) -> str:
    """Say how a process ended."""
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"exit status {returncode}"
