"""What the operation is: the sliding sum, the printed formula, several kernels at once."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

import fastconv
from benchmarks.claims import plots
from benchmarks.claims.pictures import SOBEL_HORIZONTAL, SOBEL_VERTICAL, house
from benchmarks.claims.record import HOLDS, IMPRECISE, Claim, Plot, Record
from benchmarks.tables import Table

Array = np.ndarray[Any, Any]


def _sliding(image: Array, kernel: Array) -> Array:
    """Do as the article says: place, multiply element-wise, sum, move on."""
    r, s = kernel.shape
    p, q = image.shape[0] - r + 1, image.shape[1] - s + 1
    answer = np.empty((p, q), image.dtype)
    for row in range(p):
        for column in range(q):
            answer[row, column] = (kernel * image[row : row + r, column : column + s]).sum()
    return answer


def _printed_formula(image: Array, kernel: Array) -> Array:
    """(F * I)(x, y) = sum over i, j of F(i, j) * I(x - i, y - j), wherever a term exists."""
    (h, w), (r, s) = image.shape, kernel.shape
    answer = np.zeros((h + r - 1, w + s - 1), image.dtype)
    for x in range(h + r - 1):
        for y in range(w + s - 1):
            for i in range(r):
                for j in range(s):
                    if 0 <= x - i < h and 0 <= y - j < w:
                        answer[x, y] += kernel[i, j] * image[x - i, y - j]
    return answer


def _integers(*shape: int, seed: int = 0) -> Array:
    """Whole numbers so small that float32 sums of their products are exact."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype("float32")


def test_sliding_window(benchmark: Any, record: Record) -> None:
    image, kernel = _integers(40, 56), _integers(5, 4, seed=1)
    answer = benchmark(fastconv.conv2d, image, kernel)
    expected = _sliding(image, kernel)
    differing = int((answer != expected).sum())
    np.testing.assert_array_equal(answer, expected)
    assert answer.shape == (36, 53)
    record(
        Claim(
            "sliding-window",
            "The operation is a sliding sum of products",
            "At each step, the kernel is multiplied element-wise with the part of the image it is "
            "currently on, and the results are summed up to give a single output pixel in the "
            "feature map. [...] This operation is repeated for every location on the input image",
            "The sentence, written as two loops over a 40 x 56 image of whole numbers and a "
            "5 x 4 kernel, against `fastconv.conv2d`.",
            (
                f"{differing} of {answer.size} output pixels differ: the sentence is what "
                "`conv2d` computes, and it is the *cross-correlation* of image and kernel.",
                f'"Every location" means every location at which the kernel fits: '
                f"{answer.shape[0]} x {answer.shape[1]} = {answer.size} of the "
                f"{image.size} pixels. For the others the image must be padded.",
                "With colour channels the kernel is a small volume: it is multiplied with all "
                "channels under it, and the products of all channels are summed.",
            ),
            HOLDS,
            "Exactly, where the kernel fits inside the image.",
        )
    )


