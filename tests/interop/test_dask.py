"""`conv2d` of dask arrays against one call of fastconv's own: the same bits, on any chunks."""

from __future__ import annotations

import operator
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backends import present
from support.oracles import oracle

import fastconv
from fastconv import DTypeError, ShapeError
from fastconv.borders import PAD_MODES
from fastconv.plan import Conv2dPlan

da = oracle("dask.array")
dask = oracle("fastconv.interop.dask")

Array = np.ndarray[Any, Any]


def chunks_of(data: Any, size: int) -> tuple[int, ...]:
    ends = sorted(data.draw(st.sets(st.integers(1, size), max_size=5)) | {size})
    return tuple(b - a for a, b in zip([0, *ends], ends, strict=False))


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
@settings(max_examples=60)
@given(data=st.data())
def test_random_chunks_have_the_bits_of_one_call(backend: str, data: Any) -> None:
    present(backend)
    draw = data.draw
    groups, layout = draw(st.sampled_from([1, 2])), draw(st.sampled_from(["NCHW", "NHWC"]))
    cg, kg = draw(st.sampled_from([1, 3, 16])), draw(st.sampled_from([1, 2, 17]))
    n, h, w = (draw(st.integers(1, size)) for size in (3, 25, 25))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    border = st.tuples(st.integers(0, 7), st.integers(0, 7))
    reach = [(t - 1) * d for t, d in zip(taps, dilation, strict=True)]
    pad = draw(st.one_of(st.just("same"), st.just("full"), st.tuples(border, border)))
    if isinstance(pad, tuple) and any(
        size + sum(p) <= r for size, p, r in zip((h, w), pad, reach, strict=True)
    ):
        pad = "full"
    options: dict[str, Any] = {
        "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 4))), "pad": pad,
        "dilation": dilation, "groups": groups, "layout": layout, "flip": draw(st.booleans()),
        "pad_mode": draw(st.sampled_from(PAD_MODES)), "backend": backend,
        "activation": draw(st.sampled_from([None, "tanh"])),
    }  # fmt: skip
    shape = (n, cg * groups, h, w) if layout == "NCHW" else (n, h, w, cg * groups)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    x = rng.standard_normal(shape).astype(draw(st.sampled_from(["f4", "f8", "f2"])))
    kernel = rng.standard_normal((kg * groups, cg, *taps)).astype(x.dtype)
    options["bias"] = draw(st.sampled_from([None, np.arange(kg * groups, dtype="f4")]))
    whole = fastconv.conv2d(x, kernel, **options)
    array = da.from_array(x, chunks=tuple(chunks_of(data, size) for size in shape))
    y = dask.conv2d(array, kernel, **options)
    assert y.shape == whole.shape
    assert y.dtype == whole.dtype
    got = y.compute(scheduler="sync")
    assert got.dtype == whole.dtype
    assert got.tobytes() == whole.tobytes()
    part = tuple(slice(draw(st.integers(0, size - 1)), None) for size in y.shape)
    assert np.array_equal(y[part].compute(scheduler="sync"), whole[part])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "complex64", "float16"])
def test_dtypes(dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-99, 99, s).astype(dtype) for s in ((3, 40, 30), (4, 3, 3, 3)))
    expected = fastconv.conv2d(x, w, pad=1)
    y = dask.conv2d(da.from_array(x, chunks=(1, 9, 7)), w, pad=1)
    assert y.dtype == y._meta.dtype == expected.dtype
    assert y.compute().tobytes() == expected.tobytes()
    image = x[0]
    wide = "complex128" if dtype.startswith("complex") else "float64"
    plane = dask.conv2d(da.from_array(image, chunks=11), w[0, 0], dtype=wide)
    assert np.array_equal(plane.compute(), fastconv.conv2d(image, w[0, 0], dtype=wide))


def test_tasks_run_fastconv_once_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    run = Conv2dPlan.__call__

    def counted(self: Conv2dPlan, x: Any, out: Any = None) -> Any:
        seen.append((self.problem.p, self._call.options.threads))
        return run(self, x, out)

    monkeypatch.setattr(Conv2dPlan, "__call__", counted)
    x = da.ones((2, 3, 40, 60), chunks=(1, 3, 10, 20))
    w = np.ones((1, 3, 3, 3))
    dask.conv2d(x, w, pad=1).compute()
    assert seen == [(10, 1)] * 24, "a task a block, one thread a task"
    seen.clear()
    dask.conv2d(x, w, pad=1, threads=3)[0, :, :5].compute()
    assert seen == [(10, 3)] * 3, "what is not asked for is not computed"


