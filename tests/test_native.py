"""What only the native backend has: instruction sets, blocking, threads, signals, scratch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastconv
from fastconv.accuracy import check
from fastconv.dispatch import availability
from fastconv.problem import ConvProblem

REQUIRED = "native" in os.environ.get("FASTCONV_REQUIRE_BACKENDS", "")

if availability("native") is not None and not REQUIRED:
    pytest.skip("the native extension is not built", allow_module_level=True)

RNG = np.random.default_rng(20261122)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def compiled_isas() -> list[str]:
    return fastconv.show_config("dict")["native"]["compiled for"].split()


FAMILY = """
    import numpy as np, fastconv
    from fastconv.accuracy import check
    from fastconv.problem import ConvProblem
    from fastconv.dtypes import promote
    rng = np.random.default_rng(1)
    for dtype in ("float32", "float64"):
        for layout in ("NCHW", "NHWC"):
            for c, k, h, q, r, s, stride, groups in (
                (3, 17, 9, 40, 3, 3, 1, 1), (70, 33, 7, 7, 3, 3, 1, 1), (6, 4, 11, 37, 5, 2, 2, 2),
                (40, 5, 13, 5, 1, 1, 1, 1), (8, 8, 15, 33, 3, 3, 1, 8),
                (1, 1, 40, 40, 19, 18, 1, 1),
            ):
                x = rng.standard_normal((2, c, h if r < 10 else 40, q)).astype(dtype)
                w = rng.standard_normal((k, c // groups, r, s)).astype(dtype)
                bias = rng.standard_normal(k).astype(dtype)
                given = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
                problem = ConvProblem.describe(
                    given.shape, w.shape, stride=stride, pad=1, groups=groups, layout=layout,
                    promotion=promote(x.dtype, w.dtype), bias_shape=(k,), activation="tanh")
                y = fastconv.conv2d(given, w, stride, 1, groups=groups, layout=layout, bias=bias,
                                    activation="tanh", backend="native")
                y = y if layout == "NCHW" else y.transpose(0, 3, 1, 2)
                verdict = check(problem, x, w, bias, y)
                assert verdict.ok, (problem, verdict)
    print(fastconv.show_config("dict")["native"]["isa"])
"""


@pytest.mark.parametrize("isa", compiled_isas())
def test_every_instruction_set_this_processor_has(isa: str) -> None:
    done = run_python(FAMILY, FASTCONV_ISA=isa)
    if "lacks it" in done.stderr:
        pytest.skip(f"this processor lacks {isa}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa


def test_a_forced_instruction_set_that_does_not_exist_is_an_error() -> None:
    done = run_python(
        """
        import numpy as np, fastconv
        try:
            fastconv.conv2d(np.ones((4, 4)), np.ones((3, 3)), backend="native")
        except fastconv.BackendUnavailable as error:
            print(error)
        """,
        FASTCONV_ISA="mmx",
    )
    assert "FASTCONV_ISA=mmx names no instruction set" in done.stdout, done.stderr
    assert "baseline" in done.stdout or "neon" in done.stdout


def test_workspace_changes_blocks_and_not_bits() -> None:
    x, w = normal(2, 96, 30, 30), normal(80, 96, 5, 5)
    for layout in ("NCHW", "NHWC"):
        given = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        results, scratch = [], []
        for workspace in (1 << 16, 1 << 18, 8 << 20, 1 << 30):
            with fastconv.options(workspace=workspace, threads=2):
                results.append(fastconv.conv2d(given, w, pad=2, layout=layout, backend="native"))
                report = fastconv.explain(given, w, pad=2, layout=layout, backend="native")
                scratch.append(report.scratch_bytes)
                assert report.scratch_bytes <= 2 * workspace
        assert all(np.array_equal(results[0], y) for y in results[1:])
        assert scratch[0] < scratch[-1]


def test_scratch_does_not_grow_with_the_image() -> None:
    w = (64, 64, 3, 3)
    small = fastconv.explain((1, 64, 100, 100), w, backend="native").scratch_bytes
    large = fastconv.explain((1, 64, 10000, 10000), w, backend="native").scratch_bytes
    assert large <= 2 * small


def test_a_failed_allocation_is_a_memory_error_and_the_next_call_is_right() -> None:
    native = pytest.importorskip("fastconv._native")
    x, w = normal(1, 8, 20, 20), normal(8, 8, 3, 3)
    before = fastconv.conv2d(x, w, backend="native")
    native.fail_next_allocations(1)
    with pytest.raises(MemoryError):
        fastconv.conv2d(x, w, backend="native")
    assert np.array_equal(fastconv.conv2d(x, w, backend="native"), before)


def test_the_binding_refuses_what_would_read_foreign_memory() -> None:
    native = pytest.importorskip("fastconv._native")
    from fastconv.backends.native import _description

    x, w, out = normal(1, 2, 8, 8), normal(3, 2, 3, 3), np.empty((1, 3, 6, 6), "float32")
    bias = normal(3)
    description = _description(ConvProblem.describe(x.shape, w.shape, bias_shape=(3,)))
    resources = native.Resources(threads=1, thread_bytes=1 << 20, fast=False)
    native.conv2d(description, x, w, bias, out, resources)
    wrong = [
        (x[:, :, :7], w, bias, out),
        (x, w[:2], bias, out),
        (x, w, bias[:2], out),
        (x, w, bias[::-1], out),
        (x, w, bias, out[:, :, :5]),
        (x.astype("float64"), w, bias, out),
        (x, w.astype(">f4"), bias, out),
        (x[0], w, bias, out),
    ]
    for arrays in wrong:
        with pytest.raises(ValueError, match="wrong"):
            native.conv2d(description, *arrays, resources)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        native.conv2d(description, x, w, bias, out, resources)


def test_the_interpreter_runs_on_while_a_convolution_does() -> None:
    done = run_python(
        """
        import sys, threading, numpy as np, fastconv
        x, w = np.ones((1, 64, 300, 300), "f4"), np.ones((64, 64, 5, 5), "f4")
        sys.setswitchinterval(1e-4)
        finished = threading.Event()
        def convolve():
            fastconv.conv2d(x, w, backend="native", threads=1)
            finished.set()
        thread = threading.Thread(target=convolve)
        thread.start()
        turns = 0
        while not finished.is_set():
            turns += 1
        thread.join()
        assert turns > 1000, turns
        """
    )
    assert done.returncode == 0, done.stderr


def test_ctrl_c_stops_a_long_convolution() -> None:
    done = run_python(
        """
        import signal, numpy as np, fastconv
        x, w = np.ones((4, 64, 600, 600), "f4"), np.ones((64, 64, 11, 11), "f4")
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            fastconv.conv2d(x, w, backend="native")
        except KeyboardInterrupt:
            print("interrupted")
        signal.setitimer(signal.ITIMER_REAL, 0)
        small = fastconv.conv2d(x[:1, :, :9, :9], w[:, :, :3, :3], backend="native")
        assert (small == 64 * 9).all()
        """
    )
    assert done.stdout.strip() == "interrupted", done.stderr


def test_a_forked_child_uses_threads_and_gets_the_same_bits() -> None:
    done = run_python(
        """
        import os, warnings, numpy as np, fastconv
        warnings.simplefilter("ignore", DeprecationWarning)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((1, 32, 60, 60)).astype("f4")
        w = rng.standard_normal((32, 32, 3, 3)).astype("f4")
        before = fastconv.conv2d(x, w, backend="native", threads=2)
        child = os.fork()
        if child == 0:
            same = np.array_equal(fastconv.conv2d(x, w, backend="native", threads=2), before)
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_output_with_gaps_is_written_in_place_and_the_gaps_are_left(layout: str) -> None:
    x, w = normal(1, 20, 9, 21), normal(18, 20, 3, 3)
    given = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    want = fastconv.conv2d(given, w, layout=layout, backend="native")
    room = np.full([2 * n for n in want.shape], 7, "float32")
    out = room[tuple(slice(None, None, 2) for _ in want.shape)]
    assert fastconv.conv2d(given, w, layout=layout, out=out, backend="native") is out
    assert np.array_equal(out, want)
    assert (room[:, 1::2] == 7).all()
    assert (room[..., 1::2] == 7).all()


def test_a_kernel_with_more_taps_than_one_depth_block() -> None:
    x, w = normal(1, 2, 70, 90, dtype="float64"), normal(3, 2, 31, 33, dtype="float64")
    y = fastconv.conv2d(x, w, pad="same", pad_mode="reflect", backend="native")
    problem = ConvProblem.describe(
        x.shape, w.shape, pad="same", pad_mode="reflect",
        promotion=fastconv.dtypes.promote(x.dtype, w.dtype),
    )  # fmt: skip
    assert check(problem, x, w, None, y, channels=[0, 2]).ok
