"""Plans of operators: the bits of the call, any batch, any thread, and through a pickle."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from support.judge import assert_same_bits
from support.operators import OperatorCase, cases

import fastconv


def planned(case: OperatorCase, result: str, w: Any, **options: Any) -> Any:
    """Plan the operator that computes y or the gradient of x."""
    name = f"conv{case.spatial}d"
    given = {**case.options, **options}
    if result == "y":
        return getattr(fastconv, name).plan(case.x, w, **given)
    return getattr(fastconv, name + "_input_grad").plan(case.x, w, case.y, **given)


@pytest.mark.parametrize("result", ["y", "x"])
@given(case=cases())
def test_a_plan_has_the_bits_of_the_call(
    fast_backend: str, result: str, case: OperatorCase
) -> None:
    if case.spatial == 2 and result == "y":
        return  # plan_conv2d has tests of its own
    operands = case.draw()
    first = operands.x if result == "y" else operands.gy
    want = case.compute(result, operands, backend=fast_backend)
    plan = planned(case, result, operands.w, backend=fast_backend)
    for made in (plan, pickle.loads(pickle.dumps(plan))):  # noqa: S301
        for _ in range(2):  # packs, then uses what was packed
            assert_same_bits(made(first), want, f"{case}, {result}")
    if first.ndim == case.spatial + 2:
        twice = np.concatenate([first, first[:1]])
        assert_same_bits(plan(twice)[: len(first)], want, f"{case}, {result}, another batch")
        out = np.full_like(want, 7)
        assert plan(first, out=out) is out
        assert_same_bits(out, want, f"{case}, {result}, out")


def test_transposed_plans_keep_bias_and_activation() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 6, 5, 7)), rng.standard_normal((6, 4, 4, 4))
    options: dict[str, Any] = {
        "stride": 2, "pad": 1, "bias": rng.standard_normal(4), "activation": "tanh",
    }  # fmt: skip
    plan = fastconv.conv_transpose2d.plan(x.shape, w, **options)
    want = fastconv.conv_transpose2d(x, w, **options)
    w[...] = 0  # the plan has its own copy
    assert_same_bits(plan(x), want, "transposed plan")
    assert "gradient of x" in repr(plan)
    assert plan.explain().packed_bytes >= 0


def test_any_number_of_threads_share_a_plan() -> None:
    rng = np.random.default_rng(6)
    w = rng.standard_normal((8, 4, 3, 3, 3), dtype="f4")
    images = [rng.standard_normal((1, 4, 6, 9, 9), dtype="f4") for _ in range(16)]
    plan = fastconv.conv3d.plan(images[0].shape, w, pad=1)
    with ThreadPoolExecutor(4) as pool:
        for x, y in zip(images, pool.map(plan, images), strict=True):
            assert_same_bits(y, fastconv.conv3d(x, w, pad=1), "shared plan")


def test_errors_name_what_was_planned() -> None:
    w = np.ones((3, 2, 5), "f4")
    plan = fastconv.conv1d.plan((4, 2, 50), w)
    with pytest.raises(fastconv.ShapeError, match=r"planned|plan was made for x \(N, C=2, L=50\)"):
        plan(np.ones((1, 2, 51), "f4"))
    with pytest.raises(fastconv.DTypeError, match="float64"):
        plan(np.ones((1, 2, 50)))
    with pytest.raises(fastconv.OutputError):
        plan(np.ones((4, 2, 50), "f4"), out=np.ones((4, 3, 45), "f4"))
    with pytest.raises(TypeError, match="w must be an array"):
        fastconv.conv1d.plan((4, 2, 50), (3, 2, 5))
    with pytest.raises(TypeError, match="no weights"):
        fastconv.conv1d_weight_grad.plan(np.ones((4, 2, 50)), (3, 2, 5), np.ones((4, 3, 46)))
    with pytest.raises(TypeError, match="shapes"):
        fastconv.conv1d((4, 2, 50), w)
