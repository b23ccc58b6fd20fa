"""`fastconv.interop.torch.override`: models as they are, computed by fastconv."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.torch_cases import assert_equal, fct, functional, numbers, torch

import fastconv

nn = torch.nn
#: Twice the unit roundoff of float32: spacing of numbers just above 1.
EPS = torch.finfo(torch.float32).eps


class Block(nn.Module):
    """Two convolutions and what they are added to, as in He et al. (2016)."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(k) for _ in range(2))
        self.short = nn.Conv2d(c, k, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Any) -> Any:
        y = self.norms[0](self.first(x)).relu()
        return (self.norms[1](self.second(y)) + self.short(x)).relu()


class ResNet(nn.Module):
    """A small one; eight convolutions, the second one of which is 16 channels wide."""

    CONVOLUTIONS = 9

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, 2, 2)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1))
        self.depthwise = nn.Conv2d(32, 32, 3, padding="same", groups=32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        y = self.blocks(self.stem(x).relu())
        return self.head(self.depthwise(y).mean((2, 3)))


def model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return ResNet()


def trained(steps: int = 2, dtype: Any = torch.float32, last: bool = False) -> tuple[Any, Any]:
    """Losses, and parameters after that many steps of SGD."""
    network = model().to(dtype)
    x, labels = torch.randn(4, 3, 32, 32, dtype=dtype), torch.randint(10, (4,))
    if last:
        network, x = (thing.to(memory_format=torch.channels_last) for thing in (network, x))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = functional.cross_entropy(network(x), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses), [p.detach() for p in network.parameters()]


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_a_residual_network_is_trained(last: bool) -> None:
    """Two steps of SGD: as far from the same steps in double precision as PyTorch's own are.

    What is to be expected of float32 is what PyTorch's own kernels are off by; ours may be off by
    as much again, and by the rounding of one number.
    """
    exact = trained(dtype=torch.float64, last=last)
    own = trained(last=last)
    with fct.override() as calls:
        got = trained(last=last)
    assert calls.forward == 2 * ResNet.CONVOLUTIONS
    assert calls.weight_grad == calls.forward
    assert calls.input_grad == calls.forward - 2  # that of the images is not wanted
    assert calls.own == 0
    for value, theirs, want in zip(
        [got[0], *got[1]], [own[0], *own[1]], [exact[0], *exact[1]], strict=True
    ):
        scale = want.abs().max()
        allowed = 4 * (theirs - want).abs().max() + 16 * EPS * scale
        assert (value - want).abs().max() <= allowed
        assert (value - theirs).abs().max() < 1e-4 * scale  # and equal, as one would say
        assert value.stride() == theirs.stride()
    with fct.override():
        again = trained(last=last)
    assert all(map(torch.equal, [got[0], *got[1]], [again[0], *again[1]]))  # bit by bit


def test_training_in_double_precision_agrees_closely() -> None:
    own = trained(dtype=torch.float64)
    with fct.override():
        got = trained(dtype=torch.float64)
    for value, want in zip([got[0], *got[1]], [own[0], *own[1]], strict=True):
        torch.testing.assert_close(value, want, rtol=1e-10, atol=1e-12)


def test_training_in_bfloat16() -> None:
    network, x = model(), torch.randn(2, 3, 32, 32)
    with fct.override() as calls, torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x)
    y.float().square().sum().backward()  # outside: PyTorch's own
    assert calls.forward == ResNet.CONVOLUTIONS
    assert calls.weight_grad == 0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        own = network(x)
    exact = network.double()(x.double())
    off, allowed = (y - exact).abs().max(), 4 * (own - exact).abs().max()
    assert y.dtype == own.dtype
    assert 0 < off <= allowed


