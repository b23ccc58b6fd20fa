"""Nodes of ONNX in fastconv, beside ONNX Runtime: attributes, plans, errors."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support.cases import generator
from support.oracles import oracle

import fastconv

onnx = oracle("onnx")
helper = oracle("onnx.helper")
numpy_helper = oracle("onnx.numpy_helper")
parser = oracle("onnx.parser")
reference = oracle("onnx.reference")
adapter = oracle("fastconv.interop.onnx")
served = oracle("fastconv.interop.onnx.served")

Array = np.ndarray[Any, Any]
VERSION = tuple(map(int, onnx.__version__.split(".")[:2]))
Backend = adapter.Backend


def whole(*shape: int, dtype: str = "float32") -> Array:
    """Small integers, whose sums are exact in any order; bytes over their whole range."""
    if np.dtype(dtype).itemsize == 1:
        info = np.iinfo(dtype)
        return generator(shape, dtype).integers(info.min, info.max, shape, dtype, endpoint=True)
    return generator(shape).integers(-9, 9, shape, endpoint=True).astype(dtype)


def model(
    kind: str, inputs: dict[str, Array], weights: dict[str, Array], result: str = "float32",
    name: str = "the node", **attributes: Any,
) -> Any:  # fmt: skip
    """Make a model of one node, of inputs of any size and weights."""
    node = helper.make_node(kind, [*inputs, *weights], ["y"], name=name, **attributes)
    infos = [
        helper.make_tensor_value_info(
            key,
            helper.np_dtype_to_tensor_dtype(value.dtype),
            [f"{key}{axis}" for axis in range(value.ndim)],
        )
        for key, value in inputs.items()
    ]
    rank = next(iter(inputs.values())).ndim
    y = helper.make_tensor_value_info(
        "y", helper.np_dtype_to_tensor_dtype(np.dtype(result)), [f"y{axis}" for axis in range(rank)]
    )
    constants = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph([node], "g", infos, [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def on_onnxruntime(proto: Any, inputs: dict[str, Array]) -> Array:
    runtime = oracle("onnxruntime")
    runtime.set_default_logger_severity(3)  # it warns of sizes that ONNX infers otherwise
    session = runtime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result: Array = session.run(None, inputs)[0]
    return result


def same_as_onnxruntime(proto: Any, inputs: dict[str, Array]) -> None:
    """Every bit is the same, by a plan as well as at the first call."""
    prepared = Backend.prepare(proto)
    want = on_onnxruntime(proto, inputs)
    for _ in range(2):
        got = prepared.run(list(inputs.values()))[0]
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert [node.calls_ for node in prepared.served()] == [2]


#: x, w, attributes.
CONVOLVED: list[tuple[Any, Any, dict[str, Any]]] = [
    ((2, 4, 9), (6, 2, 3), {"group": 2, "strides": [2], "pads": [1, 2], "dilations": [2]}),
    ((1, 2, 9), (3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [2]}),
    ((1, 3, 5, 6), (4, 3, 3, 2), {"strides": [2, 1], "pads": [1, 0, 2, 1], "kernel_shape": [3, 2]}),
    ((1, 6, 7, 5), (3, 2, 2, 3), {"group": 3, "dilations": [2, 1]}),
    ((1, 2, 7, 6), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 2, 7, 6), (3, 2, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ((1, 2, 7, 6), (3, 2, 2, 4), {"auto_pad": "VALID", "strides": [3, 2]}),
    ((2, 2, 4, 5, 4), (4, 1, 2, 3, 2), {"group": 2, "strides": [1, 2, 1],
                                        "pads": [1, 0, 1, 0, 1, 1]}),
]  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLVED, ids=str)
def test_conv(x: Any, w: Any, attributes: dict[str, Any], bias: bool) -> None:
    weights = {"w": whole(*w)} | ({"b": whole(w[0])} if bias else {})
    inputs = {"x": whole(*x)}
    same_as_onnxruntime(model("Conv", inputs, weights, **attributes), inputs)


#: Of images (1, 4, 3, 3) and kernels (4, 2, 3, 3); see `attributes.transposed` for output_shape.
TRANSPOSED: list[dict[str, Any]] = [
    {"strides": [2, 1], "pads": [1, 0, 0, 2], "output_padding": [1, 0]},
    {"strides": [2, 3], "group": 2, "dilations": [2, 1]},
    {"strides": [2, 1], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER", "output_padding": [1, 1]},
    {"strides": [2, 1], "auto_pad": "VALID"},
    {"strides": [3, 2], "output_shape": [8, 6]},
    {"strides": [3, 2], "output_shape": [8, 6], "auto_pad": "SAME_UPPER"},
    {"strides": [3, 2], "output_shape": [8, 6], "auto_pad": "SAME_LOWER"},
    {"strides": [3, 2], "output_shape": [8, 6], "output_padding": [1, 1]},
    {"strides": [3, 2], "output_shape": [11, 8]},
    {"strides": [3, 2], "output_shape": [11, 8], "auto_pad": "SAME_UPPER"},
    {"strides": [3, 2], "output_shape": [10, 8], "output_padding": [1, 1]},
    {"strides": [3, 2], "output_shape": [8, 6], "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("attributes", TRANSPOSED, ids=str)
def test_conv_transpose(attributes: dict[str, Any]) -> None:
    inputs = {"x": whole(1, 4, 3, 3)}
    weights = {"w": whole(4, 2, 3, 3), "b": whole(2 * attributes.get("group", 1))}
    same_as_onnxruntime(model("ConvTranspose", inputs, weights, **attributes), inputs)


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [((2, 4, 5), (4, 3, 3), {"strides": [2], "pads": [1, 0], "output_padding": [1]}),
     ((1, 2, 2, 3, 2), (2, 3, 2, 3, 2), {"strides": [2, 1, 2], "pads": [0, 1, 0, 1, 1, 0]})],
    ids=str,
)  # fmt: skip
def test_conv_transpose_of_signals_and_volumes(x: Any, w: Any, attributes: dict[str, Any]) -> None:
    inputs = {"x": whole(*x)}
    same_as_onnxruntime(model("ConvTranspose", inputs, {"w": whole(*w)}, **attributes), inputs)


QUANTISED = [(x, w, a) for x, w, a in CONVOLVED if len(x) < 5]


@pytest.mark.parametrize(("x", "w", "attributes"), QUANTISED, ids=str)
def test_conv_integer(x: Any, w: Any, attributes: dict[str, Any]) -> None:
    inputs = {"x": whole(*x, dtype="uint8")}
    weights = {"w": whole(*w, dtype="uint8"), "a": np.array(7, "u1"), "b": np.array(3, "u1")}
    same_as_onnxruntime(model("ConvInteger", inputs, weights, "int32", **attributes), inputs)


@pytest.mark.parametrize(("x", "w", "attributes"), QUANTISED, ids=str)
def test_qlinear_conv(x: Any, w: Any, attributes: dict[str, Any]) -> None:
    """Scales are powers of two and the zero point of y even: no rounding differs."""
    inputs = {"x": whole(*x, dtype="uint8")}
    weights = {
        "xs": np.array(0.5, "f4"), "xz": np.array(9, "u1"), "w": whole(*w, dtype="int8"),
        "ws": 2.0 ** -(np.arange(w[0]) % 3 + 8.0).astype("f4"), "wz": np.zeros(w[0], "i1"),
        "ys": np.array(2, "f4"), "yz": np.array(4, "u1"), "b": whole(w[0], dtype="int32"),
    }  # fmt: skip
    same_as_onnxruntime(model("QLinearConv", inputs, weights, "uint8", **attributes), inputs)


@pytest.mark.skipif(VERSION < (1, 19), reason="ONNX's own Conv had three axes of space at most")
@pytest.mark.parametrize(
    ("kind", "x", "weights", "result"),
    [("Conv", whole(1, 2, 3, 2, 3, 2), {"w": whole(2, 2, 2, 1, 2, 2)}, "float32"),
     ("ConvInteger", whole(1, 2, 3, 4, 3, dtype="uint8"),
      {"w": whole(2, 2, 2, 2, 2, dtype="int8")}, "int32")],
    ids=["four axes of space", "bytes of volumes"],
)  # fmt: skip
def test_what_fastconv_lacks_is_left_to_onnx(kind: str, x: Any, weights: Any, result: str) -> None:
    proto = model(kind, {"x": x}, weights, result)
    prepared = Backend.prepare(proto)
    want = reference.ReferenceEvaluator(proto).run(None, {"x": x})[0]
    np.testing.assert_array_equal(prepared.run([x])[0], want)
    assert [node.calls_ for node in prepared.served()] == [0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(dtype: str) -> None:
    if dtype == "bfloat16" and VERSION < (1, 19):
        pytest.skip("ONNX had a bfloat16 of its own")
    kind = np.dtype(oracle("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    x, w = whole(1, 2, 5, 5).astype(kind), (whole(3, 2, 3, 3) / 8).astype(kind)
    y = Backend.prepare(model("Conv", {"x": x}, {"w": w}, kind.name)).run([x])[0]
    assert y.dtype == kind
    want = fastconv.conv2d(x.astype("f8"), w.astype("f8")).astype(kind)
    np.testing.assert_array_equal(y, want)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Shapes for which plans have been made."""
    made: list[Any] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(fastconv, name)

        def plan_conv2d(self, w: Any, x_shape: Any, *args: Any, **kwargs: Any) -> Any:
            made.append(x_shape)
            return fastconv.plan_conv2d(w, x_shape, *args, **kwargs)

    monkeypatch.setattr(served, "fastconv", Watched())
    return made


