"""precision="fast": large kernels in transforms."""

from __future__ import annotations

import numpy as np
import pytest
from support.backends import FLOATS, present
from support.cases import Case, draw
from support.fast import FAMILIES, TRANSFORMED, fast, judge

import fastconv
from fastconv import calls
from fastconv.backends.native import fft


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")
    calls.forget()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_transforms(small: None, case: Case, dtype: str) -> None:
    case = case.with_(dtype=dtype)
    for family in FAMILIES:
        arrays = draw(case, family)
        got = fast(case, arrays, "fft")
        assert judge(case, arrays, got, "fft") > 0 or family == "subnormal"


@pytest.mark.parametrize("case", TRANSFORMED[:4], ids=str)
def test_transforms_of_numpy_alone(
    small: None, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    monkeypatch.setattr(fft, "_module", lambda: np.fft)
    for dtype in FLOATS:
        held = case.with_(dtype=dtype)
        arrays = draw(held, "normal")
        judge(held, arrays, fast(held, arrays, "fft"), "fft")


@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_few_spectra_at_a_time(small: None, case: Case) -> None:
    """A small workspace holds the spectra of a few output channels only."""
    arrays = draw(case, "normal")
    with fastconv.options(workspace=1 << 16):
        report = fastconv.explain(
            arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native", threads=1,
            **case.arguments,
        )  # fmt: skip
        if report.algorithm != "fft":
            return
        assert report.scratch_bytes <= 2 << 16
        judge(case, arrays, fast(case, arrays, "fft"), "fft")


def test_long_signals_take_them_without_being_told() -> None:
    """The limits as they are: a room's impulse response, and filters of a few taps."""

    def algorithm(taps: int, **more: object) -> str:
        return fastconv.conv1d.explain(
            (1, 1, 160000), (1, 1, taps), pad=taps // 2, precision="fast", backend="native", **more
        ).algorithm

    for dtype in FLOATS:
        assert algorithm(16001, dtype=dtype) == algorithm(4097, dtype=dtype) == "fft"
        assert algorithm(4097, dtype=dtype, dilation=3) == "fft"
        assert algorithm(17, dtype=dtype) == algorithm(65, dtype=dtype) == "direct_signal"
        assert algorithm(4097, dtype=dtype, stride=2) == "direct_signal"
