"""How far a run over blocks is, in a file: what ``conv2d_blocks(resume=...)`` goes on from."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from .. import _config
from ..errors import ResumeError
from ..tiling import BlockPlan
from .convolution import BlockConvolution


class Journal:
    """How far a run is, in a file that always holds one truth: it is replaced, never changed."""

    def __init__(self, path: Path, convolution: BlockConvolution, plan: BlockPlan) -> None:
        self.path, self.count = path, len(plan)
        self.configuration = _digest(convolution, plan)

    def read(self) -> int:
        """Return the number of blocks that were written; 0 where there is no file."""
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return 0
        try:
            known = json.loads(text)
            configuration, done = known["configuration"], known["done"]
        except (ValueError, KeyError, TypeError):
            raise ResumeError(f"resume={str(self.path)!r} is no file of conv2d_blocks") from None
        if configuration != self.configuration:
            raise ResumeError(
                f"resume={str(self.path)!r} is of another convolution, other weights or blocks; "
                "repeat the call that began it, or delete the file to begin anew"
            )
        if not (isinstance(done, int) and 0 <= done <= self.count):
            raise ResumeError(f"resume={str(self.path)!r} says {done!r} of {self.count} blocks")
        return done

    def write(self, done: int) -> None:
        """Say that so many blocks are written."""
        known = {"configuration": self.configuration, "done": done, "blocks": self.count}
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(known, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)


def _digest(convolution: BlockConvolution, plan: BlockPlan) -> str:
    """Hash of all that decides the result but x."""
    described, options = convolution.described, convolution.options
    parts = [
        _config.version(), repr(described), options.backend, options.precision, plan.chunks,
        convolution.flip, convolution.x_dtype.str, convolution.w.dtype.str,
    ]  # fmt: skip
    digest = hashlib.sha256(repr(parts).encode())
    for array in (convolution.w, convolution.bias):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
