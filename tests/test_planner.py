"""The planner alone, without arrays: judged by Python's big integers and by enumeration."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import math
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import ConvProblem, geometry
from fastconv.borders import PAD_MODES, source_index
from fastconv.checks import INDEX_LIMIT
from fastconv.dtypes import FLOATS, INTEGERS, promote

SMALL = st.integers(1, 9)
HUGE = st.one_of(st.integers(1, 50), st.integers(1, 2**40), st.integers(2**60, 2**66))
PADS = st.one_of(st.integers(0, 12), st.integers(0, 2**66))


def positions(size: int, taps: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """Count output pixels by walking the padded axis."""
    start, count = 0, 0
    while start + (taps - 1) * dilation < size + sum(pad):
        count += 1
        start += stride
    return count


@given(SMALL, SMALL, SMALL, st.tuples(SMALL, SMALL), SMALL)
def test_output_size_counts_positions(
    size: int, taps: int, stride: int, pad: tuple[int, int], dilation: int
) -> None:
    walked = positions(size, taps, stride, pad, dilation)
    assert max(geometry.output_size(size, taps, stride, pad, dilation), 0) == walked


@given(HUGE, SMALL, st.integers(1, 7), SMALL, st.sampled_from(["same", "same_lower"]))
def test_same_is_minimal_and_gives_the_ceiling(
    size: int, taps: int, stride: int, dilation: int, name: str
) -> None:
    (begin, end), _ = geometry.resolve_pad(name, (size, 1), (taps, 1), (stride, 1), (dilation, 1))
    wanted = -(-size // stride)
    assert geometry.output_size(size, taps, stride, (begin, end), dilation) == wanted
    assert (end - begin if name == "same" else begin - end) in (0, 1)
    if begin + end > 0:
        less = (begin + end - 1, 0)
        assert geometry.output_size(size, taps, stride, less, dilation) < wanted


@given(SMALL, SMALL, SMALL)
def test_full_is_every_overlap(size: int, taps: int, dilation: int) -> None:
    (begin, end), _ = geometry.resolve_pad("full", (size, 1), (taps, 1), (1, 1), (dilation, 1))
    reach = (taps - 1) * dilation
    overlaps = [
        offset
        for offset in range(-reach, size)  # where the first tap lies; the hull overlaps the image
        if offset + reach >= 0 and offset < size
    ]
    assert geometry.output_size(size, taps, 1, (begin, end), dilation) == len(overlaps)


@given(
    st.lists(
        st.tuples(HUGE, HUGE, st.integers(1, 2**62), PADS, PADS, HUGE), min_size=2, max_size=2
    ),
    st.tuples(st.integers(0, 2**33), st.integers(1, 2**33), st.integers(0, 2**33)),
    st.integers(1, 5),
    st.sampled_from([*FLOATS, *INTEGERS]),
)
def test_sizes_never_wrap(axes, channels, groups, dtype) -> None:  # type: ignore[no-untyped-def]
    """Any sizes at all: Python's arithmetic, or the right kind of refusal; nothing in between."""
    (h, r, sh, top, bottom, dh), (w, s, sw, left, right, dw) = axes
    n, cg, k = channels
    k *= groups
    p = (h + top + bottom - (r - 1) * dh - 1) // sh + 1
    q = (w + left + right - (s - 1) * dw - 1) // sw + 1
    promotion = promote(np.dtype(dtype), np.dtype(dtype))
    size = n * k * p * q * np.dtype(promotion.computed).itemsize
    reach = max(h + top + bottom, w + left + right, sh, sw, (r - 1) * dh + 1, (s - 1) * dw + 1)

    def describe() -> ConvProblem:
        return ConvProblem.describe(
            (n, cg * groups, h, w), (k, cg, r, s), stride=(sh, sw), dilation=(dh, dw),
            pad=((top, bottom), (left, right)), groups=groups, promotion=promotion,
        )  # fmt: skip

    if reach >= INDEX_LIMIT:
        with pytest.raises(fastconv.SizeError):
            describe()
    elif p < 1 or q < 1:
        with pytest.raises(fastconv.ShapeError, match="would be empty"):
            describe()
    elif size > 2**63 - 1:
        with pytest.raises(fastconv.SizeError, match=f"{size} bytes"):
            describe()
    else:
        problem = describe()
        assert problem.out_shape == (n, k, p, q)
        assert problem.out_bytes == size
        assert problem.cost.macs == n * k * p * q * cg * r * s
        assert problem.reduction == cg * r * s


