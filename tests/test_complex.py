"""Complex numbers: convolutions, transposed ones and gradients, against NumPy and PyTorch.

Operands are small integers, so that every sum is exact and results are compared for equality.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv
from fastconv import accuracy
from fastconv.borders import PAD_MODES

#: Which operands are complex.
KINDS = ("both", "x", "w")


def whole(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Draw small integers, or complex numbers made of them."""
    real = rng.integers(-6, 6, shape, endpoint=True)
    if np.dtype(dtype).kind != "c":
        return real.astype(dtype)
    return (real + 1j * rng.integers(-6, 6, shape, endpoint=True)).astype(dtype)


def dtypes(kind: str, dtype: str = "c8") -> tuple[str, str]:
    """Dtypes of x and w."""
    real = {"c8": "f4", "c16": "f8"}[dtype]
    return (dtype if kind != "w" else real, dtype if kind != "x" else real)


def by_parts(function: Any, a: np.ndarray, b: np.ndarray, conjugate: str = "") -> np.ndarray:
    """Apply a bilinear function of real numbers to each pair of parts."""
    ai = a.imag * (-1 if conjugate == "a" else 1)
    bi = b.imag * (-1 if conjugate == "b" else 1)
    real = function(a.real.copy(), b.real.copy()) - function(ai.copy(), bi.copy())
    return real + 1j * (function(a.real.copy(), bi.copy()) + function(ai.copy(), b.real.copy()))


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Draw shapes and options in one to three dimensions."""
    spatial = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(spatial))

    groups, cg, kg = (draw(st.integers(1, 3)) for _ in range(3))
    image, kernel = each(1, 6), each(1, 3)
    options: dict[str, Any] = {
        "stride": each(1, 2), "dilation": each(1, 2), "groups": groups,
        "pad": tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(spatial)),
        "pad_mode": draw(st.sampled_from(PAD_MODES)), "flip": draw(st.booleans()),
    }  # fmt: skip
    reach = zip(image, kernel, options["dilation"], options["pad"], strict=True)
    assume(all(size + sum(pad) > (taps - 1) * d for size, taps, d, pad in reach))
    return {
        "spatial": spatial, "options": options, "w": (groups * kg, cg, *kernel),
        "x": (draw(st.integers(1, 2)), groups * cg, *image),
    }  # fmt: skip


def held(images: np.ndarray, last: bool) -> np.ndarray:
    """Hold images channels last."""
    return np.moveaxis(images, 1, -1).copy() if last else images


@given(
    problem=problems(),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(("c8", "c16")),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_of_every_part(
    problem: dict[str, Any], kind: str, dtype: str, last: bool, seed: int
) -> None:
    rng, d, options = np.random.default_rng(seed), problem["spatial"], problem["options"]
    x_dtype, w_dtype = dtypes(kind, dtype)
    x, w = whole(rng, problem["x"], x_dtype), whole(rng, problem["w"], w_dtype)
    bias = whole(rng, w.shape[:1], dtype)
    convolve = getattr(fastconv, f"conv{d}d")
    layout = {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[d][last]
    want = by_parts(lambda a, b: convolve(a, b, **options), x, w)
    want += bias.reshape(-1, *(1,) * d)
    options = dict(options, layout=layout)
    out = np.full(held(want, last).shape, np.nan, dtype)
    got = convolve(held(x, last), w, bias=bias, out=out, **options)
    assert got is out
    np.testing.assert_array_equal(got, held(want, last))
    gy = whole(rng, want.shape, dtype)
    g = held(gy, last)
    plain = problem["options"]
    name = f"conv{d}d_input_grad"
    gx = by_parts(lambda a, b: getattr(fastconv, name)(x.shape, b, a, **plain), gy, w, "b")
    got = getattr(fastconv, name)(held(x, last).shape, w, g, **options)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, held(gx, last))
    name = f"conv{d}d_weight_grad"
    gw = by_parts(lambda a, b: getattr(fastconv, name)(a, w.shape, b, **plain), x, gy, "a")
    got = getattr(fastconv, name)(held(x, last), w.shape, g, **options)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, gw)


@given(problem=problems(), seed=st.integers(0, 99))
def test_real_gradients_of_complex_operands(problem: dict[str, Any], seed: int) -> None:
    rng, d, options = np.random.default_rng(seed), problem["spatial"], problem["options"]
    x, w = whole(rng, problem["x"], "c8"), whole(rng, problem["w"], "c8")
    shape = getattr(fastconv, f"conv{d}d")(x, w, **options).shape
    gy = whole(rng, shape, "f4")
    for name, first, second in (
        (f"conv{d}d_input_grad", x.shape, w),
        (f"conv{d}d_weight_grad", x, w.shape),
    ):
        function = getattr(fastconv, name)
        got = function(first, second, gy, **options)
        assert got.dtype == np.complex64
        np.testing.assert_array_equal(got, function(first, second, gy.astype("c8"), **options))


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_as_torch(spatial: int, groups: int) -> None:
    """Outputs, and the gradients that its autograd finds."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(spatial)
    image, kernel = (7, 6, 5)[:spatial], (3, 2, 3)[:spatial]
    x, w = whole(rng, (2, 4, *image), "c8"), whole(rng, (6, 4 // groups, *kernel), "c8")
    bias = whole(rng, (6,), "c8")
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, w, bias)]
    convolve = getattr(torch.nn.functional, f"conv{spatial}d")
    want = convolve(*tensors, 2, 1, 1, groups)
    options: dict[str, Any] = {"stride": 2, "pad": 1, "groups": groups}
    y = getattr(fastconv, f"conv{spatial}d")(x, w, bias=bias, **options)
    np.testing.assert_array_equal(y, want.detach().numpy())
    gy = whole(rng, y.shape, "c8")
    want.backward(torch.from_numpy(gy))
    gradients = (
        getattr(fastconv, f"conv{spatial}d_input_grad")(x.shape, w, gy, **options),
        getattr(fastconv, f"conv{spatial}d_weight_grad")(x, w.shape, gy, **options),
        getattr(fastconv, f"conv{spatial}d_bias_grad")(gy),
    )
    for got, tensor in zip(gradients, tensors, strict=True):
        assert got.dtype == np.complex64
        np.testing.assert_array_equal(got, tensor.grad.numpy())


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_as_torch(spatial: int, kind: str, groups: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(spatial)
    image, kernel = (5, 4, 3)[:spatial], (3, 2, 3)[:spatial]
    x_dtype, w_dtype = dtypes(kind)
    x, w = whole(rng, (2, 4, *image), x_dtype), whole(rng, (4, 3, *kernel), w_dtype)
    bias = whole(rng, (3 * groups,), "c8")
    operands = [torch.from_numpy(a.astype("c8")) for a in (x, w, bias)]
    function = getattr(torch.nn.functional, f"conv_transpose{spatial}d")
    want = function(*operands, 2, 1, 1, groups).numpy()
    got = getattr(fastconv, f"conv_transpose{spatial}d")(
        x, w, 2, 1, output_padding=1, bias=bias, groups=groups
    )
    assert got.dtype == np.complex64
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_transposed_as_torch(spatial: int, groups: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(spatial)
    image, kernel = (5, 4, 3)[:spatial], (3, 2, 3)[:spatial]
    x, w = whole(rng, (2, 4, *image), "c8"), whole(rng, (4, 3, *kernel), "c8")
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in (x, w)]
    function = getattr(torch.nn.functional, f"conv_transpose{spatial}d")
    y = function(*tensors, None, 2, 1, 0, groups)
    gy = whole(rng, tuple(y.shape), "c8")
    y.backward(torch.from_numpy(gy))
    name, options = f"conv_transpose{spatial}d", {"stride": 2, "pad": 1, "groups": groups}
    gx = getattr(fastconv, f"{name}_input_grad")(x.shape, w, gy, **options)
    gw = getattr(fastconv, f"{name}_weight_grad")(x, w.shape, gy, **options)
    np.testing.assert_array_equal(gx, tensors[0].grad.numpy())
    np.testing.assert_array_equal(gw, tensors[1].grad.numpy())


def test_operator_plans() -> None:
    rng = np.random.default_rng(0)
    w = whole(rng, (6, 2, 3, 3, 3), "c8")
    for dtype in ("c8", "f4"):
        x = whole(rng, (2, 4, 5, 6, 7), dtype)
        plan = fastconv.conv3d.plan(x, w, pad=1, groups=2)
        want = fastconv.conv3d(x, w, pad=1, groups=2)
        for _ in range(2):
            np.testing.assert_array_equal(plan(x), want)
        np.testing.assert_array_equal(plan(x[:1]), want[:1])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pair", [("c8", "c8"), ("f4", "c8"), ("c8", "f4")])
@pytest.mark.parametrize("image", [(7, 6), (2, 1)])  # larger and smaller than the weights
def test_plans(layout: str, pair: tuple[str, str], image: tuple[int, int], backend: str) -> None:
    """The call's very bits, for any batch; complex bias or none; packed once."""
    rng = np.random.default_rng(0)
    x, w, bias = whole(rng, (3, 4, *image), pair[0]), whole(rng, (6, 2, 3, 2), pair[1]), None
    if pair[0] == pair[1]:
        bias = whole(rng, (6,), "c8")
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if layout == "NHWC" else x
    given: dict[str, Any] = {"pad": 1, "stride": (1, 2), "groups": 2, "layout": layout}
    given |= {"bias": bias, "backend": backend}
    kernel = w.copy()
    plan = fastconv.plan_conv2d(kernel, x.shape, x_dtype=x.dtype, **given)
    kernel[...] = np.nan  # a plan's weights are its own
    want = fastconv.conv2d(x, w, **given)
    for part in (x, x[:1], x[1:]):
        out = np.full((len(part), *want.shape[1:]), np.nan, want.dtype)
        assert plan(part, out) is out
        np.testing.assert_array_equal(out, fastconv.conv2d(part, w, **given))
    again = pickle.loads(pickle.dumps(plan))  # noqa: S301
    np.testing.assert_array_equal(again(x), want)
    assert plan.explain().algorithm == fastconv.explain(x, w, **given).algorithm


def test_channels_last_are_computed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels whose channels are neighbours need no copy; the same bits as those that do."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 9, 8, 8)).view("c16"), rng.normal(size=(6, 4, 3, 6)).view("c16")
    want = fastconv.conv2d(np.asfortranarray(x), w, layout="NHWC")

    def never(*_: Any) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr("fastconv.lowering.planar._empty", never)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, layout="NHWC"), want)
    with pytest.raises(AssertionError, match="copied"):
        fastconv.conv2d(x.transpose(0, 3, 1, 2), w)


