"""Nodes of ONNX graphs; `bare`: fastconv's call, and the evaluator on a node that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import fastconv
from fastconv.interop.onnx import Backend

from .row import Row

X, W, B = np.ones((1, 1, 8, 8), "f4"), np.ones((1, 1, 3, 3), "f4"), np.ones(1, "f4")
Q, V, ZERO, SCALE = X.astype("u1"), W.astype("i1"), np.array(1, "u1"), np.array(0.5, "f4")
OFFSET, COLUMNS = np.zeros((1, 18, 6, 6), "f4"), np.ones((1, 9, 36), "f4")
WZERO = np.array(0, "i1")
#: Operators whose reference takes milliseconds: it is not timed.
SLOW = ("ConvTranspose", "DeformConv", "Col2Im")


class Node(NamedTuple):
    """A node's inputs, of which the first is the model's and the others are constants; our call."""

    inputs: tuple[np.ndarray[Any, Any], ...]
    call: Callable[[Any], Any]


NODES = {
    "Conv": Node((X, W, B), fastconv.plan_conv2d(W, X.shape, bias=B)),
    "ConvTranspose": Node((X, W, B), fastconv.conv_transpose2d.plan(X.shape, W, bias=B)),
    "ConvInteger": Node((Q, V, ZERO), lambda q: fastconv.conv2d_integer(q, V, x_zero_point=ZERO)),
    "QLinearConv": Node(
        (Q, SCALE, ZERO, V, SCALE, WZERO, SCALE, ZERO),
        lambda q: fastconv.qlinear_conv2d(q, SCALE, ZERO, V, SCALE, WZERO, SCALE, ZERO),
    ),
    "DeformConv": Node(
        (X, W, OFFSET, B), lambda x: fastconv.deform_conv2d(x, W, OFFSET, bias=B, offset_groups=1)
    ),
    "Col2Im": Node(
        (COLUMNS, np.array([8, 8]), np.array([3, 3])),
        lambda columns: fastconv.col2im(columns, (8, 8), (3, 3)),
    ),
}


def model(operator: str) -> Any:
    """Make a model of one node."""
    inputs, call = NODES[operator]
    names = [f"i{place}" for place in range(len(inputs))]
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in (("i0", inputs[0]), ("y", call(inputs[0])))
    ]
    constants = [
        numpy_helper.from_array(array, name)
        for name, array in zip(names[1:], inputs[1:], strict=True)
    ]
    node = helper.make_node(operator, names, ["y"])
    graph = helper.make_graph([node], "pixels", infos[:1], infos[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def idle(operator: str, result: Any) -> type[OpRun]:
    """Return an operator of this name that returns the same array every time."""

    def _run(self: Any, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        return (result,)

    return type(operator, (OpRun,), {"op_domain": "", "_run": _run})


def row(operator: str) -> Row:
    """Compare one operator: our node, an idle node and our call, ONNX's own node."""
    proto, (inputs, call) = model(operator), NODES[operator]
    x, feeds = inputs[0], {"i0": inputs[0]}
    prepared, reference = Backend.prepare(proto).evaluator, ReferenceEvaluator(proto)
    nothing = ReferenceEvaluator(proto, new_ops=[idle(operator, call(x))])

    def bare() -> None:
        call(x)
        nothing.run(None, feeds)

    return Row(
        f"{operator} node",
        lambda: prepared.run(None, feeds),
        bare,
        None if operator in SLOW else lambda: reference.run(None, feeds),
    )


def rows() -> list[Row]:
    """A node of each kind."""
    return [row(operator) for operator in NODES]
