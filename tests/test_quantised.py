"""Quantised convolutions: ConvInteger and QLinearConv, against integers of Python's and ONNX's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import backends

import fastconv
from fastconv.backends import native
from fastconv.operators import quantised as quantised_module
from fastconv.options import resolve

BYTES = ("int8", "uint8")


def draw(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Draw over the whole range of a dtype."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def definition(x: Any, w: Any, x_zero: Any, w_zero: Any, **options: Any) -> np.ndarray:
    """Differences first, and their convolution in 64 bits, by the definition."""
    first = x.astype("i8") - int(x_zero)
    second = w.astype("i8") - np.asarray(w_zero, "i8").reshape(-1, 1, 1, 1)
    return fastconv.conv2d(first, second, backend="reference", **options)


@given(
    dtypes=st.tuples(st.sampled_from(BYTES), st.sampled_from(BYTES)),
    zeros=st.tuples(
        st.sampled_from((0, 1, 100, "half")), st.sampled_from((0, 7, "half", "each", "halves"))
    ),
    stride=st.integers(1, 2),
    pad=st.sampled_from((0, 1, ((0, 2), (1, 0)))),
    groups=st.sampled_from((1, 3)),
    layout=st.sampled_from(("NCHW", "NHWC")),
    pad_mode=st.sampled_from(("constant", "wrap")),
    seed=st.integers(0, 99),
)
def test_sums_are_exact(
    dtypes: Any, zeros: Any, stride: int, pad: Any, groups: int, layout: str, pad_mode: str,
    seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    x, w = draw(rng, dtypes[0], 2, 6, 7, 5), draw(rng, dtypes[1], 6, 6 // groups, 3, 2)
    half = {"int8": -128, "uint8": 128}
    x_zero = half[dtypes[0]] if zeros[0] == "half" else zeros[0]
    w_zero = {"each": draw(rng, dtypes[1], 6), "half": half[dtypes[1]],
              "halves": np.full(6, half[dtypes[1]])}.get(zeros[1], zeros[1])  # fmt: skip
    options = {"stride": stride, "pad": pad, "groups": groups, "pad_mode": pad_mode}
    want = definition(x, w, x_zero, w_zero, **options)
    held = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    shape = want.shape if layout == "NCHW" else tuple(want.shape[a] for a in (0, 2, 3, 1))
    out = np.full(shape, -1, "i4")
    got = fastconv.conv2d_integer(
        held, w, x_zero_point=x_zero, w_zero_point=w_zero, layout=layout, out=out, **options
    )
    assert got is out
    np.testing.assert_array_equal(got if layout == "NCHW" else got.transpose(0, 3, 1, 2), want)


def test_the_extremes() -> None:
    """The largest differences, as many as a ResNet sums, do not saturate on the way."""
    x, w = np.full((1, 512, 3, 3), 255, "u1"), np.full((2, 512, 3, 3), -128, "i1")
    got = fastconv.conv2d_integer(x, w, w_zero_point=127)
    assert (got == 512 * 9 * 255 * -255).all()
    flat = fastconv.conv2d_integer(x, x[[0, 0]], x_zero_point=0)
    assert (flat == 512 * 9 * 255 * 255).all()


def integer_reference(x: Any, w: Any, x_zero: Any, w_zero: Any, **attributes: Any) -> np.ndarray:
    """ConvInteger of ONNX's reference."""
    helper = pytest.importorskip("onnx.helper")
    reference = pytest.importorskip("onnx.reference")
    node = helper.make_node("ConvInteger", ["x", "w", "a", "b"], ["y"], **attributes)
    values = {"x": x, "w": w, "a": np.array(x_zero, x.dtype), "b": np.array(w_zero, w.dtype)}
    found: np.ndarray = reference.ReferenceEvaluator(node).run(None, values)[0]
    return found


@pytest.mark.parametrize("w_zero", [3, [5, 0, 7]])
@pytest.mark.parametrize("dtypes", [(a, b) for a in BYTES for b in BYTES])
def test_integers_as_onnx(dtypes: Any, w_zero: Any) -> None:
    """Its border is zero after the subtraction."""
    rng = np.random.default_rng(5)
    x, w = draw(rng, dtypes[0], 1, 2, 6, 5), draw(rng, dtypes[1], 3, 2, 3, 3)
    want = integer_reference(x, w, 11, w_zero, pads=[1, 0, 2, 1], strides=[2, 1])
    got = fastconv.conv2d_integer(
        x, w, (2, 1), ((1, 2), (0, 1)), x_zero_point=11, w_zero_point=w_zero
    )
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


