"""``python -m benchmarks.peers``: its processes with a fake library, its checks, its command."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.peers import __main__ as command
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.check import Checker
from benchmarks.peers.child import Refused
from benchmarks.peers.measuring import Asked
from benchmarks.peers.record import Run
from benchmarks.peers.rounds import LIVES, Column, Field, Pace
from benchmarks.peers.task import Task, operands

import fastconv
from fastconv.dtypes import FLOATS

TASK = Task("net", "3x3", 2, 4, 9, 7, 6, 3, 3, stride=1, pad=1)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes find the fake library, and the fastconv that is tested."""
    folders = [str(Path(__file__).parent), str(Path(fastconv.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))


def fake(*variants: str, threads: int = 1) -> list[Column]:
    peers = [Peer(v, v, "support.peer", (), "nothing", ("float32",)) for v in variants]
    return [Column(peer.name, peer, threads) for peer in peers]


@pytest.mark.usefixtures("found")
def test_every_way_to_fail_is_recorded_and_stops_nothing(tmp_path: Path) -> None:
    columns = fake("right", "refuses", "wrong", "errs", "crashes", "shapeless", threads=3)
    with Field(columns, 1, tmp_path, Pace(rounds=2, slice=0.001)) as field:
        entries = field.layer(TASK, 5).entries
        again = field.layer(replace(TASK, layer="another")).entries
    for right in (entries["right"], again["right"]):
        assert right.ok
        assert right.refused is None
        assert len(right.samples) == 2
        assert right.note == "3 threads"
    assert entries["refuses"].refused == "not this one"
    assert entries["errs"].refused == "ValueError: two lines"
    assert entries["crashes"].refused == "crashed: killed by SIGKILL: last words"
    assert entries["wrong"].ok is False
    assert entries["wrong"].error_ratio is not None
    assert entries["wrong"].error_ratio > 1
    assert entries["wrong"].seconds is None
    assert entries["shapeless"].ok is False
    assert "shape (2, " in str(entries["shapeless"].refused)
    assert field.versions["peer"] == "1"
    assert list(field.lost) == ["crashes"]


@pytest.mark.usefixtures("found")
def test_a_column_that_hangs_is_killed(tmp_path: Path) -> None:
    with Field(fake("hangs"), 1, tmp_path, Pace(rounds=1, slice=0.001, patience=0.3)) as field:
        entry = field.layer(TASK).entries["hangs"]
    assert entry.refused == "no answer within 0.3 s"
    assert entry.ok is None


@pytest.mark.usefixtures("found")
def test_a_column_that_always_crashes_is_given_up(tmp_path: Path) -> None:
    with Field(fake("crashes"), 1, tmp_path, Pace(rounds=1, slice=0.001)) as field:
        reasons = [field.layer(TASK).entries["crashes"].refused for _ in range(LIVES + 1)]
    assert len(field.lost["crashes"]) == LIVES
    assert str(reasons[-1]).startswith(f"given up after {LIVES} times: crashed")


@pytest.mark.usefixtures("found")
def test_a_library_that_breaks_at_import(tmp_path: Path) -> None:
    broken = Column("broken", Peer("broken", "", "support.no_such", (), "", ("float32",)), 1)
    with Field([broken], 1, tmp_path, Pace(rounds=1, slice=0.001)) as field:
        reason = str(field.layer(TASK).entries["broken"].refused)
    assert reason.startswith("crashed: exit status 1: ModuleNotFoundError")


class Scripted(Field):
    """Processes that answer from a list of times, and note who was asked."""

    def __init__(self, times: dict[str, list[float]], pace: Pace) -> None:
        super().__init__(fake(*times), 1, Path(), pace)
        self.times, self.asked = times, []

    def _ask(self, name: str, do: str, **request: Any) -> dict[str, Any]:
        if name not in self.times:
            return {"gflops": 100.0}
        if do == "prepare":
            return {"seconds": self.times[name][0], "note": ""}
        if do == "sample":
            y = fastconv.conv2d(*operands(TASK), pad=1, backend="reference")
            np.save(request["path"], y[request["images"]][:, request["channels"]])
            return {}
        if do == "slice":
            self.asked.append(name)
            seconds = self.times[name][self.asked.count(name) - 1]
            if seconds < 0:
                raise Refused("broke in the rounds")
            return {"seconds": seconds, "calls": 1}
        return {}


def test_columns_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    times = {"a": [3.0, 1.0, 2.0], "b": [0.5, 9.0, 0.25], "c": [1.0, -1.0, 1.0]}
    field = Scripted(times, Pace(rounds=3, budget=100))
    record = field.layer(TASK)
    assert field.asked == ["a", "b", "c", "b", "c", "a", "a", "b"]  # c is out once it broke
    assert record.seconds("a") == 2
    assert record.seconds("b") == 0.5
    assert record.seconds("c") is None
    assert record.entries["c"].refused == "broke in the rounds"
    assert record.peak == 100
    assert record.gflops("b") == TASK.flops / 0.5 / 1e9


def test_slow_columns_take_fewer_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    times = {"quick": [0.1] * 4, "slow": [0.6] * 4, "endless": [7.0]}
    field = Scripted(times, Pace(rounds=4, budget=1))
    record = field.layer(TASK)
    assert [len(record.entries[name].samples) for name in times] == [4, 2, 1]
    assert record.seconds("endless") == 7


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "uint8"])
def test_checker_notices_one_wrong_element(dtype: str) -> None:
    task = replace(TASK, dtype=dtype)
    x, w = operands(task)
    x = x.astype("float32") if dtype == "uint8" else x
    y = fastconv.conv2d(x, w, pad=1, backend="reference")
    checker = Checker(task)
    sample = y[checker.images][:, checker.channels]
    assert checker.judge(sample, "bound").ok
    assert checker.judge(sample, "norm").ok
    for value in (np.nan,) if dtype != "int8" else (0,):
        wrong = sample.copy()
        wrong[-1, -1, -1, -1] = value
        assert not checker.judge(wrong, "bound").ok
        assert not checker.judge(wrong, "norm").ok
    wrong = sample.copy()
    wrong[0, 0, 0, 0] += 1 if dtype != "uint8" else 100
    assert not checker.judge(wrong, "bound").ok


