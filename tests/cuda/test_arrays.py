"""CuPy arrays through conv2d, with the stand-in for CuPy: views, devices, out, errors."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from support.cases import Case, draw

import fastconv
from fastconv import BackendUnavailable, BackendUnsupported, DTypeError, OutputError
from fastconv.backends import cuda
from fastconv.backends.cuda import compiler, launch

X = np.arange(2 * 3 * 5 * 6, dtype="f4").reshape(2, 3, 5, 6)
W = np.arange(4 * 3 * 2 * 2, dtype="f4").reshape(4, 3, 2, 2)
WANT = fastconv.conv2d(X, W, backend="reference")


@pytest.fixture
def cupy(host_cuda):
    """The stand-in for the module."""
    return host_cuda.cupy


def test_no_backend_named(host_cuda, cupy) -> None:
    y = fastconv.conv2d(cupy.asarray(X), cupy.asarray(W))
    assert type(y) is cupy.ndarray
    np.testing.assert_array_equal(y.get(), WANT)
    assert [launched.kernel for launched in host_cuda.gpu.launches] == ["igemm_simt"]
    assert host_cuda.gpu.compiled == ["sm_90a"]


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_ranks_and_layouts(cupy, rank: int, layout: str) -> None:
    x, w = (X[0, 0], W[0, 0]) if rank == 2 else (X[0] if rank == 3 else X, W)
    if rank != 2 and layout == "NHWC":
        x = np.moveaxis(x, -3, -1)
    for flip in (False, True):
        y = fastconv.conv2d(cupy.asarray(x), cupy.asarray(w), layout=layout, flip=flip)
        want = fastconv.conv2d(x, w, layout=layout, flip=flip, backend="reference")
        np.testing.assert_array_equal(y.get(), want)


def test_promotion_and_dtype(cupy) -> None:
    wrap = cupy.asarray
    image, kernel = X[:, :, :3].astype("i2"), W.astype("f8")
    want = fastconv.conv2d(image, kernel, backend="reference")
    y = fastconv.conv2d(wrap(image), wrap(kernel))
    assert y.dtype == "f8"
    np.testing.assert_array_equal(y.get(), want)
    half = fastconv.conv2d(wrap(X / 100), wrap(W / 100), dtype="float16")  # computed in float32
    assert half.dtype == "f2"
    np.testing.assert_array_equal(
        half.get(), fastconv.conv2d(X / 100, W / 100, dtype="float16", backend="reference")
    )
    mask = fastconv.conv2d(wrap(X > 7), wrap(W > 5))
    np.testing.assert_array_equal(mask.get(), fastconv.conv2d(X > 7, W > 5, backend="reference"))


def test_out(cupy) -> None:
    out = cupy.empty(WANT.shape, "f4")
    assert fastconv.conv2d(cupy.asarray(X), cupy.asarray(W), out=out) is out
    np.testing.assert_array_equal(out.get(), WANT)
    whole = cupy.empty((2, 4, 8, 10), "f4")
    fastconv.conv2d(cupy.asarray(X), cupy.asarray(W), out=whole[:, :, ::-2, ::2])
    np.testing.assert_array_equal(whole.get()[:, :, ::-2, ::2], WANT)


def test_out_may_overlap_the_inputs(cupy) -> None:
    w = cupy.asarray(np.arange(9, dtype="f4").reshape(1, 1, 3, 3))
    image = np.arange(36, dtype="f4").reshape(1, 1, 6, 6)
    want = fastconv.conv2d(image, w.get(), pad=1, backend="reference")
    x = cupy.asarray(image)
    assert fastconv.conv2d(x, w, pad=1, out=x) is x
    np.testing.assert_array_equal(x.get(), want)


def test_out_that_cannot_hold_the_result(cupy) -> None:
    x, w = cupy.asarray(X), cupy.asarray(W)
    with pytest.raises(OutputError, match="got shape"):
        fastconv.conv2d(x, w, out=cupy.empty((1, 4, 4, 5), "f4"))
    with pytest.raises(OutputError, match="got dtype float64"):
        fastconv.conv2d(x, w, out=cupy.empty(WANT.shape, "f8"))
    with pytest.raises(OutputError, match="broadcast"):
        fastconv.conv2d(x, w, out=cupy.wrap(np.broadcast_to(np.float32(0), WANT.shape)))


def test_an_empty_batch_launches_nothing(host_cuda, cupy) -> None:
    y = fastconv.conv2d(cupy.asarray(X[:0]), cupy.asarray(W))
    assert y.shape == (0, 4, 4, 5)
    assert host_cuda.gpu.launches == []


def test_numpy_and_cupy_do_not_mix(cupy) -> None:
    gpu_x, gpu_w = cupy.asarray(X), cupy.asarray(W)
    calls = [
        lambda: fastconv.conv2d(gpu_x, W),
        lambda: fastconv.conv2d(X, gpu_w),
        lambda: fastconv.conv2d(gpu_x, gpu_w, bias=np.ones(4, "f4")),
        lambda: fastconv.conv2d(gpu_x, gpu_w, out=np.empty(WANT.shape, "f4")),
        lambda: fastconv.conv2d(X, W, out=cupy.empty(WANT.shape, "f4")),
    ]
    for call in calls:
        with pytest.raises(DTypeError, match=r"one device.*cupy\.asarray"):
            call()
        with pytest.raises(TypeError):
            call()


def test_backends_of_the_other_kind_of_array(cupy) -> None:
    with pytest.raises(BackendUnsupported, match=r"move them with cupy\.asarray"):
        fastconv.conv2d(X, W, backend="cuda")
    with pytest.raises(BackendUnsupported, match=r"move them with cupy\.asnumpy"):
        fastconv.conv2d(cupy.asarray(X), cupy.asarray(W), backend="reference")


def test_arrays_of_two_devices(host_cuda, cupy) -> None:
    host_cuda.gpu.devices = 2
    x = cupy.asarray(X)
    with cupy.cuda.Device(1):
        w, out = cupy.asarray(W), cupy.empty(WANT.shape, "f4")
    with pytest.raises(DTypeError, match=r"x on GPU 0, w on GPU 1.*Device\(0\)"):
        fastconv.conv2d(x, w)
    with pytest.raises(DTypeError, match="out on GPU 1"):
        fastconv.conv2d(x, cupy.asarray(W), out=out)


def test_the_device_of_the_arrays_need_not_be_current(host_cuda, cupy) -> None:
    host_cuda.gpu.devices = 2
    with cupy.cuda.Device(1):
        x, w, bias = cupy.asarray(X), cupy.asarray(W), cupy.asarray(np.arange(4))
    y = fastconv.conv2d(x, w, bias=bias, dtype="float64")
    assert y.device.id == 1
    assert host_cuda.gpu.current == 0
    assert [launched.device for launched in host_cuda.gpu.launches] == [1]
    fastconv.conv2d(cupy.asarray(X), cupy.asarray(W))
    assert len(launch.kernels) == 2, "modules are loaded per device"


def test_misaligned_memory_is_refused(cupy) -> None:
    """A GPU would answer with an error that ends its whole context."""
    memory = np.zeros(X.nbytes + 1, "u1")
    x = cupy.wrap(memory[1:].view("f4").reshape(X.shape))
    with pytest.raises(DTypeError, match="x is not aligned to its items of 4 bytes"):
        fastconv.conv2d(x, cupy.asarray(W))


def test_explain(cupy) -> None:
    report = fastconv.explain(cupy.asarray(X), cupy.asarray(W))
    assert report.backend == "cuda"
    assert report.algorithm == "igemm_simt_float32_32x32"
    assert report.scratch_bytes == 0
    shapes = fastconv.explain((64, 64, 56, 56), (128, 64, 3, 3), backend="cuda")
    assert shapes.algorithm == "igemm_simt_float32_128x128"
    assert "cuda" in fastconv.available_backends()


# -- kernels are compiled once, and kept within bounds ---


def test_equal_calls_compile_once(host_cuda, cupy) -> None:
    for _ in range(3):
        fastconv.conv2d(cupy.asarray(X), cupy.asarray(W))
    assert len(host_cuda.gpu.compiled) == 1
    fastconv.conv2d(cupy.asarray(X), cupy.asarray(W), activation="relu")
    assert len(host_cuda.gpu.compiled) == 2


def test_threads_compile_once(host_cuda, cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, release = threading.Event(), threading.Event()
    compile_kernel = host_cuda.gpu.compile_kernel

    def slow(*arguments):
        entered.set()
        assert release.wait(30)
        return compile_kernel(*arguments)

    monkeypatch.setattr(compiler, "compile_kernel", slow)
    results: list[np.ndarray] = []

    def convolve() -> None:
        results.append(fastconv.conv2d(cupy.asarray(X), cupy.asarray(W)).get())

    workers = [threading.Thread(target=convolve) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert entered.wait(30)
    release.set()
    for worker in workers:
        worker.join(30)
    assert len(results) == 4
    assert all((y == WANT).all() for y in results)
    assert len(host_cuda.gpu.compiled) == 1


def test_the_least_recently_used_kernel_is_dropped(
    host_cuda, cupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "kernels", launch.KernelCache(capacity=2))
    x, w = cupy.asarray(X), cupy.asarray(W)
    for activation in (None, "relu", None, "relu6"):  # drops relu
        assert host_cuda.gpu.synchronized == []
        fastconv.conv2d(x, w, activation=activation)
    assert host_cuda.gpu.synchronized == [0], "before relu is unloaded, and only then"
    assert len(launch.kernels) == 2
    assert len(host_cuda.gpu.compiled) == 3
    fastconv.conv2d(x, w)
    assert len(host_cuda.gpu.compiled) == 3
    fastconv.conv2d(x, w, activation="relu")
    assert len(host_cuda.gpu.compiled) == 4


def test_a_failed_compilation_is_tried_again(host_cuda, cupy, monkeypatch) -> None:
    def broken(*arguments):
        raise compiler.CompileError("no")

    with monkeypatch.context() as patch:
        patch.setattr(compiler, "compile_kernel", broken)
        with pytest.raises(compiler.CompileError):
            fastconv.conv2d(cupy.asarray(X), cupy.asarray(W))
    np.testing.assert_array_equal(fastconv.conv2d(cupy.asarray(X), cupy.asarray(W)).get(), WANT)


# -- why the backend cannot be used ---


def test_available(host_cuda) -> None:
    assert cuda.available() is None


def test_no_gpu(host_cuda, cupy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver: too old")

    host_cuda.gpu.devices = 0
    assert "reports no device" in str(cuda.available())
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", refuse)
    assert "cudaErrorInsufficientDriver: too old" in str(cuda.available())
    with pytest.raises(BackendUnavailable, match=r"no backend for CuPy arrays.*too old"):
        fastconv.conv2d(cupy.asarray(X), cupy.asarray(W))


def test_a_gpu_the_compiler_does_not_know(host_cuda) -> None:
    host_cuda.gpu.capability = "35"
    assert "does not know GPU 0 (compute capability 3.5)" in str(cuda.available())


def test_no_cuda_bindings(host_cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    reason = str(cuda.available())
    assert "cuda-bindings" in reason
    assert "pip install 'fastconv[cuda13x]'" in reason


def test_no_nvrtc(host_cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import nvrtc

    def unloadable():
        raise RuntimeError("libnvrtc.so.13 not found")

    monkeypatch.setattr(nvrtc, "nvrtcVersion", unloadable)
    reason = str(cuda.available())
    assert "libnvrtc.so.13 not found" in reason
    assert "pip install nvidia-cuda-nvrtc" in reason


@pytest.mark.parametrize("broken", [True, False])
def test_no_cupy(broken: bool) -> None:
    """In a process of its own; importing the backend imports neither CuPy nor NVRTC."""
    error = "ImportError('libcudart: no')" if broken else "ModuleNotFoundError(name='cupy')"
    program = f"""
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "cupy":
            raise {error}
sys.meta_path.insert(0, Refuse())
import fastconv, numpy
from fastconv.backends import cuda
fastconv.conv2d(numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 2, 2)), backend="reference")
assert not any(name.split(".")[0] in ("cupy", "cuda") for name in sys.modules)
try:
    fastconv.conv2d(numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 2, 2)), backend="cuda")
except fastconv.BackendUnavailable as error:
    print(error)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "move them with cupy.asarray" in answer.stdout
    assert ("libcudart: no" if broken else "pip install 'fastconv[cuda13x]'") in answer.stdout


def test_inputs_are_not_written_to(host_cuda) -> None:
    case = Case((1, 3, 5, 6), (4, 3, 2, 2), bias=True)
    arrays = draw(case, "normal")
    for array in arrays:
        array.flags.writeable = False
    host_cuda(*arrays[:2], bias=arrays.bias, out=np.empty((1, 4, 4, 5), "f4"))
