"""The columns: which library, which process, what it can be asked for."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

FLOATS = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Peer:
    """A column of the tables.

    Attributes
    ----------
    name : str
        What ``--peers`` takes, and the JSON's key.
    title : str
        Head of the column.
    module : str
        Below `benchmarks.peers.workers`; a dotted name is taken as it is.
    needs : tuple of str
        Modules that must be importable.
    install : str
        What pip installs them from.
    dtypes : tuple of str
    filters_only : bool
        Computes plain image filters alone: one output channel from one input channel.
    tolerance : {"bound", "norm"}
        What its result is held against; see `benchmarks.peers.check`.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...]
    install: str
    dtypes: tuple[str, ...]
    filters_only: bool = False
    tolerance: str = "bound"

    @property
    def own(self) -> bool:
        """Whether it is fastconv itself."""
        return self.module == "own"

    def missing(self) -> str | None:
        """Name the modules that are not installed and how to get them, or return None."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if not absent:
            return None
        return f"{', '.join(absent)} not installed: pip install {self.install}"


_OWN = (*FLOATS, "int8", "uint8")
_ONE = ("float32",)
_IMAGE = ("float32", "float64", "uint8")

PEERS = {
    peer.name: peer
    for peer in (
        Peer("fastconv", "fastconv", "own", (), "fastconv", _OWN),
        Peer("strict", "strict", "own", (), "fastconv", _OWN),
        Peer("strict_nhwc", "strict NHWC", "own", (), "fastconv", _OWN),
        Peer("fast", "fast", "own", (), "fastconv", _OWN, tolerance="norm"),
        Peer("torch", "torch", "pytorch", ("torch",), "torch", (*FLOATS, "uint8")),
        Peer("torch_cl", "torch_cl", "pytorch", ("torch",), "torch", (*FLOATS, "uint8")),
    )
}  # fmt: skip

OWN = tuple(name for name, peer in PEERS.items() if peer.own)
OTHERS = tuple(name for name, peer in PEERS.items() if not peer.own)