QUANTISED = [
    (a, b, c, each, bias)
    for a in BYTES
    for b in BYTES
    for c in BYTES
    for each in (False, True)
    for bias in (False, True)
]


def _middle(dtype: str) -> int:
    """Zero points about which draws are even; ONNX Runtime knows no other for int8 weights."""
    return 128 if dtype == "uint8" else 0


def quantised(
    x_dtype: str, w_dtype: str, y_dtype: str, each: bool, bias: bool
) -> dict[str, np.ndarray]:
    """Operands of QLinearConv whose result covers its range and saturates in places."""
    rng = np.random.default_rng(8)
    w_scale = rng.uniform(0.005, 0.03, 4 if each else ()).astype("f4")
    operands = {
        "x": draw(rng, x_dtype, 2, 3, 8, 7), "x_scale": np.array(0.037, "f4"),
        "x_zero_point": np.array(_middle(x_dtype) + 3, x_dtype),
        "w": draw(rng, w_dtype, 4, 3, 3, 3), "w_scale": w_scale,
        "w_zero_point": np.full(4 if each else (), _middle(w_dtype), w_dtype),
        "y_scale": np.array(0.06, "f4"), "y_zero_point": np.array(5, y_dtype),
    }  # fmt: skip
    if bias:
        operands["bias"] = rng.integers(-20_000, 20_000, 4, "i4")
    return operands


@pytest.mark.parametrize("kind", QUANTISED, ids=str)
def test_quantised_as_the_definition_and_onnx(kind: Any) -> None:
    operands = quantised(*kind)
    got = fastconv.qlinear_conv2d(**operands, stride=2, pad=1)
    sums = definition(
        operands["x"], operands["w"], operands["x_zero_point"], operands["w_zero_point"],
        stride=2, pad=1,
    )  # fmt: skip
    sums = sums + operands.get("bias", np.zeros(4, "i4")).reshape(-1, 1, 1)
    scale = operands["x_scale"] * operands["w_scale"] / operands["y_scale"]
    real = np.rint(sums.astype("f4") * scale.reshape(-1, 1, 1)) + operands["y_zero_point"]
    limits = np.iinfo(kind[2])
    assert got.dtype == kind[2]
    assert (got == limits.min).any()
    assert (got == limits.max).any()
    np.testing.assert_array_equal(got, np.clip(real, limits.min, limits.max))
    helper = pytest.importorskip("onnx.helper")
    reference = pytest.importorskip("onnx.reference")
    node = helper.make_node("QLinearConv", list(operands), ["y"], pads=[1] * 4, strides=[2, 2])
    want = reference.ReferenceEvaluator(node).run(None, operands)[0]
    assert abs(got.astype(int) - want).max() <= 1  # it rounds after adding the zero point
    assert (got == want).mean() > 0.99


@pytest.mark.parametrize("kind", QUANTISED, ids=str)
def test_quantised_as_onnx_runtime(kind: Any) -> None:
    """Bit by bit, for what it computes: unsigned images give unsigned ones, and so on."""
    runtime = pytest.importorskip("onnxruntime")
    helper, proto = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx").TensorProto
    operands = quantised(*kind)
    types = {"int8": proto.INT8, "uint8": proto.UINT8, "int32": proto.INT32, "float32": 1}
    inputs = [
        helper.make_tensor_value_info(name, types[a.dtype.name], a.shape)
        for name, a in operands.items()
    ]
    result = helper.make_tensor_value_info("y", types[kind[2]], None)
    node = helper.make_node("QLinearConv", list(operands), ["y"], pads=[1] * 4, strides=[2, 2])
    graph = helper.make_graph([node], "g", inputs, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=8)
    try:
        session = runtime.InferenceSession(model.SerializeToString())
        want = session.run(None, operands)[0]
    except Exception as error:  # its own classes of errors
        pytest.skip(f"ONNX Runtime: {error!s:.80}")
    np.testing.assert_array_equal(fastconv.qlinear_conv2d(**operands, stride=2, pad=1), want)


