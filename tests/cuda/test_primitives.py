"""Leaf primitives on the host model, against NumPy; test_gpu.py repeats them on the device."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_support import host_model, probes
from cuda_support.probes import Probe, each

from fastconv.borders import PAD_MODES, source_index


def run(probe: Probe) -> np.ndarray:
    chosen = probe.configuration
    kernel = host_model.build(chosen.kernel, chosen.defines, extra=tuple(probes.SOURCES.items()))
    y = np.empty(probe.x.shape, probe.result)
    kernel.run(probe.parameters(probe.x.ctypes.data, y.ctypes.data), probe.blocks, probes.THREADS)
    return y


def test_every_half_widens_exactly() -> None:
    x = probes.halves()
    np.testing.assert_array_equal(run(each(x, "float32", "half_to_float(v)")), x.astype("f4"))


def test_floats_round_to_the_nearest_half_ties_to_even() -> None:
    x = probes.floats()
    got = run(each(x, "float16", "float_to_half(v)"))
    with np.errstate(over="ignore"):
        want = x.astype("f2")
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(x)]), np.signbit(want[~np.isnan(x)]))


@pytest.mark.parametrize("by", [1, 2, 3, 5, 7, 9, 64, 100, 121, 641, 65537, 2**30 + 1, 2**31 - 1])
def test_division_by_multiplication(by: int) -> None:
    n = probes.numbers()
    n = np.append(n, np.minimum(np.arange(1, 2**31 // by, max(1, 2**31 // by // 999)) * by, 2**31))
    n = np.unique(np.clip(np.concatenate([n, n - 1]), 0, 2**31 - 1)).astype("u4")
    np.testing.assert_array_equal(run(each(n, "uint32", "divide(v, conv.inner)", by)), n // by)


@pytest.mark.parametrize("index", ["int32", "int64"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("mode", PAD_MODES)
def test_borders_map_as_numpy_pads(mode: str, size: int, index: str) -> None:
    x = np.concatenate([np.arange(-350, 351), [-(2**29), 2**29]]).astype(index)
    expression = f"source_index<PAD_{mode.upper()}>(v, static_cast<OPERAND_T>({size}))"
    np.testing.assert_array_equal(run(each(x, index, expression)), source_index(x, size, mode))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_of_shared_memory(dtype: str) -> None:
    x = np.arange(64 * 16 * 3, dtype=dtype)
    probe = probes.turned(x)
    block = x.size // probe.blocks
    width = 16 // x.itemsize
    want = x.reshape(probe.blocks, block // width, width)[:, ::-1].reshape(-1)
    np.testing.assert_array_equal(run(probe), want)


def test_multiply_add_rounds_once() -> None:
    x = (1 + np.arange(1, 100) * np.float32(2**-23)).astype("f4")
    got = run(each(x, "float32", "multiply_add(v, v, -1.0f)"))
    want = x.astype("f8") ** 2 - 1  # exact in double
    np.testing.assert_array_equal(got, want.astype("f4"))
    assert (got != x * x - np.float32(1)).any(), "rounding twice would go unnoticed"
