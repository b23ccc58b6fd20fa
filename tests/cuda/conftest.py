"""Fixtures of the CUDA tests; all but test_gpu.py need no GPU and no CuPy, and run everywhere."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("cuda_support")

from cuda_support import fake_cupy  # noqa: E402

import fastconv  # noqa: E402
from fastconv import dispatch  # noqa: E402
from fastconv.backends.cuda import configuration, launch  # noqa: E402
from fastconv.backends.cuda.configuration import Configuration  # noqa: E402

Array = np.ndarray[Any, Any]

#: Pages that are never touched need no memory: Linux's value, where Python does not name it.
MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)

# Where no GPU is at hand these tests do not exist, instead of being skipped.
collect_ignore = [] if dispatch.availability("cuda") is None else ["test_gpu.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: runs on a real GPU, through CuPy")


class HostCuda:
    """conv2d on the CUDA backend, whose kernels run on the host model."""

    def __init__(self, gpu: fake_cupy.HostGPU, cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu, self.cupy, self._monkeypatch = gpu, cupy, monkeypatch

    def force(self, choose: Callable[..., Configuration]) -> None:
        """Replace the ladder: choose(problem, strides)."""
        self._monkeypatch.setattr(configuration, "choose", choose)
        launch.prepare.cache_clear()

    def __call__(
        self, x: Array, w: Array, *, bias: Array | None = None, out: Array, threads: int = 1,
        **arguments: Any,
    ) -> Array:  # fmt: skip
        """Convolve NumPy arrays in place, as `support.judge` asks for it."""
        wrap = self.cupy.wrap
        held = wrap(out)
        result = fastconv.conv2d(
            wrap(x), wrap(w), bias=None if bias is None else wrap(bias), out=held, backend="cuda",
            threads=threads, **arguments,
        )  # fmt: skip
        assert result is held
        return out


@pytest.fixture
def host_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCuda]:
    """Install the stand-in for CuPy, and convolve on the host model."""
    gpu = fake_cupy.HostGPU()
    with fake_cupy.installed(gpu, monkeypatch) as cupy:
        yield HostCuda(gpu, cupy, monkeypatch)


@pytest.fixture
def far_apart(host_cuda: HostCuda) -> Callable[[str], None]:
    """Convolve with rows of x, or of out, more than 2**31 items apart, and check the result."""

    def convolve(operand: str) -> None:
        step = 2**30 + 7
        memory = mmap.mmap(-1, 4 * (2 * step + 8), flags=mmap.MAP_PRIVATE | MAP_NORESERVE)
        flat = np.frombuffer(memory, "f4")
        image = np.arange(1, 13, dtype="f4").reshape(1, 1, 3, 4)
        kernel = np.arange(1, 9, dtype="f4").reshape(4, 1, 1, 2)
        taps = kernel.reshape(4, 1, 2)
        want = image[..., :-1] * taps[..., :1] + image[..., 1:] * taps[..., 1:]
        out = np.empty_like(want)
        if operand == "x":
            sparse = as_strided(flat, image.shape, (0, 0, 4 * step, 4))
            sparse[...] = image
            image = sparse
        else:
            # K is the contiguous axis, the rows lie far apart
            out = as_strided(flat, (1, 4, 3, 3), (0, 4, 4 * step, 16))
        host_cuda(image, kernel, out=out)
        np.testing.assert_array_equal(out, want)

    return convolve
