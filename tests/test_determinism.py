"""C8: the same bits from run to run, for any threads, batch, alignment, thread or process."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import children
from support.backends import FLOATS, HALVES, serves
from support.cases import Arrays, Case, draw
from support.judge import THREADS, assert_same_bits, compute, judge_determinism, offset, on
from support.operators import OperatorCase

import fastconv

CASES = [
    Case((5, 3, 13, 17), (7, 3, 3, 3), pad=1, bias=True),
    Case((3, 67, 9, 11), (33, 67, 3, 3), pad=1),
    Case((3, 200, 7, 5), (19, 200, 1, 1), activation="gelu"),
    Case((4, 16, 15, 14), (16, 1, 3, 3), groups=16, pad=1, activation="relu"),
    Case((3, 12, 9, 10), (18, 4, 3, 3), groups=3, pad=1, stride=2),
    Case((2, 1, 31, 47), (1, 1, 11, 11), pad="same", pad_mode="reflect"),
    Case((3, 5, 12, 9), (6, 5, 3, 3), pad=2, dilation=2, activation="silu").channels_last(),
    Case((37, 29), (5, 5), pad="full", flip=True),
]


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads_batch_and_alignment(backend: str, case: Case, dtype: str) -> None:
    if not serves(backend, dtype):
        return  # test_accuracy holds the refusal itself
    held = case.with_(dtype=dtype)
    judge_determinism(on(backend), held, draw(held, "spread"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_memory_layout_of_the_operands(backend: str, dtype: str) -> None:
    """Strides of x, w and out choose how memory is walked, never the order of a sum."""
    case = Case((2, 37, 9, 11), (13, 37, 3, 3), pad=1, dtype=dtype)
    x, w, _ = draw(case, "spread")
    want = compute(on(backend), case, Arrays(x, w, None))
    wide = np.zeros((2, 37, 9, 22), dtype)
    wide[..., ::2] = x
    reversed_x = np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]
    by_pixel = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    by_tap = np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    for held_x in (wide[..., ::2], reversed_x, by_pixel, np.asfortranarray(x)):
        for held_w in (w, by_tap, np.asfortranarray(w)):
            got = compute(on(backend), case, Arrays(held_x, held_w, None))
            assert_same_bits(got, want, f"strides {held_x.strides} and {held_w.strides}")
    out = np.empty((2, 9, 11, 26), dtype).transpose(0, 3, 1, 2)[:, ::-2]
    got = fastconv.conv2d(x, w, pad=1, out=out, backend=backend)
    assert_same_bits(got, want, "strided out")


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_channel_alone_is_the_same_channel(backend: str, dtype: str) -> None:
    """Splitting K, as a thread or a tile does, changes nothing."""
    case = Case((1, 40, 10, 12), (23, 40, 3, 3), pad=1, dtype=dtype)
    x, w, _ = draw(case, "spread")
    want = fastconv.conv2d(x, w, pad=1, backend=backend, threads=1)
    for threads in (1, 2, 3, 7):
        got = fastconv.conv2d(x, w, pad=1, backend=backend, threads=threads)
        assert_same_bits(got, want, f"{threads} threads")


def test_concurrent_python_threads(backend: str) -> None:
    """Many threads call at once, each for several threads of its own: right, and no abort."""
    cases = [c.with_(dtype=d) for c in CASES[:6] for d in FLOATS]
    wanted = [compute(on(backend), c, draw(c, "normal"), threads=1) for c in cases]

    def call(index: int) -> None:
        case = cases[index % len(cases)]
        got = compute(on(backend), case, draw(case, "normal"), threads=1 + index % 3)
        assert_same_bits(got, wanted[index % len(cases)], f"concurrent call {index}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call, i) for i in range(60)]:
            done.result(timeout=children.PATIENCE)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_child_process(backend: str, method: str) -> None:
    """A child answers with the parent's bits: forked after the parent has used its threads."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {method}")
    case = CASES[1]
    want = compute(on(backend), case, draw(case, "normal"), threads=3)
    for threads in (1, 3) if method == "fork" else (3,):
        got = children.ask(method, backend, case, threads)
        assert_same_bits(got, want, f"{method}, {threads} threads")
    again = compute(on(backend), case, draw(case, "normal"), threads=3)
    assert_same_bits(again, want, f"the parent after {method}")


# -- gradients, transposed convolutions, signals and volumes ---------------------------------------

