"""Which kernel, with which constants: a pure function of the problem, with no device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ... import activations
from ...activations import LEAKY_SLOPE
from ...borders import PAD_MODES
from ...problem import ConvProblem
from .parameters import ItemStrides, Strides

#: Threads of a `direct_naive` block, and the most blocks it is given: further outputs are taken in
#: turn by the same threads.
NAIVE_THREADS = 256
NAIVE_BLOCKS = 1 << 20

#: Fewer output channels per group than this leave most of a GEMM tile empty.
NARROW_GROUP = 4

#: Blocks that a large GPU runs at once. A constant, not the device's own number: the choice stays
#: a function of the problem, and the same on every machine.
CONCURRENT_BLOCKS = 128

C_TYPES = {
    "float16": "half_bits", "float32": "float", "float64": "double",
    "int8": "i8", "uint8": "u8", "int16": "i16", "uint16": "u16",
    "int32": "i32", "uint32": "u32", "int64": "i64", "uint64": "u64", "bool": "u8",
}  # fmt: skip


class Tile(NamedTuple):
    """Tile of `igemm_simt`: `bm` pixels x `bn` channels a block, `tm` x `tn` sums a thread.

    `resident` blocks fit a multiprocessor at once: that leaves 65536 / (resident * threads)
    registers to a thread. `relative_speed` is an estimate, of a full tile.
    """

    bm: int
    bn: int
    tm: int
    tn: int
    resident: int
    relative_speed: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.bm // self.tm * (self.bn // self.tn)


#: Terms of the sum per step. One number for all tiles: the last step's zeros are added alike.
BK = 8

TILES = {
    "float32": (
        Tile(128, 128, 8, 8, 2, 1.0),
        Tile(128, 64, 8, 4, 2, 0.85),
        Tile(64, 64, 4, 4, 3, 0.7),
        Tile(128, 32, 8, 4, 4, 0.7),
        Tile(32, 32, 4, 4, 8, 0.5),
    ),
    # 8 x 8 doubles would take every register a thread can have.
    "float64": (
        Tile(128, 64, 8, 4, 1, 1.0),
        Tile(64, 64, 4, 4, 2, 0.9),
        Tile(128, 32, 8, 4, 2, 0.9),
        Tile(32, 32, 4, 4, 6, 0.7),
    ),
}


@dataclass(frozen=True)
class Configuration:
    """A kernel and the constants it is compiled with.

    Attributes
    ----------
    kernel : str
        Source file (without ``.cu``) and entry.
    name : str
        What `fastconv.explain` prints.
    threads : int
        Threads per block.
    defines : tuple of (str, str)
        Preprocessor constants.
    tile : Tile or None
        For `igemm_simt`.
    """

    kernel: str
    name: str
    threads: int
    defines: tuple[tuple[str, str], ...]
    tile: Tile | None = None


def choose(problem: ConvProblem, strides: ItemStrides | None = None) -> Configuration:
    """Choose kernel and tile: specific to general, ending in `direct_naive`, which takes all.

    Parameters
    ----------
    problem : ConvProblem
    strides : ItemStrides, optional
        Of the arrays at hand; they decide only whether offsets need 64 bits. Default: dense.
    """
    if _refusal(problem) is None:
        tile = min(TILES[problem.dtype], key=lambda tile: _estimated_time(problem, tile))
        return igemm_simt(problem, tile, wide=_needs_wide_offsets(problem, strides))
    return direct_naive(problem)


def direct_naive(problem: ConvProblem) -> Configuration:
    """Configuration of the kernel that computes every legal problem."""
    types = {
        "OPERAND_T": C_TYPES[problem.dtype],
        "ACCUMULATOR_T": _accumulator(problem.out_dtype),
        "RESULT_T": C_TYPES[problem.out_dtype],
        "THREADS": str(NAIVE_THREADS),
    }
    return Configuration(
        "direct_naive", f"direct_naive_{problem.dtype}", NAIVE_THREADS, _defines(problem, types)
    )


def igemm_simt(problem: ConvProblem, tile: Tile, wide: bool) -> Configuration:
    """Configuration of the implicit GEMM with a given tile."""
    # 64-bit offsets and mapped borders take registers that a full house does not leave.
    roomy = wide or problem.pad_mode != "constant"
    constants = {
        "OPERAND_T": C_TYPES[problem.dtype],
        "BM": str(tile.bm), "BN": str(tile.bn), "BK": str(BK), "TM": str(tile.tm),
        "TN": str(tile.tn), "RESIDENT": str(1 if roomy else tile.resident),
        "WIDE": str(int(wide)),
    }  # fmt: skip
    name = f"igemm_simt_{problem.dtype}_{tile.bm}x{tile.bn}"
    return Configuration("igemm_simt", name, tile.threads, _defines(problem, constants), tile)


def grid_blocks(problem: ConvProblem, configuration: Configuration) -> int:
    """Blocks to launch."""
    tile = configuration.tile
    if tile is None:
        outputs = problem.n * problem.k * problem.p * problem.q
        return min(-(-outputs // configuration.threads), NAIVE_BLOCKS)
    return _tiles(problem, tile)


def _refusal(problem: ConvProblem) -> str | None:
    """Return None if `igemm_simt` computes `problem`, otherwise why not."""
    if problem.dtype not in TILES or problem.out_dtype != problem.dtype:
        return "computes float32 and float64"
    if problem.k // problem.groups < NARROW_GROUP:
        return f"fewer than {NARROW_GROUP} output channels per group leave its tiles empty"
    # One more step of terms than there are: the last step is not cut short.
    reach = (
        (problem.p - 1) * problem.stride[0] + (problem.r + BK) * problem.dilation[0],
        (problem.q - 1) * problem.stride[1] + (problem.s + BK) * problem.dilation[1],
    )
    sizes = (problem.n, problem.c, problem.k, problem.h, problem.w, *reach, *sum(problem.pad, ()))
    # Twice the size of an axis is a period of the symmetric border.
    if max(sizes) >= 2**29 or problem.reduction + BK >= 2**31:
        return "an axis is too long for 32-bit coordinates"
    if max(_tiles(problem, tile) for tile in TILES[problem.dtype]) >= 2**31:
        return "more tiles than a grid has blocks"
    return None


def _needs_wide_offsets(problem: ConvProblem, strides: ItemStrides | None) -> bool:
    """Whether an offset into x, w or y, or a pixel's number, may not fit 32 bits."""
    shapes = (
        (problem.n, problem.c, problem.h, problem.w),
        problem.w_shape,
        (problem.n, problem.k, problem.p, problem.q),
    )
    each = strides or [_dense(shape) for shape in shapes]
    reach = max(
        # Coordinates may run one step of terms past the end before they are found out.
        sum((size + BK) * abs(step) for size, step in zip(shape, steps, strict=True) if size > 1)
        for shape, steps in zip(shapes, each, strict=True)
    )
    pixels = problem.n * problem.p * problem.q + max(t.bm for t in TILES[problem.dtype])
    return max(reach, pixels) >= 2**31


