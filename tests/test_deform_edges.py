"""Deformable convolution: edges, values that are not finite, memory, bits and bad arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import backends, processes
from support.deform import LARGER, Arrays, Deform, compute, draw
from support.judge import assert_same_bits, offset

import fastconv
from fastconv import dispatch
from fastconv.backends import deform_refusal


def test_places_outside_sample_zero(backend: str) -> None:
    """Also where the pixels that they might be taken for are not finite."""
    x = np.full((1, 3, 4, 5), np.nan, np.float32)
    w = np.ones((2, 3, 1, 1), np.float32)
    moved = np.zeros((1, 2, 4, 5), np.float32)
    rows, columns = np.mgrid[:4, :5].astype(np.float32)
    everything = [-np.inf, np.inf, -1e30, 1e30, -(2.0**62), 2.0**63, -1000.5, 1000.5, -1, -1.5]
    for place in [*everything, 4, 5, 5.5]:
        for axis in (0, 1):
            size = (4, 5)[axis]
            if not (place <= -1 or place >= size):
                continue
            still = (rows, columns)[axis]
            moved[...] = 0
            moved[0, axis] = place - still
            y = fastconv.deform_conv2d(x, w, moved, backend=backend)
            assert np.array_equal(y, np.zeros((1, 2, 4, 5))), (place, axis)


def test_borders_fade_out(backend: str) -> None:
    """Less than a pixel outside, the pixels of the border count by what is left of them."""
    x = np.full((1, 20, 3, 3), 8, np.float32)
    w = np.zeros((1, 20, 1, 1), np.float32)
    w[0, 19] = 1
    places = np.array([-1.25, -1, -0.75, -0.5, 0, 2, 2.25, 2.75, 3, 3.5], np.float32)
    want = [0, 0, 2, 4, 8, 8, 6, 2, 0, 0]
    for place, value in zip(places, want, strict=True):
        for axis in (0, 1):
            moved = np.zeros((1, 2, 3, 3), np.float32)
            moved[0, axis] = place - np.mgrid[:3, :3][axis]
            y = fastconv.deform_conv2d(x, w, moved, backend=backend)
            assert np.array_equal(y, np.full((1, 1, 3, 3), value)), (place, axis)


def test_what_is_not_finite_stays_where_it_is(backend: str) -> None:
    case = Deform((1, 20, 5, 6), (3, 20, 3, 3), pad=1, masked=True)
    arrays = draw(case)
    want = compute(case, arrays, backend=backend)
    for axis in (6, 7):
        moved = arrays.offset.copy()
        moved[0, axis, 2, 3] = np.nan
        y = compute(case, arrays._replace(offset=moved), backend=backend)
        assert np.isnan(y[0, :, 2, 3]).all()
        y[0, :, 2, 3] = want[0, :, 2, 3]
        assert_same_bits(y, want, f"a NaN of axis {axis}")
    still = arrays._replace(offset=np.zeros_like(arrays.offset))
    x = arrays.x.copy()
    x[0, 7, 2, 2] = np.inf
    y = compute(case, still._replace(x=x), backend=backend)
    expected = np.empty_like(y)
    fastconv.deform_conv2d(
        x, arrays.w, still.offset, pad=1, mask=arrays.mask, backend="reference", out=expected
    )
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    assert np.isfinite(y[0, :, :, 4:]).all()


def test_small_moves_keep_their_precision(backend: str) -> None:
    """Far from the origin too: a place that was rounded to float32 would be off by 2**-14."""
    x = np.zeros((1, 1, 1, 3000), np.float32)
    x[..., 1::2] = 1
    moved = np.zeros((1, 2, 1, 3000), np.float32)
    moved[0, 1] = 1e-6
    y = fastconv.deform_conv2d(x, np.ones((1, 1, 1, 1), np.float32), moved, backend=backend)
    assert np.allclose(y[0, 0, 0, 0:2998:2], 1e-6, rtol=1e-6, atol=0)
    moved[0, 1] = -1e-10
    y = fastconv.deform_conv2d(x, np.ones((1, 1, 1, 1), np.float32), moved, backend=backend)
    assert np.allclose(y[0, 0, 0, 2:2998:2], 1e-10, rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", [LARGER[0], LARGER[2], LARGER[5]], ids=str)
def test_bits_depend_on_nothing_else(case: Deform, backend: str) -> None:
    """Threads, workspace, batch, layout, rank, strides in memory."""
    case = Deform(**{**case.__dict__, "x": (3, *case.x[1:])})
    arrays = draw(case)
    want = compute(case, arrays, backend=backend, threads=1)
    for threads in (2, 3, 7):
        again = compute(case, arrays, backend=backend, threads=threads)
        assert_same_bits(again, want, f"{threads} threads")
    with fastconv.options(workspace=1 << 16):
        assert_same_bits(compute(case, arrays, backend=backend), want, "little workspace")
    last = Deform(**{**case.__dict__, "layout": "NHWC"})
    assert_same_bits(compute(last, arrays, backend=backend), want, "channels last")
    for shift in (1, 3):
        moved = Arrays(*(None if a is None else offset(a, shift) for a in arrays))
        assert_same_bits(compute(case, moved, backend=backend), want, f"shifted by {shift}")
    for i in range(3):
        one = Arrays(*(
            a if a is None or name in ("w", "bias") else a[i]
            for name, a in arrays._asdict().items()
        ))  # fmt: skip
        y = fastconv.deform_conv2d(
            one.x, one.w, one.offset, mask=one.mask, bias=one.bias, backend=backend,
            **case.arguments,
        )  # fmt: skip
        assert_same_bits(y, want[i], f"image {i} alone")
    for name in ("x", "w", "offset", "mask"):
        held = getattr(arrays, name)
        if held is None:
            continue
        backwards = np.ascontiguousarray(held[..., ::-1, ::-1])[..., ::-1, ::-1]
        across = np.ascontiguousarray(held.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)
        for view in (backwards, across):
            strided = arrays._replace(**{name: view})
            assert_same_bits(compute(case, strided, backend=backend), want, f"{name} strided")


def test_large_images_come_in_passes() -> None:
    """The native backend turns a few images at a time."""
    backends.present("native")
    case = Deform((3, 40, 120, 130), (9, 40, 3, 3), pad=1, masked=True)
    arrays = draw(case)
    got = compute(case, arrays, backend="native")
    last = Deform(**{**case.__dict__, "layout": "NHWC"})
    assert_same_bits(compute(last, arrays, backend="native"), got, "channels last")
    explained = fastconv.deform_conv2d.explain(
        arrays.x, arrays.w, arrays.offset, pad=1, mask=arrays.mask, backend="native"
    )
    assert explained.scratch_bytes > arrays.x[0].nbytes
    assert explained.scratch_bytes < arrays.x.nbytes + explained.threads * (9 << 20)
    # the last image's corner, whose moves stay within the part that the reference computes
    part = Deform((1, 40, 40, 40), (9, 40, 3, 3), pad=1, masked=True)
    near = np.clip(arrays.offset, -9, 9)
    assert arrays.mask is not None
    few = Arrays(
        arrays.x[2:, :, :40, :40],
        arrays.w,
        near[2:, :, :40, :40],
        arrays.mask[2:, :, :40, :40],
        None,
    )
    got = compute(case, arrays._replace(offset=near), backend="native")
    want = compute(part, few, backend="reference")
    assert np.allclose(got[2:, :, :30, :30], want[:, :, :30, :30], rtol=1e-4, atol=1e-4)


GUARDED = """
import sys
import numpy as np
import fastconv
from support.guard import Fence

