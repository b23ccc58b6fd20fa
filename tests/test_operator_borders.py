"""Borders: every operator on every border mode is the operator on `numpy.pad`'s image.

Gradients are those of the padded image, added up where `numpy.pad` took each pixel from. And the
border names of SciPy's filters, of both kinds, for kernels of any size.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from support.cases import generator

import fastconv
from fastconv.borders import PAD_MODES

Array = np.ndarray[Any, Any]

#: Images and pads: wider than the image, on one side alone, none along an axis, one pixel.
IMAGES: list[tuple[tuple[int, ...], tuple[tuple[int, int], ...]]] = [
    ((7,), ((2, 3),)),
    ((3,), ((0, 8),)),
    ((5, 6), ((1, 2), (3, 0))),
    ((2, 3), ((5, 0), (4, 7))),
    ((1, 4), ((2, 1), (0, 0))),
    ((3, 4, 2), ((1, 2), (0, 3), (2, 2))),
    ((1, 1, 5), ((2, 0), (1, 1), (6, 1))),
]
CASES = pytest.mark.parametrize(
    ("image", "pads"), IMAGES, ids=["x".join(map(str, i)) + f"-{p}" for i, p in IMAGES]
)
MODES = pytest.mark.parametrize("mode", PAD_MODES)


def whole(*shape: int) -> Array:
    """Draw small integers, held in float64: every sum is exact."""
    return generator(shape).integers(-9, 9, shape, endpoint=True).astype("f8")


def padded(x: Array, pads: Any, mode: str, first: int = 2) -> Array:
    """Pad the axes of the image, which begin at `first`."""
    around = ((0, 0),) * first + tuple(pads) + ((0, 0),) * (x.ndim - first - len(pads))
    result: Array = np.pad(x, around, mode=mode)  # type: ignore[call-overload]
    return result


def folded(gx: Array, image: tuple[int, ...], pads: Any, mode: str) -> Array:
    """Return the adjoint of `padded`: every pixel of the border is added to where it came from."""
    number = np.arange(1, 1 + np.prod(image)).reshape(image)
    source = np.pad(number, pads, mode=mode)
    found = np.zeros((*gx.shape[:2], 1 + number.size))
    for place in np.ndindex(source.shape):
        found[..., source[place]] += gx[(..., *place)]  # zeros of a constant border go to 0
    return found[..., 1:].reshape(*gx.shape[:2], *image)


@MODES
@CASES
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_convolutions_and_gradients(
    backend: str, mode: str, image: tuple[int, ...], pads: Any, last: bool
) -> None:
    d = len(image)
    layout = {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[d][last]
    options: dict[str, Any] = {
        "stride": (2, 1, 2)[:d], "dilation": (1, 2, 1)[:d], "groups": 2, "backend": backend,
    }  # fmt: skip
    with_border = {**options, "pad": pads, "pad_mode": mode, "layout": layout}
    x, w = whole(2, 4, *image), whole(6, 2, *(2, 1, 2)[:d])
    name = f"conv{d}d"
    forward, input_grad, weight_grad = (
        getattr(fastconv, name + suffix) for suffix in ("", "_input_grad", "_weight_grad")
    )

    def held(images: Array) -> Array:
        return np.moveaxis(images, 1, -1).copy() if last else images

    around = padded(x, pads, mode)
    y = forward(around, w, **options)
    np.testing.assert_array_equal(forward(held(x), w, **with_border), held(y))
    gy = whole(*y.shape)
    gx = folded(input_grad(around.shape, w, gy, **options), image, pads, mode)
    got = input_grad(held(x).shape, w, held(gy), **with_border)
    np.testing.assert_array_equal(got, held(gx))
    gw = weight_grad(around, w.shape, gy, **options)
    np.testing.assert_array_equal(weight_grad(held(x), w.shape, held(gy), **with_border), gw)
    alls = getattr(fastconv, f"{name}_grads")(held(x), w, held(gy), **with_border)
    np.testing.assert_array_equal(alls.x, held(gx))
    np.testing.assert_array_equal(alls.w, gw)


FLAT = pytest.mark.parametrize(
    ("image", "pads"), [case for case in IMAGES if len(case[0]) == 2], ids=str
)


@MODES
@FLAT
def test_kernels_of_each_image(
    fast_backend: str, mode: str, image: tuple[int, ...], pads: Any
) -> None:
    options: dict[str, Any] = {"stride": 2, "groups": 2, "backend": fast_backend}
    border = {**options, "pad": pads, "pad_mode": mode}
    x, w = whole(2, 4, *image), whole(2, 6, 2, 2, 1)
    around = padded(x, pads, mode)
    y = fastconv.conv2d_per_sample(around, w, **options)
    np.testing.assert_array_equal(fastconv.conv2d_per_sample(x, w, **border), y)
    gy = whole(*y.shape)
    gx = fastconv.conv2d_per_sample_input_grad(around.shape, w, gy, **options)
    np.testing.assert_array_equal(
        fastconv.conv2d_per_sample_input_grad(x.shape, w, gy, **border),
        folded(gx, image, pads, mode),
    )
    np.testing.assert_array_equal(
        fastconv.conv2d_per_sample_weight_grad(x, w.shape, gy, **border),
        fastconv.conv2d_per_sample_weight_grad(around, w.shape, gy, **options),
    )


@MODES
@FLAT
def test_layers_of_images(fast_backend: str, mode: str, image: tuple[int, ...], pads: Any) -> None:
    """Depthwise, separable and quantised convolutions."""
    own = {"backend": fast_backend}
    border = {"pad": pads, "pad_mode": mode, **own}
    x, w, mix = whole(2, 4, *image), whole(8, 1, 2, 2), whole(3, 8, 1, 1)
    around = padded(x, pads, mode)
    if min(around.shape[2:]) < 2:
        w = w[..., :1, :1]
    np.testing.assert_array_equal(
        fastconv.depthwise_conv2d(x, w, **border), fastconv.depthwise_conv2d(around, w, **own)
    )
    np.testing.assert_array_equal(
        fastconv.separable_conv2d(x, w, mix, **border),
        fastconv.separable_conv2d(around, w, mix, **own),
    )
    # the border of a quantised image is zero where its numbers are: pixels of the zero point
    pixels, bytes_ = (x + 20).astype("u1"), w.astype("i1")
    values: dict[str, Any] = {"constant_values": 20} if mode == "constant" else {}
    border_of_zero = np.pad(pixels, ((0, 0), (0, 0), *pads), mode=mode, **values)
    zeros: dict[str, Any] = {"x_zero_point": 20, "w_zero_point": 3}
    np.testing.assert_array_equal(
        fastconv.conv2d_integer(pixels, bytes_, groups=4, **zeros, **border),
        fastconv.conv2d_integer(border_of_zero, bytes_, groups=4, **zeros, **own),
    )
    scales: Any = (0.25, 20, bytes_, 0.5, 3, 2, 1)
    np.testing.assert_array_equal(
        fastconv.qlinear_conv2d(pixels, *scales, groups=4, **border),
        fastconv.qlinear_conv2d(border_of_zero, *scales, groups=4, **own),
    )


@MODES
@CASES
def test_patches(mode: str, image: tuple[int, ...], pads: Any) -> None:
    x, kernel = whole(2, 3, *image), (2, 1, 2)[: len(image)]
    got = fastconv.im2col(x, kernel, 2, pads, pad_mode=mode)
    around = padded(x, pads, mode)
    np.testing.assert_array_equal(got, fastconv.im2col(around, kernel, 2))
    if mode == "constant":
        gx = fastconv.col2im(got, around.shape[2:], kernel, 2)
        inside = tuple(slice(b, b + size) for size, (b, _) in zip(image, pads, strict=True))
        want = gx[(..., *inside)]
        np.testing.assert_array_equal(fastconv.col2im(got, image, kernel, 2, pads), want)


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("function", ["correlate2d", "convolve2d"])
def test_filters(fast_backend: str, function: str, boundary: str) -> None:
    """`scipy.signal` has one name for what `numpy.pad` does, and cuts by another rule."""
    mode = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}[boundary]
    for image, kernel in (((5, 6), (3, 2)), ((2, 3), (6, 5)), ((4, 1), (1, 4))):
        a, k = whole(*image), whole(*kernel)
        ends = tuple((taps - 1, taps - 1) for taps in kernel)
        around = padded(a, ends, mode, 0)
        own = getattr(fastconv, function)
        got = own(a, k, "full", boundary, backend=fast_backend)
        np.testing.assert_array_equal(got, own(around, k, "valid", backend=fast_backend))
        np.testing.assert_array_equal(got, getattr(scipy.signal, function)(a, k, "full", boundary))


# -- scipy.ndimage ---------------------------------------------------------------------------------

#: Its names for borders, and ours.
NDIMAGE = {
    "constant": "constant", "grid-constant": "constant", "nearest": "edge", "reflect": "symmetric",
    "grid-mirror": "symmetric", "mirror": "reflect", "wrap": "wrap", "grid-wrap": "wrap",
}  # fmt: skip
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((9,), (3,)), ((8,), (4,)), ((2,), (9,)), ((8, 9), (3, 5)), ((7, 6), (2, 4)), ((5, 4), (1, 3)),
    ((2, 3), (7, 5)), ((1, 5), (3, 3)), ((4, 5, 3), (3, 2, 1)), ((3, 2, 4), (3, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("mode", NDIMAGE)
@pytest.mark.parametrize(("image", "kernel"), SHAPES, ids=str)
def test_ndimage(fast_backend: str, image: Any, kernel: Any, mode: str) -> None:
    """A kernel of even size has its centre behind its middle, turned round before it."""
    a, k = whole(*image), whole(*kernel)
    name = f"conv{len(image)}d"
    options = {"pad_mode": NDIMAGE[mode], "backend": fast_backend}
    got = getattr(fastconv, name)(a, k, pad="same_lower", **options)
    np.testing.assert_array_equal(got, scipy.ndimage.correlate(a, k, mode=mode))
    got = getattr(fastconv, name)(a, k, pad="same", flip=True, **options)
    np.testing.assert_array_equal(got, scipy.ndimage.convolve(a, k, mode=mode))


@pytest.mark.parametrize("origin", [-1, 0, 1])
@pytest.mark.parametrize("mode", NDIMAGE)
def test_ndimage_with_another_origin(mode: str, origin: int) -> None:
    """`origin` moves the kernel: as many pixels of the border from one end to the other."""
    a, k = whole(6, 7), whole(3, 5)
    pads = tuple((t // 2 + origin, t - 1 - t // 2 - origin) for t in k.shape)
    got = fastconv.conv2d(a, k, pad=pads, pad_mode=NDIMAGE[mode])
    np.testing.assert_array_equal(got, scipy.ndimage.correlate(a, k, mode=mode, origin=origin))


def test_ndimage_filters_lines_as_signals() -> None:
    """`correlate1d` along an axis: signals of one channel."""
    a, k = whole(5, 9), whole(4)
    for mode, ours in NDIMAGE.items():
        got = fastconv.conv1d(a[:, None], k[None, None], pad="same_lower", pad_mode=ours)[:, 0]
        np.testing.assert_array_equal(got, scipy.ndimage.correlate1d(a, k, mode=mode))


# -- the tests, tested -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", PAD_MODES)
def test_the_judge_knows_the_modes_apart(mode: str) -> None:
    """No two borders, and no two folds, are the same for the images above."""
    for (image, pads), other in itertools.product(IMAGES[2:3], PAD_MODES):
        x = whole(1, 1, *image)
        same = np.array_equal(padded(x, pads, mode), padded(x, pads, other))
        assert same == (mode == other)
        g = whole(1, 1, *(s + sum(p) for s, p in zip(image, pads, strict=True)))
        folds = [folded(g, image, pads, m) for m in (mode, other)]
        assert np.array_equal(*folds) == (mode == other)
        assert (padded(x, pads, mode) * g).sum() == (x * folds[0]).sum(), "the fold is the adjoint"
