"""``python -m fastconv doctor``: every fault it knows is planted, and has to be found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from support import backends
from support.machines import GPU, HEALTHY, variables, without

from fastconv import dispatch
from fastconv.cli import doctor, findings, machine, main
from fastconv.cli.driver import Driver
from fastconv.cli.findings import NOTE, PROBLEM
from fastconv.cli.machine import Quota

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


def test_doctor_of_this_process(monkeypatch, fresh_environment, capsys):
    """Only the self-tests are left out; the facts are this machine's."""
    monkeypatch.setattr(doctor, "run_all", lambda starting: {"reference": None})
    fresh_environment.setenv("FASTCONV_WORKSPACE", "1")
    assert main(["doctor", "--json"]) == 1
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
