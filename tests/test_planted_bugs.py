"""The tests, tested: each planted bug must turn red the functions that the suites judge with.

A bug is a backend's ``run`` gone wrong, put in the place of the reference's; the judges reach it
through `fastconv.conv2d` as they reach every backend.
"""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import control_word, guard, judge, processes, ratios
from support.cases import FAMILIES, Arrays, Case, draw, logical_image

from fastconv import accuracy as contract
from fastconv import calls, dispatch
from fastconv.activations import ACTIVATIONS
from fastconv.backends import reference
from fastconv.problem import ConvProblem

Array = np.ndarray[Any, Any]
Run = Callable[..., None]

# -- the judges, each on the smallest suite that means something -----------------------------------

PLAIN = Case((3, 5, 9, 11), (7, 5, 3, 3), stride=(2, 1), pad=1, bias=True)
GROUPED = Case((2, 6, 7, 8), (4, 3, 3, 3), groups=2, pad=2, dilation=2, activation="relu")
BORDERED = Case((1, 2, 5, 6), (2, 2, 3, 3), pad=2, pad_mode="reflect")
LONG = Case((3, 300, 4, 5), (2, 300, 1, 1))
SUITE = [PLAIN, GROUPED, BORDERED, LONG]


def accuracy() -> None:
    for case, family in itertools.product(SUITE, FAMILIES):
        judge.judge(judge.on("reference"), case, family)
        judge.judge(judge.on("reference"), case.with_(dtype="float64"), family)


def float16() -> None:
    for case, family in itertools.product(SUITE, ("integers", "normal", "positive", "subnormal")):
        judge.judge(judge.on("reference"), case.with_(dtype="float16"), family)


def integers() -> None:
    for case, dtype in itertools.product(SUITE, ("int8", "uint16", "int64")):
        judge.judge(judge.on("reference"), case.with_(dtype=dtype), "integers")


def special_values() -> None:
    case = PLAIN.with_(activation=None)
    for value, index in itertools.product((np.nan, np.inf, -np.inf), (0, 60, -1)):
        for held in (0, 1):
            arrays = draw(case, "normal")
            arrays[held].flat[index] = value
            judge.judge_special_values(judge.on("reference"), case, arrays)


def determinism() -> None:
    for case in SUITE:
        judge.judge_determinism(judge.on("reference"), case, draw(case, "spread"))


JUDGES = {f.__name__: f for f in (accuracy, float16, integers, special_values, determinism)}

# -- the bugs --------------------------------------------------------------------------------------

BUGS: list[Any] = []


def bug(*caught_by: str, text: str = "") -> Callable[[Run], Run]:
    """Register a bug with the judges that must notice it, and what one of them says."""

    def register(run: Run) -> Run:
        BUGS.append(pytest.param(run, caught_by, text, id=run.__name__.replace("_", " ")))
        return run

    return register


def correct(problem: ConvProblem, x: Array, w: Array, bias: Array | None) -> Array:
    """Compute what the bugs start from."""
    y = np.empty((problem.n, problem.k, problem.p, problem.q), problem.out_dtype)
    reference.run(problem, None, x, w, bias, y)  # type: ignore[arg-type]
    return y


def summed(problem: ConvProblem, x: Array, w: Array, chunks: int) -> Array:
    """Sum `chunks` parts of the channels apart, each and all in the accumulator's precision."""
    edges = np.linspace(0, problem.c, chunks + 1).astype(int)
    total = np.zeros((problem.n, problem.k, problem.p, problem.q), problem.accumulator)
    for begin, end in itertools.pairwise(edges):
        part = dataclasses.replace(problem, c=int(end - begin), bias=False, activation=None)
        if end > begin:
            wide = reference.accumulate(part, x[:, begin:end], w[:, begin:end], np.dtype("f8"))
            total += wide.astype(problem.accumulator)
    return total


@bug("accuracy", "integers", "float16")
def drops_a_tap(problem, options, x, w, bias, out) -> None:
    w = w.copy()
    w[:, :, -1, -1] = 0
    out[...] = correct(problem, x, w, bias)


@bug("accuracy", "integers", text="times the bound")
def skips_the_tail_column(problem, options, x, w, bias, out) -> None:
    whole = problem.q // 4 * 4
    out[..., :whole] = correct(problem, x, w, bias)[..., :whole]


