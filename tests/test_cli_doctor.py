"""``python -m fastconv doctor``: every fault it knows is planted, and has to be found."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from support import backends

from fastconv import dispatch
from fastconv.cli import doctor, driver, findings, machine, main, selftest, weights
from fastconv.cli.driver import Driver
from fastconv.cli.errors import CommandError
from fastconv.cli.findings import NOTE, PROBLEM
from fastconv.cli.machine import Compiler, Machine, Quota
from fastconv.options import environment

AVX2 = frozenset({"avx2", "fma", "f16c"})
HEALTHY = Machine(
    environment={},
    affinity=8,
    quota=None,
    flags=AVX2,
    compiler=Compiler("/usr/bin/c++", "c++ 12.2.0"),
    backends={"cuda": "CuPy is not installed", "native": None, "numba": None, "reference": None},
    numba="0.61",
    cupy=None,
    driver=Driver(),
    selftest={"native": None, "numba": None, "reference": None},
    openmp=("libgomp (/usr/lib/libgomp.so.1)",),
)
GPU = Driver(True, "libcuda.so.1", 0, "", (12, 4), ("GPU A",))


def variables(**values: str) -> Machine:
    return replace(HEALTHY, environment=values)


def without(name: str, reason: str, **changes) -> Machine:
    return replace(HEALTHY, backends={**HEALTHY.backends, name: reason}, **changes)


PLANTED = {
    "no extension": (
        without("native", "the native extension was not built"),
        PROBLEM, "native", "was not built", "FASTCONV_REQUIRE_NATIVE=1",
    ),
    "no compiler": (
        without("native", "the native extension was not built", compiler=None),
        PROBLEM, "compiler", "c++, g++, clang++", "g++",
    ),
    "no such compiler": (
        without("native", "not built", compiler=None, environment={"CXX": "icc"}),
        PROBLEM, "compiler", "CXX=icc", "install",
    ),
    "no numba": (
        without("numba", "Numba is not installed", numba=None),
        NOTE, "numba", "not installed", "pip install 'fastconv[numba]'",
    ),
    "broken numba": (
        without("numba", "Numba needs NumPy 2.3 or less"),
        PROBLEM, "numba", "Numba needs NumPy 2.3 or less", "--upgrade",
    ),
    "no threading layer": (
        replace(HEALTHY, selftest={"numba": "ValueError: No threading layer could be loaded."}),
        PROBLEM, "numba", "No threading layer", "pip install tbb",
    ),
    "forced threading layer": (
        replace(
            variables(NUMBA_THREADING_LAYER="tbb"),
            selftest={"numba": "ValueError: No threading layer could be loaded."},
        ),
        PROBLEM, "numba", "tbb is forced", "unset NUMBA_THREADING_LAYER",
    ),
    "no driver library": (
        replace(HEALTHY, driver=Driver(kernel_module=True)),
        PROBLEM, "cuda", "libcuda.so.1 is not found", "--gpus all",
    ),
    "unusable driver": (
        replace(HEALTHY, driver=Driver(True, "libcuda.so.1", 999, "CUDA_ERROR_UNKNOWN")),
        PROBLEM, "cuda", "CUDA_ERROR_UNKNOWN", "nvidia-smi",
    ),
    "library without a GPU": (
        replace(HEALTHY, driver=Driver(False, "libcuda.so.1", 100, "CUDA_ERROR_NO_DEVICE")),
        NOTE, "cuda", "no GPU", "",
    ),
    "GPU not given to the container": (
        replace(HEALTHY, driver=Driver(True, "libcuda.so.1", 100, "CUDA_ERROR_NO_DEVICE")),
        PROBLEM, "cuda", "finds no GPU", "nvidia-smi",
    ),
    "GPU hidden": (
        replace(
            variables(CUDA_VISIBLE_DEVICES=""),
            driver=Driver(True, "libcuda.so.1", 100, "CUDA_ERROR_NO_DEVICE"),
        ),
        NOTE, "cuda", "CUDA_VISIBLE_DEVICES=''", "unset",
    ),
    "GPU and no CuPy": (
        replace(HEALTHY, driver=GPU), NOTE, "cuda", "GPU A", "pip install 'fastconv[cuda12x]'",
    ),
    "newer GPU and no CuPy": (
        replace(HEALTHY, driver=replace(GPU, version=(13, 0))),
        NOTE, "cuda", "GPU A", "pip install 'fastconv[cuda13x]'",
    ),
    "GPU and CuPy that disagree": (
        without("cuda", "cudaErrorInsufficientDriver", driver=GPU, cupy="14.2"),
        PROBLEM, "cuda", "cudaErrorInsufficientDriver", "12.4",
    ),
    "OpenMP oversubscribed": (
        variables(OMP_NUM_THREADS="16,2"),
        PROBLEM, "threads", "OMP_NUM_THREADS=16,2", "set it to 8",
    ),
    "fastconv oversubscribed": (
        variables(FASTCONV_THREADS="9"),
        PROBLEM, "threads", "FASTCONV_THREADS=9", "set it to 8",
    ),
    "quota below the cores": (
        replace(HEALTHY, quota=Quota(2.5, "/sys/fs/cgroup/cpu.max")),
        PROBLEM, "threads", "2.5 cores", "OMP_NUM_THREADS=2",
    ),
    "quota heeded": (
        replace(variables(OMP_NUM_THREADS="2"), quota=Quota(2.5, "cpu.max")),
        NOTE, "threads", "2.5 cores", "",
    ),
    "threads above the quota": (
        replace(variables(FASTCONV_THREADS="8"), quota=Quota(2.0, "cpu.max")),
        PROBLEM, "threads", "FASTCONV_THREADS=8 asks for more threads than the 2", "set it to 2",
    ),
    "two OpenMP run-times": (
        replace(HEALTHY, openmp=("libgomp (/a/libgomp.so)", "libgomp (/b/libgomp-1.so)")),
        NOTE, "threads", "2 OpenMP run-times", "",
    ),
    "OpenMP run-times that clash": (
        replace(HEALTHY, openmp=("libiomp5 (/a/libiomp5.so)", "libomp (/b/libomp.so)")),
        PROBLEM, "threads", "known to abort", "one source",
    ),
    "unknown backend": (
        variables(FASTCONV_BACKEND="torch"), PROBLEM, "environment", "torch", "FASTCONV_BACKEND",
    ),
    "backend that is not here": (
        variables(FASTCONV_BACKEND="cuda"),
        PROBLEM, "environment", "CuPy is not installed", "unset FASTCONV_BACKEND",
    ),
    "unknown precision": (
        variables(FASTCONV_PRECISION="sloppy"), PROBLEM, "environment", "'strict'", "unset",
    ),
    "threads that are no number": (
        variables(FASTCONV_THREADS="many"), PROBLEM, "environment", "no integer", "unset",
    ),
    "no threads": (
        variables(FASTCONV_THREADS="0"), PROBLEM, "environment", "at least 1", "unset",
    ),
    "OpenMP threads that are no number": (
        variables(OMP_NUM_THREADS="all"), PROBLEM, "environment", "OMP_NUM_THREADS=all", "unset",
    ),
    "tiny workspace": (
        variables(FASTCONV_WORKSPACE="12"), PROBLEM, "environment", "at least", "unset",
    ),
    "mistyped variable": (
        variables(FASTCONV_THREAD="2"), NOTE, "environment", "FASTCONV_THREAD is not read",
        "FASTCONV_THREADS",
    ),
    "unknown instruction set": (
        variables(FASTCONV_ISA="avx9"), PROBLEM, "environment", "avx512", "unset FASTCONV_ISA",
    ),
    "instruction set this processor lacks": (
        variables(FASTCONV_ISA="avx512"), PROBLEM, "environment", "lacks avx512bw",
        "unset FASTCONV_ISA",
    ),
    "instruction set the extension refuses": (
        without("native", "FASTCONV_ISA=neon is not of this build",
                environment={"FASTCONV_ISA": "neon"}),
        PROBLEM, "environment", "not of this build", "unset FASTCONV_ISA",
    ),
    "wrong result": (
        replace(HEALTHY, selftest={"native": "wrong result, error 12 times its bound"}),
        PROBLEM, "self-test", "backend native: wrong result", "report it",
    ),
}  # fmt: skip


def test_healthy_machine_has_no_findings():
    assert findings.judge(HEALTHY) == []
    assert findings.judge(variables(FASTCONV_THREADS="8", FASTCONV_ISA="avx2")) == []
    assert findings.judge(variables(FASTCONV_BACKEND="numba", OMP_NUM_THREADS="4")) == []
    assert findings.judge(replace(HEALTHY, quota=Quota(8.0, "cpu.max"))) == []
    served = {**HEALTHY.backends, "cuda": None}
    assert findings.judge(replace(HEALTHY, backends=served, driver=GPU, cupy="14.2")) == []


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_found_once(name):
    planted, level, topic, what, fix = PLANTED[name]
    found = findings.judge(planted)
    matching = [
        f for f in found
        if (f.level, f.topic) == (level, topic) and what in f.what and fix in f.fix
    ]  # fmt: skip
    assert len(matching) == 1, found
    if level == PROBLEM:
        assert all(f.fix for f in found if f.level == PROBLEM)


def test_isa_of_the_extension_is_told_once():
    planted = PLANTED["instruction set the extension refuses"][0]
    assert len(findings.judge(planted)) == 1


def test_every_instruction_set_of_the_extension_is_known():
    name = backends.present("native")
    compiled = dispatch.load(name).build_facts()["compiled for"].split()
    assert set(compiled) <= findings.ISAS.keys()
    chosen = dispatch.load(name).build_facts()["isa"]
    if machine.cpu_flags():
        assert machine.cpu_flags() >= findings.ISAS[chosen]


# facts


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "nonsense\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0.5),
    ],
)
def test_cpu_quota(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    quota = machine.cpu_quota(tmp_path)
    assert (None if quota is None else quota.cores) == cores


@pytest.mark.skipif(os.name != "posix", reason="shell scripts of POSIX")
def test_compiler_is_the_one_that_works(tmp_path, monkeypatch):
    broken, working = tmp_path / "c++", tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    working.write_text("#!/bin/sh\necho my compiler 1.0\necho more\n")
    for script in (broken, working):
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.delenv("CXX", raising=False)
    assert machine.compiler() == Compiler(str(working), "my compiler 1.0")
    monkeypatch.setenv("CXX", f"{broken} -O3")
    assert machine.compiler() is None
    monkeypatch.setenv("CXX", f"{working} -O3")
    assert machine.compiler() == Compiler(str(working), "my compiler 1.0")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CXX")
    assert machine.compiler() is None


TWO = ("GPU A", "GPU B")


class FakeDriver:
    """libcuda as ctypes shows it."""

    def __init__(self, initialised: int, devices: tuple[str, ...] = (), version: int = 12040):
        self.initialised, self.devices, self.version = initialised, devices, version

    def cuInit(self, flags):
        return self.initialised

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.devices)
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, size, device):
        ctypes.memmove(name, self.devices[device.value].encode() + b"\0", 6)
        return 0

    def cuGetErrorName(self, status, text):
        text._obj.value = b"CUDA_ERROR_UNKNOWN"
        return 0 if status == 999 else 1


@pytest.mark.parametrize(
    ("library", "want"),
    [
        (None, Driver()),
        (FakeDriver(0, TWO), Driver(False, "lib", 0, "", (12, 4), TWO)),
        (FakeDriver(999), Driver(False, "lib", 999, "CUDA_ERROR_UNKNOWN", (12, 4))),
        (FakeDriver(804, version=0), Driver(False, "lib", 804, "CUDA error 804", None)),
    ],
)  # fmt: skip
def test_driver_is_asked(monkeypatch, library, want):
    monkeypatch.setattr(driver, "KERNEL_MODULE", ())
    monkeypatch.setattr(driver, "_library", lambda: None if library is None else ("lib", library))
    assert driver.query() == want


def test_selftest_passes_on_every_backend_of_this_machine():
    told = []
    results = selftest.run_all(told.append)
    assert told == list(results)
    assert set(results) >= {"reference"} | (backends.required() & set(backends.CPU))
    assert not any(results.values()), results


def test_selftest_finds_a_wrong_backend(monkeypatch):
    def zeros(problem, given, x, w, bias, out):
        out[...] = 0

    def broken(problem, given, x, w, bias, out):
        raise OSError("no\nlayer")

    reference = dispatch.load("reference")
    monkeypatch.setattr(reference, "run", zeros)
    assert "wrong result" in (selftest.run_backend("reference") or "")
    monkeypatch.setattr(reference, "run", broken)
    assert selftest.run_backend("reference") == "OSError: no layer"


# weights


def finding(array: np.ndarray) -> findings.Finding | None:
    found = list(weights.examine("w", array))
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("count", "level"), [(0, None), (1, NOTE), (4, PROBLEM), (4000, PROBLEM)])
def test_subnormal_weights(dtype, count, level):
    w = np.ones(4000, dtype).reshape(40, 4, 5, 5)
    w.reshape(-1)[:count] = -np.finfo(dtype).tiny / 2
    found = finding(w)
    assert (None if found is None else found.level) == level
    if found is not None:
        assert f"{count} of 4000" in found.what
        assert "w[numpy.abs(w) < numpy.finfo(w.dtype).tiny] = 0" in found.fix
        w[np.abs(w) < np.finfo(w.dtype).tiny] = 0  # what the fix says
        assert finding(w) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights(value):
    w = np.ones((4, 3, 3, 3), np.float16)
    w[1, 2, 0, 1] = value
    found = finding(w)
    assert found is not None
    assert found.level == PROBLEM
    assert f"{int(np.isnan(value))} NaN and {int(np.isinf(value))} infinite" in found.what


def test_harmless_weights():
    assert finding(np.full(9, 1e-7, np.float16)) is None  # subnormal in float16 alone
    assert finding(np.arange(9, dtype=np.int8)) is None
    assert finding(np.zeros((0, 3, 3, 3), np.float32)) is None
    smallest = np.full(9, np.finfo(np.float32).tiny)
    assert finding(smallest) is None
    assert finding(np.ones(3, np.complex64)).level == PROBLEM


def test_weights_in_chunks(monkeypatch):
    monkeypatch.setattr(weights, "CHUNK", 7)
    w = np.ones(100, np.float32)
    w[[0, 6, 7, 99]] = 1e-40
    assert "4 of 100" in finding(w).what


def test_weight_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_all", lambda starting: {})
    monkeypatch.setattr(doctor, "gather", lambda results: HEALTHY)
    heavy = np.full((2, 3, 3, 3), 1e-40, np.float32)
    np.save(tmp_path / "heavy.npy", heavy)
    np.savez(tmp_path / "net.npz", first=np.ones(4, np.float32), second=heavy)
    np.save(tmp_path / "good.npy", np.ones(4))
    with (tmp_path / "objects.npy").open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
        np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "text.npy").write_text("no array")
    assert main(["doctor", "--weights", str(tmp_path / "heavy.npy")]) == 1
    assert "subnormal" in capsys.readouterr().out
    assert main(["doctor", "--json", "--weights", str(tmp_path / "net.npz")]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [f["topic"] for f in report["findings"]] == ["weights"]
    assert "net.npz[second]" in report["findings"][0]["what"]
    assert main(["doctor", "--weights", str(tmp_path / "good.npy")]) == 0
    assert "no subnormal" in capsys.readouterr().out
    for name in ("objects.npy", "text.npy"):
        with pytest.raises(CommandError, match=name):
            weights.examine_file(tmp_path / name)


# the subcommand


def test_doctor_prints_findings_and_fixes(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_all", lambda starting: {})
    monkeypatch.setattr(doctor, "gather", lambda results: PLANTED["OpenMP oversubscribed"][0])
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "problem: threads: OMP_NUM_THREADS=16,2" in out
    assert "    fix: unset OMP_NUM_THREADS" in out
    assert out.endswith("1 problem\n")
    monkeypatch.setattr(doctor, "gather", lambda results: PLANTED["no numba"][0])
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "note: numba: " in out
    assert out.endswith("healthy\n")


def test_doctor_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_all", lambda starting: {})
    monkeypatch.setattr(doctor, "gather", lambda results: HEALTHY)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    assert report["findings"] == []
    assert report["machine"]["flags"] == ["avx2", "f16c", "fma"]


def test_doctor_of_this_process(monkeypatch, capsys):
    """Only the self-tests are left out; the facts are this machine's."""
    monkeypatch.setattr(doctor, "run_all", lambda starting: {"reference": None})
    monkeypatch.setenv("FASTCONV_WORKSPACE", "1")
    environment.cache_clear()
    try:
        assert main(["doctor", "--json"]) == 1
    finally:
        environment.cache_clear()
    report = json.loads(capsys.readouterr().out)
    assert any("FASTCONV_WORKSPACE=1" in f["what"] for f in report["findings"])
    assert report["machine"]["backends"]["reference"] is None


def test_doctor_of_a_sick_process():
    """A whole process with several faults at once: none of them keeps it from reporting."""
    sick = {
        "OMP_NUM_THREADS": "4096",
        "FASTCONV_BACKEND": "torch",
        "FASTCONV_ISA": "avx9",
        "FASTCONV_THREADS": "many",
        "NUMBA_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "doctor", "--json"],
        capture_output=True, text=True, timeout=300, env={**os.environ, **sick},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    problems = [f["what"] for f in json.loads(done.stdout)["findings"] if f["level"] == PROBLEM]
    for text in ("OMP_NUM_THREADS=4096", "torch", "avx9", "FASTCONV_THREADS=many"):
        assert any(text in what for what in problems), problems
