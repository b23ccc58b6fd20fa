"""The README's code runs, its two commands are the ones that CI runs, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import fastconv

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_python_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        if "numba" in block and "numba" not in fastconv.available_backends():
            block = block.replace('backend="numba"', 'backend="reference"')
        if "import torch" in block and importlib.util.find_spec("torch") is None:
            continue
        exec(compile(block, "README.md", "exec"), names)
    assert np.shape(names["y"])[0] == 1
    assert "chosen" in capsys.readouterr().out


def test_correlation_and_convolution_differ_as_the_readme_says() -> None:
    a, f = np.arange(9.0).reshape(3, 3), np.array([[1.0, 2.0], [0.0, 0.0]])
    assert fastconv.conv2d(a, f)[0, 0] == a[0, 0] * 1 + a[0, 1] * 2
    assert fastconv.conv2d(a, f, flip=True)[0, 0] == a[1, 1] * 1 + a[1, 0] * 2


def test_coming_from_scipy_and_opencv() -> None:
    """The border names of the table, against numpy.pad and the definition."""
    rng = np.random.default_rng(0)
    a, k = rng.standard_normal((9, 11)), rng.standard_normal((3, 5))
    for mode in ("constant", "edge", "symmetric", "reflect", "wrap"):
        padded = np.pad(a, ((1, 1), (2, 2)), mode=mode)  # type: ignore[call-overload]
        windows = np.lib.stride_tricks.sliding_window_view(padded, k.shape)
        want = np.einsum("pqrs,rs->pq", windows, k)
        got = fastconv.conv2d(a, k, pad="same", pad_mode=mode)
        np.testing.assert_allclose(got, want, rtol=0, atol=15 * 2.0**-53 * 40)


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_ci_runs_the_commands_of_the_readme() -> None:
    """CI builds the package once, ``pip install .`` in its two parts, and installs that."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"pip. wheel .* \. ", script)
    for extra, command in (("test", "pytest"), ("demo", "python -m fastconv demo")):
        assert f"pip install '.[{extra}]' && {command}" in README
        assert f'install -q "$wheel[{extra}]"' in script
        assert command in script
