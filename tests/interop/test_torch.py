"""The functions of `fastconv.interop.torch` as PyTorch uses its own: traced, mapped, compiled."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from support.oracles import oracle

torch = oracle("torch")
fct = oracle("fastconv.interop.torch")
torch.set_num_threads(1)
functional = torch.nn.functional

import fastconv  # noqa: E402
from fastconv.interop.torch import compute, geometry  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.:FutureWarning"),
]

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


def operands(case: Any, dtype: Any = None, grad: bool = False) -> list[Any]:
    torch.manual_seed(1)
    return [
        torch.randn(shape, dtype=dtype or torch.float64).requires_grad_(grad)
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


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


def operator_calls(case: Any) -> list[tuple[Any, tuple[Any, ...]]]:
    """The three custom operators with arguments of their own."""
    x, w, *bias = operands(case, grad=True)
    name, usual = case[0], {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    options = {**usual, "groups": 1, **case[4]}
    g, _ = geometry.prepare(
        int(name[-2]), "transpose" in name, x.shape, w.shape, None, (x.dtype, w.dtype, None),
        *(options[o] for o in ("stride", "padding", "dilation", "output_padding", "groups")),
    )  # fmt: skip
    gy = torch.randn(g.y_shape, dtype=x.dtype, requires_grad=True)
    attributes = [list(a) if isinstance(a, tuple) else a for a in g.attributes]
    ops = torch.ops.fastconv
    return [
        (ops.convolution.default, (x, w, bias[0] if bias else None, *attributes)),
        (ops.convolution_input_grad.default, (list(x.shape), w, gy, *attributes)),
        (ops.convolution_weight_grad.default, (x, list(w.shape), gy, *attributes)),
    ]


@BY_NAME
def test_opcheck(ways: Ways, case: Any) -> None:
    for op, args in operator_calls(case):
        found = torch.library.opcheck(op, args)
        assert set(found.values()) == {"SUCCESS"}
        assert len(found) >= 4
    assert {"forward", "input_grad", "weight_grad"} == set(ways.names)


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


@pytest.mark.parametrize("dynamic", [False, True])
@BY_NAME
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
        torch.testing.assert_close(got, want)
        grads = torch.autograd.grad(got.square().sum(), [x, *others])
        assert sorted(ways.names) == ["forward", "input_grad", "weight_grad"]
        for value, expected in zip(
            grads, torch.autograd.grad(want.square().sum(), [x, *others]), strict=True
        ):
            torch.testing.assert_close(value, expected)


def test_compiled_by_inductor(ways: Ways) -> None:
    torch._dynamo.reset()
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    x = x.to(memory_format=torch.channels_last)

    def network(x: Any, w: Any) -> Any:
        return fct.conv2d(x * 2, w, padding=1).relu() + 1

    got = torch.compile(network, fullgraph=True)(x, w)
    got.sum().backward()
    assert ways.names == ["forward", "weight_grad"]
    torch.testing.assert_close(got, functional.conv2d(x * 2, w, padding=1).relu() + 1)


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
    torch.testing.assert_close(program.module()(*tensors), own(*tensors))
    assert ways.names == ["forward"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced(ways: Ways) -> None:
    """A tracer records the operator, not its result."""
    x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2)
    traced = torch.jit.trace(lambda x: fct.conv2d(x, w), (x,))
    ways.names.clear()
    torch.testing.assert_close(traced(2 * x), functional.conv2d(2 * x, w))
    assert ways.names == ["forward"]


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
            tensor = torch.randn(*tensor.shape[:dim], 3, *tensor.shape[dim:], dtype=tensor.dtype)
            in_dims.append(dim)
        else:
            in_dims.append(None)
        tensors.append(tensor)
    if not any(dim is not None for dim in in_dims):
        pytest.skip("there is no bias to map")
    torch.testing.assert_close(
        torch.vmap(ours, tuple(in_dims))(*tensors), torch.vmap(own, tuple(in_dims))(*tensors)
    )
    assert ways.names == ["forward"]

    def grads(function: Any) -> Any:
        total = torch.func.grad(lambda *a: function(*a).square().sum(), tuple(range(len(tensors))))
        return torch.vmap(total, tuple(in_dims))(*tensors)

    ways.names.clear()
    for value, want in zip(grads(ours), grads(own), strict=True):
        torch.testing.assert_close(value, want)
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

    torch.testing.assert_close(hessian(ours), hessian(own))
    assert {"forward", "weight_grad"} <= set(ways.names)


@BY_NAME
def test_forward_mode(case: Any) -> None:
    ours, own = functions(case)
    tensors = tuple(operands(case))
    tangents = tuple(torch.randn_like(t) for t in tensors)
    for value, want in zip(
        torch.func.jvp(ours, tensors, tangents), torch.func.jvp(own, tensors, tangents), strict=True
    ):
        torch.testing.assert_close(value, want)


def test_the_operators_are_mapped_as_well(ways: Ways) -> None:
    (op, (x, w, bias, *attributes)), *_ = operator_calls(CASES[1])
    several = torch.stack([w, 2 * w, -w]).detach()
    ways.names.clear()
    got = torch.vmap(lambda w: op(x.detach(), w, bias.detach(), *attributes))(several)
    assert ways.names == ["forward"]
    for value, weights in zip(got, several, strict=True):
        torch.testing.assert_close(value, op(x, weights, bias, *attributes))


class TestMemory:
    def test_no_tensor_is_copied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []

        def convolve(x: Any, w: Any, **options: Any) -> Any:
            seen.extend((x, w, options["bias"]))
            y = fastconv.conv2d(x, w, **options)
            seen.append(y)
            return y

        monkeypatch.setitem(compute._FORWARD, (2, False), convolve)
        for dtype in (torch.float32, torch.bfloat16, torch.complex64):
            for layout in (torch.contiguous_format, torch.channels_last):
                seen.clear()
                x = torch.randn(2, 3, 8, 8).to(dtype).to(memory_format=layout)[:, :, ::2, 1:]
                w, bias = torch.randn(4, 3, 3, 3).to(dtype), torch.randn(4).to(dtype)
                y = fct.conv2d(x, w, bias)
                places = [a.__array_interface__["data"][0] for a in seen]
                assert places == [t.data_ptr() for t in (x, w, bias, y)]

    def test_results_outlive_what_made_them(self) -> None:
        x, w = torch.randn(1, 64, 64, 64), torch.randn(64, 64, 1, 1)
        y = fct.conv2d(x, w)
        want = y.clone()
        for _ in range(3):
            gc.collect()
            fct.conv2d(torch.ones_like(x), w)
        assert torch.equal(y, want)

    @pytest.mark.parametrize("which", range(4))
    @pytest.mark.parametrize("name", ["conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d"])
    def test_memory_formats(self, name: str, which: int) -> None:
        """Channels last where the input or the weight is, of gradients as well; as traced."""
        volume = name.endswith("3d")
        layout = torch.channels_last_3d if volume else torch.channels_last
        image = (2, 4, 4, 6, 5) if volume else (2, 4, 6, 5)
        x, w = torch.randn(image), torch.randn(4, 4, *(3,) * (len(image) - 2))
        x = x.to(memory_format=layout) if which & 1 else x
        w = w.to(memory_format=layout) if which & 2 else w
        function, own = getattr(fct, name), getattr(functional, name)
        x, w = x.requires_grad_(), w.requires_grad_()
        y, want = function(x, w, padding=1), own(x, w, padding=1)
        torch.testing.assert_close(y, want)
        grads = torch.autograd.grad(y.square().sum(), [x, w])
        for value, expected in zip(
            grads, torch.autograd.grad(want.square().sum(), [x, w]), strict=True
        ):
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)
        for value in (y, *grads):
            assert value.is_contiguous(memory_format=layout) == bool(which)
            assert value.is_contiguous() != bool(which)
        again = torch.compile(function, fullgraph=True, backend="aot_eager")(x, w, padding=1)
        assert again.stride() == y.stride()

    def test_a_conjugate_is_read_as_one(self) -> None:
        x, w = (torch.randn(s, dtype=torch.complex128) for s in ((1, 2, 5, 5), (3, 2, 2, 2)))
        torch.testing.assert_close(
            fct.conv2d(x.conj(), w.mH.mH.conj()), functional.conv2d(x.conj(), w.conj())
        )
        torch.testing.assert_close(
            fct.conv2d(x.conj().imag, w.real), functional.conv2d(-x.imag.clone(), w.real)
        )


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_integers_are_added_up_modulo_their_size(ways: Ways, dtype: Any) -> None:
    info = torch.iinfo(dtype)
    x, w = (
        torch.randint(info.min, info.max, shape, dtype=dtype, generator=torch.manual_seed(3))
        for shape in ((2, 3, 6, 6), (4, 3, 3, 3))
    )
    y = fct.conv2d(x, w)
    assert y.dtype == dtype
    assert torch.equal(y, fct.conv2d(x.long(), w.long()).to(dtype))
    assert torch.equal(y, functional.conv2d(x, w))
    assert ways.names == ["forward"] * 2


class TestModes:
    def test_inference_mode(self, ways: Ways) -> None:
        x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2, requires_grad=True)
        with torch.inference_mode():
            y = fct.conv2d(x, w)
        assert y.is_inference()
        assert not y.requires_grad
        with torch.no_grad():
            assert not fct.conv2d(x, w).requires_grad
        assert fct.conv2d(x, w).requires_grad
        assert ways.names == ["forward"] * 3

    def test_autocast(self) -> None:
        x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, own = fct.conv2d(x, w), functional.conv2d(x, w)
            double = fct.conv2d(x.double(), w.double())
        assert y.dtype == own.dtype == torch.bfloat16
        assert double.dtype == torch.float64
        torch.testing.assert_close(y, own)
        y.sum().backward()
        assert w.grad.dtype == torch.float32

    def test_a_dispatch_mode_sees_the_operator(self) -> None:
        from torch.utils._python_dispatch import TorchDispatchMode

        seen = []

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
                seen.append(str(func))
                return func(*args, **(kwargs or {}))

        with Mode():
            fct.conv2d(torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2))
        assert "fastconv.convolution.default" in seen

    def test_fake_and_meta_tensors(self, ways: Ways) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            y = fct.conv2d(torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2), stride=2)
            assert y.shape == (1, 3, 2, 2)
        y = fct.conv_transpose1d(torch.randn(2, 5, device="meta"), torch.ones(2, 3, 2).to("meta"))
        assert y.is_meta
        assert y.shape == (3, 6)
        assert ways.names == []

    def test_options_of_fastconv_hold(self) -> None:
        x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2)
        with (
            fastconv.options(backend="cuda"),
            pytest.raises((fct.ConvolutionError, ImportError)) as caught,
        ):
            fct.conv2d(x, w)
        assert isinstance(caught.value, RuntimeError)


class TestErrors:
    """What PyTorch refuses is refused, by the same kind of error."""

    @pytest.mark.parametrize(
        ("name", "shapes", "options"),
        [
            ("conv2d", ((1, 2, 5, 5), (3, 3, 2, 2)), {}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2), (2,)), {}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 6, 2)), {}),
            ("conv2d", ((2, 5), (3, 2, 2, 2)), {}),
            ("conv2d", ((5, 5), (2, 2)), {}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"stride": 0}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"stride": (1, 1, 1)}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"stride": 1.5}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"stride": (1, "2")}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"groups": None}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"padding": "full"}),
            ("conv2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {"padding": "same", "stride": 2}),
            ("conv3d", ((1, 2, 5, 5), (3, 2, 2, 2)), {}),
            ("conv_transpose2d", ((1, 2, 5, 5), (3, 2, 2, 2)), {}),
            ("conv_transpose2d", ((1, 2, 5, 5), (2, 3, 2, 2)), {"output_padding": 1}),
            ("conv_transpose2d", ((1, 2, 5, 5), (2, 3, 2, 2)), {"output_padding": -1}),
            ("conv_transpose2d", ((1, 2, 1, 1), (2, 3, 2, 2)), {"padding": 1}),
            ("conv_transpose2d", ((1, 2, 5, 5), (2, 3, 2, 2)), {"padding": "same"}),
            ("conv_transpose1d", ((1, 2, 5), (2, 3, 2), (4,)), {}),
        ],
    )
    def test_shapes_and_numbers(self, name: str, shapes: Any, options: Any) -> None:
        tensors = [torch.ones(shape) for shape in shapes]
        with pytest.raises((RuntimeError, TypeError, ValueError)) as own:
            getattr(functional, name)(*tensors, **options)
        with pytest.raises((RuntimeError, TypeError)) as ours:
            getattr(fct, name)(*tensors, **options)
        assert isinstance(ours.value, own.type), (own.value, ours.value)

    @pytest.mark.parametrize("dtype", [torch.bool, torch.float8_e5m2])
    def test_dtypes(self, dtype: Any) -> None:
        x, w = torch.ones(1, 1, 4, 4).to(dtype), torch.ones(1, 1, 2, 2).to(dtype)
        for function in (functional.conv2d, fct.conv2d):
            with pytest.raises(RuntimeError, match=r"implemented|supported"):
                function(x, w)

    def test_layouts(self) -> None:
        w = torch.ones(1, 1, 2, 2)
        for x in (torch.ones(1, 1, 4, 4).to_sparse(), torch.ones(1, 1, 4, 4).to_mkldnn()):
            with pytest.raises(fct.ConvolutionError, match=r"dense CPU tensors.*\.to_dense"):
                fct.conv2d(x, w)

    def test_a_gradient_of_another_size(self) -> None:
        x, w = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
        attributes = ([1, 1], [0, 0, 0, 0], [1, 1], False, [0, 0], 1)
        with pytest.raises(RuntimeError, match="gradient of size"):
            torch.ops.fastconv.convolution_weight_grad(x, [1, 1, 2, 2], x, *attributes)
        with pytest.raises(RuntimeError, match="gradient of size"):
            torch.ops.fastconv.convolution_input_grad([1, 1, 4, 4], w, x, *attributes)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_no_images(name: str) -> None:
    """A batch of none is one, and has gradients of zero."""
    x = torch.ones(0, 2, 5, 5, requires_grad=True)
    w = torch.ones(2, 2, 2, 2, requires_grad=True)
    y = getattr(fct, name)(x, w)
    assert y.shape == getattr(functional, name)(x, w).shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert torch.equal(w.grad, torch.zeros_like(w))


def test_numbers_in_every_form() -> None:
    x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 2, 2)
    want = functional.conv2d(x, w, stride=2, padding=1)
    for two, one in ((2, 1), ([2, 2], [1]), ((2,), (1, 1)), (np.int64(2), torch.Size([1, 1]))):
        torch.testing.assert_close(fct.conv2d(x, w, stride=two, padding=one), want)
