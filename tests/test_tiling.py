"""Blocks of convolutions: what they read, how they are cut, and that they have the whole's bits."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import processes
from support.backends import present

import fastconv
from fastconv import ConvProblem, ShapeError, SizeError
from fastconv.borders import PAD_MODES, source_index
from fastconv.interop.blocks import conv2d_blocks
from fastconv.tiling import Block, BlockPlan, Span, cut_problem, following, pieces, plan_blocks

Array = np.ndarray[Any, Any]


@st.composite
def spans(draw: Any) -> Span:
    size, low = draw(st.integers(1, 12)), draw(st.integers(-20, 20))
    high = low + draw(st.integers(1, 30))
    return Span(0, 1, low, high, size, draw(st.sampled_from(PAD_MODES)))


@given(span=spans())
def test_a_span_reads_what_its_border_holds(span: Span) -> None:
    """Every pixel that is needed, none twice, none else; in the places that `numpy.pad` says."""
    source = source_index(np.arange(span.low, span.high), span.size, span.mode)
    axis = np.arange(1, span.size + 1)
    read = np.concatenate([axis[part] for part in span.reads] or [np.zeros(1, int)])
    inside = np.unique(source[source >= 0]) + 1
    assert np.array_equal(read[read > 0], inside)
    taken = read if span.taken is None else read[span.taken]
    block = np.pad(taken, span.pad)
    assert np.array_equal(block, np.where(source < 0, 0, axis[source]))
    assert len(taken) == span.length


@given(span=spans(), data=st.data())
def test_pieces_are_what_is_read_of_each_chunk(span: Span, data: Any) -> None:
    bounds = data.draw(st.sets(st.integers(1, span.size)))
    ends = [0, *sorted(bounds | {span.size})]
    axis = np.arange(span.size)
    chunks = np.split(axis, ends[1:-1])
    found = [chunks[chunk][part] for chunk, part in pieces(span, ends)]
    read = [axis[part] for part in span.reads]
    assert all(len(part) for part in found)
    assert np.array_equal(np.concatenate([*found, []]), np.concatenate([*read, []]))


@st.composite
def calls(draw: Any) -> tuple[Array, Array, dict[str, Any]]:
    """Arguments of a conv2d whose data are not exact, so that another order of sums shows."""
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    cg, kg = draw(st.sampled_from([1, 2, 3, 8, 33])), draw(st.sampled_from([1, 2, 3, 8, 17]))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    strides, spread = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    border = st.tuples(st.integers(0, 5), st.integers(0, 5))
    pad = draw(st.one_of(st.sampled_from(["same", "full", "valid"]), st.tuples(border, border)))
    image = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    layout = draw(st.sampled_from(["NCHW", "NHWC"]))
    dtype = draw(st.sampled_from(DTYPES))
    options = {
        "stride": strides, "pad": pad, "dilation": spread, "groups": groups, "layout": layout,
        "pad_mode": draw(st.sampled_from(PAD_MODES)), "flip": draw(st.booleans()),
    }  # fmt: skip
    n = draw(st.integers(1, 3))
    channels = (cg * groups, kg * groups)
    shape = (n, channels[0], *image) if layout == "NCHW" else (n, *image, channels[0])
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    x, w = values(rng, shape, dtype), values(rng, (channels[1], cg, *taps), dtype)
    form = draw(st.sampled_from(["batch", "batch", "image", "plane"]))
    if form == "image":
        x = x[0]
    elif form == "plane" and channels == (1, 1):
        x, w = x[0].reshape(image), w[0, 0]
        options["groups"] = 1
    if x.ndim > 2 and not np.issubdtype(dtype, np.integer) and draw(st.booleans()):
        options["bias"] = values(rng, channels[1:], "float32" if dtype == "float16" else dtype)
        if not dtype.startswith("complex"):
            options["activation"] = draw(st.sampled_from([None, "relu", "silu"]))
    try:
        ConvProblem.describe(
            x.shape, w.shape, **{k: v for k, v in options.items() if k in DESCRIBED}
        )
    except ShapeError:
        assume(False)
    return x, w, options


DTYPES = ["float32", "float64", "float16", "int8", "int32", "complex64"]
DESCRIBED = ("stride", "pad", "dilation", "groups", "layout", "pad_mode")


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    if np.issubdtype(dtype, np.integer):
        return rng.integers(-100, 100, shape).astype(dtype)
    numbers: Array = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        numbers = numbers + 1j * rng.standard_normal(shape)
    return numbers.astype(dtype)


def same_bits(got: Array, expected: Array) -> bool:
    return got.dtype == expected.dtype and got.tobytes() == expected.tobytes()


def cuts(data: Any, shape: tuple[int, ...], channels: int | None) -> list[Any]:
    """Any way to cut a result, channels left whole."""
    found: list[Any] = []
    for axis, size in enumerate(shape):
        if axis == channels:
            found.append(None)
        elif data.draw(st.booleans()):
            found.append(data.draw(st.integers(1, size)))
        else:
            ends = sorted(data.draw(st.sets(st.integers(1, size), max_size=4)) | {size})
            found.append([b - a for a, b in zip([0, *ends], ends, strict=False)])
    return found


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
@given(call=calls(), data=st.data())
def test_blocks_have_the_bits_of_the_whole(backend: str, call: Any, data: Any) -> None:
    present(backend)
    x, w, options = call
    if x.dtype == "int32" and backend == "native":
        x, w = x.astype("int16"), w.astype("int16")
    whole = fastconv.conv2d(x, w, backend=backend, **options)
    channels = {2: None, 3: 0, 4: 1}[x.ndim]
    if channels is not None and options["layout"] == "NHWC":
        channels = x.ndim - 1
    out = np.full_like(whole, np.nan if whole.dtype.kind in "fc" else 77)
    conv2d_blocks(x, out, w, blocks=cuts(data, whole.shape, channels), backend=backend, **options)
    assert same_bits(out, whole)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("x", "w", "pad", "dtype"),
    [
        ((64, 9, 9), (32, 64, 3, 3), 1, "float32"),  # dot_product would take single pixels
        ((16, 9, 9), (8, 16, 5, 5), 1, "float64"),
        ((40, 9, 9), (33, 40, 3, 3), 1, "float16"),  # and that of 16 bits
        ((16, 9, 9), (2, 16, 1, 1), 1, "float32"),  # direct_pointwise all but the border
        ((8, 9, 9), (8, 8, 3, 3), 1, "complex64"),  # large weights, for a block
    ],
)
def test_blocks_are_computed_as_their_image(
    layout: str, x: Any, w: Any, pad: int, dtype: str
) -> None:
    """Where an image and its blocks alone would get sums in different orders, or other ways."""
    present("native")
    rng = np.random.default_rng(1)
    image, weights = values(rng, x, dtype), values(rng, w, dtype)
    image = np.moveaxis(image, 0, -1).copy() if layout == "NHWC" else image
    options: dict[str, Any] = {"pad": pad, "layout": layout, "backend": "native"}
    whole = fastconv.conv2d(image, weights, **options)
    for size in (1, 2, 7):
        out = np.full_like(whole, np.nan)
        blocks = [None, size, size] if layout == "NCHW" else [size, size, None]
        conv2d_blocks(image, out, weights, blocks=blocks, **options)
        assert same_bits(out, whole), size


def test_without_that_care_bits_would_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: a block that does not know its image is computed otherwise."""
    present("native")
    rng = np.random.default_rng(1)
    x, w = values(rng, (64, 9, 9), "float32"), values(rng, (32, 64, 3, 3), "float32")
    block = BlockPlan.block
    monkeypatch.setattr(
        BlockPlan, "block",
        lambda *a: (b := block(*a))._replace(problem=_alone(b)),
    )  # fmt: skip
    whole = fastconv.conv2d(x, w, backend="native")
    out = np.empty_like(whole)
    conv2d_blocks(x, out, w, blocks=[None, 1, 1], backend="native")
    assert not same_bits(out, whole)


