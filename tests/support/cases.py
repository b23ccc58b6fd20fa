"""Problems to test on (`Case`) and data to test with (`FAMILIES`)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastconv import ConvProblem
from fastconv.checks import LAYOUTS
from fastconv.dtypes import float_limits, promote

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


class Arrays(NamedTuple):
    """Operands as a caller holds them."""

    x: Array
    w: Array
    bias: Array | None


@dataclass(frozen=True)
class Case:
    """One call of conv2d, short of its data. Shapes are the caller's (NHWC: channels last)."""

    x: Shape
    w: Shape
    stride: Any = 1
    pad: Any = 0
    dilation: Any = 1
    groups: int = 1
    pad_mode: str = "constant"
    layout: str = "NCHW"
    bias: bool = False
    activation: str | None = None
    flip: bool = False
    dtype: str = "float32"

    def __str__(self) -> str:
        """Name the case in a test id: the shapes, and whatever is not the default."""
        parts = ["x" + "x".join(map(str, self.x)), "w" + "x".join(map(str, self.w))]
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            if value != field.default and field.name != "dtype":
                text = str(value).replace(" ", "")
                parts.append(field.name if value is True else f"{field.name}={text}")
        return "-".join(parts)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of conv2d, without arrays."""
        names = ("stride", "pad", "dilation", "groups", "pad_mode", "layout", "activation", "flip")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def problem(self) -> ConvProblem:
        """The planner's view of the case."""
        arguments = {k: v for k, v in self.arguments.items() if k != "flip"}
        dtype = np.dtype(self.dtype)
        k = self.w[0] if len(self.w) == 4 else 1
        return ConvProblem.describe(
            self.x,
            self.w,
            promotion=promote(dtype, dtype),
            bias_shape=(k,) if self.bias else None,
            **arguments,
        )

    def with_(self, **changes: Any) -> Case:
        """Return the case with some fields changed."""
        return replace(self, **changes)

    def channels_last(self) -> Case:
        """Return the same problem held as NHWC."""
        assert self.layout == "NCHW"
        axes = {2: (0, 1), 3: (1, 2, 0), 4: (0, 2, 3, 1)}[len(self.x)]
        return replace(self, x=tuple(self.x[a] for a in axes), layout="NHWC")


def logical_image(array: Array, layout: str) -> Array:
    """View an image, or a result, as (N, C, H, W)."""
    if array.ndim == 2:
        return array[None, None]
    full = array[None] if array.ndim == 3 else array
    return full.transpose(LAYOUTS[layout])


def logical_kernel(w: Array, flip: bool) -> Array:
    """View a kernel as (K, C/groups, R, S), turned where the call is a true convolution."""
    full = w[None, None] if w.ndim == 2 else w
    return full[:, :, ::-1, ::-1] if flip else full


def generator(*key: object) -> np.random.Generator:
    """Random numbers that depend on `key` alone: the same in every process and every run."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


# -- data families: (rng, case) -> arrays ----------------------------------------------------------

Family = Callable[[np.random.Generator, Case], Arrays]


def _fill(case: Case, draw: Callable[[Shape], Array]) -> Arrays:
    k = case.problem.k
    arrays = [draw(shape).astype(case.dtype) for shape in (case.x, case.w, (k,))]
    return Arrays(arrays[0], arrays[1], arrays[2] if case.bias else None)


def exact_range(case: Case) -> int:
    """Largest m such that sums of products of integers in [-m, m] are exact in the result."""
    bits = {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}
    limit = 2 ** bits[case.problem.out_dtype]
    m = int((limit / (case.problem.reduction + 1)) ** 0.5)
    assert m >= 1, f"{case}: no exact integers with {case.problem.reduction} products"
    return min(m, 1000)


def integers(rng: np.random.Generator, case: Case) -> Arrays:
    """Integers so small that every sum is exact; over the whole range for integer dtypes."""
    dtype = np.dtype(case.dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return _fill(case, lambda s: rng.integers(info.min, info.max, s, dtype, endpoint=True))
    m = exact_range(case)
    return _fill(case, lambda s: rng.integers(-m, m, s, endpoint=True))


def normal(rng: np.random.Generator, case: Case) -> Arrays:
    """Draw from N(0, 1)."""
    return _fill(case, rng.standard_normal)


def positive(rng: np.random.Generator, case: Case) -> Arrays:
    """Draw from [0.5, 1.5): errors of one sign add up."""
    return _fill(case, lambda s: rng.uniform(0.5, 1.5, s))


def spread(rng: np.random.Generator, case: Case) -> Arrays:
    """Spread exponents over 2**+-18 (2**+-4 in float16, which ends at 65504)."""
    reach = 4 if case.dtype == "float16" else 18
    return _fill(
        case,
        lambda s: rng.standard_normal(s) * np.exp2(rng.integers(-reach, reach, s, endpoint=True)),
    )


def cancellation(rng: np.random.Generator, case: Case) -> Arrays:
    """Weights in pairs w, -w on a nearly constant image: the sum is far smaller than its terms."""
    arrays = _fill(case, lambda s: 1 + 0.01 * rng.standard_normal(s))
    flat = (
        arrays.w.reshape(arrays.w.shape[0], -1) if arrays.w.ndim == 4 else arrays.w.reshape(1, -1)
    )
    flat *= (rng.standard_normal(flat.shape) * 100).astype(case.dtype)
    even = flat.shape[1] // 2 * 2
    flat[:, 1:even:2] = -flat[:, 0:even:2]
    return arrays


def outlier(rng: np.random.Generator, case: Case) -> Arrays:
    """N(0, 1) with one pixel of 1e8 (6e4 in float16)."""
    arrays = normal(rng, case)
    arrays.x.flat[int(rng.integers(arrays.x.size))] = 6e4 if case.dtype == "float16" else 1e8
    return arrays


def subnormal(rng: np.random.Generator, case: Case) -> Arrays:
    """Small integers of the smallest subnormal times integers: exact, unless something flushes."""
    m = max(1, min(exact_range(case), 15))
    tiny = float_limits(case.dtype).smallest_subnormal
    arrays = _fill(case, lambda s: rng.integers(-m, m, s, endpoint=True))
    arrays.x[...] *= tiny
    if arrays.bias is not None:
        arrays.bias[...] *= tiny
    return arrays


def underflow(rng: np.random.Generator, case: Case) -> Arrays:
    """Draw x around the smallest normal number, and w from N(0, 1): sums straddle the edge."""
    arrays = normal(rng, case)
    arrays.x[...] *= np.finfo(case.dtype).tiny
    if arrays.bias is not None:
        arrays.bias[...] *= np.finfo(case.dtype).tiny
    return arrays


FAMILIES: dict[str, Family] = {
    f.__name__: f
    for f in (integers, normal, positive, spread, cancellation, outlier, subnormal, underflow)
}

#: Families whose sums are exact in every order: results are compared with threshold 0.
EXACT = ("integers", "subnormal")


def draw(case: Case, family: str) -> Arrays:
    """Draw the operands of a case: at least 30 % of x and w are not zero, the same in every run."""
    rng = generator(case, family)
    while True:
        arrays = FAMILIES[family](rng, case)
        if all(np.count_nonzero(a) >= 0.3 * a.size for a in arrays[:2]):
            return arrays
