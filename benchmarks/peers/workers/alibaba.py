"""MNN: one convolution, converted from ONNX, ``precision`` high."""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path

import MNN
import numpy as np
import onnx

from benchmarks.peers.task import Task, operands

from . import Prepared, Unsupported
from .onnx_model import model


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"MNN": importlib.metadata.version("MNN")}


def _convert(source: Path, target: Path) -> None:
    # the converter itself: the script around it installs packages and reports to a server
    import _tools

    _tools.mnnconvert(
        ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target),
         "--bizCode", "MNN"]
    )  # fmt: skip


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Make a session. x is copied in by every call, since MNN reuses its input's memory."""
    x, w = operands(task)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "layer.onnx"), Path(folder, "layer.mnn")
        onnx.save(model(task, w), str(source))
        _convert(source, target)
        if not target.exists():
            raise Unsupported("MNN does not convert this layer")
        interpreter = MNN.Interpreter(str(target))
    session = interpreter.createSession(
        {"backend": "CPU", "numThread": threads, "precision": "high"}
    )
    source_tensor = interpreter.getSessionInput(session)
    result = interpreter.getSessionOutput(session)
    shape = task.problem.out_shape
    out = np.empty(shape, np.float32)
    layout = MNN.Tensor_DimensionType_Caffe
    image = MNN.Tensor(task.x_shape, MNN.Halide_Type_Float, x, layout)
    host = MNN.Tensor(shape, MNN.Halide_Type_Float, out, layout)

    def call() -> None:
        source_tensor.copyFrom(image)
        interpreter.runSession(session)

    def fetch(_: object) -> np.ndarray:
        result.copyToHostTensor(host)
        return np.array(host.getNumpyData()).reshape(shape)

    return Prepared(call, fetch, held=(x, out, interpreter))
