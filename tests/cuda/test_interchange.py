"""Arrays of other libraries in a GPU's memory, on the stand-in for CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import HostCuda
from support.example import BIAS, WANT, W, X
from support.judge import assert_same_bits

import fastconv


class Tensor:
    """An array of another library on a GPU; `memory` is CuPy's."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    shape = property(lambda self: self.memory.shape)
    dtype = property(lambda self: self.memory.dtype)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return Tensor

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("not in the memory of the processor")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    @staticmethod
    def from_dlpack(memory: Any) -> Tensor:
        return Tensor(memory)


@pytest.fixture
def cupy(host_cuda: HostCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    """CuPy, whose from_dlpack takes the memory of a Tensor as it is."""
    monkeypatch.setattr(host_cuda.cupy, "from_dlpack", lambda x: x.memory, raising=False)
    return host_cuda.cupy


def test_cupy_computes_and_the_kind_comes_out(cupy: Any) -> None:
    x, w, bias = (Tensor(cupy.asarray(array)) for array in (X, W, BIAS))
    assert fastconv.explain(x, w).backend == "cuda"
    y = fastconv.conv2d(x, w, 2, 1, bias=bias)
    assert type(y) is Tensor
    assert_same_bits(y.memory.get(), WANT, "of another library")
    out = Tensor(cupy.asarray(np.empty_like(WANT)))
    assert fastconv.conv2d(x, w, 2, 1, bias=bias, out=out) is out
    assert_same_bits(out.memory.get(), WANT, "out")
    gx = fastconv.conv2d_input_grad(X.shape, w, y, 2, 1)
    want = fastconv.conv2d_input_grad(X.shape, W, WANT, 2, 1)
    assert type(gx) is Tensor
    assert_same_bits(gx.memory.get(), want, "gradient of x")
    plan = fastconv.plan_conv2d(w, X.shape, 2, 1, bias=bias)
    assert_same_bits(plan(x).memory.get(), WANT, "a plan")


def test_devices_are_not_mixed(cupy: Any) -> None:
    x = Tensor(cupy.asarray(X))
    with pytest.raises(fastconv.DTypeError, match=r"one library, got x a .*Tensor, w a numpy"):
        fastconv.conv2d(x, W)
    with pytest.raises(fastconv.DTypeError, match="one library, got x a"):
        fastconv.conv2d(x, cupy.asarray(W))
