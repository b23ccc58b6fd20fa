"""Other libraries that results are held against: tests alone need them."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest
from hypothesis import settings

#: How hypothesis draws: those that conftest.py registers.
PROFILES = ("fixed", "explore")


def oracle(name: str) -> Any:
    """Import a library, or skip; FASTCONV_REQUIRE_ORACLES makes a missing one a failure."""
    drawn = settings.default
    try:
        return importlib.import_module(name)
    except ImportError as error:
        required = os.environ.get("FASTCONV_REQUIRE_ORACLES", "")
        if name.partition(".")[0] in required.split(","):
            raise
        pytest.skip(f"{error}: pip install 'fastconv[oracles,interop]'", allow_module_level=True)
    finally:
        if settings.default is not drawn:  # PyTorch's tests load a profile of their own
            settings.load_profile(next(p for p in PROFILES if settings.get_profile(p) is drawn))
