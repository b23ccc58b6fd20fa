"""The committed table of worst errors: what was measured once must not quietly grow.

For every instruction set, backend, algorithm, dtype and class of reduction length (few products
are always near the bound, many never are) the table holds two figures:

- ``bound``: largest error as a share of the derived bound (1 is what is promised);
- ``gate``: largest error in units of u*S, as a share of max(4, 2*sqrt(n)), the regression gate.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

from . import backends

PATH = Path(__file__).parent.parent / "data" / "worst_ratios.json"

#: Growth that a compiler's rounding choices may cause.
GROWTH = 1.25
FLOOR = 0.02

Figures = dict[str, float]


def key_of(backend: str, algorithm: str, dtype: str, reduction: int) -> str:
    """Row of the table that an error belongs to."""
    return f"{backend}/{algorithm}/{dtype}/{'n<=32' if reduction <= 32 else 'n>32'}"


class Table:
    """Worst figures of this run beside the committed ones."""

    def __init__(self) -> None:
        self.updating = False
        self.committed: dict[str, dict[str, Figures]] = (
            json.loads(PATH.read_text()) if PATH.exists() else {}
        )
        self.before = copy.deepcopy(self.committed)
        self.measured: dict[str, Figures] = {}

    def limits(self, key: str) -> Figures:
        """Largest figures permitted for a key; without a committed row, the promise alone."""
        row = self.committed.get(backends.isa(), {}).get(key)
        if row is None or self.updating:
            return {"bound": 1.0, "gate": 1.0}
        return {name: min(1.0, value * GROWTH + FLOOR) for name, value in row.items()}

    def record(self, key: str, figures: Figures) -> None:
        """Keep the worst of each figure, and hold it against the committed row."""
        worst = self.measured.setdefault(key, {})
        for name, value in figures.items():
            worst[name] = max(worst.get(name, 0.0), value)
        limits = self.limits(key)
        for name, value in figures.items():
            limit = limits.get(name, 1.0)
            assert value <= limit, (
                f"{key}: {name} {value:.4f} exceeds {limit:.4f}, the committed worst and "
                f"{GROWTH - 1:.0%}; if that is meant, rerun with --update-worst-ratios"
            )

    def write(self) -> None:
        """Rewrite the rows that this run measured, where asked to."""
        if not self.updating or not self.measured:
            return
        rows = self.committed.setdefault(backends.isa(), {})
        for key, figures in self.measured.items():
            rows[key] = {name: round(value, 4) for name, value in figures.items()}
        PATH.parent.mkdir(exist_ok=True)
        PATH.write_text(json.dumps(self.committed, indent=1, sort_keys=True) + "\n")

    def report(self) -> list[str]:
        """Lines for the end of the test run."""
        if not self.measured:
            return []
        isa = backends.isa()
        rows = self.before.get(isa, {})
        lines = [f"{isa + ':':46s}   bound (was)        gate (was)"]
        for key in sorted(self.measured):
            was = rows.get(key, {})
            cells = [
                f"{value:7.4f} ({'  none' if name not in was else format(was[name], '6.4f')})"
                for name, value in self.measured[key].items()
            ]
            lines.append(f"  {key:44s} " + "   ".join(cells))
        if any(key not in rows for key in self.measured):
            lines.append(
                "  rows marked none were judged by the derived bounds alone; "
                "pytest --update-worst-ratios commits them"
            )
        return lines


TABLE = Table()
