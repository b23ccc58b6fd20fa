"""The command line, one file a subcommand: ``python -m fastconv {info,doctor,demo,bench}``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import FastconvError
from .errors import CommandError

EXAMPLES = """\
examples:
  python -m fastconv demo                  run the demo, write fastconv-demo.png
  python -m fastconv doctor                find what keeps fastconv from being fast
  python -m fastconv bench --network vgg16
  python -m fastconv info                  print what a bug report needs
  cmake -Dfastconv_DIR=$(python -m fastconv --cmakedir) ...
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with all subcommands."""
    from . import bench, demo, doctor, info, paths

    parser = argparse.ArgumentParser(
        prog="python -m fastconv",
        description="Fast, exact and deterministic convolution for NumPy and CuPy arrays.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    paths.add_arguments(parser)
    commands = parser.add_subparsers(dest="command", metavar="{info,doctor,demo,bench}")
    for module in (info, doctor, demo, bench):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0 done, 1 something is wrong (one line on standard error, or the report says
        what), 2 unusable arguments (raised by argparse as `SystemExit`), 130 interrupted.
    """
    from . import paths

    parser = build_parser()
    options = parser.parse_args(argv)
    if options.command is None and not options.paths:
        parser.print_help()
        return 0
    try:
        status: int = paths.run(options) if options.paths else options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader has gone (`... | head`); keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (FastconvError, CommandError) as error:
        kind = "error" if isinstance(error, CommandError) else type(error).__name__
        print(f"fastconv: {kind}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.status if isinstance(error, CommandError) else 1
