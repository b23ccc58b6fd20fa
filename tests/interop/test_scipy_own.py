"""SciPy's own tests of its convolutions, run on fastconv: all pass, and fastconv computed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.oracles import oracle

import fastconv

scipy = oracle("scipy")
if importlib.util.find_spec("scipy.signal.tests.test_signaltools") is None:
    pytest.skip("this SciPy comes without its tests", allow_module_level=True)

TESTS = Path(__file__).parents[1]


def run(
    module: str, chosen: str, counts: Path, *options: str, **environment: str
) -> dict[str, Any]:
    """Run some of SciPy's tests in another process, with the patch in force; return its counts."""
    paths = [str(Path(fastconv.__file__).parents[1]), str(TESTS)]
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-p",
            "support.scipy_patch", *options, "--pyargs", module, "-k", chosen,
        ],
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "FASTCONV_TEST_CALLS": str(counts),
            **environment,
        },
        cwd=counts.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert counts.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(counts.read_text())
    if not environment:
        assert found["failed"] == 0, done.stdout[-6000:]
        assert done.returncode == 0, done.stdout[-3000:]
    return found


SIGNAL = "TestConvolve or TestCorrelate or test_convolve_longdtype_input or TestWiener"


#: Calls that fastconv must have computed, by the function of scipy.signal.
LEAST = {"convolve2d": 18, "correlate2d": 8, "convolve": 500, "correlate": 150}


def test_signal(tmp_path: Path) -> None:
    """TestConvolve, TestConvolve2d, TestCorrelate(Real, Complex), TestCorrelate2d and the rest."""
    found = run("scipy.signal.tests.test_signaltools", SIGNAL, tmp_path / "calls.json")
    computed = Counter(found["computed"])
    assert found["ran"] > 120
    for name, least in LEAST.items():
        assert computed[f"signal.{name}"] >= least, (name, computed)


def test_ndimage(tmp_path: Path) -> None:
    """All tests of ndimage's filters: gaussian_filter, sobel and others correlate as well."""
    found = run("scipy.ndimage.tests.test_filters", "", tmp_path / "calls.json")
    computed = Counter(found["computed"])
    assert found["ran"] > 2000
    for name in ("correlate", "convolve", "correlate1d", "convolve1d"):
        assert computed[f"ndimage.{name}"] >= 500, (name, computed)


@pytest.mark.parametrize(
    ("module", "chosen"),
    [
        ("scipy.signal.tests.test_signaltools", "TestConvolve2d or TestCorrelate2d"),
        ("scipy.ndimage.tests.test_filters", "test_correlate0 or test_correlate1"),
    ],
)
def test_wrong_sums_would_be_found(module: str, chosen: str, tmp_path: Path) -> None:
    """With one element of every result of fastconv off by one, SciPy's tests fail."""
    found = run(module, chosen, tmp_path / "calls.json", "--tb=no", FASTCONV_TEST_PLANT="1")
    assert found["failed"] >= 10
