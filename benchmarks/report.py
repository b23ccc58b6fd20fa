"""The end of a run: tables on the terminal, reports on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import settings
from benchmarks.networks import results
from benchmarks.tables import terminal

if TYPE_CHECKING:
    import pytest


def show(
    reporter: pytest.TerminalReporter, networks: list[results.Result], claims: list[Any]
) -> None:
    """Print the tables and write the reports of what has run."""
    if networks:
        _show_networks(reporter, networks)


def _show_networks(reporter: pytest.TerminalReporter, networks: list[results.Result]) -> None:
    reporter.section("convolution layers of networks")
    for table in results.tables(networks):
        reporter.write_line("")
        for line in terminal(table, reporter.hasmarkup, reporter._tw.fullwidth).splitlines():
            reporter.write_line(line.rstrip())
    reporter.write_line("")
    reporter.write_line(results.NOTE)
