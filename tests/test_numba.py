"""What only the Numba backend has: halves, register tiles, two ways to gather, threads, forks."""

from __future__ import annotations

import os
import platform
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import processes
from support.backends import ALL_DTYPES, present
from support.cases import Case
from support.children import ask

import fastconv
from fastconv import dtypes
from fastconv.accuracy import check
from fastconv.backends import reference
from fastconv.borders import PAD_MODES, source_index
from fastconv.options import MINIMUM_WORKSPACE, Options
from fastconv.problem import ConvProblem

present("numba")

import numba  # noqa: E402

from fastconv.backends import numba as backend  # noqa: E402
from fastconv.backends.numba import blocking, gather, half, intrinsics, launch, threads  # noqa: E402

Array = np.ndarray
NUMBERS = np.random.default_rng(20261122)
SERIAL = Options(backend="numba", threads=1)


def draw(shape: tuple[int, ...], dtype: str) -> Array:
    if np.dtype(dtype).kind == "f":
        return NUMBERS.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return NUMBERS.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def describe(x: Array, w: Array, dtype: str | None = None, **options: object) -> ConvProblem:
    wanted = None if dtype is None else np.dtype(dtype)
    promotion = dtypes.promote(x.dtype, w.dtype, wanted)
    return ConvProblem.describe(x.shape, w.shape, promotion=promotion, **options)


def compute(
    problem: ConvProblem, x: Array, w: Array, bias: Array | None = None, options: Options = SERIAL
) -> Array:
    """Run the backend on logical arrays, into memory of ones."""
    out = np.empty((problem.n, problem.k, problem.p, problem.q), problem.out_dtype)
    out.view(np.uint8)[...] = 0xFF
    backend.run(problem, options, x, w, bias, out)
    return out


def judge(problem: ConvProblem, x: Array, w: Array, bias: Array | None, got: Array) -> None:
    verdict = check(problem, x, w, bias, got)
    assert verdict.ok, f"{problem}: {verdict}"


# --- halves ---------------------------------------------------------------------------------------


def test_every_half_converts_exactly() -> None:
    @numba.njit
    def convert(halves: Array, singles: Array) -> None:
        for i in range(halves.size):
            singles[i] = half.half_to_single(halves[i])

    halves = np.arange(1 << 16).astype(np.uint16)
    got = np.empty(halves.size, np.float32)
    convert(halves, got)
    want = halves.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(want)
    assert np.array_equal(np.isnan(got), ~numbers)
    assert np.array_equal(got[numbers].view(np.uint32), want[numbers].view(np.uint32))


def rounding_cases() -> Array:
    """All halves, what lies between them, ties, their neighbours, and the ends of the range."""
    halves = np.arange(1 << 15).astype(np.uint16).view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    ties = (halves[:-1] + halves[1:]) / np.float32(2)  # exact: float32 has 13 bits more
    ends = np.float32([65504, 65519.996, 65520, 65536, 1e30, np.inf, 2**-25, 2**-24, 1e-30, 1e-45])
    positive = np.concatenate([halves, ties, ends, NUMBERS.lognormal(0, 8, 10000)])
    positive = positive.astype(np.float32)
    near = [positive, np.nextafter(positive, np.float32(np.inf)), np.nextafter(positive, 0)]
    both = np.concatenate(near)
    return np.concatenate([both, -both])


def test_singles_round_to_the_nearest_half_ties_to_even() -> None:
    @numba.njit
    def convert(singles: Array, halves: Array) -> None:
        for i in range(singles.size):
            halves[i] = half.single_to_half(singles[i])

    singles = rounding_cases()
    got = np.empty(singles.size, np.uint16)
    convert(singles, got)
    with np.errstate(over="ignore"):
        want = singles.astype(np.float16)
    assert np.array_equal(got, want.view(np.uint16))


def test_every_nan_stays_one() -> None:
    bits = np.uint32([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFC12345])
    for value in bits.view(np.float32):
        for w in (np.float16(1), np.float16(0)):
            x = np.full((1, 1, 1, 1), np.float16(value) if np.isnan(value) else value, "float16")
            got = fastconv.conv2d(x, np.full((1, 1, 1, 1), w), backend="numba")
            assert np.isnan(got).all()


