"""Random legal problems over the whole surface, held against the contract; the same in every run.

``pytest --hypothesis-profile=explore`` draws thousands of new ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from support import backends
from support.cases import EXACT, FAMILIES, Case, draw, logical_image
from support.judge import assert_same_bits, compute, judge, on

import fastconv
from fastconv.activations import ACTIVATIONS
from fastconv.borders import PAD_MODES
from fastconv.dtypes import is_float

#: float64 and float32 most of the time: the other dtypes share their code paths.
DTYPES = st.sampled_from(
    [*backends.FLOATS * 4, *backends.HALVES, "int8", "uint8", "int16", "int32", "int64"]
)
MAX_MACS = 400_000


@st.composite
def pads(draw: st.DrawFn) -> Any:
    """Draw any spelling of a pad."""
    some = st.integers(0, 6)
    return draw(
        st.one_of(
            st.sampled_from(["valid", "same", "same_lower", "full"]),
            some,
            st.tuples(some, some),
            st.tuples(st.tuples(some, some), st.tuples(some, some)),
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a legal problem of at most `MAX_MACS` multiply-accumulates."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    cg, kg = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    h, w = draw(st.integers(1, 24)), draw(st.integers(1, 40))
    r, s = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    step = st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 5), st.integers(1, 5)))
    spread = st.one_of(
        st.just(1), st.integers(1, 3), st.tuples(st.integers(1, 4), st.integers(1, 4))
    )
    dtype = draw(DTYPES)
    floating = is_float(dtype)
    rank = draw(st.sampled_from([2, 3, 4, 4, 4]))
    n = draw(st.integers(1, 3)) if rank == 4 else 1
    x: tuple[int, ...] = (n, cg * groups, h, w)
    kernel: tuple[int, ...] = (kg * groups, cg, r, s)
    if rank == 2:
        groups, x, kernel = 1, (h, w), (r, s)
    case = Case(
        x if rank != 3 else x[1:],
        kernel,
        stride=draw(step),
        pad=draw(pads()),
        dilation=draw(spread),
        groups=groups,
        pad_mode=draw(st.sampled_from(PAD_MODES)),
        bias=draw(st.booleans()),
        activation=draw(
            st.sampled_from(
                [None, None, *(name for name, a in ACTIVATIONS.items() if floating or a.integers)]
            )
        ),
        flip=draw(st.booleans()),
        dtype=dtype,
    )
    if draw(st.booleans()):
        case = case.channels_last()
    try:
        macs = case.problem.cost.macs
    except fastconv.ShapeError:
        assume(False)
    assume(macs <= MAX_MACS)
    most = {"float16": 2**11, "bfloat16": 2**8}  # integers whose sums are exact
    assume(case.problem.reduction + 1 <= most.get(dtype, case.problem.reduction + 1))
    return case


@given(case=cases(), family=st.sampled_from(list(FAMILIES)))
def test_random_problems_keep_the_contract(backend: str, case: Case, family: str) -> None:
    assume(case.dtype not in backends.HALVES or family != "underflow")
    if not is_float(case.dtype):
        family = "integers"
    if backends.refusal(backend, case.problem) is not None:
        case = case.with_(dtype="float32", activation=None)
    judge(on(backend), case, family)


@given(case=cases(), threads=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_random_memory_and_threads_change_no_bit(
    fast_backend: str, case: Case, threads: int, seed: int
) -> None:
    """Axes reversed, permuted and spaced at random, with any threads: the same bits."""
    if backends.refusal(fast_backend, case.problem) is not None:
        case = case.with_(dtype="float64", activation=None)
    rng = np.random.default_rng(seed)
    arrays = draw(case, "spread" if is_float(case.dtype) else "integers")
    want = compute(on(fast_backend), case, arrays, threads=1)

    def scatter(a: np.ndarray) -> np.ndarray:
        order = rng.permutation(a.ndim)
        signs = tuple(slice(None, None, step) for step in rng.choice([1, -1, 2, 3], a.ndim))
        shape = [n * abs(s.step) for n, s in zip(np.array(a.shape)[order], signs, strict=True)]
        room = np.zeros(shape, a.dtype)[signs].transpose(np.argsort(order))
        room[...] = a
        return room

    held = arrays._replace(x=scatter(arrays.x), w=scatter(arrays.w))
    out = scatter(np.zeros_like(want))
    got = fastconv.conv2d(
        held.x, held.w, bias=held.bias, out=out, backend=fast_backend, threads=threads,
        **case.arguments,
    )  # fmt: skip
    assert got is out
    assert_same_bits(np.ascontiguousarray(got), want, f"{case}, {threads} threads")


@given(case=cases())
def test_backends_agree_on_integers_to_the_bit(case: Case) -> None:
    """Where sums are exact, every backend that serves gives the reference's bits."""
    smooth = case.activation not in (None, "relu", "relu6")
    case = case.with_(activation=None) if smooth else case
    arrays = draw(case, EXACT[0])
    want = compute(on("reference"), case, arrays)
    for name in fastconv.available_backends():
        if name in backends.FAST and backends.refusal(name, case.problem) is None:
            got = compute(on(name), case, arrays)
            assert np.array_equal(
                logical_image(got, case.layout), logical_image(want, case.layout)
            ), name
