"""``python -m fastconv``: arguments, exit statuses, tables, files; demo, bench and info."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from support import backends

import fastconv
from fastconv import calls, dispatch
from fastconv.backends import reference
from fastconv.cli import console, main, measure
from fastconv.demo import alexnet
from fastconv.options import environment

COMMANDS = ("info", "doctor", "demo", "bench")
SMALL_DEMO = ("demo", "--size", "64", "--rounds", "1")
SMALL_BENCH = ("bench", "--x", "2,4,9,8", "--w", "6,2,3,3", "--groups", "2", "--rounds", "2")
REFERENCE = ("--backends", "reference")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastconv", *arguments],
        capture_output=True, text=True, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def fresh_environment(monkeypatch):
    """Let a test set FASTCONV_* variables, which are read once a process."""
    environment.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    environment.cache_clear()


def present_backends() -> list[str]:
    """CPU backends of this machine; a missing required one fails."""
    for name in backends.required() & set(backends.CPU):
        backends.present(name)
    return [n for n in reversed(backends.CPU) if dispatch.availability(n) is None]


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("fastconv: ")
    return lines[0]


# arguments and exit statuses


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
def test_interrupt_of_a_running_benchmark():
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


# demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Standard output and the picture of the demo on every backend of this machine."""
    picture = tmp_path_factory.mktemp("demo") / "maps.png"
    text = subprocess.run(
        [sys.executable, "-m", "fastconv", *SMALL_DEMO, "--output", str(picture)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert text.returncode == 0, text.stdout + text.stderr
    return types.SimpleNamespace(out=text.stdout, err=text.stderr, picture=picture)


def test_demo_checks_every_layer_on_every_backend(demo):
    names = [layer.name for layer in alexnet.LAYERS]
    for name in [*names, "8 filters, grey", "8 filters, RGB"]:
        assert name in demo.out
    for backend in present_backends():
        rows = [line for line in demo.out.splitlines() if f" {backend} " in line]
        rows = [line for line in rows if line.rstrip().endswith("ok")]
        assert len(rows) == len(names) + 2
    assert "FAILED" not in demo.out
    assert "GFLOP/s" in demo.out


def test_demo_says_what_is_not_available(demo):
    for name in dispatch.TABLE:
        missing = f"not available: {name.name}: " in demo.out
        assert missing == (dispatch.availability(name.name) is not None)


def test_demo_shows_progress_without_a_terminal(demo):
    assert "AlexNet conv5 on " in demo.err
    assert "Traceback" not in demo.err


def test_demo_draws_a_picture(demo):
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(demo.picture)[..., :3]
    height, width = pixels.shape[:2]
    assert height > 600
    assert width > 1000
    for half in (pixels[:, : width // 2], pixels[:, width // 2 :]):
        assert half.std() > 0.1
        assert len(np.unique((half * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 400


def test_demo_without_drawing_and_progress_libraries(monkeypatch, capsys, tmp_path):
    for name in ("rich", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL_DEMO, *REFERENCE]) == 0
    said = capsys.readouterr()
    assert "rich, matplotlib not installed" in said.err
    assert "pip install 'fastconv[demo]'" in said.err
    assert [line.split()[-1] for line in said.out.splitlines() if " definition " in line] == [
        "ok"
    ] * 7
    assert not list(tmp_path.iterdir())


def test_demo_draws_another_picture(tmp_path, capsys):
    image = pytest.importorskip("matplotlib.image")
    source, target = tmp_path / "source.png", tmp_path / "target.png"
    image.imsave(source, np.random.default_rng(4).random((90, 120, 3)))
    arguments = [*SMALL_DEMO, *REFERENCE, "--image", str(source), "--output", str(target)]
    assert main(arguments) == 0
    assert f"picture: {target}" in capsys.readouterr().out
    assert image.imread(target).shape[2] in (3, 4)


def test_demo_refuses_what_is_no_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    source = tmp_path / "text.png"
    source.write_text("no picture")
    assert main([*SMALL_DEMO, *REFERENCE, "--image", str(source)]) == 1
    assert "text.png" in one_line(capsys.readouterr().err)


def test_demo_cannot_write_its_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main([*SMALL_DEMO, *REFERENCE, "--output", str(tmp_path / "maps.doc")]) == 1
    assert "maps.doc" in one_line(capsys.readouterr().err)


def test_demo_image_needs_matplotlib(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*SMALL_DEMO, *REFERENCE, "--image", "any.png"]) == 1
    assert "fastconv[demo]" in capsys.readouterr().err


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


# bench


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


# console


COLUMNS = (console.Column("name"), console.Column("GFLOP/s", True), console.Column("check"))
ROWS = (("a layer with a long name" * 4, "12.5", console.OK), ("b", "-", console.FAILED))


@pytest.mark.parametrize("rich", [True, False])
def test_tables_cut_nothing_off(rich, monkeypatch, capsys):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setenv("COLUMNS", "20")
    console.print_table("a title", COLUMNS, ROWS, rules=(0,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a title")
    for row in (tuple(c.title for c in COLUMNS), *ROWS):
        assert sum(all(cell in line for cell in row) for line in lines) == 1
    ends = {line.index(number) + len(number) for line in lines for number in ("12.5", "GFLOP/s") if
            number in line}  # fmt: skip
    assert len(ends) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with console.Progress(10) as progress:
        progress.step("first")
        progress.step_on("second", "native")
    said = capsys.readouterr()
    assert said.out == ""
    if not terminal or console.optional("rich") is None:
        assert said.err == "[ 1/10] first\n[ 2/10] second on native\n"
    else:
        assert "2/10" in said.err or "1/10" in said.err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (123.45, "123"),
        (98765.4, "98765"),
    ],
)
def test_significant(value, text):
    assert console.significant(value) == text


# info


def test_info_prints_what_a_bug_report_needs(monkeypatch, capsys):
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    monkeypatch.setenv("FASTCONV_UNHEARD_OF", "1")
    monkeypatch.setenv("NUMBA_DEBUG_CACHE", "0")
    monkeypatch.setenv("AN_UNRELATED_SECRET", "hidden-value")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for heading in ("fastconv: ", "numpy: ", "native:", "cpu:", "compiler:", "cuda driver:"):
        assert f"\n{heading}" in f"\n{out}"
    for variable in ("OMP_PROC_BIND: close", "FASTCONV_UNHEARD_OF: 1", "NUMBA_DEBUG_CACHE: 0"):
        assert f"  {variable}\n" in out
    assert "hidden-value" not in out
    for entry in dispatch.TABLE:
        assert f"  {entry.name}: " in out


def test_info_as_json(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    shown = fastconv.show_config(mode="dict")
    assert {name: facts[name] for name in shown} == json.loads(json.dumps(shown))
    assert facts["cpu"]["model"]
    assert facts["cpu"]["affinity"] >= 1
    assert isinstance(facts["thread pools"], list)


def test_info_reports_an_unusable_environment(fresh_environment, capsys):
    fresh_environment.setenv("FASTCONV_PRECISION", "sloppy")
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "sloppy" in facts["options"]["unusable"]
    assert facts["environment"]["FASTCONV_PRECISION"] == "sloppy"
