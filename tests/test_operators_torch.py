"""Operators and gradients against PyTorch in float64: random legal problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.operators import OperatorCase, cases
from support.oracles import oracle

import fastconv

torch = oracle("torch")
functional = torch.nn.functional
torch.set_num_threads(1)

Array = np.ndarray[Any, Any]


def close(got: Array, want: Any, what: object) -> None:
    """Equal to rounding of float64 sums of a few thousand products of N(0, 1)."""
    want = want.detach().numpy()
    assert got.shape == want.shape, what
    assert np.abs(got - want).max(initial=0) <= 1e-10, what


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
    x, w = (
        torch.tensor(np.array(a), requires_grad=True)
        for a in (case.images(operands.x), case.kernels(operands.w))
    )
    convolve = getattr(functional, f"conv{case.spatial}d")
    y = convolve(padded(case, x), w, None, case.stride, 0, case.dilation, case.groups)
    y.backward(torch.tensor(np.array(case.images(operands.gy))))
    for result, want in (("y", y), ("x", x.grad), ("w", w.grad)):
        got = case.compute(result, operands, backend=fast_backend)
        view = case.kernels(got) if result == "w" else case.images(got)
        close(view, want, f"{case}, {result}")


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
    image = case.images(operands.gy)
    x, w, bias = (
        torch.tensor(np.array(a), requires_grad=True)
        for a in (image, operands.w, np.arange(case.problem().c, dtype="f8"))
    )
    transposed = getattr(functional, f"conv_transpose{case.spatial}d")
    try:
        y = transposed(x, w, bias, case.stride, pads, extra, case.groups, case.dilation)
    except RuntimeError:
        assume(False)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(torch.tensor(gy))
    options = {
        "stride": case.stride, "pad": pads, "output_padding": extra, "dilation": case.dilation,
        "groups": case.groups, "layout": case.layout, "backend": fast_backend,
    }  # fmt: skip
    name = f"conv_transpose{case.spatial}d"
    held = operands.gy if operands.gy.ndim == case.spatial + 2 else operands.gy[None]
    turned = np.moveaxis(gy, 1, -1) if case.last else gy
    got = getattr(fastconv, name)(held, operands.w, bias=bias.detach().numpy(), **options)
    close(case.images(got), y, case)
    got = getattr(fastconv, name + "_input_grad")(held.shape, operands.w, turned, **options)
    close(case.images(got), x.grad, f"{case}, input gradient")
    got = getattr(fastconv, name + "_weight_grad")(held, operands.w.shape, turned, **options)
    close(got, w.grad, f"{case}, weight gradient")
    got = getattr(fastconv, f"conv{case.spatial}d_bias_grad")(turned, layout=case.layout)
    close(got, bias.grad, f"{case}, bias gradient")


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu"])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_all_gradients_at_once_through_the_activation(spatial: int, activation: str | None) -> None:
    rng = np.random.default_rng(spatial)
    image = (9, 8, 7)[:spatial]
    x, w, bias = (
        torch.tensor(rng.standard_normal(shape), requires_grad=True)
        for shape in ((2, 4, *image), (6, 2, *(3,) * spatial), (6,))
    )
    y = getattr(functional, f"conv{spatial}d")(x, w, bias, 2, 1, 1, 2)
    if activation is not None:
        y = getattr(functional, activation)(y)
    gy = rng.standard_normal(y.shape)
    y.backward(torch.tensor(gy))
    found = getattr(fastconv, f"conv{spatial}d_grads")(
        x.detach().numpy(), w.detach().numpy(), gy, 2, 1, groups=2, bias=bias.detach().numpy(),
        activation=activation,
    )  # fmt: skip
    for got, want, name in zip(found, (x.grad, w.grad, bias.grad), found._fields, strict=True):
        close(got, want, name)
    some = getattr(fastconv, f"conv{spatial}d_grads")(
        x.detach().numpy(), w.detach().numpy(), gy, 2, 1, groups=2, wanted=["w"]
    )
    assert some.x is None
    assert some.bias is None
    assert some.w.shape == w.shape