def _dense(shape: tuple[int, ...]) -> Strides:
    _, b, c, d = shape
    return (b * c * d, c * d, d, 1)


def _tiles(problem: ConvProblem, tile: Tile) -> int:
    pixels, channels = problem.n * problem.p * problem.q, problem.k // problem.groups
    return -(-pixels // tile.bm) * -(-channels // tile.bn) * problem.groups


def _estimated_time(problem: ConvProblem, tile: Tile) -> float:
    """Time in arbitrary units: rounds of concurrent blocks, times the work of one."""
    rounds = -(-_tiles(problem, tile) // CONCURRENT_BLOCKS)
    return rounds * tile.bm * tile.bn / tile.relative_speed


def _accumulator(out_dtype: str) -> str:
    """C type that sums modulo 2**bits, or in floating point, without undefined overflow."""
    dtype = np.dtype(out_dtype)
    if dtype.kind == "f":
        return "double" if out_dtype == "float64" else "float"
    return "u64" if dtype.itemsize == 8 else "u32"


def _defines(problem: ConvProblem, constants: dict[str, str]) -> tuple[tuple[str, str], ...]:
    common = {
        "PAD_MODE": str(PAD_MODES.index(problem.pad_mode)),
        "ACTIVATION": str(activations.code(problem.activation)),
        "LEAKY_SLOPE": repr(LEAKY_SLOPE),
        "CHANNELS_LAST": str(int(problem.layout == "NHWC")),
    }
    return tuple((constants | common).items())
