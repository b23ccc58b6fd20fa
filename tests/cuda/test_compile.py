"""Every configuration compiled to machine code; registers, spills and shared memory from ptxas.

NVRTC needs no GPU, and its wheels are among the test dependencies: nothing here is skipped.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import pytest
from cuda.bindings import nvrtc
from cuda_support import probes
from cuda_support.shapes import FLOATS, LAYOUTS, TILE_IDS, TILED

from fastconv.activations import ACTIVATIONS
from fastconv.backends.cuda import compiler, configuration
from fastconv.backends.cuda.compiler import CompileError
from fastconv.backends.cuda.configuration import TILES, Configuration, Tile
from fastconv.backends.cuda.parameters import PARAMETERS
from fastconv.borders import PAD_MODES
from fastconv.dtypes import INTEGERS
from fastconv.problem import ConvProblem

ARCHITECTURES = ("sm_80", "sm_90a")

#: What the smaller of the two, sm_80, has per multiprocessor; a block may take 48 KiB unasked.
REGISTERS, SHARED_BYTES, BLOCK_SHARED_BYTES = 65536, 163 * 1024, 48 * 1024


#: The compiler that tiles were tuned with spills nothing; another may miss by a few registers
#: around the loop, which costs next to nothing.
TUNED_WITH, SPILL_ALLOWANCE = (13, 5), 128


class Resources(NamedTuple):
    """What ptxas says a kernel takes."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spilled_bytes: int


def resources(log: str) -> Resources:
    """Read ptxas's report; what it does not say fails."""
    assert "warning" not in log, log

    def number(pattern: str) -> int:
        found = re.findall(pattern, log)
        assert len(found) == 1, f"{pattern!r} stands {len(found)} times in:\n{log}"
        return int(found[0])

    shared = re.findall(r"(\d+) bytes smem", log)
    return Resources(
        number(r"Used (\d+) registers"),
        int(shared[0]) if shared else 0,
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
    )


