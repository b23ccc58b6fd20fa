"""Deformable convolution: against its definition, ONNX's reference and the plain convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import backends, processes
from support.deform import (
    CASES,
    LARGER,
    WIDE,
    Deform,
    assert_close,
    by_reference,
    compute,
    definition,
    draw,
    varied,
)

import fastconv


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reference_is_the_definition(case: Deform) -> None:
    arrays = draw(case)
    for mine, theirs in zip(by_reference(case, arrays), definition(case, arrays), strict=True):
        assert np.allclose(mine.astype(float), theirs.astype(float), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_small_calls_are_the_definition(case: Deform, backend: str) -> None:
    arrays = draw(case)
    assert_close(case, compute(case, arrays, backend=backend), definition(case, arrays))


@pytest.mark.parametrize("case", varied(CASES[1:3] + LARGER[:3]) + LARGER[3:], ids=str)
def test_larger_calls_stay_within_the_bound(case: Deform, backend: str) -> None:
    if backend == "reference" and case.dtype != "float16":
        pytest.skip("what the others are held against")
    arrays = draw(case)
    assert_close(case, compute(case, arrays, backend=backend), by_reference(case, arrays))


@pytest.mark.parametrize("case", varied(CASES) + LARGER, ids=str)
def test_whole_pixels_are_exact(case: Deform, backend: str) -> None:
    arrays = draw(case, "integers")
    want = by_reference(case, arrays)[0]
    want = np.maximum(want, 0) if case.activation else want
    if case.dtype in backends.HALVES:
        want = want.astype(arrays.x.dtype).astype(WIDE)  # whole numbers of few digits: one rounding
    assert np.array_equal(compute(case, arrays, backend=backend).astype(WIDE), want)


@pytest.mark.parametrize("case", LARGER, ids=str)
def test_no_moves_are_the_convolution(case: Deform, backend: str) -> None:
    arrays = draw(case)
    still = arrays._replace(offset=np.zeros_like(arrays.offset), mask=None)
    plain = Deform(**{**case.__dict__, "masked": False})
    got = compute(plain, still, backend=backend)
    conv = fastconv.conv2d(
        still.x, still.w, bias=still.bias, backend="reference", **plain.arguments
    )
    assert_close(plain, got, by_reference(plain, still))
    size = by_reference(plain, still)[1].astype(float)
    assert (np.abs(got - conv) <= 1e-4 * size).all()


SIZES = st.integers(1, 9)


@st.composite
def calls(draw: Any) -> Deform:
    groups, shared = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    c = groups * shared
    offset_groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
    r, s = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    image = tuple((t - 1) * d + draw(SIZES) for t, d in zip((r, s), dilation, strict=True))
    return Deform(
        (draw(st.integers(1, 2)), c, *image),
        (groups * draw(st.integers(1, 20)), shared, r, s),
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        (draw(st.integers(0, 3)), draw(st.integers(0, 3))),
        dilation, groups, offset_groups, draw(st.booleans()), draw(st.booleans()), None,
        draw(st.sampled_from(["NCHW", "NHWC"])), draw(st.sampled_from(backends.FLOATS)),
    )  # fmt: skip


@pytest.mark.parametrize("name", backends.FAST)
def test_any_call_stays_within_the_bound(name: str) -> None:
    backends.present(name)

    @given(calls())
    def holds(case: Deform) -> None:
        arrays = draw(case)
        assert_close(case, compute(case, arrays, backend=name), by_reference(case, arrays))

    holds()


@pytest.mark.parametrize("case", [c for c in CASES if min(c.x[2:]) > 1], ids=str)
def test_onnx_defines_the_same(case: Deform, backend: str) -> None:
    helper = pytest.importorskip("onnx.helper")
    evaluator = pytest.importorskip("onnx.reference")
    arrays = draw(case)
    names = ["x", "w", "offset", "bias" if case.bias else "", "mask" if case.masked else ""]
    pads = case.pad if isinstance(case.pad, tuple) else (case.pad, case.pad)
    strides = case.stride if isinstance(case.stride, tuple) else (case.stride, case.stride)
    spread = case.dilation if isinstance(case.dilation, tuple) else (case.dilation, case.dilation)
    node = helper.make_node(
        "DeformConv", names, ["y"], group=case.groups, offset_group=case.offset_groups,
        strides=strides, pads=pads * 2, dilations=spread, kernel_shape=case.w[2:],
    )  # fmt: skip
    feeds = {name: a for name, a in arrays._asdict().items() if a is not None}
    graph = helper.make_graph(
        [node], "deform",
        [helper.make_tensor_value_info(name, 1, a.shape) for name, a in feeds.items()],
        [helper.make_tensor_value_info("y", 1, None)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    want = evaluator.ReferenceEvaluator(model).run(None, feeds)[0]
    want = np.maximum(want, 0) if case.activation else want
    got = compute(case, arrays, backend=backend)
    assert np.allclose(got, want, rtol=1e-4, atol=1e-4)


EVERY_ISA = """
import numpy as np
import fastconv
rng = np.random.default_rng(1)
for dtype, u in (("float32", 2.0**-24), ("float64", 2.0**-53)):
    for c, k, groups, shared in ((37, 41, 1, 37), (64, 8, 2, 16), (6, 12, 6, 1), (130, 70, 1, 13)):
        x = rng.random((2, c, 7, 9)).astype(dtype)
        w = rng.random((k, c // groups, 3, 3)).astype(dtype)
        taps = c // shared * 9
        moved = (rng.standard_normal((2, 2 * taps, 7, 9)) * 2).astype(dtype)
        mask = rng.random((2, taps, 7, 9)).astype(dtype)
        want, got = (
            fastconv.deform_conv2d(x, w, moved, pad=1, mask=mask, groups=groups, backend=name)
            for name in ("reference", "native")
        )
        n = c // groups * 9 + 9  # all terms are positive, and the reference rounds once
        assert (abs(got - want) <= n * u * want).all(), (dtype, c, k)
"""


def test_every_instruction_set() -> None:
    backends.present("native")
    processes.run_on_every_isa(EVERY_ISA)
