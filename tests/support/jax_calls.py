"""JAX's own cases of convolutions, restated, and how a result is held against ``jax.lax``."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastconv.accuracy import unit_roundoff
from fastconv.dtypes import accumulator, is_float

from .oracles import oracle

jax = oracle("jax")
from jax import lax  # noqa: E402

import fastconv.interop.jax as adapter  # noqa: E402
from fastconv.interop.jax import ways  # noqa: E402

Array = Any
Pads = tuple[tuple[int, int], ...]

#: Dimension numbers, and where the axes of (N, C, H, W) and (O, I, H, W) go in them.
ORDERS = (
    (("NCHW", "OIHW", "NCHW"), (0, 1, 2, 3), (0, 1, 2, 3)),
    (("NHWC", "HWIO", "NHWC"), (0, 2, 3, 1), (2, 3, 1, 0)),
    (("NCHW", "HWIO", "NHWC"), (0, 1, 2, 3), (2, 3, 1, 0)),
    (("NHWC", "OIHW", "NCHW"), (0, 2, 3, 1), (0, 1, 2, 3)),
)
#: (batch_group_count, feature_group_count)
GROUPS = ((1, 1), (2, 1), (1, 2))


class Case(NamedTuple):
    """A call of `conv_general_dilated`: shapes as they are held, and plain arguments."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Pads | str
    lhs_dilation: tuple[int, ...] | None = None
    rhs_dilation: tuple[int, ...] | None = None
    numbers: Any = None
    batch_groups: int = 1
    groups: int = 1

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments, but for the arrays."""
        return {
            "window_strides": self.strides, "padding": self.padding,
            "lhs_dilation": self.lhs_dilation, "rhs_dilation": self.rhs_dilation,
            "dimension_numbers": self.numbers, "feature_group_count": self.groups,
            "batch_group_count": self.batch_groups,
        }  # fmt: skip

    def ours(self, **more: Any) -> Callable[..., Array]:
        """The call of fastconv."""
        return partial(adapter.conv_general_dilated, **self.arguments, **more)

    def theirs(self, **more: Any) -> Callable[..., Array]:
        """The call of JAX."""
        return partial(lax.conv_general_dilated, **self.arguments, **more)

    def terms(self) -> int:
        """Most products of one sum, of y or of any gradient."""
        numbers = lax.conv_dimension_numbers(self.lhs, self.rhs, self.numbers)
        y = jax.eval_shape(
            self.theirs(),
            jax.ShapeDtypeStruct(self.lhs, "float32"), jax.ShapeDtypeStruct(self.rhs, "float32"),
        )  # fmt: skip
        k = numbers.rhs_spec[0]
        weights = math.prod(self.rhs) // self.rhs[k]
        return max(weights, math.prod(self.rhs), math.prod(y.shape) // self.rhs[k], 1)


def permuted(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Return a shape in another order of axes."""
    return tuple(shape[axis] for axis in order)


def sampled(cases: Iterable[Case], count: int, seed: int = 0) -> list[Case]:
    """Return some cases of a grid, always the same."""
    grid = list(cases)
    return random.Random(seed).sample(grid, min(count, len(grid)))


def general_dilated() -> Iterable[Case]:
    """The grid of testConvGeneralDilated."""
    for (bg, g), width, (b, i, j), (numbers, of_x, of_w) in itertools.product(
        GROUPS, (0, 10), itertools.product((2, 3), repeat=3), ORDERS[:3]
    ):
        x, w = (b * bg, i * g, 9, width), (j * g * bg, i, 4, 5)
        for strides, padding, of_lhs, of_rhs in itertools.product(
            ((1, 1), (2, 1)), (((1, 2), (2, 0)), ((10, 8), (7, 13))),
            ((1, 1), (1, 2), (1, 4)), ((1, 1), (1, 2), (1, 4)),
        ):  # fmt: skip
            yield Case(
                permuted(x, of_x), permuted(w, of_w), strides, padding, of_lhs, of_rhs, numbers,
                bg, g,
            )  # fmt: skip


def general_padding() -> Iterable[Case]:
    """The grids of testConvWithGeneralPadding and, by names of paddings, testConvAgainstNumpy."""
    steps = ((1, 1), (1, 2), (2, 1))
    for b, i, j in itertools.product((1, 2, 3), repeat=3):
        x, w = (b, i, 9, 10), (j, i, 4, 5)
        for strides, name in itertools.product(steps, ("VALID", "SAME", "SAME_LOWER")):
            yield Case(x, w, strides, name)
        for strides, padding, of_lhs, of_rhs in itertools.product(
            steps, (((0, 0), (0, 0)), ((1, 2), (2, 0))),
            ((1, 1), (1, 2), (2, 2)), ((1, 1), (1, 2), (2, 2)),
        ):  # fmt: skip
            yield Case(x, w, strides, padding, of_lhs, of_rhs)


