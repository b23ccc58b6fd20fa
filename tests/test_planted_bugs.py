"""The tests, tested: each planted bug must turn red the functions that the suites judge with.

A bug is a backend's ``run`` gone wrong, put in the place of the reference's; the judges reach it
through `fastconv.conv2d` as they reach every backend.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import control_word, guard, judge, processes, ratios
from support.bugs import BUGS, Array, Run
from support.cases import FAMILIES, Arrays, Case, draw, logical_image

from fastconv import accuracy as contract
from fastconv import calls, dispatch
from fastconv.backends import reference
from fastconv.problem import ConvProblem

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
