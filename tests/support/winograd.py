"""Problems that take Winograd's minimal filtering, and how its results are judged.

The choice is a function of the problem alone, so each case names the tile that it must take.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastconv
from fastconv import accuracy

from .cases import Arrays, Case, logical_image, logical_kernel
from .judge import compute, on

Array = np.ndarray[Any, Any]


class Tile(NamedTuple):
    """Outputs of a tile, taps, and the class: errors of one large pixel are ``limit * u * T``."""

    rows: int
    columns: int
    taps: int
    limit: int


TILES = {
    "f2x3": Tile(2, 2, 3, 16),
    "f4x3": Tile(4, 4, 3, 32),
    "f5x3": Tile(5, 5, 3, 96),
    "f6x4x3": Tile(6, 4, 3, 96),
    "f2x5": Tile(2, 2, 5, 32),
    "f3x5": Tile(3, 3, 5, 96),
}

CASES = [
    (Case((2, 24, 4, 4), (24, 24, 3, 3), pad=1), "f2x3"),
    (Case((1, 33, 6, 5), (49, 33, 3, 3), pad=1, bias=True), "f6x4x3"),
    (Case((1, 128, 3, 3), (128, 128, 3, 3), pad=1), "f2x3"),
    (Case((2, 24, 8, 8), (24, 24, 3, 3), pad=1, bias=True), "f4x3"),
    (Case((1, 17, 13, 15), (37, 17, 3, 3), pad=1), "f5x3"),
    (Case((3, 16, 6, 6), (16, 16, 3, 3), pad=1), "f6x4x3"),
    (Case((1, 31, 12, 18), (19, 31, 3, 3), pad=1, bias=True), "f6x4x3"),
    (Case((1, 16, 29, 71), (33, 16, 3, 3), pad=((0, 2), (3, 1))), "f5x3"),
    (Case((1, 64, 30, 12), (34, 32, 3, 3), pad=1, groups=2), "f6x4x3"),
    (Case((1, 64, 3, 4), (64, 64, 5, 5), pad=2), "f2x5"),
    (Case((2, 16, 9, 11), (17, 16, 5, 5), pad=2, bias=True), "f3x5"),
    (Case((1, 13, 20, 20), (20, 13, 5, 5), pad="full"), "f3x5"),
]
CASES += [(case.channels_last(), tile) for case, tile in CASES]


def logical(case: Case, arrays: Arrays) -> tuple[Array, Array]:
    return logical_image(arrays.x, case.layout), logical_kernel(arrays.w, case.flip)


def fast(case: Case, arrays: Arrays, tile: str, **options: Any) -> Array:
    """Convolve a case, which must take `tile`."""
    report = fastconv.explain(
        arrays.x, arrays.w, bias=arrays.bias, precision="fast", backend="native", **case.arguments
    )
    assert report.algorithm == f"winograd_{tile}", f"{case} takes {report.algorithm}"
    return compute(on("native", precision="fast"), case, arrays, **options)


def judge(case: Case, arrays: Arrays, got: Array, tile: str) -> accuracy.Verdict:
    """Hold a result against the bound of its tile."""
    x, w = logical(case, arrays)
    found = accuracy.check(
        case.problem, x, w, arrays.bias, logical_image(got, case.layout),
        algorithm=f"winograd_{tile}",
    )  # fmt: skip
    assert found.ok, f"{case} {case.dtype}: {found.ratio:g} times the bound of {tile}"
    return found


def relative(case: Case, arrays: Arrays, got: Array) -> float:
    """L2 error of a result as a share of its norm."""
    x, w = logical(case, arrays)
    want = accuracy.expected(case.problem, x, w, arrays.bias).y
    error = logical_image(got, case.layout) - want
    return float(np.sqrt((error**2).sum() / (want**2).sum()))


def of_largest(case: Case, arrays: Arrays, got: Array, tile: str) -> float:
    """Largest error in units of u*T, T = sum over c of the tile's largest |x_c| * sum |w_c|.

    One group, without bias and activation, stride 1, constant border.
    """
    x, w = (a.astype(np.longdouble) for a in logical(case, arrays))
    want = accuracy.expected(case.problem, x, w).y
    error = np.abs(logical_image(got, case.layout) - want)
    rows, columns, taps, _ = TILES[tile]
    (top, _), (left, _) = case.problem.pad
    n, _, p, q = error.shape
    largest = np.zeros((n, x.shape[1], p, q), np.longdouble)
    for i in range(0, p, rows):
        for j in range(0, q, columns):
            height, width = i + rows + taps - 1 - top, j + columns + taps - 1 - left
            under = np.abs(x[:, :, max(0, i - top) : height, max(0, j - left) : width])
            reached = under.max(axis=(2, 3), initial=0)[:, :, None, None]
            largest[:, :, i : i + rows, j : j + columns] = reached
    scale = np.einsum("ncpq,kc->nkpq", largest, np.abs(w).sum(axis=(2, 3)))
    u = accuracy.unit_roundoff(case.dtype)
    return float(np.where(error == 0, 0, error / np.where(scale == 0, 1, u * scale)).max())


def algorithm(x: tuple[int, ...], w: tuple[int, ...], **arguments: Any) -> str:
    """Name the native algorithm of a fast call, pad 1 unless told."""
    arguments = {"pad": 1, "precision": "fast", "backend": "native", **arguments}
    return fastconv.explain(x, w, **arguments).algorithm