@given(
    st.tuples(SMALL, SMALL, SMALL), st.tuples(SMALL, SMALL), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 3), st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_cost_counts_the_loops(sizes, kernel, stride, dilation, groups, pad, bias) -> None:  # type: ignore[no-untyped-def]
    n, h, w = sizes
    x, weights = (n, 2 * groups, h, w), (3 * groups, 2, *kernel)
    arguments = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    rows = positions(h, kernel[0], stride, (pad, pad), dilation)
    columns = positions(w, kernel[1], stride, (pad, pad), dilation)
    if rows == 0 or columns == 0:
        with pytest.raises(fastconv.ShapeError):
            fastconv.conv_cost(x, weights, **arguments)
        return
    macs = (
        len(list(itertools.product(range(rows), range(columns))))
        * n
        * 6
        * groups
        * math.prod(kernel)
    )
    cost = fastconv.conv_cost(x, weights, **arguments, dtype="float64")
    assert (cost.macs, cost.flops) == (macs, 2 * macs)
    outputs = n * 3 * groups * rows * columns
    assert cost.bytes == 8 * (math.prod(x) + math.prod(weights) + outputs)
    assert cost.intensity == cost.flops / cost.bytes
    problem = ConvProblem.describe(
        x, weights, **arguments, bias_shape=(3 * groups,) if bias else None
    )
    assert problem.cost.bytes == 4 * (
        math.prod(x) + math.prod(weights) + outputs + 3 * groups * bias
    )


def test_alexnet_by_hand() -> None:
    cost = fastconv.conv_cost((1, 3, 224, 224), (64, 3, 11, 11), 4, 2)
    assert cost.macs == 64 * 55 * 55 * 3 * 11 * 11
    assert fastconv.output_shape((1, 3, 224, 224), (64, 3, 11, 11), 4, 2) == (1, 64, 55, 55)


@pytest.mark.parametrize(
    ("x", "w", "layout", "shape", "axes"),
    [
        ((2, 3, 8, 9), (4, 3, 3, 3), "NCHW", (2, 4, 6, 7), ("N", "K", "P", "Q")),
        ((2, 8, 9, 3), (4, 3, 3, 3), "NHWC", (2, 6, 7, 4), ("N", "P", "Q", "K")),
        ((3, 8, 9), (4, 3, 3, 3), "NCHW", (4, 6, 7), ("K", "P", "Q")),
        ((8, 9, 3), (4, 3, 3, 3), "NHWC", (6, 7, 4), ("P", "Q", "K")),
        ((8, 9), (3, 3), "NCHW", (6, 7), ("P", "Q")),
        ((8, 9), (3, 3), "NHWC", (6, 7), ("P", "Q")),
        ((0, 3, 8, 9), (4, 3, 3, 3), "NCHW", (0, 4, 6, 7), ("N", "K", "P", "Q")),
        ((2, 3, 8, 9), (0, 3, 3, 3), "NCHW", (2, 0, 6, 7), ("N", "K", "P", "Q")),
    ],
)
def test_ranks_and_layouts(x, w, layout, shape, axes) -> None:  # type: ignore[no-untyped-def]
    problem = ConvProblem.describe(x, w, layout=layout)
    assert problem.out_shape == shape
    assert problem.out_axes == axes
    assert problem.x_shape == x
    assert problem.rank == len(x)
    assert fastconv.output_shape(x, w, layout=layout) == shape


