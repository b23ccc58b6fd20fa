"""``python -m benchmarks.peers --operator``: layers, tables, bars and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import networks, operators
from benchmarks.peers import __main__ as command
from benchmarks.peers import bars, report
from benchmarks.peers import operators as choices
from benchmarks.peers.bars import BARS
from benchmarks.peers.measuring import Asked
from benchmarks.peers.record import Entry, LayerRecord, Run, merge
from benchmarks.peers.rounds import Pace
from benchmarks.peers.task import Task

import fastconv


@pytest.mark.parametrize("name", choices.CHOICES)
def test_layers_of_every_choice(name: str) -> None:
    tasks = [task for task, _ in choices.tasks(name, 2, "float32")]
    assert tasks
    assert len({bars.name_of(task) for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.n == 2
        assert task.operator in choices.CHOICES[name].operators
        assert task.dtype == ("complex64" if name == "complex" else "float32")
        assert min(task.result_shape) >= 1
        assert task.flops > 0
        assert choices.title(task).count(", ") >= 2
    source = tasks[-1].network
    only = [task for task, _ in choices.tasks(name, 2, "float32", (source,))]
    assert only == [task for task in tasks if task.network == source]


def test_layers_are_the_ones_the_bars_are_about() -> None:
    depthwise = [task for task, _ in choices.tasks("depthwise_grad", 1, "float32")]
    assert {task.operator for task in depthwise} == {"input_grad", "weight_grad"}
    assert len(depthwise) == 2 * sum(layer.groups > 1 for layer in
                                     networks.load("mobilenet_v2").layers)  # fmt: skip
    kernels = {(t.r, t.s, t.stride) for t, _ in choices.tasks("transposed", 1, "float32")}
    assert kernels == {(2, 2, 2), (3, 3, 2), (4, 4, 2), (4, 4, 1)}
    for name in ("unet_up", "cyclegan", "dcgan"):
        for task, _ in choices.tasks("transposed", 1, "float32", (name,)):
            if task.stride == 2:
                assert task.result_shape[2:] == (2 * task.h, 2 * task.w)
    signals = [task for task, _ in choices.tasks("conv1d", 1, "float32")]
    assert (min(t.s for t in signals), max(t.s for t in signals)) == (3, 1025)
    assert (min(t.c for t in signals), max(t.c for t in signals)) == (1, 512)
    for task, _ in choices.tasks("conv3d", 1, "float32"):
        assert task.x_shape[2:] == (64, 64, 64)
        assert task.kernel == (3, 3, 3)
    assert {task.r for task, _ in choices.tasks("complex", 1, "float32")} == {3}


def test_unknown_subject() -> None:
    with pytest.raises(ValueError, match="choose from unet_up"):
        operators.load("lenet")


def asked(*names: str, sources: tuple[str, ...] = (), layers: str = "") -> list[Task]:
    what = Asked(sources, layers, (), ("float32",), 1, 1, False, Pace(), names)
    return [task for task, _ in what.tasks()]


def test_what_is_asked_for_twice_is_measured_once() -> None:
    both = asked("input_grad", "depthwise_grad", sources=("mobilenet_v2",))
    assert len(set(both)) == len(both)
    alone = asked("input_grad", sources=("mobilenet_v2",))
    assert both[: len(alone)] == alone
    assert {task.operator for task in both[len(alone) :]} == {"weight_grad"}
    assert [task.layer for task in asked("transposed", layers="up4")] == ["up4"]
    assert not asked("conv1d", sources=("unet",))


def test_bytes_are_for_image_filters_alone() -> None:
    what = Asked((), "", (), ("uint8", "int8"), 1, 1, False, Pace(), ("conv1d",))
    assert {task.dtype for task, _ in what.tasks()} == {"int8"}


def entry(seconds: float) -> Entry:
    return Entry([seconds], None, True)


def test_operators_have_tables_and_bars_of_their_own(tmp_path: Path) -> None:
    layer = networks.load("resnet50").layers[0]
    records = []
    for operator in ("conv2d", "input_grad", "weight_grad"):
        task = Task.of(layer, 1, "float32", operator)
        entries = {"fastconv": entry(1.0), "fastconv_cl": entry(0.5), "torch": entry(2.0)}
        records.append(LayerRecord(task, 1, 100.0, entries))
    settings = {"threads": 2, "batch": 1, "scaling": False}
    run = Run(settings, {}, ["fastconv", "fastconv_cl", "torch"], {}, records)
    titles = [table.title.split(", float32")[0] for table in report.network_tables(run)]
    assert titles == ["ResNet-50", "ResNet-50, input gradient", "ResNet-50, weight gradient"]
    outcomes = {bar.title: bars.judge(run, bar) for bar in BARS}
    found = {title: outcome.ratios for title, outcome in outcomes.items() if outcome}
    assert found == {
        "plain conv2d : torch NCHW": {"resnet50 conv1": 2.0},
        "input gradient : torch": {"resnet50 conv1 input_grad": 4.0},
        "weight gradient : torch": {"resnet50 conv1 weight_grad": 4.0},
    }
    assert bars.shares_of_peak(run, "fastconv").keys() == {"resnet50 conv1"}
    run.save(tmp_path / "run.json")
    assert merge([Run.load(tmp_path / "run.json")]) == run


def test_depthwise_layers_count_at_their_own_bar_too() -> None:
    layer = networks.load("mobilenet_v2").layer("block2.depthwise")
    for operator in ("input_grad", "weight_grad"):
        task = Task.of(layer, 1, "float32", operator)
        assert sum(bar.layers(task) for bar in BARS) == 2
        assert sum(bar.layers(replace(task, groups=1)) for bar in BARS) == 1
        assert not any(bar.layers(replace(task, dtype="float64")) for bar in BARS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--operator", "pooling"], "no pooling; choose from input_grad"),
        (["--operator", "conv1d", "--network", "vgg16"], "no vgg16; choose from resnet50"),
        (["--operator", "conv1d", "--network", "dcgan"], "no layer's name contains ''"),
        (["--network", "dcgan"], "no dcgan; choose from alexnet"),
    ],
)
def test_command_line_errors(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        command.main(arguments)


def test_the_whole_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """fastconv alone, a small layer in both layouts: files are named after the operator."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fastconv.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    command.main(
        ["--operator", "transposed", "--layers", "image", "--peers", "none", "--quick",
         "--threads", "1", "--columns", "fastconv,fastconv_cl"]
    )  # fmt: skip
    run = Run.load(tmp_path / "reports" / "peers-transposed.json")
    (record,) = run.layers
    assert record.task.name == "dcgan image transposed"
    assert all(record.entries[name].ok for name in ("fastconv", "fastconv_cl"))
    printed = capsys.readouterr().out
    assert "DCGAN's generator, transposed, float32, batch 1, 1 thread, GFLOP/s" in printed
    assert "microseconds" not in printed
