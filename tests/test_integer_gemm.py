"""Integers of 8 and 16 bits in the native backend: exact modulo 2**32, whatever the shape.

Depthwise problems, among them here, are the depthwise algorithm's: see test_depthwise, too.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from support import guard, processes

import fastconv
from fastconv import dispatch
from fastconv.options import resolve
from fastconv.problem import ConvProblem

Array = np.ndarray[Any, Any]

REQUIRED = "native" in os.environ.get("FASTCONV_REQUIRE_BACKENDS", "")

if dispatch.availability("native") is not None and not REQUIRED:
    pytest.skip("the native extension is not built", allow_module_level=True)

DTYPES = ("int8", "uint8", "int16", "uint16")
MODES = ("constant", "edge", "reflect", "symmetric", "wrap")

#: (c, h, w, k, r, s, arguments): every way of folding the kernel, and edges of every tile.
SHAPES: list[tuple[int, int, int, int, int, int, dict[str, Any]]] = [
    (64, 14, 14, 40, 3, 3, {"pad": 1}),
    (32, 9, 31, 29, 1, 1, {}),
    (17, 5, 7, 15, 3, 2, {"pad": ((2, 0), (1, 3))}),
    (3, 23, 30, 16, 7, 7, {"pad": 3, "stride": 2}),
    (3, 12, 40, 14, 3, 3, {"pad": 1}),
    (5, 20, 19, 7, 2, 5, {"dilation": (3, 2), "pad": (4, 5)}),
    (8, 17, 16, 9, 3, 3, {"stride": (2, 1), "pad": 1}),
    (24, 13, 50, 6, 1, 3, {"stride": (1, 3), "dilation": (1, 5), "pad": 20}),
    (12, 9, 9, 12, 3, 3, {"groups": 12, "pad": 1}),
    (10, 8, 70, 20, 5, 5, {"groups": 10, "pad": 2}),
    (50, 15, 23, 50, 3, 3, {"groups": 50, "pad": 1, "stride": 2}),
    (16, 11, 11, 24, 3, 3, {"groups": 4, "pad": 1, "stride": 2}),
    (2, 1, 1, 3, 1, 1, {}),
    (1, 1, 40, 1, 1, 9, {"pad": "same"}),
    (1, 33, 1, 2, 17, 1, {"pad": "full"}),
    (1, 6, 5, 3, 3, 3, {"pad": 40}),
    (1, 40, 45, 2, 31, 33, {"pad": "same"}),
    (4, 3, 3, 1, 3, 3, {}),
    (131, 1, 1, 37, 1, 1, {}),
    (1100, 3, 2, 18, 3, 3, {"pad": ((1, 0), (0, 1)), "groups": 2}),
    (36, 15, 17, 35, 3, 3, {"pad": 1, "stride": 2}),
    (20, 11, 37, 33, 1, 1, {"stride": 2}),
    (66, 7, 7, 64, 3, 2, {"pad": ((2, 1), (0, 3)), "stride": (2, 1), "groups": 2}),
    (512, 6, 5, 48, 1, 1, {"pad": 1, "dilation": 2}),
]


def random(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    """Draw from the whole range, both ends often."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    where = rng.random(shape)
    values[where < 0.2] = info.min
    values[where > 0.8] = info.max
    return values


def laid_out(x: Array, layout: str) -> Array:
    """Return x, (N, C, H, W), in the order of `layout`."""
    return x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def logical(x: Array, layout: str) -> Array:
    """View an array in the order of `layout` as (N, C, H, W)."""
    return x if layout == "NCHW" else x.transpose(0, 3, 1, 2)