class TestContext:
    x = torch.ones(1, 1, 4, 4)
    w = torch.ones(1, 1, 2, 2)

    def is_ours(self) -> bool:
        """Whether PyTorch's convolution is computed by fastconv here, by what only it refuses."""
        with fastconv.options(backend="cuda"):
            try:
                functional.conv2d(self.x, self.w)
            except (RuntimeError, ImportError):
                return True
        return False

    def test_it_ends(self) -> None:
        assert not self.is_ours()
        with fct.override():
            assert self.is_ours()
        assert not self.is_ours()

    def test_it_ends_by_an_exception(self) -> None:
        with pytest.raises(KeyError), fct.override():
            raise KeyError
        assert not self.is_ours()

    def test_one_inside_of_another(self) -> None:
        with fct.override() as outer:
            functional.conv2d(self.x, self.w)
            with fct.override() as inner:
                functional.conv2d(self.x, self.w)
            assert self.is_ours()
            functional.conv2d(self.x, self.w)
            assert (outer.count, inner.count) == (3, 1)
        assert not self.is_ours()

    def test_contexts_that_overlap(self) -> None:
        first, second = fct.override(), fct.override()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert self.is_ours()
        second.__exit__(None, None, None)
        assert not self.is_ours()

    def test_other_threads(self) -> None:
        """The process's dispatcher is one."""
        found = []
        with fct.override() as calls:
            thread = threading.Thread(
                target=lambda: found.append(functional.conv2d(self.x, self.w))
            )
            thread.start()
            thread.join()
        assert calls.forward == 1
        assert torch.equal(found[0], torch.full((1, 1, 3, 3), 4.0))

    def test_again_and_again(self) -> None:
        for _ in range(50):
            with fct.override() as calls:
                functional.conv2d(self.x, self.w)
            assert calls.count == 1


