"""Scratch memory is bounded by what `explain` says, whatever the image, and nothing leaks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import backends, processes
from support.memory import linux, traced_peak

import fastconv

PREAMBLE = """
import sys
import numpy as np
import fastconv
from support.memory import forget_peak, peak_resident, resident
backend = sys.argv[1]
"""

PEAK = (
    PREAMBLE
    + """
#: Groups of 1, 2, 4 and 16 channels, which algorithms of their own compute; narrow dtypes.
cases = [(dtype, layout, groups) for dtype in ("float32", "float64")
         for layout, groups in (("NCHW", 1), ("NHWC", 1), ("NCHW", 4), ("NCHW", 8), ("NCHW", 16))]
for dtype, layout, groups in cases + [("float16", "NCHW", 1), ("int8", "NCHW", 1)]:
    shape = (1, 16, 900, 900) if layout == "NCHW" else (1, 900, 900, 16)
    x = np.ones(shape, dtype)
    w = np.ones((16, 16 // groups, 3, 3), dtype)
    call = dict(pad=1, groups=groups, layout=layout, threads=2, backend=backend)
    report = fastconv.explain(x, w, **call)
    out = np.ones(shape, report.problem.out_dtype)
    # compile, start threads, touch the code: once, on a little image
    small = x[:, :, :40, :40] if layout == "NCHW" else x[:, :40, :40]
    fastconv.conv2d(small, w, **call)
    scratch = report.scratch_bytes
    forget_peak()
    before = resident()
    fastconv.conv2d(x, w, out=out, **call)
    grown = peak_resident() - before
    assert scratch < 40 << 20, f"{scratch} bytes of scratch for {dtype} {layout} {groups}"
    assert grown <= scratch + (6 << 20), (
        f"{dtype} {layout} groups={groups}: {grown} bytes more, explain said {scratch}")
print("bounded")
"""
)

LEAK = (
    PREAMBLE
    + """
rng = np.random.default_rng(0)
calls = []
for i in range(10):
    groups = 1 + i % 2
    x = rng.standard_normal((1 + i % 3, 2 * groups, 20 + i, 100), np.float32)
    w = rng.standard_normal((4 * groups, 2, 3, 1 + i % 4), np.float32)
    calls.append((x, w, dict(pad=i % 3, groups=groups, bias=np.ones(4 * groups, "f4"),
                             activation=("relu", None, "gelu")[i % 3], threads=1 + i % 4)))

def round_of_calls():
    for x, w, call in calls:
        fastconv.conv2d(x, w, backend=backend, **call)
        fastconv.conv2d(x[..., ::-1], w[..., ::-1], backend=backend, **call)
        try:
            fastconv.conv2d(x, w, backend=backend, **{**call, "groups": 7})
        except ValueError:
            pass

for _ in range(3):
    round_of_calls()
before = resident()
for _ in range(10):
    round_of_calls()
grown = resident() - before
assert grown < 2 << 20, f"300 calls left {grown} bytes behind"
print("nothing left behind")
"""
)


@linux
def test_scratch_does_not_grow_with_the_image(fast_backend: str) -> None:
    assert processes.run(PEAK, fast_backend).strip() == "bounded"


@linux
def test_nothing_leaks(backend: str) -> None:
    assert processes.run(LEAK, backend).strip() == "nothing left behind"


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize(
    ("x", "w", "groups"),
    [((1, 16, 90, 90), (16, 16, 3, 3), 1), ((4, 16, 60, 60), (16, 1, 3, 3), 16),
     ((2, 4, 80, 80), (32, 4, 1, 1), 1)],
)  # fmt: skip
def test_the_reference_s_own_scratch(
    x: tuple[int, ...], w: tuple[int, ...], groups: int, dtype: str
) -> None:
    """NumPy's allocations are traced: what `explain` says is what the definition takes."""
    image, kernel = np.ones(x, dtype), np.ones(w, dtype)
    arguments = {"pad": 1, "groups": groups, "backend": "reference"}
    out = fastconv.conv2d(image, kernel, **arguments)
    said = fastconv.explain(image, kernel, **arguments).scratch_bytes
    peak = traced_peak(lambda: fastconv.conv2d(image, kernel, out=out, **arguments))
    assert 0.7 * said < peak < 1.1 * said


def test_explain_counts_scratch_without_allocating(backend: str) -> None:
    """Scratch is known from the problem alone, and for fast backends does not follow H and W."""
    small = fastconv.explain((1, 16, 500, 500), (16, 16, 3, 3), pad=1, backend=backend)
    large = fastconv.explain((1, 16, 50000, 50000), (16, 16, 3, 3), pad=1, backend=backend)
    assert small.scratch_bytes > 0
    if backend == "reference":
        assert large.scratch_bytes > small.scratch_bytes
    else:
        assert large.scratch_bytes <= 2 * small.scratch_bytes
        assert large.scratch_bytes < 64 << 20


def test_workspace_limits_scratch(fast_backend: str) -> None:
    for workspace in (1 << 16, 1 << 20, 8 << 20):
        with fastconv.options(workspace=workspace, threads=2):
            report = fastconv.explain((4, 512, 64, 64), (512, 512, 3, 3), backend=fast_backend)
        # alignment and the packed panel that every thread shares come on top
        assert report.scratch_bytes <= 2 * workspace + (1 << 16)


#: Shapes of x (N, C, H, W) and w, groups; every algorithm of the native backend computes some.
LARGE = [
    ((1, 1, 3000, 3000), (1, 1, 31, 31), 1),
    ((1, 1, 50, 30000), (1, 1, 3, 3), 1),
    ((1, 3, 1000, 1000), (64, 3, 3, 3), 1),
    ((1, 4, 20, 100000), (8, 4, 3, 3), 1),
    ((1, 64, 500, 500), (64, 8, 3, 3), 8),
    ((1, 64, 20, 20000), (64, 1, 5, 5), 64),
    ((1, 64, 500, 500), (128, 64, 3, 3), 1),
    ((1, 64, 500, 500), (128, 64, 5, 5), 1),
    ((1, 64, 500, 500), (3, 64, 1, 1), 1),
]


@pytest.mark.parametrize("workspace", [1 << 16, 1 << 20, 8 << 20])
def test_workspace_limits_the_scratch_of_every_algorithm(workspace: int) -> None:
    backends.present("native")
    seen = set()
    dtypes = ("float32", "float64", *backends.HALVES, "int8", "uint16")
    for (x, w, groups), dtype, layout, precision in itertools.product(
        LARGE, dtypes, ("NCHW", "NHWC"), ("strict", "fast")
    ):
        shape = x if layout == "NCHW" else (x[0], *x[2:], x[1])
        image, kernel = (np.broadcast_to(np.zeros((), dtype), s) for s in (shape, w))
        with fastconv.options(workspace=workspace, threads=2, backend="native"):
            report = fastconv.explain(
                image, kernel, groups=groups, layout=layout, precision=precision
            )
        assert report.scratch_bytes <= 2 * workspace + (1 << 16), str(report)
        name = report.algorithm
        seen.add("winograd" if name.startswith("winograd") else name)
    assert seen >= {
        "depthwise", "direct_filter", "direct_channels", "im2col_gemm", "integer_gemm", "half_gemm",
        "direct_pointwise", "winograd",
    }  # fmt: skip
