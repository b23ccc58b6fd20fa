"""A model of one convolution, its weights constant, as ONNX."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.task import Array, Task

#: Old enough for every reader, new enough for all that is used here.
OPSET, IR_VERSION = 17, 8

_TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "int32": TensorProto.INT32}


def model(task: Task, w: Array, zero: int | None = None) -> onnx.ModelProto:
    """Build ``Conv``, ``ConvTranspose``, or for int8 ``ConvInteger``, of input x and output y.

    Parameters
    ----------
    task : Task
    w : ndarray
        The weights, stored as an initializer.
    zero : int, optional
        Zero point of weights that are stored as uint8.
    """
    inputs, stored = ["x", "w"], [numpy_helper.from_array(w, "w")]
    if zero is not None:
        inputs += ["", "zero"]
        stored.append(numpy_helper.from_array(np.array(zero, w.dtype), "zero"))
    name, more = "ConvInteger" if task.dtype == "int8" else "Conv", {}
    if task.operator == "transposed":
        name, more = "ConvTranspose", {"output_padding": [task.output_padding] * task.spatial}
    node = helper.make_node(
        name, inputs, ["y"], strides=[task.stride] * task.spatial,
        pads=[task.pad] * (2 * task.spatial), dilations=[task.dilation] * task.spatial,
        group=task.groups, **more,
    )  # fmt: skip
    x = helper.make_tensor_value_info("x", _TYPES[task.dtype], task.x_shape)
    y = helper.make_tensor_value_info("y", _TYPES[task.out_dtype], task.result_shape)
    graph = helper.make_graph([node], "convolution", [x], [y], stored)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
