"""Tables of text: plain, Markdown, or drawn by Rich where it is installed."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of text under a header.

    Attributes
    ----------
    header : sequence of str
        The first column is aligned left, the others right, unless `left` names more.
    title : str
    rows : list of tuple of str
    left : set of int
        Columns aligned left.
    last_is_total : bool
        Set the last row off from the others.
    """

    header: Sequence[str]
    title: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    left: frozenset[int] = frozenset({0})
    last_is_total: bool = False

    def add(self, *cells: str) -> None:
        """Append a row; its length must be the header's."""
        if len(cells) != len(self.header):
            raise ValueError(f"{len(cells)} cells under {len(self.header)} columns: {cells}")
        self.rows.append(cells)


def plain(table: Table) -> str:
    """Draw with spaces and dashes."""
    rows = [tuple(table.header), *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    rule = "  ".join("-" * width for width in widths)

    def line(row: tuple[str, ...]) -> str:
        cells = (
            cell.ljust(width) if i in table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    body = [line(row) for row in table.rows]
    if table.last_is_total and len(body) > 1:
        body.insert(-1, rule)
    return "\n".join([*([table.title] if table.title else []), line(rows[0]), rule, *body])


def markdown(table: Table) -> str:
    """Draw as a Markdown table, the title above it in bold."""
    rule = [":--" if i in table.left else "--:" for i in range(len(table.header))]
    rows = [tuple(table.header), tuple(rule), *table.rows]
    if table.last_is_total and table.rows:
        rows[-1] = tuple(f"**{cell}**" if cell else "" for cell in table.rows[-1])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*([f"**{table.title}**", ""] if table.title else []), *lines])


def terminal(table: Table, color: bool, width: int) -> str:
    """Draw for a terminal of `width` columns: with Rich if it is installed, otherwise plain."""
    if importlib.util.find_spec("rich") is None:
        return plain(table)
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD, title_style="bold")
    for i, name in enumerate(table.header):
        drawn.add_column(name, justify="left" if i in table.left else "right", no_wrap=True)
    for i, row in enumerate(table.rows):
        last = i == len(table.rows) - 1
        drawn.add_row(
            *row,
            style="bold" if table.last_is_total and last else None,
            end_section=table.last_is_total and i == len(table.rows) - 2,
        )
    # Rich would cut long tables off at the width of a pipe, 80 columns.
    text = io.StringIO()
    Console(file=text, force_terminal=color, width=max(width, 120), highlight=False).print(drawn)
    return text.getvalue().rstrip()