@pytest.mark.parametrize(
    ("x", "w", "arguments", "fragments"),
    [
        ((1, 6, 8, 8), (4, 3, 3, 3), {},
         ["w expects 3 input channels per group, x has 6", "groups=2", "(N=1, C=6, H=8, W=8)",
          "(K=4, C/groups=3, R=3, S=3)"]),
        ((1, 8, 8, 3), (4, 3, 3, 3), {}, ["x has 8", "layout='NHWC'"]),
        ((1, 3, 8, 8), (4, 3, 3, 3), {"layout": "NHWC"}, ["layout='NCHW'", "(N=1, H=3, W=8, C=8)"]),
        ((1, 4, 8, 8), (8, 3, 3, 3), {},
         ["w expects 3 input channels per group, x has 4", "check groups= and layout="]),
        ((1, 4, 8, 8), (6, 1, 3, 3), {"groups": 4}, ["groups=4 does not divide the 6 output"]),
        ((1, 5, 8, 8), (4, 2, 3, 3), {"groups": 2}, ["groups must divide C", "in 2 groups"]),
        ((1, 1, 3, 3), (1, 1, 4, 3), {}, ["height P", "covers 4", "input has 3", "pad='same'"]),
        ((1, 1, 3, 3), (1, 1, 3, 2), {"dilation": (1, 3)}, ["width Q", "covers 4", "dilation"]),
        ((1, 1, 0, 3), (1, 1, 1, 1), {}, ["no pixels along H"]),
        ((1, 1, 3, 3), (1, 1, 3, 0), {}, ["no elements along S"]),
        ((1, 0, 3, 3), (1, 0, 3, 3), {}, ["x has zero input channels"]),
        ((1, 1, 3, 3), (1, 0, 3, 3), {}, ["w has zero input channels"]),
        ((8, 8), (1, 1, 3, 3), {}, ["x[None]", "(8, 8)", "(1, 1, 3, 3)"]),
        ((1, 3, 8, 8), (3, 3), {}, ["w[None, None]"]),
        ((1, 3, 8, 8, 8), (4, 3, 3, 3, 3), {}, ["volumes"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"stride": 0}, ["stride must be at least 1, got 0"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"pad": -1}, ["pad must be at least 0, got -1"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"pad": "reflect"}, ["unknown pad 'reflect'", "'same_lower'"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"pad": (1, 2, 3, 4)},
         ["((top, bottom), (left, right))", "got 4 values"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"pad_mode": "zeros"}, ["pad_mode 'zeros'", "'constant'"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"layout": "CHWN"}, ["unknown layout 'CHWN'", "'NHWC'"]),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"activation": "swish"}, ["activation 'swish'", "'silu'"]),
        ((1, 1, 8, 8), (4, 1, 3, 3), {"bias_shape": (3,)}, ["bias has shape (3,)", "(K=4,)"]),
    ],
)  # fmt: skip
def test_messages_name_shapes_and_fix(x, w, arguments, fragments) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(fastconv.ShapeError) as caught:
        ConvProblem.describe(x, w, **arguments)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert isinstance(caught.value, ValueError)


