"""`conv2d_blocks`: from and to files of every kind, with progress, and after an interruption."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import processes
from support.oracles import oracle

import fastconv
from fastconv import DTypeError, OutputError, ResumeError, ShapeError, SizeError
from fastconv.tiling import plan_blocks

Array = np.ndarray[Any, Any]
OPTIONS: dict[str, Any] = {
    "stride": (1, 2), "pad": ((3, 1), (0, 2)), "dilation": (2, 1), "pad_mode": "reflect",
}  # fmt: skip


@pytest.fixture
def arrays() -> tuple[Array, Array, Array]:
    """An image, weights, and what is to come of them."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 60, 70)), rng.standard_normal((4, 3, 3, 5))
    return x, w, fastconv.conv2d(x, w, **OPTIONS)


class Recorded:
    """An array that is only sliced, and remembers how."""

    def __init__(self, array: Array, fails_after: float = np.inf) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read: list[int] = []
        self.written: list[tuple[slice, ...]] = []
        self.fails_after = fails_after

    def __getitem__(self, index: tuple[slice, ...]) -> Array:
        self.read.append(self.array[index].nbytes)
        return self.array[index].copy()

    def __setitem__(self, index: tuple[slice, ...], values: Array) -> None:
        if len(self.written) >= self.fails_after:
            raise KeyboardInterrupt
        self.written.append(index)
        self.array[index] = values


def memory_maps(folder: Path, x: Array, shape: Any) -> tuple[Any, Any]:
    np.save(folder / "x.npy", x)
    out = np.lib.format.open_memmap(folder / "y.npy", mode="w+", dtype=x.dtype, shape=shape)
    return np.load(folder / "x.npy", mmap_mode="r"), out


def zarr_arrays(folder: Path, x: Array, shape: Any) -> tuple[Any, Any]:
    zarr = oracle("zarr")
    src = zarr.create_array(folder / "x.zarr", shape=x.shape, chunks=(3, 16, 16), dtype=x.dtype)
    src[...] = x
    return src, zarr.create_array(
        folder / "y.zarr", shape=shape, chunks=(4, 8, 8), dtype=x.dtype, fill_value=np.nan
    )


def hdf5(folder: Path, x: Array, shape: Any) -> tuple[Any, Any]:
    file = oracle("h5py").File(folder / "both.h5", "w")
    src = file.create_dataset("x", data=x, chunks=(1, 16, 16))
    return src, file.create_dataset("y", shape=shape, dtype=x.dtype, chunks=(2, 8, 8))


@pytest.mark.parametrize("kind", [memory_maps, zarr_arrays, hdf5])
def test_files_of_every_kind(kind: Any, tmp_path: Path, arrays: Any) -> None:
    x, w, expected = arrays
    src, dst = kind(tmp_path, x, expected.shape)
    told: list[tuple[int, int]] = []
    result = fastconv.conv2d_blocks(
        src, dst, w, memory=60_000, progress=lambda *how: told.append(how),
        resume=tmp_path / "resume.json", **OPTIONS,
    )  # fmt: skip
    assert result is dst
    assert np.asarray(dst[...]).tobytes() == expected.tobytes()
    count = told[0][1]
    assert count > 3
    assert told == [(i, count) for i in range(count + 1)]


def test_no_more_is_read_than_memory_holds(arrays: Any) -> None:
    x, w, expected = arrays
    src, dst = Recorded(x), Recorded(np.full_like(expected, np.nan))
    fastconv.conv2d_blocks(src, dst, w, memory=50_000, **OPTIONS)
    assert np.array_equal(dst.array, expected)
    assert len(dst.written) > 5
    assert max(src.read) < 50_000 / 2
    assert sum(src.read) < 2 * x.nbytes


def test_chunks_of_the_destination_are_written_once(tmp_path: Path, arrays: Any) -> None:
    x, w, expected = arrays
    src, dst = zarr_arrays(tmp_path, x, expected.shape)
    recorded = Recorded(np.full_like(expected, np.nan))
    recorded.chunks = dst.chunks  # type: ignore[attr-defined]
    fastconv.conv2d_blocks(src, recorded, w, memory=60_000, **OPTIONS)
    assert all(part.start % 8 == 0 for index in recorded.written for part in index[1:])


def test_dtypes_are_those_of_conv2d() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(0, 255, (1, 40, 40), "uint8"), rng.standard_normal((2, 1, 3, 3))
    for dtype in (None, "float16", "float32"):
        expected = fastconv.conv2d(x, w, dtype=dtype)
        out = np.zeros_like(expected)
        fastconv.conv2d_blocks(x, out, w, dtype=dtype, blocks=[None, 9, 13])
        assert out.tobytes() == expected.tobytes(), dtype


