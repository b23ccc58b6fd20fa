"""Gradients are adjoints: <conv(x, w), gy> = <x, input gradient> = <w, weight gradient>.

The three sums are the same sum of products of three numbers, in other orders, so that they differ
by the rounding of the operators alone: exactly 0 for integers, and n*u times the same sum of
magnitudes for each operator otherwise. Nothing but the operators themselves takes part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import backends
from support.cases import generator
from support.operators import OperatorCase, cases

import fastconv
from fastconv import accuracy
from fastconv.dtypes import accumulator, is_float

Array = np.ndarray[Any, Any]
COMPLEX = ("complex64", "complex128")

#: One of so many examples that are drawn elsewhere: there are as many dtypes.
few = settings(max_examples=max(10, settings.default.max_examples // 12))


class Bilinear(NamedTuple):
    """An operator of x and w, and its gradients with respect to both."""

    y: Callable[[Array, Array], Array]
    x: Callable[[Array, Array], Array]  # of w and gy
    w: Callable[[Array, Array], Array]  # of x and gy


def draw(shape: tuple[int, ...], dtype: str, *key: object) -> Array:
    """Draw N(0, 1), or integers over the whole range of their dtype."""
    rng = generator(shape, dtype, *key)
    if dtype in COMPLEX:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    if is_float(dtype):
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def product(a: Array, b: Array) -> Any:
    """<a, b>: in longdouble, or exactly in integers of any size; b is the conjugated one."""
    if a.dtype.kind == "c":
        return np.vdot(b.astype(np.clongdouble), a.astype(np.clongdouble))
    if a.dtype.kind in "iu":
        return sum(int(i) * int(j) for i, j in zip(a.flat, b.flat, strict=True))
    return np.vdot(b.astype(np.longdouble), a.astype(np.longdouble))


def judge(operator: Bilinear, x: Array, w: Array, what: object, copies: int = 1) -> None:
    """Hold an operator and its gradients against one another; the border repeats x `copies` times.

    Elements of y are sums of at most w.size products, of w of at most y.size.
    """
    y = operator.y(x, w)
    dtype = x.dtype.name
    gy = draw(y.shape, dtype, "gy")
    gx, gw = operator.x(w, gy), operator.w(x, gy)
    sums = product(y, gy), product(x, gx), product(w, gw)
    if not is_float(dtype) and dtype not in COMPLEX:
        bits = 8 * y.itemsize
        for name, got in zip(("input", "weight"), sums[1:], strict=True):
            assert (sums[0] - got) % 2**bits == 0, f"{what}: {name} gradient"
        return
    half = dtype in backends.HALVES
    wide = np.dtype(dtype if dtype in COMPLEX or not half else "float32")
    magnitude = product(operator.y(*(np.abs(a.astype(wide)) for a in (x, w))), abs(gy.astype(wide)))
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, accumulator(dtype))
    u, parts = accuracy.unit_roundoff(real), 4 if dtype in COMPLEX else 1
    counts = (w.size, copies * w.size, y.size)
    slack = [parts * n * u / (1 - parts * n * u) * magnitude * (1 + 2.0**-8) for n in counts]
    if half:  # one rounding of every element of the result
        out = accuracy.unit_roundoff(dtype)
        pairs = (y, gy), (gx, x), (gw, w)
        slack = [
            (1 + out) * s + out * product(*(abs(a.astype("f4")) for a in pair))
            for s, pair in zip(slack, pairs, strict=True)
        ]
    for name, got, mine in zip(("input", "weight"), sums[1:], slack[1:], strict=True):
        assert abs(sums[0] - got) <= slack[0] + mine, f"{what}: {name} gradient"


def bilinear(name: str, x_shape: Any, w_shape: Any, options: dict[str, Any]) -> Bilinear:
    """Return the operator of that name, and its gradients, on arrays of such shapes."""
    forward, input_grad, weight_grad = (
        getattr(fastconv, name + suffix) for suffix in ("", "_input_grad", "_weight_grad")
    )
    return Bilinear(
        lambda x, w: forward(x, w, **options),
        lambda w, gy: input_grad(x_shape, w, gy, **options),
        lambda x, gy: weight_grad(x, w_shape, gy, **options),
    )


# -- convolutions in one, two and three dimensions -------------------------------------------------


def convolution(case: OperatorCase, backend: str) -> Bilinear:
    """Return the convolution of a case."""
    options = {**case.options, "backend": backend}
    return bilinear(f"conv{case.spatial}d", case.x, case.w, options)


def copies(case: OperatorCase) -> int:
    """How often the border may repeat a pixel: no axis of it holds more pixels than these."""
    if case.pad_mode == "constant":
        return 1
    return math.prod(1 + sum(pad) for pad in case.problem().pads)


DTYPES = (*backends.FLOATS, *backends.HALVES, *COMPLEX, "int8", "uint16", "int32", "uint64")


@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(case=cases(("float64",)))
def test_convolutions(fast_backend: str, dtype: str, case: OperatorCase) -> None:
    if dtype not in COMPLEX and not backends.serves(fast_backend, dtype):
        return
    x, w = draw(case.x, dtype, "x"), draw(case.w, dtype, "w")
    judge(convolution(case, fast_backend), x, w, f"{case} {dtype}", copies(case))


# -- transposed ones -------------------------------------------------------------------------------


def transposed(spatial: int, x_shape: Any, w_shape: Any, options: dict[str, Any]) -> Bilinear:
    """Return the transposed convolution of such shapes."""
    return bilinear(f"conv_transpose{spatial}d", x_shape, w_shape, options)


@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(case=cases(("float64",), modes=["constant"]), data=st.data())
def test_transposed_convolutions(
    fast_backend: str, dtype: str, case: OperatorCase, data: st.DataObject
) -> None:
    """The case's y is the input; pads need not be even."""
    if dtype not in COMPLEX and not backends.serves(fast_backend, dtype):
        return
    assume(len(case.x) > case.spatial)
    extra = tuple(
        data.draw(st.integers(0, max(step, spread) - 1))
        for step, spread in zip(case.stride, case.dilation, strict=True)
    )
    options = {
        "stride": case.stride, "pad": case.pad, "output_padding": extra, "flip": case.flip,
        "dilation": case.dilation, "groups": case.groups, "layout": case.layout,
        "backend": fast_backend,
    }  # fmt: skip
    operator = transposed(case.spatial, case.y, case.w, options)
    x, w = draw(case.y, dtype, "x"), draw(case.w, dtype, "w")
    try:
        operator.y(x, w)
    except fastconv.ShapeError:  # so much is cut off that nothing is left
        assume(False)
    judge(operator, x, w, f"{case} {dtype} {extra}")


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("pad", ["same", "same_lower", "valid"])
@pytest.mark.parametrize("larger", [0, 3])
def test_transposed_convolutions_of_a_size_that_is_asked_for(
    fast_backend: str, spatial: int, pad: str, larger: int
) -> None:
    """Also where y is larger than all copies of the kernel."""
    options: dict[str, Any] = {"stride": 2, "pad": pad, "backend": fast_backend}
    if pad != "valid":
        options["output_shape"] = tuple(range(9 + larger, 9 + larger + spatial))
    x, w = draw((2, 3, 5, 5, 5)[: spatial + 2], "int16"), draw((3, 2, *(3,) * spatial), "int16")
    judge(transposed(spatial, x.shape, w.shape, options), x, w, options)


