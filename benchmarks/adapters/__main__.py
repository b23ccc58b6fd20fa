"""What each adapter adds to a call, in microseconds.

    python -m benchmarks.adapters [adapter ...]

A module of this package a library, each with `rows()`. The calls of a row take turns, in rounds of
some hundred; medians of the rounds, one thread. Libraries that are not installed are named and
left out.
"""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import sys
import time
from collections.abc import Iterator

import benchmarks.adapters as package

from .row import Call, Row

CALLS, ROUNDS = 200, 25


def seconds(call: Call) -> float:
    """Mean time of a call in one round."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def microseconds(row: Row) -> list[float | None]:
    """Medians for a row's three calls, which take turns."""
    calls = [call for call in (row.adapter, row.bare, row.library) if call is not None]
    for call in calls:
        call()
    rounds = [[seconds(call) for call in calls] for _ in range(ROUNDS)]
    medians: list[float | None] = [
        statistics.median(times) * 1e6 for times in zip(*rounds, strict=True)
    ]
    return medians + [None] * (3 - len(medians))


def tables(names: list[str]) -> Iterator[tuple[str, list[Row] | str]]:
    """Every adapter's rows, or what hinders them."""
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in ("row", "__main__") or (names and module.name not in names):
            continue
        try:
            yield module.name, importlib.import_module(f"{package.__name__}.{module.name}").rows()
        except ModuleNotFoundError as error:
            yield module.name, str(error)


def main(names: list[str]) -> None:
    """Print the table."""
    print(f"{'us a call':44}{'adapter':>9}{'bare':>9}{'added':>9}{'library':>9}")
    for name, rows in tables(names):
        if isinstance(rows, str):
            print(f"{name:44}{rows}")
            continue
        for row in rows:
            adapter, bare, library = microseconds(row)
            assert adapter is not None
            assert bare is not None
            theirs = "" if library is None else f"{library:.1f}"
            print(
                f"{f'{name}: {row.name}':44}{adapter:9.1f}{bare:9.1f}{adapter - bare:9.1f}"
                f"{theirs:>9}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
