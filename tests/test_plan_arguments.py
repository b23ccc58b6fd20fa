"""Arrays, shapes and dtypes that a plan is made for, takes later, or refuses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from support.cases import generator
from support.example import BIAS, WANT, W, X
from support.held import HELD, outputs
from support.judge import (
    assert_same_bits,
)

import fastconv


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_every_kind_of_array(backend: str, held: Any) -> None:
    plain = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, backend=backend, dtype="f4")
    assert_same_bits(plain(held(X)), WANT, "x held in another way")
    plan = fastconv.plan_conv2d(
        held(W), X.shape, 2, 1, bias=held(BIAS), x_dtype="f4", dtype="f4", backend=backend
    )
    assert_same_bits(plan(X), WANT, "w and bias held in another way")
    assert_same_bits(pickle.loads(pickle.dumps(plan))(X), WANT, "the same, pickled")  # noqa: S301


def test_later_changes_of_w_and_bias_have_no_effect(backend: str) -> None:
    for dtype in ("f4", "f8"):  # as they are, and converted
        w, bias = W.astype(dtype), BIAS.copy()
        plan = fastconv.plan_conv2d(w, X.shape, 2, 1, bias=bias, dtype="f4", backend=backend)
        w[...], bias[...] = np.nan, np.nan
        assert_same_bits(plan(X.astype(dtype)), WANT, "w and bias overwritten after planning")
        assert_same_bits(pickle.loads(pickle.dumps(plan))(X.astype(dtype)), WANT, "pickled")  # noqa: S301


@pytest.mark.parametrize("kind", outputs(WANT.shape))
def test_out_of_every_kind(backend: str, kind: str) -> None:
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, backend=backend)
    out = outputs(WANT.shape)[kind]
    assert plan(X, out=out) is out
    assert np.array_equal(out, WANT)
    assert plan(X, out) is out


def test_out_may_overlap_x(backend: str) -> None:
    image = generator("overlap").integers(-9, 9, (1, 3, 9, 8)).astype("f4")
    kernel = generator("kernel").integers(-3, 3, (3, 3, 3, 3)).astype("f4")
    want = fastconv.conv2d(image, kernel, pad=1, backend="reference")
    plan = fastconv.plan_conv2d(kernel, image.shape, pad=1, backend=backend)
    assert plan(image, out=image) is image
    assert_same_bits(image, want, "in place")


def test_out_that_cannot_hold_the_result(backend: str) -> None:
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, backend=backend)
    wrong = np.empty((2, 4, 4, 6), "f4")
    with pytest.raises(fastconv.OutputError, match="got shape"):
        plan(X, out=wrong)
    with pytest.raises(fastconv.OutputError, match="got shape"):
        plan(X[:1], out=np.empty_like(WANT))
    with pytest.raises(fastconv.OutputError, match="got dtype float64"):
        plan(X, out=np.empty(WANT.shape))
    read_only = np.empty_like(WANT)
    read_only.flags.writeable = False
    with pytest.raises(fastconv.OutputError, match="read-only"):
        plan(X, out=read_only)
    with pytest.raises(fastconv.DTypeError, match="out must be a plain array"):
        plan(X, out=np.ma.zeros(WANT.shape, "f4"))


# -- other shapes and dtypes of x ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned_for", "layout", "given", "message"),
    [
        ((2, 3, 7, 8), "NCHW", (2, 3, 7, 9),
         r"x \(N, C=3, H=7, W=8\) with any N, got x \(N=2, C=3, H=7, W=9\)"),
        ((2, 3, 7, 8), "NCHW", (3, 7, 8), r"any N, got x \(3, 7, 8\)"),
        ((2, 7, 8, 3), "NHWC", (2, 3, 7, 8),
         r"x \(N, H=7, W=8, C=3\) with any N, got x \(N=2, H=3"),
        ((3, 7, 8), "NCHW", (1, 3, 7, 8), r"x \(C=3, H=7, W=8\), got x \(1, 3, 7, 8\)"),
        ((3, 7, 8), "NCHW", (2, 7, 8), r"x \(C=3, H=7, W=8\), got x \(C=2, H=7, W=8\)"),
    ],
)  # fmt: skip
def test_another_shape(
    backend: str, planned_for: Any, layout: str, given: Any, message: str
) -> None:
    plan = fastconv.plan_conv2d(W, planned_for, layout=layout, backend=backend)
    with pytest.raises(fastconv.ShapeError, match=message):
        plan(np.ones(given, "f4"))
    plan(np.ones(planned_for, "f4"))


def test_a_plain_image_of_another_shape(backend: str) -> None:
    plan = fastconv.plan_conv2d(W[0, 0], (7, 8), backend=backend)
    with pytest.raises(fastconv.ShapeError, match=r"x \(H=7, W=8\), got x \(H=8, W=7\)"):
        plan(np.ones((8, 7), "f4"))


def test_x_of_another_dtype(backend: str) -> None:
    """Converted where conv2d computes the same from it; refused where its result would differ."""
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, backend=backend)
    for same in ("f2", ">f4", "i1", "u2", "?"):
        x = X.astype(same)
        want = fastconv.conv2d(x, W, 2, 1, bias=BIAS, backend=backend)
        assert want.dtype == "f4"
        assert_same_bits(plan(x), want, f"x of {same}")
    for other in ("f8", "i4", "c8", "M8[s]"):
        with pytest.raises(fastconv.DTypeError, match=np.dtype(other).name[:9]):
            plan(X.astype(other))
    with pytest.raises(fastconv.DTypeError, match=r"x of float32, computed as float32; from x of "
                       r"float64 conv2d computes float64: .*x_dtype='float64'"):  # fmt: skip
        plan(X.astype("f8"))
    narrow = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, dtype="f4", backend=backend)
    assert_same_bits(narrow(X.astype("f8")), WANT, "float64 asked for as float32")
    again = pickle.loads(pickle.dumps(narrow))  # noqa: S301
    assert_same_bits(again(X.astype("f8")), WANT, "and pickled")


def test_x_dtype_and_dtype(backend: str) -> None:
    wide = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, x_dtype="f8", backend=backend)
    y = wide(X.astype("f8"))
    assert y.dtype == np.float64
    assert np.array_equal(y, WANT)
    with pytest.raises(fastconv.DTypeError, match="computed as float64"):
        wide(X)
    half = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, dtype="f2", backend=backend)
    assert_same_bits(half(X), WANT.astype("f2"), "rounded once")
    out = np.empty(WANT.shape, "f2")
    assert half(X, out=out) is out
    assert_same_bits(out, WANT.astype("f2"), "rounded once into out")
    for held in (half, wide):
        again = pickle.loads(pickle.dumps(held))  # noqa: S301
        x = X.astype(again._x_dtype)
        assert_same_bits(again(x), held(x), "pickled")


# -- errors: conv2d's own, before anything is allocated --------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 0}, {"stride": 1.0}, {"pad": -1}, {"pad": "some"}, {"dilation": 0},
        {"groups": 2}, {"groups": 1.0}, {"bias": np.zeros(3, "f4")}, {"bias": BIAS.astype("c8")},
        {"activation": "loud"}, {"pad_mode": "mirror"}, {"layout": "HWC"}, {"dtype": "c8"},
        {"dtype": "nothing"}, {"precision": "exact"}, {"backend": "torch"}, {"threads": 0},
        {"threads": 1.5}, {"pad": 2**62}, {"pad": 2**40}, {"w": W[0]}, {"w": W[:, :, :0]},
        {"w": np.ma.masked_array(W)}, {"w": "no array"}, {"w": W.astype(object)},
    ],
    ids=str,
)  # fmt: skip
def test_the_errors_of_the_call(arguments: dict[str, Any]) -> None:
    given = {"w": W, **arguments}
    w = given.pop("w")
    with pytest.raises((TypeError, ValueError, MemoryError, ImportError)) as wanted:
        fastconv.conv2d(X, w, **given)
    with pytest.raises(wanted.type) as caught:
        fastconv.plan_conv2d(w, X.shape, x_dtype="f4", **given)
    assert str(caught.value) == str(wanted.value)


def test_errors_of_the_plan_s_own_arguments() -> None:
    for shape, error in (
        ((2, 3, 7.0, 8), TypeError), (5, TypeError), ("abcd", TypeError), (X, TypeError),
        ((2, 3, -7, 8), ValueError), ((), ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            fastconv.plan_conv2d(W, shape)  # type: ignore[arg-type]
    with pytest.raises(fastconv.DTypeError, match="x_dtype='nothing'"):
        fastconv.plan_conv2d(W, X.shape, x_dtype="nothing")
    with pytest.raises(fastconv.DTypeError, match="is a function of real numbers"):
        fastconv.plan_conv2d(W, X.shape, x_dtype="c8", activation="relu")
    with pytest.raises(ValueError, match="workspace"):
        fastconv.plan_conv2d(W, X.shape, workspace=10)
    plan = fastconv.plan_conv2d(W[:, :1, :1, :1], (1, 1, 8, 8), pad=2**20)
    with pytest.raises(fastconv.SizeError, match="bytes, more than an address space holds"):
        plan(np.broadcast_to(np.float32(1), (2**20, 1, 8, 8)))


def test_shapes_are_taken_as_they_come(backend: str) -> None:
    for shape in (list(X.shape), np.array(X.shape), tuple(np.int64(n) for n in X.shape)):
        plan = fastconv.plan_conv2d(W, shape, 2, 1, bias=BIAS, backend=backend)
        assert_same_bits(plan(X), WANT, "another spelling of the shape")
