"""ncnn: one convolution layer, in float32."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ncnn
import numpy as np

from benchmarks.peers.task import Task, operands

from . import Prepared, Unsupported

#: Without these ncnn computes in 16 bits where it can.
OFF = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage",
    "use_bf16_packed",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"ncnn": ncnn.__version__}


def _description(task: Task) -> str:
    kind = "Convolution" if task.groups == 1 else "ConvolutionDepthWise"
    groups = "" if task.groups == 1 else f" 7={task.groups}"
    count = task.k * (task.c // task.groups) * task.r * task.s
    return (
        "7767517\n2 2\n"
        f"Input x 0 1 x 0={task.w} 1={task.h} 2={task.c}\n"
        f"{kind} conv 1 1 x y 0={task.k} 1={task.s} 11={task.r} 2={task.dilation} "
        f"3={task.stride} 4={task.pad} 5=0 6={count}{groups}\n"
    )


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Load the layer from its two files; every call allocates its result, as ncnn has it."""
    if task.n > 1:
        raise Unsupported("ncnn computes one image a call")
    x, w = operands(task)
    net = ncnn.Net()
    for name in OFF:
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    net.opt.num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        text, weights = Path(folder, "layer.param"), Path(folder, "layer.bin")
        text.write_text(_description(task), encoding="ascii")
        weights.write_bytes(np.uint32(0).tobytes() + w.tobytes())  # 0: float32 follows
        if net.load_param(str(text)) or net.load_model(str(weights)):
            raise Unsupported("ncnn does not load this layer")
    image = ncnn.Mat(x[0])

    def call() -> object:
        extractor = net.create_extractor()
        extractor.input("x", image)
        status, y = extractor.extract("y")
        if status != 0:
            raise RuntimeError(f"ncnn returned {status}")
        return y

    return Prepared(call, lambda y: np.array(y)[None], held=(x,))