def test_numpy_convolve() -> None:
    rng = np.random.default_rng(0)
    x, w = whole(rng, (50,), "c16"), whole(rng, (7,), "c16")
    got = fastconv.conv1d(x, w, pad="full", flip=True)
    np.testing.assert_array_equal(got, np.convolve(x, w))
    image, kernel = whole(rng, (8, 9), "c8"), whole(rng, (3, 2), "c8")
    signal = pytest.importorskip("scipy.signal")
    got = fastconv.conv2d(image, kernel, flip=True)
    np.testing.assert_array_equal(got, signal.convolve2d(image, kernel, "valid"))


@pytest.mark.parametrize("kind", KINDS)
def test_fractions(kind: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 1, 2, 16, 20, 20)), rng.standard_normal((2, 8, 16, 3, 3))
    a = (x[0] + 1j * x[1] if kind != "w" else x[0]).astype(dtypes(kind)[0])
    b = (w[0] + 1j * w[1] if kind != "x" else w[0]).astype(dtypes(kind)[1])
    got = fastconv.conv2d(a[0], b, pad=1)
    want = fastconv.conv2d(a[0].astype("c16"), b.astype("c16"), pad=1)
    assert got.dtype == np.complex64
    terms = 2 * 16 * 9
    scale = fastconv.conv2d(abs(a[0]).astype("f8"), abs(b).astype("f8"), pad=1)
    assert (abs(got - want) <= 2 * terms * 2.0**-24 * scale).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_with_any_threads_and_batch(kind: str) -> None:
    rng = np.random.default_rng(0)
    x_dtype, w_dtype = dtypes(kind)
    x = (rng.standard_normal((3, 8, 24, 24)) * (1 + 0.5j if kind != "w" else 1)).astype(x_dtype)
    w = (rng.standard_normal((8, 8, 3, 3)) * (1 - 2j if kind != "x" else 1)).astype(w_dtype)
    want = fastconv.conv2d(x, w, pad=1, threads=1)
    for threads in (2, 3):
        assert (fastconv.conv2d(x, w, pad=1, threads=threads) == want).all()
    assert (fastconv.conv2d(x[1], w, pad=1) == want[1]).all()