OPERATORS = [
    OperatorCase((3, 8, 40, 37), (24, 8, 3, 3), pad=1),
    OperatorCase((3, 33, 14, 15), (20, 33, 1, 1), stride=2),
    OperatorCase((4, 24, 30, 28), (24, 1, 3, 3), pad=1, groups=24),
    OperatorCase((3, 12, 17, 19), (18, 4, 5, 3), stride=(2, 1), pad=2, groups=3),
    OperatorCase((2, 15, 16, 6), (8, 6, 3, 3), pad=2, pad_mode="reflect", last=True),
    OperatorCase((3, 16, 900), (24, 16, 7), pad=3, stride=2),
    OperatorCase((2, 4, 7, 16, 15), (6, 4, 3, 3, 3), pad=1),
]
OPERATOR_DTYPES = (*FLOATS, *HALVES, "int16", "complex64")


def operands_of(case: OperatorCase) -> Any:
    """Draw operands whose sums round differently in every order."""
    if case.dtype != "complex64":
        return case.draw()
    real, imaginary = case.with_(dtype="float32").draw(), case.with_(dtype="float64").draw()
    parts = zip(real[:3], imaginary[:3], strict=True)
    return real._replace(
        **{n: (a + 1j * b).astype("c8") for n, (a, b) in zip(("x", "w", "gy"), parts, strict=True)}
    )


def run(case: OperatorCase, result: str, operands: Any, backend: str, **options: Any) -> Any:
    """Compute y, a gradient, or ``t``, the transposed convolution of gy with bias and all."""
    if result != "t":
        given = {} if case.dtype != "complex64" else {"out": None}
        return case.compute(result, operands, backend=backend, **given, **options)
    convolve = getattr(fastconv, f"conv_transpose{case.spatial}d")
    plain = case.dtype in (*FLOATS, *HALVES)
    channels = case.w[1] * case.groups
    return convolve(
        operands.gy, operands.w, case.stride, 1, groups=case.groups, layout=case.layout,
        bias=np.arange(channels).astype(case.dtype), activation="tanh" if plain else None,
        backend=backend, **options,
    )  # fmt: skip


@pytest.mark.parametrize("result", ["y", "x", "w", "t"])
@pytest.mark.parametrize("dtype", OPERATOR_DTYPES)
@pytest.mark.parametrize("case", OPERATORS, ids=str)
def test_operators_for_threads_batch_and_alignment(
    fast_backend: str, case: OperatorCase, dtype: str, result: str
) -> None:
    """w's gradient sums over the batch in one order; all else does not know the other images."""
    if dtype != "complex64" and not serves(fast_backend, dtype):
        return
    case = case.with_(dtype=dtype)
    if dtype not in FLOATS and case.x[-1] > 100:
        case = case.with_(x=(*case.x[:-1], 200))
    operands = operands_of(case)
    want = run(case, result, operands, fast_backend, threads=1)
    for threads in THREADS:
        got = run(case, result, operands, fast_backend, threads=threads)
        assert_same(got, want, f"{case}, {result}: {threads} threads")
    moved = operands._replace(**{n: offset(getattr(operands, n), 3) for n in ("x", "w", "gy")})
    got = run(case, result, moved, fast_backend)
    assert_same(got, want, f"{case}, {result}: other addresses")
    if result == "w":
        return
    for i in range(case.x[0]):
        alone = operands._replace(x=operands.x[i : i + 1], gy=operands.gy[i : i + 1])
        got = run(case.with_(x=alone.x.shape), result, alone, fast_backend, threads=2)
        assert_same(got, want[i : i + 1], f"{case}, {result}: image {i} alone")


def assert_same(got: Any, want: Any, what: str) -> None:
    """Compare bits; those of complex numbers as the bits of their parts."""
    if got.dtype.kind == "c":
        got, want = (np.stack([a.real, a.imag]) for a in (got, want))
    assert_same_bits(got, want, what)


@pytest.mark.parametrize("result", ["x", "w"])
def test_concurrent_gradients(fast_backend: str, result: str) -> None:
    """Python threads that share the workers of one process."""
    cases = [c.with_(dtype=d) for c in OPERATORS[:4] for d in FLOATS]
    wanted = [run(c, result, operands_of(c), fast_backend, threads=1) for c in cases]

    def call(index: int) -> None:
        case = cases[index % len(cases)]
        got = run(case, result, operands_of(case), fast_backend, threads=1 + index % 3)
        assert_same_bits(got, wanted[index % len(cases)], f"concurrent {result} {index}")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call, i) for i in range(32)]:
            done.result(timeout=children.PATIENCE)
