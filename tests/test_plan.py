"""Plans: the call's own bits, whatever becomes of the caller's arrays, batch, threads, process."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import ALL_DTYPES, FLOATS, present, serves
from support.cases import Case, draw, generator
from support.example import BIAS, WANT, Array, W, X
from support.judge import (
    assert_same_bits,
    compute,
    judge,
    judge_determinism,
    judge_special_values,
)
from support.memory import linux

import fastconv
from fastconv.dtypes import is_float

CASES = [
    Case((2, 3, 13, 17), (7, 3, 3, 3), pad=1, bias=True),
    Case((1, 16, 9, 11), (33, 16, 3, 3), pad=1, stride=2, activation="relu"),
    Case((3, 40, 7, 5), (19, 40, 1, 1), activation="gelu"),
    Case((2, 16, 15, 14), (16, 1, 3, 3), groups=16, pad=1, activation="silu", bias=True),
    Case((2, 12, 9, 10), (18, 4, 3, 3), groups=3, pad=((0, 2), (1, 0)), stride=(2, 1)),
    Case((1, 1, 31, 47), (1, 1, 11, 11), pad="same", pad_mode="reflect"),
    Case((3, 5, 12, 9), (6, 5, 3, 3), pad=2, dilation=2).channels_last(),
    Case((2, 32, 12, 9), (48, 32, 3, 3), pad=1, pad_mode="wrap", bias=True).channels_last(),
    Case((5, 12, 9), (6, 5, 2, 3), pad="same", pad_mode="edge"),
    Case((12, 9, 5), (6, 5, 2, 3), pad=1, pad_mode="symmetric", layout="NHWC"),
    Case((37, 29), (5, 5), pad="full", flip=True),
    Case((2, 3, 9, 9), (4, 3, 4, 3), flip=True),
]


def planned(backend: str, case: Case, w: Array, bias: Array | None, **more: Any) -> Any:
    return fastconv.plan_conv2d(
        w, case.x, bias=bias, backend=backend, x_dtype=case.dtype, **case.arguments, **more
    )


def through_plan(backend: str) -> Any:
    """conv2d by way of a plan, for the functions that judge."""

    def convolve(x: Array, w: Array, *, bias: Any = None, out: Any = None, **arguments: Any) -> Any:
        plan = fastconv.plan_conv2d(
            w, x.shape, bias=bias, x_dtype=x.dtype, backend=backend, **arguments
        )
        return plan(x, out=out)

    return convolve


# -- the call's own bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plan_has_the_bits_of_the_call(backend: str, case: Case, dtype: str) -> None:
    if not serves(backend, dtype):
        return
    if case.activation is not None and np.dtype(dtype).kind != "f":
        case = case.with_(activation="relu")
    case = case.with_(dtype=dtype)
    arrays = draw(case, "normal" if is_float(dtype) else "integers")
    want = fastconv.conv2d(arrays.x, arrays.w, bias=arrays.bias, backend=backend, **case.arguments)
    plan = planned(backend, case, arrays.w, arrays.bias)
    for _ in range(2):
        assert_same_bits(plan(arrays.x), want, "a plan")
    assert plan.problem == fastconv.explain(
        arrays.x, arrays.w, bias=arrays.bias, backend=backend, **case.arguments
    ).problem  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_accuracy_and_determinism(fast_backend: str, case: Case, dtype: str) -> None:
    held = case.with_(dtype=dtype)
    judge(through_plan(fast_backend), held, "spread")
    judge_determinism(through_plan(fast_backend), held, draw(held, "spread"))


@pytest.mark.parametrize("where", ["x", "w"])
def test_special_values(backend: str, where: str) -> None:
    for case in (CASES[0], CASES[4], CASES[5], CASES[6], CASES[10]):
        arrays = draw(case, "normal")
        held = getattr(arrays, where)
        held.flat[[0, held.size // 2, held.size - 1]] = np.nan, np.inf, -np.inf
        judge_special_values(through_plan(backend), case, arrays)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_batch(backend: str, case: Case) -> None:
    """One plan serves every N, 0 included, with the bits of the plain call."""
    if len(case.x) != 4:
        return
    plan = planned(backend, case, *draw(case, "normal")[1:])
    for n in (case.x[0], 1, 5, 0, case.x[0]):
        arrays = draw(case.with_(x=(n, *case.x[1:])), "normal") if n else None
        x = np.empty((0, *case.x[1:]), "f4") if arrays is None else arrays.x
        w, bias = draw(case, "normal")[1:]
        want = fastconv.conv2d(x, w, bias=bias, backend=backend, **case.arguments)
        assert_same_bits(plan(x), want, f"{n} images")


def test_many_batch_sizes(backend: str) -> None:
    """More of them than a plan remembers."""
    x = generator("batches").standard_normal((200, 2, 3, 3)).astype("f4")
    w = generator("weights").standard_normal((2, 2, 2, 2)).astype("f4")
    want = fastconv.conv2d(x, w, backend=backend)
    plan = fastconv.plan_conv2d(w, x.shape, backend=backend)
    for n in range(201):
        assert_same_bits(plan(x[:n]), want[:n], f"{n} images")


def test_empty_plans(backend: str) -> None:
    """Planned for no image, a plan still serves some; without output channels it serves none."""
    x, w = np.ones((2, 3, 5, 5), "f4"), np.ones((4, 3, 3, 3), "f4")
    plan = fastconv.plan_conv2d(w, (0, 3, 5, 5), backend=backend)
    assert plan(x[:0]).shape == (0, 4, 3, 3)
    assert (plan(x) == 27).all()
    nothing = fastconv.plan_conv2d(w[:0], x.shape, backend=backend)
    assert nothing(x).shape == (2, 0, 3, 3)
    assert nothing.explain().packed_bytes == 0
    assert "empty" in repr(nothing)


# -- options, reports, processes -------------------------------------------------------------------


def test_options_are_those_of_the_planning(backend: str) -> None:
    with fastconv.options(backend=backend, threads=3, workspace=1 << 17):
        plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS)
    with fastconv.options(backend="reference", threads=1):
        report = plan.explain()
        assert (report.backend, report.threads) == (backend, 3)
        assert_same_bits(plan(X), WANT, "options of another block")
        again = pickle.loads(pickle.dumps(plan))  # noqa: S301
    assert (again.explain().backend, again.explain().threads) == (backend, 3)
    assert again._call.options.workspace == 1 << 17


def test_explain(backend: str) -> None:
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, activation="relu", backend=backend)
    report = plan.explain()
    want = fastconv.explain(X, W, 2, 1, bias=BIAS, activation="relu", backend=backend)
    assert (report.problem, report.backend, report.algorithm, report.cost) == (
        want.problem, want.backend, want.algorithm, want.cost
    )  # fmt: skip
    assert report.scratch_bytes >= 0
    assert ("packed" in str(report)) == (report.packed_bytes > 0)
    assert want.packed_bytes == 0
    assert backend in repr(plan)
    assert report.algorithm in repr(plan)
    assert "N=2, C=3, H=7, W=8" in repr(plan)


def test_pickled_plans_are_equal(backend: str) -> None:
    for case in CASES:
        arrays = draw(case, "normal")
        plan = planned(backend, case, arrays.w, arrays.bias, threads=2)
        again = pickle.loads(pickle.dumps(plan))  # noqa: S301
        assert again.problem == plan.problem
        assert str(again.explain()) == str(plan.explain())
        assert_same_bits(again(arrays.x), plan(arrays.x), f"{case} pickled")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_child_process(backend: str, method: str) -> None:
    """A spawned child makes the plan anew; a forked one inherits its packed weights."""
    source = f"""
