"""``pytest --benchmark`` and the options around it: what runs, what does not, what conflicts."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks import networks, settings
from benchmarks.claims.record import ORDER
from support import ratios

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]

#: Two tests, one of which uses the fixture, beside two of the same kind in the suite.
TEST = "def test_plain(): pass\n\ndef test_timed(benchmark): benchmark(int)\n"
QUICK = ("--benchmark-max-time=0.001", "--benchmark-min-rounds=1", "-p", "no:cacheprovider")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with this one's root conftest.py and pytest options, and four items."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # pytest takes a conftest.py for the loaded module of its name, and would configure this one
    monkeypatch.delitem(sys.modules, "tests.conftest", raising=False)
    with (ROOT / "pyproject.toml").open("rb") as file:
        options = tomllib.load(file)["tool"]["pytest"]["ini_options"]
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    pytester.makepyprojecttoml("\n".join(["[tool.pytest.ini_options]", *lines]))
    pytester.makeconftest((ROOT / "conftest.py").read_text(encoding="utf-8"))
    for folder, name in (("tests", "test_unit"), ("benchmarks", "test_speed")):
        pytester.mkdir(folder).joinpath(f"{name}.py").write_text(TEST, encoding="utf-8")
    return pytester


def _outcomes(result: pytest.RunResult) -> dict[str, str]:
    """Outcome of each item that was run, by file and name."""
    verdicts = ("PASSED", "SKIPPED", "FAILED", "ERROR")
    rows = [line.split() for line in result.outlines if "::" in line]
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[1] in verdicts}


UNIT, UNIT_TIMED = "tests/test_unit.py::test_plain", "tests/test_unit.py::test_timed"
SPEED, SPEED_TIMED = "benchmarks/test_speed.py::test_plain", "benchmarks/test_speed.py::test_timed"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {UNIT: "PASSED", UNIT_TIMED: "SKIPPED"}),
        (["."], {UNIT: "PASSED", UNIT_TIMED: "SKIPPED"}),
        (["--benchmark"], {SPEED: "SKIPPED", SPEED_TIMED: "PASSED"}),
        (["--benchmark", "."], {SPEED: "SKIPPED", SPEED_TIMED: "PASSED"}),
        (["--benchmark", "benchmarks"], {SPEED: "SKIPPED", SPEED_TIMED: "PASSED"}),
        (["--benchmark", "tests/test_unit.py"], {}),
        (["--benchmark", "--benchmark-disable"], {SPEED: "PASSED", SPEED_TIMED: "PASSED"}),
        (["--benchmark-smoke"], {SPEED: "SKIPPED", SPEED_TIMED: "PASSED"}),
        (["--benchmark-networks=vgg16"], {SPEED: "SKIPPED", SPEED_TIMED: "PASSED"}),
        (["--benchmark-report=here"], {SPEED: "SKIPPED", SPEED_TIMED: "PASSED"}),
        (["benchmarks"], {SPEED: "PASSED", SPEED_TIMED: "SKIPPED"}),
        (["benchmarks/test_speed.py"], {SPEED: "PASSED", SPEED_TIMED: "SKIPPED"}),
        (["--benchmark-skip"], {UNIT: "PASSED", UNIT_TIMED: "SKIPPED"}),
        (
            ["--benchmark-only"],
            {UNIT: "SKIPPED", UNIT_TIMED: "PASSED", SPEED: "SKIPPED", SPEED_TIMED: "PASSED"},
        ),
        (
            ["--benchmark-disable"],
            {UNIT: "PASSED", UNIT_TIMED: "PASSED", SPEED: "PASSED", SPEED_TIMED: "PASSED"},
        ),
        (
            ["--benchmark-json=out.json"],
            {UNIT: "PASSED", UNIT_TIMED: "PASSED", SPEED: "PASSED", SPEED_TIMED: "PASSED"},
        ),
    ],
    ids=" ".join,
)
def test_what_runs(
    project: pytest.Pytester, arguments: list[str], expected: dict[str, str]
) -> None:
    result = project.runpytest("-v", *QUICK, *arguments)
    assert _outcomes(result) == expected
    assert result.ret == (pytest.ExitCode.OK if expected else pytest.ExitCode.NO_TESTS_COLLECTED)


def test_the_environment_and_the_configuration_count_as_given(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--benchmark-disable")
    assert _outcomes(project.runpytest("-v", *QUICK))[SPEED_TIMED] == "PASSED"


def test_a_session_inside_another_leaves_the_other_alone(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs the project's conftest.py, not ours, whose option it would take for not given."""
    monkeypatch.setattr(ratios.TABLE, "updating", True)
    monkeypatch.setattr(ratios.TABLE, "measured", {})
    own = "from pathlib import Path\nPath(__file__).with_name('loaded').touch()\n"
    project.path.joinpath("tests/conftest.py").write_text(own)
    project.runpytest(*QUICK).assert_outcomes(passed=1, skipped=1)
    assert project.path.joinpath("tests/loaded").exists()
    assert ratios.TABLE.updating


