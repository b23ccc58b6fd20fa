"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from .. import dispatch
from ..errors import BackendUnavailable
from ..options import environment
from .errors import CommandError


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a converter for argparse that reads an integer of at least `minimum`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer") from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {number}")
        return number

    return convert


def _backend_names(text: str) -> tuple[str, ...]:
    known = [entry.name for entry in dispatch.TABLE]
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("names no backend")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"there is no backend {name!r}; choose from {', '.join(known)}"
            )
    return names


def add_backends(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--backends``; `default` says what happens without it."""
    parser.add_argument(
        "--backends", type=_backend_names, metavar="NAME,...", help=f"backends to run ({default})"
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads", type=at_least(1), help="most threads a call may use (default: usable cores)"
    )


def chosen_backends(named: Sequence[str] | None, default: Sequence[str]) -> tuple[str, ...]:
    """Backends that were named, or the default.

    Raises
    ------
    BackendUnavailable
        A named backend does not work here.
    """
    for name in named or ():
        reason = dispatch.availability(name)
        if reason is not None:
            raise BackendUnavailable(f"backend {name!r} cannot be used: {reason}")
    return tuple(named or default)


def check_environment() -> None:
    """Read fastconv's environment variables before any work is done.

    Raises
    ------
    CommandError
        One of them is unusable.
    """
    try:
        environment()
    except (ImportError, ValueError) as error:
        raise CommandError(f"{error}; python -m fastconv doctor says more") from None
