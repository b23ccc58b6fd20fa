"""``python -m fastconv``: arguments, exit statuses, errors of one line, wrong results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.cli import REFERENCE, SMALL_BENCH, SMALL_DEMO, one_line

from fastconv import dispatch
from fastconv.backends import reference
from fastconv.cli import main

COMMANDS = ("info", "doctor", "demo", "bench")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastconv", *arguments],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


def test_module_without_arguments_prints_help():
    done = command()
    assert done.returncode == 0
    assert "usage: python -m fastconv" in done.stdout
    assert all(name in done.stdout for name in COMMANDS)
    assert done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"  python -m fastconv {name}" in text.partition("examples:")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["demo", "--bogus"],
        ["demo", "--out", "x.png"],
        ["demo", "--size", "62"],
        ["demo", "--rounds", "0"],
        ["demo", "--threads", "two"],
        ["demo", "--backends", "torch"],
        ["demo", "--backends", ","],
        ["bench", "--dtype", "complex64"],
        ["bench", "--dtype", "floaty"],
        ["bench", "--x", "1,2,3"],
        ["bench", "--x", "1,2,3,0"],
        ["bench", "--threads", "1,0"],
        ["bench", "--pad", "some"],
        ["info", "--weights", "w.npy"],
    ],
    ids=" ".join,
)
def test_unusable_arguments_fail_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "--x", "1,3,8,8"],
        ["bench", "--stride", "2"],
        ["bench", "--x", "1,3,8,8", "--w", "4,3,3,3", "--network", "vgg16"],
    ],
    ids=" ".join,
)
def test_contradicting_arguments_fail_with_status_2(arguments, capsys):
    assert main(arguments) == 2
    one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["bench", "--x", "1,6,8,8", "--w", "4,3,3,3", *REFERENCE], "groups=2"),
        (["bench", "--network", "lenet"], "alexnet"),
        (["bench", "--network", "missing.toml"], "missing.toml"),
        (["bench", "--json", "no/such/folder/b.json"], "folder"),
        (["demo", "--output", "no/such/folder/b.png"], "folder"),
        (["demo", "--image", "no-such.png"], "no-such.png"),
        (["doctor", "--weights", "no-such.npy"], "no-such.npy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_errors_are_one_line(arguments, text, capsys):
    assert main(arguments) == 1
    assert text in one_line(capsys.readouterr().err)


def test_interrupt_ends_with_130(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("fastconv.cli.info.facts", interrupted)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interrupt_of_a_running_benchmark(request):
    # what a shell starts in the background ignores the signal, and so would the child
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with subprocess.Popen(
        [sys.executable, "-m", "fastconv", "bench", *REFERENCE, "--rounds", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "alexnet conv1" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.endswith("interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "info"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


def test_unusable_environment_is_one_line(fresh_environment, capsys):
    fresh_environment.setenv("FASTCONV_THREADS", "many")
    assert main([*SMALL_BENCH, *REFERENCE]) == 1
    assert "FASTCONV_THREADS" in one_line(capsys.readouterr().err)


def test_named_backend_that_is_missing_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(dispatch, "availability", lambda name: "no such luck")
    assert main([*SMALL_DEMO, "--backends", "native"]) == 1
    line = one_line(capsys.readouterr().err)
    assert "BackendUnavailable" in line
    assert "no such luck" in line


def plant(monkeypatch, fault):
    """Let `fault` spoil what the reference backend computes; the judge does not use its `run`."""
    honest = reference.run

    def run(problem, given, x, w, bias, out):
        honest(problem, given, x, w, bias, out)
        fault(out)

    monkeypatch.setattr(reference, "run", run)


def slightly_wrong(out):
    out[0, -1, -1, -1] += np.float32(1e-3)


def unwritten(out):
    out[0, 1, 0, 0] = np.nan


def broken(out):
    raise RuntimeError("the planted error")


@pytest.mark.parametrize("fault", [slightly_wrong, unwritten, broken])
@pytest.mark.parametrize(
    "arguments", [(*SMALL_DEMO, "--no-plot"), SMALL_BENCH], ids=["demo", "bench"]
)
def test_wrong_results_fail(monkeypatch, capsys, fault, arguments):
    plant(monkeypatch, fault)
    status = main([*arguments, *REFERENCE])
    said = capsys.readouterr()
    assert status == 1
    if fault is broken:
        assert "the planted error" in said.out + said.err
    else:
        assert "FAILED: reference: wrong result" in said.out
