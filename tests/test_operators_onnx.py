"""Operators as ONNX defines them: its reference evaluator, with its own words for every option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.cases import generator
from support.oracles import oracle

import fastconv

helper = oracle("onnx.helper")
evaluator = oracle("onnx.reference")

Array = np.ndarray[Any, Any]


def evaluate(kind: str, operands: dict[str, Array], **attributes: Any) -> Array:
    """Evaluate one node."""
    given = {name: value for name, value in attributes.items() if value is not None}
    node = helper.make_node(kind, list(operands), ["y"], **given)
    result: Array = evaluator.ReferenceEvaluator(node).run(None, operands)[0]
    return result


def whole(*shape: int, dtype: str = "float32") -> Array:
    """Small integers, whose sums are exact in any order; bytes over their whole range."""
    if np.dtype(dtype).itemsize == 1:
        info = np.iinfo(dtype)
        return generator(shape, dtype).integers(info.min, info.max, shape, dtype, endpoint=True)
    return generator(shape).integers(-9, 9, shape, endpoint=True).astype(dtype)


def ends(pads: tuple[int, ...] | None, spatial: int) -> Any:
    """ONNX's pads, all beginnings before all ends, as pairs."""
    return 0 if pads is None else tuple(zip(pads[:spatial], pads[spatial:], strict=True))


#: x, w, then ONNX's attributes.
TRANSPOSED: list[tuple[Any, Any, dict[str, Any]]] = [
    ((1, 1, 3, 3), (1, 2, 3, 3), {}),
    ((2, 3, 4, 5), (3, 2, 3, 2), {"strides": (2, 3), "pads": (1, 0, 2, 1)}),
    ((1, 2, 3, 4), (2, 3, 2, 3), {"strides": (3, 2), "output_padding": (2, 1)}),
    ((1, 2, 4, 3), (2, 1, 3, 3), {"dilations": (2, 3), "strides": (2, 1), "pads": (2, 2, 1, 1)}),
    ((1, 2, 4, 3), (2, 1, 2, 2), {"dilations": (3, 2), "strides": (2, 3),
                                  "output_padding": (1, 2)}),
    ((1, 2, 7), (2, 4, 4), {"strides": (3,), "pads": (1, 2), "output_padding": (1,)}),
    ((2, 2, 3, 2, 4), (2, 3, 2, 3, 2), {"strides": (2, 1, 3), "pads": (0, 1, 1, 1, 0, 2)}),
    ((1, 2, 3, 4), (2, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": (2, 3)}),
    ((1, 2, 3, 4), (2, 3, 3, 3), {"auto_pad": "SAME_LOWER", "strides": (2, 2)}),
    ((1, 2, 5), (2, 3, 4), {"auto_pad": "SAME_LOWER", "strides": (2,)}),
    ((1, 2, 3, 4), (2, 3, 3, 4), {"auto_pad": "SAME_UPPER"}),
    ((1, 2, 3, 4), (2, 3, 3, 3), {"auto_pad": "VALID", "strides": (2, 2)}),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": (3, 2),
                                  "output_shape": (8, 6)}),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"auto_pad": "SAME_LOWER", "strides": (3, 2),
                                  "output_shape": (8, 6)}),
    ((1, 2, 3, 3), (2, 2, 4, 3), {"auto_pad": "SAME_UPPER", "strides": (2, 2),
                                  "dilations": (1, 2), "output_shape": (5, 4)}),
    ((1, 1, 4, 4, 3), (1, 2, 2, 2, 3), {"auto_pad": "SAME_LOWER", "strides": (2, 1, 2),
                                        "output_shape": (7, 4, 6)}),
]  # fmt: skip


def transposed(x: Array, w: Array, bias: Array | None, **attributes: Any) -> Array:
    """Our call, in ONNX's words."""
    spatial = x.ndim - 2
    names = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid", None: None}
    pad = names[attributes.get("auto_pad")] or ends(attributes.get("pads"), spatial)
    convolve = getattr(fastconv, f"conv_transpose{spatial}d")
    result: Array = convolve(
        x, w, attributes.get("strides", 1), pad, bias=bias,
        dilation=attributes.get("dilations", 1), groups=attributes.get("group", 1),
        output_padding=attributes.get("output_padding", 0),
        output_shape=attributes.get("output_shape"),
    )  # fmt: skip
    return result


@pytest.mark.parametrize(("x", "w", "attributes"), TRANSPOSED, ids=str)
def test_conv_transpose(x: Any, w: Any, attributes: dict[str, Any]) -> None:
    operands = {"x": whole(*x), "w": whole(*w), "b": whole(w[1])}
    got = transposed(*operands.values(), **attributes)
    np.testing.assert_array_equal(got, evaluate("ConvTranspose", operands, **attributes))


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("attributes", [TRANSPOSED[i][2] for i in (0, 1, 2, 3, 7, 8, 12)], ids=str)
def test_conv_transpose_of_groups(groups: int, attributes: dict[str, Any]) -> None:
    """The evaluator takes one output channel a group; more are groups evaluated alone."""
    x, w = whole(2, 2 * groups, 4, 3), whole(2 * groups, 3, 3, 2)
    got = transposed(x, w, None, group=groups, **attributes)
    alone = [
        evaluate("ConvTranspose", {"x": xs, "w": ws}, **attributes)
        for xs, ws in zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    ]
    np.testing.assert_array_equal(got, np.concatenate(alone, 1))
    x, w = whole(2, groups, 4, 3), whole(groups, 1, 3, 2)
    got = transposed(x, w, None, group=groups, **attributes)
    want = evaluate("ConvTranspose", {"x": x, "w": w}, group=groups, **attributes)
    np.testing.assert_array_equal(got, want)


