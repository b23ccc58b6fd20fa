"""`im2col`, its view and `col2im` against PyTorch, ONNX's reference and the convolution itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastconv
from fastconv.borders import PAD_MODES


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Draw images, a kernel and how it moves, in one to three dimensions."""
    spatial = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(spatial))

    image, kernel, dilation = each(1, 7), each(1, 3), each(1, 2)
    pad = tuple(
        (draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(spatial)
    )  # fmt: skip
    fits = zip(image, kernel, dilation, pad, strict=True)
    assume(all(size + sum(ends) > (taps - 1) * d for size, taps, d, ends in fits))
    return {
        "shape": (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *image), "kernel": kernel,
        "stride": each(1, 3), "dilation": dilation, "pad": pad,
    }  # fmt: skip


def definition(
    x: np.ndarray, kernel: Any, stride: Any, pad: Any, dilation: Any, pad_mode: str
) -> np.ndarray:
    """Patches of a padded image, one element after the other."""
    padded = np.pad(x, ((0, 0), (0, 0), *pad), mode=pad_mode)
    spatial = len(kernel)
    outputs = tuple(
        (padded.shape[2 + a] - (kernel[a] - 1) * dilation[a] - 1) // stride[a] + 1
        for a in range(spatial)
    )
    columns = np.empty((*x.shape[:2], *kernel, *outputs), x.dtype)
    for tap in np.ndindex(*kernel):
        for output in np.ndindex(*outputs):
            where = (output[a] * stride[a] + tap[a] * dilation[a] for a in range(spatial))
            columns[(..., *tap, *output)] = padded[(..., *where)]
    return columns


@given(problem=problems(), pad_mode=st.sampled_from(PAD_MODES), last=st.booleans())
def test_patches(problem: dict[str, Any], pad_mode: str, last: bool) -> None:
    shape = problem.pop("shape")
    x = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    want = definition(x, pad_mode=pad_mode, **problem)
    options: dict[str, Any] = dict(problem, pad_mode=pad_mode)
    held = x
    if last:
        held = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        options["layout"] = {1: "NLC", 2: "NHWC", 3: "NDHWC"}[len(problem["kernel"])]
    got = fastconv.im2col(held, fold=False, **options)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, want)
    n, taps = shape[0], shape[1] * int(np.prod(problem["kernel"]))
    np.testing.assert_array_equal(fastconv.im2col(held, **options), want.reshape(n, taps, -1))
    np.testing.assert_array_equal(fastconv.im2col(held[0], **options), want[0].reshape(taps, -1))


@given(problem=problems(), last=st.booleans())
def test_views(problem: dict[str, Any], last: bool) -> None:
    shape, _ = problem.pop("shape"), problem.pop("pad")
    reach = zip(shape[2:], problem["kernel"], problem["dilation"], strict=True)
    assume(all(size > (taps - 1) * d for size, taps, d in reach))
    x = np.arange(np.prod(shape)).reshape(shape)
    layout = None
    if last:
        x = np.moveaxis(x, 1, -1)
        layout = {1: "NLC", 2: "NHWC", 3: "NDHWC"}[len(problem["kernel"])]
    view = fastconv.im2col_view(x, **problem, layout=layout)
    np.testing.assert_array_equal(view, fastconv.im2col(x, **problem, layout=layout, fold=False))
    assert np.shares_memory(view, x)
    assert not view.flags.writeable
    assert fastconv.im2col_view(x[0], **problem, layout=layout).shape == view.shape[1:]