import multiprocessing, warnings
import numpy as np, fastconv
w = np.arange(36, dtype="f4").reshape(4, 1, 3, 3)
x = np.arange(200, dtype="f4").reshape(2, 1, 10, 10)
plan = fastconv.plan_conv2d(w, x.shape, pad=1, backend={backend!r}, threads=2)

if __name__ == "__main__":
    want = plan(x)
    context = multiprocessing.get_context({method!r})
    with context.Pool(1) as pool:
        got = pool.apply_async(plan, (x,)).get(timeout=120)
    assert got.tobytes() == want.tobytes()
    print("the same")
"""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {method}")
    assert processes.run(source).strip() == "the same"


def test_concurrent_threads(backend: str) -> None:
    """One plan, many threads, several batch sizes at once."""
    case = CASES[0].with_(x=(9, 3, 13, 17))
    arrays = draw(case, "normal")
    want = compute(through_plan(backend), case, arrays)
    plan = planned(backend, case, arrays.w, arrays.bias, threads=2)

    def call(i: int) -> None:
        n = i % 9 + 1
        out = np.empty_like(want[:n])
        assert_same_bits(plan(arrays.x[:n], out=out), want[:n], f"thread {i}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call, i) for i in range(100)]:
            done.result(timeout=processes.PATIENCE)


def test_a_plan_keeps_no_images(backend: str) -> None:
    plan = fastconv.plan_conv2d(W, X.shape, 2, 1, bias=BIAS, backend=backend)
    x = X.copy()
    before = sys.getrefcount(x)
    y = plan(x)
    out = np.empty_like(y)
    plan(x, out=out)
    gc.collect()
    assert sys.getrefcount(x) == before
    assert sys.getrefcount(out) == sys.getrefcount(y)


LEAK = """
import gc, sys
import numpy as np
import fastconv
from support.memory import resident

w = np.ones((64, 32, 5, 5), "f4")  # 205 kB, and as much again where it is packed
x = np.ones((1, 32, 8, 8), "f4")

def round_of_plans(count):
    for i in range(count):
        plan = fastconv.plan_conv2d(w, x.shape, pad=i % 3, backend=sys.argv[1], threads=1)
        if i % 8 == 0:
            plan(x)
        try:
            plan(x[:, :1])
        except ValueError:
            pass

round_of_plans(20)
before = resident()
round_of_plans(200)
assert resident() - before < 4 << 20, resident() - before
print("nothing left behind")
"""


@linux
def test_plans_give_their_memory_back(fast_backend: str) -> None:
    assert processes.run(LEAK, fast_backend).strip() == "nothing left behind"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_large_weights_of_several_groups(layout: str) -> None:
    """Whose tasks come in an order of their own: every image meets every group's weights."""
    present("native")
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (3, 512, 5, 4)).astype("f4")
    w = rng.integers(-3, 4, (1024, 256, 3, 3)).astype("f4")  # 9 MiB
    axis = 1 if layout == "NCHW" else 3
    held = x if axis == 1 else np.ascontiguousarray(np.moveaxis(x, 1, 3))
    plan = fastconv.plan_conv2d(w, held.shape, pad=1, groups=2, layout=layout, backend="native")
    out = np.full(plan.problem.out_shape, np.nan, "f4")
    plan(held, out=out)
    for n, group in itertools.product(range(3), range(2)):
        part = x[n : n + 1, 256 * group : 256 * group + 256]
        want = fastconv.conv2d(part, w[512 * group : 512 * group + 512], pad=1)[0]
        got = np.moveaxis(out, axis, 1)[n, 512 * group : 512 * group + 512]
        np.testing.assert_array_equal(got, want)
