"""The functions that judge a backend: every suite uses these, and the planted bugs test them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv
from fastconv import accuracy
from fastconv.accuracy import Verdict
from fastconv.dtypes import accumulator, float_limits

from . import backends, oracle
from .cases import EXACT, Arrays, Case, draw, logical_image, logical_kernel

Array = np.ndarray[Any, Any]
Convolve = Callable[..., Array]

#: Elements before and after `out` that no backend may touch.
MARGIN = 16

THREADS = (1, 2, 3, 7)


def on(backend: str, **options: Any) -> Convolve:
    """Return conv2d on one backend."""

    def convolve(x: Array, w: Array, **arguments: Any) -> Array:
        y: Array = fastconv.conv2d(x, w, backend=backend, **options, **arguments)
        return y

    return convolve


def bits(array: Array) -> Array:
    """View the bit patterns, so that NaN equals NaN and -0 differs from 0."""
    whole = np.ascontiguousarray(array)
    return whole.view(f"u{whole.itemsize}")


def assert_same_bits(got: Array, want: Array, what: str) -> None:
    """Fail unless two arrays hold the same bits."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, not {want.dtype}"
    wrong = bits(got) != bits(want)
    if wrong.any():
        where = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise AssertionError(
            f"{what}: {np.count_nonzero(wrong)} of {wrong.size} elements differ, the first at "
            f"{where}: {got[where]!r} instead of {want[where]!r}"
        )


def compute(convolve: Convolve, case: Case, arrays: Arrays, **options: Any) -> Array:
    """Convolve into an `out` full of 0xFF (NaN) between two margins that must stay untouched."""
    problem = case.problem
    size = math.prod(problem.out_shape)
    buffer = np.empty(size + 2 * MARGIN, problem.out_dtype)
    buffer.view(np.uint8)[...] = 0xFF
    out = buffer[MARGIN : MARGIN + size].reshape(problem.out_shape)
    result = convolve(arrays.x, arrays.w, bias=arrays.bias, out=out, **case.arguments, **options)
    assert result is out, "conv2d returned another array than out"
    margins = np.concatenate([buffer[:MARGIN], buffer[MARGIN + size :]])
    assert (margins.view(np.uint8) == 0xFF).all(), f"{case}: wrote outside of out"
    return out


def verdict(case: Case, arrays: Arrays, got: Array) -> Verdict:
    """Hold a result against the contract's bound."""
    return accuracy.check(
        case.problem,
        logical_image(arrays.x, case.layout),
        logical_kernel(arrays.w, case.flip),
        arrays.bias,
        logical_image(got, case.layout),
    )


def gate(case: Case) -> float:
    """Units of u*S that a careful strict summation stays below: the regression gate."""
    return max(4.0, 2.0 * math.sqrt(case.problem.reduction))


def gated(case: Case, family: str) -> bool:
    """Whether errors in units of u*S mean anything: not beside underflow or after activations."""
    return case.activation is None and family != "underflow" and case.dtype in backends.FLOATS


def judge(convolve: Convolve, case: Case, family: str) -> Verdict:
    """Compute a case on data of a family and hold the result against C0, C1, C2 or C3."""
    arrays = draw(case, family)
    before = [None if a is None else a.copy() for a in arrays]
    got = compute(convolve, case, arrays)
    for now, then in zip(arrays, before, strict=True):
        if now is not None and then is not None:
            assert_same_bits(now, then, f"{case}: an input was written to")
    found = verdict(case, arrays, got)
    assert found.ok, (
        f"{case} {case.dtype}, {family}: error {found.error:g} is {found.ratio:g} times the bound"
    )
    smooth = case.activation in accuracy.EXACT_ACTIVATIONS
    if family in EXACT and smooth:
        assert found.error == 0, f"{case} {case.dtype}, {family}: off by {found.error:g}, not exact"
    if gated(case, family):
        assert found.units <= gate(case), (
            f"{case} {case.dtype}, {family}: {found.units:.2f} units of u*S exceed {gate(case):.2f}"
        )
    return found