class TestWhatIsLeftToPyTorch:
    @pytest.mark.parametrize(
        "made",
        [
            lambda t: t.to("meta"),
            lambda t: t.to_mkldnn(),
        ],
        ids=["meta", "mkldnn"],
    )
    def test_other_layouts_and_devices(self, made: Any) -> None:
        x, w = made(torch.randn(1, 2, 6, 6)), made(torch.randn(3, 2, 2, 2))
        with fct.override() as calls:
            y = functional.conv2d(x, w)
        assert y.layout == x.layout
        assert y.device == x.device
        assert calls.count == calls.own == 0

    @pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
    def test_quantised(self) -> None:
        x = torch.quantize_per_tensor(torch.rand(1, 2, 6, 6), 0.01, 0, torch.quint8)
        layer = torch.ao.nn.quantized.Conv2d(2, 3, 2)
        with fct.override() as calls:
            assert layer(x).is_quantized
        assert calls.count == calls.own == 0

    def test_dtypes(self) -> None:
        x, w = torch.ones(1, 2, 6, 6).bool(), torch.ones(3, 2, 2, 2).bool()
        with fct.override() as calls, pytest.raises(RuntimeError, match="implemented"):
            functional.conv2d(x, w)
        assert (calls.count, calls.own) == (0, 1)

    def test_errors_are_its_own(self) -> None:
        """Word for word."""
        cases: list[tuple[Any, Any, dict[str, Any]]] = [
            ((1, 2, 6, 6), (3, 3, 2, 2), {}),
            ((1, 2, 6, 6), (3, 2, 7, 2), {}),
            ((1, 2, 6, 6), (3, 2, 2, 2), {"bias": torch.ones(2)}),
            ((1, 2, 6, 6), (3, 2, 2, 2), {"bias": torch.ones(3).double()}),
            ((1, 2, 6, 6), (3, 2, 2, 2), {"stride": 0}),
            ((1, 2, 6, 6), (3, 2, 2, 2), {"padding": -1}),
            ((1, 2, 6, 6), (3, 2, 2, 2), {"groups": 3}),
        ]
        for x, w, options in cases:
            with pytest.raises(RuntimeError) as own:
                functional.conv2d(torch.ones(x), torch.ones(w), **options)
            with fct.override() as calls, pytest.raises(RuntimeError) as got:
                functional.conv2d(torch.ones(x), torch.ones(w), **options)
            assert str(got.value) == str(own.value)
            assert calls.count == 0


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_memory_formats_are_pytorchs(spatial: int, dtype: Any, which: int) -> None:
    """Strides of results and gradients, whichever kernel PyTorch would have chosen."""
    layout = {1: None, 2: torch.channels_last, 3: torch.channels_last_3d}[spatial]
    for n, c, size, groups, transposed in ((1, 4, 4, 1, False), (2, 64, 9, 1, False),
                                           (2, 8, 6, 8, False), (2, 8, 5, 1, True)):  # fmt: skip
        x = torch.randn(n, c, *(size,) * spatial, dtype=dtype)
        w = torch.randn(c, c // groups, *(3,) * spatial, dtype=dtype)

        def made(tensor: Any, last: int) -> Any:
            if not last:
                return tensor.detach()
            if layout is None:
                return tensor.detach().transpose(1, 2).contiguous().transpose(1, 2)
            return tensor.detach().to(memory_format=layout)

        x, w = made(x, which & 1).requires_grad_(), made(w, which & 2).requires_grad_()

        def computed(x: Any = x, w: Any = w, groups: int = groups, back: Any = transposed) -> Any:
            options = ([1] * spatial, [1] * spatial, [1] * spatial, back, [0] * spatial, groups)
            y = torch.convolution(x, w, None, *options)
            return [y, *torch.autograd.grad(y, [x, w], torch.ones_like(y))]

        own = computed()
        with fct.override() as calls:
            got = computed()
        assert (calls.count, calls.own) == (3, 0)
        for name, value, want in zip(("y", "gx", "gw"), got, own, strict=True):
            error = (value.double() - want.double()).abs().max()
            assert error <= 64 * torch.finfo(dtype).eps * want.abs().max().double()
            steps = [
                [step for step, size in zip(t.stride(), t.shape, strict=True) if size > 1]
                for t in (value, want)
            ]
            assert steps[0] == steps[1], (name, n, c, size, groups, transposed)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_compiled_models(last: bool) -> None:
    """A graph that inductor compiled calls PyTorch's convolution, hence fastconv's."""
    torch._dynamo.reset()
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, groups=2))
    for parameter in network.parameters():
        parameter.data = (8 * parameter).round()
    x = numbers(2, 3, 12, 12)
    if last:
        network, x = (thing.to(memory_format=torch.channels_last) for thing in (network, x))
    want = network(x)
    with fct.override() as calls:
        got = torch.compile(network, fullgraph=True)(x)
        got.sum().backward()
    assert_equal(got, want)
    assert (calls.forward, calls.weight_grad, calls.input_grad, calls.own) == (2, 2, 1, 0)
    assert got.stride() == want.stride()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_other_ways_into_pytorch() -> None:
    """Per-sample gradients, tangents, scripts and derivatives of derivatives."""
    x, w = (numbers(*s, dtype=torch.float64) for s in ((4, 2, 6, 6), (3, 2, 3, 3)))

    def loss(w: Any, x: Any) -> Any:
        return functional.conv2d(x[None], w).pow(3).sum()

    calls_of = [
        lambda: torch.vmap(torch.func.grad(loss), (None, 0))(w, x),
        lambda: torch.func.jvp(lambda w: functional.conv2d(x, w), (w,), (w,))[1],
        lambda: torch.func.hessian(loss)(w[:1], x[0]),
        lambda: torch.jit.script(nn.Conv2d(2, 3, 3).double())(x).shape,
        lambda: torch.export.export(nn.Conv2d(2, 3, 3).double(), (x,)).module()(x).shape,
    ]
    for call in calls_of:
        want = call()
        with fct.override() as calls:
            got = call()
        assert calls.count > 0
        assert calls.own == 0
        if isinstance(got, torch.Tensor):
            assert_equal(got, want)


def test_no_images() -> None:
    x = torch.ones(0, 2, 5, 5, requires_grad=True)
    layer = nn.Conv2d(2, 3, 2)
    with fct.override() as calls:
        y = layer(x)
        y.sum().backward()
    assert y.shape == (0, 3, 4, 4)
    assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))
    assert x.grad.shape == x.shape
    assert calls.own == 0


def test_a_backend_that_refuses_is_heard() -> None:
    with (
        fct.override() as calls,
        fastconv.options(backend="cuda"),
        pytest.raises((RuntimeError, ImportError)),
    ):
        functional.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2))
    assert (calls.count, calls.own) == (0, 0)
