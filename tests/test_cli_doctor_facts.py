"""The facts that ``doctor`` judges: quota, compiler, driver, the backends' self-test."""

from __future__ import annotations

import ctypes
import os

import pytest
from support import backends

from fastconv import dispatch
from fastconv.cli import driver, machine, selftest
from fastconv.cli.driver import Driver
from fastconv.cli.machine import Compiler


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