@given(
    c=st.integers(1, 12), k=st.integers(1, 12), cg=st.integers(1, 12), g=st.integers(1, 6),
    image=st.tuples(st.integers(3, 8), st.integers(3, 8)), layout=st.sampled_from(["NCHW", "NHWC"]),
)  # fmt: skip
def test_every_suggestion_is_a_fix(
    c: int, k: int, cg: int, g: int, image: tuple[int, int], layout: str
) -> None:
    """Whatever the message ends in a question mark about works, changed alone."""
    x = (1, c, *image) if layout == "NCHW" else (1, *image, c)
    try:
        ConvProblem.describe(x, (k, cg, 1, 1), groups=g, layout=layout)
    except fastconv.ShapeError as error:
        message = str(error)
    else:
        assert c == cg * g
        assert k % g == 0
        return
    question = re.search(r": ([^:]*)\? \(got", message)
    if question is None:
        assert "groups" in message
        return
    for fix in question[1].split(", or "):
        name, value = fix.split("=")
        given = {"groups": g, "layout": layout} | {name: ast.literal_eval(value)}
        if name == "groups" or k % g == 0:
            ConvProblem.describe(x, (k, cg, 1, 1), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("fix", [{"groups": 2}, {"layout": "NHWC"}])
def test_suggested_fixes_work(fix: dict[str, object]) -> None:
    x = (1, 6, 8, 3) if "layout" in fix else (1, 6, 8, 8)
    with pytest.raises(fastconv.ShapeError) as caught:
        ConvProblem.describe(x, (4, 3, 3, 3))
    name, value = next(iter(fix.items()))
    assert f"{name}={value!r}" in str(caught.value)
    ConvProblem.describe(x, (4, 3, 3, 3), **fix)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.0, "1", None, np.float64(2), 1j, b"1", np.array([1.0, 1.0])])
@pytest.mark.parametrize("name", ["stride", "dilation", "groups", "pad"])
def test_only_integers_are_integers(name: str, value: object) -> None:
    error = fastconv.ShapeError if name == "pad" and isinstance(value, str) else TypeError
    with pytest.raises(error, match=r"integer|unknown pad"):
        ConvProblem.describe((1, 1, 8, 8), (1, 1, 3, 3), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("one", [1, True, np.int64(1), np.uint8(1), np.array(1), (1, 1), [1, 1],
                                 (np.int32(1), True), np.array([1, 1])])  # fmt: skip
def test_whatever_has_an_index_is_an_integer(one: object) -> None:
    got = ConvProblem.describe((1, 1, 8, 8), (1, 1, 3, 3), stride=one, pad=one, dilation=one)
    assert got == ConvProblem.describe((1, 1, 8, 8), (1, 1, 3, 3), pad=1)
    assert type(got.stride[0]) is int


def test_pads_in_every_spelling() -> None:
    def pads(pad: object) -> object:
        return ConvProblem.describe((1, 1, 8, 8), (1, 1, 3, 4), pad=pad).pad

    assert pads(2) == ((2, 2), (2, 2))
    assert pads((1, 2)) == ((1, 1), (2, 2))
    assert pads(((1, 2), (3, 4))) == ((1, 2), (3, 4))
    assert pads([(1, 2), [3, 4]]) == ((1, 2), (3, 4))
    assert pads(np.array([[1, 2], [3, 4]])) == ((1, 2), (3, 4))
    assert pads("valid") == ((0, 0), (0, 0))
    assert pads("same") == ((1, 1), (1, 2))
    assert pads("same_lower") == ((1, 1), (2, 1))
    assert pads("full") == ((2, 2), (3, 3))


def test_a_problem_is_a_value() -> None:
    """Frozen, hashable, comparable, picklable as plain configuration, replaceable."""
    make = {"stride": 2, "pad": "same", "groups": 2, "activation": "relu", "bias_shape": (4,)}
    one = ConvProblem.describe((2, 6, 9, 9), (4, 3, 3, 3), **make)  # type: ignore[arg-type]
    two = ConvProblem.describe((2, 6, 9, 9), (4, 3, 3, 3), **make)  # type: ignore[arg-type]
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two}) == 1
    assert one.out_shape == two.out_shape  # fills a cache, which must change neither
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    assert again == one
    assert hash(again) == hash(one)
    assert again.out_shape == one.out_shape
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.n = 3  # type: ignore[misc]
    assert dataclasses.replace(one, n=5).out_shape == (5, *one.out_shape[1:])
    for word in ("stride (2, 2)", "groups 2", "bias", "relu", "N=2, C=6, H=9, W=9", "K=4"):
        assert word in str(one)


