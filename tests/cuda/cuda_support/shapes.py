"""Problems that every kernel is run on, and ladders of one rung to run them with."""

from __future__ import annotations

from collections.abc import Callable

from support.cases import Case

from fastconv.backends.cuda import configuration
from fastconv.backends.cuda.configuration import TILES, Configuration, Tile
from fastconv.problem import ConvProblem

FLOATS = ("float32", "float64")
LAYOUTS = ("NCHW", "NHWC")
NARROWEST = TILES["float32"][-1]

#: Every tile there is.
TILED = [(dtype, tile) for dtype in FLOATS for tile in TILES[dtype]]
TILE_IDS = [f"{dtype}-{tile.bm}x{tile.bn}" for dtype, tile in TILED]

#: Pixels, channels and terms around the tiles, primes and ones, and every other part of a problem.
SHAPES = [
    Case((1, 1, 1, 1), (4, 1, 1, 1)),
    Case((1, 9, 1, 1), (5, 9, 1, 1), bias=True),
    Case((2, 3, 1, 31), (13, 3, 1, 3)),
    Case((1, 8, 4, 8), (32, 8, 1, 1)),
    Case((1, 8, 3, 11), (33, 8, 1, 1), bias=True),
    Case((3, 7, 5, 5), (4, 7, 3, 3), pad=1),
    Case((1, 2, 13, 11), (37, 2, 3, 5), stride=(2, 3), pad=((2, 0), (1, 4)), bias=True),
    Case((1, 6, 9, 8), (10, 3, 3, 2), groups=2, dilation=(2, 3), pad=3),
    Case((2, 10, 4, 5), (20, 2, 2, 2), groups=5, pad="same", bias=True),
    Case((1, 3, 6, 7), (5, 3, 3, 3), pad="full", flip=True),
    Case((5, 6, 7), (6, 5, 3, 3), pad=1, stride=2),
    Case((2, 2, 1, 1), (4, 2, 1, 1), pad=1),
    Case((1, 17, 5, 7), (67, 17, 3, 1), pad=(1, 0), stride=2),
]

#: What the ladder hands to the definition.
NARROW = [
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((9, 7), (3, 3), pad=2, flip=True),
    Case((2, 6, 8, 9), (6, 1, 3, 3), groups=6, pad=1, stride=2, bias=True),
    Case((1, 4, 5, 6), (12, 1, 3, 2), groups=4, dilation=2, pad=((0, 3), (2, 1))),
    Case((1, 3, 17, 19), (3, 3, 2, 5), stride=(1, 4)),
]

#: Borders wider than the image, and images of one row.
BORDERS = [
    Case((2, 2, 4, 5), (5, 2, 3, 3), pad=((2, 1), (3, 7))),
    Case((1, 2, 1, 3), (4, 2, 2, 3), pad=9, stride=2),
    Case((1, 2, 5, 2), (4, 1, 3, 2), pad=((11, 0), (0, 6)), groups=2, dilation=2),
]


def held(case: Case, layout: str) -> Case:
    """Return the case in a layout."""
    return case if layout == "NCHW" else case.channels_last()


Choose = Callable[..., Configuration]


def tiled(tile: Tile, wide: bool = False) -> Choose:
    """Return a ladder of one rung: the implicit GEMM with this tile."""
    return lambda problem, strides=None: configuration.igemm_simt(problem, tile, wide)


def naive(problem: ConvProblem, strides: object = None) -> Configuration:
    """Return the definition."""
    return configuration.direct_naive(problem)
