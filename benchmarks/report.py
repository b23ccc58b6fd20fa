"""The end of a run: tables on the terminal, reports on disk."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fastconv
from benchmarks.claims import writer
from benchmarks.claims.record import ORDER, Claim
from benchmarks.networks import results
from benchmarks.settings import Settings
from benchmarks.tables import Table, markdown, terminal
from fastconv.options import current
from fastconv.peak import measure_peak

if TYPE_CHECKING:
    import pytest


def processor() -> str:
    """Name the processor as the system does."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> list[str]:
    """List what the times of a run depend on."""
    backends = ", ".join(fastconv.available_backends())
    threads = current().threads
    peak = measure_peak(threads)
    lines = [
        f"fastconv {fastconv.__version__}, backends {backends}; Python "
        f"{platform.python_version()}, NumPy {np.__version__}",
        f"{processor()} ({platform.machine()}, {platform.system()}), {os.cpu_count()} cores, "
        f"at most {threads} threads",
        f"{datetime.now(UTC):%Y-%m-%d}, float32, one image at a time; times are the best of "
        "several",
    ]
    if peak is not None:
        lines.insert(2, f"multiply-add peak of {threads} threads, measured: {peak:.0f} GFLOP/s")
    return lines


def show(
    reporter: pytest.TerminalReporter,
    settings: Settings,
    networks: Sequence[results.Result],
    claims: Sequence[Claim],
) -> None:
    """Print the tables and write the reports of what has run."""
    written = []
    facts = machine()
    if claims:
        written.append(writer.write(claims, settings.report, facts, settings.smoke))
        _print(reporter, "the article's claims", [_verdicts(claims)])
    if networks:
        tables = results.tables(networks)
        written.append(_write_networks(tables, settings.report, facts))
        _print(reporter, "convolution layers of networks", tables)
        reporter.write_line(results.NOTE)
    for path in written:
        reporter.write_line(f"wrote {path}")


def _verdicts(claims: Sequence[Claim]) -> Table:
    table = Table(("claim", "verdict"), left=frozenset({0, 1}))
    for claim in sorted(claims, key=lambda claim: ORDER.index(claim.key)):
        table.add(claim.title, claim.verdict)
    return table


def _print(reporter: pytest.TerminalReporter, title: str, tables: Sequence[Table]) -> None:
    reporter.section(title)
    width = reporter._tw.fullwidth
    for table in tables:
        for line in terminal(table, reporter.hasmarkup, width).splitlines():
            reporter.write_line(line.rstrip())
        reporter.write_line("")


def _write_networks(tables: Sequence[Table], folder: Path, facts: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Convolution layers of networks",
        results.NOTE,
        "\n".join(f"- {line}" for line in facts),
        *(markdown(table) for table in tables),
    ]
    path = folder / "networks.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path
