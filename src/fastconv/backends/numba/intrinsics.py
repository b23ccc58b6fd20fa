"""What Numba's Python has no word for: vector registers, raw loads, an atomic counter.

Each intrinsic emits a few lines of LLVM IR for vectors of a fixed number of lanes, which LLVM
splits or widens to what the machine has: one source for SSE, AVX2, AVX-512 and NEON.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils, types

from .jit import intrinsic, specialise


class Tile(NamedTuple):
    """Register tile of the micro-kernel: `rows` output channels by `vectors` of pixels."""

    rows: int
    vectors: int
    vector_bytes: int


#: CPU feature -> tile whose accumulators, operands and one temporary fit the registers.
TILES = (
    ("avx512f", Tile(8, 2, 64)),  # 16 + 2 of 32
    ("avx2", Tile(4, 3, 32)),  # 12 + 3 of 16; the broadcast is folded into the multiply-add
    ("neon", Tile(8, 2, 16)),  # 16 + 2 of 32
    ("", Tile(4, 2, 16)),  # 8 + 2 of 16; a multiply apart from the add needs a temporary
)


@lru_cache(maxsize=1)
def _features() -> frozenset[str]:
    """CPU features that Numba compiles for; a wrong guess costs speed, never the result."""
    chosen = numba.config.CPU_FEATURES
    if chosen is not None:
        return frozenset(f[1:] for f in str(chosen).split(",") if f.startswith("+"))
    if numba.config.CPU_NAME == "generic":
        return frozenset()
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def tile_of(itemsize: int) -> tuple[int, int, int]:
    """Rows, vectors and lanes of the register tile for an accumulator of `itemsize` bytes."""
    tile = next(tile for feature, tile in TILES if not feature or feature in _features())
    # no more than 16 lanes: wide panels of short integers would be mostly tail
    return tile.rows, tile.vectors, tile.vector_bytes // max(itemsize, 4)


def panel_width(itemsize: int) -> int:
    """Pixels of one panel: the columns of the register tile."""
    _, vectors, lanes = tile_of(itemsize)
    return vectors * lanes


def width_of(scratch: Any) -> int:
    """Inside kernels: panel width for this accumulator, a compile-time constant."""
    return panel_width(scratch.dtype.itemsize)


@specialise(width_of)
def _width_of(scratch: Any) -> Callable[[Any], int]:
    width = panel_width(scratch.dtype.bitwidth // 8)
    return lambda scratch: width


def rows_of(scratch: Any) -> int:
    """Inside kernels: most rows of the register tile, a compile-time constant."""
    return tile_of(scratch.dtype.itemsize)[0]


@specialise(rows_of)
def _rows_of(scratch: Any) -> Callable[[Any], int]:
    rows = tile_of(scratch.dtype.bitwidth // 8)[0]
    return lambda scratch: rows


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Pointer to the first element of a one-dimensional array."""
    return context.make_array(kind)(context, builder, array).data


@intrinsic
def address(typing: Any, array: Any, index: Any) -> Any:
    """Address of ``array[index]`` as an integer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.gep(_data(context, builder, signature.args[0], args[0]), [args[1]])
        return builder.ptrtoint(pointer, ir.IntType(64))

    return types.int64(array, types.int64), codegen


@intrinsic
def get(typing: Any, array: Any, index: Any) -> Any:
    """``array[index]`` for an index that is never negative: no wrap-around, so loops vectorise."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        pointer = builder.gep(_data(context, builder, kind, args[0]), [args[1]])
        return context.unpack_value(builder, kind.dtype, pointer)

    return array.dtype(array, types.int64), codegen


@intrinsic
def put(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value`` for an index that is never negative."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        pointer = builder.gep(_data(context, builder, kind, args[0]), [args[1]])
        context.pack_value(builder, kind.dtype, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), codegen


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """Turn an address into a pointer, for `numba.carray`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


@intrinsic
def call(typing: Any, stage: Any, words: Any) -> Any:
    """Call a compiled stage by its address, with a tuple of int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(words))), codegen