# -- kernels of each image's own, and layers made of two convolutions ------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@few
@given(case=cases(("float64",)))
def test_kernels_of_each_image(fast_backend: str, dtype: str, case: OperatorCase) -> None:
    if dtype not in COMPLEX and not backends.serves(fast_backend, dtype):
        return
    assume(case.spatial == 2 and len(case.x) == 4)
    options = {**case.options, "backend": fast_backend}
    kernels = (case.x[0], *case.w)
    operator = bilinear("conv2d_per_sample", case.x, kernels, options)
    x, w = draw(case.x, dtype, "x"), draw(kernels, dtype, "w")
    judge(operator, x, w, f"{case} {dtype}", copies(case))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "complex64"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pad_mode", ["constant", "symmetric"])
def test_depthwise_and_separable(fast_backend: str, dtype: str, layout: str, pad_mode: str) -> None:
    """Their gradients are those of convolutions of groups, one after the other."""
    shape = (2, 3, 8, 7) if layout == "NCHW" else (2, 8, 7, 3)
    own = {"layout": layout, "backend": fast_backend}
    options = {"stride": (2, 1), "pad": ((1, 2), (0, 1)), "pad_mode": pad_mode, **own}
    x, w = draw(shape, dtype, "x"), draw((6, 1, 3, 2), dtype, "w")
    operator = Bilinear(
        lambda x, w: fastconv.depthwise_conv2d(x, w, **options),
        lambda w, gy: fastconv.conv2d_input_grad(shape, w, gy, groups=3, **options),
        lambda x, gy: fastconv.conv2d_weight_grad(x, w.shape, gy, groups=3, **options),
    )
    judge(operator, x, w, "depthwise", copies=16)
    if dtype == "int8":
        return  # sums of bytes are no bytes: the second convolution would take int32
    mix = draw((5, 6, 1, 1), dtype, "mix")
    chained = Bilinear(
        lambda x, w: fastconv.separable_conv2d(x, w, mix, **options),
        lambda w, gy: operator.x(w, fastconv.conv2d_input_grad(between, mix, gy, **own)),
        lambda x, gy: operator.w(x, fastconv.conv2d_input_grad(between, mix, gy, **own)),
    )
    between = operator.y(x, w).shape
    judge_chain(chained, x, w, mix)


