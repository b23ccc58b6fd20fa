"""``python -m fastconv bench``: problems, networks, report; how backends are measured."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
from support.cli import REFERENCE, SMALL_BENCH, present_backends

import fastconv
from fastconv import calls, dispatch
from fastconv.backends import reference
from fastconv.cli import main, measure
from fastconv.demo import alexnet


def bench(tmp_path, *arguments: str) -> dict:
    path = tmp_path / "bench.json"
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_bench_on_one_shape(tmp_path, capsys):
    names = present_backends()
    report = bench(tmp_path, *SMALL_BENCH[1:], "--backends", ",".join(names), "--pad", "same")
    problem = fastconv.ConvProblem.describe((2, 4, 9, 8), (6, 2, 3, 3), groups=2, pad="same")
    assert [r["backend"] for r in report["results"]] == names
    for result in report["results"]:
        assert result["ok"] is True
        assert result["flops"] == problem.cost.flops
        assert 1 <= len(result["seconds"]) <= 2
        assert result["median"] > 0
        assert result["gflops"] == pytest.approx(result["flops"] / result["median"] / 1e9)
        assert 0 <= result["error_share_of_bound"] <= 1
    assert report["machine"]["numpy"] == np.__version__
    out = capsys.readouterr().out
    assert out.count(" ok") == len(names)
    assert "2x4x9x8 * 6x2x3x3" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dtype", "float64", "--activation", "gelu"),
        ("--dtype", "float16"),
        ("--dtype", "int16"),
        ("--layout", "NHWC", "--x", "2,9,8,4"),
        ("--stride", "2,1", "--dilation", "1,2", "--pad", "1,2,3,0", "--pad-mode", "reflect"),
        ("--threads", "1,2"),
    ],
    ids=" ".join,
)
def test_bench_options(tmp_path, arguments):
    report = bench(tmp_path, *SMALL_BENCH[1:], *REFERENCE, *arguments)
    assert all(r["ok"] for r in report["results"])
    if "--threads" in arguments:
        assert [r["threads"] for r in report["results"]] == [1, 2]


def test_bench_records_a_refusal_beside_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reference, "supports", lambda problem, given: "not on Sundays")
    calls.forget()
    path = tmp_path / "bench.json"
    assert main([*SMALL_BENCH, *REFERENCE, "--json", str(path)]) == 1
    calls.forget()
    (result,) = json.loads(path.read_text())["results"]
    assert "not on Sundays" in result["refusal"]
    assert result["ok"] is None
    assert result["seconds"] == []
    assert "not computed: reference: " in capsys.readouterr().out


def test_bench_network_table_and_file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(
        'columns = ["name", "c", "h", "w", "k", "r", "s", "stride", "pad", "groups", "dilation",'
        ' "count"]\nlayers = [["first", 3, 8, 8, 4, 3, 3, 2, 1, 1, 1, 5],'
        ' ["dw", 4, 8, 8, 4, 3, 3, 1, 1, 4, 1, 1]]\n'
    )
    report = bench(tmp_path, "--network", str(path), *REFERENCE, "--rounds", "1")
    assert [r["case"] for r in report["results"]] == ["tiny first", "tiny dw"]
    path.write_text('columns = ["name"]\nlayers = [["first"]]\n')
    assert main(["bench", "--network", str(path)]) == 1


def test_bench_table_is_legal_and_named():
    from fastconv.cli import layers

    names = [(layer.network, layer.name) for layer in layers.DEFAULT]
    assert len(set(names)) == len(names)
    assert {"alexnet", "vgg16", "resnet50", "mobilenet_v2"} == set(layers.NETWORKS)
    for layer in layers.DEFAULT:
        shape = fastconv.output_shape(
            (1, layer.c, layer.h, layer.w), (layer.k, layer.c // layer.groups, layer.r, layer.s),
            layer.stride, layer.pad, groups=layer.groups,
        )  # fmt: skip
        assert shape[2] == -(-layer.h // layer.stride) or layer.name == "conv1"
    alex = [(a.channels, a.filters, a.kernel, a.stride, a.pad) for a in alexnet.LAYERS]
    assert [(b.c, b.k, b.r, b.stride, b.pad) for b in layers.named("alexnet")] == alex


def test_bench_leaves_the_definition_out_unless_it_is_alone(tmp_path, monkeypatch):
    names = present_backends()
    report = bench(tmp_path, *SMALL_BENCH[1:])
    assert [r["backend"] for r in report["results"]] == (names[:-1] or names)
    honest = dispatch.availability
    monkeypatch.setattr(
        dispatch, "availability", lambda name: honest(name) if name == "reference" else "not here"
    )
    report = bench(tmp_path, *SMALL_BENCH[1:])
    assert [r["backend"] for r in report["results"]] == ["reference"]


# measuring


def test_backends_take_turns_and_slow_ones_stop(monkeypatch):
    order = []
    honest = measure._Contender.sample

    def sample(self, turn, budget):
        before = len(self.samples)
        honest(self, turn, budget)
        if len(self.samples) > before:
            order.append((turn, self.backend))

    monkeypatch.setattr(measure._Contender, "sample", sample)
    x, w = np.ones((1, 2, 6, 6), np.float32), np.ones((2, 2, 3, 3), np.float32)
    names = present_backends()
    found = measure.measure(measure.Case("tiny", x, w), names, 1, rounds=3, budget=100)
    assert [m.backend for m in found] == names
    assert [turn for turn, _ in order] == sorted(turn for turn, _ in order)
    assert all(len(m.seconds) == 3 for m in found)
    spent = measure.measure(measure.Case("tiny", x, w), names, 1, rounds=3, budget=0)
    assert all(len(m.seconds) == 1 for m in spent)


class DeviceArray:
    """Stands for a CuPy array: NumPy takes no part in it."""

    __array_ufunc__ = None

    def __init__(self, host):
        self.host = np.array(host)

    def view(self, dtype):
        return self.host.view(dtype)


def test_cupy_backends_get_cupy_arrays_and_are_waited_for(monkeypatch):
    """What is moved, waited for and moved back, with the device's part played by the reference."""
    waits = []
    stream = types.SimpleNamespace(synchronize=lambda: waits.append(1))
    cupy = types.ModuleType("cupy")
    cupy.asarray, cupy.asnumpy = DeviceArray, lambda array: array.host
    cupy.empty = lambda shape, dtype: DeviceArray(np.empty(shape, dtype))
    cupy.cuda = types.SimpleNamespace(get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def on_reference(function):
        def call(*arrays, **given):
            if given["backend"] == "cuda":
                held = [*arrays, given["bias"], given.get("out", arrays[0])]
                assert all(isinstance(a, DeviceArray) for a in held)
                given = {n: getattr(v, "host", v) for n, v in given.items()}
                arrays, given["backend"] = [a.host for a in arrays], "reference"
            return function(*arrays, **given)

        return call

    monkeypatch.setattr(measure, "conv2d", on_reference(measure.conv2d))
    monkeypatch.setattr(measure, "explain", on_reference(measure.explain))
    generator = np.random.default_rng(5)
    x = generator.standard_normal((1, 2, 6, 6), np.float32)
    w, bias = generator.standard_normal((2, 2, 3, 3), np.float32), np.ones(2, np.float32)
    case = measure.Case("tiny", x, w, bias)
    on_device, on_host = measure.measure(case, ["cuda", "reference"], 1, rounds=2)
    assert on_device.failure is None
    assert on_device.ok
    assert on_host.ok
    assert len(waits) >= 3
    assert type(on_device.y) is np.ndarray
    assert on_device.peak is None
    np.testing.assert_array_equal(on_device.y, on_host.y)


def test_judge_samples_channels_of_large_problems_evenly():
    from fastconv.cli.judge import sampled_channels

    large = fastconv.ConvProblem.describe((1, 64, 224, 224), (64, 64, 3, 3), pad=1)
    assert sampled_channels(large) == [0, 63]
    small = fastconv.ConvProblem.describe((1, 3, 8, 8), (5, 3, 3, 3))
    assert sampled_channels(small) == [0, 1, 2, 3, 4]
    single = fastconv.ConvProblem.describe((1, 512, 500, 500), (1, 512, 3, 3))
    assert sampled_channels(single) == [0]