@pytest.mark.parametrize(
    ("x", "w", "result"),
    [("c8", "c8", "c8"), ("c8", "f4", "c8"), ("f8", "c8", "c16"), ("c16", "c8", "c16"),
     ("i2", "c8", "c8"), ("i4", "c8", "c16"), ("c8", "f2", "c8"), ("?", "c16", "c16")],
)  # fmt: skip
def test_promotion(x: str, w: str, result: str) -> None:
    rng = np.random.default_rng(0)
    image, kernel = (
        (abs(whole(rng, (1, 2, 5, 5), "i4")) % 2).astype(x),
        whole(rng, (3, 2, 3, 3), w if w != "?" else "i4").astype(w),
    )
    y = fastconv.conv2d(image, kernel)
    assert y.dtype == result
    want = fastconv.conv2d(image.astype("c16"), kernel.astype("c16"), backend="reference")
    np.testing.assert_array_equal(y, want)


def test_every_backend(backend: str) -> None:
    rng = np.random.default_rng(0)
    x, w = whole(rng, (2, 4, 6, 5), "c8"), whole(rng, (4, 2, 3, 3), "c8")
    want = by_parts(lambda a, b: fastconv.conv2d(a, b, groups=2, backend="reference"), x, w)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, groups=2, backend=backend), want)


