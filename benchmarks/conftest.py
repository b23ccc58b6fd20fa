"""What the benchmarks share: their settings, the rows they fill, the tables and reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.claims.record import Claim, Record
    from benchmarks.networks.results import Result
    from benchmarks.settings import Settings

SUITE = Path(__file__).resolve().parent

NETWORKS: pytest.StashKey[list[Any]] = pytest.StashKey()
CLAIMS: pytest.StashKey[list[Any]] = pytest.StashKey()

#: Options of pytest-benchmark that are about its own table.
TABLE_OPTIONS = ("compare", "histogram", "columns", "verbose", "cprofile")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NETWORKS] = []
    config.stash[CLAIMS] = []
    if config.option.benchmark:
        from benchmarks import settings

        settings.of(config)  # a misspelt network is told now, not after the tests are collected


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Settings:
    """Options of the suite."""
    from benchmarks import settings

    return settings.of(pytestconfig)


@pytest.fixture(scope="session")
def network_results(pytestconfig: pytest.Config) -> list[Result]:
    """Rows of the tables of networks."""
    return pytestconfig.stash[NETWORKS]


@pytest.fixture
def record(pytestconfig: pytest.Config, benchmark: Any) -> Record:
    """Take a claim into the report, once its assertions have passed."""

    def append(claim: Claim) -> None:
        benchmark.extra_info.update(claim=claim.title, verdict=claim.verdict)
        pytestconfig.stash[CLAIMS].append(claim)

    return append


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    without = config.option.benchmark_networks == "none"
    return True if without and collection_path == SUITE / "networks" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The tables and reports name the backend; that it is not the native one is no error here.
    allowed = pytest.mark.filterwarnings("ignore:fastconv runs without its native backend")
    for item in items:
        if item.path.is_relative_to(SUITE):
            item.add_marker(allowed)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_benchmark_group_stats(config: pytest.Config) -> Any:
    """Leave this suite's rows out of pytest-benchmark's table unless an option asks for it."""
    groups = yield
    if any(getattr(config.option, f"benchmark_{name}") for name in TABLE_OPTIONS):
        return groups
    kept = [(group, [b for b in benches if not b["extra_info"]]) for group, benches in groups]
    return [(group, benches) for group, benches in kept if benches]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    networks, claims = config.stash[NETWORKS], config.stash[CLAIMS]
    if networks or claims:
        from benchmarks import report, settings

        report.show(terminalreporter, settings.of(config), networks, claims)
