"""SciPy's own names on fastconv: what a patch reaches, counts and restores."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support import processes
from support.oracles import oracle

import fastconv

signal, ndimage = oracle("scipy.signal"), oracle("scipy.ndimage")

from fastconv.interop import scipy as ours  # noqa: E402


def test_patch_serves_every_way_to_scipys_functions_and_restores() -> None:
    import scipy
    from scipy.signal import _signaltools

    before = signal.convolve2d, ndimage.correlate, _signaltools.correlate
    x, w = np.ones((8, 8)), np.ones((3, 3))
    with ours.patch() as outer:
        assert signal.convolve2d is ours.convolve2d
        assert scipy.ndimage.correlate is ours.ndimage.correlate
        signal.convolve2d(x, w)
        with ours.patch() as inner:
            ndimage.gaussian_filter(x, 1.0)
            signal.convolve(x, w, method="fft")
        assert signal.convolve2d is ours.convolve2d
        assert inner.computed == {"ndimage.correlate1d": 2}
        assert inner.handed == {("signal.convolve", "method='fft'"): 1}
    assert outer.computed == {"signal.convolve2d": 1, "ndimage.correlate1d": 2}
    assert (signal.convolve2d, ndimage.correlate, _signaltools.correlate) == before
    assert "signal.convolve: 1 by SciPy, method='fft'" in repr(outer)
    signal.convolve2d(x, w)
    assert outer.computed["signal.convolve2d"] == 1


def test_patch_of_modules_that_imported_names_and_after_errors() -> None:
    import types

    module = types.ModuleType("imported_names")
    module.blur = signal.convolve2d  # type: ignore[attr-defined]
    import sys

    sys.modules["imported_names"] = module
    try:
        with pytest.raises(ValueError, match="2-D"), ours.patch(module) as calls:
            module.blur([1.0], [2.0])
        assert calls.handed == {("signal.convolve2d", "arrays of 1 and 1 axes"): 1}
        assert module.blur is signal.convolve2d is not ours.convolve2d
    finally:
        del sys.modules["imported_names"]


def test_overlapping_patches_of_threads_restore_at_the_last() -> None:
    before = signal.convolve2d
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with ours.patch():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with ours.patch():
        thread.start()
        assert entered.wait(30)
    assert signal.convolve2d is ours.convolve2d
    leave.set()
    thread.join(30)
    assert signal.convolve2d is before


WRAPPED = """
import numpy as np, scipy.ndimage, scipy.signal
from fastconv.interop import scipy as ours
x = np.arange(30.0).reshape(5, 6)
blurred = scipy.ndimage.gaussian_filter(x, 1.0)
before = scipy.signal.convolve2d
with ours.patch() as calls:
    np.testing.assert_allclose(scipy.ndimage.gaussian_filter(x, 1.0), blurred)
    scipy.signal.convolve2d(x, x)
assert scipy.signal.convolve2d is before and before is not ours.convolve2d
print(sorted(calls.computed.items()))
"""


def test_where_scipy_wraps_its_functions() -> None:
    computed = processes.run(WRAPPED, environment={"SCIPY_ARRAY_API": "1"})
    assert computed.strip() == "[('ndimage.correlate1d', 2), ('signal.convolve2d', 1)]"


def test_missing_backends_are_no_reason_to_ask_scipy() -> None:
    with fastconv.options(backend="cuda"), pytest.raises(fastconv.FastconvError):
        ours.convolve2d(np.ones((3, 3)), np.ones((2, 2)))
