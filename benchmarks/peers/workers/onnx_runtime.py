"""ONNX Runtime: one node, its inputs and outputs bound."""

from __future__ import annotations

import numpy as np
import onnxruntime

from benchmarks.peers.task import Task, operands

from . import Prepared
from .onnx_model import model


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"onnxruntime": onnxruntime.__version__}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Build a session, which packs the weights, and bind x and y.

    ``ort_u8`` stores the same int8 weights as uint8 with a zero point of 128: ONNX Runtime then
    uses its vector kernels, where the plain export ``ort`` gets those for any machine.
    """
    x, w = operands(task)
    stored = (
        model(task, w.view(np.uint8) ^ np.uint8(128), 128)
        if variant == "ort_u8"
        else model(task, w)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        stored.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    out = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(task.result_shape, task.out_dtype))
    image = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", image)
    binding.bind_ortvalue_output("y", out)
    return Prepared(
        lambda: session.run_with_iobinding(binding), lambda _: out.numpy(), held=(x, image)
    )
