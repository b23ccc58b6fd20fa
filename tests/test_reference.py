"""The oracle itself, held against exact fractions, Python integers and numpy.pad."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from support import oracle
from support.backends import FLOATS, INTEGERS
from support.cases import Arrays, Case, draw, generator, logical_image, logical_kernel
from support.judge import on

import fastconv
from fastconv import accuracy
from fastconv.borders import PAD_MODES

TINY = [
    Case((1, 1, 3, 3), (1, 1, 1, 1)),
    Case((2, 3, 4, 5), (2, 3, 2, 3)),
    Case((1, 2, 5, 4), (3, 2, 3, 3), stride=2, pad=1),
    Case((1, 1, 6, 7), (1, 1, 2, 3), stride=(2, 1), dilation=(1, 2), pad=((1, 0), (2, 3))),
    Case((1, 4, 4, 3), (4, 2, 3, 2), groups=2, pad="same", bias=True),
    Case((1, 3, 4, 4), (6, 1, 3, 3), groups=3, pad="same_lower", stride=2),
    Case((2, 4, 4), (1, 2, 3, 3), pad="full", flip=True),
    Case((5, 6), (3, 2), pad=1, flip=True),
    Case((1, 4, 3, 2), (2, 2, 3, 3), layout="NHWC", pad=2, bias=True),
]


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("case", TINY, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_are_the_rounded_exact_sum(case: Case, pad_mode: str, dtype: str) -> None:
    case = case.with_(pad_mode=pad_mode, dtype=dtype)
    arrays = draw(case, "spread")
    got = on("reference")(arrays.x, arrays.w, bias=arrays.bias, **case.arguments)
    exact = oracle.exact(case, arrays)
    magnitude = oracle.exact(case, Arrays(*(None if a is None else np.abs(a) for a in arrays)))
    for value, want, scale in zip(
        logical_image(got, case.layout).flat, exact.flat, magnitude.flat, strict=True
    ):
        error = abs(Fraction(float(value)) - want)
        u = Fraction(2) ** (-24 if dtype == "float32" else -53)
        wide = Fraction(float(np.finfo(np.longdouble).eps)) / 2
        slack = (case.problem.reduction + 1) * wide * scale
        assert error <= u * abs(want) + (1 + u) * slack


@pytest.mark.parametrize("case", TINY, ids=str)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_exact_modulo_two_to_the_bits(case: Case, dtype: str) -> None:
    case = case.with_(dtype=dtype)
    arrays = draw(case, "integers")
    if arrays.bias is not None:
        arrays = arrays._replace(bias=arrays.bias.astype(case.problem.out_dtype))
    got = on("reference")(arrays.x, arrays.w, bias=arrays.bias, **case.arguments)
    info = np.iinfo(case.problem.out_dtype)
    assert got.dtype == info.dtype
    exact = oracle.padded_loops(case, arrays, int)
    for value, want in zip(logical_image(got, case.layout).flat, exact.flat, strict=True):
        assert (int(value) - want) % 2**info.bits == 0


@pytest.mark.parametrize("case", TINY, ids=str)
def test_bounds_are_those_of_the_exact_sums(case: Case) -> None:
    """accuracy.expected: y and S agree with fractions, the bound with the formula."""
    arrays = draw(case, "normal")
    found = accuracy.expected(
        case.problem,
        logical_image(arrays.x, case.layout),
        logical_kernel(arrays.w, case.flip),
        arrays.bias,
    )
    exact = oracle.exact(case, arrays)
    magnitude = oracle.exact(case, Arrays(*(None if a is None else np.abs(a) for a in arrays)))
    n = case.problem.reduction + case.bias
    u, eta = 2.0**-24, 2.0**-149
    for i in np.ndindex(*exact.shape):
        s = float(magnitude[i])
        assert abs(float(found.y[i]) - float(exact[i])) <= 2.0**-50 * s
        assert float(found.magnitude[i]) == pytest.approx(s, rel=1e-14)
        assert float(found.bound[i]) == pytest.approx(n * u / (1 - n * u) * s + n * eta, rel=1e-12)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize(
    "pad", [((0, 0), (0, 1)), ((1, 2), (3, 0)), ((5, 4), (7, 9)), ((13, 0), (0, 17))]
)
@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (4, 1), (1, 1), (2, 3)])
def test_borders_are_those_of_numpy_pad(
    pad_mode: str, pad: tuple[tuple[int, int], tuple[int, int]], shape: tuple[int, int]
) -> None:
    x = generator(shape, pad).standard_normal((1, 2, *shape))
    w = generator("w").standard_normal((3, 2, 2, 1))
    if shape[0] + sum(pad[0]) < 2:
        w = w[:, :, :1]
    got = fastconv.conv2d(x, w, pad=pad, pad_mode=pad_mode, backend="reference")
    padded = np.pad(x, ((0, 0), (0, 0), *pad), mode=pad_mode)
    want = fastconv.conv2d(padded, w, backend="reference")
    assert np.array_equal(got, want)


def test_flip_is_the_convolution_of_the_article() -> None:
    """(F*I)(x, y) = sum over i, j of F(i, j) I(x - i, y - j), summed literally."""
    image = generator("image").integers(-9, 9, (5, 6))
    kernel = generator("kernel").integers(-9, 9, (3, 2))
    got = fastconv.conv2d(image, kernel, pad="full", flip=True, backend="reference")
    want = np.zeros((7, 7), int)
    for x, y in np.ndindex(7, 7):
        for i, j in np.ndindex(3, 2):
            if 0 <= x - i < 5 and 0 <= y - j < 6:
                want[x, y] += kernel[i, j] * image[x - i, y - j]
    assert np.array_equal(got, want)


def test_scipy_agrees() -> None:
    signal = pytest.importorskip("scipy.signal")
    image = generator("image").standard_normal((23, 17))
    kernel = generator("kernel").standard_normal((5, 4))
    for mode in ("full", "valid"):
        for flip, function in ((False, signal.correlate2d), (True, signal.convolve2d)):
            got = fastconv.conv2d(image, kernel, pad=mode, flip=flip, backend="reference")
            np.testing.assert_allclose(got, function(image, kernel, mode), rtol=0, atol=1e-13)
