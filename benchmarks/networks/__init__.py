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

from fastconv import ConvProblem

FOLDER = Path(__file__).parent

#: Order of the tables: networks by year, then the filters.
NAMES = (
    "alexnet", "vgg16", "unet", "resnet50", "resnext50", "mobilenet_v2", "efficientnet_b0",
    "convnext_t", "filters",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One distinct convolution of a network, on one image.

    Attributes
    ----------
    network, name : str
    c, h, w, k, r, s, stride, pad, groups, dilation : int
        As in `fastconv.ConvProblem`; stride, pad and dilation are the same on both axes.
    count : int
        How many times the network holds this convolution.
    """

    network: str
    name: str
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: int
    pad: int
    groups: int
    dilation: int
    count: int

    def problem(self, batch: int = 1) -> ConvProblem:
        """Describe the layer as float32, NCHW."""
        return ConvProblem.describe(
            (batch, self.c, self.h, self.w),
            (self.k, self.c // self.groups, self.r, self.s),
            stride=self.stride,
            pad=self.pad,
            dilation=self.dilation,
            groups=self.groups,
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one such layer on one image."""
        return self.problem().cost.macs


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
    columns = data["columns"]
    layers = tuple(
        Layer(network=name, **dict(zip(columns, row, strict=True))) for row in data["layers"]
    )
    if len({layer.name for layer in layers}) != len(layers):
        raise ValueError(f"{name}.toml has two layers of one name")
    return Network(
        name, data["title"], layers, data.get("published"), int(data.get("classifier", 0))
    )


def load_all(names: tuple[str, ...] = NAMES) -> tuple[Network, ...]:
    """Read several networks, in the order of `names`."""
    return tuple(load(name) for name in names)
