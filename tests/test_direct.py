"""The short way through a call: remembered calls, arrays taken as they are, or declined."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.cases import Case, draw, generator
from support.example import BIAS, WANT, Array, W, X
from support.held import misaligned, packed_field, read_only, spaced
from support.judge import assert_same_bits
from support.memory import linux

import fastconv
from fastconv import calls
from fastconv.backends import native
from fastconv.options import resolve


@pytest.fixture(autouse=True)
def _fresh() -> None:
    calls.forget()


def direct_for(case: Case) -> Any:
    present("native")
    return native.direct(case.problem, resolve(None, None, None), case.flip, "float32")


CASE = Case(X.shape, W.shape, stride=2, pad=1, bias=True)


def byte_swapped(a: Array) -> Array:
    return a.astype(a.dtype.newbyteorder())


class Subclass(np.ndarray[Any, Any]):
    pass


#: What is not taken as it is, and what Python does instead: convert or refuse.
DECLINED = {
    "misaligned": misaligned,
    "record field": packed_field,
    "byte-swapped": byte_swapped,
    "subclass": lambda a: a.view(Subclass),
    "masked": np.ma.masked_array,
    "float64": lambda a: a.astype("f8"),
    "int32": lambda a: a.astype("i4"),
    "too long": lambda a: np.concatenate([a, a], axis=-1),
    "too short": lambda a: a[..., :-1],
    "without an axis": lambda a: a[0],
    "with an axis more": lambda a: a[None],
    "a list": lambda a: a.tolist(),
    "a number": lambda a: 7,
    "a string": lambda a: "abc",
    "a buffer": lambda a: memoryview(a.tobytes()),
    "a type": lambda a: np.ndarray,
}


def assert_declines(direct: Any, operands: list[Any], want: Array, which: int, held: Any) -> None:
    """Raise unless it serves these operands, and leaves `out` alone where one is held like that."""
    out = np.full(want.shape, 7, "f4")
    arrays = [*operands, out]
    assert direct(*arrays) is out
    assert_same_bits(out, want, "as they are")
    out[...] = 7
    arrays[which] = held(arrays[which])
    assert direct(*arrays) is None
    assert (out == 7).all()


@pytest.mark.parametrize("held", DECLINED.values(), ids=DECLINED)
@pytest.mark.parametrize("which", range(4))
def test_declines_and_has_done_nothing(which: int, held: Any) -> None:
    assert_declines(direct_for(CASE), [X, W, BIAS], WANT, which, held)


def test_declines_outputs_that_need_care() -> None:
    direct = direct_for(CASE)
    for out in (read_only(WANT), np.empty((2, 4, 4, 4), "f4")[:, :, :, ::-1][:1],
                np.broadcast_to(np.float32(1), WANT.shape)):  # fmt: skip
        assert direct(X, W, BIAS, out) is None


@pytest.mark.parametrize("operand", ["x", "w", "bias"])
def test_declines_overlap(operand: str) -> None:
    """By one element at either end, through views of any direction; neighbours do not overlap."""
    case = Case((1, 1, 4, 4), (16, 1, 1, 1), bias=True)
    direct = direct_for(case)
    sizes = {"x": (1, 1, 4, 4), "w": (16, 1, 1, 1), "bias": (16,)}
    for shift, overlaps in ((0, False), (1, True), (16 + 256 - 1, True), (16 + 256, False)):
        for step in (1, -1) if operand != "bias" else (1,):
            memory = np.zeros(16 + 256 + 16, "f4")
            arrays = {name: np.ones(shape, "f4") for name, shape in sizes.items()}
            arrays[operand] = memory[shift : shift + 16][::step].reshape(sizes[operand])
            out = memory[16 : 16 + 256][::step].reshape(1, 16, 4, 4)
            assert np.may_share_memory(out, arrays[operand]) == overlaps
            taken = direct(arrays["x"], arrays["w"], arrays["bias"], out) is not None
            assert taken != overlaps, f"{operand} at {shift}, step {step}"


def test_counts_its_arguments() -> None:
    direct = direct_for(CASE)
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, backend="native")
    for function, right in ((direct, 4), (plan._direct, 2)):
        for count in (0, 1, 2, 3, 4, 5):
            if count != right:
                with pytest.raises(TypeError, match=f"takes {right} arguments, got {count}"):
                    function(*[X] * count)


def test_a_plan_declines_other_arrays() -> None:
    present("native")
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, backend="native")
    assert plan._direct is not None
    assert_same_bits(plan._direct(X, None), WANT, "as it is")
    for name, held in DECLINED.items():
        assert plan._direct(held(X), None) is None, name
        assert plan._direct(X, held(WANT.copy())) is None, name
    assert plan._direct(X[:0], None) is None
    assert plan._direct(X[:1], WANT.copy()) is None
    huge = np.broadcast_to(np.float32(1), (2**40, 1, 8, 8))
    little = fastconv.plan_conv2d(W[:, :1], (1, 1, 8, 8), pad=2**10, backend="native")
    assert little._direct is not None
    assert little._direct(huge, None) is None


ARRAYS = {
    "plain": lambda a: a,
    "reversed": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "spaced": spaced,
    "fortran": np.asfortranarray,
    "read-only": read_only,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 3, 9, 7), (4, 3, 3, 2), stride=(2, 1), pad=((0, 1), (2, 1)), bias=True),
        Case((2, 3, 9, 7), (4, 3, 3, 2), bias=True).channels_last(),
        Case((3, 9, 7), (4, 3, 3, 2), pad_mode="reflect", pad=1),
        Case((3, 9, 7), (4, 3, 3, 2), dilation=(2, 3)).channels_last(),
        Case((9, 7), (3, 2), pad="full"),
        Case((9, 7), (3, 2), layout="NHWC", activation="relu"),
        Case((1, 6, 5, 5), (6, 1, 1, 2), groups=6),
    ],
    ids=str,
)
def test_takes_arrays_as_they_are(case: Case, flip: bool, dtype: str) -> None:
    case = case.with_(flip=flip, dtype=dtype)
    direct = direct_for(case)
    x, w, bias = draw(case, "normal")
    want = fastconv.conv2d(
        x.tolist(), w, bias=bias, backend="native", dtype=dtype, **case.arguments
    )
    for name, held in ARRAYS.items():
        for given in ((held(x), w), (x, held(w))):
            got = direct(*given, bias, None)
            assert_same_bits(got, want, name)
            assert got.flags.c_contiguous
            assert got.flags.owndata
            assert got.flags.writeable
            assert type(got) is np.ndarray
    for make in (np.zeros, lambda *a: np.zeros(*a, order="F")):
        out = make(want.shape, dtype)
        assert direct(x, w, bias, out) is out
        assert_same_bits(out, want, "out")
        backwards = np.flip(make(want.shape, dtype))
        assert direct(x, w, bias, backwards) is backwards
        assert_same_bits(np.ascontiguousarray(backwards), want, "out, backwards")


def test_nothing_to_compute_has_no_short_way() -> None:
    assert direct_for(Case((0, 3, 7, 8), (4, 3, 3, 2))) is None
    assert direct_for(Case((1, 3, 7, 8), (0, 3, 3, 2))) is None
    for x, w in ((X[:0], W), (X, W[:0])):
        for _ in range(2):
            assert fastconv.conv2d(x, w).size == 0


# -- remembered calls ------------------------------------------------------------------------------


def test_equal_calls_are_remembered_once(backend: str) -> None:
    for _ in range(3):
        y = fastconv.conv2d(X, W, 2, 1, bias=BIAS, backend=backend)
        assert_same_bits(y, WANT, "again")
    assert len(calls._remembered) == 1
    out = np.empty_like(WANT)
    assert fastconv.conv2d(X, W, 2, 1, bias=BIAS, backend=backend, out=out) is out
    assert_same_bits(out, WANT, "with out")
    assert len(calls._remembered) == 1


def test_values_are_not_remembered(backend: str) -> None:
    x, w, bias = X.copy(), W.copy(), BIAS.copy()
    first = fastconv.conv2d(x, w, 2, 1, bias=bias, backend=backend)
    kept = first.copy()
    for array in (x, w, bias):
        array *= 2
        again = fastconv.conv2d(x, w, 2, 1, bias=bias, backend=backend)
        assert not np.array_equal(again, kept)
        kept = again
    assert_same_bits(first, WANT, "an earlier result")


CHANGES: list[dict[str, Any]] = [
    {"stride": 2}, {"stride": (2, 1)}, {"pad": 1}, {"pad": "same"}, {"pad": ((1, 0), (0, 2))},
    {"dilation": 2}, {"activation": "relu"}, {"pad_mode": "edge", "pad": 1}, {"flip": True},
    {"layout": "NHWC"}, {"dtype": "f8"}, {"dtype": np.float16}, {"bias": BIAS[:3]},
    {"bias": BIAS[:3].astype("f8")}, {"threads": 1}, {"precision": "fast"}, {"groups": 3},
]  # fmt: skip


def test_whatever_matters_is_part_of_the_key(backend: str) -> None:
    """Each argument changed alone, in both orders, against calls that remember nothing."""
    x = generator("square").integers(-9, 9, (1, 3, 3, 3)).astype("f4")
    w = generator("square w").integers(-9, 9, (3, 3, 2, 2)).astype("f4")

    def call(change: dict[str, Any]) -> Any:
        kernel = w[:, :1] if "groups" in change else w
        return fastconv.conv2d(x, kernel, backend=backend, **change)

    wanted = []
    for change in [{}, *CHANGES]:
        calls.forget()
        wanted.append(call(change))
    for _ in range(2):
        for change, want in zip([{}, *CHANGES], wanted, strict=True):
            got = call(change)
            assert got.dtype == want.dtype, change
            assert_same_bits(got, want, str(change))


def test_equal_keys_of_another_type_are_refused(backend: str) -> None:
    fastconv.conv2d(X, W, 1, 1, dilation=1, groups=1, threads=1, backend=backend)
    fastconv.conv2d(X, W, (1, 1), ((1, 1), (1, 1)), backend=backend)
    for change in (
        {"stride": 1.0}, {"stride": (1, 1.0)}, {"pad": 1.0}, {"pad": ((1, 1), (1, 1.0))},
        {"dilation": 1.0}, {"groups": 1.0}, {"threads": 1.0}, {"threads": 1 + 0j},
    ):  # fmt: skip
        for _ in range(2):
            with pytest.raises(TypeError):
                fastconv.conv2d(X, W, **{"stride": 1, "pad": 1, **change}, backend=backend)


def test_arguments_that_cannot_be_hashed(backend: str) -> None:
    for change, error in (({"activation": ["relu"]}, TypeError), ({"layout": {}}, TypeError),
                          ({"dtype": []}, TypeError)):  # fmt: skip
        with pytest.raises(error):
            fastconv.conv2d(X, W, **change, backend=backend)
    y = fastconv.conv2d(X, W, [2, 2], np.array([1, 1]), bias=BIAS, backend=backend)
    assert_same_bits(y, WANT, "lists and arrays")


def test_errors_stay_the_same_on_the_second_call(backend: str) -> None:
    good = fastconv.conv2d(X, W, backend=backend)
    for change in (
        {"out": np.empty((1, 1), "f4")}, {"out": np.empty(good.shape)}, {"out": read_only(good)},
        {"out": np.ma.zeros(good.shape, "f4")}, {"out": good.tolist()}, {"bias": BIAS[:3]},
        {"bias": BIAS.astype("c8")}, {"pad": -1}, {"activation": "loud"}, {"threads": 0},
        {"pad": 2**40},
    ):  # fmt: skip
        said = []
        for _ in range(3):
            with pytest.raises((TypeError, ValueError, MemoryError)) as caught:
                fastconv.conv2d(X, W, **change, backend=backend)
            said.append((caught.type, str(caught.value)))
        assert said[0] == said[1] == said[2]


def test_options_around_the_call(backend: str) -> None:
    """The same call in other blocks has other options; equal blocks share what is remembered."""
    other = "native" if backend == "reference" else "reference"
    present(other)
    x, w = X / np.float32(7), W / np.float32(3)
    wanted = {b: fastconv.conv2d(x, w, backend=b) for b in (backend, other)}
    calls.forget()
    for _ in range(3):
        for name, want in wanted.items():
            with fastconv.options(backend=name):
                assert_same_bits(fastconv.conv2d(x, w), want, name)
    assert len(calls._remembered) == 2


# -- operators -------------------------------------------------------------------------------------


def test_operators_are_remembered_too(backend: str) -> None:
    """One entry for a call however often it is made, whichever way arrays are passed."""
    x, w = np.ones((1, 2, 9), "f4"), np.ones((4, 2, 3), "f4")
    want = fastconv.conv1d(x, w, pad=1, backend=backend)
    assert len(calls._remembered) == 1
    for factor in (2, 3):
        got = fastconv.conv1d(x * np.float32(factor), w, pad=1, backend=backend)
        assert_same_bits(got, want * np.float32(factor), "other values")
    out = np.full_like(want, np.nan)
    for _ in range(2):
        assert fastconv.conv1d(w=w, out=out, pad=1, x=x, backend=backend) is out
        assert_same_bits(out, want, "by name")
        out[...] = np.nan
    assert len(calls._remembered) == 2


def test_arrays_of_numbers_are_not_taken_for_operands(backend: str) -> None:
    """Strides and pads may be arrays, whose values decide; 1.0 is no 1."""
    x, w = np.ones((1, 1, 9, 9), "f4"), np.ones((1, 1, 2, 2), "f4")
    for pad in (1, 2):
        for _ in range(2):
            given: Any = {"pad": np.array([pad, pad]), "backend": backend}
            assert fastconv.depthwise_conv2d(x, w, **given).shape[2:] == (8 + 2 * pad,) * 2
    fastconv.depthwise_conv2d(x, w, 1, 1, backend=backend)
    with pytest.raises(TypeError):
        fastconv.depthwise_conv2d(x, w, 1.0, 1, backend=backend)  # type: ignore[arg-type]


def test_one_array_in_two_places(backend: str) -> None:
    w = np.arange(9, dtype="f4").reshape(1, 1, 3, 3)
    other = w[..., ::-1].copy()
    for _ in range(2):
        assert fastconv.depthwise_conv2d(w, w, backend=backend).item() == 204
        assert fastconv.depthwise_conv2d(w, other, backend=backend).item() == 192


def _weight_grad_direct(shape: tuple[int, ...] = (2, 3, 7, 6), flip: bool = False) -> Any:
    present("native")
    problem = fastconv.ConvProblem.describe(shape, (4, 3, 3, 2), pad=1, result="w")
    return native.direct(problem, resolve(None, None, None), flip, "float32")


@pytest.mark.parametrize("held", DECLINED.values(), ids=DECLINED)
@pytest.mark.parametrize("which", [0, 1, 3])
def test_the_gradient_of_w_declines_and_has_done_nothing(which: int, held: Any) -> None:
    direct = _weight_grad_direct()
    x = generator("x").integers(-9, 9, (2, 3, 7, 6)).astype("f4")
    gy = generator("gy").integers(-9, 9, (2, 4, 7, 7)).astype("f4")
    want = fastconv.conv2d_weight_grad(x, (4, 3, 3, 2), gy, pad=1, backend="reference")
    assert_declines(direct, [x, gy, None], want, which, held)
    assert direct(x, gy, gy, None) is None
    memory = np.zeros(x.size + 71, "f4")
    overlapping = memory[: x.size].reshape(x.shape)
    assert direct(overlapping, gy, None, memory[-72:].reshape(want.shape)) is None
    assert direct(overlapping, gy, None, read_only(want)) is None


def test_what_is_remembered_is_bounded() -> None:
    x = np.ones((1, 1, 4, 4), "f4")
    for i in range(2 * calls.MOST_REMEMBERED + 10):
        fastconv.conv2d(x, x, 1, (i, i))
        assert len(calls._remembered) <= calls.MOST_REMEMBERED


def test_arrays_are_not_kept(backend: str) -> None:
    x, w, bias = X.copy(), W.copy(), BIAS.copy()
    out = np.empty_like(WANT)
    before = [sys.getrefcount(a) for a in (x, w, bias, out)]
    for _ in range(3):
        fastconv.conv2d(x, w, 2, 1, bias=bias, backend=backend)
        fastconv.conv2d(x, w, 2, 1, bias=bias, backend=backend, out=out)
    assert [sys.getrefcount(a) for a in (x, w, bias, out)] == before


LEAK = """
import sys
import numpy as np
import fastconv
from fastconv import calls
from fastconv.backends import native
from fastconv.options import resolve
from support.memory import resident

x, w = np.ones((1, 1, 40, 40), "f4"), np.ones((1, 1, 3, 3), "f4")
problem = fastconv.ConvProblem.describe(x.shape, w.shape)

def rounds(count):
    for i in range(count):
        direct = native.direct(problem, resolve(None, None, None), False, "float32")
        direct(x, w, None, None)
        direct(x, w, w, None)
        direct(x, w, None, x)

rounds(1000)
before = resident()
rounds(20000)
assert resident() - before < 1 << 20, resident() - before
print("nothing left behind")
"""


@linux
def test_nothing_leaks() -> None:
    present("native")
    assert processes.run(LEAK).strip() == "nothing left behind"