def test_benchmarks_heed_variables_that_the_tests_clear(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTCONV_THREADS", "1")
    clear = "import os\nos.environ.pop('FASTCONV_THREADS', None)\n"
    project.path.joinpath("tests/conftest.py").write_text(clear)
    project.path.joinpath("benchmarks/test_speed.py").write_text(
        "import os\n"
        "def test_timed(benchmark): assert benchmark(os.environ.get, 'FASTCONV_THREADS') == '1'\n"
    )
    project.runpytest("--benchmark", *QUICK).assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["--benchmark", "--benchmark-smoke"])
def test_benchmark_and_skip_contradict_each_other(project: pytest.Pytester, option: str) -> None:
    result = project.runpytest(option, "--benchmark-skip")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--benchmark and --benchmark-skip contradict each other*"])


def test_json_and_budget(project: pytest.Pytester) -> None:
    result = project.runpytest("--benchmark", "--benchmark-json=out.json")
    result.assert_outcomes(passed=1, skipped=1)
    (entry,) = json.loads(project.path.joinpath("out.json").read_text())["benchmarks"]
    assert entry["fullname"] == SPEED_TIMED
    assert entry["options"]["max_time"] == 0.3
    assert entry["options"]["min_rounds"] == 3


def test_budget_on_the_command_line_wins(project: pytest.Pytester) -> None:
    # 1.0 and 5 are pytest-benchmark's own defaults: given, they must not be taken for not given.
    given = ("--benchmark-max-time=1.0", "--benchmark-min-rounds=5")
    project.runpytest("--benchmark", *given, "--benchmark-json=out.json")
    (entry,) = json.loads(project.path.joinpath("out.json").read_text())["benchmarks"]
    assert entry["options"]["max_time"] == 1.0
    assert entry["options"]["min_rounds"] == 5


def test_save_and_compare(project: pytest.Pytester) -> None:
    # pytest-benchmark warns that there is nothing to compare with; warnings are errors here.
    nothing = project.runpytest_subprocess("--benchmark", "--benchmark-compare", *QUICK)
    nothing.assert_outcomes(passed=1, skipped=1)
    saved = project.runpytest("--benchmark", "--benchmark-save=first", *QUICK)
    saved.assert_outcomes(passed=1, skipped=1)
    compared = project.runpytest("--benchmark", "--benchmark-compare", *QUICK)
    compared.assert_outcomes(passed=1, skipped=1)
    compared.stdout.fnmatch_lines(["*test_timed (0001_first)*"])
    compared.stdout.fnmatch_lines(["*test_timed (NOW)*"])


def test_without_the_plugin(project: pytest.Pytester) -> None:
    without = ("-p", "no:benchmark", "-p", "no:cacheprovider")
    project.path.joinpath("tests/test_unit.py").write_text("def test_plain(): pass\n")
    project.runpytest(*without).assert_outcomes(passed=1)
    project.runpytest(*without, "benchmarks").assert_outcomes(skipped=2)
    result = project.runpytest(*without, "--benchmark")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--benchmark needs the plugin pytest-benchmark*"])


def _collect(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_suite_itself() -> None:
    """The real suite: benchmarks alone, a layer of every network, every claim of the report."""
    collected = _collect("--benchmark").stdout.splitlines()
    items = [line for line in collected if "::" in line]
    assert items
    assert all(item.startswith("benchmarks/") for item in items)
    layers = sum(len(network.layers) for network in networks.load_all())
    assert sum("::test_layer[" in item for item in items) == layers
    assert sum(item.startswith("benchmarks/claims/") for item in items) == len(ORDER)


def test_networks_and_backends_are_chosen() -> None:
    chosen = _collect("--benchmark-networks=alexnet", "--benchmark-backends=numba,reference")
    layers = [line for line in chosen.stdout.splitlines() if "::test_layer[" in line]
    assert len(layers) == 10
    assert sum(line.endswith("-numba]") for line in layers) == 5


def _settings(**given: object) -> settings.Settings:
    names = ("networks", "backends", "smoke", "report")
    option = SimpleNamespace(**{f"benchmark_{name}": given.get(name) for name in names})
    return settings.of(SimpleNamespace(option=option, rootpath=ROOT))  # type: ignore[arg-type]


def test_settings() -> None:
    default = _settings()
    assert default.networks == networks.NAMES
    assert default.backends == ("default",)
    assert default.report == ROOT / "reports"
    assert _settings(networks="none").networks == ()
    assert _settings(networks=" vgg16, alexnet,vgg16").networks == ("vgg16", "alexnet")
    assert len(default.layers("vgg16")) == 9
    smoke = [layer.name for layer in _settings(smoke=True).layers("mobilenet_v2")]
    assert smoke == ["stem", "block14.depthwise"]


@pytest.mark.parametrize("given", [{"networks": "alexnet,lenet"}, {"backends": "native,torch"}])
def test_a_misspelt_name_is_a_usage_error(given: dict[str, str]) -> None:
    with pytest.raises(pytest.UsageError, match=r"no (lenet|torch); choose from"):
        _settings(**given)
