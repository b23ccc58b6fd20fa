"""Every operator within its bound on every backend: corners, and random legal problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import backends
from support.judge import assert_same_bits
from support.operators import MOST, OperatorCase, cases

import fastconv
from fastconv import accuracy

RESULTS = ("y", "x", "w")

#: Where phases, borders and planes begin and end.
CORNERS = [
    OperatorCase((1, 1, 1), (1, 1, 1)),
    OperatorCase((2, 3, 40), (4, 3, 7), stride=3, pad=5, dilation=2),
    OperatorCase((1, 2, 9), (3, 2, 2), stride=4, pad=(0, 3)),  # phases without taps
    OperatorCase((1, 2, 9), (3, 2, 3), stride=2, dilation=2, pad=1),  # phases that meet nothing
    OperatorCase((1, 4, 5, 6), (6, 2, 3, 2), stride=(2, 3), dilation=(3, 2), pad=2, groups=2),
    OperatorCase((2, 3, 4, 5), (5, 3, 3, 3), pad=((6, 0), (0, 7)), stride=(1, 5)),
    OperatorCase((3, 6, 7, 8), (12, 1, 3, 3), groups=6, pad=1, stride=2),
    OperatorCase((2, 7, 6, 4), (5, 4, 2, 2), last=True, pad=1, flip=True),
    OperatorCase((2, 3, 7, 5), (4, 3, 3, 3), pad=3, pad_mode="reflect", stride=2),
    OperatorCase((1, 2, 1, 4), (3, 2, 1, 3), pad=(2, 3), pad_mode="wrap"),
    OperatorCase((1, 2, 3, 2), (2, 2, 3, 2), pad=(9, 8), pad_mode="symmetric"),
    OperatorCase((1, 2, 5, 4, 6), (3, 2, 3, 2, 3), stride=(2, 1, 2), pad=(2, 1, 0)),
    OperatorCase((2, 4, 6, 5, 4), (6, 2, 2, 3, 3), groups=2, dilation=(2, 1, 1), pad=1),
    OperatorCase((1, 2, 4, 3, 3), (2, 2, 3, 3, 3), pad=2, pad_mode="reflect"),
    OperatorCase((1, 3, 4, 4, 2), (2, 2, 2, 3, 3), last=True, pad=((1, 0), (2, 1), (0, 1))),
]


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("dtype", [*backends.FLOATS, *backends.HALVES, "int16", "int64"])
@pytest.mark.parametrize("case", CORNERS, ids=str)
def test_corners(backend: str, case: OperatorCase, dtype: str, result: str) -> None:
    case = case.with_(dtype=dtype)
    if not backends.serves(backend, dtype):
        with pytest.raises(fastconv.BackendUnsupported):
            case.compute(result, case.draw(), backend=backend)
        return
    case.judge(result, case.draw(), backend=backend)
    if dtype in backends.FLOATS:
        found = case.judge(result, case.draw(exact=True), backend=backend)
        assert found.error == 0, "integers are exact"


@pytest.mark.parametrize("result", RESULTS)
@given(case=cases(MOST))
def test_random_problems(fast_backend: str, result: str, case: OperatorCase) -> None:
    if backends.serves(fast_backend, case.dtype):
        case.judge(result, case.draw(), backend=fast_backend)


@given(case=cases(("float64",)))
def test_gradients_are_adjoint(fast_backend: str, case: OperatorCase) -> None:
    """<conv(x, w), gy> = <x, input_grad> = <w, weight_grad>, to rounding, exact for integers."""
    for exact in (True, False):
        operands = case.draw(exact)
        sums = []
        for result, other in (("y", operands.gy), ("x", operands.x), ("w", operands.w)):
            got = case.compute(result, operands, backend=fast_backend)
            sums.append(np.vdot(got.astype(np.longdouble), other.astype(np.longdouble)))
        x, w, gy = (np.abs(array) for array in operands[:3])
        scale = np.vdot(case.compute("y", operands._replace(x=x, w=w), flip=case.flip), gy)
        n = sum(case.problem(result).reduction for result in RESULTS)
        bound = 0 if exact else n * accuracy.unit_roundoff("float64") * scale
        assert abs(sums[0] - sums[1]) <= bound, "input gradient"
        assert abs(sums[0] - sums[2]) <= bound, "weight gradient"


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("case", CORNERS, ids=str)
def test_the_number_of_threads_changes_no_bit(
    fast_backend: str, case: OperatorCase, result: str
) -> None:
    big = case.with_(x=(case.x[0], *(4 * size if size > 3 else size for size in case.x[1:])))
    try:
        big.problem()
    except fastconv.ShapeError:
        big = case
    operands = big.draw()
    want = big.compute(result, operands, backend=fast_backend, threads=1)
    for threads in (2, 3, 7):
        got = big.compute(result, operands, backend=fast_backend, threads=threads)
        assert_same_bits(got, want, f"{big}, {threads} threads")


@given(case=cases(), data=st.data())
def test_any_strides_in_memory(fast_backend: str, case: OperatorCase, data: st.DataObject) -> None:
    """Views backwards and with gaps, as operands and as `out`."""

    def view(array: Any) -> Any:
        steps = [data.draw(st.sampled_from([1, 2, -1, -2])) for _ in array.shape]
        holder = np.zeros([size * abs(step) for size, step in zip(array.shape, steps, strict=True)])
        held = holder.astype(array.dtype)[tuple(slice(None, None, step) for step in steps)]
        held[...] = array
        return held

    operands = case.draw()
    for result in RESULTS:
        want = case.compute(result, operands, backend=fast_backend)
        moved = operands._replace(**{n: view(getattr(operands, n)) for n in ("x", "w", "gy")})
        got = case.compute(result, moved, backend=fast_backend, out=view(np.zeros_like(want)))
        assert_same_bits(np.ascontiguousarray(got), want, f"{case}, {result}")


def test_questions_compute_nothing() -> None:
    shape = (1, 8, 2**20, 2**20)
    assert fastconv.conv2d_input_grad.output_shape(shape, (4, 8, 3, 3), (1, 4, 2**20, 2**20),
                                                   pad=1) == shape  # fmt: skip
    cost = fastconv.conv_transpose2d.cost((1, 8, 16, 16), (8, 4, 2, 2), stride=2)
    assert cost.macs == 8 * 16 * 16 * 4 * 2 * 2
    report = fastconv.conv3d.explain((1, 2, 8, 8, 8), (4, 2, 3, 3, 3), pad=1)
    assert report.backend
    assert "D=8" in str(report)
    weight = fastconv.conv1d_weight_grad.explain((1, 2, 100), (3, 2, 5), (1, 3, 96))
    assert "gradient of w" in str(weight)
