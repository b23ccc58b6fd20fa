"""Every operator once: its result asserted, its speed in pytest-benchmark's own table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.operators.every import Call, calls


@pytest.mark.benchmark(group="operators")
@pytest.mark.parametrize("call", calls(), ids=lambda call: call.name)
def test_operator(benchmark: Any, call: Call) -> None:
    call.run()  # compile, before the clock runs
    got, want = benchmark(call.run), call.expected()
    for mine, theirs in zip(*(a if isinstance(a, tuple) else (a,) for a in (got, want)),
                            strict=True):  # fmt: skip
        np.testing.assert_array_equal(mine, theirs)