def describe(x: Array, w: Array, arguments: dict[str, Any]) -> ConvProblem:
    return ConvProblem.describe(
        x.shape,
        w.shape,
        promotion=fastconv.dtypes.promote(x.dtype, w.dtype),
        **{key: value for key, value in arguments.items() if key not in ("bias", "flip")},
        bias_shape=None if arguments.get("bias") is None else arguments["bias"].shape,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_to_the_definition(dtype: str, layout: str, shape: Any) -> None:
    c, h, width, k, r, s, given = shape
    rng = np.random.default_rng([c, h, k])
    x = laid_out(random(rng, dtype, 2, c, h, width), layout)
    w = random(rng, dtype, k, c // given.get("groups", 1), r, s)
    bias = random(rng, "int32", k)
    for mode in MODES:
        for activation in (None, "relu", "relu6"):
            arguments = {**given, "layout": layout, "pad_mode": mode, "activation": activation}
            arguments["bias"] = bias if activation != "relu6" else None
            want = fastconv.conv2d(x, w, backend="reference", **arguments)
            for threads in (1, 2):
                got = fastconv.conv2d(x, w, backend="native", threads=threads, **arguments)
                assert np.array_equal(got, want), (mode, activation, threads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packed_weights_and_any_scratch(dtype: str, layout: str, shape: Any) -> None:
    native = pytest.importorskip("fastconv._native")
    from fastconv.backends.native import _description, resources

    c, h, width, k, r, s, given = shape
    rng = np.random.default_rng([c, h, k, 1])
    x = laid_out(random(rng, dtype, 3, c, h, width), layout)
    w = random(rng, dtype, k, c // given.get("groups", 1), r, s)
    bias = random(rng, "int32", k)
    arguments = {**given, "bias": bias, "activation": "relu", "layout": layout}
    want = fastconv.conv2d(x, w, backend="reference", **arguments)
    problem = describe(x, w, arguments)
    for workspace in (1 << 16, 1 << 17, 8 << 20):
        with fastconv.options(workspace=workspace, threads=2):
            assert np.array_equal(fastconv.conv2d(x, w, backend="native", **arguments), want)
            options = resolve("native", None, None)
            packed = native.PackedConvolution(_description(problem), w, bias, resources(options))
            assert packed.packed_bytes >= w.nbytes
            for images in (3, 1):
                out = np.full_like(want[:images], 77)
                packed.run(logical(x[:images], layout), logical(out, layout))
                assert np.array_equal(out, want[:images])
            for held in (False, True):
                name, scratch, used = native.algorithm(
                    _description(problem), resources(options), held
                )
                assert name == ("depthwise" if given.get("groups") == c else "integer_gemm")
                assert scratch <= used * workspace


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides_of_memory(dtype: str) -> None:
    rng = np.random.default_rng(5)
    x = random(rng, dtype, 2, 12, 20, 22)[::-1, ::3, ::-1, 1::2]
    w = random(rng, dtype, 10, 3, 6, 4)[::-2, :3, ::2, ::-1][:, [2, 0, 1, 2]]
    for r in (1, 3):
        want = fastconv.conv2d(x, w[:, :, :r, :r], pad=1, backend="reference")
        room = np.full([3 * n for n in want.shape], 7, "int32")
        for step in (1, 2, -1):
            out = room[tuple(slice(n if step < 0 else 0, None, step) for n in want.shape)]
            out = out[tuple(slice(0, n) for n in want.shape)]
            assert out.shape == want.shape
            fastconv.conv2d(x, w[:, :, :r, :r], pad=1, backend="native", out=out)
            assert np.array_equal(out, want)
        assert np.count_nonzero(room == 7) >= room.size - 3 * want.size


@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_last_of_any_strides(dtype: str) -> None:
    rng = np.random.default_rng(6)
    x = random(rng, dtype, 2, 13, 30, 40)[:, ::-1, 1::2, ::2]  # (N, H, W, C), every second channel
    w = random(rng, dtype, 19, 20, 3, 3)[::-1]
    room = np.full((2, 13, 15, 40), 7, "int32")
    outs = (room[..., ::2][..., :19], room[..., 19:0:-1], room[..., :19], room[:, ::-1, :, 1:20])
    for out in outs:
        want = fastconv.conv2d(x, w, pad=1, layout="NHWC", backend="reference")
        fastconv.conv2d(x, w, pad=1, layout="NHWC", backend="native", out=out)
        assert np.array_equal(out, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("shape", [*SHAPES[:11], *SHAPES[-6:]], ids=str)
def test_nothing_beyond_the_operands_is_read(dtype: str, layout: str, shape: Any) -> None:
    c, h, width, k, r, s, given = shape
    rng = np.random.default_rng(11)
    given = {**given, "layout": layout}
    x = laid_out(random(rng, dtype, 1, c, h, width), layout)
    w = random(rng, dtype, k, c // given.get("groups", 1), r, s)
    want = fastconv.conv2d(x, w, backend="reference", **given)
    fences = [guard.Fence(a.nbytes // guard.PAGE + 1) for a in (x, w)]
    for side in ("before", "after"):
        held = [fence.hold(a, side) for fence, a in zip(fences, (x, w), strict=True)]
        got = fastconv.conv2d(held[0], held[1], backend="native", **given)
        assert np.array_equal(got, want)


def test_sums_wrap_around() -> None:
    for dtype, value in (("int16", -32768), ("uint16", 65535), ("uint8", 255), ("int8", -128)):
        for c in (1, 2, 3, 4, 7, 32, 600):
            x = np.full((1, c, 5, 40), value, dtype)
            w = np.full((15, c, 3, 3), value, dtype)
            total = (9 * c * value * value + 2**31) % 2**32 - 2**31
            y = fastconv.conv2d(x, w, backend="native")
            assert y.dtype == np.int32
            assert (y == total).all(), (dtype, c)


FAMILY = """
import numpy as np
import fastconv, test_integer_gemm as tests
for dtype in tests.DTYPES:
    for shape in tests.SHAPES:
        for layout in ("NCHW", "NHWC"):
            tests.test_packed_weights_and_any_scratch(dtype, layout, shape)
tests.test_sums_wrap_around()
"""


def test_every_instruction_set() -> None:
    processes.run_on_every_isa(FAMILY)