def refuse(block: Array) -> Array:
    raise AssertionError("computed")


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    x = da.ones((40, 40), chunks=20).map_blocks(refuse, meta=np.empty((0, 0)))
    y = dask.conv2d(x, np.ones((3, 3)))
    assert isinstance(y._meta, np.ndarray)
    assert (y._meta.ndim, y._meta.dtype, y._meta.size) == (2, np.dtype("f8"), 0)
    with pytest.raises(AssertionError, match="computed"):
        y.compute(scheduler="sync")


def test_chunks_follow_those_of_x_and_meta_is_right() -> None:
    x = da.zeros((5, 7, 90, 64), chunks=((2, 3), (3, 4), (30, 1, 59), (32, 32)), dtype="f4")
    y = dask.conv2d(x, np.zeros((8, 7, 3, 3), "f4"), stride=(1, 2), pad=1)
    assert y.chunks == ((2, 3), (8,), (30, 1, 59), (16, 16))
    assert (y + 1).sum(axis=1).compute().shape == (5, 90, 32)
    empty = dask.conv2d(x[:0], np.zeros((8, 7, 3, 3), "f4"))
    assert empty.compute().shape == (0, 8, 88, 62)


def test_weights_are_in_the_graph_once() -> None:
    x = da.zeros((1, 16, 640, 640), chunks=(1, 16, 32, 32), dtype="f4")
    w = np.ones((256, 16, 3, 3), "f4")
    y = dask.conv2d(x, w, pad=1)
    layer = y.dask.layers[y.name]
    assert y.npartitions == 400
    assert len(pickle.dumps(dict(layer))) < w.nbytes + 1000 * len(layer)
    held = [value for value in layer.values() if isinstance(value, dask.Work)]
    assert len(held) == 1
    held[0].convolution(held[0].plan[0], [[np.zeros((1, 16, 33, 33), "f4")]])
    assert held[0].convolution._plans
    assert not pickle.loads(pickle.dumps(held[0])).convolution._plans  # noqa: S301


def test_later_changes_of_weights_have_no_effect() -> None:
    w, bias = np.ones((1, 1, 3, 3)), np.zeros(1)
    y = dask.conv2d(da.ones((1, 9, 9), chunks=4), w, bias=bias)
    w[...], bias[...] = 0, 5
    assert (y.compute() == 9).all()


def test_names_say_what_is_computed() -> None:
    x, w = da.zeros((20, 20), chunks=10), np.ones((3, 3))
    assert dask.conv2d(x, w).name == dask.conv2d(x, w).name
    others = [
        dask.conv2d(x, w + 1), dask.conv2d(x, w, pad=1), dask.conv2d(x + 1, w),
        dask.conv2d(x, w, flip=True), dask.conv2d(x, w, threads=2),
        dask.conv2d(x, w, precision="fast"), dask.conv2d(x, w, backend="reference"),
    ]  # fmt: skip
    assert len({y.name for y in others} | {dask.conv2d(x, w).name}) == len(others) + 1


def test_blocks_read_borders_and_no_whole_neighbours() -> None:
    """What travels between machines are strips; whole chunks are needed where they are."""
    x = da.zeros((60, 60), chunks=20)
    y = dask.conv2d(x, np.ones((3, 3)), pad=1)
    cut = [value for key, value in y.dask.layers[y.name].items() if "border" in str(key)]
    assert len(cut) == 4 * 12 - 8
    sizes = [[stop - start for start, stop in stretches] for _, _, stretches in cut]
    assert all(sorted(size) in ([1, 20], [1, 1]) for size in sizes)
    strip = dask._cut(np.zeros((20, 20)), [(0, 1), (0, 20)])
    assert strip.base is None


def test_bad_arguments_are_refused_at_once() -> None:
    x, w = da.zeros((3, 20, 20), chunks=10), np.ones((4, 3, 3, 3))
    with pytest.raises(DTypeError, match="x must be a dask array, got ndarray"):
        dask.conv2d(np.zeros((3, 20, 20)), w)
    with pytest.raises(DTypeError, match=r"w is a dask array.*w\.compute\(\)"):
        dask.conv2d(x, da.from_array(w))
    with pytest.raises(ShapeError, match="input channel"):
        dask.conv2d(x[:2], w)
    unknown = da.ones((20, 20), chunks=10)[da.ones(20, chunks=10) > 0]
    with pytest.raises(ShapeError, match="compute_chunk_sizes"):
        dask.conv2d(unknown, np.ones((3, 3)))
    with pytest.raises(fastconv.BackendUnsupported, match="native"):
        dask.conv2d(x.astype("i8"), w.astype("i8"), backend="native")
    assert operator.length_hint(dask.__all__) == 1
