"""What runs in the columns' processes: one module a library, which alone imports it.

A module has ``prepare(variant, task, threads) -> Prepared`` and ``versions() -> dict``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Unsupported(Exception):
    """The library does not compute this; the message says what."""


@dataclass(frozen=True)
class Prepared:
    """A layer ready to be timed.

    Attributes
    ----------
    call : callable
        Computes the layer once.
    result : callable
        Takes what `call` returned and gives the result, channels first (`Task.result_shape`).
    note : str
        What the library chose, where it tells.
    held : tuple
        Arrays whose memory the library uses without holding a reference.
    """

    call: Callable[[], Any]
    result: Callable[[Any], Array]
    note: str = ""
    held: tuple[Any, ...] = ()