fences = [Fence(24) for _ in range(6)]
rng = np.random.default_rng(3)
calls = 0
for size in range(1, 35):
    for c, k, h, w, r, groups, shared in (
        (size, 2, 3, 2, 1, 1, size), (2, size, 3, 4, 3, 1, 1), (4, 4, 3, size, 2, 2, 2),
        (2 * size, size, 1, 3, 1, size, 2), (size, 33, 3, 3, 3, 1, 1),
    ):
        for dtype in sys.argv[2].split(","):
            for layout in ("NCHW", "NHWC"):
                p, q = h + 3 - r, w + 3 - r
                groups_of_offsets = c // shared
                taps = groups_of_offsets * r * r
                def some(*shape):
                    return rng.integers(-3, 4, shape).astype(dtype)
                x, kernel = some(1, c, h, w), some(k, c // groups, r, r)
                moved, mask, bias = some(1, 2 * taps, p, q), some(1, taps, p, q), some(k)
                if layout == "NHWC":
                    x, moved, mask = (
                        np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (x, moved, mask)
                    )
                kw = dict(pad=1, groups=groups, layout=layout)
                want = fastconv.deform_conv2d(
                    x, kernel, moved, mask=mask, bias=bias, backend="reference", **kw
                )
                for side in ("before", "after"):
                    a = [f.hold(v, side) for f, v in zip(fences, (x, kernel, moved, mask, bias))]
                    out = fences[5].hold(np.full_like(want, -1), side)
                    fastconv.deform_conv2d(
                        a[0], a[1], a[2], mask=a[3], bias=a[4], out=out, backend=sys.argv[1], **kw
                    )
                    assert np.array_equal(out, want), (size, c, k, h, w, layout, dtype, side)
                    calls += 1
print(calls)
"""


@pytest.mark.parametrize("name", backends.FAST)
def test_nothing_else_is_touched(name: str) -> None:
    dtypes = "float32,float64" if backends.present(name) == "native" else "float32"
    calls = int(processes.run(GUARDED, name, dtypes))
    assert calls == 34 * 5 * 2 * 2 * len(dtypes.split(","))


def test_refused_scratch_is_a_memory_error() -> None:
    backends.present("native")
    from fastconv import _native  # type: ignore[attr-defined]

    arrays = draw(LARGER[0])
    want = compute(LARGER[0], arrays, backend="native")
    _native.fail_next_allocations(1)
    try:
        with pytest.raises(MemoryError):
            compute(LARGER[0], arrays, backend="native")
    finally:
        _native.fail_next_allocations(0)
    assert_same_bits(compute(LARGER[0], arrays, backend="native"), want, "after a refusal")


def test_images_that_only_strides_make_large() -> None:
    """Turning them would take an eighth of all addresses: refused, and nothing wraps around."""
    backends.present("native")
    x = np.broadcast_to(np.float32(1), (1, 2, 1 << 27, 1 << 27))
    w, moved = np.ones((1, 2, 1, 1), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    arguments = {"stride": 1 << 26, "pad": 0, "backend": "native"}
    assert fastconv.deform_conv2d.explain(x, w, moved, **arguments).scratch_bytes > 1 << 56
    with pytest.raises(MemoryError):
        fastconv.deform_conv2d(x, w, moved, **arguments)
    one = fastconv.deform_conv2d(x[:, :1], w[:, :1], moved, **arguments)
    assert np.array_equal(one, np.ones((1, 1, 2, 2)))


def test_results_may_overlap_what_they_are_made_of(backend: str) -> None:
    case = Deform((1, 18, 4, 5), (18, 18, 3, 3), pad=1)
    arrays = draw(case)
    want = compute(case, arrays, backend=backend)
    for name in ("x", "offset"):
        copied = arrays._replace(**{name: getattr(arrays, name).copy()})
        fastconv.deform_conv2d(
            copied.x, copied.w, copied.offset, pad=1, out=getattr(copied, name), backend=backend
        )
        assert_same_bits(getattr(copied, name), want, name)


def test_empty_batches(backend: str) -> None:
    moved = np.zeros((0, 18, 4, 4), np.float32)
    x, w = np.zeros((0, 3, 4, 4), np.float32), np.zeros((5, 3, 3, 3), np.float32)
    assert fastconv.deform_conv2d(x, w, moved, pad=1, backend=backend).shape == (0, 5, 4, 4)
    y = fastconv.deform_conv2d(
        np.zeros((1, 3, 4, 4)), np.zeros((0, 3, 3, 3)), np.zeros((1, 18, 4, 4)), pad=1,
        backend=backend,
    )  # fmt: skip
    assert y.shape == (1, 0, 4, 4)


def test_other_dtypes_of_offsets(backend: str) -> None:
    """Offsets and masks are read in the dtype of sums, whatever they are."""
    case = Deform((1, 4, 6, 6), (3, 4, 3, 3), pad=1, masked=True)
    arrays = draw(case, "integers")
    want = compute(case, arrays, backend=backend)
    for dtype in ("int8", "float64", "float16", ">f4"):
        assert arrays.mask is not None
        other = arrays._replace(offset=arrays.offset.astype(dtype), mask=arrays.mask.astype(dtype))
        assert_same_bits(compute(case, other, backend=backend), want, dtype)
    y = fastconv.deform_conv2d(
        arrays.x.astype("int16"), arrays.w.astype("int16"), arrays.offset, pad=1,
        mask=arrays.mask, dtype="float32", backend=backend,
    )  # fmt: skip
    assert np.array_equal(y, want)


X, W, MOVED = (1, 4, 8, 9), (6, 4, 3, 3), (1, 18, 8, 9)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"offset": (1, 17, 8, 9)}, "ShapeError", ["17", "18 (offset_groups=1)", "36", "72"]),
        ({"offset": (1, 54, 8, 9)}, "ShapeError", ["54", "18 (offset_groups=1)"]),
        ({"offset": (1, 0, 8, 9)}, "ShapeError", ["0 channels"]),
        ({"offset_groups": 2}, "ShapeError", ["18 channels", "36 with offset_groups=2"]),
        ({"offset_groups": 3}, "ShapeError", ["does not divide C=4"]),
        ({"offset_groups": 0}, "ShapeError", ["at least 1"]),
        ({"offset_groups": 1.0}, "TypeError", ["integer"]),
        ({"offset": (1, 18, 6, 7)}, "ShapeError", ["offset", "(1, 18, 6, 7)", "P=8, Q=9"]),
        ({"offset": (2, 18, 8, 9)}, "ShapeError", ["(2, 18, 8, 9)", "N=1"]),
        ({"offset": (18, 8, 9)}, "ShapeError", ["offset must be (N, 2*R*S*offset_groups, P, Q)"]),
        ({"mask": (1, 18, 8, 9)}, "ShapeError", ["mask", "R*S*offset_groups=9"]),
        ({"mask": (1, 9, 8, 8)}, "ShapeError", ["mask", "Q=9"]),
        ({"mask": (9, 8, 9)}, "ShapeError", ["mask"]),
        ({"layout": "NHWC", "x": (1, 8, 9, 4)}, "ShapeError", ["layout='NHWC'"]),
        ({"x": (1, 5, 8, 9)}, "ShapeError", ["w expects 4 input channels"]),
        ({"x": (8, 9), "w": (3, 3)}, "ShapeError", ["deform_conv2d takes x (N, C, H, W)"]),
        ({"w": (6, 4, 3)}, "ShapeError", ["deform_conv2d takes"]),
        ({"w": (6, 4, 11, 11)}, "ShapeError", ["output height"]),
        ({"bias": (5,)}, "ShapeError", ["bias"]),
        ({"stride": 0}, "ShapeError", ["stride"]),
    ],
    ids=str,
)
def test_one_message_says_what_is_wrong(
    change: dict[str, Any], error: str, words: list[str], backend: str
) -> None:
    shapes: dict[str, Any] = {"x": X, "w": W, "offset": MOVED, "pad": 1} | change
    kind = getattr(fastconv, error, TypeError)
    with pytest.raises(kind) as raised:
        fastconv.deform_conv2d.output_shape(**shapes)
    for word in words:
        assert word in str(raised.value)
    arrays = {
        name: np.ones(v, np.float32) if name in ("x", "w", "offset", "mask", "bias") else v
        for name, v in shapes.items()
    }
    with pytest.raises(kind):
        fastconv.deform_conv2d(**arrays, backend=backend)


def test_what_cannot_be_sampled() -> None:
    x, w, moved = (np.ones(shape, np.float32) for shape in (X, W, MOVED))
    with pytest.raises(fastconv.DTypeError, match="between its pixels"):
        fastconv.deform_conv2d(x.astype(int), w.astype(int), moved, pad=1)
    for name, bad in (("offset", moved + 0j), ("mask", moved[:, :9].astype("S1"))):
        with pytest.raises(fastconv.DTypeError, match=name):
            fastconv.deform_conv2d(**{"x": x, "w": w, "offset": moved, "pad": 1} | {name: bad})
    with pytest.raises(fastconv.OutputError, match="out must be"):
        fastconv.deform_conv2d(x, w, moved, pad=1, out=np.ones((1, 6, 8, 8), np.float32))


def test_a_backend_without_it_says_so() -> None:
    for entry in dispatch.TABLE:
        reason = deform_refusal(dispatch.load(entry.name))
        assert (reason is None) == (entry.arrays == "numpy")
        assert reason is None or "cupy.asnumpy" in reason
    with pytest.raises((fastconv.BackendUnsupported, fastconv.BackendUnavailable)):
        fastconv.deform_conv2d(
            *(np.ones(shape, np.float32) for shape in (X, W, MOVED)), pad=1, backend="cuda"
        )


def test_questions_without_arrays() -> None:
    ask = fastconv.deform_conv2d
    arguments = {"pad": 1, "mask": (1, 9, 8, 9)}
    assert ask.output_shape(X, W, MOVED, **arguments) == (1, 6, 8, 9)
    assert ask.output_shape(X, W, (1, 18, 4, 5), 2, 1) == (1, 6, 4, 5)
    places = 8 * 9 * 9
    cost = ask.cost(X, W, MOVED, **arguments)
    assert cost.macs == places * 4 * 6 + places * 4 * 5
    assert cost.bytes == 4 * (4 * 72 + 6 * 36 + 6 * 72 + 27 * 72)
    explained = ask.explain(X, W, MOVED, **arguments)
    assert "deformable" in str(explained)
    assert "masked" in str(explained)
    for name in ("reference", "numba", "native"):
        if dispatch.availability(name) is None:
            explained = ask.explain(X, W, MOVED, backend=name, **arguments)
            assert explained.backend == name
            assert explained.scratch_bytes > 0
