"""Questions to operators: `explain`, `cost`, `output_shape` and `plan` agree with the call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from benchmarks.operators.every import Call, calls
from support.backends import present

import fastconv
from fastconv import dispatch
from fastconv.operators.request import Operator

ASKED = [call for call in calls() if isinstance(getattr(fastconv, call.name), Operator)]
PLANNED = [call for call in ASKED if not call.name.endswith("weight_grad")]


def shapes(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shapes of arrays in their place."""
    return tuple(a.shape if isinstance(a, np.ndarray) else a for a in given)


def test_what_is_asked() -> None:
    assert len(ASKED) == 2 + 6 + 9 + 2
    assert {c.name for c in calls()} - {c.name for c in ASKED} >= {"conv2d", "qlinear_conv2d"}


@pytest.mark.parametrize("call", ASKED, ids=lambda call: call.name)
def test_answers_are_those_of_the_call(call: Call) -> None:
    operator, result = getattr(fastconv, call.name), call.run()
    for given in (call.given, shapes(call.given)):
        assert operator.output_shape(*given, **call.options) == result.shape
        report = operator.explain(*given, **call.options)
        assert dispatch.availability(report.backend) is None
        assert report.backend in str(report)
        assert report.algorithm in str(report)
        assert report.scratch_bytes >= 0
        cost = operator.cost(*given, **call.options)
        assert cost.flops == 2 * cost.macs
        assert cost.macs == report.problem.cost.macs


@pytest.mark.parametrize("call", ASKED, ids=lambda call: call.name)
def test_costs_are_counted_on_the_definition(call: Call) -> None:
    """A product for each element of y and of one kernel; bytes of all arrays, once."""
    if call.name == "deform_conv2d":
        return  # test_deform_edges counts its samples
    operator, result = getattr(fastconv, call.name), call.run()
    cost = operator.cost(*call.given, **call.options)
    sizes = [g if isinstance(g, tuple) else g.shape for g in call.given]
    if call.name.endswith("_grad"):
        x, w, y = sizes
    else:
        (x, w), y = sizes, result.shape
    small = x if "transpose" in call.name else y  # each of whose pixels meets every tap
    assert cost.macs == small[0] * math.prod(small[2:]) * math.prod(w)
    arrays = [a for a in (*call.given, result) if isinstance(a, np.ndarray)]
    assert cost.bytes == sum(a.nbytes for a in arrays)


@pytest.mark.parametrize("call", PLANNED, ids=lambda call: call.name)
def test_plans_have_the_bits_of_the_call(call: Call) -> None:
    operator = getattr(fastconv, call.name)
    if call.name == "deform_conv2d":
        with pytest.raises(TypeError, match="no plan"):
            operator.plan(*call.given, **call.options)
        return
    want = call.run()
    plan = operator.plan(*call.given, **call.options)
    image = call.given[2] if call.name.endswith("input_grad") else call.given[0]
    for _ in range(2):
        got = plan(image)
        np.testing.assert_array_equal(got, want)
    assert plan.explain().backend == operator.explain(*call.given, **call.options).backend


@pytest.mark.parametrize("call", ASKED, ids=lambda call: call.name)
def test_every_backend_answers_and_computes(backend: str, call: Call) -> None:
    """Each operator on each backend, held against the reference's result, bit by bit."""
    operator = getattr(fastconv, call.name)
    report = operator.explain(*call.given, **call.options, backend=backend)
    assert report.backend == backend
    got = operator(*call.given, **call.options, backend=backend)
    np.testing.assert_array_equal(got, call.run())


@pytest.mark.parametrize(
    "call",
    [c for c in calls() if c.name not in {a.name for a in ASKED}],
    ids=lambda call: call.name,
)
def test_other_operators_on_every_backend(backend: str, call: Call) -> None:
    """What has no questions of its own, on each backend that it may be asked for."""
    if call.name.startswith(("im2col", "col2im")) or call.name.endswith("bias_grad"):
        return  # arrays alone
    got = getattr(fastconv, call.name)(*call.given, **call.options, backend=backend)
    want = call.expected()
    for mine, theirs in zip(*(a if isinstance(a, tuple) else (a,) for a in (got, want)),
                            strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("backend", ["reference", "numba", "native"])
def test_strides_cost_nothing_until_there_is_an_array(backend: str) -> None:
    """A stride between few pixels makes no more phases than there are taps."""
    present(backend)
    stride = 2**40
    asked = fastconv.conv_transpose1d.explain((1, 1, 2), (1, 1, 3), stride, backend=backend)
    assert f"L={stride + 3}" in str(asked)
    with pytest.raises(MemoryError):
        fastconv.conv_transpose1d(
            np.ones((1, 1, 2), "f4"), np.ones((1, 1, 3), "f4"), stride, backend=backend
        )
