"""Writes the claims report: Markdown, and a PNG for every plot."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims.record import NOT_MEASURED, ORDER, Claim
from benchmarks.tables import Table, markdown

INTRODUCTION = (
    "What the article *Convolutions: The Magic Behind Neural Networks* says about convolutions, "
    "held against measurements with fastconv. `pytest --benchmark` measures all of it anew and "
    "writes this file; every number is asserted as well, counts exactly, times loosely."
)


def write(
    claims: Sequence[Claim], folder: Path, machine: Sequence[str], smoke: bool = False
) -> Path:
    """Write ``claims.md`` and its plots.

    Parameters
    ----------
    claims : sequence of Claim
    folder : Path
        Created where it is missing.
    machine : sequence of str
        What the times depend on, one line each.
    smoke : bool
        The sizes were those of a smoke test; the report says so.

    Returns
    -------
    Path
        The Markdown file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = importlib.util.find_spec("matplotlib") is not None
    ordered = sorted(claims, key=lambda claim: ORDER.index(claim.key))
    parts = ["# The article's claims, measured", INTRODUCTION]
    if smoke:
        parts.append(
            "**A smoke test: sizes and rounds are small; times, and verdicts on what is learned, "
            "mean little.**"
        )
    if len(ordered) < len(ORDER):
        parts.append(f"**Only {len(ordered)} of {len(ORDER)} claims were measured in this run.**")
    if not drawn:
        parts.append("Plots need matplotlib: `pip install '.[demo]'`.")
    parts += ["\n".join(f"- {line}" for line in machine), _summary(ordered)]
    for number, claim in enumerate(ordered, 1):
        if drawn and claim.plot:
            _draw(claim, folder / f"{claim.key}.png")
        parts.append(_section(number, claim, drawn))
    parts.append(_not_measured())
    path = folder / "claims.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _summary(claims: Sequence[Claim]) -> str:
    table = Table(("", "claim", "verdict", "because"), left=frozenset({1, 2, 3}))
    for number, claim in enumerate(claims, 1):
        link = f"[{claim.title}](#{claim.key})"
        table.add(str(number), link, f"**{claim.verdict}**", claim.because)
    return markdown(table)


def _section(number: int, claim: Claim, drawn: bool) -> str:
    parts = [
        f'<a id="{claim.key}"></a>\n\n## {number}. {claim.title}',
        f"> {claim.quote}",
        f"**Measured.** {claim.measured}",
        "\n".join(f"- {finding}" for finding in claim.findings),
        *(markdown(table) for table in claim.tables),
    ]
    if drawn and claim.plot:
        parts.append(f"![{claim.plot.caption}]({claim.key}.png)\n\n*{claim.plot.caption}*")
    parts.append(f"**Verdict: {claim.verdict}.** {claim.because}")
    return "\n\n".join(parts)


def _not_measured() -> str:
    lines = [f'- "{quote}": {reason}.' for quote, reason in NOT_MEASURED]
    return "\n\n".join(("## Not measured here", "\n".join(lines)))


def _draw(claim: Claim, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from benchmarks.claims.plots import STYLE

    assert claim.plot is not None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=claim.plot.size, dpi=144, layout="constrained")
        FigureCanvasAgg(figure)
        claim.plot.draw(figure)
        figure.savefig(path, metadata={"Software": None})
