"""Strides, pads and output sizes: their types, and their checks in Python integers. A leaf."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from .errors import ShapeError

Shape = tuple[int, ...]
#: (vertical, horizontal), and ((top, bottom), (left, right)).
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
#: Strides and dilations, and pads, as callers write them.
Size = int | Pair
Pad = int | Pair | Pads | str

PAD_NAMES = ("valid", "same", "same_lower", "full")


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise unless `value` is one of the `allowed` names."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    if value not in allowed:
        raise ShapeError(f"unknown {name} {value!r}; choose from {', '.join(map(repr, allowed))}")


def integer(name: str, value: object, minimum: int) -> int:
    """Return `value` as a Python integer of at least `minimum`; floats and strings are refused."""
    try:
        number = operator.index(cast(Any, value))
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r} ({type(value).__name__})"
        ) from None
    if number < minimum:
        raise ShapeError(f"{name} must be at least {minimum}, got {number}")
    return number


def _is_sequence(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def pair(name: str, value: object, minimum: int) -> Pair:
    """Read an int or (vertical, horizontal)."""
    if not _is_sequence(value):
        number = integer(name, value, minimum)
        return number, number
    items = tuple(cast(Sequence[object], value))
    if len(items) != 2:
        raise ShapeError(
            f"{name} must be an int or (vertical, horizontal), got {len(items)} values: {value!r}"
        )
    first, second = (integer(name, item, minimum) for item in items)
    return first, second


def output_size(size: int, taps: int, stride: int, pad: Pair, dilation: int) -> int:
    """Output pixels along one axis; 0 or less means that the kernel does not fit."""
    return (size + sum(pad) - (taps - 1) * dilation - 1) // stride + 1


def _named_pad(name: str, size: int, taps: int, stride: int, dilation: int) -> Pair:
    reach = (taps - 1) * dilation
    if name == "valid":
        return 0, 0
    if name == "full":
        return reach, reach
    total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if name == "same" else (large, small)


def resolve_pad(
    pad: object, image: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """Read `pad` as ((top, bottom), (left, right)).

    Accepts an int, (vertical, horizontal), ((top, bottom), (left, right)) or a name: ``valid``
    (none), ``same`` (output ceil(size / stride), an odd pixel goes to the end), ``same_lower``
    (to the beginning), ``full`` (every overlap of kernel and image).
    """
    if isinstance(pad, str):
        check_choice("pad", pad, PAD_NAMES)
        vertical, horizontal = (
            _named_pad(pad, *sizes) for sizes in zip(image, kernel, stride, dilation, strict=True)
        )
        return vertical, horizontal
    if not _is_sequence(pad):
        both = pair("pad", pad, minimum=0)
        return (both[0], both[0]), (both[1], both[1])
    items = tuple(cast(Sequence[object], pad))
    if len(items) != 2:
        raise ShapeError(
            "pad must be an int, (vertical, horizontal), ((top, bottom), (left, right)) or one of "
            f"{', '.join(map(repr, PAD_NAMES))}; got {len(items)} values: {pad!r}"
        )
    vertical, horizontal = (pair("pad", item, minimum=0) for item in items)
    return vertical, horizontal
