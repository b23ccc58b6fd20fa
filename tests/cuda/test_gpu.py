"""The same families on a real GPU through CuPy; collected only where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda_support import host_model, operators, probes
from cuda_support.operators import OnDevice
from cuda_support.shapes import (
    BORDERS,
    FLOATS,
    LAYOUTS,
    NARROW,
    NARROWEST,
    SHAPES,
    TILE_IDS,
    TILED,
    Choose,
    held,
    naive,
    tiled,
)
from support.cases import FAMILIES, Case, draw, logical_kernel
from support.judge import (
    assert_same_bits,
    compute,
    judge,
    judge_determinism,
    judge_special_values,
)
from support.operators import OperatorCase

import fastconv
from fastconv.activations import ACTIVATIONS
from fastconv.backends.cuda import compiler, configuration, launch
from fastconv.backends.cuda.configuration import Tile
from fastconv.backends.cuda.parameters import ItemStrides
from fastconv.borders import PAD_MODES
from fastconv.dtypes import INTEGERS

cupy = pytest.importorskip("cupy")
pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, Any]


class RealCuda:
    """conv2d on the GPU, from and to NumPy arrays, as `support.judge` asks for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def force(self, choose: Choose) -> None:
        """Replace the ladder."""
        self._monkeypatch.setattr(configuration, "choose", choose)
        launch.prepare.cache_clear()

    def __call__(
        self, x: Array, w: Array, *, bias: Array | None = None, out: Array, threads: int = 1,
        **arguments: Any,
    ) -> Array:  # fmt: skip
        """Convolve; `out` goes to the GPU as it is, so that what is not written shows."""
        result = cupy.asarray(out)
        y = fastconv.conv2d(
            cupy.asarray(x), cupy.asarray(w), out=result, threads=threads,
            bias=None if bias is None else cupy.asarray(bias), backend="cuda", **arguments,
        )  # fmt: skip
        assert y is result
        out[...] = y.get()
        return out


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    yield RealCuda(monkeypatch)
    launch.prepare.cache_clear()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "tile"), TILED, ids=TILE_IDS)
def test_every_tile(gpu: RealCuda, dtype: str, tile: Tile, layout: str) -> None:
    for wide in (False, True):
        gpu.force(tiled(tile, wide))
        for case, family in itertools.product(SHAPES, ("integers", "normal", "cancellation")):
            judge(gpu, held(case, layout).with_(dtype=dtype), family)
        large = Case((3, 37, 61, 67), (131, 37, 3, 3), pad=1, bias=True, dtype=dtype)
        judge(gpu, held(large, layout), "integers")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*FLOATS, "float16", *INTEGERS])
def test_the_definition(gpu: RealCuda, dtype: str, layout: str) -> None:
    gpu.force(naive)
    families = [f for f in FAMILIES if (dtype, f) != ("float16", "underflow")]
    for case in SHAPES + NARROW:
        for family in families if dtype[0] == "f" else ["integers"]:
            judge(gpu, held(case, layout).with_(dtype=dtype), family)


@pytest.mark.parametrize("choose", [naive, tiled(NARROWEST)], ids=["naive", "igemm"])
@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_borders(gpu: RealCuda, pad_mode: str, choose: Choose) -> None:
    gpu.force(choose)
    for case, layout, dtype in itertools.product(BORDERS, LAYOUTS, FLOATS):
        judge(gpu, held(case, layout).with_(pad_mode=pad_mode, dtype=dtype), "integers")
    for value in (np.nan, np.inf, -np.inf):
        arrays = draw(BORDERS[0], "normal")
        logical_kernel(arrays.w, False)[-1, -1, -1, -1] = value
        judge_special_values(gpu, BORDERS[0].with_(pad_mode=pad_mode), arrays)


