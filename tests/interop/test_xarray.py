"""The example for xarray: the same numbers and coordinates, in memory and in chunks."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.oracles import oracle

import fastconv

xr = oracle("xarray")
oracle("dask.array")
EXAMPLE = Path(__file__).parents[2] / "examples" / "xarray_filter.py"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="not a checkout")


@pytest.mark.parametrize("mode", ["constant", "reflect", "wrap"])
def test_apply_ufunc_in_memory_and_in_chunks(mode: str) -> None:
    filter2d = runpy.run_path(str(EXAMPLE))["filter2d"]
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 30, 3, 40)).astype("f4")
    images = xr.DataArray(
        values, dims=("time", "y", "band", "x"), coords={"x": np.arange(40) * 2.0},
        attrs={"units": "K"},
    )  # fmt: skip
    w = rng.standard_normal((3, 5)).astype("f4")
    batch = values.transpose(0, 2, 1, 3).reshape(-1, 1, 30, 40)
    expected = fastconv.conv2d(batch, w[None, None], pad="same", pad_mode=mode)
    expected = expected.reshape(4, 3, 30, 40).transpose(0, 2, 1, 3)
    for held in (images, images.chunk(time=1), images.chunk(time=3, y=7, band=2, x=11)):
        y = filter2d(held, w, ("y", "x"), pad_mode=mode)
        assert (y.chunks is None) == (held.chunks is None), "computed too early"
        assert y.dims == images.dims
        assert y.attrs == images.attrs
        assert np.array_equal(y.x, images.x)
        assert np.array_equal(y.values, expected)


def test_the_example_runs() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "dask.array<" in done.stdout
    assert "steepest at lon" in done.stdout
