"""Calls that other libraries answer wrongly: each function checks one on a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv

from . import backends, oracle
from .cases import Arrays, Case, draw, generator
from .judge import judge, on, verdict

Array = np.ndarray[Any, Any]


def agree(*cases: Case, data: str = "integers") -> Callable[[str], None]:
    """Check cases against the definition, in float32 and float64."""

    def check(backend: str) -> None:
        for case in cases:
            for dtype in backends.FLOATS:
                judge(on(backend), case.with_(dtype=dtype), data)

    return check


def strided_kernel(backend: str) -> None:
    a = generator("24").integers(-9, 9, (3, 3, 4, 4)).astype("f4")
    x, w = np.ones((3, 3, 2, 2), "f4"), a[:, :, ::2, ::2]
    y = fastconv.conv2d(x, w, backend=backend)
    assert np.array_equal(y, np.broadcast_to(w.sum((1, 2, 3))[:, None, None], (3, 3, 1, 1)))


def channels_last_memory(backend: str) -> None:
    case = Case((1, 1, 100, 100), (64, 1, 3, 3), pad=1)
    x, w, _ = draw(case, "integers")
    held = [np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in (x, w)]
    y = fastconv.conv2d(*held, pad=1, backend=backend)
    assert np.array_equal(y, oracle.windowed(case, Arrays(x, w, None)))


def border_wider_than_the_image(backend: str) -> None:
    x = np.arange(1, 17, dtype="f4").reshape(16, 1, 1, 1)
    y = fastconv.conv2d(x, np.full((1, 1, 1, 1), 3, "f4"), pad=1, backend=backend)
    want = np.zeros((16, 1, 3, 3), "f4")
    want[:, 0, 1, 1] = 3 * x[:, 0, 0, 0]
    assert np.array_equal(y, want)


def every_channel_count(backend: str) -> None:
    agree(*(Case((1, c, 3, 4), (k, c, 2, 3), pad=1) for c in range(1, 18) for k in range(1, 18)))(
        backend
    )


def nan_is_not_lost(backend: str) -> None:
    for dtype in backends.FLOATS:
        for taps in (1, 3):
            w = np.full((2, 3, taps, taps), np.nan, dtype)
            y = fastconv.conv2d(np.zeros((1, 3, 6, 7), dtype), w, pad=taps // 2, backend=backend)
            assert np.isnan(y).all()


def zero_times_infinity(backend: str) -> None:
    w = np.ones((1, 1, 3, 3), "f4")
    w[0, 0, 0, 2] = np.inf
    y = fastconv.conv2d(np.ones((1, 1, 5, 6), "f4"), w, pad=1, backend=backend)
    border = np.zeros((5, 6), bool)
    border[0, :] = border[:, -1] = True
    assert np.array_equal(np.isnan(y[0, 0]), border)
    assert np.isposinf(y[0, 0][~border]).all()


def byte_swapped(backend: str) -> None:
    case = Case((2, 3, 7, 8), (4, 3, 3, 3), pad=1)
    for code in ("f4", "f8"):
        x, w, _ = draw(case.with_(dtype=np.dtype(code).name), "integers")
        want = oracle.windowed(case, Arrays(x, w, None))
        for swapped in ((True, False), (False, True), (True, True)):
            held = [a.astype(">" + code) if s else a for a, s in zip((x, w), swapped, strict=True)]
            y = fastconv.conv2d(*held, pad=1, backend=backend)
            assert y.dtype == np.dtype(code)
            assert np.array_equal(y, want)
        out = np.empty(want.shape, ">" + code)
        assert fastconv.conv2d(x, w, pad=1, out=out, backend=backend) is out
        assert np.array_equal(out, want)


def mixed_promotes(backend: str) -> None:
    x = generator("35").integers(-(2**31), 2**31, (1, 1, 5, 5)).astype("i4")
    y = fastconv.conv2d(x, np.full((1, 1, 1, 1), 0.5), backend=backend)
    assert y.dtype == np.float64
    assert np.array_equal(y, x * 0.5)


def integers_wrap(backend: str) -> None:
    x, w = np.full((1, 1, 1, 9), 2**62), np.full((1, 1, 1, 1), 2)
    if not backends.serves(backend, "int64"):
        with pytest.raises(fastconv.BackendUnsupported, match="int64"):
            fastconv.conv2d(x, w, backend=backend)
        return
    assert (fastconv.conv2d(x, w, backend=backend) == -(2**63)).all()
    assert (fastconv.conv2d(x, w * 2, backend=backend) == 0).all()


def memory_layout(backend: str) -> None:
    case = Case((2, 3, 6, 7), (4, 3, 3, 2))
    x, w, _ = draw(case, "integers")
    for image in (x, x[..., ::-1, ::-1]):
        odd = np.frombuffer(b"\0" + image.tobytes(), "u1", offset=1).view("f4").reshape(x.shape)
        assert not odd.flags.writeable
        for held in (image, odd):
            y = fastconv.conv2d(held, w, backend=backend)
            assert verdict(case, Arrays(np.ascontiguousarray(image), w, None), y).error == 0
    odd = np.frombuffer(b"\0" + w.tobytes(), "u1", offset=1).view("f4").reshape(w.shape)
    assert np.array_equal(
        fastconv.conv2d(x, odd, backend=backend), fastconv.conv2d(x, w, backend=backend)
    )
