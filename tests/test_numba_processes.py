"""Numba in fresh processes: its threads, forks, other processors, and its absence."""

from __future__ import annotations

import os
import platform
import textwrap
from pathlib import Path

import numpy as np
import pytest
from support import processes
from support.backends import required
from support.cases import Case
from support.children import ask

from fastconv.dispatch import availability

if availability("numba") is not None and "numba" not in required():
    pytest.skip("Numba is not installed", allow_module_level=True)


def run_script(source: str, **environment: str) -> str:
    held = {"NUMBA_NUM_THREADS": "4", **environment}
    return processes.run(textwrap.dedent(source), environment=held).strip()


# --- threads --------------------------------------------------------------------------------------

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


def test_openmps_number_of_threads_stays_the_callers() -> None:
    """Which it shares with PyTorch and others, and which Numba sets where it starts its threads."""
    script = """
    import ctypes
    try:
        openmp = ctypes.CDLL("libgomp.so.1")
    except OSError:
        print("no GNU OpenMP")
        raise SystemExit
    openmp.omp_set_num_threads(3)
    conv(4)
    import numba
    print(numba.threading_layer(), openmp.omp_get_max_threads())
    """
    found = run_script(SETUP + textwrap.dedent(script), NUMBA_THREADING_LAYER="omp")
    if found == "no GNU OpenMP":
        pytest.skip(found)
    assert found == "omp 3"


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


# --- memory ---------------------------------------------------------------------------------------


def test_logical_broadcasts_are_not_materialised() -> None:
    """64 GiB of weights and 2 GiB of image over four bytes each, in 1 GiB of address space more."""
    source = """
        import resource, numpy as np, fastconv
        from support.memory import address_space
        one = np.ones((), np.float32)
        fastconv.conv2d(np.ones((1, 1, 3, 3), "f4"), np.ones((1, 1, 3, 3), "f4"), backend="numba")
        x = np.broadcast_to(one, (1, 2**23, 8, 8))
        w = np.broadcast_to(one, (2, 2**23, 1, 1))
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + 2**30,) * 2)
        y = fastconv.conv2d(x[:, :2**16], w[:, :2**16], backend="numba", threads=1)
        assert (y == 2**16).all(), y
        x = np.broadcast_to(one, (1, 1, 2**25, 16))
        w = np.broadcast_to(one, (1, 1, 2**25 - 1, 1))
        y = fastconv.conv2d(x[..., :1], w, backend="numba", threads=1, stride=(1, 1))
        assert y.shape == (1, 1, 2, 1) and (y == 2**25 - 1).all(), y
        print("done")
    """
    assert run_script(source) == "done"


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