def test_halves_accumulate_in_single_precision() -> None:
    """2048 + 1 + 1 + ... stands still in half precision."""
    x = np.ones((1, 2049, 1, 1), np.float16)
    x[0, 0] = 2048
    w = np.ones((1, 2049, 1, 1), np.float16)
    assert fastconv.conv2d(x, w, backend="numba") == 4096


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_each_dtype_with_its_default_result(dtype: str) -> None:
    x, w = draw((2, 6, 9, 37), dtype), draw((8, 3, 3, 3), dtype)
    problem = describe(x, w, pad=1, groups=2, pad_mode="reflect")
    judge(problem, x, w, None, compute(problem, x, w))


@pytest.mark.parametrize("result", ["int8", "uint16", "int32", "uint64"])
def test_integers_wrap_modulo_the_result(result: str) -> None:
    """From bytes to any width, signed or not, with weights of other signedness."""
    x, w = draw((1, 3, 5, 6), "int8"), draw((5, 3, 2, 2), "int8")
    problem = describe(x, w, dtype=result)
    bias = draw((5,), result)
    problem = replace(problem, bias=True)
    want = np.empty((1, 5, 4, 5), result)
    reference.run(problem, SERIAL, x, w, bias, want)
    assert np.array_equal(compute(problem, x, w, bias), want)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_integer_activations(dtype: str, activation: str) -> None:
    x, w = draw((1, 2, 6, 6), dtype), draw((3, 2, 3, 3), dtype)
    problem = describe(x, w, dtype=dtype, activation=activation)
    judge(problem, x, w, None, compute(problem, x, w))


# --- tiles and blocks -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_around_the_edges_of_the_register_tile(dtype: str) -> None:
    itemsize = np.dtype(dtype).itemsize
    rows, width = intrinsics.tile_of(itemsize)[0], intrinsics.panel_width(itemsize)
    for k in (1, 2, 3, rows - 1, rows, rows + 1, 2 * rows + 7):
        for q in (1, width - 1, width, width + 1, 2 * width + 1):
            x, w = draw((1, 3, 4, q), dtype), draw((k, 3, 3, 1), dtype)
            problem = describe(x, w, pad=((1, 1), (0, 0)))
            judge(problem, x, w, None, compute(problem, x, w))


@pytest.mark.parametrize(
    ("c", "r", "s"),
    [(1, 1, 1), (255, 1, 1), (256, 1, 1), (257, 1, 1), (29, 3, 3), (2, 16, 16), (3, 17, 19)],
)
def test_around_the_steps_of_the_reduction(c: int, r: int, s: int) -> None:
    x, w = draw((1, c, r + 1, s + 2), "float32"), draw((3, c, r, s), "float32")
    problem = describe(x, w)
    judge(problem, x, w, None, compute(problem, x, w))


def forced(monkeypatch: pytest.MonkeyPatch, strip: bool) -> None:
    """Make one way of gathering free and the other expensive."""
    monkeypatch.setattr(blocking, "_cost", lambda problem, machine, b: float(b.strip != strip))
    launch.plan.cache_clear()