@pytest.mark.parametrize("mode", PAD_MODES)
@given(size=st.integers(1, 9), pad=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_source_index_is_numpy_pad(mode: str, size: int, pad: tuple[int, int]) -> None:
    fill = {"constant_values": -1} if mode == "constant" else {}
    want = np.pad(np.arange(size), pad, mode=mode, **fill)
    assert np.array_equal(source_index(np.arange(-pad[0], size + pad[1]), size, mode), want)


@pytest.mark.parametrize("mode", [m for m in PAD_MODES if m != "constant"])
def test_source_index_far_away(mode: str) -> None:
    """Indices far beyond 2**32 stay inside the image, with the mode's period."""
    far = np.array([-(2**60), -(2**40) - 1, 2**40 + 3, 2**60])
    for size in (1, 2, 7):
        period = {"edge": 1, "reflect": max(2 * (size - 1), 1), "symmetric": 2 * size, "wrap": size}
        got = source_index(far, size, mode)
        assert ((got >= 0) & (got < size)).all()
        if mode != "edge":
            near = np.array([int(i) % period[mode] for i in far])
            assert np.array_equal(got, source_index(near, size, mode))


@pytest.mark.parametrize("x", [*FLOATS, *INTEGERS, "bool"])
@pytest.mark.parametrize("w", [*FLOATS, *INTEGERS, "bool"])
def test_promotion_is_numpys(x: str, w: str) -> None:
    """Bool counts as uint8; integers accumulate in 32 or 64 bits; floats stay what they are."""
    as_number = {"bool": "uint8"}
    dtypes = [np.dtype(as_number.get(d, d)) for d in (x, w)]
    common = np.result_type(*dtypes)
    got = promote(np.dtype(x), np.dtype(w))
    assert got.operand == common.name
    assert got.result == got.computed
    if common.kind == "f":
        assert got.result == common.name
    elif max(d.itemsize for d in dtypes) <= 2:
        assert got.result == "int32"
    else:
        assert got.result == ("uint64" if common == np.uint64 else "int64")


@pytest.mark.parametrize(
    ("operands", "dtype", "promotion"),
    [
        (("float32", "float32"), "float64", ("float64", "float64", "float64")),
        (("float64", "float64"), "float32", ("float32", "float32", "float32")),
        (("float16", "float16"), "float32", ("float32", "float32", "float32")),
        (("float16", "float16"), "float16", ("float16", "float16", "float16")),
        (("float32", "float16"), "float16", ("float32", "float32", "float16")),
        (("int8", "int8"), "int64", ("int8", "int64", "int64")),
        (("int8", "int8"), "uint8", ("int8", "uint8", "uint8")),
        (("int64", "int64"), "int8", ("int8", "int8", "int8")),
        (("uint8", "uint8"), "float32", ("float32", "float32", "float32")),
        (("int16", "int16"), "float16", ("float32", "float32", "float16")),
    ],
)
def test_dtype_sets_result_and_accumulator(operands, dtype, promotion) -> None:  # type: ignore[no-untyped-def]
    assert promote(*map(np.dtype, operands), np.dtype(dtype))[:3] == promotion


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "M8[s]", "m8[s]", "i4,f4", "V4"])
def test_what_is_no_number_is_refused(dtype: str) -> None:
    for pair in ((dtype, "f4"), ("f4", dtype)):
        with pytest.raises(fastconv.DTypeError, match="does not convolve"):
            promote(*map(np.dtype, pair))
    with pytest.raises(fastconv.DTypeError):
        promote(np.dtype("f4"), np.dtype("f4"), np.dtype(dtype))


def test_fractions_are_not_cut_off_silently() -> None:
    with pytest.raises(fastconv.DTypeError, match="cutting off fractions"):
        promote(np.dtype("f4"), np.dtype("i4"), np.dtype("i4"))


def test_fractional_activation_of_integers_is_refused() -> None:
    integers = promote(np.dtype("i4"), np.dtype("i4"))
    ConvProblem.describe((4, 4), (2, 2), promotion=integers, activation="relu6")
    with pytest.raises(fastconv.DTypeError, match="dtype='float32'"):
        ConvProblem.describe((4, 4), (2, 2), promotion=integers, activation="gelu")
