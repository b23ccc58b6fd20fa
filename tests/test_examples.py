"""The examples run as the README says, and reach what they promise; their layers' gradients."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv import grad

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "examples").exists(), reason="not a checkout")


def run(name: str, *arguments: str, status: int = 0) -> str:
    """Run an example as a user would; returns what it prints."""
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


def picture(path: Path) -> Array:
    image = pytest.importorskip("matplotlib.image")
    return np.asarray(image.imread(path))


def shows_something(path: Path) -> None:
    """The picture is a PNG of some size, neither empty nor of one colour."""
    pixels = picture(path)
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 100


@pytest.mark.parametrize("name", ["digits", "edges"])
def test_help(name: str) -> None:
    text = run(name, "--help")
    for option in ("--epochs", "--seed", "--output", "pip install"):
        assert option in text
    done = run(name, "--epochs", "0", status=2)
    assert done == ""


def test_digits_briefly(tmp_path: Path) -> None:
    """Two epochs: it learns, says how far, draws, and does the same for the same seed."""
    pytest.importorskip("sklearn")
    path = tmp_path / "new" / "digits.png"
    text = run("digits", "--epochs", "2", "--seed", "3", "--output", str(path))
    assert "9930 parameters, 1437 digits to learn, 360 to test" in text
    losses = [float(m) for m in re.findall(r"loss (\S+)", text)]
    assert len(losses) == 2
    assert losses[1] < losses[0] / 2
    shows_something(path)
    again = run("digits", "--epochs", "2", "--seed", "3", "--output", str(path))
    assert again == text
    other = run("digits", "--epochs", "2", "--seed", "4", "--output", str(path))
    assert other != text


def test_digits_reach_98_percent(tmp_path: Path) -> None:
    """The whole run, as without options; a few seconds."""
    pytest.importorskip("sklearn")
    text = run("digits", "--output", str(tmp_path / "digits.png"))
    found = re.search(r"test accuracy: (\S+) %", text)
    assert found is not None
    assert float(found[1]) >= 98
    assert "[########################] 20/20" in text


@pytest.mark.parametrize("seed", ["0", "1"])
def test_edges_find_the_sobel_kernel(tmp_path: Path, seed: str) -> None:
    path = tmp_path / "edges.png"
    text = run("edges", "--seed", seed, "--output", str(path))
    kernel = np.array(re.findall(r"-?\d\.\d*(?=[ \]])", text[text.index("[[") :]), float)
    np.testing.assert_allclose(kernel, [-1, 0, 1, -2, 0, 2, -1, 0, 1], atol=1.1e-3)
    shows_something(path)


def test_edges_say_when_they_have_not_found_it(tmp_path: Path) -> None:
    text = run("edges", "--epochs", "2", "--output", str(tmp_path / "edges.png"), status=1)
    assert "2/2" in text


# -- the layers ------------------------------------------------------------------------------------


def layers() -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Every layer, in float64, and the shape of an input."""
    from examples import nn

    rng = np.random.default_rng(0)
    built = {
        "conv": (nn.Conv(2, 3, 3, rng), (2, 2, 6, 4)),
        "valid": (nn.Conv(2, 3, 5, rng, pad=0), (1, 2, 7, 6)),
        "linear": (nn.Linear(24, 5, rng), (3, 4, 3, 2)),
        "relu": (nn.Relu(), (3, 7)),
        "pool": (nn.MaxPool(), (2, 3, 4, 6)),
        "network": (
            nn.Network([nn.Conv(1, 2, 3, rng), nn.Relu(), nn.MaxPool(), nn.Linear(8, 3, rng)]),
            (2, 1, 4, 4),
        ),
    }
    for layer, _ in built.values():
        for part in getattr(layer, "layers", [layer]):
            part.parameters = [rng.standard_normal(p.shape) for p in part.parameters]
    return built


@pytest.mark.parametrize("name", ["conv", "valid", "linear", "relu", "pool", "network"])
def test_gradients_of_layers(name: str) -> None:
    layer, shape = layers()[name]
    parameters = layer.parameters

    def forward(x: Array, *values: Array) -> Array:
        for p, value in zip(parameters, values, strict=True):
            p[...] = value
        return np.asarray(layer.forward(x, True))

    def backward(x: Array, *values: Array) -> list[Array]:
        *values, gy = values
        forward(x, *values)
        return [layer.backward(gy), *layer.gradients]

    x = np.random.default_rng(1).standard_normal(shape)
    grad.check(forward, [x, *(p.copy() for p in parameters)], backward, raises=True)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error"])
def test_gradients_of_losses(loss: str) -> None:
    from examples import nn

    rng = np.random.default_rng(2)
    y = rng.standard_normal((6, 5))
    target = rng.integers(0, 5, 6) if loss == "softmax_cross_entropy" else rng.random((6, 5))
    function = getattr(nn, loss)
    report = grad.check(lambda y: function(y, target)[0], y, function(y, target)[1], rounding=64)
    assert report, report


def test_dropout() -> None:
    from examples import nn

    layer = nn.Dropout(0.25, np.random.default_rng(0))
    x = np.ones((100, 100), "float32")
    y = layer.forward(x, True)
    assert set(np.unique(y)) == {0, np.float32(4 / 3)}
    assert abs(np.mean(y) - 1) < 0.03
    np.testing.assert_array_equal(layer.backward(x), y)
    assert layer.forward(x) is x


def test_momentum_and_decay() -> None:
    """Two steps by hand; biases do not decay."""
    from examples import nn

    w, bias = np.full((1, 1), 2.0, "float32"), np.full(1, 2.0, "float32")
    optimizer = nn.SGD([w, bias], rate=0.5, momentum=0.5, decay=0.25)
    for _ in range(2):
        optimizer.step([np.ones((1, 1), "float32"), np.ones(1, "float32")])
    # w: v = -0.5 * 1.5, w = 1.25; v = -0.375 - 0.5 * (1 + 0.3125), w = 0.21875
    assert w[0, 0] == 0.21875
    assert bias[0] == 2 - 0.5 - 0.75