@pytest.mark.parametrize("done", [1, 3])
def test_an_interrupted_run_goes_on(tmp_path: Path, arrays: Any, done: int) -> None:
    x, w, expected = arrays
    resume = tmp_path / "resume.json"
    blocks = [None, 10, 20]
    out = np.full_like(expected, np.nan)
    with pytest.raises(KeyboardInterrupt):
        fastconv.conv2d_blocks(x, Recorded(out, done), w, blocks=blocks, resume=resume, **OPTIONS)
    assert json.loads(resume.read_text())["done"] == done
    rest = Recorded(out)
    fastconv.conv2d_blocks(x, rest, w, blocks=blocks, resume=resume, **OPTIONS)
    assert np.array_equal(out, expected)
    count = len(plan_blocks(x.shape, w.shape, blocks=blocks, **OPTIONS))
    assert len(rest.written) == count - done
    again = Recorded(out)
    fastconv.conv2d_blocks(x, again, w, blocks=blocks, resume=resume, **OPTIONS)
    assert not again.written
    assert [path.name for path in tmp_path.iterdir()] == ["resume.json"]


KILLED = """
import os, signal, sys, numpy as np, fastconv
folder, most = sys.argv[1], int(sys.argv[2])
x = np.load(folder + "/x.npy", mmap_mode="r")
y = np.load(folder + "/y.npy", mmap_mode="r+")
def told(done, count):
    if done == most:
        os.kill(os.getpid(), signal.SIGKILL)
fastconv.conv2d_blocks(x, y, np.load(folder + "/w.npy"), pad=1, blocks=[None, 7, None],
                       resume=folder + "/resume.json", progress=told)
"""


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 50, 30)), rng.standard_normal((3, 2, 3, 3))
    memory_maps(tmp_path, x, (3, 50, 30))
    np.save(tmp_path / "w.npy", w)
    for most in (2, 5):
        killed = processes.start(KILLED, str(tmp_path), str(most))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert json.loads((tmp_path / "resume.json").read_text())["done"] == most
    processes.run(KILLED, str(tmp_path), "-1")
    assert np.array_equal(np.load(tmp_path / "y.npy"), fastconv.conv2d(x, w, pad=1))


def test_what_cannot_be_resumed_is_refused(tmp_path: Path, arrays: Any) -> None:
    x, w, expected = arrays
    resume, blocks = tmp_path / "resume.json", [None, 10, None]
    out = np.full_like(expected, np.nan)

    def run(x: Array, w: Array, out: Array, blocks: Any = blocks, **more: Any) -> None:
        fastconv.conv2d_blocks(x, out, w, blocks=blocks, resume=resume, **{**OPTIONS, **more})

    run(x, w, out)
    for changed in ({"pad_mode": "edge"}, {"flip": True}, {"activation": "relu"}):
        with pytest.raises(ResumeError, match="another convolution"):
            run(x, w, out, **changed)
    with pytest.raises(ResumeError, match="another convolution"):
        run(x, w + 1, out)
    with pytest.raises(ResumeError, match="another convolution"):
        run(x, w, out, blocks=[None, 5, None])
    with pytest.raises(ResumeError, match="does not hold what its block"):
        run(x, w, np.zeros_like(out))
    with pytest.raises(ResumeError, match="does not hold what its block"):
        run(x + 1, w, out)
    known = json.loads(resume.read_text())
    resume.write_text(json.dumps({**known, "done": 99}))
    with pytest.raises(ResumeError, match="says 99 of"):
        run(x, w, out)
    for text in ("", "[]", "{}", "{"):
        resume.write_text(text)
        with pytest.raises(ResumeError, match="no file of conv2d_blocks"):
            run(x, w, out)


def test_the_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    oracle("rich")
    x, out = np.ones((30, 30)), np.zeros((28, 28))
    fastconv.conv2d_blocks(x, out, np.ones((3, 3)), blocks=[7, None], progress=True)
    printed = capsys.readouterr().out
    assert "4/4" in printed
    assert (out == 9).all()
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ModuleNotFoundError, match="pip install rich"):
        fastconv.conv2d_blocks(x, out, np.ones((3, 3)), progress=True)


def test_bad_arguments_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    x, w = np.ones((2, 9, 9)), np.ones((4, 2, 3, 3))
    src, out = Recorded(x), np.zeros((4, 7, 7))
    refused: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (src, np.zeros((4, 9, 9)), {}, OutputError, r"dst must be \(4, 7, 7\) float64"),
        (src, out.astype("f4"), {}, OutputError, "comes with dtype="),
        (src, (1, 2), {}, DTypeError, "dst must have a shape"),
        ([[1.0]], out, {}, DTypeError, "src must have a shape"),
        (src, out, {"blocks": [1]}, ShapeError, "a value for each axis"),
        (src, out, {"memory": 10}, SizeError, "needs"),
        (src, out, {"groups": 2}, ShapeError, "input channel"),
    ]
    for a, b, more, error, says in refused:
        with pytest.raises(error, match=says):
            fastconv.conv2d_blocks(a, b, w, **more)
    same = np.ones((1, 9, 9))
    kernel = np.ones((1, 1, 3, 3))
    with pytest.raises(OutputError, match="where src is"):
        fastconv.conv2d_blocks(same, same, kernel, pad=1)
    with pytest.raises(OutputError, match="where src is"):
        fastconv.conv2d_blocks(same, same[:, ::-1], kernel, pad=1)
    there, _ = memory_maps(tmp_path, same, same.shape)
    with pytest.raises(OutputError, match="where src is"):
        fastconv.conv2d_blocks(there, np.load(tmp_path / "x.npy", mmap_mode="r+"), kernel, pad=1)
    assert not src.read
