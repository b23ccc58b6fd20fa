"""The choice: one ordered table, every rejection with its reason, forced means forced."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support import processes

import fastconv
from fastconv import calls, dispatch
from fastconv.options import BACKENDS, resolve

X, W = np.ones((1, 2, 5, 5), "f4"), np.ones((3, 2, 3, 3), "f4")
PROBLEM = fastconv.ConvProblem.describe(X.shape, W.shape)
OPTIONS = resolve(None, None, None)

Missing = Callable[..., None]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Missing]:
    """Make backends unavailable, and forget every choice before and after."""

    def hide(**reasons: str) -> None:
        real = dispatch.availability.__wrapped__
        monkeypatch.setattr(dispatch, "availability", lambda n: reasons.get(n) or real(n))
        monkeypatch.setattr(dispatch, "_warned", False)
        calls.forget()

    yield hide
    calls.forget()


def test_the_table_is_ordered_specific_to_general() -> None:
    assert [e.name for e in dispatch.TABLE] == ["cuda", "native", "numba", "reference"]
    assert tuple(e.name for e in dispatch.TABLE) == BACKENDS
    assert [e.arrays for e in dispatch.TABLE] == ["cupy", "numpy", "numpy", "numpy"]
    assert dispatch.availability("reference") is None
    assert all(e.what for e in dispatch.TABLE)


def test_the_first_that_can_is_chosen(missing: Missing) -> None:
    missing()
    choice = dispatch.select(PROBLEM, OPTIONS)
    able = [n for n in ("native", "numba", "reference") if dispatch.availability(n) is None]
    assert choice.backend == able[0]
    above = ["cuda", "native", "numba", "reference"]
    assert [name for name, _ in choice.rejected] == above[: above.index(choice.backend)]


def test_every_rejection_keeps_its_reason(missing: Missing) -> None:
    missing(native="no compiler", numba="no Numba")
    with pytest.warns(RuntimeWarning, match="no compiler"):
        choice = dispatch.select(PROBLEM, OPTIONS)
    assert choice.backend == "reference"
    assert dict(choice.rejected)["native"] == "no compiler"
    assert dict(choice.rejected)["numba"] == "no Numba"
    assert "CuPy arrays" in dict(choice.rejected)["cuda"]
    report = fastconv.explain(X, W)
    for line in ("rejected   native: no compiler", "rejected   numba: no Numba"):
        assert line in str(report)


def test_a_missing_native_backend_is_said_once(missing: Missing) -> None:
    missing(native="no compiler")
    with pytest.warns(RuntimeWarning, match="without its native backend: no compiler") as caught:
        fastconv.conv2d(X, W)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at the caller's line"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastconv.conv2d(X, W)
        fastconv.conv2d(X, W, 2)  # another problem, another choice


def test_a_named_backend_is_never_warned_about(missing: Missing) -> None:
    missing(native="no compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastconv.conv2d(X, W, backend="reference")


def test_a_refused_dtype_is_no_missing_backend(missing: Missing) -> None:
    """Native that merely does not compute integers is nothing to warn about."""
    missing()
    if dispatch.availability("native") is not None:
        missing(native="no compiler")
        pytest.skip("there is no native backend to refuse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastconv.conv2d(X.astype("i8"), W.astype("i8"))


@pytest.mark.parametrize("name", ["cuda", "native", "numba"])
def test_a_forced_backend_that_is_missing_raises(missing: Missing, name: str) -> None:
    missing(**{name: "it is not here"})
    with pytest.raises(fastconv.BackendUnavailable, match=f"{name}.*(not here|NumPy)") as caught:
        fastconv.conv2d(X, W, backend=name)
    assert isinstance(caught.value, ImportError)
    with pytest.raises(fastconv.BackendUnavailable), fastconv.options(backend=name):
        fastconv.conv2d(X, W)
    with pytest.raises(fastconv.BackendUnavailable):
        fastconv.explain(X, W, backend=name)


def test_a_forced_backend_that_refuses_raises(
    missing: Missing, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing()
    reference = dispatch.load("reference")
    monkeypatch.setattr(reference, "supports", lambda *_: "not on Mondays")
    with pytest.raises(fastconv.BackendUnsupported, match="not on Mondays") as caught:
        fastconv.conv2d(X, W, backend="reference")
    assert isinstance(caught.value, NotImplementedError)
    assert "N=1, C=2, H=5, W=5" in str(caught.value)


def test_no_backend_at_all(missing: Missing, monkeypatch: pytest.MonkeyPatch) -> None:
    missing(native="gone", numba="gone too")
    monkeypatch.setattr(dispatch.load("reference"), "supports", lambda *_: "nor this")
    with pytest.raises(fastconv.BackendUnsupported, match=r"gone; .*gone too; .*nor this"):
        fastconv.conv2d(X, W)


def test_cupy_arrays_without_cuda(missing: Missing) -> None:
    missing(cuda="no driver")
    with pytest.raises(fastconv.BackendUnavailable, match=r"CuPy.*no driver"):
        dispatch.select(PROBLEM, OPTIONS, "cupy")


def test_the_choice_is_a_pure_function(missing: Missing) -> None:
    missing()
    one = dispatch.select(PROBLEM, OPTIONS)
    calls.forget()
    assert dispatch.select(PROBLEM, OPTIONS) == one


def test_algorithms_do_not_depend_on_batch_or_threads(backend: str) -> None:
    """The ladder is a function of the problem; otherwise bits would change with either."""
    for x, w, groups in (
        ((1, 16, 9, 9), (8, 16, 3, 3), 1), ((1, 16, 9, 9), (16, 1, 3, 3), 16),
        ((1, 3, 40, 40), (4, 3, 1, 1), 1), ((1, 1, 64, 64), (1, 1, 5, 5), 1),
    ):  # fmt: skip
        names = {
            fastconv.explain((n, *x[1:]), w, groups=groups, backend=backend, threads=t).algorithm
            for n in (1, 2, 17)
            for t in (1, 2, 7)
        }
        assert len(names) == 1, names


def test_availability_says_what_to_do() -> None:
    for entry in dispatch.TABLE:
        reason = dispatch.availability(entry.name)
        assert reason is None or len(reason) > 20, f"{entry.name}: {reason!r} is no help"


HIDDEN = """
import sys
sys.modules["numba"] = None
sys.modules["fastconv._native"] = None
import numpy as np, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastconv
    assert not caught
    y = fastconv.conv2d(np.ones((4, 4)), np.ones((2, 2)))
    fastconv.conv2d(np.ones((5, 4)), np.ones((2, 2)))
assert y.tolist() == [[4.0] * 3] * 3
assert [w.category for w in caught] == [RuntimeWarning], caught
assert fastconv.available_backends()[-1] == "reference"
assert "numba" not in fastconv.available_backends()
for name in ("numba", "native"):
    try:
        fastconv.conv2d(np.ones((4, 4)), np.ones((2, 2)), backend=name)
    except fastconv.BackendUnavailable as error:
        assert "install" in str(error), error
    else:
        raise AssertionError(name)
fastconv.show_config()
print("done")
"""


def test_numpy_alone_is_enough() -> None:
    """Neither Numba nor the extension: works, says so once, and says what to install."""
    assert processes.run(HIDDEN).split()[-1] == "done"
