"""PyTorch's own description of its convolutions, `op_db`: every sample and every error of it.

Twice: the functions of `fastconv.interop.torch`, and PyTorch's own inside of `override()`. All is
counted: a test in which fastconv computed nothing fails.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
from support.oracles import oracle

torch = oracle("torch")
oracle("expecttest")  # what torch.testing._internal imports
fct = oracle("fastconv.interop.torch")
torch.set_num_threads(1)
invocations = oracle("torch.testing._internal.common_methods_invocations")
modules = oracle("torch.testing._internal.common_modules")

from fastconv.interop.torch import compute  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
    # PyTorch's forward derivatives compile some of its own functions when they are first asked for
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]

OPS = {
    op.name.rpartition(".")[2]: op
    for op in invocations.op_db
    if op.name.startswith("nn.functional.conv")
}
assert sorted(OPS) == [f"conv{family}{d}d" for family in ("", "_transpose") for d in (1, 2, 3)]
DTYPES = sorted(OPS["conv2d"].dtypes, key=str)
GRADIENTS = ("forward", "input_grad", "weight_grad")
#: Unit roundoff of sums and of results.
ROUNDOFF = {
    torch.float16: (2.0**-24, 2.0**-11), torch.bfloat16: (2.0**-24, 2.0**-8),
    torch.float32: (2.0**-24, 2.0**-24), torch.complex64: (2.0**-24, 2.0**-24),
    torch.float64: (2.0**-53, 2.0**-53), torch.complex128: (2.0**-53, 2.0**-53),
}  # fmt: skip


class Way(NamedTuple):
    """A way to compute by fastconv: what a name stands for, where, and how often it computed."""

    function: Callable[..., Any]
    context: Callable[[], Any]
    count: Callable[[str], int]


@pytest.fixture(params=["functions", "override"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return, for the name of an operator, a `Way`."""
    counts = dict.fromkeys(GRADIENTS, 0)

    def counting(name: str, function: Any) -> Any:
        @functools.wraps(function)
        def counted(*args: Any) -> Any:
            counts[name] += 1
            return function(*args)

        return counted

    for name in GRADIENTS:
        monkeypatch.setattr(compute, name, counting(name, getattr(compute, name)))
    if request.param == "functions":
        yield lambda name: Way(getattr(fct, name), nullcontext, counts.__getitem__)
        return

    @contextmanager
    def checked() -> Iterator[None]:
        before = dict(counts)
        with fct.override() as calls:
            yield
        assert calls.own == 0
        for name in GRADIENTS:
            assert getattr(calls, name) == counts[name] - before[name]

    yield lambda name: Way(getattr(torch.nn.functional, name), checked, counts.__getitem__)


def operands(sample: Any) -> list[Any]:
    """Tensors of a sample: input, weight, and bias where it has one."""
    return [t for t in (sample.input, *sample.args) if t is not None]


def results(function: Any, options: dict[str, Any], tensors: list[Any], make_gy: Any) -> list[Any]:
    """y, and the gradients of all operands where they have any."""
    kept = [t.detach().requires_grad_(t.dtype != torch.int64) for t in tensors]
    y = function(*kept, **options)
    if not y.requires_grad:
        return [y]
    return [y.detach(), *torch.autograd.grad(y, kept, make_gy(y))]


def random_like(y: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    wide = torch.complex128 if y.is_complex() else torch.float64
    # of few bits, which every dtype holds
    return (torch.randn(y.shape, generator=generator, dtype=wide) * 8).real.round().to(y.dtype)


class Expected(NamedTuple):
    """A sample, PyTorch's own results in double precision, and by how much ours may be off."""

    sample: Any
    exact: list[Any]
    bounds: list[Any]


@functools.cache
def terms(name: str, shapes: tuple[Any, ...], kwargs: tuple[Any, ...]) -> list[Any]:
    """How many products each result is a sum of: the same for samples of every dtype."""
    ones = [torch.ones(shape, dtype=torch.float64) for shape in shapes]
    return results(getattr(torch.nn.functional, name), dict(kwargs), ones, torch.ones_like)


@functools.cache
def expected(name: str, dtype: Any) -> list[Expected]:
    """All samples of a function: once, for whatever computes them."""
    own = getattr(torch.nn.functional, name)
    double = torch.complex128 if dtype.is_complex else torch.float64
    found = []
    for sample in OPS[name].reference_inputs("cpu", dtype):
        tensors = operands(sample)
        exact = results(own, sample.kwargs, [t.to(double) for t in tensors], random_like)
        found.append(Expected(sample, exact, []))
        if dtype == torch.int64:
            continue
        positive = [t.abs().to(torch.float64) for t in tensors]
        scales = results(own, sample.kwargs, positive, lambda y: random_like(y).abs())
        counts = terms(name, tuple(t.shape for t in tensors), tuple(sample.kwargs.items()))
        sums, rounding = ROUNDOFF[dtype]
        parts = 4 if dtype.is_complex else 1  # products of parts, and both parts of an error
        exactly = 2 if rounding == sums == 2.0**-53 else 1  # PyTorch's own error as well
        for want, scale, n in zip(exact, scales, counts, strict=True):
            bound = exactly * parts * (n + 2) * sums * scale + 2 * rounding * want.abs() + 1e-300
            found[-1].bounds.append(bound)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPS)
