"""C and C++ programs and an extension, built by CMake and pkg-config against the installed package.

FASTCONV_REQUIRE_ORACLES=cmake makes a missing compiler, CMake or installation a failure, and
FASTCONV_REQUIRE_ORACLES=pkg-config a missing pkg-config.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.cli import main

SOURCES = Path(__file__).parent.parent / "capi"
Array = np.ndarray[Any, Any]


def missing(what: str, name: str = "cmake") -> None:
    """Skip, or fail where `name` is required."""
    if name in os.environ.get("FASTCONV_REQUIRE_ORACLES", "").split(","):
        pytest.fail(f"required: {what}")
    pytest.skip(what)


def tool(*names: str) -> str:
    """Find a program on the path, or where pip put it."""
    beside = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    for name in names:
        found = shutil.which(name, path=beside)
        if found:
            return found
    missing(f"there is no {' or '.join(names)}", names[0] if "pkg-config" in names else "cmake")
    raise AssertionError


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def cmake_dir() -> str:
    """Where the installed package is, as CMake users ask for it."""
    try:
        return fastconv.get_cmake_dir()
    except fastconv.BackendUnavailable as error:
        missing(str(error))
        raise AssertionError from None


@pytest.fixture(scope="session")
def built(cmake_dir: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build every program once."""
    folder = tmp_path_factory.mktemp("capi")
    tool(os.environ.get("CC", "cc"))
    cmake = tool("cmake")
    run(
        cmake, "-S", SOURCES, "-B", folder, f"-Dfastconv_DIR={cmake_dir}",
        f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_BUILD_TYPE=Release",
    )  # fmt: skip
    run(cmake, "--build", folder)
    return folder


def numbers(seed: int, *shape: int) -> Array:
    """Make the numbers of numbers.h."""
    i = np.arange(1, np.prod(shape) + 1, dtype=np.uint64)
    mixed = (i * 2654435761 + seed * 40503) & 0xFFFFFFFF
    return ((mixed >> 8 & 1023).astype("float32") / 512 - 1).reshape(shape)


def written(path: Path, like: Array) -> Array:
    return np.frombuffer(path.read_bytes(), like.dtype).reshape(like.shape)


def same_bits(path: Path, expected: Array) -> None:
    assert np.isfinite(expected).all()
    assert expected.any()
    np.testing.assert_array_equal(
        written(path, expected).view("uint32"), np.ascontiguousarray(expected).view("uint32")
    )


def check_c_results(folder: Path) -> None:
    """Hold what program.c wrote against the Python functions."""
    x, w, bias, gy = (
        numbers(seed, *shape)
        for seed, shape in enumerate([(2, 5, 13, 11), (7, 5, 3, 3), (7,), (2, 7, 7, 6)], 1)
    )
    how: Any = {"stride": 2, "pad": 1, "backend": "native"}
    y = fastconv.conv2d(x, w, bias=bias, activation="relu", **how)
    same_bits(folder / "c_y", y)
    same_bits(folder / "c_plan_y", y)
    same_bits(folder / "c_gx", fastconv.conv2d_input_grad(x.shape, w, gy, **how))
    same_bits(folder / "c_gw", fastconv.conv2d_weight_grad(x, w.shape, gy, **how))


def test_c_program(built: Path, tmp_path: Path) -> None:
    printed = run(built / "c_program", tmp_path)
    check_c_results(tmp_path)
    assert f"fastconv {fastconv.__version__} on " in printed
    x, w = numbers(1, 2, 5, 13, 11), numbers(2, 7, 5, 3, 3)
    named = fastconv.explain(x.shape, w.shape, stride=2, pad=1, backend="native").algorithm
    assert f"algorithm: {named}\n" in printed


