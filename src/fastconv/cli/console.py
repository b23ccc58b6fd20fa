"""What the subcommands print with: tables and progress, with rich where it is installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

OK, FAILED = "ok", "FAILED"


class Column(NamedTuple):
    """Title of a column, and whether its cells are numbers, aligned to the right."""

    title: str
    number: bool = False


def optional(module: str) -> ModuleType | None:
    """Import an optional package, or return None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def say(text: str) -> None:
    """Print a remark on standard error: standard output holds results alone."""
    print(text, file=sys.stderr, flush=True)


def print_table(
    title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], rules: Sequence[int] = ()
) -> None:
    """Print a table on standard output.

    Parameters
    ----------
    title : str
    columns : sequence of Column
    rows : sequence of sequence of str
        One cell a column.
    rules : sequence of int
        Rows after which a line is drawn.
    """
    if optional("rich") is None:
        _print_plain(title, columns, rows, rules)
    else:
        _print_rich(title, columns, rows, rules)


def _print_plain(
    title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], rules: Sequence[int]
) -> None:
    cells = [[c.title for c in columns], *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(columns) - 1))
    print(title, line(cells[0]), rule, sep="\n")
    for index, row in enumerate(rows):
        print(line(row))
        if index in rules:
            print(rule)


def _print_rich(
    title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], rules: Sequence[int]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in columns:
        table.add_column(column.title, justify="right" if column.number else "left", no_wrap=True)
    styles = {OK: "green", FAILED: "bold red"}
    for index, row in enumerate(rows):
        table.add_row(*(Text(c, styles.get(c, "")) for c in row), end_section=index in rules)
    # as wide as the table needs: a figure cut off would be worse than a wrapped line
    console = Console(file=sys.stdout, highlight=False)
    needed = Measurement.get(console, console.options.update(width=1000), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


class Progress:
    """Progress on standard error: a bar on a terminal with rich, otherwise one line a step.

    Parameters
    ----------
    total : int
        Steps to come.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done, self._bar = total, 0, None
        if sys.stderr.isatty() and optional("rich") is not None:
            self._bar = _bar()
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step_on(self, case: str, backend: str) -> None:
        """Begin a backend's turn at a case."""
        self.step(f"{case} on {backend}")

    def step(self, what: str) -> None:
        """Begin the next step, named `what`."""
        if self._bar is None:
            say(f"[{self._done + 1:{len(str(self._total))}}/{self._total}] {what}")
        else:
            self._bar.update(self._task, completed=self._done, description=what)
        self._done += 1


def _bar() -> Any:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.SpinnerColumn(),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )


def significant(value: float, digits: int = 3) -> str:
    """Print a number with that many significant digits, never with an exponent for large ones."""
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}"


def percent(share: float) -> str:
    """Print a share as per cent."""
    return f"{significant(100 * share, 2)} %"
