"""Calls that others lose memory on: sizes past 2**31, page ends, refused allocations."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv

from . import backends, processes
from .cases import Case, draw
from .judge import judge_crop, on

Array = np.ndarray[Any, Any]


def im2col_beyond_int32(backend: str) -> None:
    """The whole problem on fast backends; the oracle runs one image of it, two channels."""
    case = Case((10, 1, 81, 980), (32, 1, 21, 11), stride=(2, 1), pad=(10, 5))
    if backend == "reference":
        case = case.with_(x=(1, 1, 81, 980), w=(2, 1, 21, 11))
    arrays = draw(case, "normal")
    y = on(backend)(arrays.x, arrays.w, **case.arguments)
    p, q = y.shape[2:]
    for rows in (slice(0, 2), slice(19, 21), slice(p - 2, p)):
        for columns in (slice(0, 7), slice(q - 7, q)):
            judge_crop(case, arrays, y, rows, columns)


LARGE_IM2COL = """
import resource, sys
import numpy as np
import fastconv
from support.cases import Arrays, Case
from support.judge import judge_crop, on

cap = 3 << 30
resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
case = Case((1, 64, 1167, 1167), (int(sys.argv[2]), 64, 5, 5), dilation=2)
x = np.arange(64 * 1167 * 1167, dtype=np.uint32).reshape(case.x)
x *= 2654435761
x >>= 23
x = x.view(np.int32)
x -= 256
x = x.astype(np.float32)
w = np.random.default_rng(30).standard_normal(case.w, np.float32)
y = on(sys.argv[1])(x, w, **case.arguments)
for rows in (slice(0, 1), slice(577, 578), slice(1158, 1159)):
    for columns in (slice(0, 3), slice(1150, 1159)):
        judge_crop(case, Arrays(x, w, None), y, rows, columns)
print("right")
"""


def im2col_beyond_memory(backend: str) -> None:
    """im2col would take 8.6 GB and 2.15e9 elements whatever K is; numba takes an eighth of K."""
    if backend == "reference":
        return  # the definition in longdouble is what the other two are held against, on crops
    channels = "64" if backend == "native" else "8"
    assert processes.run(LARGE_IM2COL, backend, channels).strip() == "right"


def available_gigabytes() -> float:
    """Memory that can be had without swapping; plenty where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1e3
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable"))


@functools.cache
def far_apart() -> tuple[Array, Array]:
    """Return an image of 2.4 GB and room for its result: built once, paging in takes longest."""
    if available_gigabytes() < 6:
        pytest.skip("needs 5 GB of free memory")
    x = np.empty((1, 1, 300000, 1000))
    x[..., 0::2, 0::2] = x[..., 1::2, 1::2] = 0
    x[..., 0::2, 1::2] = x[..., 1::2, 0::2] = 1
    return x, np.empty((1, 1, 300000, 999))


def offsets_beyond_two_gigabytes(backend: str) -> None:
    """The oracle takes every 499th row, whose byte offsets pass 2**31 all the same."""
    x, out = far_apart()
    w, stride = np.ones((1, 1, 1, 2)), 1
    if backend == "reference":
        out, stride = out[:, :, :602], (499, 1)
    out.fill(np.nan)
    y = fastconv.conv2d(x, w, stride, out=out, backend=backend)
    assert y[0, 0, -1].min() == y[0, 0, -1].max() == 1
    assert y.min() == y.max() == 1


GUARDED = """
import sys
from support.guard import walk
from support.judge import on
print(walk(on(sys.argv[1]), range(1, 34), sys.argv[2].split(",")))
"""


def guard_pages(backend: str) -> None:
    wanted = ("float32", "float16", "int8") if backend == "numba" else backends.ALL_DTYPES[:4]
    dtypes = [d for d in wanted if backends.serves(backend, d)]  # compiling a dtype takes seconds
    calls = processes.run(GUARDED, backend, ",".join(dtypes))
    assert int(calls) == len(dtypes) * 33 * 8 * 2


REFUSED_SCRATCH = """
import resource, sys
import numpy as np
import fastconv
from support.cases import Case, draw
from support.judge import on
from support.memory import address_space

backend = sys.argv[1]
case = Case((1, 256, 64, 64), (64, 256, 3, 3), pad=1, dtype="float64")
arrays = draw(case, "integers")
out = np.empty(case.problem.out_shape)
convolve = on(backend, threads=2)
small = [a[:, :16] for a in arrays[:2]]
want = fastconv.conv2d(*small, pad=1, backend="reference")
# compile and start threads while there is memory
assert np.array_equal(convolve(*small, pad=1), want)

scratch = fastconv.explain(*arrays[:2], pad=1, backend=backend, threads=2).scratch_bytes
assert scratch > 1 << 17, f"{scratch} bytes are not enough to refuse"
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (address_space() + (64 << 20), hard))
hoard, size = [], 1 << 24  # until no block of 64 KiB is left, in the heap or outside
while size >= 1 << 16:
    try:
        hoard.append(np.empty(size, np.uint8))
    except MemoryError:
        size //= 2
refusals = 0
for repeat in range(3):
    try:
        convolve(*arrays[:2], pad=1, out=out)
    except MemoryError:
        refusals += 1
del hoard
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
assert refusals == 3, f"scratch was granted {3 - refusals} times"
assert np.array_equal(convolve(*small, pad=1), want)
print("refused, then right")
"""


def refused_by_the_extension() -> None:
    """The extension's own switch refuses the next allocations: one, two, every thread's."""
    from fastconv import _native  # type: ignore[attr-defined]

    case = Case((2, 70, 20, 20), (40, 70, 3, 3), pad=1)
    arrays = draw(case, "normal")
    want = on("native")(arrays.x, arrays.w, pad=1)
    for count in (1, 2, 5):
        for threads in (1, 2, 7):
            _native.fail_next_allocations(count)
            try:
                with pytest.raises(MemoryError):
                    on("native")(arrays.x, arrays.w, pad=1, threads=threads)
            finally:
                _native.fail_next_allocations(0)
            again = on("native")(arrays.x, arrays.w, pad=1, threads=threads)
            assert np.array_equal(again, want)


def refused_allocation(backend: str) -> None:
    if backend == "native":
        refused_by_the_extension()
    if not Path("/proc/self/status").exists():
        pytest.skip("this platform does not say how much address space is in use")
    assert processes.run(REFUSED_SCRATCH, backend).strip() == "refused, then right"
