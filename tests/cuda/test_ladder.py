"""The choice of kernel and tile: pure functions, no device, no arrays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.backends.cuda import configuration, parameters
from fastconv.backends.cuda.configuration import (
    NAIVE_BLOCKS,
    TILES,
    choose,
    direct_naive,
    grid_blocks,
    igemm_simt,
)
from fastconv.backends.cuda.parameters import ItemStrides, divisor, fill
from fastconv.dtypes import FLOATS, INTEGERS
from fastconv.problem import ConvProblem


def layer(n: int = 1, c: int = 64, h: int = 56, k: int = 64, r: int = 3, **more) -> ConvProblem:
    dtype = more.pop("dtype", "float32")
    pads = more.pop("pad", ((1, 1), (1, 1)))
    return ConvProblem(n, c, h, h, k, r, r, pad=pads, dtype=dtype, out_dtype=dtype, **more)


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (layer(n=64), "igemm_simt_float32_128x64"),
        (layer(n=64, k=256), "igemm_simt_float32_128x128"),
        (layer(h=7, c=512, k=512), "igemm_simt_float32_32x32"),
        (layer(k=256, dtype="float64", n=64), "igemm_simt_float64_128x64"),
        (layer(groups=64), "direct_naive_float32"),
        (layer(groups=16), "igemm_simt_float32_128x32"),
        (layer(k=3), "direct_naive_float32"),
        (layer(dtype="float16"), "direct_naive_float16"),
        (layer(dtype="int8"), "direct_naive_int8"),
    ],
    ids=str,
)
def test_ladder(problem: ConvProblem, name: str) -> None:
    assert choose(problem).name == name


def test_a_full_machine_is_preferred_to_full_tiles() -> None:
    """One image of 7 x 7 has 49 pixels: small tiles give more blocks something to do."""
    small, large = layer(h=7, c=512, k=512), layer(n=256, h=7, c=512, k=512)
    assert choose(small).tile.bm < choose(large).tile.bm


@pytest.mark.parametrize(
    "problem",
    [
        layer(h=2**30, r=1, pad=((0, 0), (0, 0)), k=4),  # coordinates beyond 32 bits
        layer(pad=((2**40, 0), (0, 0))),
        layer(dilation=(2**40, 1), pad=((2**41, 2**41), (0, 0))),
        layer(stride=(2**40, 1), pad=((2**42, 0), (1, 1))),
        replace(layer(), c=2**24, r=2**4, s=2**4, h=2**4, w=2**4),  # terms
    ],
    ids=["image", "pad", "dilation", "stride", "terms"],
)
def test_the_definition_takes_what_outgrows_32_bits(problem: ConvProblem) -> None:
    assert choose(problem).kernel == "direct_naive"
    assert 1 <= grid_blocks(problem, choose(problem)) <= NAIVE_BLOCKS


def dense(problem: ConvProblem) -> ItemStrides:
    shapes = (
        (problem.n, problem.c, problem.h, problem.w),
        problem.w_shape,
        (problem.n, problem.k, problem.p, problem.q),
    )
    return ItemStrides(*((b * c * d, c * d, d, 1) for _, b, c, d in shapes))


def wide(problem: ConvProblem, strides: ItemStrides | None = None) -> str:
    return dict(choose(problem, strides).defines)["WIDE"]


def test_offsets_are_wide_only_where_32_bits_may_not_do() -> None:
    assert wide(layer()) == wide(layer(), dense(layer())) == "0"
    assert wide(layer(n=2**14)) == "1", "3.3e9 items"
    strides = dense(layer())
    far = ItemStrides((2**40, *strides.x[1:]), *strides[1:])
    assert wide(layer(), far) == "0", "a step along an axis of one is never taken"
    assert wide(layer(n=2), far) == "1"
    assert wide(layer(n=2), ItemStrides((-(2**40), *strides.x[1:]), *strides[1:])) == "1"
    rows = (*strides.y[:2], 2**30, 1)
    assert wide(layer(), strides._replace(y=rows)) == "1"
    assert wide(layer(), strides._replace(w=(2**30, *strides.w[1:]))) == "1"


def test_narrow_offsets_never_leave_32_bits() -> None:
    """The largest offset that narrow kernels form, one step past the last term included."""
    step = (2**31 - 1) // (64 + configuration.BK)
    strides = ItemStrides((0, step // 2, 56, 1), dense(layer()).w, dense(layer()).y)
    problem = layer()
    assert wide(problem, strides) == "0"
    reach = (64 + configuration.BK) * strides.x[1] + 64 * 56 + 64
    assert reach < 2**31
    assert wide(problem, strides._replace(x=(0, step, 56, 1))) == "1"


def test_grid_covers_every_output_once() -> None:
    problem = layer(n=3, h=13, c=6, k=74, groups=2)
    for tile in TILES["float32"]:
        blocks = grid_blocks(problem, igemm_simt(problem, tile, wide=False))
        assert blocks == math.ceil(3 * 13 * 13 / tile.bm) * math.ceil(37 / tile.bn) * 2
    naive = grid_blocks(problem, direct_naive(problem))
    assert (naive - 1) * 256 < 3 * 74 * 13 * 13 <= naive * 256


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_every_dtype_has_a_kernel(dtype: str) -> None:
    assert choose(layer(dtype=dtype)).name.endswith(dtype) or dtype in TILES


def test_a_configuration_is_a_key() -> None:
    a, b = choose(layer(h=30)), choose(layer(h=29))
    assert a == b
    assert hash(a) == hash(b), "sizes are no constants: kernels serve many problems"


@given(
    st.integers(1, 2**31 - 1),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50),
)
def test_divisor(by: int, numbers: list[int]) -> None:
    value, multiplier, shift = divisor(by)
    assert value == by
    assert multiplier < 2**32
    edges = [q * by + d for q in (1, (2**31 - 1) // by) for d in (-1, 0) if q * by + d >= 0]
    for n in numbers + edges:
        total = (n * multiplier >> 32) + n
        assert total < 2**32
        assert total >> shift == n // by


def test_divisor_refuses_what_it_cannot_do() -> None:
    for by in (0, -3, 2**31):
        with pytest.raises(ValueError, match="divides by"):
            divisor(by)


def test_parameters() -> None:
    problem = ConvProblem(2, 6, 9, 8, 10, 3, 2, (2, 1), ((1, 2), (3, 4)), (5, 6), 2, "wrap", "NHWC")
    strides = ItemStrides((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, -11, 12))
    filled = fill(problem, strides)
    want = {
        "n": 2, "groups": 2, "c": 3, "h": 9, "w": 8, "k": 5, "r": 3, "s": 2, "p": problem.p,
        "q": problem.q, "stride_h": 2, "stride_w": 1, "dilation_h": 5, "dilation_w": 6,
        "pad_top": 1, "pad_left": 3, "x_stride_c": 2, "w_stride_r": 7, "y_stride_p": -11,
        "bias_data": 0,
    }  # fmt: skip
    for name, value in want.items():
        assert filled[name] == value, name
    assert filled["inner"]["divisor"] == 3, "channels vary fastest in NHWC"
    assert filled["outer"]["divisor"] == 2
    assert fill(replace(problem, layout="NCHW"), strides)["outer"]["divisor"] == 3
    assert isinstance(parameters.PARAMETERS, np.dtype)
