"""``python -m fastconv demo``: table, picture, what is missing."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest
from support.cli import REFERENCE, SMALL_DEMO, one_line, present_backends

from fastconv import dispatch
from fastconv.cli import main
from fastconv.demo import alexnet


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
