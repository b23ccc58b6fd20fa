"""``python -m fastconv --cmakedir`` and others: where what C and C++ programs need is installed."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .._config import get_cmake_dir, get_include, get_pkgconfig_dir

#: Option, what it prints, and how that is found.
PATHS: dict[str, tuple[str, Callable[[], str]]] = {
    "--includes": ("the compiler's option for fastconv.h", lambda: f"-I{get_include()}"),
    "--cmakedir": ("the directory of the CMake package, for fastconv_DIR", get_cmake_dir),
    "--pkgconfigdir": ("the directory of fastconv.pc, for PKG_CONFIG_PATH", get_pkgconfig_dir),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, which take the place of a subcommand."""
    group = parser.add_argument_group("C and C++")
    for option, (what, _) in PATHS.items():
        group.add_argument(
            option, dest="paths", action="append_const", const=option, help=f"print {what}"
        )


def run(options: argparse.Namespace) -> int:
    """Print what was asked for, in its order, a line each."""
    for option in options.paths:
        print(PATHS[option][1]())
    return 0
