"""The Numba backend (placeholder while it is written)."""

from __future__ import annotations


def available() -> str | None:
    """Return the reason this backend cannot be used."""
    return "not written yet"
