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
#: Strides and dilations, and pads, as callers write them, for any number of axes.
Size = int | tuple[int, ...]
Pad = int | tuple[int, ...] | tuple[Pair, ...] | str

#: Axes of an image of one, two or three dimensions, as messages name them.
AXES = {1: ("horizontal",), 2: ("vertical", "horizontal"), 3: ("depth", "vertical", "horizontal")}
_ENDS = {"depth": ("front", "back"), "vertical": ("top", "bottom"), "horizontal": ("left", "right")}

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


def _form(names: Sequence[str]) -> str:
    """Print names as a tuple of them: ``(vertical, horizontal)``, ``(horizontal,)``."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def sizes(name: str, value: object, minimum: int, axes: Sequence[str]) -> tuple[int, ...]:
    """Read one int for all `axes`, or one for each."""
    if not _is_sequence(value):
        return (integer(name, value, minimum),) * len(axes)
    items = tuple(cast(Sequence[object], value))
    if len(items) != len(axes):
        raise ShapeError(
            f"{name} must be an int or {_form(axes)}, got {len(items)} values: {value!r}"
        )
    return tuple(integer(name, item, minimum) for item in items)


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
    pad: object,
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Pair, ...]:
    """Read `pad` as (before, after) along each axis of the image: ((top, bottom), (left, right)).

    Accepts an int, one number an axis, (before, after) for each axis or a name: ``valid`` (none),
    ``same`` (output ceil(size / stride), an odd pixel goes to the end), ``same_lower`` (to the
    beginning), ``full`` (every overlap of kernel and image). Along a single axis (before, after)
    needs no further parentheses.
    """
    axes = AXES[len(image)]
    if isinstance(pad, Resolved):
        return pad
    if isinstance(pad, str):
        check_choice("pad", pad, PAD_NAMES)
        return tuple(
            _named_pad(pad, *along) for along in zip(image, kernel, stride, dilation, strict=True)
        )
    if not _is_sequence(pad):
        both = integer("pad", pad, minimum=0)
        return ((both, both),) * len(axes)
    items = tuple(cast(Sequence[object], pad))
    if len(axes) == 1 and len(items) == 2 and not _is_sequence(items[0]):
        items = (items,)
    if len(items) != len(axes):
        ends = _form([_form(_ENDS[axis]) for axis in axes])
        raise ShapeError(
            f"pad must be an int, {_form(axes)}, {ends} or one of "
            f"{', '.join(map(repr, PAD_NAMES))}; got {len(items)} values: {pad!r}"
        )
    return tuple(
        _ends(item, axis) if _is_sequence(item) else (integer("pad", item, 0),) * 2
        for item, axis in zip(items, axes, strict=True)
    )


class Resolved(tuple[Pair, ...]):
    """Pads that need no reading: (before, after) along each axis, negative where pixels are cut."""


def _ends(value: object, axis: str) -> Pair:
    """Read (before, after)."""
    items = tuple(cast(Sequence[object], value))
    if len(items) != 2:
        raise ShapeError(
            f"pad along one axis must be an int or {_form(_ENDS[axis])}, got {len(items)} values: "
            f"{value!r}"
        )
    first, second = (integer("pad", item, minimum=0) for item in items)
    return first, second