@bug("accuracy", "float16", text="inf times the bound")
def leaves_one_output_unwritten(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    y[-1, -1, -1, 0] = out[-1, -1, -1, 0]
    out[...] = y


@bug("float16")
def accumulates_in_float16(problem, options, x, w, bias, out) -> None:
    total = np.zeros(out.shape, problem.out_dtype)
    for c in range(problem.c // problem.groups):
        part = dataclasses.replace(problem, c=problem.groups, bias=False, activation=None)
        channel = x[:, c :: problem.c // problem.groups]
        total += correct(part, channel, w[:, c : c + 1], None)
    if bias is not None:
        total += bias[:, None, None]
    if problem.activation:
        total = ACTIVATIONS[problem.activation].function(total)
    out[...] = total


@bug("accuracy")
def computes_float64_in_float32(problem, options, x, w, bias, out) -> None:
    single = dataclasses.replace(problem, dtype="float32", out_dtype="float32")
    narrow = [None if a is None else a.astype("f4") for a in (x, w, bias)]
    out[...] = correct(single, *narrow)


@bug("determinism", text="threads")
def splits_the_reduction_between_threads(problem, options, x, w, bias, out) -> None:
    if problem.groups == 1 and problem.activation is None:
        y = summed(problem, x, w, options.threads)
        out[...] = y if bias is None else y + bias[:, None, None]
    else:
        out[...] = correct(problem, x, w, bias)


@bug("determinism", text="image 0 alone")
def sums_a_batch_in_another_order(problem, options, x, w, bias, out) -> None:
    if problem.groups == 1 and problem.activation is None:
        y = summed(problem, x, w, 1 if problem.n == 1 else 3)
        out[...] = y if bias is None else y + bias[:, None, None]
    else:
        out[...] = correct(problem, x, w, bias)


@bug("determinism", text="offset by")
def sums_unaligned_data_in_another_order(problem, options, x, w, bias, out) -> None:
    if problem.groups == 1 and problem.activation is None:
        y = summed(problem, x, w, 1 + x.ctypes.data % 16 // 4)
        out[...] = y if bias is None else y + bias[:, None, None]
    else:
        out[...] = correct(problem, x, w, bias)


_calls = itertools.count()


@bug("determinism", text="elements differ")
def has_a_race(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if next(_calls) % 3 == 1:
        y[0, 0, 0, 0] = np.nextafter(y[0, 0, 0, 0], y.dtype.type(np.inf))
    out[...] = y


@bug("determinism", text="shuffled batch")
def uses_the_first_image_s_border(problem, options, x, w, bias, out) -> None:
    out[...] = correct(problem, x, w, bias)
    if problem.n > 1:
        out[-1, :, 0] = np.nextafter(out[-1, :, 0], out.dtype.type(0))


@bug("accuracy", "integers")
def swaps_vertical_and_horizontal_stride(problem, options, x, w, bias, out) -> None:
    swapped = dataclasses.replace(problem, stride=problem.stride[::-1])
    y = correct(swapped, x, w, bias)
    out[...] = 0
    rows, columns = min(out.shape[2], y.shape[2]), min(out.shape[3], y.shape[3])
    out[:, :, :rows, :columns] = y[:, :, :rows, :columns]


@bug("accuracy", "integers")
def forgets_the_bias_of_the_last_channel(problem, options, x, w, bias, out) -> None:
    if bias is not None:
        bias = bias.copy()
        bias[-1] = 0
    out[...] = correct(problem, x, w, bias)


@bug("accuracy", "integers")
def ignores_dilation(problem, options, x, w, bias, out) -> None:
    y = correct(dataclasses.replace(problem, dilation=(1, 1)), x, w, bias)
    out[...] = y[:, :, : out.shape[2], : out.shape[3]]


@bug("accuracy", "integers")
def gives_every_group_the_first_group_s_channels(problem, options, x, w, bias, out) -> None:
    size = problem.c // problem.groups
    out[...] = correct(problem, np.tile(x[:, :size], (1, problem.groups, 1, 1)), w, bias)


@bug("accuracy", "integers")
def takes_reflect_for_symmetric(problem, options, x, w, bias, out) -> None:
    mode = "symmetric" if problem.pad_mode == "reflect" else problem.pad_mode
    out[...] = correct(dataclasses.replace(problem, pad_mode=mode), x, w, bias)


@bug("accuracy")
def activates_before_the_bias(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, None)
    out[...] = y if bias is None else y + bias[:, None, None] * np.float32(1 + 1e-5)


@bug("accuracy", "special_values")
def clears_subnormals_and_what_comes_near(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if y.dtype.kind == "f":
        y[np.abs(y) < np.finfo(y.dtype).tiny] = 0
        y[~np.isfinite(y)] = 0
    out[...] = y


@bug("accuracy", text="subnormal")
def flushes_subnormal_results(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if y.dtype == np.float32:
        y[np.abs(y) < np.finfo(y.dtype).tiny] = 0
    out[...] = y


@bug("accuracy")
def treats_subnormal_pixels_as_zeros(problem, options, x, w, bias, out) -> None:
    if x.dtype.kind == "f":
        x = np.where(np.abs(x) < np.finfo(x.dtype).tiny, 0, x)
    out[...] = correct(problem, x, w, bias)


@bug("special_values", text="NaN misplaced")
def skips_the_zero_border(problem, options, x, w, bias, out) -> None:
    """0 * inf is never summed: right for finite weights alone."""
    finite = np.where(np.isfinite(w), w, 0)
    lost = reference.accumulate(problem, np.ones_like(x), (w != finite) * 1.0, np.dtype("f8"))
    y = correct(problem, x, finite, bias)
    out[...] = np.where(lost > 0, np.inf, y)


@bug("special_values", text="misplaced")
def spoils_the_whole_tile_with_one_nan(problem, options, x, w, bias, out) -> None:
    y = correct(problem, x, w, bias)
    if y.dtype.kind == "f":
        y[:, :, :4, :4] += 0 * y[:, :, :4, :4].sum(dtype=y.dtype)
    out[...] = y


@bug("integers")
def saturates_instead_of_wrapping(problem, options, x, w, bias, out) -> None:
    if out.dtype.kind == "f":
        out[...] = correct(problem, x, w, bias)
        return
    wide = reference.accumulate(problem, x, w, np.dtype(np.longdouble))
    info = np.iinfo(out.dtype)
    out[...] = np.clip(wide, info.min // 2, info.max // 2).astype(out.dtype)


@bug("accuracy", text="wrote outside of out")
def writes_one_element_past_the_end(problem, options, x, w, bias, out) -> None:
    out[...] = correct(problem, x, w, bias)
    if out.flags.c_contiguous:
        ctypes.memset(out.ctypes.data + out.nbytes, 0, out.itemsize)


@bug("accuracy", text="an input was written to")
def works_in_place_on_its_input(problem, options, x, w, bias, out) -> None:
    out[...] = correct(problem, x, w, bias)
    x[...] = 0


# -- the tests of the tests ------------------------------------------------------------------------


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Run], None]]:
    """Put a `run` in the place of the reference's, for calls of conv2d alone."""

    def put(run: Run) -> None:
        real = dispatch.load("reference")
        planted = SimpleNamespace(
            available=real.available, supports=real.supports, algorithm=real.algorithm, run=run
        )
        load = dispatch.load
        monkeypatch.setattr(dispatch, "load", lambda n: planted if n == "reference" else load(n))

    yield put
    calls.forget()


@pytest.mark.parametrize("name", JUDGES)
def test_judges_are_green_without_a_bug(plant: Callable[[Run], None], name: str) -> None:
    plant(reference.run)
    JUDGES[name]()


@pytest.mark.parametrize(("run", "caught_by", "text"), BUGS)
def test_judges_turn_red(
    plant: Callable[[Run], None], run: Run, caught_by: tuple[str, ...], text: str
) -> None:
    plant(run)
    said = []
    for name in caught_by:
        with pytest.raises(AssertionError) as caught:
            JUDGES[name]()
        said.append(str(caught.value))
    assert any(text in line for line in said), said


OVERREAD = """
import ctypes
from fastconv.backends import reference
honest = reference.run

def overread(problem, options, x, w, bias, out):
    honest(problem, options, x, w, bias, out)
    for array in (x, w, out) + (() if bias is None else (bias,)):
        if array.flags.c_contiguous and {which}:
            ctypes.string_at(array.ctypes.data + {offset}, 1)

reference.run = overread
from support.guard import walk
from support.judge import on
print(walk(on("reference"), range(3, 5), ["float32"]))
"""


@pytest.mark.parametrize("which", ["array is x", "array is w", "array is out", "array is bias"])
@pytest.mark.parametrize("offset", ["array.nbytes", "-1"], ids=["after", "before"])
def test_guard_pages_catch_one_byte(which: str, offset: str) -> None:
    """One byte beyond any array, at either end, ends the process with a signal."""
    done = processes.start(OVERREAD.format(which=which, offset=offset))
    assert done.returncode < 0, f"{processes.describe(done.returncode)}: {done.stderr}"


def test_guard_pages_let_honest_code_pass() -> None:
    printed = processes.run(OVERREAD.format(which="False", offset="0"))
    assert int(printed) == 2 * 8 * 2
    fence = guard.Fence(1)
    for side, array in itertools.product(("before", "after"), (np.arange(7.0), np.eye(3)[:, ::-1])):
        assert np.array_equal(fence.hold(array, side), array)


MISRULE = """
import ctypes
from fastconv.backends import reference
honest = reference.run

def careless(problem, options, x, w, bias, out):
    honest(problem, options, x, w, bias, out)
    {harm}

reference.run = careless
"""

HARM = {
    "rounding": "ctypes.CDLL(None).fesetround(0x400)",
    "flush": (
        "e = ctypes.create_string_buffer(32); libm = ctypes.CDLL(None); libm.fegetenv(e); "
        "e[29] = bytes([e.raw[29] | 0x80]); libm.fesetenv(e)"
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_changed_control_word_is_noticed(harm: str) -> None:
    """Rounding and flush-to-zero left behind by a call (where this is how they are set)."""
    probe = (
        "import ctypes, platform, sys; "
        "print(sys.platform == 'linux' and platform.machine() == 'x86_64')"
    )
    if processes.run(probe).strip() != "True":
        pytest.skip("the control word is planted for Linux on x86-64")
    done = processes.start(MISRULE.format(harm=HARM[harm]) + control_word.SCRIPT, "reference")
    assert done.returncode == 1
    assert "AssertionError" in done.stderr


def test_growing_errors_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed table: 25 % and the floor pass, more does not, nor does a broken promise."""
    table = ratios.Table()
    monkeypatch.setattr(ratios.backends, "isa", lambda: "here")
    table.committed = {"here": {"some/row": {"bound": 0.4, "gate": 0.2}}}
    table.record("some/row", {"bound": 0.5, "gate": 0.26})
    with pytest.raises(AssertionError, match="gate"):
        table.record("some/row", {"bound": 0.5, "gate": 0.28})
    with pytest.raises(AssertionError, match="bound"):
        table.record("some/row", {"bound": 0.53, "gate": 0.1})
    table.record("new/row", {"bound": 0.99})
    with pytest.raises(AssertionError, match="bound"):
        table.record("new/row", {"bound": 1.01})
    assert any("none" in line for line in table.report())


def test_data_are_what_they_say() -> None:
    """Families: enough non-zero values, the same in every run, and as extreme as promised."""
    for case, (name, family) in itertools.product(SUITE, FAMILIES.items()):
        arrays = draw(case, name)
        again = draw(case, name)
        assert all(a is None or np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))
        assert all(np.count_nonzero(a) >= 0.3 * a.size for a in arrays[:2])
        assert family.__doc__
    assert np.abs(draw(PLAIN, "outlier").x).max() == np.float32(1e8)
    tiny = np.finfo("f4").tiny
    assert 0 < np.abs(draw(PLAIN, "subnormal").x).max() < tiny
    exponents = np.log2(np.abs(draw(LONG, "spread").x))
    assert exponents.min() < -15
    assert exponents.max() > 15
    x, w, _ = draw(LONG, "cancellation")
    y = reference.accumulate(LONG.problem, logical_image(x, "NCHW"), w, np.dtype("f8"))
    s = reference.accumulate(LONG.problem, np.abs(x), np.abs(w), np.dtype("f8"))
    assert np.median(np.abs(y) / s) < 0.01


def test_margins_and_prefill_are_in_place() -> None:
    """`compute` hands over an out of NaN that is not the start of its memory."""
    seen = []

    def look(x: Array, w: Array, out: Array, **_: Any) -> Array:
        seen.append((np.isnan(out).all(), out.base is not None))
        out[...] = 0
        return out

    judge.compute(look, LONG, Arrays(*draw(LONG, "normal")))
    assert seen == [(True, True)]


@pytest.mark.parametrize(
    ("value", "got", "ok"),
    [
        (3e38, np.inf, True),  # the sum 2 * 3e38 is beyond float32: only infinity is right
        (3e38, -np.inf, False),
        (3e38, np.nan, False),
        (3e38, 1.0, False),
        (1.7e38, 3.4e38, True),
        (1.7e38, np.nan, False),
        (1.7e38, 3.3e38, False),
    ],
)
def test_overflow_is_judged(value: float, got: float, ok: bool) -> None:
    x = np.full((1, 1, 1, 2), value, "float32")
    w = np.ones((1, 1, 1, 2), "float32")
    problem = ConvProblem.describe(x.shape, w.shape)
    result = np.full((1, 1, 1, 1), got, "float32")
    assert contract.check(problem, x, w, None, result).ok is ok