def test_what_is_said_beforehand() -> None:
    x, w = np.zeros((2, 3, 8, 8), "c8"), np.zeros((4, 3, 3, 3), "c8")
    assert fastconv.conv_cost(x, w).macs == 4 * fastconv.conv_cost(x.shape, w.shape).macs
    assert fastconv.conv_cost(x, w.real).macs == 2 * fastconv.conv_cost(x.shape, w.shape).macs
    report = fastconv.explain(x, w)
    assert "complex64" in str(report)
    assert report.scratch_bytes > x.nbytes
    assert fastconv.conv1d.output_shape(x[:, :, 0], w[:, :, 0]) == (2, 4, 6)


def test_lists_and_byte_orders() -> None:
    assert fastconv.conv1d([1j, 2], [1j]).tolist() == [-1, 2j]
    rng = np.random.default_rng(0)
    x, w = whole(rng, (3, 9, 8), "c8"), whole(rng, (2, 3, 2, 2), "c8")
    want = fastconv.conv2d(x, w)
    other = x.astype(">c8")
    np.testing.assert_array_equal(fastconv.conv2d(other, w), want)
    room = np.zeros((3, 9, 16), "c8")[:, ::-1, ::2]
    room[...] = x
    out = np.zeros((*want.shape, 2), "c8")
    np.testing.assert_array_equal(fastconv.conv2d(room, w, out=out[..., 1]), want)
    assert not out[..., 0].any()


def test_filters_as_scipy() -> None:
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(0)
    for kind in KINDS:
        a, b = (whole(rng, s, d) for s, d in zip(((6, 7), (3, 2)), dtypes(kind), strict=True))
        for name in ("correlate2d", "convolve2d"):
            for mode in ("full", "same", "valid"):
                for first, second in ((a, b), (b, a)):
                    options = {"boundary": "fill", "fillvalue": 2 - 1j if mode == "full" else 0}
                    want = getattr(signal, name)(first, second, mode, **options)
                    got = getattr(fastconv, name)(first, second, mode, **options)
                    assert got.dtype == want.dtype
                    np.testing.assert_array_equal(got, want)


Z, V = np.ones((1, 2, 5, 5), "c8"), np.ones((3, 2, 3, 3), "c8")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: fastconv.conv2d(Z, V, dtype="f4"),
            "cannot hold the complex result of x complex64",
        ),
        (lambda: fastconv.conv2d(Z.real, V.real, dtype="c8"), "makes complex numbers of x float32"),
        (lambda: fastconv.conv2d(Z, V, activation="relu"), "is a function of real numbers"),
        (lambda: fastconv.conv2d(Z.real, V.real, bias=Z[0, 0, 0, :3]), "bias has dtype complex64"),
    ],
)
def test_errors(call: Any, says: str) -> None:
    with pytest.raises(fastconv.DTypeError, match=says):
        call()


def test_bounds_are_those_of_real_numbers() -> None:
    problem = fastconv.explain(Z, V).problem
    with pytest.raises(fastconv.DTypeError, match="check its parts"):
        accuracy.expected(problem, Z, V)
