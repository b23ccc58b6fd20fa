"""Fixtures every test file shares: the backend under test, and the table of worst ratios."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves `support` out of sys.path
for variable in ("FASTCONV_BACKEND", "FASTCONV_PRECISION", "FASTCONV_THREADS", "OMP_NUM_THREADS"):
    os.environ.pop(variable, None)  # every test states its own options
pytest.register_assert_rewrite("support")

from support import backends, fast, ratios  # noqa: E402

from fastconv.options import environment  # noqa: E402

settings.register_profile(
    "fixed",
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "explore", parent=settings.get_profile("fixed"), derandomize=False, max_examples=5000
)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Have PyTorch draw the same numbers in every run, where a test has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-worst-ratios",
        action="store_true",
        help="rewrite tests/data/worst_ratios.json from this run, for this instruction set",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A machine without a compiler is a legal place to run the tests; the warning has its own test.
    config.addinivalue_line(
        "filterwarnings", "ignore:fastconv runs without its native backend:RuntimeWarning"
    )
    ratios.TABLE.updating = config.getoption("--update-worst-ratios")


def pytest_sessionfinish(session: pytest.Session) -> None:
    ratios.TABLE.write()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = ratios.TABLE.report()
    if lines:
        terminalreporter.section("worst errors, as shares of what is permitted")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(params=backends.CPU)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a CPU backend; skips the ones this machine lacks, unless they are required."""
    return backends.present(request.param)


@pytest.fixture(params=backends.FAST)
def fast_backend(request: pytest.FixtureRequest) -> str:
    """Name of a CPU backend other than the reference, for what would take the oracle minutes."""
    return backends.present(request.param)


@pytest.fixture
def fresh_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test set FASTCONV_* variables, which are read once a process."""
    environment.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    environment.cache_clear()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small problems take the fast ways that only large ones repay."""
    fast.lower_limits(monkeypatch)
    yield
    monkeypatch.undo()
    fast.forget()
