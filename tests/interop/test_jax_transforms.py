"""jit, grad, jvp and vmap of what fastconv computes inside JAX, beside those of ``jax.lax``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import jax_calls
from support.jax_calls import Case, assert_close, compiled, draw, jax, run

from fastconv.interop.jax import conv_general_dilated

jnp = jax.numpy

CASES = jax_calls.sampled(jax_calls.gradients(), 24)
SIGNALS_AND_VOLUMES = [
    Case((4, 2, 9), (3, 2, 3), (2,), ((1, 1),), (1,), (2,)),
    Case((4, 9, 2), (3, 1, 4), (1,), ((1, 3),), (3,), (1,), ("NWC", "WIO", "NWC"), 1, 2),
    Case((2, 4, 3, 5, 4), (4, 2, 2, 3, 1), (1, 2, 1), ((1, 0), (-1, 2), (0, 0)), groups=2),
    Case((1, 3, 4, 5, 16), (2, 2, 2, 16, 8), (1, 1, 1), "SAME", None, None,
         ("NDHWC", "DHWIO", "NDHWC")),
]  # fmt: skip
#: Where a batch stands in lhs and in rhs.
BATCHES = ((0, None), (3, None), (None, 0), (None, 4), (0, 0), (2, 1), (4, 3))


@pytest.fixture(params=("ffi", "callback"))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return jax_calls.take(request.param, monkeypatch)


def pulled(function: Any) -> Any:
    """The gradients of both operands, from that of y."""

    def gradients(x: Any, w: Any, gy: Any) -> Any:
        return jax.vjp(function, x, w)[1](gy)

    return gradients


@pytest.mark.parametrize("case", [*CASES[:10], *SIGNALS_AND_VOLUMES], ids=str)
def test_gradients_as_lax(case: Case, way: str) -> None:
    x, w = draw(case, "float32", "integers")
    gy = case.theirs()(x, w) % 3
    theirs = jax.jit(pulled(case.theirs()))
    ours = compiled(pulled(case.ours()), x, w, gy)
    got, want = ours(x, w, gy), theirs(x, w, gy)
    for one, other in zip(got, want, strict=True):
        assert_close(one, other, what=case)
    x, w = draw(case, "float32", "normal", 1)
    got, want = ours(x, w, gy), theirs(x, w, gy)
    magnitudes = theirs(abs(x), abs(w), abs(gy))
    for one, other, magnitude in zip(got, want, magnitudes, strict=True):
        assert_close(one, other, max(case.terms(), gy.size), magnitude, what=case)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_two_orders_forward_and_backward(case: Case, dtype: str, way: str) -> None:
    """As testConvGeneralDilatedGrad: linear in either operand, so that steps may be large."""
    from jax.test_util import check_grads

    x, w = draw(case, dtype, "normal", 2)
    ours = case.ours()
    tolerances: dict[str, Any] = {"atol": 1e-3, "rtol": 1e-3, "eps": 1.0}
    check_grads(lambda x: ours(x, w), (x,), 2, ["fwd", "rev"], **tolerances)
    check_grads(lambda w: ours(x, w), (w,), 2, ["fwd", "rev"], **tolerances)


@pytest.mark.parametrize("case", CASES[6:12], ids=str)
def test_batches_as_lax(case: Case, way: str) -> None:
    """A batch at any axis of either operand or of both: y and both gradients."""
    x, w = draw(case, "float32", "integers")
    for of_x, of_w in BATCHES[:: 2 if case is CASES[6] else 3]:
        xs = x if of_x is None else jnp.stack([x, 2 * x, x[::-1]], of_x)
        ws = w if of_w is None else jnp.stack([w, w + 1, -w], of_w)
        results = []
        for function in (case.ours(), case.theirs()):
            batched = jax.vmap(function, (of_x, of_w))

            def everything(xs: Any, ws: Any, batched: Any = batched) -> Any:
                y, pull = jax.vjp(batched, xs, ws)
                return y, *pull(y % 3)

            results.append(jax.jit(everything)(xs, ws))
        for got, want in zip(*results, strict=True):
            assert_close(got, want, what=f"{case} {of_x} {of_w}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_gradients_of_dtypes(dtype: str, way: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        for case in CASES[20:22]:
            x, w = draw(case, dtype, "integers")
            gy = case.theirs()(x, w)
            gy = (gy.real % 2).astype(dtype)
            got, want = pulled(case.ours())(x, w, gy), pulled(case.theirs())(x, w, gy)
            for one, other in zip(got, want, strict=True):
                assert_close(one, other, what=case)


def test_gradients_through_wider_sums(way: str) -> None:
    """preferred_element_type: gradients have the dtypes of the operands."""
    case = Case((2, 4, 6, 7), (6, 2, 3, 2), (1, 2), "SAME", groups=2)
    x, w = draw(case, "bfloat16", "integers")
    for function in (case.ours, case.theirs):
        loss = function(preferred_element_type="float32")
        gx, gw = jax.grad(lambda x, w, loss=loss: loss(x, w).sum(), (0, 1))(x, w)
        assert (gx.dtype, gw.dtype) == (x.dtype, w.dtype)
        if function == case.ours:
            ours = gx, gw
    np.testing.assert_array_equal(ours[0], gx)
    np.testing.assert_array_equal(ours[1], gw)


def test_nested_transformations(way: str) -> None:
    """A Hessian, per-example gradients, batches of batches, and all of them compiled."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-2, 3, (3, 2, 5, 6, 2)), "float32")
    w = jnp.asarray(rng.integers(-2, 3, (4, 2, 3, 3)), "float32")

    def using(conv: Any) -> Any:
        def loss(w: Any, x: Any) -> Any:
            y = conv(x, w, (2, 1), ((1, 1), (0, 2)), dimension_numbers=("HWNC", "OIHW", "NHWC"))
            return (y * y * y).sum()

        image = jnp.moveaxis(x, 1, 3)  # H, W, batch, C of each

        def everything(w: Any, x: Any) -> Any:
            each = jax.vmap(jax.grad(loss), (None, 0))(w, x)
            both = jax.vmap(jax.vmap(loss, (0, None)), (None, 0))(jnp.stack([w, -w]), x)
            forward = jax.jvp(loss, (w, x[0]), (w + 1, x[1]))
            direction = jax.jvp(jax.grad(loss), (w, x[0]), (w - 1, x[1]))
            hessian = jax.hessian(lambda v: loss(v * w, x[0]))(jnp.float32(2))
            return each, both, forward, direction, hessian

        return everything, image

    ours, image = using(conv_general_dilated)
    theirs, _ = using(jax.lax.conv_general_dilated)
    got, want = run(ours, w, image), theirs(w, image)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_no_batch_at_all(way: str) -> None:
    x, w = jnp.ones((0, 1, 2, 5)), jnp.ones((3, 2, 3))
    y = jax.vmap(lambda x: conv_general_dilated(x, w, (1,), "VALID"))(x)
    assert y.shape == (0, 1, 3, 3)


def test_scan_and_remat(way: str) -> None:
    """Control flow and recomputation."""
    x, w = jnp.ones((1, 2, 6)), jnp.ones((2, 2, 3)) / 4

    def chain(w: Any, conv: Any) -> Any:
        def step(x: Any, _: None) -> Any:
            return jax.checkpoint(lambda x: conv(x, w, (1,), "SAME"))(x), None

        return jax.lax.scan(step, x, None, length=3)[0].sum()

    got = jax.jit(jax.value_and_grad(lambda w: chain(w, conv_general_dilated)))(w)
    want = jax.value_and_grad(lambda w: chain(w, jax.lax.conv_general_dilated))(w)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