def _alone(block: Block) -> ConvProblem:
    from dataclasses import replace

    return replace(block.problem, whole=None)


def test_special_values_are_where_they_are_in_the_whole() -> None:
    present("native")
    rng = np.random.default_rng(2)
    x, w = values(rng, (3, 20, 20), "float32"), values(rng, (4, 3, 3, 3), "float32")
    x[1, 7, 3], x[0, 0, 19], w[2, 1, 1, 1] = np.nan, np.inf, -np.inf
    whole = fastconv.conv2d(x, w, pad=2)
    out = np.zeros_like(whole)
    conv2d_blocks(x, out, w, pad=2, blocks=[None, 5, 3])
    assert np.array_equal(np.isnan(out), np.isnan(whole))
    assert np.array_equal(out, whole, equal_nan=True)


def test_fast_stays_within_its_bounds() -> None:
    rng = np.random.default_rng(3)
    x, w = values(rng, (1, 32, 40, 40), "float32"), values(rng, (32, 32, 3, 3), "float32")
    out = np.full((1, 32, 40, 40), np.nan, "float32")
    conv2d_blocks(x, out, w, pad=1, precision="fast", blocks=[None, None, 13, 17])
    strict = fastconv.conv2d(x, w, pad=1)
    assert not same_bits(out, strict)
    assert np.linalg.norm(out - strict) <= 2e-5 * np.linalg.norm(strict)