CONVOLVED: list[tuple[Any, Any, dict[str, Any]]] = [
    ((2, 4, 9), (6, 2, 3), {"group": 2, "strides": (2,), "pads": (1, 2), "dilations": (2,)}),
    ((1, 3, 5, 6), (4, 3, 3, 2), {"strides": (2, 1), "pads": (1, 0, 2, 1)}),
    ((1, 6, 7, 5), (3, 2, 2, 3), {"group": 3, "dilations": (2, 1)}),
    ((1, 2, 7, 6), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": (2, 2)}),
    ((1, 2, 7, 6), (3, 2, 2, 4), {"auto_pad": "SAME_LOWER", "strides": (1, 2)}),
    ((1, 2, 4, 5, 4), (4, 1, 2, 3, 2), {"group": 2, "strides": (1, 2, 1),
                                        "pads": (1, 0, 1, 0, 1, 1)}),
]  # fmt: skip


def options(x: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return our options in the place of ONNX's attributes."""
    names = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower"}
    pad = names.get(attributes.get("auto_pad", "")) or ends(attributes.get("pads"), len(x) - 2)
    return {
        "stride": attributes.get("strides", 1), "pad": pad, "groups": attributes.get("group", 1),
        "dilation": attributes.get("dilations", 1),
    }  # fmt: skip


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLVED, ids=str)
def test_conv(x: Any, w: Any, attributes: dict[str, Any]) -> None:
    operands = {"x": whole(*x), "w": whole(*w), "b": whole(w[0])}
    want = evaluate("Conv", operands, **attributes)
    convolve = getattr(fastconv, f"conv{len(x) - 2}d")
    got = convolve(operands["x"], operands["w"], bias=operands["b"], **options(x, attributes))
    np.testing.assert_array_equal(got, want)


FLAT = [(x, w, a) for x, w, a in CONVOLVED if len(x) == 4]


@pytest.mark.parametrize("each", [False, True], ids=["one zero point", "zero points"])
@pytest.mark.parametrize(("x", "w", "attributes"), FLAT, ids=str)
@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("int8", "uint8"), ("uint8", "uint8")])
def test_conv_integer(x: Any, w: Any, attributes: Any, dtypes: Any, each: bool) -> None:
    operands = {
        "x": whole(*x, dtype=dtypes[0]), "w": whole(*w, dtype=dtypes[1]),
        "a": np.array(7, dtypes[0]), "b": np.arange(w[0] if each else 1).astype(dtypes[1]) + 3,
    }  # fmt: skip
    operands["b"] = operands["b"] if each else operands["b"][0]
    want = evaluate("ConvInteger", operands, **attributes)
    got = fastconv.conv2d_integer(
        operands["x"], operands["w"], x_zero_point=operands["a"], w_zero_point=operands["b"],
        **options(x, attributes),
    )  # fmt: skip
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("each", [False, True], ids=["one scale", "scales"])
@pytest.mark.parametrize(("x", "w", "attributes"), FLAT, ids=str)
@pytest.mark.parametrize("dtypes", [("uint8", "int8", "uint8"), ("int8", "uint8", "int8")])
def test_qlinear_conv(x: Any, w: Any, attributes: Any, dtypes: Any, each: bool) -> None:
    """Scales are powers of two, so that no product with them rounds: every bit is the same.

    The evaluator rounds after it has added the zero point: an even one changes no tie.
    """
    zeros = np.arange(w[0]).astype(dtypes[1]) * 5
    operands = {
        "x": whole(*x, dtype=dtypes[0]), "x_scale": np.array(0.5, "f4"),
        "x_zero_point": np.array(9, dtypes[0]), "w": whole(*w, dtype=dtypes[1]),
        "w_scale": 2.0 ** -(np.arange(w[0]) % 3 + 8.0).astype("f4"), "w_zero_point": zeros,
        "y_scale": np.array(2, "f4"), "y_zero_point": np.array(4, dtypes[2]),
        "bias": whole(w[0]).astype("i4") * 1000,
    }  # fmt: skip
    if not each:
        operands["w_scale"], operands["w_zero_point"] = operands["w_scale"][1], zeros[1]
    want = evaluate("QLinearConv", operands, **attributes)
    got = fastconv.qlinear_conv2d(**operands, **options(x, attributes))
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    limits = np.iinfo(dtypes[2])
    assert ((want > limits.min) & (want < limits.max)).mean() > 0.2, "saturated everywhere"
