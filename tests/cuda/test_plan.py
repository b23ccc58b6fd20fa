"""Plans of CuPy weights, on the stand-in for CuPy."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import HostCuda
from support.cases import generator
from support.judge import assert_same_bits

import fastconv

X = generator("plan x").integers(-9, 9, (2, 3, 7, 8)).astype("f4")
W = generator("plan w").integers(-9, 9, (4, 3, 3, 2)).astype("f4")
BIAS = generator("plan bias").integers(-9, 9, 4).astype("f4")
WANT = fastconv.conv2d(X, W, 2, 1, bias=BIAS, backend="reference")


def test_a_plan_on_the_gpu(host_cuda: HostCuda) -> None:
    cupy = host_cuda.cupy
    w, bias = cupy.asarray(W), cupy.asarray(BIAS)
    plan = fastconv.plan_conv2d(w, X.shape, 2, 1, bias=bias)
    assert plan.explain().backend == "cuda"
    w._host[...], bias._host[...] = np.nan, np.nan  # the plan has its own
    assert_same_bits(plan(cupy.asarray(X)).get(), WANT, "a plan")
    assert_same_bits(plan(cupy.asarray(X[1:])).get(), WANT[1:], "another batch")
    out = cupy.asarray(np.empty_like(WANT))
    assert plan(cupy.asarray(X), out=out) is out
    assert_same_bits(out.get(), WANT, "out")
    half = fastconv.plan_conv2d(cupy.asarray(W), X.shape, 2, 1, bias=cupy.asarray(BIAS), dtype="f2")
    assert_same_bits(half(cupy.asarray(X)).get(), WANT.astype("f2"), "rounded once")


def test_devices_are_not_mixed(host_cuda: HostCuda) -> None:
    cupy = host_cuda.cupy
    host_cuda.gpu.devices = 2
    plan = fastconv.plan_conv2d(cupy.asarray(W), X.shape)
    with pytest.raises(fastconv.DTypeError, match="NumPy and CuPy"):
        plan(X)
    with pytest.raises(fastconv.DTypeError, match="NumPy and CuPy"):
        fastconv.plan_conv2d(cupy.asarray(W), X.shape, bias=BIAS)
    with pytest.raises(fastconv.DTypeError, match="NumPy and CuPy"):
        fastconv.plan_conv2d(W, X.shape)(cupy.asarray(X))
    with cupy.cuda.Device(1):
        other = cupy.asarray(X)
    with pytest.raises(fastconv.DTypeError, match="w on GPU 0"):
        plan(other)
