"""Operators and gradients against PyTorch in float64: random legal problems."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.operators import OperatorCase, cases
from support.oracles import oracle

import fastconv
from fastconv import accuracy

torch = oracle("torch")
functional = torch.nn.functional
torch.set_num_threads(1)

Array = np.ndarray[Any, Any]


def close(got: Array, want: Any, scale: Any, terms: int, what: object) -> None:
    """Equal but for the rounding of both: each is within n*u/(1-n*u) times its S of the exact sum.

    `scale` is S, the same sums of magnitudes; n is `terms`.
    """
    want, scale = (tensor.detach().numpy() for tensor in (want, scale))
    assert got.shape == want.shape, what
    gamma = terms * accuracy.unit_roundoff("float64")
    # S is rounded as well
    bound = 2 * gamma / (1 - gamma) * (1 + 2 * gamma) * scale + terms * 2.0**-1074
    excess = np.abs(got - want) - bound
    assert (excess <= 0).all(), f"{what}: beyond the bound by {excess.max()}"


def magnitudes(*arrays: Array) -> list[Any]:
    """Absolute values as tensors whose gradients are wanted."""
    return [torch.tensor(np.abs(array), requires_grad=True) for array in arrays]


def padded(case: OperatorCase, x: Any) -> Any:
    """Pad a tensor (N, C, ...) as the case asks; PyTorch's own convolution pads evenly alone."""
    pads = [number for pad in reversed(case.pad) for number in pad]
    if case.pad_mode == "constant":
        return functional.pad(x, pads)
    indices = [
        np.pad(np.arange(size), pad, mode=case.pad_mode)
        for size, pad in zip(x.shape[2:], case.pad, strict=True)
    ]
    for axis, index in enumerate(indices):
        x = x.index_select(axis + 2, torch.tensor(index))
    return x


@given(case=cases(("float64",)))
def test_convolutions_and_gradients(fast_backend: str, case: OperatorCase) -> None:
    operands = case.draw()
    arrays = case.images(operands.x), case.kernels(operands.w)
    convolve = getattr(functional, f"conv{case.spatial}d")
    found = []
    for sign in (np.array, np.abs):
        x, w = (torch.tensor(sign(a), requires_grad=True) for a in arrays)
        y = convolve(padded(case, x), w, None, case.stride, 0, case.dilation, case.groups)
        y.backward(torch.tensor(sign(case.images(operands.gy))))
        found.append((y, x.grad, w.grad))
    for result, want, scale in zip("yxw", *found, strict=True):
        got = case.compute(result, operands, backend=fast_backend)
        view = case.kernels(got) if result == "w" else case.images(got)
        close(view, want, scale, case.problem(result).reduction, f"{case}, {result}")


@given(case=cases(("float64",), modes=["constant"]), data=st.data())
def test_transposed_convolutions_and_their_gradients(
    fast_backend: str, case: OperatorCase, data: st.DataObject
) -> None:
    """The case's gy is the input, its w the weights."""
    case = case.with_(flip=False)
    extra = tuple(
        data.draw(st.integers(0, max(step, spread) - 1))
        for step, spread in zip(case.stride, case.dilation, strict=True)
    )
    pads = tuple(pad[0] for pad in case.pad)
    operands = case.draw()
    arrays = case.images(operands.gy), operands.w, np.arange(case.problem().c, dtype="f8")
    transposed = getattr(functional, f"conv_transpose{case.spatial}d")
    found, bias = [], arrays[2]
    for sign in (np.array, np.abs):
        x, w, b = (torch.tensor(sign(a), requires_grad=True) for a in arrays)
        try:
            y = transposed(x, w, b, case.stride, pads, extra, case.groups, case.dilation)
        except RuntimeError:
            assume(False)
        gy = np.random.default_rng(1).standard_normal(y.shape)
        y.backward(torch.tensor(sign(gy)))
        found.append((y, x.grad, w.grad, b.grad))
    (y, gx, gw, gb), scales = found
    k, taps = case.problem().k // case.groups, case.problem().taps
    pixels = math.prod(y.shape) // y.shape[1]
    n, _, *sizes = arrays[0].shape
    terms = k * taps + 1, case.w[1] * taps, n * math.prod(sizes), pixels
    options = {
        "stride": case.stride, "pad": pads, "output_padding": extra, "dilation": case.dilation,
        "groups": case.groups, "layout": case.layout, "backend": fast_backend,
    }  # fmt: skip
    name = f"conv_transpose{case.spatial}d"
    held = operands.gy if operands.gy.ndim == case.spatial + 2 else operands.gy[None]
    turned = np.moveaxis(gy, 1, -1) if case.last else gy
    got = getattr(fastconv, name)(held, operands.w, bias=bias, **options)
    close(case.images(got), y, scales[0], terms[0], case)
    got = getattr(fastconv, name + "_input_grad")(held.shape, operands.w, turned, **options)
    close(case.images(got), gx, scales[1], terms[1], f"{case}, input gradient")
    got = getattr(fastconv, name + "_weight_grad")(held, operands.w.shape, turned, **options)
    close(got, gw, scales[2], terms[2], f"{case}, weight gradient")
    got = getattr(fastconv, f"conv{case.spatial}d_bias_grad")(turned, layout=case.layout)
    close(got, gb, scales[3], terms[3], f"{case}, bias gradient")


