"""One convolution that all columns compute, and the operands every process draws for itself."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.networks import Layer
from fastconv import ConvProblem
from fastconv.dtypes import promote

Array = np.ndarray[Any, Any]

#: What ``--dtype`` takes. ``uint8`` is an image of bytes filtered in float32, conversion included.
DTYPES = ("float32", "float64", "bfloat16", "float16", "int8", "uint8")


@dataclass(frozen=True)
class Task:
    """A layer in a dtype; strides, pads and dilations are the same on both axes.

    Attributes
    ----------
    network, layer : str
    n, c, h, w, k, r, s, stride, pad, dilation, groups : int
        As in `fastconv.ConvProblem`.
    dtype : str
        One of `DTYPES`.
    """

    network: str
    layer: str
    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    dtype: str = "float32"

    @classmethod
    def of(cls, layer: Layer, batch: int, dtype: str) -> Task:
        """Describe a network's layer."""
        l = layer  # noqa: E741
        return cls(
            l.network, l.name, batch, l.c, l.h, l.w, l.k, l.r, l.s, l.stride, l.pad, l.dilation,
            l.groups, dtype,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Network and layer."""
        return f"{self.network} {self.layer}"

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (self.n, self.c, self.h, self.w)

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """(K, C/groups, R, S)."""
        return (self.k, self.c // self.groups, self.r, self.s)

    @property
    def computed(self) -> str:
        """Dtype the definition is evaluated for: bfloat16 and bytes are float32 numbers."""
        return {"bfloat16": "float32", "uint8": "float32"}.get(self.dtype, self.dtype)

    @property
    def out_dtype(self) -> str:
        """Dtype of the result."""
        return {"int8": "int32", "uint8": "float32"}.get(self.dtype, self.dtype)

    @property
    def problem(self) -> ConvProblem:
        """The problem in the dtype `computed`, NCHW."""
        dtype = np.dtype(self.computed)
        return ConvProblem.describe(
            self.x_shape, self.w_shape, stride=self.stride, pad=self.pad, dilation=self.dilation,
            groups=self.groups, promotion=promote(dtype, dtype),
        )  # fmt: skip

    @property
    def flops(self) -> int:
        """Operations of the direct sum: two a multiply-accumulate."""
        return self.problem.cost.flops

    @property
    def bytes(self) -> int:
        """Bytes of operands and result, each touched once."""
        sizes = {"bfloat16": 2}
        operand = sizes.get(self.dtype) or np.dtype(self.dtype).itemsize
        weight = 4 if self.dtype == "uint8" else operand
        result = sizes.get(self.out_dtype) or np.dtype(self.out_dtype).itemsize
        p = self.problem
        images = p.n * p.c * p.h * p.w * operand
        return images + int(np.prod(p.w_shape)) * weight + p.n * p.k * p.p * p.q * result

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the pipe and the report."""
        return asdict(self)


def operands(task: Task) -> tuple[Array, Array]:
    """Draw x (N, C, H, W) and w (K, C/groups, R, S); the same numbers in every process.

    Standard normal numbers, rounded to the dtype; integers are uniform over their whole range.
    """
    rng = np.random.default_rng(zlib.crc32(f"{task.name} {task.x_shape} {task.w_shape}".encode()))
    if task.dtype == "int8":
        x, w = (rng.integers(-128, 128, s, np.int8) for s in (task.x_shape, task.w_shape))
        return x, w
    if task.dtype == "uint8":
        image = rng.integers(0, 256, task.x_shape, np.uint8)
        return image, rng.standard_normal(task.w_shape, dtype=np.float32)
    x, w = (rng.standard_normal(s, dtype=np.float32) for s in (task.x_shape, task.w_shape))
    if task.dtype == "float32":
        return x, w
    return x.astype(numpy_dtype(task.dtype)), w.astype(numpy_dtype(task.dtype))


def numpy_dtype(name: str) -> Any:
    """NumPy's dtype of that name; bfloat16 is the one of ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
