"""What decides a call: a key of its arguments that holds no array. A leaf."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Where a caller put an array: among the positional arguments, or by name. None: nowhere.
Place = int | str | None


def is_plain(*values: Any) -> bool:
    """Whether all are made of int, str and tuple alone, hence hashable and of one meaning."""
    for value in values:
        kind = type(value)
        if kind is not int and kind is not str and not (kind is tuple and is_plain(*value)):
            return False
    return True


def key_of(
    function: object, around: object, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...] | None:
    """Return all that decides a call of NumPy arrays and plain arguments; None for any other.

    `around` are the options in force, by their identity: whoever keeps the key holds them.

    No array's values are in it; `places_of` finds those that are not operands. Equal keys have one
    meaning: numbers are int, and True is not 1.
    """
    parts: list[Any] = [function, id(around), *kwargs]
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind is np.ndarray:
            parts.append((value.shape, value.dtype))
        elif kind is int or kind is str or value is None:
            parts.append(value)
        elif kind is tuple:
            if not is_plain(*value):
                return None
            parts.append(value)
        elif kind is bool or isinstance(value, np.dtype | type):
            parts.append((kind, value))
        else:
            return None
    return tuple(parts)


def places_of(
    operands: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Place, ...] | None:
    """Find where the caller put the operands, bias and out; None where that is not plain.

    Operands that were made of an argument, or an array that is passed twice, are not to be found;
    an array in the place of numbers is one whose values decide.
    """
    arrays = sum(type(value) is np.ndarray for value in (*args, *kwargs.values()))
    if arrays != sum(operand is not None for operand in operands):
        return None
    found: list[Place] = []
    for operand in operands:
        if operand is None:
            found.append(None)
            continue
        places: list[Place] = [i for i, value in enumerate(args) if value is operand]
        places += [name for name, value in kwargs.items() if value is operand]
        if len(places) != 1:
            return None
        found += places
    return tuple(found)
