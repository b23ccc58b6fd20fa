"""Arguments and answers that the tests of the command line share."""

from __future__ import annotations

from fastconv import dispatch

from . import backends

SMALL_DEMO = ("demo", "--size", "64", "--rounds", "1")
SMALL_BENCH = ("bench", "--x", "2,4,9,8", "--w", "6,2,3,3", "--groups", "2", "--rounds", "2")
REFERENCE = ("--backends", "reference")


def present_backends() -> list[str]:
    """CPU backends of this machine; a missing required one fails."""
    for name in backends.required() & set(backends.CPU):
        backends.present(name)
    return [n for n in reversed(backends.CPU) if dispatch.availability(n) is None]


def one_line(stderr: str) -> str:
    """Return the one line of an error; lines of progress are left out."""
    lines = [line for line in stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("fastconv: ")
    return lines[0]
