"""JAX's own cases of conv_general_dilated, each held against ``jax.lax``."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from support import jax_calls
from support.jax_calls import Case, assert_close, compiled, draw, jax, run

import fastconv
from fastconv.interop.jax import conv_general_dilated

DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16",
    "float32", "complex64",
)  # fmt: skip
WIDE = ("int64", "uint64", "float64", "complex128")

CASES = [
    *jax_calls.sampled(jax_calls.general_dilated(), 26),
    *jax_calls.sampled(jax_calls.general_padding(), 12),
    *jax_calls.sampled(jax_calls.every_order(1), 6),
    *jax_calls.sampled(jax_calls.every_order(2), 10),
    *jax_calls.sampled(jax_calls.every_order(3), 6),
    *jax_calls.sampled(jax_calls.no_image_axes(), 3),
]


@pytest.fixture(params=("ffi", "callback"))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return jax_calls.take(request.param, monkeypatch)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_lax(case: Case, way: str) -> None:
    """Integers as floats are equal, and normal numbers within the bound of both sums."""
    x, w = draw(case, "float32", "integers")
    ours = compiled(case.ours(), x, w)
    assert_close(ours(x, w), case.theirs()(x, w), what=case)
    x, w = draw(case, "float32", "normal", 1)
    magnitude = case.theirs()(abs(x), abs(w))
    assert_close(ours(x, w), case.theirs()(x, w), case.terms(), magnitude, what=case)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str, way: str) -> None:
    for case in jax_calls.sampled(jax_calls.general_dilated(), 3, DTYPES.index(dtype) + 1):
        x, w = draw(case, dtype, "integers")
        assert_close(run(case.ours(), x, w), case.theirs()(x, w), what=f"{case} {dtype}")


@pytest.mark.parametrize("dtype", WIDE)
def test_wide_dtypes(dtype: str, way: str) -> None:
    with jax.enable_x64(True):
        for case in jax_calls.sampled(jax_calls.general_dilated(), 2, WIDE.index(dtype)):
            x, w = draw(case, dtype, "integers")
            assert x.dtype == dtype
            assert_close(run(case.ours(), x, w), case.theirs()(x, w), what=f"{case} {dtype}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_within_the_bound(dtype: str, way: str) -> None:
    for case in jax_calls.sampled(jax_calls.general_padding(), 6, 7):
        x, w = draw(case, dtype, "normal")
        wide = case.theirs(preferred_element_type="float32")
        want = case.theirs()(x, w)
        assert_close(
            run(case.ours(), x, w), want, case.terms(), wide(abs(x), abs(w)), f"{case} {dtype}"
        )


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("int8", "int32"), ("int8", "int16"), ("uint8", "uint32"), ("int16", "int32"),
     ("float16", "float32"), ("bfloat16", "float32"), ("float32", "complex64")],
)  # fmt: skip
def test_preferred_element_type(dtype: str, wanted: str, way: str) -> None:
    case = Case((2, 4, 6, 7), (6, 2, 3, 2), (1, 2), "SAME", groups=2)
    x, w = draw(case, dtype, "integers")
    arguments: Any = {"preferred_element_type": wanted}
    try:
        want = case.theirs(**arguments)(x, w)
    except TypeError:
        with pytest.raises(TypeError):
            case.ours(**arguments)(x, w)
        return
    assert_close(run(case.ours(**arguments), x, w), want)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make new arrays hold NaN: what is not written is seen."""
    empty = np.empty

    def filled(*args: Any, **kwargs: Any) -> Any:
        array = empty(*args, **kwargs)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    monkeypatch.setattr(np, "empty", filled)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("along", [1, 2, 3])
def test_mixed_strides_and_dilations_of_both(along: int, way: str) -> None:
    """Every residue of stride and dilation: the phases of y, and pixels that meet no tap."""
    steps = itertools.product((1, 2, 3, 4), (1, 2, 3, 4, 6), (1, 2, 3))
    for stride, spread, dilation in list(steps)[:: 4 if along == 1 else 17]:
        for pad in ((0, 0), (3, 1), (-2, 5), (20, -19)):
            case = Case(
                (1, 2, *(5, 3, 2)[:along]), (2, 2, *(3, 2, 1)[:along]),
                (stride, 2, 1)[:along], (pad, (1, 1), (2, 0))[:along],
                (spread, 3, 2)[:along], (dilation, 1, 2)[:along],
            )  # fmt: skip
            x, w = draw(case, "float32", "integers")
            try:
                want = case.theirs()(x, w)
            except (TypeError, ValueError):
                continue
            assert_close(case.ours()(x, w), want, what=case)


def test_the_same_bits_as_a_call_of_fastconv(way: str) -> None:
    """JAX's arrays are read where they stand: the same problem, hence the same bits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 13, 14, 8), "float32")
    w = rng.standard_normal((3, 3, 8, 16), "float32")

    def conv(x: Any, w: Any) -> Any:
        return conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    want = fastconv.conv2d(x, w.transpose(3, 2, 0, 1), pad="same", layout="NHWC")
    np.testing.assert_array_equal(run(conv, x, w, by=way), want)


def test_errors_are_those_of_lax() -> None:
    x, w = jax.numpy.ones((1, 4, 5, 5)), jax.numpy.ones((2, 3, 3, 3))
    wrong: list[dict[str, Any]] = [
        {"padding": "VALID"},
        {"padding": "OTHER"},
        {"padding": ((0, 0),)},
        {"padding": "SAME", "lhs_dilation": (2, 2)},
        {"padding": "VALID", "feature_group_count": 3},
        {"padding": "VALID", "window_strides": (1,)},
        {"padding": "VALID", "window_strides": (0, 1)},
        {"padding": "VALID", "dimension_numbers": ("NCHW", "OIHW", "NCWZ")},
        {"padding": "VALID", "preferred_element_type": "int32"},
    ]
    for arguments in wrong:
        given = {"window_strides": (1, 1), **arguments}
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            jax.lax.conv_general_dilated(x, w, **given)
        with pytest.raises(type(theirs.value)) as ours:
            conv_general_dilated(x, w, **given)
        assert str(ours.value) == str(theirs.value)
    mixed = jax.numpy.ones((2, 4, 3, 3), "bfloat16")
    for function in (jax.lax.conv_general_dilated, conv_general_dilated):
        with pytest.raises(TypeError, match=r"same dtypes|float32, bfloat16"):
            function(x, mixed, (1, 1), "VALID")


def test_what_is_not_served_says_so() -> None:
    ones = jax.numpy.ones
    with pytest.raises(NotImplementedError, match=r"jax\.lax"):
        conv_general_dilated(ones((1,) * 6), ones((1,) * 6), (1,) * 4, "VALID")
    with pytest.raises(NotImplementedError, match="out_sharding"):
        conv_general_dilated(
            ones((1, 1, 3)), ones((1, 1, 1)), (1,), "VALID",
            out_sharding=jax.sharding.PartitionSpec(),
        )  # fmt: skip
    for dtype in ("float8_e4m3fn", "int4"):
        x = ones((1, 1, 3)).astype(dtype)
        with pytest.raises(fastconv.DTypeError, match="bfloat16"):
            conv_general_dilated(x, x[..., :1], (1,), "VALID")
