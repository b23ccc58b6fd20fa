"""fastconv under HIPS autograd: its own check of gradients, to second order, in both modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.oracles import oracle

import fastconv

autograd = oracle("autograd")
from autograd.scipy.signal import convolve as theirs  # noqa: E402
from autograd.test_util import check_grads  # noqa: E402

from fastconv.interop import autograd as ours  # noqa: E402

IMAGES = {1: (11,), 2: (7, 6), 3: (5, 4, 6)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}


def operands(
    spatial: int, groups: int = 1, transposed: bool = False, dtype: Any = float, **options: Any
) -> tuple[np.ndarray[Any, Any], ...]:
    rng = np.random.default_rng(spatial)
    x = rng.standard_normal((2, 2 * groups, *IMAGES[spatial]))
    channels = (2 * groups, 3) if transposed else (3 * groups, 2)
    w = rng.standard_normal((*channels, *KERNELS[spatial]))
    bias = rng.standard_normal(3 * groups)
    if np.dtype(dtype).kind == "c":
        x, w, bias = (v + 1j * rng.standard_normal(v.shape) for v in (x, w, bias))
    if str(options.get("layout", "")).endswith("C"):
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return x, w, bias


def checked(function: Any, arrays: tuple[Any, ...], **options: Any) -> None:
    """Hold first and second derivatives with respect to x, w and bias against differences."""

    def call(x: Any, w: Any, bias: Any) -> Any:
        return function(x, w, bias=bias, **options)

    check_grads(call, argnum=(0, 1, 2), modes=["rev", "fwd"], order=2)(*arrays)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "pad": 1},
    {"pad": "same", "dilation": 2},
    {"groups": 2, "pad": 1},
    {"pad": 2, "pad_mode": "reflect"},
    {"pad": 1, "pad_mode": "wrap", "flip": True},
    {"layout": "last", "stride": 2, "pad": 1},
    {"backend": "reference", "pad": 1},
]


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_derivatives(spatial: int, options: dict[str, Any]) -> None:
    options = dict(options)
    if "layout" in options:
        options["layout"] = {1: "NLC", 2: "NHWC", 3: "NDHWC"}[spatial]
    np.random.seed(0)  # check_grads draws its directions from there  # noqa: NPY002
    checked(getattr(ours, f"conv{spatial}d"), operands(spatial, **options), **options)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "pad": 1, "output_padding": 1},
        {"groups": 2, "dilation": 2},
        {"flip": True},
    ],
    ids=str,
)
def test_derivatives_of_transposed_convolutions(spatial: int, options: dict[str, Any]) -> None:
    np.random.seed(1)  # noqa: NPY002
    arrays = operands(spatial, transposed=True, **options)
    checked(getattr(ours, f"conv_transpose{spatial}d"), arrays, **options)


@pytest.mark.parametrize(
    "activation",
    ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hardswish"],
)
def test_derivatives_of_activations(activation: str) -> None:
    np.random.seed(2)  # noqa: NPY002
    checked(ours.conv2d, operands(2), activation=activation)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_complex_derivatives(name: str) -> None:
    np.random.seed(3)  # noqa: NPY002
    arrays = operands(2, transposed="transpose" in name, dtype=complex)
    checked(getattr(ours, name), arrays, stride=2, pad=1)
    x, w, bias = arrays
    checked(getattr(ours, name), (x.real.copy(), w, bias))
    checked(getattr(ours, name), (x, w.real.copy(), bias))


@pytest.mark.parametrize("mode", ["valid", "full"])
def test_it_is_autograds_own_convolution_where_that_has_one(mode: str) -> None:
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, 3, 2))
    gy = rng.standard_normal((2, 4, 6, 8) if mode == "valid" else (2, 4, 10, 10))

    def mine(x: Any, w: Any) -> Any:
        return (
            gy * ours.conv2d(x, w, 1, 0 if mode == "valid" else ((2, 2), (1, 1)), flip=True)
        ).sum()

    def other(x: Any, w: Any) -> Any:
        y = theirs(x, w, axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode=mode)
        return (gy * y).sum()

    both = autograd.value_and_grad(mine, (0, 1)), autograd.value_and_grad(other, (0, 1))
    (value, grads), (expected, expected_grads) = (f(x, w) for f in both)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for found, wanted in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_fastconv_computes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value, gradients and their gradients are calls of its operators, and of nothing else."""
    made = []
    run = fastconv.calls.Call.run

    def counted(call: Any, *args: Any) -> Any:
        made.append(call.problem.result)
        return run(call, *args)

    monkeypatch.setattr(fastconv.calls.Call, "run", counted)
    fastconv.calls.forget()  # short ways are taken without `run`, by calls made before
    x, w, _ = operands(2)

    def loss(x: Any, w: Any) -> Any:
        return (ours.conv2d(x, w) ** 2).sum()

    autograd.grad(loss, (0, 1))(x, w)
    assert sorted(made) == ["w", "x", "y"]
    made.clear()
    fastconv.calls.forget()
    autograd.hessian_vector_product(lambda w: loss(x, w))(w, np.ones_like(w))
    assert {"y", "w"} <= set(made)


