"""Nodes of ONNX graphs, beside fastconv's call and what the evaluator takes for a node that does
nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import fastconv
from fastconv.interop.onnx import Backend

from .row import Row

MODELS = {
    "Conv": "x, w, b",
    "ConvTranspose": "x, w, b",
    "ConvInteger": "q, v, zero",
}


def model(operator: str, inputs: str) -> Any:
    """One node on 8 x 8 pixels."""
    ones = ", ".join("1" * 9)
    image, kind = ("q", "uint8") if operator == "ConvInteger" else ("x", "float")
    result = "int32" if operator == "ConvInteger" else "float"
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 22]>
        pixels ({kind}[1, 1, 8, 8] {image}) => ({result}[1, 1, h, v1] y)
        <float[1, 1, 3, 3] w = {{{ones}}}, float[1] b = {{1}}, int8[1, 1, 3, 3] v = {{{ones}}},
         uint8 zero = {{1}}>
        {{ y = {operator} ({inputs}) }}"""
    )


def idle(operator: str, result: Any) -> type[OpRun]:
    """Return an operator of this name that returns the same array every time."""

    def _run(self: Any, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        return (result,)

    return type(operator, (OpRun,), {"op_domain": "", "_run": _run})


def bare(operator: str) -> Any:
    """Return fastconv's own call."""
    w, b = np.ones((1, 1, 3, 3), "f4"), np.ones(1, "f4")
    if operator == "Conv":
        return fastconv.plan_conv2d(w, (1, 1, 8, 8), bias=b)
    if operator == "ConvTranspose":
        return fastconv.conv_transpose2d.plan((1, 1, 8, 8), w, bias=b)
    v, zero = w.astype("i1"), np.array(1, "u1")
    return lambda x: fastconv.conv2d_integer(x, v, x_zero_point=zero)


def row(operator: str, inputs: str) -> Row:
    """Compare one operator: our node, an idle node and our call, ONNX's own node."""
    proto = model(operator, inputs)
    name = proto.graph.input[0].name
    x = np.ones((1, 1, 8, 8), "u1" if operator == "ConvInteger" else "f4")
    prepared, alone = Backend.prepare(proto), bare(operator)
    nothing = ReferenceEvaluator(proto, new_ops=[idle(operator, alone(x))])
    reference, feeds = ReferenceEvaluator(proto), {name: x}

    def both() -> None:
        alone(x)
        nothing.run(None, feeds)

    return Row(
        f"{operator} node",
        lambda: prepared.evaluator.run(None, feeds),
        both,
        lambda: reference.run(None, feeds),
    )


def rows() -> list[Row]:
    """A node of each kind."""
    return [row(operator, inputs) for operator, inputs in MODELS.items()]