@given(problem=problems(), last=st.booleans())
def test_sums_are_the_transpose(problem: dict[str, Any], last: bool) -> None:
    """<im2col(x), c> = <x, col2im(c)>, of integers."""
    shape = problem.pop("shape")
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape)
    columns = fastconv.im2col(x, **problem)
    c = rng.integers(-9, 9, columns.shape)
    layout = {1: "NLC", 2: "NHWC", 3: "NDHWC"}[len(problem["kernel"])] if last else None
    images = fastconv.col2im(c, shape[2:], layout=layout, **problem)
    alone = fastconv.col2im(c[0], shape[2:], layout=layout, **problem)
    np.testing.assert_array_equal(alone, images[0])
    images = np.moveaxis(images, -1, 1) if last else images
    assert images.shape == x.shape
    assert (columns * c).sum() == (x * images).sum()


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("pad", [0, 1, (2, 0)])
@pytest.mark.parametrize("dilation", [1, (1, 2)])
def test_as_torch(stride: Any, pad: Any, dilation: Any) -> None:
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 9, 8)).astype("f4")
    want = functional.unfold(torch.from_numpy(x), (3, 2), dilation, pad, stride).numpy()
    got = fastconv.im2col(x, (3, 2), stride, pad, dilation=dilation)
    np.testing.assert_array_equal(got, want)
    columns = rng.integers(-9, 9, want.shape).astype("f4")  # exact in any order
    want = functional.fold(torch.from_numpy(columns), (9, 8), (3, 2), dilation, pad, stride).numpy()
    got = fastconv.col2im(columns, (9, 8), (3, 2), stride, pad, dilation=dilation)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("image", "kernel", "pads", "strides", "dilations"),
    [
        ((5, 5), (1, 5), (0, 0, 0, 0), (1, 1), (1, 1)),
        ((5, 6), (2, 3), (1, 0, 2, 1), (2, 1), (1, 2)),
        ((7,), (3,), (1, 2), (2,), (2,)),
        ((4, 5, 5), (1, 2, 3), (0, 1, 1, 1, 0, 0), (1, 2, 1), (2, 1, 1)),
    ],
)
def test_as_onnx(image: Any, kernel: Any, pads: Any, strides: Any, dilations: Any) -> None:
    helper = pytest.importorskip("onnx.helper")
    reference = pytest.importorskip("onnx.reference")
    node = helper.make_node("Col2Im", ["c", "i", "b"], ["y"], pads=pads, strides=strides,
                            dilations=dilations)  # fmt: skip
    evaluator = reference.ReferenceEvaluator(node)
    half = len(image)
    ends = tuple(zip(pads[:half], pads[half:], strict=True))
    x = np.ones((2, 3, *image), "f4")
    shape = fastconv.im2col(x, kernel, strides, ends, dilation=dilations).shape
    cols = np.random.default_rng(0).integers(-9, 9, shape).astype("f4")
    want = evaluator.run(None, {"c": cols, "i": np.array(image), "b": np.array(kernel)})[0]
    got = fastconv.col2im(cols, image, kernel, strides, ends, dilation=dilations)
    np.testing.assert_array_equal(got, want)


def test_columns_times_weights_are_the_convolution() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(-9, 9, (2, 3, 8, 9)), rng.integers(-9, 9, (4, 3, 3, 2))
    y = w.reshape(4, -1) @ fastconv.im2col(x, (3, 2), 2, "same")
    want = fastconv.conv2d(x, w, 2, "same")
    np.testing.assert_array_equal(y.reshape(want.shape), want)


def test_halves_are_added_up_in_float32() -> None:
    columns = np.ones((4096, 4096), "f2")
    columns[::2] = 0
    image = fastconv.col2im(columns[:, ::4], (1, 5119), (1, 4096))
    assert image.dtype == np.float16
    assert image.max() == 512


@pytest.mark.parametrize("dtype", ["c8", "?", ">f4", "i1"])
def test_any_dtype(dtype: str) -> None:
    x = (np.arange(32).reshape(2, 1, 4, 4) % 3).astype(dtype)
    columns = fastconv.im2col(x, 2, 2)
    assert columns.dtype == x.dtype
    if dtype != "?":
        np.testing.assert_array_equal(fastconv.col2im(columns, (4, 4), 2, 2), x)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fastconv.im2col(np.ones((1, 3, 3)), 4), "the kernel covers 4 pixels"),
        (lambda: fastconv.im2col(np.ones((3, 3)), 2), r"im2col takes x \(N, C, H, W\) or \(C"),
        (lambda: fastconv.im2col(np.ones((1, 3, 3)), 0), "kernel must be at least 1"),
        (lambda: fastconv.im2col(np.ones((1, 3, 3)), (1, 1, 1, 1)), "one to three sizes"),
        (lambda: fastconv.im2col(np.ones((1, 3, 3)), 2, pad_mode="mirror"), "unknown pad_mode"),
        (lambda: fastconv.im2col(np.ones((1, 3, 3)), 2, layout="HWC"), "unknown layout"),
        (lambda: fastconv.im2col_view(np.ones((1, 3, 3)), (2, 5)), "the kernel covers 5 pixels"),
        (lambda: fastconv.col2im(np.ones((5, 4)), (3, 3), 2), r"cols \(N, C\*4, L\).*\(5, 4\)"),
        (lambda: fastconv.col2im(np.ones((4, 5)), (3, 3), 2), r"have 5 patches.* 2 \* 2 = 4"),
        (lambda: fastconv.col2im(np.ones((4, 4)), (3, 3, 3, 3), 2), "one to three sizes"),
    ],
)
def test_errors(call: Any, says: str) -> None:
    with pytest.raises(fastconv.ShapeError, match=says):
        call()


def test_sizes_that_are_no_integers() -> None:
    with pytest.raises(TypeError, match="image_shape must be a sequence"):
        fastconv.col2im(np.ones((4, 4)), 3, 2)
    with pytest.raises(TypeError, match="kernel must be an integer"):
        fastconv.im2col(np.ones((1, 3, 3)), 2.0)