def judge_chain(operator: Bilinear, x: Array, w: Array, mix: Array) -> None:
    """As `judge`, for two convolutions: sums of magnitudes go through both of them."""
    y = operator.y(x, w)
    gy = draw(y.shape, x.dtype.name, "gy")
    sums = product(y, gy), product(x, operator.x(w, gy)), product(w, operator.w(x, gy))
    k = mix.shape[0]
    every = np.abs(w).sum() * np.abs(x).max() * np.abs(mix).sum() / k * np.abs(gy).sum()
    bound = 8 * (w.size + mix.size + y.size) * np.finfo(x.dtype).eps * every
    for name, got in zip(("input", "weight"), sums[1:], strict=True):
        assert abs(sums[0] - got) <= bound, f"separable: {name} gradient"


# -- filters, patches and moved taps ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "float64", "complex128"])
@pytest.mark.parametrize(("mode", "back"), [("full", "valid"), ("valid", "full")])
def test_filters_are_adjoint_to_one_another(
    fast_backend: str, dtype: str, mode: str, back: str
) -> None:
    """<correlate(a, k), g> = <a, convolve(g, k)>, and with the names turned round."""
    a, k = draw((9, 8), dtype, "a"), draw((4, 3), dtype, "k")
    for forward, backward in (
        (fastconv.correlate2d, fastconv.convolve2d), (fastconv.convolve2d, fastconv.correlate2d)
    ):  # fmt: skip
        y = forward(a, k, mode, backend=fast_backend)
        g = draw(y.shape, dtype, "g")
        left = product(y, g)
        right = product(a, backward(g, k, back, backend=fast_backend))
        if dtype == "int16":  # as SciPy's, of the operands' dtype
            assert (left - right) % 2**16 == 0
            continue
        bound = 8 * k.size * np.finfo(dtype).eps * np.abs(g).sum() * np.abs(k).sum()
        assert abs(left - right) <= bound * np.abs(a).max(), forward.__name__


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_moved_taps_are_linear_in_images_weights_and_masks(
    backend: str, masked: bool, groups: int
) -> None:
    """Whole moves of whole numbers: every sum is exact, and linear in all but the offsets."""
    rng = generator("deform", masked, groups)
    shapes = ((2, 4, 7, 6), (6, 4 // groups, 3, 2), (2, 24, 7, 7), (2, 12, 7, 7))
    options = {"pad": 1, "groups": groups, "offset_groups": 2, "backend": backend}

    def whole(shape: tuple[int, ...]) -> Array:
        return rng.integers(-5, 6, shape).astype("f8")

    x, w, moves, mask = map(whole, shapes)

    def run(x: Array, w: Array, mask: Array) -> Array:
        scale = mask if masked else None
        y: Array = fastconv.deform_conv2d(x, w, moves, mask=scale, **options)
        return y

    y, both = run(x, w, mask), run(3 * x, -2 * w, mask)
    assert y.any()
    np.testing.assert_array_equal(both, -6 * y)
    other = whole(shapes[0])
    np.testing.assert_array_equal(run(x + other, w, mask), y + run(other, w, mask))
    other = whole(shapes[1])
    np.testing.assert_array_equal(run(x, w + other, mask), y + run(x, other, mask))
    if masked:
        other = whole(shapes[3])
        np.testing.assert_array_equal(run(x, w, mask + other), y + run(x, w, other))
        assert not run(x, w, 0 * mask).any()


# -- the test, tested ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", ["x", "w", "conjugate"])
def test_wrong_gradients_are_noticed(dtype: str, wrong: str) -> None:
    """One tap left out, one image left out, a conjugate forgotten."""
    case = OperatorCase((2, 2, 6, 5), (3, 2, 3, 3), pad=1, dtype="float64")
    right = convolution(case, "reference")

    def without_a_tap(w: Array, gy: Array) -> Array:
        less = w.copy()
        less[:, :, 0, 0] = 0
        return right.x(less, gy)

    def without_an_image(x: Array, gy: Array) -> Array:
        less = gy.copy()
        less[1] = 0
        return right.w(x, less)

    bugs = {
        "x": right._replace(x=without_a_tap),
        "w": right._replace(w=without_an_image),
        "conjugate": right._replace(x=lambda w, gy: right.x(w.conj(), gy)),
    }
    x, w = draw(case.x, dtype, "x"), draw(case.w, dtype, "w")
    judge(right, x, w, "right")
    if wrong == "conjugate" and dtype not in COMPLEX:
        judge(bugs[wrong], x, w, "real numbers are their own conjugates")
        return
    with pytest.raises(AssertionError, match="gradient"):
        judge(bugs[wrong], x, w, wrong)