def test_halves_are_rounded_to_even() -> None:
    x = np.array([[1, 3, 5, 7, 9]], "i1")
    y = fastconv.qlinear_conv2d(x, 1.0, 0, np.array([[1]], "i1"), 0.5, 0, 1.0, 1)
    np.testing.assert_array_equal(y, [[1, 3, 3, 5, 5]])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_held_otherwise(layout: str) -> None:
    """One image, channels last, and a result with strides of its own."""
    operands = quantised("uint8", "int8", "uint8", True, True)
    want = fastconv.qlinear_conv2d(**operands)
    if layout == "NHWC":
        operands["x"] = operands["x"].transpose(0, 2, 3, 1)
        want = want.transpose(0, 2, 3, 1)
    out = np.zeros((*want.shape, 2), "u1")[..., 1]
    assert fastconv.qlinear_conv2d(**operands, layout=layout, out=out) is out
    np.testing.assert_array_equal(out, want)
    operands["x"] = operands["x"][1]
    np.testing.assert_array_equal(fastconv.qlinear_conv2d(**operands, layout=layout), want[1])


X, W = np.ones((1, 2, 4, 4), "u1"), np.ones((3, 2, 3, 3), "i1")


@pytest.mark.parametrize(
    ("x", "w", "options", "error", "says"),
    [
        (X.astype("i2"), W, {}, fastconv.DTypeError, "takes int8 and uint8, x is int16"),
        (X, W.astype("f4"), {}, fastconv.DTypeError, "w is float32; quantise it"),
        (X, W, {"x_zero_point": 256}, fastconv.ShapeError, "x_zero_point=256 lies outside"),
        (X, W, {"x_zero_point": -1}, fastconv.ShapeError, "outside of the range of uint8"),
        (X, W, {"x_zero_point": 1.0}, fastconv.DTypeError, "x_zero_point must be an integer"),
        (X, W, {"x_zero_point": [1, 2]}, fastconv.ShapeError, r"must be one number, got shape \(2"),
        (X, W, {"w_zero_point": [1, 2]}, fastconv.ShapeError, r"or an array \(3,\), one for each"),
        (X, W[:, :1], {}, fastconv.ShapeError, "w expects 1 input channel per group"),
    ],
)
def test_errors(x: Any, w: Any, options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        fastconv.conv2d_integer(x, w, **options)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"x_scale": 0.0}, fastconv.ShapeError, "x_scale must be positive and finite"),
        ({"y_scale": np.nan}, fastconv.ShapeError, "y_scale must be positive and finite"),
        ({"w_scale": [1.0, 2.0]}, fastconv.ShapeError, r"w_scale must be one number or an array"),
        ({"y_zero_point": 300}, fastconv.ShapeError, "y_zero_point=300 lies outside"),
        ({"bias": np.ones(3)}, fastconv.DTypeError, "bias is float64"),
        ({"bias": np.ones(2, "i4")}, fastconv.ShapeError, r"bias has shape \(2,\)"),
        ({"dtype": "i4"}, fastconv.DTypeError, "must be int8 or uint8, got int32"),
        ({"out": np.ones((1, 3, 2, 2), "i1")}, fastconv.OutputError, "out must be .* uint8, got"),
    ],
)
def test_quantised_errors(options: Any, error: Any, says: str) -> None:
    operands: dict[str, Any] = {
        "x": X, "x_scale": 1.0, "x_zero_point": 0, "w": W, "w_scale": 1.0, "w_zero_point": 0,
        "y_scale": 1.0, "y_zero_point": 0,
    }  # fmt: skip
    with pytest.raises(error, match=says):
        fastconv.qlinear_conv2d(**(operands | options))


def rescaled(sums: Any, scale: Any, zero: int, dtype: str) -> np.ndarray:
    """Multiply in float32, round half to even, add the zero point, saturate; by the definition."""
    real = np.multiply(sums, scale, dtype="f4", casting="same_kind")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(real.astype("f8")) + zero, limits.min, limits.max).astype(dtype)


