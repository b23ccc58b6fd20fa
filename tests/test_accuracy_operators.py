"""C0, C1 and C2 for gradients, transposed convolutions, signals and volumes.

As `test_accuracy` for `conv2d`, and in the same committed table: n is the length of the operator's
own sums. Its rows are operators, whatever they are computed by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import backends, ratios
from support.cases import generator
from support.operators import Operands, OperatorCase

import fastconv
from fastconv import accuracy
from fastconv.accuracy import Verdict
from fastconv.activations import ACTIVATIONS
from fastconv.dtypes import float_limits

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

CASES = [
    OperatorCase((1, 1, 6, 7), (2, 1, 2, 2), stride=3),  # fewer than 32 products in every sum
    OperatorCase((2, 5, 13, 17), (7, 5, 3, 3), pad=1),
    OperatorCase((1, 40, 7, 9), (24, 40, 1, 1)),
    OperatorCase((2, 8, 9, 11), (12, 4, 3, 2), stride=(2, 1), pad=((0, 2), (1, 0)), groups=2),
    OperatorCase((2, 6, 14, 12), (6, 1, 5, 3), pad=2, groups=6),
    OperatorCase((1, 7, 9, 70), (13, 70, 3, 3), dilation=2, pad=2, last=True, flip=True),
    OperatorCase((1, 3, 5, 8), (4, 3, 3, 3), pad=3, pad_mode="reflect"),
    OperatorCase((2, 6, 90), (8, 6, 5), stride=2, pad=3, dilation=2),
    OperatorCase((1, 3, 12), (2, 3, 3), pad=1),
    OperatorCase((1, 3, 5, 6, 7), (4, 3, 2, 3, 3), pad=1, stride=(1, 2, 1)),
    OperatorCase((1, 2, 3, 4, 4), (2, 2, 2, 1, 2)),
]

#: Rows of the table.
NAMES = {"x": "input_grad", "w": "weight_grad"}


# -- data: the two operands of whatever is computed ------------------------------------------------

Draw = Callable[[np.random.Generator, Shape, str, bool], Array]


def normal(rng: np.random.Generator, shape: Shape, dtype: str, second: bool) -> Array:
    """Draw from N(0, 1)."""
    return rng.standard_normal(shape)


def positive(rng: np.random.Generator, shape: Shape, dtype: str, second: bool) -> Array:
    """Draw from [0.5, 1.5): errors of one sign add up."""
    return rng.uniform(0.5, 1.5, shape)


def spread(rng: np.random.Generator, shape: Shape, dtype: str, second: bool) -> Array:
    """Spread exponents over 2**+-18 (2**+-4 in float16)."""
    reach = 4 if dtype == "float16" else 18
    exponents = rng.integers(-reach, reach, shape, endpoint=True)
    return rng.standard_normal(shape) * np.exp2(exponents)


def cancellation(rng: np.random.Generator, shape: Shape, dtype: str, second: bool) -> Array:
    """Pairs of opposite numbers meet a nearly constant operand."""
    drawn = 1 + 0.01 * rng.standard_normal(shape)
    if second:
        flat = drawn.reshape(-1)
        flat *= 100 * rng.standard_normal(flat.shape)
        even = flat.size // 2 * 2
        flat[1:even:2] = -flat[0:even:2]
    return drawn


def outlier(rng: np.random.Generator, shape: Shape, dtype: str, second: bool) -> Array:
    """N(0, 1) with one element of 1e8 (6e4 in float16) in the first operand."""
    drawn = rng.standard_normal(shape)
    if not second:
        drawn.flat[rng.integers(drawn.size)] = 6e4 if dtype == "float16" else 1e8
    return drawn


def underflow(rng: np.random.Generator, shape: Shape, dtype: str, second: bool) -> Array:
    """The first operand is about the smallest normal number: sums straddle the edge."""
    return rng.standard_normal(shape) * (1 if second else np.finfo(dtype).tiny)


FAMILIES: dict[str, Draw] = {
    f.__name__: f for f in (normal, positive, spread, cancellation, outlier, underflow)
}


def draw(case: OperatorCase, result: str, family: str) -> Operands:
    """Draw the operands that `result` is computed from; the third is not looked at."""
    shapes = {"x": case.x, "w": case.w, "gy": case.y}
    first, second = {"y": ("x", "w"), "x": ("gy", "w"), "w": ("x", "gy")}[result]
    rng = generator(case, result, family)
    drawn = {
        name: FAMILIES[family](rng, shapes[name], case.dtype, name == second).astype(case.dtype)
        for name in (first, second)
    }
    (missing,) = shapes.keys() - drawn.keys()
    drawn[missing] = np.zeros(shapes[missing], case.dtype)
    return Operands(**drawn, bias=None)


# -- the tests -------------------------------------------------------------------------------------


def record(backend: str, name: str, dtype: str, terms: int, found: Verdict, gated: bool) -> None:
    """Keep a verdict in the table, and hold it against the regression gate."""
    figures = {"bound": found.ratio}
    if gated:
        figures["gate"] = found.units / max(4.0, 2.0 * math.sqrt(terms))
        assert figures["gate"] <= 1, f"{name} {dtype}: {found.units:.2f} units of u*S"
    ratios.TABLE.record(ratios.key_of(backend, name, dtype, terms), figures)


@pytest.mark.parametrize("result", ["y", "x", "w"])
@pytest.mark.parametrize("dtype", [*backends.FLOATS, *backends.HALVES])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_floats(backend: str, case: OperatorCase, dtype: str, result: str) -> None:
    case = case.with_(dtype=dtype)
    if result == "y" and case.spatial == 2:
        return  # conv2d has rows of its own
    name, terms = NAMES.get(result, f"conv{case.spatial}d"), case.problem(result).reduction
    floating = dtype in backends.FLOATS
    families = list(FAMILIES) if floating else ["normal", "positive", "cancellation"]
    if backend == "reference":
        families = families[:2]
    for family in families:
        found = case.judge(result, draw(case, result, family), backend=backend)
        record(backend, name, dtype, terms, found, floating and family != "underflow")
    if floating:
        assert case.judge(result, case.draw(exact=True), backend=backend).error == 0


@pytest.mark.parametrize("result", ["x", "w"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[4], CASES[7], CASES[9]], ids=str)
def test_subnormal_numbers_are_never_flushed(
    backend: str, case: OperatorCase, dtype: str, result: str
) -> None:
    """Small integers times the smallest subnormal: exact, unless something flushes."""
    case = case.with_(dtype=dtype)
    operands, tiny = case.draw(exact=True), float_limits(dtype).smallest_subnormal
    fewer = [np.sign(a) * np.minimum(abs(a), 3) for a in operands[:3]]
    first = {"x": 2, "w": 0}[result]
    fewer[first] = (fewer[first] * tiny).astype(dtype)
    found = case.judge(result, Operands(*fewer, None), backend=backend)
    assert found.error == 0


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("dtype", [*backends.FLOATS, *backends.HALVES])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_transposed(backend: str, spatial: int, dtype: str, activation: str | None) -> None:
    """With a bias, and through every activation."""
    rng = generator(spatial, dtype)
    x, w, bias = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((2, 6, *(5, 4, 3)[:spatial]), (6, 4, *(3, 4, 2)[:spatial]), (8,))
    )
    convolve = getattr(fastconv, f"conv_transpose{spatial}d")
    options: dict[str, Any] = {
        "stride": 2, "pad": 1, "output_padding": 1, "groups": 2, "bias": bias,
        "activation": activation, "backend": backend,
    }  # fmt: skip
    problem = convolve.explain(x, w, **options).problem
    found = accuracy.check(problem, x, w, bias, convolve(x, w, **options))
    assert found.ok, f"{spatial}, {dtype}, {activation}: {found.ratio} times the bound"
    gated = activation is None and dtype in backends.FLOATS
    record(backend, "conv_transpose", dtype, problem.reduction + 1, found, gated)


@pytest.mark.parametrize("spatial", [1, 3])
@pytest.mark.parametrize("dtype", [*backends.FLOATS, *backends.HALVES])
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_signals_and_volumes_with_a_bias(
    backend: str, spatial: int, dtype: str, activation: str | None
) -> None:
    rng = generator(spatial, dtype, "bias")
    x, w, bias = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((2, 4, *(7, 6, 5)[:spatial]), (6, 2, *(3, 2, 3)[:spatial]), (6,))
    )
    convolve = getattr(fastconv, f"conv{spatial}d")
    options: dict[str, Any] = {
        "stride": 2, "pad": 1, "groups": 2, "bias": bias, "activation": activation,
        "backend": backend,
    }  # fmt: skip
    problem = convolve.explain(x, w, **options).problem
    found = accuracy.check(problem, x, w, bias, convolve(x, w, **options))
    assert found.ok, f"{spatial}, {dtype}, {activation}: {found.ratio} times the bound"
    name, gated = f"conv{spatial}d", activation is None and dtype in backends.FLOATS
    record(backend, name, dtype, problem.reduction + 1, found, gated)


def test_a_bad_summation_is_noticed() -> None:
    """The gate turns red for sums in the precision below, the bound for a missing product."""
    case = CASES[1].with_(dtype="float64")
    operands = draw(case, "w", "normal")
    problem = case.problem("w")
    right = case.compute("w", operands, backend="reference")
    single = case.compute("w", operands._replace(x=operands.x.astype("f4").astype("f8")))
    verdict = accuracy.check(problem, operands.x, operands.gy, None, single)
    with pytest.raises(AssertionError, match="units"):
        record("none", "weight_grad", "float64", problem.reduction, verdict, True)
    less = operands.gy.copy()
    less[0, 0, 0, 0] = 0
    got = case.compute("w", operands._replace(gy=less), backend="reference")
    assert accuracy.check(problem, operands.x, operands.gy, None, right).ok
    assert not accuracy.check(problem, operands.x, operands.gy, None, got).ok


@pytest.mark.parametrize("spatial", [1, 3])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64"])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_integers_with_a_bias(
    backend: str, spatial: int, dtype: str, activation: str | None
) -> None:
    """Signals, volumes and transposed ones, exact modulo two to the bits of the result."""
    if not backends.serves(backend, dtype):
        return
    rng, info = generator(spatial, dtype), np.iinfo(dtype)
    x, w = (
        rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        for shape in ((2, 4, *(7, 6, 5)[:spatial]), (4, 2, *(3, 2, 3)[:spatial]))
    )
    bias = np.array([5, 10**6, 0, 77], "int64" if dtype == "int64" else "int32")
    for name in (f"conv{spatial}d", f"conv_transpose{spatial}d"):
        convolve = getattr(fastconv, name)
        options: dict[str, Any] = {"stride": 2, "groups": 2, "bias": bias}
        problem = convolve.explain(x, w, activation=activation, **options).problem
        got = convolve(x, w, activation=activation, backend=backend, **options)
        assert got.dtype == problem.out_dtype
        assert accuracy.check(problem, x, w, bias, got).ok, name