def test_initialisers_become_plans_once(plans: list[Any]) -> None:
    w = whole(3, 2, 3, 3)
    prepared = Backend.prepare(model("Conv", {"x": whole(1, 2, 5, 6)}, {"w": w}))
    for shape in ((1, 2, 5, 6), (1, 2, 5, 6), (4, 2, 5, 6), (1, 2, 7, 7), (2, 2, 5, 6)):
        x = whole(*shape)
        np.testing.assert_array_equal(prepared.run([x])[0], fastconv.conv2d(x, w))
    assert plans == [(1, 2, 5, 6), (1, 2, 7, 7)]


def test_few_plans_are_kept(plans: list[Any]) -> None:
    prepared = Backend.prepare(model("Conv", {"x": whole(1, 2, 5, 6)}, {"w": whole(3, 2, 3, 3)}))
    for _ in range(2):
        for size in range(3, 3 + 2 * served.PLANS):
            prepared.run([whole(1, 2, size, 5)])
    assert len(plans) == 4 * served.PLANS
    assert len(prepared.served()[0]._plans) == served.PLANS


def test_large_weights_are_planned_for_one_shape(
    plans: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PLAN_BYTES", 100)
    prepared = Backend.prepare(model("Conv", {"x": whole(1, 2, 5, 6)}, {"w": whole(3, 2, 3, 3)}))
    for size in (5, 6, 6, 5):
        prepared.run([whole(1, 2, size, 5)])
    assert len(plans) == 3
    assert len(prepared.served()[0]._plans) == 1


FED = """<ir_version: 10, opset_import: ["": 22]>
fed (float[n, 1, h, v] x, float[1, 1, 2, 2] w) => (float[n, 1, p, q] y)
%s { y = Conv (x, w) }"""


@pytest.mark.parametrize("default", ["", "<float[1, 1, 2, 2] w = {1, 1, 1, 1}>"])
@pytest.mark.parametrize("frozen", [False, True], ids=["writeable", "a view that is not"])
def test_weights_that_are_given_may_change(plans: list[Any], frozen: bool, default: str) -> None:
    """No plan: the caller's arrays are the caller's."""
    prepared = Backend.prepare(parser.parse_model(FED % default))
    x, w = whole(1, 1, 3, 3), whole(1, 1, 2, 2)
    given = w[:]
    given.flags.writeable = not frozen
    for _ in range(2):
        np.testing.assert_array_equal(prepared.run([x, given])[0], fastconv.conv2d(x, w))
        w += 1
    assert plans == []
    if default:
        for _ in range(2):
            y = prepared.run([x])[0]
            np.testing.assert_array_equal(y, fastconv.conv2d(x, np.ones((1, 1, 2, 2), "f4")))
            np.testing.assert_array_equal(prepared.run([x, given])[0], fastconv.conv2d(x, w))
        assert len(plans) == 1


def test_a_bias_that_is_given_may_change(plans: list[Any]) -> None:
    proto = parser.parse_model("""<ir_version: 10, opset_import: ["": 22]>
        fed (float[n, 1, h, v] x, float[1] b) => (float[n, 1, p, q] y)
        <float[1, 1, 1, 1] w = {2}, float[1] b = {5}> { y = Conv (x, w, b) }""")
    prepared, x = Backend.prepare(proto), whole(1, 1, 3, 3)
    for _ in range(2):
        np.testing.assert_array_equal(prepared.run([x])[0], 2 * x + 5)
        np.testing.assert_array_equal(prepared.run([x, np.ones(1, "f4")])[0], 2 * x + 1)
    assert len(plans) == 1


def test_options_are_those_in_force(plans: list[Any]) -> None:
    prepared = Backend.prepare(model("Conv", {"x": whole(1, 2, 5, 6)}, {"w": whole(3, 2, 3, 3)}))
    x = whole(1, 2, 5, 6)
    prepared.run([x])
    with fastconv.options(backend="reference"):
        prepared.run([x])
    prepared.run([x])
    node = prepared.served()[0]
    assert len(plans) == 3
    assert len(node._plans) == 1


def test_many_threads_run_one_model() -> None:
    """Of shapes that drive each other's plans out."""
    w = whole(3, 2, 3, 3)
    prepared = Backend.prepare(model("Conv", {"x": whole(1, 2, 5, 6)}, {"w": w}))
    images = [whole(1, 2, size, 5) for size in range(3, 3 + 2 * served.PLANS)]
    want = [fastconv.conv2d(x, w) for x in images]
    wrong: list[int] = []

    def work(first: int) -> None:
        for step in range(60):
            i = (first + step) % len(images)
            if not np.array_equal(prepared.run([images[i]])[0], want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 16, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_new_ops_in_onnxs_own_evaluator(plans: list[Any]) -> None:
    x, w = whole(1, 2, 5, 6), whole(3, 2, 3, 3)
    proto = model("Conv", {"x": x}, {"w": w})
    evaluator = reference.ReferenceEvaluator(proto, new_ops=adapter.new_ops)
    for _ in range(3):
        np.testing.assert_array_equal(evaluator.run(None, {"x": x})[0], fastconv.conv2d(x, w))
    assert len(plans) == 1
    assert evaluator.rt_nodes_[0].calls_ == 3


FUNCTIONS = """<ir_version: 10, opset_import: ["": 22, "ours": 1]>
both (float[1, 1, 5, 5] x, bool wide) => (float[1, 1, p, q] y)
<float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}>
{
  a = ours.spread <auto_pad = "SAME_UPPER", dilations = [2, 2]> (x, w)
  b = ours.spread <auto_pad = "VALID", dilations = [1, 1]> (a, w)
  y = If (wide) <
    then_branch = wide_g () => (float[1, 1, p, q] c) { c = Conv <pads = [1, 1, 1, 1]> (b, w) },
    else_branch = narrow_g () => (float[1, 1, p, q] d) { d = Identity (b) }
  >
}
<domain: "ours", opset_import: ["": 22]>
spread <auto_pad, dilations> (x, w) => (y)
{ y = Conv <auto_pad: string = @auto_pad, dilations: ints = @dilations> (x, w) }"""


@pytest.mark.parametrize("wide", [False, True])
def test_functions_and_branches(wide: bool) -> None:
    """Attributes of functions are another in every call; branches see weights around them."""
    proto = parser.parse_model(FUNCTIONS)
    prepared = Backend.prepare(proto)
    x, flag = whole(1, 1, 5, 5), np.array(wide)
    w = np.arange(1, 10, dtype="f4").reshape(1, 1, 3, 3)
    want = fastconv.conv2d(fastconv.conv2d(x, w, pad="same", dilation=2), w)
    want = fastconv.conv2d(want, w, pad=1) if wide else want
    for _ in range(2):
        np.testing.assert_array_equal(prepared.run({"x": x, "wide": flag})[0], want)
    nodes = {id(node): node.calls_ for node in prepared.served()}
    assert sum(nodes.values()) == 4 + 2 * wide


WRONG: list[tuple[str, dict[str, Array], dict[str, Any], type[Exception], str]] = [
    ("Conv", {"x": whole(1, 3, 5, 5), "w": whole(4, 2, 3, 3)}, {}, ValueError, "C/groups"),
    ("Conv", {"x": whole(1, 3, 5, 5), "w": whole(4, 3, 3)}, {}, ValueError, "as many axes"),
    ("Conv", {"x": whole(1, 3, 5, 5), "w": whole(4, 3, 3, 3)}, {"kernel_shape": [3, 2]},
     ValueError, r"kernel_shape=\[3, 2\], the kernel of W is \[3, 3\]"),
    ("Conv", {"x": whole(1, 3, 5, 5), "w": whole(4, 3, 3, 3)}, {"pads": [1, 1]},
     ValueError, r"pads=\[1, 1\] must be 4 numbers for 2 axes"),
    ("Conv", {"x": whole(1, 3, 5, 5), "w": whole(4, 3, 3, 3)}, {"strides": [1]},
     ValueError, r"strides=\[1\] must be 2 numbers"),
    ("Conv", {"x": whole(1, 3, 5, 5), "w": whole(4, 3, 3, 3)}, {"auto_pad": "SAME"},
     ValueError, "auto_pad='SAME' is none of NOTSET"),
    ("ConvTranspose", {"x": whole(1, 3, 5, 5), "w": whole(3, 1, 3, 3)},
     {"output_shape": [90, 90]}, ValueError, "must be smaller than stride"),
    ("ConvTranspose", {"x": whole(1, 3, 5, 5), "w": whole(3, 1, 3, 3)},
     {"output_shape": [1, 1, 9, 9]}, ValueError, "must be 2 numbers for 2 axes"),
    ("ConvInteger", {"x": whole(1, 3, 5, 5), "w": whole(4, 3, 3, 3)}, {}, RuntimeError, "uint8"),
    ("DeformConv", {"x": whole(1, 2, 4, 4), "w": whole(1, 2, 2, 2), "o": whole(1, 7, 3, 3)},
     {}, ValueError, "offset"),
    ("Col2Im", {"x": whole(1, 5, 4), "image": np.array([3, 3]), "block": np.array([2, 2])}, {},
     ValueError, "cols"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "attributes", "error", "words"), WRONG)
def test_errors_name_the_node(
    kind: str, inputs: dict[str, Array], attributes: Any, error: type[Exception], words: str
) -> None:
    node = helper.make_node(kind, list(inputs), ["y"], name="the node", **attributes)
    evaluator = reference.ReferenceEvaluator(node, new_ops=adapter.new_ops)
    with pytest.raises(error, match=words) as caught:
        evaluator.run(None, inputs)
    message = str(caught.value)
    assert message.startswith(f"node 'the node': {kind}(x {inputs['x'].dtype}[")
    assert all(f"{name}={value}" in message for name, value in attributes.items())


def test_an_input_that_is_no_tensor_is_named() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="the node")
    with pytest.raises(RuntimeError, match=r"'the node': Conv\(x list, w .*X must be a tensor"):
        Backend.run_node(node, [[1.0], whole(1, 1, 2, 2)])


@pytest.mark.parametrize(
    ("arrays", "activation", "words"),
    [([whole(1, 2, 5), whole(2, 2, 3)], "none", "weight"),
     ([whole(1, 2, 5), whole(2, 1, 3), whole(2), whole(1, 2, 3)], "none", "past_state"),
     ([whole(1, 2, 5), whole(2, 1, 3)], "tanh", "activation='tanh'")],
    ids=["weight", "state", "activation"],
)  # fmt: skip
def test_errors_of_causal_convolutions(arrays: Any, activation: str, words: str) -> None:
    pytest.importorskip("onnx.reference.ops.op_causal_conv_with_state")
    names = ["x", "w", "b", "p"][: len(arrays)]
    node = helper.make_node("CausalConvWithState", names, ["y", "s"], activation=activation)
    evaluator = reference.ReferenceEvaluator(node, new_ops=adapter.new_ops)
    with pytest.raises(ValueError, match=words):
        evaluator.run(None, dict(zip(names, arrays, strict=True)))


def test_a_causal_convolution_goes_on() -> None:
    """In parts of any length, the state handed on, it is what it is in one piece."""
    pytest.importorskip("onnx.reference.ops.op_causal_conv_with_state")
    x, w, b = whole(2, 3, 12), whole(3, 1, 4), whole(3)
    first = helper.make_node("CausalConvWithState", ["x", "w", "b"], ["y", "s"])
    further = helper.make_node("CausalConvWithState", ["x", "w", "b", "p"], ["y", "s"])
    want = fastconv.conv1d(x, w, pad=((3, 0),), groups=3, bias=b)
    part, state = Backend.run_node(first, [x[:, :, :2], w, b])
    parts = [part]
    for start, end in ((2, 3), (3, 9), (9, 12)):
        part, state = Backend.run_node(further, [x[:, :, start:end], w, b, state])
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), want)
    np.testing.assert_array_equal(state, x[:, :, -3:])
    assert not np.shares_memory(state, x)


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15])
def test_normalisations_take_the_statistics_they_are_given(opset: int) -> None:
    """What ONNX's own evaluator does only from operator set 14 on; most models are older."""
    proto = parser.parse_model(f"""<ir_version: 8, opset_import: ["": {opset}]>
        trained (float[n, 2, h, v] x) => (float[n, 2, h, v] y)
        <float[2] s = {{1, 2}}, float[2] b = {{3, 4}}, float[2] m = {{5, 6}}, float[2] u = {{7, 8}}>
        {{ y = BatchNormalization <momentum = 0.5> (x, s, b, m, u) }}""")
    x = whole(2, 2, 3, 3)
    got = Backend.prepare(proto).run([x])[0]
    np.testing.assert_allclose(got, on_onnxruntime(proto, {"x": x}), rtol=1e-5, atol=1e-5)


def test_the_backend() -> None:
    assert Backend.supports_device("CPU")
    assert Backend.supports_device("CPU:0")
    assert not Backend.supports_device("CUDA")
    x, w = whole(1, 2, 5, 6), whole(3, 2, 3, 3)
    proto = model("Conv", {"x": x}, {"w": w})
    with pytest.raises(fastconv.BackendUnsupported, match="'CUDA:1'"):
        Backend.prepare(proto, "CUDA:1")
    with pytest.raises(ValueError, match=r"takes 1 inputs \(x\), got 3"):
        Backend.prepare(proto).run([x, w, w])
    np.testing.assert_array_equal(Backend.run_model(proto, [x])[0], fastconv.conv2d(x, w))
    node = helper.make_node("Conv", ["x", "w", "", ""], ["y"], name="a node")
    with pytest.raises(onnx.checker.ValidationError):
        Backend.run_node(node, [x, w])
    node = helper.make_node("Conv", ["x", "w", ""], ["y"], name="a node")
    np.testing.assert_array_equal(Backend.run_node(node, [x, w])[0], fastconv.conv2d(x, w))
    with pytest.raises(ValueError, match=r"'a node': Conv takes 2 inputs \(x, w\), got 1"):
        Backend.run_node(node, [x])
