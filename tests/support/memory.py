"""What a process holds, read from Linux's /proc, and what Python allocates during a call."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field + ":"))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Let `peak_resident` count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """Most bytes of this process that were in memory at once."""
    return _status("VmHWM")


def address_space() -> int:
    """Bytes of addresses this process uses, which RLIMIT_AS bounds."""
    return _status("VmSize")


def traced_peak(call: Callable[[], object]) -> int:
    """Most bytes that Python and NumPy allocate during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