def test_cpp_program(built: Path, tmp_path: Path) -> None:
    run(built / "cpp_program", tmp_path)
    x, w, bias = numbers(11, 1, 16, 12, 6), numbers(12, 8, 3, 3, 3), numbers(13, 8)
    y = fastconv.conv2d(
        x, w, pad=1, groups=2, layout="NHWC", pad_mode="reflect", bias=bias, activation="silu",
        backend="native",
    )  # fmt: skip
    same_bits(tmp_path / "cpp_y", y)


def test_an_instruction_set_that_cannot_be_forced_is_an_error(built: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [built / "c_program", tmp_path], capture_output=True, text=True, timeout=60,
        env={**os.environ, "FASTCONV_ISA": "mmx"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "FASTCONV_ISA=mmx" in done.stderr


def test_extension_through_the_capsule(built: Path) -> None:
    """An extension that links with nothing of fastconv convolves, and explains."""
    (path,) = built.glob("capsule_extension*.so")
    assert "fastconv" not in run(tool("ldd"), path)
    spec = importlib.util.spec_from_file_location("capsule_extension", path)
    assert spec is not None
    assert spec.loader is not None
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    x, w = numbers(5, 4, 9, 8), numbers(6, 3, 4, 2, 3)
    y = fastconv.conv2d(x, w, backend="native")
    assert extension.convolve(x, w) == y.tobytes()
    with pytest.raises(ValueError, match="covers 10 pixels"):
        extension.convolve(x, numbers(6, 3, 4, 10, 3))


def test_pkg_config(cmake_dir: str, tmp_path: Path) -> None:
    compiler, query = tool(os.environ.get("CC", "cc")), tool("pkg-config", "pkgconf")
    flags = run(
        query, "--cflags", "--libs", "fastconv", PKG_CONFIG_PATH=fastconv.get_pkgconfig_dir()
    ).split()
    version = run(query, "--modversion", "fastconv", PKG_CONFIG_PATH=fastconv.get_pkgconfig_dir())
    assert version.strip() == fastconv.__version__
    program = tmp_path / "program"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    run(compiler, *strict, SOURCES / "program.c", "-o", program, *flags)
    run(program, tmp_path)
    check_c_results(tmp_path)


def test_only_the_interface_is_exported(cmake_dir: str) -> None:
    """Public functions have one version, what the Python module takes another, nothing else is."""
    if sys.platform != "linux":
        pytest.skip("symbol versions are ELF's")
    (library,) = Path(cmake_dir).parent.parent.glob("libfastconv.so.*")
    exported = [
        line.split()[-1]
        for line in run(tool("nm"), "-D", "--defined-only", library).splitlines()
        if " A " not in line
    ]
    header = Path(fastconv.get_include(), "fastconv.h").read_text()
    declared = set(re.findall(r"FASTCONV_API[^;(]*?(fastconv_\w+)\(", header))
    public = {name.split("@@")[0] for name in exported if name.endswith("@@FASTCONV_0")}
    assert public == declared
    for name in exported:
        assert name.endswith("@@FASTCONV_0") or (
            name.endswith("@@FASTCONV_PRIVATE") and name.startswith("_ZN8fastconv")
        ), name


def test_module_and_programs_share_one_library(cmake_dir: str) -> None:
    """Whoever links with the library in a Python process has the module's: one pool of threads."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    (library,) = Path(cmake_dir).parent.parent.glob("libfastconv.so.*")
    code = f"""
import ctypes, fastconv._native
ctypes.CDLL({str(library)!r})
print(len({{line.split()[-1] for line in open("/proc/self/maps") if "libfastconv" in line}}))
"""
    assert run(sys.executable, "-c", code).strip() == "1"


def test_command_line_prints_the_paths(cmake_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--includes", "--cmakedir", "--pkgconfigdir"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"-I{fastconv.get_include()}", cmake_dir, fastconv.get_pkgconfig_dir(),
    ]  # fmt: skip
    assert Path(fastconv.get_include(), "fastconv_capsule.h").is_file()
    assert Path(cmake_dir, "fastconvConfig.cmake").is_file()
