"""dask.distributed: images larger than a worker's memory, a worker killed; weights sent once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import processes
from support.oracles import oracle

oracle("distributed")
oracle("zarr")

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (ROOT / "examples").exists(), reason="not a checkout")
def test_an_image_larger_than_its_workers(tmp_path: Path) -> None:
    """The example in small: 400 MB through workers of 320 MB, one of them killed half-way."""
    command = [
        sys.executable, "-W", "error", str(ROOT / "examples/larger_than_memory.py"),
        "--megabytes=400", "--limit=320MB", "--chunk=1024", f"--directory={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"killed worker \d+ after \d+ of 100 chunks", done.stdout), done.stdout
    peaks = [int(peak) for peak in re.findall(r"worker \d+: (\d+) MB at most", done.stdout)]
    assert len(peaks) == 3, "one was killed, one came in its place"
    assert max(peaks) < 320
    assert "0 of 100000000 pixels are wrong" in done.stdout


SENT_ONCE = """
import logging, numpy as np, dask.array as da, fastconv
from dask.distributed import Client, LocalCluster
from fastconv.interop import convolution
from fastconv.interop.dask import conv2d

def note():
    convolution.loaded = []
    def load(self, state):
        self.__dict__.update(state)
        convolution.loaded.append(self)
    convolution.BlockConvolution.__setstate__ = load

def held():
    return [len(loaded._plans) for loaded in convolution.loaded]

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None,
                      silence_logs=logging.CRITICAL) as cluster, Client(cluster) as client:
        client.run(note)
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((8, 160, 160)), rng.standard_normal((9, 8, 3, 3))
        y = client.persist(conv2d(da.from_array(x, chunks=(8, 20, 20)), w, pad=1))
        assert np.array_equal(y.compute(), fastconv.conv2d(x, w, pad=1))
        print(client.run(held))
"""


def test_weights_are_sent_once_and_plans_kept(tmp_path: Path) -> None:
    """64 blocks of nine kinds on two workers: each has the weights once, and plans of its own."""
    script = tmp_path / "sent_once.py"
    script.write_text(SENT_ONCE)
    held = processes.run("import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')",
                         str(script))  # fmt: skip
    found = re.findall(r"\[([\d, ]*)\]", held)
    assert len(found) == 2
    for convolutions in found:
        assert len(convolutions.split(",")) == 1, f"more than one copy on a worker: {held}"
        assert 0 < int(convolutions) <= 9
