"""The tests, tested: each bug planted in a kernel's source turns them red."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from cuda_support.host_model import SCHEDULES, KernelFault, Mutation
from support.cases import Case, draw
from support.judge import assert_same_bits, compute, judge, judge_special_values

from fastconv.backends.cuda import configuration
from fastconv.backends.cuda.configuration import TILES

IGEMM, NAIVE = "igemm_simt.cu", "direct_naive.cu"

#: Tails in every direction, groups, border, bias: several steps, tiles and groups of the GEMM.
EVERYTHING = Case(
    (2, 10, 6, 7), (66, 5, 3, 2), groups=2, pad=((1, 0), (1, 2)), stride=(1, 2), dilation=(2, 1),
    bias=True,
)  # fmt: skip
NARROW = Case((2, 4, 6, 7), (2, 2, 3, 2), groups=2, pad=1, dilation=(1, 2), bias=True)


class Bug(NamedTuple):
    """A planted bug, and the words in which it must be found out (any of them)."""

    name: str
    mutation: Mutation
    found: str


def bug(name: str, file: str, old: str, new: str, found: str) -> Bug:
    return Bug(name, Mutation(file, old, new), found)


WRONG = "error .* times the bound"

BUGS = [
    bug("no barrier in the loop", IGEMM, "put(1 - buffer);\n            BARRIER();",
        "put(1 - buffer);", "race|before anything was written"),
    bug("no barrier before the loop", IGEMM, "put(0);\n    BARRIER();", "put(0);",
        "before anything was written"),
    bug("store into the buffer being read", IGEMM, "put(1 - buffer);", "put(buffer);", "race"),
    bug("compute on the wrong buffer", IGEMM, "(buffer * BK + e) * W_ROW, thread_n",
        "((1 - buffer) * BK + e) * W_ROW, thread_n", "before anything was written"),
    bug("first tile never stored", IGEMM, "put(0);\n", "", "before anything was written"),
    bug("barrier that some threads skip", IGEMM, "put(1 - buffer);\n            BARRIER();",
        "put(1 - buffer);\n            if (thread != 5) BARRIER();",
        "race|before anything was written"),
    bug("a thread that leaves early", IGEMM, "put(0);\n", "put(0);\n    if (thread == 5) return;\n",
        "threads ended while"),
    bug("barriers of two kinds", IGEMM, "put(1 - buffer);\n            BARRIER();",
        "put(1 - buffer);\n            if (thread & 1) { BARRIER(); } else {\n BARRIER(); }",
        "different barriers"),
    bug("tail of the terms skipped", IGEMM, "(terms + BK - 1) / BK", "terms / BK", WRONG),
    bug("terms beyond the last are read", IGEMM, "!term.exists || ", "",
        "outside of every operand"),
    bug("a tap one column off", IGEMM, "term.right = s *", "term.right = (s + 1) *", WRONG),
    bug("rows not dilated", IGEMM, "r * static_cast<int>(conv.dilation_h)", "r * 1", WRONG),
    bug("left pad forgotten", IGEMM, " - static_cast<int>(conv.pad_left)", "", WRONG),
    bug("vertical stride forgotten", IGEMM, "at.q * static_cast<int>(conv.stride_w)", "at.q",
        WRONG),
    bug("pixels beyond the last are stored", IGEMM, "if (m < pixels) {", "if (true) {",
        "outside of the result|second store|times the bound"),
    bug("channels beyond the last are stored", IGEMM, "                if (k < channels) {",
        "                if (true) {", "outside of the result|second store"),
    bug("weights of channels that are not there", IGEMM,
        "term.exists && first_channel + w_column + column < channels", "term.exists",
        "outside of every operand"),
    bug("input of the first group", IGEMM, " + group * conv.c * conv.x_stride_c", "", WRONG),
    bug("bias of the first group", IGEMM,
        "static_cast<const T*>(conv.bias_data) + group * conv.k",
        "static_cast<const T*>(conv.bias_data)", WRONG),
    bug("rows that are not whole vectors apart", IGEMM, "X_ROW = BM + VECTOR", "X_ROW = BM + 1",
        "misaligned vector"),
    bug("shared memory too small", IGEMM, "SHARED_ARRAY(T, 2 * BK * W_ROW, w_tile)",
        "SHARED_ARRAY(T, 2 * BK * W_ROW - VECTOR - 1, w_tile)", "of an array of"),
    bug("two threads compute the same sums", IGEMM, "lane = thread % 32", "lane = thread % 16",
        "second store"),
    bug("sum forgets", IGEMM, "multiply_add(x_fragment[i], w_fragment[j], sums[i][j])",
        "x_fragment[i] * w_fragment[j]", WRONG),
    bug("output pixel misplaced", NAIVE, "at.q * conv.y_stride_q", "0", "second store"),
    bug("outputs beyond the last", NAIVE, "index < outputs;", "index < outputs + 1;",
        "outside of (the result|every operand)"),
    bug("last tap dropped", NAIVE, "s < conv.s;", "s + 1 < conv.s;", WRONG),
    bug("last channel dropped", NAIVE, "c < conv.c;", "c + 1 < conv.c;", WRONG),
    bug("group of the wrong channel", NAIVE, "at.k / conv.k * conv.c", "0", WRONG),
    bug("border read as the edge", "borders.cuh", "return -1;", "return index < 0 ? 0 : size - 1;",
        WRONG),
]  # fmt: skip


@pytest.mark.parametrize("planted", BUGS, ids=lambda planted: planted.name.replace(" ", "-"))
def test_planted_bug_is_found(host_cuda, planted: Bug) -> None:
    case = NARROW if planted.mutation.file != IGEMM else EVERYTHING
    judge(host_cuda, case, "normal")
    host_cuda.gpu.mutations = (planted.mutation,)
    with pytest.raises(AssertionError, match=planted.found):
        judge(host_cuda, case, "normal")


MISSING_BARRIERS = [planted for planted in BUGS if planted.name.startswith("no barrier")]


@pytest.mark.parametrize("planted", MISSING_BARRIERS, ids=lambda planted: planted.name)
def test_a_missing_barrier_shows_in_the_numbers_too(host_cuda, planted: Bug) -> None:
    """With race detection off, the order of the threads alone brings it to light."""
    host_cuda.gpu.mutations, host_cuda.gpu.races = (planted.mutation,), False
    found = []
    for schedule in SCHEDULES:
        host_cuda.gpu.schedule = schedule
        try:
            judge(host_cuda, EVERYTHING, "normal")
        except KernelFault as fault:
            raise AssertionError(f"this is not about faults: {fault}") from fault
        except AssertionError:
            found.append(schedule)
    assert set(found) >= {"ascending", "descending", "shuffled"}


SKIPPED_BORDER = {
    IGEMM: Mutation(
        IGEMM,
        "sums[i][j] = multiply_add(x_fragment[i], w_fragment[j], sums[i][j]);",
        "if (x_fragment[i] != 0) "
        "sums[i][j] = multiply_add(x_fragment[i], w_fragment[j], sums[i][j]);",
    ),
    NAIVE: Mutation(
        NAIVE,
        "                // A border zero is multiplied",
        "                if (h < 0 || column < 0) continue;\n                //",
    ),
}


@pytest.mark.parametrize("file", SKIPPED_BORDER)
def test_skipping_the_border_loses_its_nans(host_cuda, file: str) -> None:
    case = EVERYTHING if file == IGEMM else NARROW
    arrays = draw(case, "normal")
    arrays.w[0, 0, 0, 0] = np.inf
    judge_special_values(host_cuda, case, arrays)
    host_cuda.gpu.mutations = (SKIPPED_BORDER[file],)
    judge(host_cuda, case, "normal")  # finite numbers do not tell
    with pytest.raises(AssertionError, match="NaN misplaced"):
        judge_special_values(host_cuda, case, arrays)


def test_accumulating_in_half_precision(host_cuda) -> None:
    case = Case((1, 16, 6, 6), (4, 16, 3, 3), dtype="float16")
    host_cuda.gpu.mutations = (
        Mutation(
            NAIVE,
            "sum = multiply_add(pixel, weight, sum);",
            "sum = widen<ACCUMULATOR_T>(narrow<RESULT_T>(multiply_add(pixel, weight, sum)));",
        ),
    )
    with pytest.raises(AssertionError, match=WRONG):
        judge(host_cuda, case, "normal")


def test_splitting_the_sum_changes_bits(host_cuda) -> None:
    """C8: were the order of the sum to follow the tile, the batch would change results."""
    case = Case((1, 7, 5, 5), (5, 7, 3, 3))
    arrays = draw(case, "spread")
    want = compute(host_cuda, case, arrays)
    host_cuda.gpu.mutations = (
        Mutation(IGEMM, "for (int e = 0; e < BK; ++e) {", "for (int e = BK - 1; e >= 0; --e) {"),
    )
    judge(host_cuda, case, "spread")  # as accurate as before
    with pytest.raises(AssertionError, match="elements differ"):
        assert_same_bits(compute(host_cuda, case, arrays), want, "reversed")


@pytest.mark.parametrize("operand", ["x", "out"])
def test_narrow_offsets_on_a_wide_array(host_cuda, far_apart: Callable, operand: str) -> None:
    """More than 2**31 items: 32-bit offsets are found out, the ladder's choice is not."""
    tile = TILES["float32"][-1]
    far_apart(operand)
    assert host_cuda.gpu.launches[-1].defines["WIDE"] == "1"
    host_cuda.force(lambda problem, strides: configuration.igemm_simt(problem, tile, wide=False))
    with pytest.raises(KernelFault, match="outside of"):
        far_apart(operand)
