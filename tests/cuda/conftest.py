"""Fixtures of the CUDA tests; all but test_gpu.py need no GPU and no CuPy, and run everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("cuda_support")

from cuda_support import fake_cupy  # noqa: E402

import fastconv  # noqa: E402
from fastconv import dispatch  # noqa: E402
from fastconv.backends.cuda import configuration, launch  # noqa: E402
from fastconv.backends.cuda.configuration import Configuration  # noqa: E402

Array = np.ndarray[Any, Any]

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