@intrinsic
def fetch_add(typing: Any, counter: Any) -> Any:
    """Add 1 to ``counter[0]`` atomically and return what it was: the next task."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _data(context, builder, signature.args[0], args[0])
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """The float32 of these bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


def _multiply_add(builder: Any, vector: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` of vectors, fused in every lane or in none, as the processor can."""
    if isinstance(vector.element, ir.IntType):
        return builder.add(builder.mul(a, b), c)
    letter = "f64" if isinstance(vector.element, ir.DoubleType) else "f32"
    name = f"llvm.fmuladd.v{vector.count}{letter}"
    signature = ir.FunctionType(vector, [vector] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [a, b, c])


def _emit_tile(
    builder: Any, element: Any, size: int, shape: tuple[int, int, int], args: Any
) -> None:
    """Emit the loop over the reduction with all accumulators in registers, then add to c."""
    rows, vectors, lanes = shape
    a, lda, b, offsets, c, ldc, depth = args
    vector = ir.VectorType(element, lanes)
    word = ir.IntType(64)

    def pointer(base: Any, offset: Any, kind: Any, unit: int = size) -> Any:
        """Pointer to `kind` at `offset` items of `unit` bytes after the address `base`."""
        scaled = builder.mul(offset, ir.Constant(word, unit))
        return builder.inttoptr(builder.add(base, scaled), kind.as_pointer())

    def vector_at(base: Any, index: int) -> Any:
        return builder.gep(base, [ir.Constant(word, index)])

    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
    for slot in (slot for row in sums for slot in row):
        builder.store(ir.Constant(vector, None), slot)
    a_rows = [builder.mul(lda, ir.Constant(word, i)) for i in range(rows)]
    with cgutils.for_range(builder, depth, intp=word) as loop:
        column = pointer(b, builder.load(pointer(offsets, loop.index, word, 8)), vector)
        pixels = [builder.load(vector_at(column, v), align=size) for v in range(vectors)]
        for i in range(rows):
            weight = builder.load(pointer(a, builder.add(a_rows[i], loop.index), element))
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, weight, ir.Constant(ir.IntType(32), 0))
            mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
            splat = builder.shuffle_vector(first, undefined, mask)
            for v in range(vectors):
                total = builder.load(sums[i][v])
                builder.store(_multiply_add(builder, vector, splat, pixels[v], total), sums[i][v])
    for i in range(rows):
        row = pointer(c, builder.mul(ldc, ir.Constant(word, i)), vector)
        for v in range(vectors):
            place, total = vector_at(row, v), builder.load(sums[i][v])
            before = builder.load(place, align=size)
            add = builder.add if isinstance(element, ir.IntType) else builder.fadd
            builder.store(add(before, total), place, align=size)


def _make_tile(part: int) -> Callable[..., None]:
    """Micro-kernel with 1/`part` of the rows of the full register tile."""

    @intrinsic
    def tile(
        typing: Any, scratch: Any, a: Any, lda: Any, b: Any, offsets: Any, c: Any, ldc: Any,
        depth: Any,
    ) -> Any:  # fmt: skip
        size = scratch.dtype.bitwidth // 8
        rows, vectors, lanes = tile_of(size)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            element = context.get_data_type(signature.args[0].dtype)
            shape = (max(rows // part, 1), vectors, lanes)
            _emit_tile(builder, element, size, shape, args[1:])
            return context.get_dummy_value()

        return types.void(scratch, *[types.int64] * 7), codegen

    return tile


#: ``tile(scratch, a, lda, b, offsets, c, ldc, depth)``: adds to c[i, :] the sum over kk < depth of
#: a[i, kk] * b[offsets[kk] :]. a, b, offsets and c are addresses.
tile_full, tile_half, tile_quarter, tile_eighth = (_make_tile(part) for part in (1, 2, 4, 8))