@pytest.mark.parametrize("memory", [1 << 14, 1 << 16, 1 << 20])
@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((64, 64), (5, 5), {"pad": "same"}),
        ((3, 70, 90), (8, 3, 3, 3), {"stride": 2, "pad": 1}),
        ((5, 30, 40, 4), (2, 4, 3, 3), {"layout": "NHWC", "pad_mode": "wrap", "pad": 3}),
        ((100, 1, 8, 8), (3, 1, 3, 3), {}),
    ],
)
def test_blocks_fit_into_memory(x: Any, w: Any, options: Any, memory: int) -> None:
    """And are not much smaller than they need be, and cover the result once."""
    plan = plan_blocks(x, w, memory=memory, **options)
    assert plan.memory <= memory
    assert len(plan) == 1 or plan.memory > memory / 5
    covered = np.zeros(plan.problem.out_shape, int)
    for block in plan:
        covered[block.out] += 1
        assert tuple(s.stop - s.start for s in _of(block)) == tuple(block.problem.y_image)
    assert (covered == 1).all()
    assert len(plan) == math.prod(plan.grid) == len(list(plan))


def _of(block: Block) -> list[slice]:
    return [span.out for span in block.spans]


def test_blocks_are_multiples_of_chunks() -> None:
    plan = plan_blocks((1, 4000, 4000), (4, 1, 3, 3), pad=1, memory=1 << 24, multiples=(4, 100, 64))
    assert plan.cuts[0][0] % 100 == 0
    assert plan.cuts[1][0] % 64 == 0
    less = plan_blocks((1, 4000, 4000), (4, 1, 3, 3), memory=1 << 14, multiples=(4, 512, 512))
    assert less.memory <= 1 << 14


def test_blocks_read_no_more_than_they_need() -> None:
    """Of an axis that wraps around, both ends and not what is between them."""
    plan = plan_blocks((1000, 1000), (5, 5), pad="same", pad_mode="wrap", blocks=[10, 1000])
    assert plan[0].spans[0].reads == (slice(0, 12), slice(998, 1000))
    assert plan[50].spans[0].reads == (slice(498, 512),)
    reflected = plan_blocks((1000, 9), (5, 1), pad=((40, 0), (0, 0)), pad_mode="reflect",
                            blocks=[4, None])  # fmt: skip
    assert reflected[0].spans[0].reads == (slice(33, 41),)


def test_outputs_follow_the_chunks_of_x() -> None:
    problem = plan_blocks((12, 12), (3, 3), pad="same").problem
    assert following(problem, [(5, 7), (1, 1, 10)]) == ((5, 7), (1, 1, 10))
    strided = plan_blocks((12, 12), (3, 3), 4, pad=1).problem
    assert following(strided, [(1, 1, 10), (12,)]) == ((1, 2), (3,))


def test_plans_are_sequences() -> None:
    plan = plan_blocks((2, 3, 9, 9), (4, 3, 3, 3), blocks=[1, None, 3, 4])
    assert plan.grid == (2, 3, 2)
    assert plan.chunks == ((1, 1), (4,), (3, 3, 1), (4, 3))
    assert plan[-1] == list(plan)[11] == plan[11:][0]
    assert "2 x 3 x 2 blocks" in repr(plan)
    with pytest.raises(IndexError, match="12 blocks"):
        plan[12]
    again = pickle.loads(pickle.dumps(plan))  # noqa: S301
    assert list(again) == list(plan)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"blocks": [4, 4, 4]}, ShapeError, "a value for each axis of the result"),
    ({"blocks": [None, 2, 4, 4]}, ShapeError, "cut the channels"),
    ({"blocks": [None, None, 0, 4]}, ShapeError, "blocks along P must be at least 1"),
    ({"blocks": [None, None, [3, 3], 4]}, ShapeError, "add up to 6, the result has 7"),
    ({"blocks": [None, None, 2.0, 4]}, TypeError, "blocks along P must be an integer"),
    ({"multiples": [1]}, ShapeError, "multiples needs a value"),
    ({"memory": 0}, ShapeError, "memory must be at least 1"),
    ({"memory": 100}, SizeError, "do not hold a block of one pixel, which needs"),
    ({"memory": 1e6}, TypeError, "memory must be an integer"),
]


@pytest.mark.parametrize(("arguments", "error", "says"), REFUSED)
def test_what_cannot_be_cut_is_refused(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan_blocks((2, 3, 9, 9), (4, 3, 3, 3), **arguments)


def test_problems_keep_their_identity_in_other_processes() -> None:
    """Hashes of strings differ from process to process, and must not travel."""
    problem = cut_problem(ConvProblem.describe((5, 5), (3, 3))).problem
    hash(problem)
    print_it = "import pickle, sys; p = pickle.loads(bytes.fromhex(sys.argv[1])); import fastconv;"
    print_it += "q = fastconv.ConvProblem.describe((5, 5), (3, 3)); print(p == q, p in {q})"
    sent = pickle.dumps(problem).hex()
    assert processes.run(print_it, sent, environment={"PYTHONHASHSEED": "7"}).split() == [
        "True", "True",
    ]  # fmt: skip
