"""Relations that hold between calls of operators, whatever computes them: no oracle takes part.

Operands are small integers in float64, so that every sum is exact in any order and relations hold
bit by bit: linearity, shifts, splits of channels, groups and batches, kernels of a single tap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.operators import OperatorCase, cases

import fastconv

Array = np.ndarray[Any, Any]
same = np.testing.assert_array_equal

#: Half as many examples as elsewhere: each is several calls.
few = settings(max_examples=max(10, settings.default.max_examples // 2))


class Family:
    """A convolution (or, with ``t``, a transposed one) of a case, as functions of plain arrays.

    Images are held as the case says; `channels` is the axis of theirs that counts channels.
    """

    def __init__(self, case: OperatorCase, backend: str) -> None:
        self.case, self.d = case, case.spatial
        self.options: dict[str, Any] = {**case.options, "backend": backend}
        self.channels = -1 if case.last else -1 - self.d
        rng = np.random.default_rng(case.x[-1])
        self.x, self.w, self.gy = (
            rng.integers(-9, 10, shape).astype("f8") for shape in (case.x, case.w, case.y)
        )

    def y(self, x: Array, w: Array, **more: Any) -> Array:
        """Convolve."""
        options = {**self.options, **more}
        result: Array = getattr(fastconv, f"conv{self.d}d")(x, w, **options)
        return result

    def gx(self, w: Array, gy: Array, shape: Any = None, **more: Any) -> Array:
        """Gradient of x."""
        options = {**self.options, **more}
        function = getattr(fastconv, f"conv{self.d}d_input_grad")
        result: Array = function(self.case.x if shape is None else shape, w, gy, **options)
        return result

    def gw(self, x: Array, gy: Array, shape: Any = None, **more: Any) -> Array:
        """Gradient of w."""
        options = {**self.options, **more}
        function = getattr(fastconv, f"conv{self.d}d_weight_grad")
        result: Array = function(x, self.case.w if shape is None else shape, gy, **options)
        return result

    def t(self, gy: Array, w: Array, **more: Any) -> Array:
        """Transposed convolution of what has the shape of y."""
        options = {**self.options, **more}
        del options["pad_mode"]
        result: Array = getattr(fastconv, f"conv_transpose{self.d}d")(gy, w, **options)
        return result


def family(case: OperatorCase, backend: str) -> Family:
    """Draw operands, images of a batch with channels."""
    assume(len(case.x) == case.spatial + 2)
    return Family(case, backend)


@few
@given(case=cases(("float64",)), factor=st.sampled_from((-3, 2)))
def test_linear_in_both_operands(fast_backend: str, case: OperatorCase, factor: int) -> None:
    f = Family(case, fast_backend)
    other = Family(case.with_(x=case.x), fast_backend)
    other.x, other.w, other.gy = (np.roll(a, 1) for a in (f.x, f.w, f.gy))
    for function, (a, b), (c, d) in (
        (f.y, (f.x, f.w), (other.x, other.w)),
        (f.gx, (f.w, f.gy), (other.w, other.gy)),
        (f.gw, (f.x, f.gy), (other.x, other.gy)),
    ):
        whole = function(a, b)
        same(function(a + factor * c, b), whole + factor * function(c, b))
        same(function(a, b + factor * d), whole + factor * function(a, d))


@few
@given(case=cases(("float64",)))
def test_batches_are_images(fast_backend: str, case: OperatorCase) -> None:
    f = family(case, fast_backend)
    y, gx, gw = f.y(f.x, f.w), f.gx(f.w, f.gy), f.gw(f.x, f.gy)
    total = np.zeros_like(gw)
    for i in range(len(f.x)):
        x, gy = f.x[i : i + 1], f.gy[i : i + 1]
        same(f.y(x, f.w), y[i : i + 1])
        same(f.y(x[0], f.w), y[i])
        same(f.gx(f.w, gy, x.shape), gx[i : i + 1])
        same(f.gx(f.w, gy[0], x.shape[1:]), gx[i])
        part = f.gw(x, gy)
        same(f.gw(x[0], gy[0]), part)
        total += part
    same(total, gw)
    order = np.random.default_rng(0).permutation(len(f.x))
    same(f.gw(f.x[order], f.gy[order]), gw)
    same(f.gx(f.w, f.gy[order]), gx[order])


def taken(array: Array, axis: int, first: int, last: int) -> Array:
    """Return channels first to last, exclusive."""
    return np.take(array, range(first, last), axis)


@few
@given(case=cases(("float64",)), data=st.data())
def test_channels_may_be_split(fast_backend: str, case: OperatorCase, data: st.DataObject) -> None:
    """Sums over channels are sums of parts; gradients of some channels are theirs alone."""
    f = family(case.with_(groups=1, w=(case.w[0], case.w[1] * case.groups, *case.w[2:])),
               fast_backend)  # fmt: skip
    (k, c), axis = f.w.shape[:2], f.channels
    assume(k > 1 and c > 1)
    cut, kut = data.draw(st.integers(1, c - 1)), data.draw(st.integers(1, k - 1))
    y, gx, gw = f.y(f.x, f.w), f.gx(f.w, f.gy), f.gw(f.x, f.gy)
    parts: list[tuple[Array, Array, Array]] = []
    for first, last in ((0, cut), (cut, c)):
        x, w = taken(f.x, axis, first, last), f.w[:, first:last]
        same(f.gx(w, f.gy, x.shape), taken(gx, axis, first, last))
        same(f.gw(x, f.gy, w.shape), gw[:, first:last])
        parts.append((f.y(x, w), x, w))
    same(parts[0][0] + parts[1][0], y)
    summed = []
    for first, last in ((0, kut), (kut, k)):
        w, gy = f.w[first:last], taken(f.gy, axis, first, last)
        same(f.y(f.x, w), taken(y, axis, first, last))
        same(f.gw(f.x, gy, w.shape), gw[first:last])
        summed.append(f.gx(w, gy))
    same(summed[0] + summed[1], gx)


@few
@given(case=cases(("float64",)))
def test_groups_are_convolutions_of_their_own(fast_backend: str, case: OperatorCase) -> None:
    assume(case.groups > 1)
    f = family(case, fast_backend)
    g, axis = case.groups, f.channels
    images = [np.split(a, g, axis) for a in (f.x, f.gy)]
    each = list(zip(*images, np.split(f.w, g), strict=True))
    one: dict[str, Any] = {"groups": 1}
    same(np.concatenate([f.y(x, w, **one) for x, _, w in each], axis), f.y(f.x, f.w))
    gx = [f.gx(w, gy, x.shape, **one) for x, gy, w in each]
    same(np.concatenate(gx, axis), f.gx(f.w, f.gy))
    gw = [f.gw(x, gy, w.shape, **one) for x, gy, w in each]
    same(np.concatenate(gw), f.gw(f.x, f.gy))
    if case.pad_mode == "constant":
        try:
            whole = f.t(f.gy, f.w)
        except fastconv.ShapeError:
            return
        same(np.concatenate([f.t(gy, w, **one) for _, gy, w in each], axis), whole)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_shifts(fast_backend: str, spatial: int, stride: int) -> None:
    """An image moved by the stride is an output moved by one, and so are gradients.

    Far enough from the border, where there is nothing but zeros.
    """
    edge, far = 2 * stride + 4, stride
    dilation, size = (2, 1, 1)[:spatial], (2 * edge + 3, 2 * edge + 2, 2 * edge + 1)[:spatial]
    case = OperatorCase((2, 4, *size), (6, 2, *(3,) * spatial), stride=stride, dilation=dilation,
                        pad=stride, groups=2, dtype="float64")  # fmt: skip
    f = Family(case, fast_backend)
    axes = tuple(range(2, 2 + spatial))
    inner = (slice(None), slice(None), *(slice(edge, n - edge) for n in size))
    x = np.zeros_like(f.x)
    x[inner] = f.x[inner]
    assert x.any()
    moved = np.roll(x, (far,) * spatial, axes)
    y = f.y(x, f.w)
    same(f.y(moved, f.w), np.roll(y, (1,) * spatial, axes))
    # gradients of an output that is zero at its edges
    gy = np.zeros_like(f.gy)
    middle = (slice(None), slice(None), *(slice(n // 2, n // 2 + 1) for n in f.gy.shape[2:]))
    gy[middle] = f.gy[middle]
    gx = f.gx(f.w, gy)
    next_gy = np.roll(gy, (1,) * spatial, axes)
    same(f.gx(f.w, next_gy), np.roll(gx, (far,) * spatial, axes))
    around = np.roll(f.x, (far,) * spatial, axes)
    same(f.gw(around, next_gy), f.gw(f.x, gy))


@few
@given(case=cases(("float64",)), data=st.data())
def test_kernels_of_one_tap(fast_backend: str, case: OperatorCase, data: st.DataObject) -> None:
    """A kernel of one tap picks pixels of the padded image; its gradient puts them back."""
    f = family(case.with_(flip=False, groups=1, w=(1, 1, *case.w[2:]),
                          x=tuple(1 if i == (len(case.x) - 1 if case.last else 1) else n
                                  for i, n in enumerate(case.x))), fast_backend)  # fmt: skip
    d, problem = f.d, f.case.problem()
    tap = tuple(data.draw(st.integers(0, n - 1)) for n in problem.kernel)
    w = np.zeros_like(f.w)
    w[(0, 0, *tap)] = 1
    x = f.case.images(f.x)
    around: Any = ((0, 0), (0, 0), *problem.pads)
    padded = np.pad(x, around, mode=f.case.pad_mode)
    picked = (slice(None), slice(None), *(
        slice(t * spread, t * spread + (n - 1) * step + 1, step)
        for t, spread, n, step in zip(
            tap, problem.dilations, problem.y_image, problem.strides, strict=True
        )
    ))  # fmt: skip
    same(f.case.images(f.y(f.x, w)), padded[picked])
    number = np.pad(np.arange(x[0, 0].size).reshape(x.shape[2:]) + 1, around[2:],
                    mode=f.case.pad_mode)  # fmt: skip
    sources, gy = number[picked[2:]], f.case.images(f.gy)
    want = np.zeros((len(x), x[0, 0].size + 1))
    for place in np.ndindex(sources.shape):
        want[:, sources[place]] += gy[(slice(None), 0, *place)]
    gx = f.case.images(f.gx(w, f.gy))
    same(gx.reshape(len(x), -1), want[:, 1:])
    # one pixel of gy: the gradient of w is the patch under the kernel there
    only = np.zeros_like(f.gy)
    place = tuple(data.draw(st.integers(0, n - 1)) for n in problem.y_image)
    f.case.images(only)[(0, 0, *place)] = 1
    patch = (0, 0, *(
        slice(p * step, p * step + (n - 1) * spread + 1, spread)
        for p, step, n, spread in zip(
            place, problem.strides, problem.kernel, problem.dilations, strict=True
        )
    ))  # fmt: skip
    same(f.gw(f.x, only)[0, 0], padded[patch])
    assert d == problem.spatial


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_transposed_kernels_of_one_tap(fast_backend: str, spatial: int) -> None:
    """One tap puts the pixels of x `stride` apart, and zeros between them."""
    rng = np.random.default_rng(spatial)
    x = rng.integers(-9, 10, (2, 1, *(4, 3, 2)[:spatial])).astype("f8")
    for tap in np.ndindex(*(2, 3, 2)[:spatial]):
        w = np.zeros((1, 1, *(2, 3, 2)[:spatial]))
        w[(0, 0, *tap)] = 1
        y = getattr(fastconv, f"conv_transpose{spatial}d")(x, w, 3, backend=fast_backend)
        where = tuple(
            slice(t, t + 3 * (n - 1) + 1, 3) for t, n in zip(tap, x.shape[2:], strict=True)
        )
        same(y[(..., *where)], x)
        assert np.count_nonzero(y) == np.count_nonzero(x)


def test_turned_kernels(fast_backend: str) -> None:
    """`flip` is the same as turning the kernel; gradients of kernels are turned back."""
    case = OperatorCase((2, 4, 7, 6), (6, 2, 3, 2), groups=2, stride=2, pad=1, dtype="float64")
    f = Family(case, fast_backend)

    def turned(w: Array) -> Array:
        return w[:, :, ::-1, ::-1]

    same(f.y(f.x, f.w, flip=True), f.y(f.x, turned(f.w)))
    same(f.gx(f.w, f.gy, flip=True), f.gx(turned(f.w), f.gy))
    same(f.gw(f.x, f.gy, flip=True), turned(f.gw(f.x, f.gy)))
    same(f.t(f.gy, f.w, flip=True), f.t(f.gy, turned(f.w)))


def careless(result: str) -> Callable[..., Any]:
    """Return a family one of whose operators treats the first image as a second one, too."""

    honest_family = Family

    def make(case: OperatorCase, backend: str) -> Family:
        f = honest_family(case, backend)
        name = {"x": "gx", "w": "gw", "y": "y"}[result]
        honest = getattr(f, name)

        def wrong(a: Array, b: Array, *more: Any, **options: Any) -> Array:
            found = honest(a, b, *more, **options)
            found[..., -1] += np.abs(a).sum()
            return found

        setattr(f, name, wrong)
        return f

    return make


@pytest.mark.parametrize("result", ["y", "x", "w"])
def test_a_planted_bug_is_noticed(monkeypatch: pytest.MonkeyPatch, result: str) -> None:
    """An operator that adds what is not linear fails here."""
    monkeypatch.setitem(globals(), "Family", careless(result))
    with pytest.raises(AssertionError):
        test_linear_in_both_operands.hypothesis.inner_test(
            "reference", OperatorCase((2, 2, 5, 5), (3, 2, 3, 3), dtype="float64"), 2
        )
