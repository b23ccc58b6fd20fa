"""Memory for parts of numbers on their way: a block that each thread keeps from call to call.

The C library gives blocks of some MiB back to the system, and having their pages anew can take as
long as the sums.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

#: Blocks up to this size are kept.
KEPT = 64 << 20
_LINE = 64
_spare = threading.local()


class Memory:
    """A block of memory for a ``with`` statement, handed out from its beginning.

    A call from inside, by a signal's handler, gets another block. `used` tells how much is handed
    out; set back to what it was, what was handed out since is handed out again.
    """

    def __init__(self, size: int) -> None:
        self._size = size + 4 * _LINE  # four arrays at most begin at a line of the cache
        self._block: Any = None
        self.used = 0

    def __enter__(self) -> Memory:
        """Take nothing before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Keep the block for the thread's next call."""
        if self._block is not None and self._block.nbytes <= KEPT:
            _spare.block = self._block

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """Return the next bytes as an array, or an array of its own where they do not suffice."""
        size, begin = math.prod(shape) * dtype.itemsize, self.used
        if self._block is None:
            self._block, _spare.block = getattr(_spare, "block", None), None
            if self._block is None or self._block.nbytes < self._size:
                self._block = np.empty(self._size, np.uint8)
        if size > self._block.nbytes - begin:
            return np.empty(shape, dtype)
        self.used = begin + -(-size // _LINE) * _LINE
        return self._block[begin : begin + size].view(dtype).reshape(shape)
