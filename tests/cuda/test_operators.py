"""The operator family on CuPy arrays: the lowered operators on the stand-in and the host model."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_support import operators
from cuda_support.operators import CASES, CHECKS, DTYPES, RESULTS, OnDevice
from support.operators import OperatorCase

import fastconv


@pytest.fixture
def through(host_cuda) -> OnDevice:
    """Call operators with arrays of the stand-in."""
    return OnDevice(host_cuda.cupy.wrap)


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_and_gradients(
    host_cuda, through: OnDevice, case: OperatorCase, result: str
) -> None:
    operators.judge(through, case, result)
    assert host_cuda.gpu.launches, "nothing ran on the GPU"


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_dtypes(through: OnDevice, dtype: str, result: str) -> None:
    for case in (CASES[2], CASES[5], CASES[10]):
        operators.judge(through, case.with_(dtype=dtype), result)


@pytest.mark.parametrize("check", CHECKS)
def test_other_operators(host_cuda, through: OnDevice, check: str) -> None:
    CHECKS[check](through)
    assert bool(host_cuda.gpu.launches) == (check != "patches")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transposed_convolutions_keep_the_bound(through: OnDevice, dtype: str) -> None:
    operators.bound_of_transposed(through, dtype)


def test_a_device_that_is_not_current(host_cuda) -> None:
    """Arrays stay on their device, and what is made between them is made there."""
    gpu, cupy = host_cuda.gpu, host_cuda.cupy
    gpu.devices = 2
    x, w = np.ones((1, 2, 4, 5, 3), "f4"), np.ones((3, 2, 2, 2, 2), "f4")
    with cupy.cuda.Device(1):
        held = [cupy.asarray(a) for a in (x, w)]
        gy = cupy.asarray(np.ones((1, 3, 3, 4, 2), "f4"))
    for name, given in (
        ("conv3d", held), ("conv3d_input_grad", (x.shape, held[1], gy)),
        ("conv3d_weight_grad", (held[0], w.shape, gy)),
    ):  # fmt: skip
        got = getattr(fastconv, name)(*given)
        assert got.device.id == 1
        assert gpu.current == 0
    assert {launched.device for launched in gpu.launches} == {1}


def test_what_no_kernel_computes(through: OnDevice) -> None:
    shapes = (1, 2, 4, 4), (3, 2, 3, 3), (1, 18, 2, 2)
    with pytest.raises(fastconv.BackendUnsupported, match="no deformable convolution"):
        through("deform_conv2d")(*(np.ones(shape, "f4") for shape in shapes))


def test_plans(host_cuda) -> None:
    """Weights stay on the GPU between calls."""
    wrap = host_cuda.cupy.wrap
    rng = np.random.default_rng(0)
    x, w = rng.integers(-5, 6, (2, 3, 9)).astype("f4"), rng.integers(-5, 6, (4, 3, 3)).astype("f4")
    plan = fastconv.conv1d.plan(x.shape, wrap(w), pad=1)
    want = fastconv.conv1d(x, w, pad=1)
    for _ in range(2):
        np.testing.assert_array_equal(plan(wrap(x)).get(), want)
    gx = fastconv.conv1d_input_grad.plan(x.shape, wrap(w), want.shape, pad=1)
    want_gx = fastconv.conv1d_input_grad(x.shape, w, want, pad=1)
    np.testing.assert_array_equal(gx(wrap(want)).get(), want_gx)


def test_a_planted_bug_is_noticed(through: OnDevice) -> None:
    """Weights without their last tap turn the judge red."""
    case = CASES[2]
    operands = case.draw(exact=True)
    wrong = operands.w.copy()
    wrong[..., -1, -1] = 0

    def careless(name: str):
        honest = through(name)

        def call(*given, **options):
            swapped = [wrong if a is operands.w else a for a in given]
            return honest(*swapped, **options)

        return call

    for result in ("y", "x"):
        with pytest.raises(AssertionError, match="times the bound"):
            case.judge(result, operands, through=careless, backend="cuda")