def test_checker_looks_at_the_borders_of_large_results() -> None:
    task = Task("net", "large", 1, 8, 64, 64, 4, 3, 3, pad=1)
    y = fastconv.conv2d(*operands(task), pad=1)
    checker = Checker(task, macs=100_000)
    for row in (0, 32, 63):
        wrong = y[checker.images][:, checker.channels]
        assert checker.judge(wrong, "norm").ok
        wrong[0, -1, row, 63] += 1
        assert not checker.judge(wrong, "norm").ok


def test_a_transform_may_err_as_much_everywhere() -> None:
    """Winograd's errors follow the largest sum, the derived bound each element's own."""
    task = Task("net", "one", 1, 1, 8, 8, 1, 3, 3, pad=1)
    y = fastconv.conv2d(*operands(task), pad=1)
    y[0, 0, 0, 0] += 1e-4
    checker = Checker(task)
    assert not checker.judge(y, "bound").ok
    assert checker.judge(y, "norm").ok


def test_operands_are_the_same_in_every_process_and_differ_by_layer() -> None:
    x, w = operands(TASK)
    again, _ = operands(replace(TASK))
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(x, operands(replace(TASK, layer="other"))[0])
    assert x.shape == TASK.x_shape
    assert w.shape == TASK.w_shape
    doubles = operands(replace(TASK, dtype="float64"))[0]
    np.testing.assert_array_equal(doubles, x)
    image = operands(replace(TASK, dtype="uint8"))
    assert (image[0].dtype, image[1].dtype) == (np.uint8, np.float32)


def test_missing_libraries_are_named_with_what_installs_them() -> None:
    peer = Peer("p", "P", "m", ("numpy", "no_such_module"), "no-such", ("float32",))
    assert peer.missing() == "no_such_module not installed: pip install no-such"
    assert Peer("p", "P", "m", ("numpy",), "numpy", ()).missing() is None


def test_bytes_are_for_image_filters_alone() -> None:
    asked = Asked(("alexnet", "filters"), "", (), ("uint8", "float32"), 1, 1, False, Pace())
    tasks = [task for task, _ in asked.tasks()]
    assert {task.network for task in tasks if task.dtype == "uint8"} == {"filters"}
    assert {task.network for task in tasks if task.dtype == "float32"} == {"alexnet", "filters"}
    assert not replace(asked, layers="no such").tasks()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "tensorflow"], "no tensorflow; choose from torch"),
        (["--network", "lenet"], "no lenet; choose from alexnet"),
        (["--dtype", "float8"], "no float8; choose from float32"),
        (["--layers", "nowhere"], "no layer's name contains 'nowhere'"),
        (["--load", "no-such.json"], "--load: "),
    ],
)
def test_command_line_errors(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        command.main(arguments)


@pytest.mark.usefixtures("found")
def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """fastconv alone, one small layer: tables, JSON, picture; absent libraries are only named."""
    paths = [str(tmp_path / "run.json"), str(tmp_path / "run.png")]
    command.main(
        ["--network", "mobilenet_v2", "--layers", "block15.project", "--peers", "none",
         "--columns", "fastconv", "--quick", "--threads", "1", "--json", paths[0],
         "--plot", paths[1]]
    )  # fmt: skip
    run = Run.load(Path(paths[0]))
    assert [r.task.network for r in run.layers] == ["mobilenet_v2", "overhead"]
    assert all(r.entries["fastconv"].ok for r in run.layers)
    assert run.machine["versions"]["fastconv"] == fastconv.__version__
    assert "a call of (1, 1, 8, 8) * (1, 1, 3, 3), microseconds: fastconv" in (
        capsys.readouterr().out
    )
    if run.layers[0].peak:  # without the native backend there is none to draw
        assert Path(paths[1]).read_bytes()[:4] == b"\x89PNG"
