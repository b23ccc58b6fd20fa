"""The functions of `fastconv.interop.torch` where PyTorch traces: operators of a graph."""

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
def test_opcheck(ways: Ways, case: Any) -> None:
    for op, args in operator_calls(case):
        found = torch.library.opcheck(op, args)
        assert set(found.values()) == {"SUCCESS"}
        assert len(found) >= 4
    assert {"forward", "input_grad", "weight_grad"} == set(ways.names)


#: Sizes that change make a second graph of any, or of symbols at once.
COMPILED = [(case, True) for case in CASES] + [(CASES[0], False), (CASES[5], False)]


@pytest.mark.parametrize(("case", "dynamic"), COMPILED, ids=str)
def test_compiled(ways: Ways, case: Any, dynamic: bool) -> None:
    """One graph, nothing of it left to Python; other sizes of the batch too."""
    torch._dynamo.reset()
    ours, own = functions(case)
    compiled = torch.compile(ours, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for count in (2, 5):
        x, *others = operands(case, grad=True)
        x = torch.cat([x.detach()] * count).requires_grad_()
        ways.names.clear()
        got, want = compiled(x, *others), own(x, *others)
        assert_equal(got, want)
        grads = torch.autograd.grad(got.square().sum(), [x, *others])
        assert sorted(ways.names) == ["forward", "input_grad", "weight_grad"]
        for value, expected in zip(
            grads, torch.autograd.grad(want.square().sum(), [x, *others]), strict=True
        ):
            assert_equal(value, expected)


def test_compiled_by_inductor(ways: Ways) -> None:
    torch._dynamo.reset()
    x, w = numbers(2, 3, 8, 8), numbers(4, 3, 3, 3, grad=True)
    x = x.to(memory_format=torch.channels_last)

    def network(x: Any, w: Any) -> Any:
        return fct.conv2d(x * 2, w, padding=1).relu() + 1

    got = torch.compile(network, fullgraph=True)(x, w)
    got.sum().backward()
    assert ways.names == ["forward", "weight_grad"]
    assert_equal(got, functional.conv2d(x * 2, w, padding=1).relu() + 1)


@BY_NAME
def test_exported(ways: Ways, case: Any) -> None:
    ours, own = functions(case)

    class Network(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            return ours(*tensors)

    tensors = operands(case)
    program = torch.export.export(Network(), tuple(tensors))
    assert "fastconv.convolution" in str(program.graph)
    ways.names.clear()
    assert_equal(program.module()(*tensors), own(*tensors))
    assert ways.names == ["forward"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced(ways: Ways) -> None:
    """A tracer records the operator, not its result."""
    x, w = numbers(1, 2, 5, 5), numbers(3, 2, 2, 2)
    traced = torch.jit.trace(lambda x: fct.conv2d(x, w), (x,))
    ways.names.clear()
    assert_equal(traced(2 * x), functional.conv2d(2 * x, w))
    assert ways.names == ["forward"]


def test_a_dispatch_mode_sees_the_operator() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Mode():
        fct.conv2d(numbers(1, 2, 5, 5), numbers(3, 2, 2, 2))
    assert "fastconv.convolution.default" in seen


def test_fake_and_meta_tensors(ways: Ways) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        y = fct.conv2d(numbers(1, 2, 5, 5), numbers(3, 2, 2, 2), stride=2)
        assert y.shape == (1, 3, 2, 2)
    y = fct.conv_transpose1d(torch.randn(2, 5, device="meta"), torch.ones(2, 3, 2).to("meta"))
    assert y.is_meta
    assert y.shape == (3, 6)
    assert ways.names == []
