"""The functions of `fastconv.interop.torch`, called: memory, dtypes, modes, errors."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from support.torch_cases import Ways, assert_equal, fct, functional, numbers, torch

import fastconv
from fastconv.interop.torch import compute


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


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
                x = numbers(2, 3, 8, 8).to(dtype).to(memory_format=layout)[:, :, ::2, 1:]
                w, bias = numbers(4, 3, 3, 3).to(dtype), numbers(4).to(dtype)
                y = fct.conv2d(x, w, bias)
                places = [a.__array_interface__["data"][0] for a in seen]
                assert places == [t.data_ptr() for t in (x, w, bias, y)]

    def test_results_outlive_what_made_them(self) -> None:
        x, w = numbers(1, 64, 64, 64), numbers(64, 64, 1, 1)
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
        x, w = numbers(*image), numbers(4, 4, *(3,) * (len(image) - 2))
        x = x.to(memory_format=layout) if which & 1 else x
        w = w.to(memory_format=layout) if which & 2 else w
        function, own = getattr(fct, name), getattr(functional, name)
        x, w = x.requires_grad_(), w.requires_grad_()
        y, want = function(x, w, padding=1), own(x, w, padding=1)
        assert_equal(y, want)
        grads = torch.autograd.grad(y.square().sum(), [x, w])
        for value, expected in zip(
            grads, torch.autograd.grad(want.square().sum(), [x, w]), strict=True
        ):
            assert_equal(value, expected)
        for value in (y, *grads):
            assert value.is_contiguous(memory_format=layout) == bool(which)
            assert value.is_contiguous() != bool(which)
        again = torch.compile(function, fullgraph=True, backend="aot_eager")(x, w, padding=1)
        assert again.stride() == y.stride()

    def test_a_conjugate_is_read_as_one(self) -> None:
        x, w = (
            torch.complex(numbers(*s, dtype=torch.float64), numbers(*s, dtype=torch.float64))
            for s in ((1, 2, 5, 5), (3, 2, 2, 2))
        )
        assert_equal(fct.conv2d(x.conj(), w.mH.mH.conj()), functional.conv2d(x.conj(), w.conj()))
        assert_equal(fct.conv2d(x.conj().imag, w.real), functional.conv2d(-x.imag.clone(), w.real))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32], ids=str)
def test_integers_are_added_up_modulo_their_size(ways: Ways, dtype: Any, layout: Any) -> None:
    info, generator = torch.iinfo(dtype), torch.manual_seed(3)
    x, w, bias = (
        torch.randint(info.min, info.max, shape, dtype=dtype, generator=generator)
        for shape in ((2, 3, 6, 6), (4, 3, 3, 3), (4,))
    )
    x = x.to(memory_format=layout)
    y = fct.conv2d(x, w, bias)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    assert torch.equal(y, fct.conv2d(x.long(), w.long(), bias.long()).to(dtype))
    assert torch.equal(y, functional.conv2d(x, w, bias))
    assert ways.names == ["forward"] * 2


class TestModes:
    def test_inference_mode(self, ways: Ways) -> None:
        x, w = numbers(1, 2, 5, 5), numbers(3, 2, 2, 2, grad=True)
        with torch.inference_mode():
            y = fct.conv2d(x, w)
        assert y.is_inference()
        assert not y.requires_grad
        with torch.no_grad():
            assert not fct.conv2d(x, w).requires_grad
        assert fct.conv2d(x, w).requires_grad
        assert ways.names == ["forward"] * 3

    def test_autocast(self) -> None:
        x, w = numbers(1, 2, 5, 5), numbers(3, 2, 2, 2, grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, own = fct.conv2d(x, w), functional.conv2d(x, w)
            double = fct.conv2d(x.double(), w.double())
        assert y.dtype == own.dtype == torch.bfloat16
        assert double.dtype == torch.float64
        assert_equal(y, own)
        y.sum().backward()
        assert w.grad.dtype == torch.float32

    def test_options_of_fastconv_hold(self) -> None:
        x, w = numbers(1, 2, 5, 5), numbers(3, 2, 2, 2)
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
    x, w = numbers(1, 2, 5, 5), numbers(3, 2, 2, 2)
    want = functional.conv2d(x, w, stride=2, padding=1)
    for two, one in ((2, 1), ([2, 2], [1]), ((2,), (1, 1)), (np.int64(2), torch.Size([1, 1]))):
        assert_equal(fct.conv2d(x, w, stride=two, padding=one), want)
