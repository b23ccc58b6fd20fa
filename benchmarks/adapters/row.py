"""One line of the table: the same convolution through an adapter and without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Call = Callable[[], object]


class Row(NamedTuple):
    """A call through an adapter; what the adapter stands on; what the other library takes itself.

    `bare` is fastconv's call on arrays, together with whatever the other library does to call
    *any* function of ours: the difference is the adapter's own.
    """

    name: str
    adapter: Call
    bare: Call
    library: Call | None = None
