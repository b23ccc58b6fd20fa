"""Weights that make a convolution slow (subnormal numbers) or useless (NaN, infinity)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CommandError
from .findings import NOTE, PROBLEM, Finding

Array = np.ndarray[Any, Any]

#: Share of subnormal weights from which on they are called a problem.
HEAVY = 1e-3

#: Elements looked at together, so that weights larger than memory can be examined.
CHUNK = 1 << 22


def load(path: Path) -> dict[str, Array]:
    """Read every array of a ``.npy`` or ``.npz`` file, the former mapped, not copied.

    Raises
    ------
    CommandError
        The file cannot be read, or holds Python objects.
    """
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.name: loaded}
        with loaded as archive:
            return {f"{path.name}[{name}]": archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise CommandError(f"--weights: cannot read {path}: {error}") from None


def _counts(array: Array) -> tuple[int, int, int]:
    """Subnormal, NaN and infinite elements of a floating array."""
    subnormal = nan = infinite = 0
    smallest = float(np.finfo(array.dtype).tiny)
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = np.abs(flat[start : start + CHUNK])
        subnormal += int(np.count_nonzero((part > 0) & (part < smallest)))
        nan += int(np.count_nonzero(np.isnan(part)))
        infinite += int(np.count_nonzero(np.isinf(part)))
    return subnormal, nan, infinite


def examine(name: str, array: Array) -> Iterator[Finding]:
    """Judge one array of weights.

    float16 subnormals are no matter: they are normal numbers in the float32 that sums them.
    """
    if array.dtype.kind != "f":
        if array.dtype.kind not in "biu":
            yield Finding(
                PROBLEM, "weights", f"{name} has dtype {array.dtype}, which no convolution takes",
                "convert it to float32, float64 or integers",
            )  # fmt: skip
        return
    subnormal, nan, infinite = _counts(array)
    if nan or infinite:
        yield Finding(
            PROBLEM,
            "weights",
            f"{name}: {nan} NaN and {infinite} infinite of {array.size} weights; every output "
            "that uses one is NaN or infinite",
            "find them with numpy.argwhere(~numpy.isfinite(w)) and repair what produced them, or "
            "replace them with numpy.nan_to_num(w)",
        )
    if subnormal and array.dtype.itemsize > 2:
        share = subnormal / array.size
        yield Finding(
            PROBLEM if share >= HEAVY else NOTE,
            "weights",
            f"{name}: {subnormal} of {array.size} weights ({100 * share:.2g} %) are subnormal, "
            f"below {np.finfo(array.dtype).tiny:.3g}; processors multiply them many times slower, "
            "and fastconv never flushes them by itself",
            "set them to zero: w[numpy.abs(w) < numpy.finfo(w.dtype).tiny] = 0",
        )


def examine_file(path: Path) -> list[Finding]:
    """Judge every array of a ``.npy`` or ``.npz`` file."""
    return [f for name, array in load(path).items() for f in examine(name, array)]