#: Activations, and the largest magnitude of their derivatives.
SLOPES = {None: 1, "relu": 1, "leaky_relu": 1, "sigmoid": 0.25, "tanh": 1, "gelu": 1.13}


@pytest.mark.parametrize("activation", SLOPES)
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_all_gradients_at_once_through_the_activation(spatial: int, activation: str | None) -> None:
    rng = np.random.default_rng(spatial)
    image = (9, 8, 7)[:spatial]
    arrays = [rng.standard_normal(s) for s in ((2, 4, *image), (6, 2, *(3,) * spatial), (6,))]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    convolve = getattr(functional, f"conv{spatial}d")
    y = convolve(*tensors, 2, 1, 1, 2)
    if activation is not None:
        y = getattr(functional, activation)(y)
    gy = rng.standard_normal(y.shape)
    y.backward(torch.tensor(gy))
    x, w, bias = arrays
    found = getattr(fastconv, f"conv{spatial}d_grads")(
        x, w, gy, 2, 1, groups=2, bias=bias, activation=activation
    )
    # Where y errs by d, its slope errs by at most 2*d (no second derivative is larger), and by
    # 16 units of its own evaluation: as if gy did, of which the gradients are sums.
    sizes = magnitudes(x, w, bias)
    size = convolve(*sizes, 2, 1, 1, 2)
    wrong = SLOPES[activation] + (0 if activation is None else 2 * size.detach().numpy() + 16)
    size.backward(torch.tensor(np.abs(gy) * wrong))
    for got, of, scale, name in zip(found, tensors, sizes, found._fields, strict=True):
        close(got, of.grad, scale.grad, 3 * gy.size, name)
    some = getattr(fastconv, f"conv{spatial}d_grads")(x, w, gy, 2, 1, groups=2, wanted=["w"])
    assert some.x is None
    assert some.bias is None
    assert some.w.shape == w.shape


def gaussian(rng: np.random.Generator, *shape: int) -> Array:
    """Complex numbers of small integers, whose sums are exact."""
    return rng.integers(-9, 9, shape) + 1j * rng.integers(-9, 9, shape)


@settings(max_examples=max(10, settings.default.max_examples // 3))
@given(case=cases(("float64",)), seed=st.integers(0, 99))
def test_complex_numbers(fast_backend: str, case: OperatorCase, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, gy = gaussian(rng, *case.x), gaussian(rng, *case.w), gaussian(rng, *case.y)
    tensors = [
        torch.tensor(np.array(a), requires_grad=True) for a in (case.images(x), case.kernels(w))
    ]
    convolve = getattr(functional, f"conv{case.spatial}d")
    image = padded(case, tensors[0])
    want = convolve(image, tensors[1], None, case.stride, 0, case.dilation, case.groups)
    want.backward(torch.tensor(np.array(case.images(gy))))
    name = f"conv{case.spatial}d"
    options = {**case.options, "backend": fast_backend}
    y = getattr(fastconv, name)(x, w, **options)
    np.testing.assert_array_equal(case.images(y), want.detach().numpy())
    gx = getattr(fastconv, name + "_input_grad")(x.shape, w, gy, **options)
    np.testing.assert_array_equal(case.images(gx), tensors[0].grad.numpy())
    gw = getattr(fastconv, name + "_weight_grad")(x, w.shape, gy, **options)
    np.testing.assert_array_equal(case.kernels(gw), tensors[1].grad.numpy())


@settings(max_examples=max(10, settings.default.max_examples // 3))
@given(case=cases(("float64",)), seed=st.integers(0, 99))
def test_kernels_of_each_image(fast_backend: str, case: OperatorCase, seed: int) -> None:
    """Per-sample convolutions and gradients: one convolution of PyTorch's for each image."""
    assume(case.spatial == 2 and len(case.x) == 4)
    rng = np.random.default_rng(seed)
    n = case.x[0]
    x, w, gy = (rng.integers(-9, 9, shape).astype("f8") for shape in (case.x, (n, *case.w), case.y))
    options = {**case.options, "backend": fast_backend}
    y = fastconv.conv2d_per_sample(x, w, **options)
    gx = fastconv.conv2d_per_sample_input_grad(x.shape, w, gy, **options)
    gw = fastconv.conv2d_per_sample_weight_grad(x, w.shape, gy, **options)
    for i in range(n):
        image, kernels, out = (
            torch.tensor(np.array(a), requires_grad=True)
            for a in (case.images(x)[i : i + 1], case.kernels(w[i]), case.images(gy)[i : i + 1])
        )
        want = functional.conv2d(
            padded(case, image), kernels, None, case.stride, 0, case.dilation, case.groups
        )
        want.backward(out.detach())
        np.testing.assert_array_equal(case.images(y)[i : i + 1], want.detach().numpy())
        np.testing.assert_array_equal(case.images(gx)[i : i + 1], image.grad.numpy())
        np.testing.assert_array_equal(case.kernels(gw[i]), kernels.grad.numpy())