def judge_special_values(convolve: Convolve, case: Case, arrays: Arrays) -> None:
    """C7: NaN and infinities exactly where summing all products of the padded image puts them."""
    want = oracle.windowed(case, arrays)
    got = logical_image(compute(convolve, case, arrays), case.layout)
    what = f"{case} {case.dtype}"
    got = got.astype(np.longdouble)
    for name, mask in (("NaN", np.isnan), ("+inf", np.isposinf), ("-inf", np.isneginf)):
        wrong = mask(want) != mask(got)
        assert not wrong.any(), (
            f"{what}: {name} misplaced at {[tuple(map(int, i)) for i in np.argwhere(wrong)[:5]]}"
        )
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(want)
        error = np.abs(got - want)[finite]
        scale = oracle.windowed(case, Arrays(*(None if a is None else np.abs(a) for a in arrays)))
    n = case.problem.reduction + 1
    sums = accumulator(case.dtype)
    u = accuracy.unit_roundoff(sums)
    eta = float_limits(case.dtype).smallest_subnormal
    bound = n * u / (1 - n * u) * scale[finite] + n * eta
    if sums != case.dtype:
        u_out = accuracy.unit_roundoff(case.dtype)
        bound = u_out * np.abs(want[finite]) + (1 + u_out) * bound
    assert (error <= bound).all(), f"{what}: finite values"


def judge_determinism(convolve: Convolve, case: Case, arrays: Arrays) -> None:
    """C8: the same bits for any number of threads, any place in the batch, any alignment."""
    want = compute(convolve, case, arrays, threads=1)
    for threads in THREADS:
        for repeat in range(2):
            again = compute(convolve, case, arrays, threads=threads)
            assert_same_bits(again, want, f"{case}: run {repeat} with {threads} threads")
    for shift in (1, 3, 5):
        moved = Arrays(*(None if a is None else offset(a, shift) for a in arrays))
        assert_same_bits(compute(convolve, case, moved), want, f"{case}: offset by {shift} items")
    if arrays.x.ndim == 4:
        _judge_batch(convolve, case, arrays, want)


def _judge_batch(convolve: Convolve, case: Case, arrays: Arrays, want: Array) -> None:
    n = arrays.x.shape[0]
    order = np.random.default_rng(n).permutation(n)
    shuffled = compute(convolve, case, arrays._replace(x=arrays.x[order]))
    assert_same_bits(shuffled, want[order], f"{case}: shuffled batch")
    for i in range(n):
        image = arrays.x[i : i + 1]
        single = compute(convolve, case.with_(x=image.shape), arrays._replace(x=image), threads=2)
        assert_same_bits(single, want[i : i + 1], f"{case}: image {i} alone")


def offset(array: Array, items: int) -> Array:
    """Copy an array to an address `items` elements past a 64-byte boundary."""
    buffer = np.empty(array.size + items + 64, array.dtype)
    start = -buffer.ctypes.data % 64 // array.itemsize + items
    moved = buffer[start : start + array.size].reshape(array.shape)
    moved[...] = array
    return moved


def judge_crop(case: Case, arrays: Arrays, got: Array, rows: slice, columns: slice) -> None:
    """Hold one rectangle of a large result against the contract: all channels, few pixels.

    `rows` and `columns` are non-negative; the border must be ``constant``.
    """
    problem = case.problem
    assert case.pad_mode == "constant"
    assert case.activation is None
    image = logical_image(arrays.x, case.layout)
    for axis, where in ((2, rows), (3, columns)):
        i = axis - 2
        taps, stride = (problem.r, problem.s)[i], problem.stride[i]
        begin = where.start * stride - problem.pad[i][0]
        end = (where.stop - 1) * stride - problem.pad[i][0] + (taps - 1) * problem.dilation[i] + 1
        size = image.shape[axis]
        inside = slice(max(begin, 0), min(end, size))
        index = (slice(None),) * axis + (inside,)
        borders = [(0, 0)] * 4
        borders[axis] = (max(-begin, 0), max(end - size, 0))
        image = np.pad(image[index], borders)
    part = case.with_(x=image.shape, pad=0, layout="NCHW")
    found = verdict(
        part, arrays._replace(x=image), logical_image(got, case.layout)[:, :, rows, columns]
    )
    assert found.ok, f"{case}: rows {rows}, columns {columns}: {found.ratio:g} times the bound"