GEOMETRIES = [
    {},
    {"pad": 2, "stride": 2},
    {"pad": ((5, 0), (1, 7)), "stride": (3, 2), "dilation": (1, 3), "pad_mode": "wrap"},
    {"pad": 3, "stride": (1, 5), "dilation": 2, "pad_mode": "symmetric", "groups": 3},
    {"pad": 40, "stride": (5, 3), "pad_mode": "reflect", "groups": 6},
    {"pad": "full", "dilation": (4, 1), "pad_mode": "edge", "groups": 2},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_both_ways_of_gathering_agree_to_the_bit(
    geometry: dict[str, object], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = draw((2, 12, 17, 45), dtype), draw((18, 12 // geometry.get("groups", 1), 3, 4), dtype)
    problem = describe(x, w, **geometry)
    results = []
    for strip in (True, False):
        forced(monkeypatch, strip)
        name = backend.algorithm(problem, SERIAL).name
        assert name == ("strip_gemm" if strip else "im2col_gemm")
        results.append(compute(problem, x, w))
    launch.plan.cache_clear()
    assert results[0].tobytes() == results[1].tobytes()
    judge(problem, x, w, None, results[0])


def test_both_ways_are_taken() -> None:
    """Wide images and few channels in strips, small deep ones in im2col panels."""
    wide = ConvProblem(1, 1, 480, 640, 1, 5, 5)
    deep = ConvProblem(1, 512, 7, 7, 512, 3, 3, pad=((1, 1), (1, 1)))
    huge_kernel = ConvProblem(1, 1, 300, 300, 1, 200, 200)
    names = [backend.algorithm(p, SERIAL).name for p in (wide, deep, huge_kernel)]
    assert names == ["strip_gemm", "im2col_gemm", "im2col_gemm"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_scratch_is_bounded_by_the_workspace_whatever_the_problem(dtype: str) -> None:
    for problem in (
        ConvProblem(1, 3, 2**20, 2**20, 64, 11, 11),
        ConvProblem(64, 4096, 3, 3, 4096, 3, 3),
        ConvProblem(1, 1, 2**40, 2**10, 1, 2**9, 2**9),
        ConvProblem(8, 960, 56, 56, 960, 3, 3, groups=960, dilation=(7, 9)),
        ConvProblem(1, 255, 9, 9, 7, 1, 1, stride=(2**40, 2**40)),
    ):
        held = replace(problem, dtype=dtype, out_dtype=dtype)
        for workspace in (MINIMUM_WORKSPACE, 8 << 20):
            options = Options(threads=1, workspace=workspace)
            assert 0 < backend.algorithm(held, options).scratch_bytes <= workspace + 64


@pytest.mark.parametrize("workspace", [MINIMUM_WORKSPACE, 1 << 18, 8 << 20])
def test_workspace_changes_no_bit(workspace: int) -> None:
    """Small workspaces also leave the conversion of the weights to the tasks."""
    for dtype in ("float16", "float32"):
        x, w = draw((2, 40, 20, 33), dtype), draw((70, 40, 3, 3), dtype)
        w = np.asfortranarray(w)
        problem = describe(x, w, pad=1)
        want = compute(problem, x, w)
        got = compute(problem, x, w, options=Options(threads=2, workspace=workspace))
        assert got.tobytes() == want.tobytes()


def test_border_is_the_one_of_the_reference() -> None:
    @numba.njit
    def every(size: int, mode: int, out: Array) -> None:
        for i in range(out.size):
            out[i] = gather.border(i - out.size // 2, size, mode)

    for mode, name in enumerate(PAD_MODES):
        for size in (1, 2, 3, 7):
            got = np.empty(61, np.int64)
            every(size, mode, got)
            assert np.array_equal(got, source_index(np.arange(61) - 30, size, name)), (name, size)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_any_strides_of_x_w_and_out(dtype: str) -> None:
    x, w = draw((2, 6, 11, 38), dtype), draw((9, 6, 3, 2), dtype)
    problem = describe(x, w, pad=2, stride=(1, 2), pad_mode="symmetric")
    want = compute(problem, x, w)
    spaced = np.repeat(np.repeat(x, 2, 3), 3, 1)[:, ::3, :, ::2]
    xs = [x[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1], spaced, np.asfortranarray(x)]
    ws = [w[::-1, :, ::-1].copy()[::-1, :, ::-1], np.repeat(w, 2, 0)[::2], np.asfortranarray(w)]
    for held_x in xs:
        for held_w in ws:
            held_x.flags.writeable = held_w.flags.writeable = False
            for out in (
                np.empty((2, problem.p, problem.q, 9), problem.out_dtype).transpose(0, 3, 1, 2),
                np.empty((2, 18, problem.p, 2 * problem.q), problem.out_dtype)[:, ::-2, :, ::-2],
            ):
                backend.run(problem, SERIAL, held_x, held_w, None, out)
                assert np.array_equal(out, want)


def test_strided_out_leaves_the_gaps_alone() -> None:
    x, w = draw((1, 3, 9, 40), "float32"), draw((5, 3, 3, 3), "float32")
    problem = describe(x, w)
    memory = np.full((1, 5, 14, 76), np.float32(7))
    backend.run(problem, SERIAL, x, w, None, memory[:, :, ::2, ::2])
    untouched = np.ones(memory.shape, bool)
    untouched[:, :, ::2, ::2] = False
    assert (memory[untouched] == 7).all()
    assert np.array_equal(memory[:, :, ::2, ::2], compute(problem, x, w))


def test_logical_broadcasts_are_not_materialised() -> None:
    """64 GiB of weights and 2 GiB of image over four bytes each, in 1 GiB of address space more."""
    source = """
        import resource, numpy as np, fastconv
        one = np.ones((), np.float32)
        fastconv.conv2d(np.ones((1, 1, 3, 3), "f4"), np.ones((1, 1, 3, 3), "f4"), backend="numba")
        x = np.broadcast_to(one, (1, 2**23, 8, 8))
        w = np.broadcast_to(one, (2, 2**23, 1, 1))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)
        y = fastconv.conv2d(x[:, :2**16], w[:, :2**16], backend="numba", threads=1)
        assert (y == 2**16).all(), y
        x = np.broadcast_to(one, (1, 1, 2**25, 16))
        w = np.broadcast_to(one, (1, 1, 2**25 - 1, 1))
        y = fastconv.conv2d(x[..., :1], w, backend="numba", threads=1, stride=(1, 1))
        assert y.shape == (1, 1, 2, 1) and (y == 2**25 - 1).all(), y
        print("done")
    """
    assert run_script(source) == "done"


# --- numbers --------------------------------------------------------------------------------------


def test_zero_times_infinity_at_the_border() -> None:
    x = np.ones((1, 2, 6, 40), np.float32)
    w = np.zeros((3, 2, 3, 3), np.float32)
    w[1, 0, 0, 0], w[2, 1, 2, 2] = np.inf, np.nan
    problem = describe(x, w, pad=((1, 2), (3, 1)))
    got = compute(problem, x, w)
    judge(problem, x, w, None, got)
    assert np.isnan(got[0, 1, 0]).all()
    assert np.isposinf(got[0, 1, 1:, 3:]).any()


def test_subnormals_are_kept() -> None:
    for dtype in ("float32", "float64", "float16"):
        tiny = np.finfo(dtype).smallest_subnormal
        x, w = np.full((1, 1, 2, 40), tiny, dtype), np.ones((1, 1, 1, 1), dtype)
        assert (fastconv.conv2d(x, w, backend="numba") == tiny).all()


def test_long_sums_of_equal_numbers_stay_accurate() -> None:
    """Sums of sums: one running float32 sum of these would be 100 times further off."""
    x, w = np.full((1, 2**17, 1, 1), np.float32(0.1)), np.ones((1, 2**17, 1, 1), np.float32)
    got = float(fastconv.conv2d(x, w, backend="numba").item())
    assert abs(got / (float(np.float32(0.1)) * 2**17) - 1) < 2e-5


# --- threads --------------------------------------------------------------------------------------


def run_script(source: str, **environment: str) -> str:
    held = {"NUMBA_NUM_THREADS": "4", **environment}
    return processes.run(textwrap.dedent(source), environment=held).strip()


SETUP = """
import os, sys, threading, numpy as np, fastconv
rng = np.random.default_rng(7)
x = rng.standard_normal((2, 16, 30, 70), dtype=np.float32)
w = rng.standard_normal((24, 16, 3, 3), dtype=np.float32)
def conv(threads):
    return fastconv.conv2d(x, w, pad=1, backend="numba", threads=threads).tobytes()
"""


def test_threads_are_clamped_and_the_callers_setting_restored() -> None:
    source = (
        SETUP
        + """
import numba
numba.set_num_threads(3)
want = conv(1)
for threads in (2, 3, 4, 1000):
    assert conv(threads) == want, threads
    assert numba.get_num_threads() == 3
print("same")
"""
    )
    assert run_script(source) == "same"


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_eight_python_threads_at_once(layer: str) -> None:
    """From the very first call on, when the layer is not known yet; workqueue must not abort."""
    source = (
        SETUP
        + """
results, start = [], threading.Barrier(8)
def work():
    start.wait()
    for _ in range(20):
        results.append(conv(4))
pool = [threading.Thread(target=work) for _ in range(8)]
for thread in pool: thread.start()
for thread in pool: thread.join()
assert len(results) == 160
assert set(results) == {conv(1)}
import numba
print(numba.threading_layer())
"""
    )
    used = run_script(source, NUMBA_THREADING_LAYER=layer)
    assert used == layer or layer == "default"


FORK = """
def in_child(call):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if call() == want else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_forked_children_compute_the_same_bits(layer: str) -> None:
    """With a child of a child, a new dtype in the child, and a parent that goes on."""
    source = (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        + SETUP
        + FORK
        + """
want = conv(4)
in_child(lambda: conv(4))
in_child(lambda: (in_child(lambda: conv(4)), conv(2))[1])
assert conv(4) == want
y = x.astype(np.float64)
def wide():
    got = fastconv.conv2d(y, w.astype(np.float64), pad=1, backend="numba", threads=4)
    close = np.allclose(got.ravel(), np.frombuffer(want, np.float32), 1e-3, 1e-4)
    return want if close else b""
in_child(wide)
print("same")
"""
    )
    assert run_script(source, NUMBA_THREADING_LAYER=layer) == "same"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_fork_before_the_backend_was_loaded() -> None:
    """The parent has used Numba's threads for something else."""
    source = (
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        + SETUP
        + FORK
        + """
import numba
@numba.njit(parallel=True)
def other(a):
    for i in numba.prange(a.size):
        a[i] = i
other(np.empty(1000))
want = fastconv.conv2d(x, w, pad=1, backend="reference").round(2).tobytes()
def call():
    got = np.frombuffer(conv(4), np.float32).reshape(2, 24, 30, 70)
    exact = np.frombuffer(want, np.float32).reshape(got.shape)
    return want if abs(got - exact).max() < 0.02 else b""
in_child(call)
print("same")
"""
    )
    assert run_script(source) == "same"


def test_spawned_children_compute_the_same_bits() -> None:
    case = Case((1, 8, 20, 40), (8, 8, 3, 3), pad=1)
    assert np.array_equal(ask("spawn", "numba", case, 2), ask("spawn", "numba", case, 1))


def test_a_layer_that_cannot_start_costs_threads_not_results() -> None:
    source = (
        "import warnings\n"
        + SETUP
        + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    got = [conv(4), conv(4)]
assert got == [conv(1)] * 2
reasons = [str(c.message) for c in caught if c.category is RuntimeWarning]
assert len(reasons) == 1 and "NUMBA_THREADING_LAYER" in reasons[0], reasons
print("same")
"""
    )
    assert (
        run_script(
            source, NUMBA_THREADING_LAYER="tbb", NUMBA_THREADING_LAYER_PRIORITY="tbb omp workqueue"
        )
        == "same"
    )


def test_a_forked_child_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_forked", True)
    assert threads.usable(8) == 1


# --- installation ---------------------------------------------------------------------------------


def test_without_numba_it_says_how_to_install_it() -> None:
    source = """
        import sys
        sys.modules["numba"] = None
        import numpy as np, fastconv
        one = np.ones((3, 3))
        try:
            fastconv.conv2d(one, one, backend="numba")
        except fastconv.BackendUnavailable as error:
            assert "pip install 'fastconv[numba]'" in str(error), error
        else:
            raise AssertionError("no error")
        assert "numba" not in fastconv.available_backends()
        print("said")
    """
    assert run_script(source) == "said"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ImportError('Numba needs NumPy 1.0 or less')", "needs NumPy 1.0"),
        ("raise OSError('libllvm')", "libllvm"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
    ],
)
def test_a_broken_numba_is_a_reason(body: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text(body)
    source = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from fastconv.backends import numba
        print(numba.available())
    """
    assert words in run_script(source)


def test_jit_switched_off_is_a_reason() -> None:
    source = "from fastconv.backends import numba; print(numba.available())"
    assert "NUMBA_DISABLE_JIT" in run_script(source, NUMBA_DISABLE_JIT="1")


def test_importing_the_package_does_not_import_numba() -> None:
    source = """
        import sys, fastconv, fastconv.backends.numba
        print([name for name in sys.modules if name.split(".")[0] in ("numba", "llvmlite")])
    """
    assert run_script(source) == "[]"


def test_no_cache_directory_is_needed_or_written(tmp_path: Path) -> None:
    """Nowhere to write, no home: kernels are compiled in memory."""
    tmp_path.chmod(0o555)
    source = """
        import os
        os.environ.pop("HOME", None)
        import numpy as np, fastconv
        x = np.ones((1, 2, 16, 40))
        print(fastconv.conv2d(x, np.ones((3, 2, 3, 3)), backend="numba", threads=2).sum())
    """
    written = run_script(source, NUMBA_CACHE_DIR=str(tmp_path / "cache"), XDG_CACHE_HOME="/proc")
    assert float(written) == 18 * 3 * 14 * 38
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("features", ["", "+avx,+avx2,+fma"])
def test_other_instruction_sets(features: str) -> None:
    """Numba told to compile for a plainer processor: other tiles, right results."""
    if platform.machine() not in ("x86_64", "AMD64") and features:
        features = ""
    source = """
        import numpy as np, fastconv
        from fastconv.backends.numba.intrinsics import tile_of
        rng = np.random.default_rng(3)
        for dtype in ("float32", "float64"):
            x = rng.integers(-9, 9, (2, 5, 13, 41)).astype(dtype)
            w = rng.integers(-9, 9, (11, 5, 3, 3)).astype(dtype)
            got = fastconv.conv2d(x, w, pad=1, backend="numba")
            assert np.array_equal(got, fastconv.conv2d(x, w, pad=1, backend="reference"))
        print(*tile_of(4))
    """
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
    want = "4 3 8" if "avx2" in features else "4 2 4"
    assert run_script(source, **environment) == want
