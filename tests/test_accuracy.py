"""C0, C1, C2 and C3: every backend x shape x dtype x option within its derived bound.

Results go into an `out` full of NaN between guarded margins; errors are judged element by element
(`support.judge`), and the worst of them must not grow (`support.ratios`).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import backends, ratios
from support.backends import FLOATS, HALVES, INTEGERS
from support.cases import EXACT, FAMILIES, Case
from support.judge import gate, gated, judge, on

import fastconv
from fastconv.activations import ACTIVATIONS
from fastconv.borders import PAD_MODES
from fastconv.dtypes import is_float

# Micro-kernel tiles are up to 14 rows by 8 to 32 columns; sizes sit on, below and above the edges.
SHAPES = [
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((1, 5, 1, 1), (3, 5, 1, 1)),
    Case((2, 3, 1, 31), (13, 3, 1, 3)),
    Case((2, 3, 33, 1), (17, 3, 3, 1), pad=(1, 0)),
    Case((1, 16, 7, 13), (14, 16, 1, 1)),
    Case((1, 11, 9, 13), (3, 11, 1, 1), bias=True),
    Case((2, 70, 5, 7), (2, 70, 1, 1)),
    Case((2, 17, 5, 7), (31, 17, 1, 1), stride=2),
    Case((1, 2, 2, 2), (2, 2, 1, 1), pad=1),
    Case((1, 3, 16, 17), (7, 3, 3, 3), pad=1),
    Case((2, 7, 13, 15), (33, 7, 3, 3), pad=1, bias=True),
    Case((1, 13, 11, 11), (15, 13, 3, 3), stride=2, pad=1),
    Case((1, 32, 8, 8), (32, 32, 3, 3), pad="same"),
    Case((1, 5, 17, 14), (16, 5, 5, 5), stride=2, pad=2),
    Case((3, 2, 9, 16), (5, 2, 1, 7), pad=(0, 3)),
    Case((1, 2, 19, 9), (5, 2, 7, 1), pad=(3, 0), stride=(2, 1)),
    Case((1, 3, 9, 8), (14, 3, 2, 2), stride=2),
    Case((1, 3, 35, 34), (8, 3, 11, 11), stride=4, pad=2),
    Case((1, 1, 13, 13), (1, 1, 11, 11), pad="full"),
    Case((2, 3, 14, 13), (3, 3, 3, 3), stride=3, pad=((0, 2), (3, 1))),
    Case((1, 2, 15, 17), (3, 2, 3, 3), dilation=2, pad=2),
    Case((1, 2, 12, 19), (4, 2, 3, 3), dilation=(1, 3), stride=(2, 1), pad="same_lower"),
    Case((1, 2, 10, 12), (3, 2, 2, 3), dilation=(4, 5), pad="same", flip=True),
    Case((1, 6, 9, 10), (4, 3, 3, 3), groups=2, pad=1),
    Case((2, 15, 7, 7), (10, 3, 3, 3), groups=5, pad=1, stride=2, bias=True),
    Case((2, 8, 9, 11), (8, 1, 3, 3), groups=8, pad=1),
    Case((1, 33, 6, 7), (33, 1, 5, 5), groups=33, pad=2, stride=2, bias=True),
    Case((1, 3, 8, 8), (12, 1, 3, 3), groups=3, pad="same"),
    Case((1, 7, 5, 6), (14, 1, 1, 1), groups=7),
    Case((1, 2, 3, 4), (3, 2, 2, 2), pad=((7, 0), (2, 9))),
    Case((1, 1, 2, 3), (2, 1, 5, 5), pad=6, stride=3),
    Case((1, 2, 5, 5), (2, 2, 1, 1), stride=(7, 9)),
    Case((1, 257, 3, 3), (3, 257, 3, 3), pad=1),
    Case((1, 67, 9, 31), (37, 67, 3, 3), pad=1),
    Case((5, 3, 7, 9), (4, 3, 3, 3), pad=1),
    Case((3, 11, 12), (6, 3, 3, 3), pad=1, bias=True),
    Case((1, 4, 4), (2, 1, 4, 4)),
    Case((13, 17), (3, 3), pad=1),
    Case((31, 7), (5, 2), pad="full", flip=True, stride=2),
    Case((1, 67), (1, 5)),
]

# One small problem of every kind, for the dtypes beyond float32 and float64.
FEW = [
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((2, 7, 9, 13), (9, 7, 3, 3), pad=1, bias=True),
    Case((1, 17, 5, 7), (15, 17, 1, 1), stride=2),
    Case((1, 3, 11, 10), (4, 3, 5, 2), stride=(2, 1), dilation=(1, 2), pad=((0, 3), (2, 1))),
    Case((1, 6, 7, 8), (4, 3, 3, 3), groups=2, pad="same", layout="NHWC").with_(x=(1, 7, 8, 6)),
    Case((2, 5, 6, 6), (10, 1, 3, 3), groups=5, pad=2, pad_mode="reflect"),
    Case((3, 8, 9), (5, 3, 3, 3), pad=1, pad_mode="wrap", bias=True),
    Case((12, 11), (3, 4), pad="full", flip=True),
]

PADDED = [
    Case((2, 3, 7, 9), (5, 3, 3, 3), pad=((1, 2), (3, 1)), bias=True),
    Case((1, 2, 3, 5), (3, 2, 3, 3), pad=((5, 8), (11, 7)), stride=2),
    Case((1, 4, 6, 6), (4, 1, 5, 5), groups=4, pad=2, dilation=2),
    Case((1, 2, 1, 4), (2, 2, 1, 3), pad=(2, 3)),
]


def run(backend: str, case: Case, families: list[str]) -> None:
    """Judge a case on several families of data, and keep the worst errors."""
    reason = backends.refusal(backend, case.problem)
    if reason is not None:
        assert len(reason) > 20, "a refusal without a reason"
        with pytest.raises(fastconv.BackendUnsupported, match="computes"):
            judge(on(backend), case, families[0])
        return
    algorithm = fastconv.explain(
        np.empty(case.x, case.dtype),
        np.empty(case.w, case.dtype),
        backend=backend,
        bias=(case.problem.k,) if case.bias else None,
        **case.arguments,
    ).algorithm
    for family in families:
        found = judge(on(backend), case, family)
        if is_float(case.problem.out_dtype):
            figures = {"bound": found.ratio}
            if gated(case, family):
                figures["gate"] = found.units / gate(case)
            key = ratios.key_of(backend, algorithm, case.dtype, case.problem.reduction)
            ratios.TABLE.record(key, figures)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_floats(backend: str, case: Case, dtype: str) -> None:
    families = ["integers", "normal"] if backend == "reference" else list(FAMILIES)
    run(backend, case.with_(dtype=dtype), families)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_channels_last(fast_backend: str, case: Case, dtype: str) -> None:
    run(fast_backend, case.channels_last().with_(dtype=dtype), ["integers", "normal"])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_floats_of_16_bits_round_once(backend: str, case: Case, dtype: str) -> None:
    few = dtype == "float16" or case.problem.reduction < 2**8  # integers, else, are not exact
    families = [f for f in FAMILIES if f != "underflow" and (few or f not in EXACT)]
    run(backend, case.with_(dtype=dtype), families)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_integers_are_exact_modulo_two_to_the_bits(backend: str, case: Case, dtype: str) -> None:
    run(backend, case.with_(dtype=dtype), ["integers"])


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", PADDED, ids=str)
def test_pad_modes(backend: str, case: Case, dtype: str, layout: str, pad_mode: str) -> None:
    held = case if layout == "NCHW" else case.channels_last()
    run(backend, held.with_(dtype=dtype, pad_mode=pad_mode), ["integers", "normal"])


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
def test_bias_and_activations(backend: str, dtype: str, activation: str | None) -> None:
    base = Case((2, 3, 6, 7), (5, 3, 3, 3), pad=1, dtype=dtype, activation=activation)
    families = ["integers", "normal", "spread", "subnormal"]
    for bias, last in itertools.product((False, True), repeat=2):
        case = base.with_(bias=bias)
        run(backend, case.channels_last() if last else case, families)
    run(backend, base.with_(x=(1, 6, 6, 7), w=(6, 1, 3, 3), groups=6, bias=True), families)
    run(backend, base.with_(x=(1, 3, 5, 5), w=(5, 3, 1, 1), pad=0, bias=True), families)


@pytest.mark.parametrize("activation", [n for n, a in ACTIVATIONS.items() if a.integers])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_activations(backend: str, dtype: str, activation: str) -> None:
    case = Case((2, 3, 6, 7), (5, 3, 3, 3), pad=1, bias=True, dtype=dtype, activation=activation)
    run(backend, case, ["integers"])


@pytest.mark.parametrize("c", range(1, 18))
def test_every_channel_count(backend: str, c: int) -> None:
    """C and K each 1 to 17, the whole grid: remainders of every tile in both directions."""
    for k in range(1, 18):
        dtype = FLOATS[(c + k) % 2]
        run(backend, Case((1, c, 5, 6), (k, c, 3, 3), pad=1, dtype=dtype), ["integers"])
        run(backend, Case((1, c, 2, 3), (k, c, 1, 1), dtype=dtype), ["normal"])


@pytest.mark.parametrize("q", [1, 2, 3, 5, 7, 8, 13, 14, 15, 16, 17, 31, 32, 33, 61])
def test_every_row_length(backend: str, q: int) -> None:
    """Output rows around the register tiles, with and without a border."""
    for dtype, (p, pad) in itertools.product(FLOATS, [(1, 0), (2, 1), (3, 1)]):
        taps = 1 + 2 * pad
        case = Case((1, 3, p, q), (5, 3, taps, taps), pad=pad, dtype=dtype)
        run(backend, case, ["integers", "normal"])
        run(backend, case.channels_last(), ["integers"])


@pytest.mark.parametrize("dtype", FLOATS)
def test_workspace_and_threads_do_not_matter_to_correctness(backend: str, dtype: str) -> None:
    """The smallest workspace means many cache blocks, whose seams are what goes wrong."""
    case = Case((1, 70, 12, 33), (37, 70, 3, 3), pad=1, bias=True, dtype=dtype)
    with fastconv.options(workspace=1 << 16, threads=3):
        run(backend, case, ["integers", "normal"])


def test_an_unforced_call_is_as_good() -> None:
    """Without backend= the table chooses; the promise is the same."""
    for dtype in (*FLOATS, *HALVES, "int8"):
        judge(fastconv.conv2d, FEW[1].with_(dtype=dtype), "integers")


@pytest.mark.parametrize(("x", "w"), [("bool", "bool"), ("bool", "float32"), ("uint8", "int8")])
def test_mixed_dtypes_promote_first(backend: str, x: str, w: str) -> None:
    rng = np.random.default_rng(7)
    image = rng.integers(0, 2, (1, 2, 5, 6)).astype(x)
    kernel = rng.integers(0, 2, (3, 2, 3, 3)).astype(w)
    want = fastconv.conv2d(image.astype("f8"), kernel.astype("f8"), backend="reference")
    common = np.result_type(np.uint8 if x == w == "bool" else x, w)
    if backends.serves(backend, common.name):
        assert np.array_equal(fastconv.conv2d(image, kernel, backend=backend), want)
    else:
        with pytest.raises(fastconv.BackendUnsupported):
            fastconv.conv2d(image, kernel, backend=backend)