def test_formula(benchmark: Any, record: Record) -> None:
    image, kernel = _integers(33, 47, seed=2), _integers(5, 3, seed=3)
    printed = _printed_formula(image, kernel)
    convolved = benchmark(fastconv.conv2d, image, kernel, pad="full", flip=True)
    correlated = fastconv.conv2d(image, kernel, pad="full")
    asymmetric = float((correlated != printed).mean())
    symmetric = kernel + kernel[::-1, ::-1]
    same = fastconv.conv2d(image, symmetric), fastconv.conv2d(image, symmetric, flip=True)
    edges = _picture_of_both()
    findings = [
        'The formula as printed, four loops on whole numbers: `conv2d(..., pad="full", '
        f"flip=True)` is equal in all {printed.size} elements.",
        f"`flip=False`, what neural networks compute, differs in {100 * asymmetric:.0f} % of the "
        "elements for the same kernel, and is equal everywhere for a kernel that a turn by 180 "
        "degrees leaves as it is.",
        "One is the other with the kernel turned by 180 degrees. A network that learns its kernels "
        "can learn either, which is why frameworks leave the turn out; a kernel taken from a book "
        "on image processing may need it: the Sobel kernel's answer changes its sign.",
        "The article's sentences (the kernel lies on the image, products are summed) describe the "
        "correlation, its formula the convolution: F(i, j) meets I(x - i, y - j), mirrored.",
    ]
    if importlib.util.find_spec("scipy") is not None:
        from scipy.signal import convolve2d, correlate2d

        assert (convolve2d(image, kernel) == convolved).all()
        assert (correlate2d(image, kernel) == correlated).all()
        findings.append(
            "`scipy.signal.convolve2d` and `correlate2d` give the same two results, bit for bit."
        )
    np.testing.assert_array_equal(convolved, printed)
    assert asymmetric > 0.5
    np.testing.assert_array_equal(*same)
    record(
        Claim(
            "formula",
            "The printed formula",
            "Mathematically, this can be represented as: (F * I)(x, y) = ∑∑ F(i, j) * "
            "I(x - i, y - j) where F is the kernel, I is the input image",
            "The formula on a 33 x 47 image and a 5 x 3 kernel of whole numbers, against `conv2d` "
            "with `flip=True` and `flip=False`.",
            tuple(findings),
            IMPRECISE,
            "The formula is the true convolution, `flip=True`; the text, and every neural network, "
            "means the cross-correlation.",
            plot=Plot(
                lambda figure: plots.formula(figure, *edges),
                (8.2, 2.9),
                "The same picture and Sobel kernel without and with the turn by 180 degrees: dark "
                "is negative, light positive.",
            ),
        )
    )


def _picture_of_both() -> tuple[Array, Array, Array]:
    picture = house()
    return (
        picture,
        fastconv.conv2d(picture, SOBEL_HORIZONTAL),
        fastconv.conv2d(picture, SOBEL_HORIZONTAL, flip=True),
    )


def test_feature_maps(benchmark: Any, record: Record) -> None:
    names = ("horizontal edges", "vertical edges", "blur", "points")
    box = np.ones((3, 3), "float32")
    points = -box.copy()
    points[1, 1] = 8
    bank = np.stack([SOBEL_HORIZONTAL, SOBEL_VERTICAL, box, points])[:, None]
    picture = house()
    maps = benchmark(fastconv.conv2d, picture[None], bank)
    alone = np.concatenate([fastconv.conv2d(picture[None], bank[k : k + 1]) for k in range(4)])
    flat = maps.reshape(4, -1).astype("float64")
    related = np.corrcoef(flat)
    table = Table(("correlation of maps", *names))
    for name, row in zip(names, related, strict=True):
        table.add(name, *(f"{value:.2f}" for value in row))
    assert maps.shape == (4, 94, 94)
    np.testing.assert_array_equal(maps, alone)
    assert np.abs(related - np.eye(4)).max() < 0.9
    record(
        Claim(
            "feature-maps",
            "Several kernels give several feature maps",
            "multiple kernels are used to create multiple feature maps from the same input image. "
            "Each kernel is designed to detect a different feature",
            "One call with four kernels of 3 x 3 on one picture, against four calls with one.",
            (
                f"{len(bank)} kernels give {maps.shape[0]} maps of {maps.shape[1]} x "
                f"{maps.shape[2]}, each equal, bit for bit, to the map of its kernel alone: "
                "kernels do not influence one another.",
                "The maps show different things, in so far as the kernels differ: the table holds "
                "their correlation. Two equal kernels would give two equal maps; nothing in the "
                "operation makes kernels differ.",
            ),
            HOLDS,
            'Exactly; whether the maps together are "comprehensive" is up to the kernels.',
            (table,),
            Plot(
                lambda figure: plots.feature_maps(figure, picture, maps, names),
                (10, 2.6),
                "A picture and its four feature maps.",
            ),
        )
    )
