"""``pytest --benchmark``: the options of the benchmark suite, on top of pytest-benchmark.

=================================== ============================================================
``pytest``                          the tests, no benchmark
``pytest --benchmark``              everything under benchmarks/, nothing else
``pytest --benchmark-only`` etc.    pytest-benchmark's own options mean what they always mean
=================================== ============================================================
"""

from __future__ import annotations

import os
import shlex
import warnings
from pathlib import Path

import pytest

SUITE = Path(__file__).resolve().parent / "benchmarks"

#: The tests clear fastconv's variables when pytest loads their conftest.py; benchmarks heed them.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name.startswith("FASTCONV_") or name == "OMP_NUM_THREADS"
}

#: Options of pytest-benchmark that ask for benchmarks beside the tests.
ASKING = (
    "only", "enable", "disable", "save", "autosave", "save-data", "json", "compare",
    "compare-fail", "histogram", "cprofile", "cprofile-dump",
)  # fmt: skip

#: What a layer may take unless the command line says otherwise: about 200 of them, in minutes.
BUDGET = {"benchmark_max_time": "0.3", "benchmark_min_rounds": 3}
SMOKE_BUDGET = {"benchmark_max_time": "0.02", "benchmark_min_rounds": 1}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark")
    group.addoption(
        "--benchmark",
        action="store_true",
        default=False,
        help="Run the benchmark suite and nothing else. The four options below imply it.",
    )
    group.addoption(
        "--benchmark-networks",
        metavar="NAMES",
        help="Comma-separated networks to benchmark; 'none' for the claims alone. Default: all.",
    )
    group.addoption(
        "--benchmark-backends",
        metavar="NAMES",
        help="Comma-separated backends to benchmark the networks on; 'default' is the one that "
        "fastconv chooses. Default: 'default'.",
    )
    group.addoption(
        "--benchmark-smoke",
        action="store_true",
        default=False,
        help="Check that every kind of benchmark runs: a few layers, few rounds, small claims.",
    )
    group.addoption(
        "--benchmark-report",
        metavar="DIR",
        type=Path,
        help="Where to write claims.md, networks.md and their plots. Default: reports.",
    )


def _given(config: pytest.Config, option: str) -> bool:
    """Whether `option` stands on the command line, in PYTEST_ADDOPTS or in addopts."""
    arguments = [
        *map(str, config.invocation_params.args),
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *config.getini("addopts"),
    ]
    return any(a == option or a.startswith(f"{option}=") for a in arguments)


def _has_plugin(config: pytest.Config) -> bool:
    return hasattr(config.option, "benchmark_only")


def _let_plugin_warn(config: pytest.Config) -> None:
    """Keep pytest-benchmark's remarks (nothing to compare with, nothing to save) from ending a
    run in which every other warning is an error."""
    from pytest_benchmark.logger import PytestBenchmarkWarning

    warnings.simplefilter("default", PytestBenchmarkWarning)
    config.addinivalue_line(
        "filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning"
    )


def _suite_requested(config: pytest.Config) -> bool:
    names = ("benchmark_networks", "benchmark_backends", "benchmark_smoke", "benchmark_report")
    return bool(config.option.benchmark or any(getattr(config.option, name) for name in names))


def _plugin_asked(config: pytest.Config) -> bool:
    """Whether an option of pytest-benchmark itself asks for benchmarks."""
    return any(_given(config, f"--benchmark-{name}") for name in ASKING)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # pytest-benchmark reads its options in its own pytest_configure, which comes last.
    option = config.option
    plugin = _has_plugin(config)
    if plugin:
        _let_plugin_warn(config)
    if not _suite_requested(config):
        if plugin and not _plugin_asked(config):
            option.benchmark_skip = True
        return
    if not plugin:
        raise pytest.UsageError(
            "--benchmark needs the plugin pytest-benchmark: pip install '.[test]', and no "
            "'-p no:benchmark'"
        )
    if option.benchmark_skip:
        raise pytest.UsageError("--benchmark and --benchmark-skip contradict each other")
    option.benchmark = True
    os.environ.update(ENVIRONMENT)
    if not option.benchmark_disable or option.benchmark_enable:
        option.benchmark_only = True
    for name, value in (SMOKE_BUDGET if option.benchmark_smoke else BUDGET).items():
        if not _given(config, "--" + name.replace("_", "-")):
            setattr(option, name, value)


def _named(config: pytest.Config, path: Path) -> bool:
    """Whether the command line names `path`, or something above it inside the suite."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return False
    named = [Path(config.invocation_params.dir, a.split("::")[0]).resolve() for a in config.args]
    return any(n.is_relative_to(SUITE) and path.is_relative_to(n) for n in named)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests with --benchmark, and the benchmarks without.

    Folders are always walked: pytest takes an ignored argument for a mistake.
    """
    if collection_path.is_dir():
        return None
    in_suite = collection_path.is_relative_to(SUITE)
    if config.option.benchmark:
        return None if in_suite else True
    if in_suite and not _plugin_asked(config) and not _named(config, collection_path):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests named beside --benchmark; without the plugin, skip what was named."""
    if config.option.benchmark:
        others = [item for item in items if not item.path.is_relative_to(SUITE)]
        if others:
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if item.path.is_relative_to(SUITE)]
    elif not _has_plugin(config):
        for item in items:
            if item.path.is_relative_to(SUITE):
                item.add_marker(pytest.mark.skip(reason="benchmarks need pytest-benchmark"))