def every_order(along: int) -> Iterable[Case]:
    """The grid of testConvGeneralDilatedLocal: dimension numbers in any order, dilated kernels."""
    x, w = (2, 4, 7, 6, 5)[: along + 2], (5, 4, 2, 3, 1)[: along + 2]
    letters = "NCHWD"[: along + 2], "OIHWD"[: along + 2]
    orders = [list(itertools.permutations(range(along + 2)))] * 3
    for of_x, of_w, of_y in itertools.product(*orders):
        numbers = tuple(
            "".join(names[axis] for axis in order)
            for names, order in ((letters[0], of_x), (letters[1], of_w), (letters[0], of_y))
        )
        for padding in ("SAME", "VALID"):
            yield Case(
                permuted(x, of_x), permuted(w, of_w), (1, 2, 3)[:along], padding, None,
                (2, 1, 3)[:along], numbers,
            )  # fmt: skip


def no_image_axes() -> Iterable[Case]:
    """The grid of testConvGeneralDilated0D."""
    for (bg, g), (b, i, j) in itertools.product(GROUPS, itertools.product((2, 3), repeat=3)):
        yield Case((b * bg, i * g), (j * g * bg, i), (), (), None, None, ("NC", "OI", "NC"), bg, g)


def gradients() -> Iterable[Case]:
    """The grids of testConvGeneralDilatedGrad and testConvGeneralDilatedBatching."""
    for (bg, g), (b, i, j), (numbers, of_x, of_w) in itertools.product(
        GROUPS, itertools.product((1, 2), repeat=3), (ORDERS[0], ORDERS[1], ORDERS[3])
    ):
        x, w = (b * bg, i * g, 6, 7), (j * bg * g, i, 1, 2)
        for strides, padding, of_lhs, of_rhs in itertools.product(
            ((1, 1), (1, 2), (2, 1)),
            (((0, 0), (0, 0)), ((1, 0), (0, 1)), ((0, -1), (0, 0))),
            ((1, 1), (2, 1)), ((1, 1), (2, 2)),
        ):  # fmt: skip
            yield Case(
                permuted(x, of_x), permuted(w, of_w), strides, padding, of_lhs, of_rhs, numbers,
                bg, g,
            )  # fmt: skip


def draw(case: Case, dtype: Any, family: str, seed: int = 0) -> tuple[Array, Array]:
    """Draw operands: small integers, whose sums are exact, or normal numbers."""
    rng = np.random.default_rng(seed)

    def one(shape: tuple[int, ...]) -> Array:
        if family == "integers":
            values: Any = rng.integers(-3, 4, shape)
        else:
            values = rng.standard_normal(shape)
        if np.dtype(dtype).kind == "c":
            values = values + 1j * one_part(shape)
        return jax.numpy.asarray(values).astype(dtype)

    def one_part(shape: tuple[int, ...]) -> Any:
        return rng.integers(-3, 4, shape) if family == "integers" else rng.standard_normal(shape)

    return one(case.lhs), one(case.rhs)


def run(function: Callable[..., Array], *arrays: Array, by: str | None = None) -> Array:
    """Compile and run; see `compiled`."""
    return compiled(function, *arrays, by=by)(*arrays)


def compiled(
    function: Callable[..., Array], *arrays: Array, by: str | None = None
) -> Callable[..., Array]:
    """Compile for such arrays; whatever convolves must be fastconv, by `by` where that is given."""
    lowered = jax.jit(function).lower(*arrays)
    text = lowered.as_text()
    assert "stablehlo.convolution" not in text, "JAX itself convolved"
    used = {
        "ffi": text.count(f"@{ways.TARGET}"), "callback": text.count("python_cpu_callback"),
    }  # fmt: skip
    if by is not None:
        assert used[by] > 0, f"not called by {by}: {used}"
    function_of: Callable[..., Array] = lowered.compile()
    return function_of


def bound(terms: int, dtype: str, magnitude: Array, want: Array) -> Any:
    """The largest difference of two sums of so many products, each within fastconv's bound."""
    u = unit_roundoff(accumulator(dtype))
    error = terms * u / (1 - terms * u) * np.asarray(magnitude, np.float64) / (1 - terms * u)
    if accumulator(dtype) != dtype:
        error = error + unit_roundoff(dtype) * (np.abs(np.asarray(want, np.float64)) + error)
    return 2 * error


def assert_close(
    got: Array, want: Array, terms: int = 0, magnitude: Array | None = None, what: object = ""
) -> None:
    """Fail unless two results are equal, or within the bound of sums of these magnitudes."""
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what}: {got.shape}, not {want.shape}"
    if magnitude is None:
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want), err_msg=str(what))
        return
    assert is_float(got.dtype)
    error = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
    ratio = error / np.maximum(bound(terms, got.dtype.name, magnitude, want), 1e-300)
    assert np.max(ratio, initial=0) <= 1, f"{what}: {np.max(ratio):.2f} times the bound"


def take(way: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ask for one of the ways of calling, or skip where it was not built."""
    monkeypatch.setenv(ways.VARIABLE, way)
    try:
        return adapter.calls_by()
    except ImportError as error:
        if "jax_ffi" in os.environ.get("FASTCONV_REQUIRE_ORACLES", "").split(","):
            raise
        pytest.skip(str(error))