def test_samples(way: Any, name: str, dtype: Any) -> None:
    """Results and gradients within the derived bound of PyTorch's own in double precision."""
    function, context, count = way(name)
    samples = expected(name, dtype)
    assert len(samples) >= 10
    for sample, exact, bounds in samples:
        tensors = operands(sample)
        with context():
            got = results(function, sample.kwargs, tensors, random_like)
        if dtype == torch.int64:
            assert got[0].dtype == dtype
            assert torch.equal(got[0].to(torch.float64), exact[0])
            continue
        assert len(got) == len(tensors) + 1
        for value, want, bound in zip(got, exact, bounds, strict=True):
            assert value.dtype == dtype
            assert value.shape == want.shape
            error = (value.to(want.dtype) - want).abs()
            assert (error <= bound).all(), (sample, (error - bound).max())
    # PyTorch's own functions make three real convolutions of a complex one
    calls = len(samples) * (3 if context is not nullcontext and dtype.is_complex else 1)
    assert count("forward") == calls
    if dtype != torch.int64:
        assert count("input_grad") == count("weight_grad") == calls


def _rounded(value: Any) -> Any:
    """Integers of floats, whose sums are exact in any order."""
    return value.detach().round() if isinstance(value, torch.Tensor) else value


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN:UserWarning")
@pytest.mark.parametrize("name", [name for name in OPS if OPS[name].ref is not None])
def test_reference(way: Any, name: str) -> None:
    """The definition that `op_db` refers to, where it has one: gradients of convolutions."""
    function, context, count = way(name)
    drawn = OPS[name].reference_inputs("cpu", torch.float32)
    samples = [sample.transform(_rounded) for sample in drawn]
    refused = 0
    for sample in samples:
        arrays = sample.numpy()
        bias = arrays.args[1] if len(arrays.args) > 1 else None
        with context():
            got = function(sample.input, *sample.args, **sample.kwargs)
        try:
            with torch.backends.mkldnn.flags(enabled=False):  # refuses more of them
                want = OPS[name].ref(arrays.input, arrays.args[0], bias, **arrays.kwargs)
        except RuntimeError as error:
            # output_padding beyond a stride: no convolution has such a gradient
            assert "must be equal to output size" in str(error)  # noqa: PT017
            refused += 1
            continue
        torch.testing.assert_close(got, want, atol=0, rtol=0)
    assert count("forward") == len(samples) >= 10
    assert refused <= 4


@pytest.mark.parametrize("name", [name for name in OPS if OPS[name].error_inputs_func is not None])
def test_errors(way: Any, name: str) -> None:
    function, context, count = way(name)
    errors = list(OPS[name].error_inputs("cpu"))
    assert len(errors) >= 8
    for error in errors:
        sample = error.sample_input
        with (
            _own_allowed(context),
            pytest.raises(error.error_type, match=error.error_regex),
        ):
            function(sample.input, *sample.args, **sample.kwargs)
    assert count("forward") == 0


@contextmanager
def _own_allowed(context: Any) -> Iterator[None]:
    """Inside of `override` PyTorch's own kernels refuse what they would."""
    if context is nullcontext:
        yield
        return
    with fct.override() as calls:
        yield
    assert calls.count == 0


#: PyTorch makes real convolutions of complex ones before `override` sees them: signals are enough.
DERIVATIVES = [
    (way, name, dtype)
    for way in ("functions", "override")
    for name in OPS
    for dtype in (torch.float64, torch.complex128)
    if way == "functions" or name.endswith("1d") or not dtype.is_complex
]


@pytest.mark.parametrize(("way", "name", "dtype"), DERIVATIVES, indirect=["way"], ids=str)
def test_derivatives(way: Any, name: str, dtype: Any) -> None:
    """First and second, backwards and forwards, of every sample."""
    function, context, count = way(name)
    for sample in OPS[name].sample_inputs("cpu", dtype, requires_grad=True):
        tensors = operands(sample)

        def call(*given: Any, options: dict[str, Any] = sample.kwargs) -> Any:
            return function(*given, **options)

        with context():
            assert torch.autograd.gradcheck(call, tensors, fast_mode=True, check_forward_ad=True)
            assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)
    assert count("forward") > 20
    assert count("input_grad") > 20
    assert count("weight_grad") > 20


MODULES = [info for info in modules.module_db if info.name.startswith("nn.Conv")]


@pytest.mark.parametrize("info", MODULES, ids=lambda info: info.name)
def test_modules(info: Any) -> None:
    """`module_db`: modules as they are, inside of `override`, against themselves outside of it."""
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=False, training=True
    )
    done = 0
    for given in inputs:
        made, call = given.constructor_input, given.forward_input
        torch.manual_seed(0)
        module = info.module_cls(*made.args, **made.kwargs).to(torch.float64)
        for parameter in module.parameters():
            parameter.data = _rounded(8 * parameter)
        call.args = tuple(map(_rounded, call.args))
        wanted = [module(*call.args, **call.kwargs)]
        wanted += torch.autograd.grad(wanted[0].square().sum(), list(module.parameters()))
        with fct.override() as calls:
            got = [module(*call.args, **call.kwargs)]
            got += torch.autograd.grad(got[0].square().sum(), list(module.parameters()))
        assert calls.forward == calls.weight_grad == 1
        assert calls.own == 0
        for value, want in zip(got, wanted, strict=True):
            torch.testing.assert_close(value, want, atol=0, rtol=0)
        done += 1
    assert done >= 2
