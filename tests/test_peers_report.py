"""What ``python -m benchmarks.peers`` makes of its figures: ratios, bars, tables, JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks import networks
from benchmarks.peers import __main__ as command
from benchmarks.peers import bars, operators, report
from benchmarks.peers.bars import BARS, OVERHEAD, Bar, Outcome
from benchmarks.peers.catalogue import OTHERS, OWN, PEERS
from benchmarks.peers.operators import CHOICES
from benchmarks.peers.record import Entry, LayerRecord, Run, merge
from benchmarks.peers.task import DTYPES, Task

TASK = Task("net", "3x3", 2, 4, 9, 7, 6, 3, 3, stride=1, pad=1)


def entry(seconds: float | None, ok: bool | None = True) -> Entry:
    return Entry([seconds] if seconds else [], None if seconds else "none", ok)


def record(layer: str, times: dict[str, float | None], **fields: Any) -> LayerRecord:
    task = replace(TASK, network="vgg16", layer=layer, **fields)
    return LayerRecord(task, 1, 100.0, {name: entry(t) for name, t in times.items()})


SETTINGS = {"threads": 2, "batch": 1, "scaling": False}


def run_of(*layers: LayerRecord) -> Run:
    columns = dict.fromkeys(name for layer in layers for name in layer.entries)
    return Run(dict(SETTINGS), {"processor": "none"}, list(columns), {}, list(layers))


STRICT = Bar("strict", ("strict", "strict_nhwc"), ("torch", "ort"), lambda t: True, 1.5, 1.0)


def test_ratios_against_a_bar() -> None:
    run = run_of(
        record("one", {"strict": 1.0, "strict_nhwc": 0.5, "torch": 2.0, "ort": 1.0, "mnn": 0.1}),
        record("two", {"strict": 2.0, "strict_nhwc": None, "torch": 4.0, "ort": None}),
        record("three", {"strict": 4.0, "torch": 2.0}),
        LayerRecord(OVERHEAD, 1, None, {"strict": entry(1), "torch": entry(9)}),
    )
    outcome = bars.judge(run, STRICT)
    assert outcome is not None
    assert outcome.ratios == {"vgg16 one": 2.0, "vgg16 two": 2.0, "vgg16 three": 0.5}
    assert outcome.mean == pytest.approx(2 ** (1 / 3))
    assert outcome.worst == ("vgg16 three", 0.5)
    assert not outcome.reached


def test_a_bar_is_reached_with_every_layer_only() -> None:
    assert Outcome(STRICT, {"a": 1.0, "b": 2.25}, ()).reached
    assert not Outcome(STRICT, {"a": 0.99, "b": 4.0}, ()).reached
    assert not Outcome(STRICT, {"a": 1.0, "b": 2.24}, ()).reached
    assert not Outcome(STRICT, {"a": 1.0, "b": 2.25}, ("c",)).reached
    run = run_of(record("one", {"strict": None, "torch": 1.0}), record("two", {"strict": 1.0}))
    outcome = bars.judge(run, STRICT)
    assert outcome is not None
    assert outcome.missing == ("vgg16 one",)
    assert outcome.mean is None
    assert bars.judge(run_of(record("one", {"torch": 1.0})), STRICT) is None
    assert bars.judge(run_of(record("one", {"strict": 1.0})), STRICT) is None


def test_wrong_results_do_not_count() -> None:
    wrong = LayerRecord(TASK, 1, None, {"torch": entry(1, ok=False), "ort": entry(2)})
    assert wrong.best(("torch", "ort")) == ("ort", 2)
    assert report.cell(wrong, "torch") == "WRONG"
    assert wrong.best(("torch",)) is None


def test_bars_name_columns_that_exist_and_layers_that_are_there() -> None:
    tasks = [
        Task.of(layer, 1, dtype)
        for network in networks.load_all()
        for layer in network.layers
        for dtype in DTYPES
    ]
    tasks += [task for name in CHOICES for task, _ in operators.tasks(name, 1, "float32")]
    for bar in BARS:
        assert set(bar.columns) <= set(OWN)
        assert set(bar.peers) <= set(OTHERS)
        assert bar.mean > bar.worst > 0
        chosen = [task for task in tasks if bar.layers(task)]
        assert chosen
        for task in chosen:
            for names in (bar.columns, bar.peers):
                assert any(PEERS[name].refuses(task) is None for name in names)


def test_json_comes_back(tmp_path: Path) -> None:
    run = run_of(record("one", {"strict": 1.0, "torch": None}))
    run.layers[0].entries["strict"].note = "native/im2col_gemm"
    path = tmp_path / "new" / "run.json"
    run.save(path)
    assert Run.load(path) == run
    data = json.loads(path.read_text(encoding="utf-8"))
    assert set(data) == {"schema", "settings", "machine", "columns", "absent", "layers"}
    assert set(data["layers"][0]) == {"task", "count", "peak", "entries"}
    assert data["layers"][0]["entries"]["strict"] == {
        "samples": [1.0], "refused": None, "ok": True, "error_ratio": None,
        "note": "native/im2col_gemm",
    }  # fmt: skip
    path.write_text(json.dumps({**data, "schema": 0}), encoding="utf-8")
    with pytest.raises(ValueError, match="not written by this version"):
        Run.load(path)


def test_runs_of_one_kind_are_merged() -> None:
    first = run_of(record("one", {"strict": 1.0, "torch": 2.0}))
    second = run_of(record("one", {"fastconv": 1.0}), record("two", {"ort": 1.0, "strict": 1.0}))
    both = merge([first, second])
    assert both.columns == ["fastconv", "strict", "torch", "ort"]
    assert [r.task.layer for r in both.layers] == ["one", "two"]
    second.settings["threads"] = 1
    with pytest.raises(ValueError, match="differ in threads"):
        merge([first, second])


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = 0.5 * TASK.flops / 1e9
    run = run_of(
        record("one", {"strict": half, "torch": 2 * half, "mnn": None}),
        record("two", {"strict": None, "torch": half, "mnn": 2 * half}),
    )
    run.absent["ncnn"] = "not installed"
    (table,) = report.network_tables(run)
    assert table.header == (
        "layer", "MFLOP", "peak", "strict", "torch", "MNN", "best other", "/strict",
    )  # fmt: skip
    assert table.rows == [
        ("one", "0.0544", "100", "2", "1", "-", "torch", "2.00"),
        ("two", "0.0544", "100", "-", "2", "1", "torch", "-"),
        ("geometric mean", "", "", "", "", "", "", "2.00"),
    ]
    path = tmp_path / "run.json"
    run.save(path)
    command.main(["--load", str(path)])
    printed = capsys.readouterr().out
    assert "not reached, 1 missing: vgg16 two" in printed
    assert "ncnn: not installed" in printed


def test_summary_says_what_is_reached() -> None:
    run = run_of(record("one", {"strict": 1.0, "torch": 1.1}))
    first = report.summary(run).rows[0]
    assert first == (
        "plan strict, NCHW : best direct peer", "1", "1.10", "1.05", "1.10", "0.85", "vgg16 one",
        "reached",
    )  # fmt: skip
    assert report.worst_layers(run).rows[0][1:] == ("vgg16 one", "1.10", "torch")


def test_shares_of_peak_are_of_large_layers() -> None:
    layer = networks.load("vgg16").layer("conv5_1")
    large = Task.of(layer, 1, "float32")
    small = replace(large, layer="small", k=64)
    records = [LayerRecord(t, 1, 200.0, {"strict": entry(t.flops / 1e11)}) for t in (large, small)]
    assert bars.shares_of_peak(run_of(*records), "strict") == {"vgg16 conv5_1": 0.5}


def test_scaling() -> None:
    run = run_of(record("one", {"strict": 1.0, "strict@1": 1.9}), record("two", {"strict": 1.0}))
    assert bars.scaling(run.layers, "strict") == {"vgg16 one": 1.9}
    assert report.scaling_table(run, "strict").rows == [
        ("vgg16 one", "1900", "1000", "1.90"),
        ("vgg16 two", "-", "1000", "-"),
        ("geometric mean", "", "", "1.90"),
    ]
    assert report.network_tables(run)[0].header == (
        "layer",
        "MFLOP",
        "peak",
        "strict",
        "best other",
    )
