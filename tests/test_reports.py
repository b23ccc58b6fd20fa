"""What fastconv says about calls: backends, explain, output_shape, show_config, errors."""

from __future__ import annotations

import pytest
from support.backends import CPU
from support.example import BIAS, WANT, W, X, call
from support.judge import assert_same_bits

import fastconv


def test_forced_means_forced(backend: str) -> None:
    assert fastconv.explain(X, W, backend=backend).backend == backend
    assert_same_bits(call(backend), WANT, "integers are exact on every backend")


def test_cuda_never_takes_numpy_arrays() -> None:
    with pytest.raises((fastconv.BackendUnavailable, fastconv.BackendUnsupported), match="cuda"):
        fastconv.conv2d(X, W, backend="cuda")


def test_available_backends() -> None:
    names = fastconv.available_backends()
    assert names[-1] == "reference"
    order = ("cuda", "native", "numba", "reference")
    assert list(names) == [n for n in order if n in names]


def test_explain_says_what_would_happen(backend: str) -> None:
    report = fastconv.explain(X, W, 2, 1, bias=BIAS, activation="relu", backend=backend, threads=2)
    assert report.backend == backend
    assert report.algorithm
    assert report.scratch_bytes >= 0
    assert report.cost == fastconv.conv_cost(X, W, 2, 1) or report.cost.bytes > 0
    assert report.problem.out_shape == WANT.shape
    named = {name for name, _ in report.rejected} | set(report.able) | {backend}
    assert named == {"cuda", "native", "numba", "reference"}
    for text in (backend, report.algorithm, "N=2, C=3, H=7, W=8", "relu", "scratch", "MAC"):
        assert text in str(report)


def test_explain_raises_as_the_call_would() -> None:
    with pytest.raises(fastconv.ShapeError):
        fastconv.explain((1, 1, 2, 2), (1, 1, 3, 3))
    with pytest.raises(fastconv.DTypeError):
        fastconv.explain(X, W, dtype="c8")


def test_output_shape_is_what_conv2d_returns(backend: str) -> None:
    for arguments in ({}, {"stride": 2, "pad": "same"}, {"pad": ((0, 1), (2, 3)), "dilation": 2}):
        y = fastconv.conv2d(X, W, **arguments, backend=backend)
        assert fastconv.output_shape(X, W, **arguments) == y.shape
        assert fastconv.output_shape(X.shape, W.shape, **arguments) == y.shape
    assert fastconv.output_shape(X.tolist(), W) == (2, 4, 5, 7)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    facts = fastconv.show_config(mode="dict")
    assert set(facts["backends"]) == {"cuda", *CPU}
    assert facts["backends"]["reference"] == "available"
    assert fastconv.show_config() is None
    printed = capsys.readouterr().out
    for word in ("fastconv", "numpy", "backends", "native", "threads"):
        assert word in printed
    with pytest.raises(ValueError, match="mode"):
        fastconv.show_config(mode="html")  # type: ignore[call-overload]


def test_errors_are_the_ones_numpy_users_expect() -> None:
    assert issubclass(fastconv.ShapeError, ValueError)
    assert issubclass(fastconv.DTypeError, TypeError)
    assert issubclass(fastconv.OutputError, ValueError)
    assert issubclass(fastconv.BackendUnavailable, ImportError)
    assert issubclass(fastconv.BackendUnsupported, NotImplementedError)
    assert issubclass(fastconv.SizeError, MemoryError)
    assert issubclass(fastconv.ResumeError, ValueError)
    for name in fastconv.__all__:
        assert getattr(fastconv, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'conv4d'"):
        fastconv.conv4d  # noqa: B018
