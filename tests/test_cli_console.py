"""What the command line prints with: tables, progress, numbers."""

from __future__ import annotations

import sys

import pytest

from fastconv.cli import console

COLUMNS = (console.Column("name"), console.Column("GFLOP/s", True), console.Column("check"))
ROWS = (("a layer with a long name" * 4, "12.5", console.OK), ("b", "-", console.FAILED))


@pytest.mark.parametrize("rich", [True, False])
def test_tables_cut_nothing_off(rich, monkeypatch, capsys):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setenv("COLUMNS", "20")
    console.print_table("a title", COLUMNS, ROWS, rules=(0,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a title")
    for row in (tuple(c.title for c in COLUMNS), *ROWS):
        assert sum(all(cell in line for cell in row) for line in lines) == 1
    ends = {line.index(number) + len(number) for line in lines for number in ("12.5", "GFLOP/s") if
            number in line}  # fmt: skip
    assert len(ends) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with console.Progress(10) as progress:
        progress.step("first")
        progress.step_on("second", "native")
    said = capsys.readouterr()
    assert said.out == ""
    if not terminal or console.optional("rich") is None:
        assert said.err == "[ 1/10] first\n[ 2/10] second on native\n"
    else:
        assert "2/10" in said.err or "1/10" in said.err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (123.45, "123"),
        (98765.4, "98765"),
    ],
)
def test_significant(value, text):
    assert console.significant(value) == text