def test_images_of_fewer_axes_and_float32() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((9, 8)), rng.standard_normal((3, 3))
    np.random.seed(5)  # noqa: NPY002
    check_grads(lambda x, w: ours.conv2d(x, w, pad=1), argnum=(0, 1), modes=["rev", "fwd"])(x, w)
    from_list = autograd.grad(lambda w: ours.conv2d(x.tolist(), w).sum())(w)
    np.testing.assert_array_equal(from_list, autograd.grad(lambda w: ours.conv2d(x, w).sum())(w))
    gradient = autograd.grad(lambda w: ours.conv2d(x.astype("f4"), w).sum())(w.astype("f4"))
    assert gradient.dtype == np.float32


def test_options_that_have_no_derivative_are_refused_by_name() -> None:
    x, w, _ = operands(2)
    with pytest.raises(TypeError, match="conv2d has no argument 'padding'; did you mean pad"):
        ours.conv2d(x, w, padding=1)
    with pytest.raises(TypeError, match="no argument 'out'"):
        ours.conv2d(x, w, out=np.empty(1))
    with pytest.raises(fastconv.ShapeError, match="input channel"):
        autograd.grad(lambda w: ours.conv2d(x, w).sum())(w[:, :1])
    with pytest.raises(ValueError, match="activation"):
        autograd.grad(lambda w: ours.conv2d(x, w, activation="relv").sum())(w)


def test_a_small_network_learns() -> None:
    """Edges of one direction from those of the other: two layers, gradient descent, all correct."""
    import autograd.numpy as anp

    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, 64)
    x = 0.3 * rng.standard_normal((64, 1, 8, 8))
    for image, label in zip(x, labels, strict=True):
        line = image[0, rng.integers(1, 7)] if label else image[0, :, rng.integers(1, 7)]
        line += 2
    weights = [
        0.3 * rng.standard_normal(shape) for shape in ((4, 1, 3, 3), (4,), (2, 4, 3, 3), (2,))
    ]

    def scores(weights: Any) -> Any:
        w1, b1, w2, b2 = weights
        hidden = ours.conv2d(x, w1, pad=1, bias=b1, activation="gelu")
        return anp.max(ours.conv2d(hidden, w2, 2, bias=b2), axis=(2, 3))

    def loss(weights: Any) -> Any:
        s = scores(weights)
        m = anp.max(s, axis=1)
        chosen = s[np.arange(64), labels]
        return anp.mean(m + anp.log(anp.sum(anp.exp(s - m[:, None]), axis=1)) - chosen)

    gradient = autograd.grad(loss)
    before = loss(weights)
    for _ in range(120):
        weights = [w - 0.3 * g for w, g in zip(weights, gradient(weights), strict=True)]
    assert loss(weights) < 0.15 * before
    assert (scores(weights).argmax(axis=1) == labels).mean() > 0.95