@pytest.mark.parametrize("choose", [naive, tiled(NARROWEST)], ids=["naive", "igemm"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(gpu: RealCuda, activation: str, choose: Choose) -> None:
    """With the device's own exp, tanh and erfc."""
    gpu.force(choose)
    for dtype, family in itertools.product(FLOATS, FAMILIES):
        case = Case((2, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, activation=activation)
        judge(gpu, case.with_(dtype=dtype), family)


@pytest.mark.parametrize("case", [SHAPES[5], SHAPES[8], NARROW[2]], ids=str)
def test_determinism(gpu: RealCuda, case: Case) -> None:
    for dtype in FLOATS:
        judge_determinism(gpu, case.with_(dtype=dtype), draw(case.with_(dtype=dtype), "spread"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_device_computes_the_bits_of_the_host_model(gpu: RealCuda, dtype: str) -> None:
    """Fused multiply-adds in a stated order leave no freedom: model and device must agree."""
    case = Case((2, 7, 6, 7), (9, 7, 3, 3), pad=1, bias=True, dtype=dtype)
    arrays = draw(case, "spread")
    got = compute(gpu, case, arrays)
    problem = case.problem
    strides = ItemStrides(*(
        tuple(s // a.itemsize for s in a.strides) for a in (arrays.x, arrays.w, got)
    ))  # fmt: skip
    chosen = launch.prepare(problem, strides)
    want = np.empty_like(got)
    kernel = host_model.build(chosen.configuration.kernel, chosen.configuration.defines)
    addresses = (a.ctypes.data for a in (*arrays, want))
    kernel.run(chosen.addressed(*addresses), chosen.blocks, chosen.configuration.threads)
    assert_same_bits(got, want, "device against host model")


@pytest.fixture
def through() -> OnDevice:
    return OnDevice(cupy.asarray)


@pytest.mark.parametrize("result", operators.RESULTS)
@pytest.mark.parametrize("dtype", operators.DTYPES)
@pytest.mark.parametrize("case", operators.CASES, ids=str)
def test_convolutions_and_gradients(
    through: OnDevice, case: OperatorCase, dtype: str, result: str
) -> None:
    operators.judge(through, case.with_(dtype=dtype), result)


@pytest.mark.parametrize("check", operators.CHECKS)
def test_other_operators(through: OnDevice, check: str) -> None:
    operators.CHECKS[check](through)


@pytest.mark.parametrize("dtype", FLOATS)
def test_transposed_convolutions_keep_the_bound(through: OnDevice, dtype: str) -> None:
    operators.bound_of_transposed(through, dtype)


def on_device(probe: probes.Probe) -> Array:
    """Run a probe on the GPU."""
    chosen = probe.configuration
    name = f"{chosen.kernel}.cu"
    device = cupy.cuda.Device()
    options = (
        *compiler.OPTIONS,
        f"-arch={compiler.architecture(device.compute_capability)}",
        *(f"-D{key}={value}" for key, value in chosen.defines),
    )
    module = cupy.cuda.function.Module()
    binary = compiler.compile_source(name, probes.SOURCES[name], compiler.sources(), options)
    module.load(binary.cubin)
    x, y = cupy.asarray(probe.x), cupy.empty(probe.x.shape, probe.result)
    parameters = probe.parameters(x.data.ptr, y.data.ptr)
    module.get_function(chosen.kernel)((probe.blocks,), (probes.THREADS,), (parameters,))
    return y.get()


def on_host(probe: probes.Probe) -> Array:
    """Run a probe on the host model."""
    chosen = probe.configuration
    kernel = host_model.build(chosen.kernel, chosen.defines, extra=tuple(probes.SOURCES.items()))
    y = np.empty(probe.x.shape, probe.result)
    kernel.run(probe.parameters(probe.x.ctypes.data, y.ctypes.data), probe.blocks, probes.THREADS)
    return y


PROBES = {
    "half_to_float": probes.each(probes.halves(), "float32", "half_to_float(v)"),
    "float_to_half": probes.each(probes.floats(), "float16", "float_to_half(v)"),
    "multiply_high": probes.each(probes.numbers(), "uint32", "multiply_high(v, 0x9E3779B9u)"),
    "divide": probes.each(probes.numbers(), "uint32", "divide(v, conv.inner)", 641),
    "multiply_add f32": probes.each(probes.floats(), "float32", "multiply_add(v, v, -v)"),
    "multiply_add f64": probes.each(probes.floats("float64"), "float64", "multiply_add(v, v, -v)"),
    "multiply_add u32": probes.each(probes.numbers(), "uint32", "multiply_add(v, v, v)"),
    "vectors f32": probes.turned(np.arange(768, dtype="f4")),
    "vectors f64": probes.turned(np.arange(768, dtype="f8")),
}


@pytest.mark.parametrize("name", PROBES)
def test_leaf_primitives_agree_with_their_host_model(name: str) -> None:
    device, host = on_device(PROBES[name]), on_host(PROBES[name])
    np.testing.assert_array_equal(device, host)  # any NaN equals any other


FUNCTIONS = ("exponential", "hyperbolic_tangent", "complementary_error")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_within_a_few_units_of_the_host(function: str, dtype: str) -> None:
    probe = probes.each(probes.floats(dtype), dtype, f"{function}(v)")
    device, host = on_device(probe), on_host(probe)
    np.testing.assert_array_equal(np.isnan(device), np.isnan(host))
    with np.errstate(invalid="ignore"):
        close = (device == host) | (np.abs(device - host) <= 8 * np.spacing(np.abs(host)))
    assert (close | np.isnan(host)).all()


def test_streams(gpu: RealCuda) -> None:
    case = Case((4, 32, 33, 35), (48, 32, 3, 3), pad=1)
    x, w, _ = draw(case, "normal")
    want = fastconv.conv2d(cupy.asarray(x), cupy.asarray(w), pad=1).get()
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(4)]
    results = []
    for stream in streams:
        with stream:
            results.append(fastconv.conv2d(cupy.asarray(x), cupy.asarray(w), pad=1))
    for stream, y in zip(streams, results, strict=True):
        stream.synchronize()
        assert_same_bits(y.get(stream=stream), want, "stream")


def test_a_captured_graph_replays(gpu: RealCuda) -> None:
    """Capture forbids every synchronisation: the call makes none once its kernel is loaded."""
    x, w = cupy.ones((1, 8, 9, 9), "f4"), cupy.ones((8, 8, 3, 3), "f4")
    y = cupy.zeros((1, 8, 7, 7), "f4")
    fastconv.conv2d(x, w, out=y)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        fastconv.conv2d(x, w, out=y)
        graph = stream.end_capture()
    x[...] = 2
    cupy.cuda.Device().synchronize()
    graph.launch(stream)
    stream.synchronize()
    assert (y.get() == 144).all()


def test_out_and_views(gpu: RealCuda) -> None:
    x, w = (cupy.asarray(a) for a in draw(Case((2, 6, 9, 10), (8, 6, 3, 3)), "normal")[:2])
    want = fastconv.conv2d(x, w).get()
    whole = cupy.full((2, 8, 14, 16), cupy.nan, "f4")
    out = whole[:, ::-1, ::2, ::-2]
    assert fastconv.conv2d(x, w, out=out) is out
    assert_same_bits(out.get(), want, "strided out")
    assert bool(cupy.isnan(whole[:, :, 1::2]).all())
    turned = cupy.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]
    assert_same_bits(fastconv.conv2d(turned, w).get(), want, "negative strides")
    np.testing.assert_allclose(
        want, fastconv.conv2d(x.get(), w.get(), backend="reference"), rtol=1e-4, atol=1e-4
    )
    image = cupy.arange(36, dtype="f4").reshape(1, 1, 6, 6)
    alone = fastconv.conv2d(image, w[:1, :1], pad=1).get()
    assert_same_bits(fastconv.conv2d(image, w[:1, :1], pad=1, out=image).get(), alone, "overlap")


def test_numpy_and_cupy_do_not_mix() -> None:
    x, w = np.ones((1, 1, 4, 4), "f4"), np.ones((1, 1, 3, 3), "f4")
    for mixed in ((cupy.asarray(x), w), (x, cupy.asarray(w))):
        with pytest.raises(TypeError, match="one device"):
            fastconv.conv2d(*mixed)
    with pytest.raises(TypeError, match="one device"):
        fastconv.conv2d(x, w, out=cupy.empty((1, 1, 2, 2), "f4"))


@pytest.fixture
def room() -> Callable[[int], None]:
    """Skip where the GPU is too small for a test of large arrays."""

    def need(size: int) -> None:
        cupy.get_default_memory_pool().free_all_blocks()
        free, _ = cupy.cuda.runtime.memGetInfo()
        if free < size * 1.2:
            pytest.skip(f"needs {size / 2**30:.0f} GiB of GPU memory, {free / 2**30:.0f} are free")

    return need


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_more_than_two_to_the_31_items(room: Callable[[int], None], dtype: str) -> None:
    """Rows count up modulo 7: every row's answer is known, the last ones included."""
    rows, columns = 2**16 + 3, 2**15 + 1
    size = rows * columns * np.dtype(dtype).itemsize
    out_itemsize = 4
    room(size + 4 * (rows // 4) * (columns // 4) * out_itemsize)
    x = cupy.empty((1, 1, rows, columns), dtype)
    x[...] = (cupy.arange(rows) % 7).astype(dtype)[:, None]
    w = cupy.ones((4, 1, 2, 2), dtype)
    y = fastconv.conv2d(x, w, stride=4)
    r = cupy.arange(y.shape[2]) * 4
    want = 2 * (r % 7 + (r + 1) % 7)
    assert bool((y == want[:, None]).all())