def check(chosen: Configuration, arch: str) -> None:
    resident = int(dict(chosen.defines).get("RESIDENT", 1))
    binary = compiler.compile_kernel(chosen, arch, ("-Xptxas=-v",))
    assert binary.cubin.startswith(b"\x7fELF")
    found = resources(binary.log)
    what = f"{chosen.name} on {arch}: {found}"
    allowed = 0 if tuple(nvrtc.nvrtcVersion()[1:]) == TUNED_WITH else SPILL_ALLOWANCE
    assert max(found.spilled_bytes, found.stack_bytes) <= allowed, what
    # registers are handed out by the warp, 256 at a time
    per_warp = -(-found.registers * 32 // 256) * 256
    assert per_warp * (chosen.threads // 32) * resident <= REGISTERS, what
    assert found.shared_bytes <= BLOCK_SHARED_BYTES, what
    assert found.shared_bytes * resident <= SHARED_BYTES, what


def problem(dtype: str, layout: str = "NCHW") -> ConvProblem:
    return ConvProblem(
        2, 64, 56, 56, 128, 3, 3, pad=((1, 1), (1, 1)), layout=layout, dtype=dtype,
        out_dtype=dtype, bias=True,
    )  # fmt: skip


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dtype", "tile"), TILED, ids=TILE_IDS)
def test_every_tile(dtype: str, tile: Tile, layout: str, arch: str) -> None:
    described = problem(dtype, layout)
    check(configuration.igemm_simt(described, tile, wide=False), arch)
    check(configuration.igemm_simt(described, tile, wide=True), arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_border_at_the_largest_tile(dtype: str, layout: str, arch: str) -> None:
    tile = TILES[dtype][0]
    for mode in PAD_MODES[1:]:
        described = replace(problem(dtype, layout), pad_mode=mode)
        check(configuration.igemm_simt(described, tile, wide=False), arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_at_the_largest_tile(activation: str, dtype: str, arch: str) -> None:
    tile = TILES[dtype][0]
    described = replace(problem(dtype), activation=activation)
    check(configuration.igemm_simt(described, tile, wide=False), arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [*FLOATS, "float16", *INTEGERS])
def test_the_definition(dtype: str, arch: str) -> None:
    for layout in LAYOUTS:
        check(configuration.direct_naive(problem(dtype, layout)), arch)
    for mode in PAD_MODES[1:]:
        check(configuration.direct_naive(replace(problem(dtype), pad_mode=mode)), arch)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_definition_with_every_activation(activation: str) -> None:
    dtypes = (*FLOATS, "float16")
    for dtype in (*dtypes, *INTEGERS) if ACTIVATIONS[activation].integers else dtypes:
        chosen = configuration.direct_naive(replace(problem(dtype), activation=activation))
        check(chosen, "sm_90a")


def test_results_of_another_width() -> None:
    for operand, result in (("int8", "int8"), ("uint8", "int64"), ("int16", "uint32")):
        chosen = configuration.direct_naive(replace(problem(operand), out_dtype=result))
        check(chosen, "sm_80")


def ptx(chosen: Configuration) -> str:
    """Compile to the readable half-way form, with the very options of the product."""
    files = compiler.sources()
    source = files.pop(f"{chosen.kernel}.cu")
    defines = tuple(f"-D{name}={value}" for name, value in chosen.defines)
    _, program = nvrtc.nvrtcCreateProgram(
        source.encode(), b"k.cu", len(files), [t.encode() for t in files.values()],
        [n.encode() for n in files],
    )  # fmt: skip
    arguments = [o.encode() for o in (*compiler.OPTIONS, "-arch=compute_90", *defines)]
    assert nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)[0].value == 0
    _, size = nvrtc.nvrtcGetPTXSize(program)
    text = bytearray(size)
    nvrtc.nvrtcGetPTX(program, text)
    return text.decode()


@pytest.mark.parametrize("dtype", FLOATS)
def test_instructions(dtype: str) -> None:
    """Nothing flushed or approximated; fused sums, wide shared-memory reads, read-only loads."""
    kind, width = {"float32": ("f32", "v4"), "float64": ("f64", "v2")}[dtype]
    chosen = configuration.igemm_simt(problem(dtype), TILES[dtype][0], wide=False)
    text = ptx(chosen)
    assert ".ftz" not in text
    assert ".approx" not in text
    tile = TILES[dtype][0]
    assert text.count(f"fma.rn.{kind}") >= tile.tm * tile.tn * configuration.BK
    assert len(re.findall(rf"ld\.shared\.{width}\.(?:{kind}|b\d+)", text)) >= configuration.BK
    assert re.search(r"ld\.global\.nc", text)
    assert not re.search(r"\b(?:atom|red)\.", text), "sums must not depend on the order of blocks"


def test_layout_of_the_parameters_on_the_device() -> None:
    """Offsets and sizes of ConvParameters, asserted by the device compiler."""
    checks = [f"static_assert(sizeof(ConvParameters) == {PARAMETERS.itemsize});"]
    for name in PARAMETERS.names:
        dtype, offset = PARAMETERS.fields[name][:2]
        checks.append(f"static_assert(__builtin_offsetof(ConvParameters, {name}) == {offset});")
        checks.append(f"static_assert(sizeof(ConvParameters::{name}) == {dtype.itemsize});")
    source = '#include "parameters.cuh"\n' + "\n".join(checks)
    options = (*compiler.OPTIONS, "-arch=sm_80")
    compiler.compile_source("layout.cu", source, compiler.sources(), options)
    swapped = source.replace("ConvParameters, w_data) == 8", "ConvParameters, w_data) == 16")
    with pytest.raises(CompileError, match="static assertion failed"):
        compiler.compile_source("layout.cu", swapped, compiler.sources(), options)


def test_probes_compile_for_the_device() -> None:
    for probe in (
        probes.each(probes.halves(), "float32", "half_to_float(v)"),
        probes.each(probes.floats(), "float16", "float_to_half(v)"),
        probes.turned(probes.floats()),
    ):
        name = f"{probe.configuration.kernel}.cu"
        defines = [f"-D{key}={value}" for key, value in probe.configuration.defines]
        options = (*compiler.OPTIONS, "-arch=sm_90a", *defines)
        compiler.compile_source(name, probes.SOURCES[name], compiler.sources(), options)


def test_an_error_shows_the_log() -> None:
    chosen = configuration.direct_naive(problem("float32"))
    broken = replace(chosen, defines=(*chosen.defines, ("OPERAND_T", "nonsense")))
    with pytest.raises(CompileError, match=r"direct_naive\.cu does not compile[\s\S]*nonsense"):
        compiler.compile_kernel(broken, "sm_80")


def test_architecture_names() -> None:
    assert [compiler.architecture(c) for c in ("80", "89", "90", "120")] == [
        "sm_80", "sm_89", "sm_90a", "sm_120",
    ]  # fmt: skip
    assert compiler.supported("80")
    assert not compiler.supported("35")
