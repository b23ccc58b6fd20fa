"""Where a padded index comes from: the closed form of `numpy.pad`'s modes. A leaf."""

from __future__ import annotations

from typing import Any

import numpy as np

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def source_index(index: np.ndarray[Any, Any], size: int, mode: str) -> np.ndarray[Any, Any]:
    """Map indices of the padded axis (0 is the first real element) to the array's own.

    Parameters
    ----------
    index : integer ndarray
        Positions relative to the first element; negative or >= `size` inside the border.
    size : int
        Length of the axis, at least 1.
    mode : str
        A border name of `numpy.pad`: ``constant``, ``edge``, ``reflect``, ``symmetric``, ``wrap``.

    Returns
    -------
    ndarray of int64
        Indices in ``[0, size)``, or -1 where ``constant`` reads a zero.

    Notes
    -----
    ``reflect`` repeats with period ``2 * (size - 1)``, ``symmetric`` with ``2 * size``, ``wrap``
    with ``size``: `numpy.pad` iterates to the same result. Complexity O(len(index)).
    """
    index = np.asarray(index, dtype=np.int64)
    source: np.ndarray[Any, Any]
    if mode == "constant":
        source = np.where((index >= 0) & (index < size), index, -1)
    elif mode == "edge":
        source = np.clip(index, 0, size - 1)
    elif mode == "wrap":
        source = index % size
    elif mode == "symmetric":
        folded = index % (2 * size)
        source = np.minimum(folded, 2 * size - 1 - folded)
    elif size == 1:
        source = np.zeros_like(index)
    else:
        folded = index % (2 * (size - 1))
        source = np.minimum(folded, 2 * (size - 1) - folded)
    return source


def most_copies(size: int, pad: tuple[int, int], mode: str) -> int:
    """Bound how often `source_index` maps a padded axis to one element, itself included."""
    total = size + sum(pad)
    if mode == "constant":
        return 1
    if mode == "edge":
        return 1 + (sum(pad) if size == 1 else max(pad))
    if mode == "reflect" and size > 1:
        return 2 * -(-total // (2 * (size - 1)))
    return 1 + -(-total // size)
