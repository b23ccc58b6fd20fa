"""Layers of operators that no network's table holds, read from one data file a subject.

A file states where its numbers come from, a title, the operator, and a table with one row a
layer: ``columns``, names of fields of `benchmarks.peers.task.Task`, and ``layers``, its rows;
``all`` holds fields that every row shares. Of a transposed convolution c, h and w are those of its
input.

>>> from benchmarks import operators
>>> operators.load("unet_up").layers[0]["k"]
512
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

#: Order of the tables.
NAMES = ("unet_up", "cyclegan", "dcgan", "audio", "volumes")


@dataclass(frozen=True)
class Subject:
    """Layers of one operator.

    Attributes
    ----------
    name, title : str
        File name without its suffix; how the layers are called together.
    operator : str
        One of `benchmarks.peers.task.OPERATORS`.
    layers : tuple of dict
        Fields of the tasks that the layers are on one image.
    """

    name: str
    title: str
    operator: str
    layers: tuple[dict[str, Any], ...]


@cache
def load(name: str) -> Subject:
    """Read one file.

    Raises
    ------
    ValueError
        `name` is not in `NAMES`, or a row is not as long as the header.
    """
    if name not in NAMES:
        raise ValueError(f"there are no layers {name!r}; choose from {', '.join(NAMES)}")
    with (FOLDER / f"{name}.toml").open("rb") as file:
        data = tomllib.load(file)
    shared, columns = data.get("all", {}), data["columns"]
    layers = (shared | dict(zip(columns, row, strict=True)) for row in data["layers"])
    return Subject(name, data["title"], data["operator"], tuple(layers))
