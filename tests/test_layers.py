"""The architecture, read from the imports: arrows point one way, options stay in their module."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from support import processes

import fastconv

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fastconv"

#: From the leaves up. A module imports strictly lower ones; what is not named here is an
#: application, which may import anything below and which nothing below may import.
LAYERS = [
    {"errors", "keys", "_native"},
    {"activations", "borders", "dtypes", "geometry"},
    {"checks"},
    {"sizes"},
    {"options", "problem"},
    {"arguments", "deformable", "tiling"},
    {"backends", "interchange"},
    {"backends.reference", "backends.numba", "backends.native", "backends.cuda", "lowering"},
    {"accuracy", "dispatch"},
    {"explanation", "_config", "peak", "complex_accuracy"},
    {"calls"},
    {"api", "plan"},
    {"operators", "interop.convolution"},
    {"interop.journal"},
    {"interop.blocks"},
    {""},
]
APPLICATION = len(LAYERS)

#: Optional packages, and the only modules that may import them, lazily.
OPTIONAL = {
    "numba": ("backends.numba",),
    "llvmlite": ("backends.numba",),
    "cupy": ("backends.cuda",),
    "cuda": ("backends.cuda",),
    "matplotlib": ("demo", "cli"),
    "rich": ("demo", "cli", "interop.blocks"),
    "scipy": ("backends.native", "interop.scipy"),
    "torch": ("interop.torch",),
    "onnx": ("interop.onnx",),
    "jax": ("interop.jax",),
    "autograd": ("interop.autograd",),
    "dask": ("interop.dask",),
    "distributed": ("interop.dask",),
}


def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its name below ``fastconv``."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = ast.parse(path.read_text("utf-8"))
    return found


MODULES = modules()


def unit(name: str) -> str:
    """Name what the layers speak of: a module, or a whole package of them."""
    package = name.partition(".")[0]
    if package in ("lowering", "operators", "tiling"):
        return package
    return ".".join(name.split(".")[:2]) if package == "backends" else name


def layer(name: str) -> int:
    """Height of a module; applications are above all."""
    return next((i for i, names in enumerate(LAYERS) if unit(name) in names), APPLICATION)


def absolute(module: str, node: ast.ImportFrom) -> str:
    """Resolve ``from ..x import`` inside `module` (below ``fastconv``) to a full dotted name."""
    if node.level == 0:
        return node.module or ""
    path = SOURCE.joinpath(*module.split(".")) if module else SOURCE
    package = ["fastconv", *module.split(".")] if module else ["fastconv"]
    depth = len(package) - (node.level - path.is_dir())
    return ".".join([*package[:depth], *([node.module] if node.module else [])])


def imports(module: str) -> set[str]:
    """Full names of everything a module imports, lazily or not, submodules spelled out."""
    names = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            names.add(base)
            names |= {
                f"{base}.{alias.name}"
                for alias in node.names
                if f"{base}.{alias.name}".removeprefix("fastconv.") in MODULES
            }
    return names


def inside(names: set[str]) -> set[str]:
    """Those of fastconv itself, by their name below it."""
    return {
        n.removeprefix("fastconv").removeprefix(".") for n in names if n.split(".")[0] == "fastconv"
    }


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    for target in inside(imports(module)):
        if unit(target) == unit(module) or not target:
            continue  # within a backend; or `from . import x`, whose x is listed as well
        assert target == "_native" or layer(target) < layer(module) or (
            layer(target) == layer(module) == APPLICATION
        ), f"{module or '__init__'} imports {target}"  # fmt: skip


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("backends.")])
def test_backends_know_neither_each_other_nor_who_chooses(module: str) -> None:
    for target in inside(imports(module)):
        if target.startswith("backends."):
            assert unit(target) == unit(module), f"{module} imports {target}"
        assert target not in ("dispatch", "api", "_config", "explanation")


@pytest.mark.parametrize("module", MODULES)
def test_third_parties_stay_in_their_module(module: str) -> None:
    for name in {n.split(".")[0] for n in imports(module)}:
        if name in OPTIONAL:
            allowed = OPTIONAL[name]
            assert any(module == a or module.startswith(a + ".") for a in allowed), (
                f"{module} imports {name}"
            )
        else:
            assert name in ("numpy", "fastconv", "") or name in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: p.stem)
def test_test_files_share_through_support_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            assert not any(n.startswith("test_") for n in names), f"{path.name}:{node.lineno}"


def test_leaves_import_no_one() -> None:
    for leaf in ("errors", "activations", "borders"):
        assert inside(imports(leaf)) <= {"errors", ""}, leaf


def test_only_the_table_compares_backends_by_name() -> None:
    """A backend's name in a comparison, anywhere else, would be a second table."""
    names = {"native", "numba", "cuda"}
    for module in ("api", "calls", "plan", "problem", "_config", "explanation", "accuracy"):
        for node in ast.walk(MODULES[module]):
            if isinstance(node, ast.Compare):
                held = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                assert not held & names, f"{module}:{node.lineno}"


