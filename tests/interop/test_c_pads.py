"""fastconv.h: gradients of images with pixels that the convolution has not read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import backends, c_api
from support.c_api import Failed, Plan

from fastconv.geometry import output_size

#: c, k, groups, image, kernel, stride, dilation: an algorithm each.
SHAPES = (
    (8, 8, 8, (13, 38), (3, 3), 2, 1),  # depthwise, strided
    (8, 8, 8, (13, 38), (3, 3), 1, 1),  # depthwise
    (3, 32, 1, (13, 21), (7, 7), 2, 1),  # products, folded
    (3, 32, 1, (13, 21), (3, 5), 1, 1),
    (16, 20, 1, (11, 12), (3, 3), 3, 2),  # phases
    (12, 6, 3, (9, 14), (2, 3), 1, 2),
)
PADS = ((-1, 0), (0, -1), (-3, 1), (2, -5), (-4, -4), (-2, 9))


def scattered(gy: Any, w: Any, shape: Any, before: Any, stride: int, spread: int, g: int) -> Any:
    """Return the gradient of x, by its definition."""
    n, k, p, q = gy.shape
    far = 40  # beyond any border
    padded = np.zeros((n, shape[1], shape[2] + 2 * far, shape[3] + 2 * far))
    groups = gy.reshape(n, g, k // g, p, q), w.reshape(g, k // g, *w.shape[1:])
    for r, s in np.ndindex(*w.shape[2:]):
        met = np.einsum("ngkpq,gkc->ngcpq", groups[0], groups[1][..., r, s])
        top, left = far - before[0] + r * spread, far - before[1] + s * spread
        rows = slice(top, top + (p - 1) * stride + 1, stride)
        cols = slice(left, left + (q - 1) * stride + 1, stride)
        padded[:, :, rows, cols] += met.reshape(n, -1, p, q)
    return padded[:, :, far:-far, far:-far]


@pytest.mark.parametrize("dtype", [*backends.FLOATS, *backends.HALVES])
@pytest.mark.parametrize("last", [False, True])
def test_negative_pads_of_a_gradient(dtype: str, last: bool) -> None:
    """Pixels that y has not read are zeros; the others are those of any gradient."""
    backends.present("native")
    rng = np.random.default_rng(5)
    for c, k, groups, image, kernel, stride, dilation in SHAPES:
        for rows, cols in zip(PADS, PADS[2:] + PADS[:2], strict=True):
            pads = rows, cols
            outputs = [
                output_size(size, taps, stride, pad, dilation)
                for size, taps, pad in zip(image, kernel, pads, strict=True)
            ]
            if min(outputs) < 1:
                continue
            w = rng.integers(-2, 3, (k, c // groups, *kernel))
            gy = rng.integers(-2, 3, (2, k, *outputs))
            want = scattered(gy, w, (2, c, *image), (rows[0], cols[0]), stride, dilation, groups)
            a, b = gy.astype(dtype), w.astype(dtype)
            out = np.full((2, c, *image), np.nan, dtype)
            if last:
                a, out = (
                    np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
                    for array in (a, out)
                )
            described = c_api.describe(
                out, b, a, result="x", stride=stride, pad=pads, dilation=dilation, groups=groups,
                last=last, dtype=dtype,
            )  # fmt: skip
            c_api.run(described, a, b, None, out)
            what = f"{c} {k} {groups} {kernel} stride {stride} {pads} {dtype}"
            np.testing.assert_array_equal(out.astype(float), want, what)
            out[...] = np.nan
            with Plan(described, b, None) as plan:
                plan.run(2, a, out)
            np.testing.assert_array_equal(out.astype(float), want, what)


def test_other_results_take_no_negative_pads() -> None:
    """What they would read of x is a view of it."""
    backends.present("native")
    fields: dict[str, Any] = {"c": 2, "k": 4, "image": (6, 5), "kernel": (3, 3)}
    for result, pad, message in [
        (0, -1, r"pad_before\[1\] is -1"), (2, -1, r"pad_before\[1\] is -1"),
        (1, -(2**61), r"pad_before\[1\]"), (1, -3, "covers 3 pixels .* image has 2"),
    ]:  # fmt: skip
        with pytest.raises(Failed, match=message):
            c_api.query(c_api.problem(result=result, pad_before=(0, pad), **fields))