SUMS = {
    "all": np.random.default_rng(1).integers(-(2**31), 2**31, 4000, "i4"),
    "bytes": np.random.default_rng(2).integers(-700, 700, 4000, "i4"),
    "ties": np.arange(-2000, 2000, dtype="i4"),
    "ends": np.array([-(2**31), 2**31 - 1, 0, 1, -1, 127, 128, -128, -129, 255, 256] * 7, "i4"),
}


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("threads", [1, 3])
def test_sums_become_bytes_by_the_definition(kind: str, dtype: str, threads: int) -> None:
    """The native pass and NumPy's: one scale, one each channel, in planes and in pixels."""
    values = SUMS[kind]
    limits = np.iinfo(dtype)
    # (images, channels, height, width), channels last and first
    for shape in ((1, 1, 1, 7), (2, 3, 5, 7), (1, 17, 3, 11), (2, 16, 1, 1), (1, 5, 13, 16)):
        k, p, q = shape[1:]
        sums = np.resize(values, shape)
        for zero, size in itertools.product((limits.min, 0, 3, limits.max), {1, k}):
            scale = np.resize(np.array([0.5, 0.25, 0.0378, 1e-9, 3e4, 1.5], "f4"), size)
            for last in (False, True):
                held = np.ascontiguousarray(sums.transpose(0, 2, 3, 1)) if last else sums
                factor = scale if last or size == 1 else scale[:, None, None]
                want = rescaled(held, factor, zero, dtype)
                out = np.full(held.shape, limits.max, dtype)
                quantised_module._requantise(np, held, factor, zero, out)
                np.testing.assert_array_equal(out, want, err_msg="NumPy")
                if native.available() is not None:
                    continue
                each = last and size > 1
                length = k if each else p * q if size > 1 else sums.size
                out = np.full(held.size + 2, 99, dtype)
                inside = out[1:-1].reshape(held.shape)
                options = resolve("native", None, threads)
                ends = quantised_module._limits(out.dtype, zero)
                assert native.requantise(options, held, scale, length, each, ends, zero, inside)
                np.testing.assert_array_equal(inside, want, err_msg="native")
                assert (out[[0, -1]] == 99).all(), "wrote outside of out"


def test_large_images_are_scaled_by_several_threads() -> None:
    rng = np.random.default_rng(0)
    x, w = draw(rng, "uint8", 3, 16, 90, 70), draw(rng, "int8", 33, 16, 3, 3)
    scale = rng.uniform(1e-3, 2e-3, 33).astype("f4")
    for layout in ("NCHW", "NHWC"):
        held = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        arguments = (held, 0.1, 7, w, scale, 0, 0.05, 128)
        want = fastconv.qlinear_conv2d(*arguments, pad=1, layout=layout, backend="reference")
        for threads in (1, 2, 5):
            got = fastconv.qlinear_conv2d(*arguments, pad=1, layout=layout, threads=threads)
            np.testing.assert_array_equal(got, want)
            alone = (held[1], *arguments[1:])
            got = fastconv.qlinear_conv2d(*alone, pad=1, layout=layout, threads=threads)
            np.testing.assert_array_equal(got, want[1])


def test_wrong_arrays_are_refused_by_the_native_pass() -> None:
    """Python has seen to them; these keep a wrong call from writing into foreign memory."""
    backends.present("native")
    sums, out, scale = np.zeros((4, 6), "i4"), np.zeros((4, 6), "u1"), np.ones(6, "f4")
    options = resolve("native", None, 1)

    def call(sums: Any, scale: Any, length: int, each: bool, out: Any) -> bool:
        return native.requantise(options, sums, scale, length, each, (0.0, 255.0), 0, out)

    assert call(sums, scale, 6, True, out)
    assert not call(sums[:, ::2], scale[::2], 3, True, out[:, ::2])
    for bad in (
        (sums.astype("i8"), scale, 6, True, out), (sums, scale, 5, False, out),
        (sums, scale, 0, False, out), (sums, scale[:5], 6, True, out),
        (sums, scale.astype("f8"), 6, True, out), (sums, scale, 6, True, out[:3]),
        (sums, scale, 6, True, out.astype("i4")), (sums, scale[:0], 6, False, out),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="requantise"):
            call(*bad)
