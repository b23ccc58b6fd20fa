"""Convolution layers of real networks, read from one data file a network.

A file states where its numbers come from, a title, the published operation count of the network
where there is one, and a table with one row a distinct layer: ``count`` says how often the
network holds it. Layers stand in the order in which the network first reaches them, and a row
bears the name of the first layer of its shape.

>>> from benchmarks import networks
>>> networks.load("alexnet").layers[0].problem().out_shape
(1, 64, 55, 55)
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastconv.cli.layers import Layer, table

FOLDER = Path(__file__).parent

#: Order of the tables: networks by year, then layers of no network, then the filters.
NAMES = (
    "alexnet", "vgg16", "unet", "resnet50", "resnext50", "mobilenet_v2", "efficientnet_b0",
    "convnext_t", "unusual", "filters",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network's convolution layers and what its authors say they cost.

    Attributes
    ----------
    name, title : str
        File name without its suffix; how the network is called.
    layers : tuple of Layer
    published : float or None
        Multiply-accumulates of the whole network as published, in units of 1e9.
    classifier : int
        Multiply-accumulates of the fully connected layers that `published` includes.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    published: float | None
    classifier: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all convolutions on one image."""
        return sum(layer.macs * layer.count for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """Look a layer up by its name."""
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def outputs(self) -> int:
        """Output elements of all convolutions on one image: windows multiplied and summed."""
        sizes = ((layer.problem(), layer.count) for layer in self.layers)
        return sum(p.k * p.p * p.q * count for p, count in sizes)


@cache
def load(name: str) -> Network:
    """Read one network.

    Raises
    ------
    ValueError
        `name` is not in `NAMES`, or the file's table is malformed.
    """
    if name not in NAMES:
        raise ValueError(f"there is no network {name!r}; choose from {', '.join(NAMES)}")
    with (FOLDER / f"{name}.toml").open("rb") as file:
        data = tomllib.load(file)
    layers = table(name, data)
    if len({layer.name for layer in layers}) != len(layers):
        raise ValueError(f"{name}.toml has two layers of one name")
    return Network(
        name, data["title"], layers, data.get("published"), int(data.get("classifier", 0))
    )


def load_all(names: tuple[str, ...] = NAMES) -> tuple[Network, ...]:
    """Read several networks, in the order of `names`."""
    return tuple(load(name) for name in names)
