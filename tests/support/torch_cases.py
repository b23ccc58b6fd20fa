"""Convolutions of tensors as tests of `fastconv.interop.torch` take them, and who computed them."""

from __future__ import annotations

from typing import Any

import pytest

from .oracles import oracle

torch = oracle("torch")
fct = oracle("fastconv.interop.torch")
torch.set_num_threads(1)
functional = torch.nn.functional

from fastconv.interop.torch import compute, geometry  # noqa: E402

#: Name, input, weight, bias, options.
CASES = [
    ("conv1d", (2, 4, 9), (6, 2, 3), (6,), {"stride": 2, "padding": 1, "groups": 2}),
    ("conv2d", (2, 3, 7, 8), (4, 3, 3, 2), (4,), {"padding": "same"}),
    ("conv2d", (2, 4, 7, 8), (4, 1, 3, 3), None, {"stride": (2, 1), "dilation": 2, "groups": 4}),
    ("conv3d", (1, 2, 5, 4, 6), (3, 2, 2, 3, 2), (3,), {"padding": (1, 0, 1)}),
    ("conv_transpose1d", (2, 4, 5), (4, 3, 3), (6,), {"stride": 2, "groups": 2}),
    ("conv_transpose2d", (2, 3, 4, 5), (3, 2, 3, 3), (2,),
     {"stride": 2, "padding": 1, "output_padding": 1}),
    ("conv_transpose3d", (1, 2, 3, 2, 3), (2, 3, 2, 2, 2), None, {"dilation": (1, 2, 1)}),
]  # fmt: skip
BY_NAME = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")


#: What PyTorch says of its own while it traces or pads.
WARNINGS = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.:FutureWarning"),
]


def numbers(*shape: int, dtype: Any = torch.float32, grad: bool = False) -> Any:
    """Small integers: sums of their products are exact, whatever their order."""
    return torch.randint(-3, 4, shape).to(dtype).requires_grad_(grad)


def assert_equal(got: Any, want: Any) -> None:
    """Of numbers whose sums are exact: every bit, dtype and shape."""
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def operands(case: Any, dtype: Any = None, grad: bool = False) -> list[Any]:
    torch.manual_seed(1)
    return [
        numbers(*shape, dtype=dtype or torch.float64, grad=grad)
        for shape in case[1:4] if shape is not None
    ]  # fmt: skip


def functions(case: Any) -> tuple[Any, Any]:
    """Ours and PyTorch's own, of tensors alone."""
    ours, own = getattr(fct, case[0]), getattr(functional, case[0])
    return (lambda *tensors: ours(*tensors, **case[4]), lambda *tensors: own(*tensors, **case[4]))


class Ways:
    """Which of fastconv's results were computed, and where else a call could have gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        for name in ("forward", "input_grad", "weight_grad"):
            monkeypatch.setattr(compute, name, self._counted(name, getattr(compute, name)))

    def _counted(self, name: str, function: Any) -> Any:
        def counted(*args: Any) -> Any:
            self.names.append(name)
            return function(*args)

        return counted


def operator_calls(case: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """The three custom operators with arguments of their own."""
    x, w, *bias = operands(case, grad=True)
    name, usual = case[0], {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    options = {**usual, "groups": 1, **case[4]}
    g, _ = geometry.prepare(
        int(name[-2]), "transpose" in name, x.shape, w.shape, None, (x.dtype, w.dtype, None),
        *(options[o] for o in ("stride", "padding", "dilation", "output_padding", "groups")),
    )  # fmt: skip
    gy = numbers(*g.y_shape, dtype=x.dtype, grad=True)
    attributes = [list(a) if isinstance(a, tuple) else a for a in g.attributes]
    ops = torch.ops.fastconv
    return [
        (ops.convolution.default, (x, w, bias[0] if bias else None, *attributes)),
        (ops.convolution_input_grad.default, (list(x.shape), w, gy, *attributes)),
        (ops.convolution_weight_grad.default, (x, list(w.shape), gy, *attributes)),
    ]