def test_nothing_runs_what_it_reads() -> None:
    for module, tree in MODULES.items():
        assert not {n.split(".")[0] for n in imports(module)} & {"pickle", "marshal", "shelve"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{module}:{node.lineno}"


@pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="not a checkout")
def test_processors_are_counted_once() -> None:
    """glibc reads a file each time, which takes longer than a small convolution."""
    for path in (ROOT / "csrc").rglob("*.?pp"):
        for line in path.read_text("utf-8").splitlines():
            if "hardware_concurrency" in line:
                assert "static" in line or line.lstrip().startswith(": processors_("), path


IMPORTED = """
import sys, threading
import numpy
before, threads = set(sys.modules), threading.active_count()
import fastconv
new = set(sys.modules) - before
unwanted = {"numba", "llvmlite", "cupy", "cuda", "scipy", "matplotlib", "rich"}
unwanted |= {"torch", "onnx", "jax", "autograd", "dask", "distributed"}
assert not unwanted & {name.split(".")[0] for name in sys.modules}, unwanted & set(sys.modules)
assert threading.active_count() == threads
strangers = sorted(n for n in new if n.split(".")[0] != "fastconv")
assert len(strangers) < 25, strangers
assert not any(name.startswith("fastconv.operators") for name in new)
assert "fastconv.backends.cuda" not in new and "importlib.metadata" not in new
fastconv.conv2d(numpy.ones((4, 4)), numpy.ones((2, 2)), backend="reference")
assert not unwanted & {name.split(".")[0] for name in sys.modules}, "a NumPy call imports more"
print(len(strangers))
"""


def test_importing_is_light() -> None:
    """No optional package, no thread, few modules; a call on NumPy arrays adds none of them."""
    assert int(processes.run(IMPORTED)) < 25


def test_operators_are_where_their_names_say() -> None:
    """Those imported when asked for are public, and the same for users as for type checkers."""
    typed = {
        alias.name: node.module
        for block in MODULES[""].body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = fastconv._MODULES
    assert lazy == typed
    assert set(lazy) <= set(fastconv.__all__) <= set(dir(fastconv))
    for name, module in lazy.items():
        assert getattr(fastconv, name) is getattr(sys.modules[f"fastconv.{module}"], name)
    with pytest.raises(AttributeError, match="conv4d"):
        fastconv.conv4d  # noqa: B018


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not a checkout")
def test_the_version_is_stated_once() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', text, re.M)
    assert version is not None
    assert text.count(f'"{version[1]}"') == 1
    stated = re.compile(rf"(?<![\d.]){re.escape(version[1])}(?![\d.])")
    for folder, suffixes in (
        (SOURCE, {".py", ".pyi", ".cu", ".cuh"}),
        (ROOT / "csrc", {".cpp", ".hpp", ".h"}),
    ):
        for path in folder.rglob("*"):
            if path.suffix in suffixes:
                assert not stated.search(path.read_text("utf-8")), path
    for name in ("setup.py", "CMakeLists.txt"):
        if (ROOT / name).exists():
            assert not stated.search((ROOT / name).read_text()), name
