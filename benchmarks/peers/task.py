"""One operator that all columns compute, and the operands every process draws for itself."""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.networks import Layer
from fastconv import ConvProblem, conv_transpose2d
from fastconv.dtypes import promote
from fastconv.sizes import Result, Spatial

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

#: What ``--dtype`` takes. ``uint8`` is an image of bytes filtered in float32, conversion included.
DTYPES = ("float32", "float64", "bfloat16", "float16", "int8", "uint8")

#: What a task computes. The gradients are those of a layer; ``complex`` is a layer in complex64.
OPERATORS = (
    "conv2d", "input_grad", "weight_grad", "transposed", "conv1d", "conv3d", "complex",
)  # fmt: skip

#: Dimensions of an image, where they are not two.
_SPATIAL: dict[str, Spatial] = {"conv1d": 1, "conv3d": 3}

#: What `fastconv.ConvProblem` computes from the two operands, where it is not y.
_RESULT: dict[str, Result] = {"input_grad": "x", "weight_grad": "w", "transposed": "x"}


@dataclass(frozen=True)
class Task:
    """An operator on a layer in a dtype; strides, pads and dilations are the same on all axes.

    Attributes
    ----------
    network, layer : str
    n, c, h, w, k, r, s, stride, pad, dilation, groups : int
        As in `fastconv.ConvProblem`; of a transposed convolution c, h and w are those of its input.
    dtype : str
        One of `DTYPES`; complex64 for ``complex``.
    operator : str
        One of `OPERATORS`.
    d, t : int
        Depth of a volume and of its kernel.
    output_padding : int
        Of a transposed convolution: pixels added at the end along each axis.
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
    operator: str = "conv2d"
    d: int = 1
    t: int = 1
    output_padding: int = 0

    @classmethod
    def of(cls, layer: Layer, batch: int, dtype: str, operator: str = "conv2d") -> Task:
        """Describe a network's layer."""
        l = layer  # noqa: E741
        return cls(
            l.network, l.name, batch, l.c, l.h, l.w, l.k, l.r, l.s, l.stride, l.pad, l.dilation,
            l.groups, dtype, operator,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Network, layer and operator."""
        operator = "" if self.operator == "conv2d" else f" {self.operator}"
        return f"{self.network} {self.layer}{operator}"

    @property
    def table(self) -> tuple[str, str, str]:
        """What tasks of one table have in common: network, operator and dtype."""
        return (self.network, self.operator, self.dtype)

    @property
    def spatial(self) -> Spatial:
        """Dimensions of an image."""
        return _SPATIAL.get(self.operator, 2)

    @property
    def x_shape(self) -> Shape:
        """(N, C, H, W), (N, C, W) or (N, C, D, H, W): of the layer, whatever is computed of it."""
        return (self.n, self.c, *(self.d, self.h, self.w)[3 - self.spatial :])

    @property
    def kernel(self) -> Shape:
        """(R, S), (S) or (T, R, S)."""
        return (self.t, self.r, self.s)[3 - self.spatial :]

    @property
    def w_shape(self) -> Shape:
        """(K, C/groups, R, S) and so on; (C, K/groups, R, S) of a transposed convolution."""
        first, second = (self.c, self.k) if self.operator == "transposed" else (self.k, self.c)
        return (first, second // self.groups, *self.kernel)

    @property
    def operand_shapes(self) -> tuple[Shape, Shape]:
        """Shapes of the operands: x and w, gradient of y and w, or x and gradient of y."""
        if self.operator == "input_grad":
            return self.problem.y_shape, self.w_shape
        if self.operator == "weight_grad":
            return self.x_shape, self.problem.y_shape
        return self.x_shape, self.w_shape

    @property
    def result_shape(self) -> Shape:
        """Shape of the result, channels first."""
        return self.problem.out_shape

    @property
    def computed(self) -> str:
        """Dtype the definition is evaluated for: of a complex number's parts; float32 of bytes."""
        as_float32 = ("bfloat16", "uint8", "complex64")
        return "float32" if self.dtype in as_float32 else self.dtype

    @property
    def out_dtype(self) -> str:
        """Dtype of the result."""
        return {"int8": "int32", "uint8": "float32"}.get(self.dtype, self.dtype)

    @property
    def problem(self) -> ConvProblem:
        """The problem in the dtype `computed`, channels first."""
        dtype = np.dtype(self.computed)
        return ConvProblem.describe(
            self._convolved, self.w_shape, stride=self.stride, pad=self.pad,
            dilation=self.dilation, groups=self.groups, promotion=promote(dtype, dtype),
            spatial=self.spatial, result=_RESULT.get(self.operator, "y"),
        )  # fmt: skip

    @property
    def _convolved(self) -> Shape:
        """Shape of what is, or would be, convolved: the result of a transposed convolution."""
        if self.operator != "transposed":
            return self.x_shape
        shape: Shape = conv_transpose2d.output_shape(
            self.x_shape, self.w_shape, self.stride, self.pad, dilation=self.dilation,
            groups=self.groups, output_padding=self.output_padding,
        )  # fmt: skip
        return shape

    @property
    def flops(self) -> int:
        """Operations of the direct sum: two a multiply-accumulate, eight of complex numbers."""
        return self.problem.cost.flops * (4 if self.operator == "complex" else 1)

    @property
    def bytes(self) -> int:
        """Bytes of operands and result, each touched once."""
        first = _itemsize(self.dtype)
        second = 4 if self.dtype == "uint8" else first
        a, b = (math.prod(shape) for shape in self.operand_shapes)
        return a * first + b * second + math.prod(self.result_shape) * _itemsize(self.out_dtype)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the pipe and the report."""
        return asdict(self)


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def operands(task: Task) -> tuple[Array, Array]:
    """Draw both operands (`Task.operand_shapes`); the same numbers in every process.

    Standard normal numbers, rounded to the dtype; integers are uniform over their whole range.
    """
    rng = np.random.default_rng(zlib.crc32(f"{task.name} {task.x_shape} {task.w_shape}".encode()))
    first, second = task.operand_shapes
    if task.dtype == "int8":
        return rng.integers(-128, 128, first, np.int8), rng.integers(-128, 128, second, np.int8)
    if task.dtype == "uint8":
        image = rng.integers(0, 256, first, np.uint8)
        return image, rng.standard_normal(second, dtype=np.float32)
    if task.dtype == "complex64":
        a, b = (rng.standard_normal((*s, 2), dtype=np.float32) for s in (first, second))
        return a.view(np.complex64)[..., 0], b.view(np.complex64)[..., 0]
    a, b = (rng.standard_normal(s, dtype=np.float32) for s in (first, second))
    if task.dtype == "float32":
        return a, b
    return a.astype(numpy_dtype(task.dtype)), b.astype(numpy_dtype(task.dtype))


def numpy_dtype(name: str) -> Any:
    """NumPy's dtype of that name; bfloat16 is the one of ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
