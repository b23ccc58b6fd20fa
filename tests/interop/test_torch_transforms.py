"""The functions of `fastconv.interop.torch` differentiated and mapped, in any order."""

from __future__ import annotations

from typing import Any

import pytest
from support.torch_cases import (
    BY_NAME,
    CASES,
    WARNINGS,
    Ways,
    assert_equal,
    fct,
    functional,
    functions,
    numbers,
    operands,
    operator_calls,
    torch,
)

pytestmark = WARNINGS


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


@BY_NAME
def test_derivatives_of_the_operators(case: Any) -> None:
    """Those registered with the dispatcher, of all three, and of their own derivatives."""
    for op, args in operator_calls(case):
        tensors = [i for i, arg in enumerate(args) if isinstance(arg, torch.Tensor)]

        def call(*given: Any, op: Any = op, args: Any = args, places: Any = tensors) -> Any:
            filled = list(args)
            for place, tensor in zip(places, given, strict=True):
                filled[place] = tensor
            return op(*filled)

        given = [args[i] for i in tensors]
        assert torch.autograd.gradcheck(call, given, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


@BY_NAME
def test_batched_gradients(case: Any) -> None:
    tensors = operands(case, grad=True)
    assert torch.autograd.gradcheck(
        functions(case)[0], tensors, check_batched_grad=True, check_forward_ad=True,
        check_batched_forward_grad=True, fast_mode=True,
    )  # fmt: skip


@BY_NAME
@pytest.mark.parametrize("mapped", range(1, 8))
def test_vmap(ways: Ways, case: Any, mapped: int) -> None:
    """Every choice of mapped operands, and the gradients of what is mapped."""
    ours, own = functions(case)
    plain = operands(case)
    in_dims, tensors = [], []
    for bit, tensor in enumerate(plain):
        if mapped >> bit & 1:
            dim = min(bit, tensor.ndim)
            tensor = numbers(*tensor.shape[:dim], 3, *tensor.shape[dim:], dtype=tensor.dtype)
            in_dims.append(dim)
        else:
            in_dims.append(None)
        tensors.append(tensor)
    if not any(dim is not None for dim in in_dims):
        pytest.skip("there is no bias to map")
    assert_equal(
        torch.vmap(ours, tuple(in_dims))(*tensors), torch.vmap(own, tuple(in_dims))(*tensors)
    )
    assert ways.names == ["forward"]

    def grads(function: Any) -> Any:
        total = torch.func.grad(lambda *a: function(*a).square().sum(), tuple(range(len(tensors))))
        return torch.vmap(total, tuple(in_dims))(*tensors)

    ways.names.clear()
    for value, want in zip(grads(ours), grads(own), strict=True):
        assert_equal(value, want)
    assert sorted(ways.names) == ["forward", "input_grad", "weight_grad"]


@BY_NAME
def test_mapped_derivatives_of_gradients(ways: Ways, case: Any) -> None:
    """Hessians: forward over backward, mapped."""
    ours, own = functions(case)
    x, *others = operands(case)
    small = [t[:, :, :1] if t.ndim > 1 and case[0].startswith("conv_t") else t for t in (x,)]

    def hessian(function: Any) -> Any:
        return torch.func.hessian(lambda w: function(small[0], w, *others[1:]).pow(3).sum())(
            others[0]
        )

    assert_equal(hessian(ours), hessian(own))
    assert {"forward", "weight_grad"} <= set(ways.names)


@BY_NAME
def test_forward_mode(case: Any) -> None:
    ours, own = functions(case)
    tensors = tuple(operands(case))
    tangents = tuple(numbers(*t.shape, dtype=t.dtype) for t in tensors)
    for value, want in zip(
        torch.func.jvp(ours, tensors, tangents), torch.func.jvp(own, tensors, tangents), strict=True
    ):
        assert_equal(value, want)


def test_the_operators_are_mapped_as_well(ways: Ways) -> None:
    (op, (x, w, bias, *attributes)), *_ = operator_calls(CASES[1])
    several = torch.stack([w, 2 * w, -w]).detach()
    ways.names.clear()
    got = torch.vmap(lambda w: op(x.detach(), w, bias.detach(), *attributes))(several)
    assert ways.names == ["forward"]
    for value, weights in zip(got, several, strict=True):
        assert_equal(value, op(x, weights, bias, *attributes))


def test_a_tensor_that_outlived_its_transformation(ways: Ways) -> None:
    """What `torch.func` wrapped stays wrapped, about a level that is gone."""
    kept = []

    def function(w: Any) -> Any:
        kept.append(w)
        return w.sum()

    x, w = numbers(1, 2, 5, 5, grad=True), numbers(3, 2, 2, 2)
    torch.func.grad(function)(w)
    y = fct.conv2d(x, kept[0])
    assert_equal(y, functional.conv2d(x, w))
    (gx,) = torch.autograd.grad(y.sum(), [x])
    assert_equal(gx, torch.autograd.grad(functional.conv2d(x, w).sum(), [x])[0])
    assert ways.names == ["forward", "input_grad"]
