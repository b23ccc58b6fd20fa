"""OpenVINO: one convolution node, input and output tensors set once."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.peers.task import Task, operands

from . import Prepared

# Its import reports to a server, from a forked process; without the reporter it does not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402
from openvino import opset13  # noqa: E402


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"openvino": openvino.__version__}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Compile the model for latency, in float32 even where the processor knows bfloat16."""
    x, w = operands(task)
    image = opset13.parameter(x.shape, np.float32)
    how = ([task.stride] * 2, [task.pad] * 2, [task.pad] * 2, [task.dilation] * 2)
    if task.groups == 1:
        node = opset13.convolution(image, opset13.constant(w), *how)
    else:
        grouped = w.reshape(task.groups, -1, *w.shape[1:])
        node = opset13.group_convolution(image, opset13.constant(grouped), *how)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(openvino.Model([node], [image]), "CPU", settings)
    request = compiled.create_infer_request()
    out = np.empty(task.problem.out_shape, np.float32)
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(out, shared_memory=True))
    return Prepared(request.infer, lambda _: out, held=(x, w, compiled))
