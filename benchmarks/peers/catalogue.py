"""The columns: which library, which process, what it can be asked for."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from .task import OPERATORS, Task

FLOATS = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Peer:
    """A column of the tables.

    Attributes
    ----------
    name : str
        What ``--peers`` takes, and the JSON's key.
    title : str
        Head of the column.
    module : str
        Below `benchmarks.peers.workers`; a dotted name is taken as it is.
    needs : tuple of str
        Modules that must be importable.
    install : str
        What pip installs them from.
    dtypes : tuple of str
    filters_only : bool
        Of layers in two dimensions asked for the network of image filters alone.
    tolerance : {"bound", "norm"}
        What its result is held against; see `benchmarks.peers.check`.
    operators : tuple of str
        What it is asked to compute, of `benchmarks.peers.task.OPERATORS`.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...]
    install: str
    dtypes: tuple[str, ...]
    filters_only: bool = False
    tolerance: str = "bound"
    operators: tuple[str, ...] = ("conv2d",)

    @property
    def own(self) -> bool:
        """Whether it is fastconv itself."""
        return self.module == "own"

    def missing(self) -> str | None:
        """Name the modules that are not installed and how to get them, or return None."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if not absent:
            return None
        return f"{', '.join(absent)} not installed: pip install {self.install}"

    def refuses(self, task: Task) -> str | None:
        """Say why it is not asked for a task, or return None."""
        if task.operator not in self.operators:
            return f"is not asked for {task.operator}"
        if task.dtype not in self.dtypes:
            return f"does not compute {task.dtype}"
        if self.filters_only and task.spatial == 2 and task.network != "filters":
            return "computes image filters alone"
        return None


#: What weights stay the same for while images change, as they do in inference.
_PLANNED = ("conv2d", "transposed", "conv1d", "conv3d", "complex")

_OWN = (*FLOATS, "int8", "uint8", "complex64")
_TORCH = (*FLOATS, "uint8", "complex64")
_ONE = ("float32",)
_IMAGE = ("float32", "float64", "uint8")

#: In the order of the tables.
_ALL = (
    Peer("fastconv", "fastconv", "own", (), "fastconv", _OWN, operators=OPERATORS),
    Peer("fastconv_cl", "fastconv_cl", "own", (), "fastconv", _OWN, operators=OPERATORS[1:]),
    Peer("strict", "strict", "own", (), "fastconv", _OWN, operators=_PLANNED),
    Peer("strict_nhwc", "strict NHWC", "own", (), "fastconv", _OWN, operators=_PLANNED),
    Peer("fast", "fast", "own", (), "fastconv", _OWN, False, "norm", _PLANNED),
    Peer("torch", "torch", "pytorch", ("torch",), "torch", _TORCH, operators=OPERATORS),
    Peer("torch_cl", "torch_cl", "pytorch", ("torch",), "torch", _TORCH, operators=OPERATORS),
    Peer(
        "ort", "ORT", "onnx_runtime", ("onnxruntime", "onnx"), "onnxruntime onnx",
        ("float32", "int8"), operators=("conv2d", "transposed", "conv1d", "conv3d"),
    ),
    Peer(
        "ort_u8", "ORT u8", "onnx_runtime", ("onnxruntime", "onnx"), "onnxruntime onnx", ("int8",)
    ),
    Peer("openvino", "OpenVINO", "intel", ("openvino",), "openvino", _ONE),
    Peer("ncnn", "ncnn", "tencent", ("ncnn",), "ncnn", _ONE, tolerance="norm"),
    Peer("mnn", "MNN", "alibaba", ("MNN", "onnx"), "MNN onnx", _ONE, tolerance="norm"),
    Peer("opencv", "OpenCV", "opencv", ("cv2",), "opencv-python-headless", _IMAGE, True, "norm"),
    Peer("convolve2d", "convolve2d", "scientific", ("scipy",), "scipy", _IMAGE, True),
    Peer("ndimage", "ndimage", "scientific", ("scipy",), "scipy", _IMAGE, True),
    Peer("fftconvolve", "fftconv", "scientific", ("scipy",), "scipy", _IMAGE, True, "norm"),
    Peer(
        "oaconvolve", "oaconv", "scientific", ("scipy",), "scipy", _IMAGE, True, "norm",
        ("conv2d", "conv1d"),
    ),
)  # fmt: skip

PEERS = {peer.name: peer for peer in _ALL}

OWN = tuple(name for name, peer in PEERS.items() if peer.own)
OTHERS = tuple(name for name, peer in PEERS.items() if not peer.own)
