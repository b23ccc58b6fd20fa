"""Problems of every operator: y and both gradients, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

import fastconv
from fastconv import ConvProblem, accuracy
from fastconv.accuracy import Verdict
from fastconv.borders import PAD_MODES
from fastconv.checks import LAYOUTS, layouts
from fastconv.dtypes import is_float, promote
from fastconv.errors import ShapeError

from . import backends
from .cases import generator

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Through = Callable[[str], Callable[..., Array]]
MAX_MACS = 100_000


def own(name: str) -> Callable[..., Array]:
    """Return the operator of that name."""
    operator: Callable[..., Array] = getattr(fastconv, name)
    return operator


class Operands(NamedTuple):
    """All that a convolution and its gradients are made of, as a caller holds them."""

    x: Array
    w: Array
    gy: Array
    bias: Array | None


@dataclass(frozen=True)
class OperatorCase:
    """One convolution and its gradients, short of the data. Shapes are the caller's."""

    x: Shape
    w: Shape
    stride: Any = 1
    pad: Any = 0
    dilation: Any = 1
    groups: int = 1
    pad_mode: str = "constant"
    last: bool = False  # channels
    flip: bool = False
    dtype: str = "float32"

    def __str__(self) -> str:
        """Name the case in a test id."""
        parts = ["x" + "x".join(map(str, self.x)), "w" + "x".join(map(str, self.w))]
        parts += [
            f"{field.name}={getattr(self, field.name)}".replace(" ", "")
            for field in fields(self)[2:]
            if getattr(self, field.name) != field.default
        ]
        return "-".join(parts)

    @property
    def spatial(self) -> int:
        """Dimensions of an image."""
        return len(self.w) - 2

    @property
    def layout(self) -> str:
        """Order of the axes of x and gy."""
        return layouts(self.spatial)[self.last]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the convolution."""
        names = ("stride", "pad", "dilation", "groups", "pad_mode", "layout", "flip")
        return {name: getattr(self, name) for name in names}

    def problem(self, result: str = "y") -> ConvProblem:
        """Describe the computation of `result`."""
        options = {name: value for name, value in self.options.items() if name != "flip"}
        dtype = np.dtype(self.dtype)
        return ConvProblem.describe(
            self.x, self.w, promotion=promote(dtype, dtype), spatial=self.spatial,
            result=result, **options,
        )  # fmt: skip

    @cached_property
    def y(self) -> Shape:
        """Shape of the convolution's output."""
        return self.problem().y_shape

    def draw(self, exact: bool = False) -> Operands:
        """Draw operands: N(0, 1), or integers whose sums are exact."""
        rng = generator(self, exact)
        dtype = np.dtype(self.dtype)
        most = max(self.problem(result).reduction for result in ("y", "x", "w"))

        def one(shape: Shape) -> Array:
            if not is_float(self.dtype):
                info = np.iinfo(dtype)
                return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
            if exact:
                bits = {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}[self.dtype]
                m = max(1, min(1000, int((2**bits / most) ** 0.5)))
                return rng.integers(-m, m, shape, endpoint=True).astype(dtype)
            return rng.standard_normal(shape).astype(dtype)

        return Operands(one(self.x), one(self.w), one(self.y), None)

    def compute(
        self, result: str, operands: Operands, through: Through = own,
        **options: Any,
    ) -> Array:  # fmt: skip
        """Call the operator that computes `result`, into an `out` full of NaN.

        `through` turns an operator's name into what is called.
        """
        x, w, gy, _ = operands
        name = f"conv{self.spatial}d"
        out = np.empty(self.problem(result).out_shape, self.problem(result).out_dtype)
        out.view(np.uint8)[...] = 0xFF
        given = {**self.options, "out": out, **options}
        if result == "y":
            got = through(name)(x, w, **given)
        elif result == "x":
            got = through(name + "_input_grad")(x.shape, w, gy, **given)
        else:
            got = through(name + "_weight_grad")(x, w.shape, gy, **given)
        assert got is given["out"] or given["out"] is None
        return got

    def images(self, array: Array) -> Array:
        """View images as (N, C, ...)."""
        if array.ndim == self.spatial:
            return array[None, None]
        whole = array[None] if array.ndim == self.spatial + 1 else array
        return whole.transpose(LAYOUTS[self.layout])

    def kernels(self, array: Array) -> Array:
        """View weights as (K, C/groups, ...), turned where the call is a true convolution."""
        whole = array[None, None] if array.ndim == self.spatial else array
        return whole[(..., *(slice(None, None, -1),) * self.spatial)] if self.flip else whole

    def judge(self, result: str, operands: Operands, **options: Any) -> Verdict:
        """Compute and hold the result against the contract."""
        got = self.compute(result, operands, **options)
        x, w, gy = self.images(operands.x), self.kernels(operands.w), self.images(operands.gy)
        a, b = {"y": (x, w), "x": (gy, w), "w": (x, gy)}[result]
        logical = self.kernels(got) if result == "w" else self.images(got)
        found = accuracy.check(self.problem(result), a, b, None, logical)
        assert found.ok, (
            f"{self}, {result} {self.dtype}: error {found.error:g} is {found.ratio:g} times the "
            "bound"
        )
        return found

    def with_(self, **changes: Any) -> OperatorCase:
        """Return the case with some fields changed."""
        return replace(self, **changes)


@st.composite
def cases(
    draw: st.DrawFn, dtypes: tuple[str, ...] = ("float64", "float32"), modes: Any = PAD_MODES
) -> OperatorCase:
    """Draw a legal convolution of at most `MAX_MACS` multiply-accumulates."""
    spatial = draw(st.sampled_from([1, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    cg, kg = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    most = {1: 60, 2: 17, 3: 7}[spatial]
    image = tuple(draw(st.integers(1, most)) for _ in range(spatial))
    kernel = tuple(draw(st.integers(1, 5 if spatial < 3 else 3)) for _ in range(spatial))
    small = st.integers(1, 3)
    x: Shape = (draw(st.integers(1, 3)), cg * groups, *image)
    w: Shape = (kg * groups, cg, *kernel)
    last = draw(st.booleans())
    rank = draw(st.sampled_from([2, 2, 1]))
    if last:
        x = (x[0], *image, x[1])
    case = OperatorCase(
        x if rank == 2 else x[1:], w,
        stride=tuple(draw(small) for _ in range(spatial)),
        pad=tuple((draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(spatial)),
        dilation=tuple(draw(small) for _ in range(spatial)),
        groups=groups, pad_mode=draw(st.sampled_from(modes)), last=last,
        flip=draw(st.booleans()), dtype=draw(st.sampled_from(dtypes)),
    )  # fmt: skip
    try:
        assume(case.problem().cost.macs <= MAX_MACS)
    except ShapeError:
        assume(False)
    return case


#: Dtypes most of the time, and the rest.
MOST = (*backends.FLOATS * 3, *backends.HALVES, "int8", "int32")
