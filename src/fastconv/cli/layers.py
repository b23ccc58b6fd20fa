"""Layers that ``bench`` runs: a short table, or any data file of the same columns."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..geometry import Shape
from ..problem import ConvProblem
from .errors import CommandError


@dataclass(frozen=True)
class Layer:
    """One convolution of a network, on one image.

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
    dilation: int = 1
    count: int = 1

    def shapes(self, batch: int = 1) -> tuple[Shape, Shape]:
        """Shapes of x (N, C, H, W) and w (K, C/groups, R, S)."""
        return (batch, self.c, self.h, self.w), (self.k, self.c // self.groups, self.r, self.s)

    @property
    def geometry(self) -> dict[str, Any]:
        """The keyword arguments of conv2d that say how the kernel moves."""
        names = ("stride", "pad", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    def problem(self, batch: int = 1) -> ConvProblem:
        """Describe the layer as float32, NCHW."""
        return ConvProblem.describe(*self.shapes(batch), **self.geometry)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one such layer on one image."""
        return self.problem().cost.macs


#: AlexNet whole; of the others, layers that differ in kind: early and late, strided, 1 x 1,
#: depthwise.
DEFAULT = (
    Layer("alexnet", "conv1", 3, 224, 224, 64, 11, 11, 4, 2, 1),
    Layer("alexnet", "conv2", 64, 27, 27, 192, 5, 5, 1, 2, 1),
    Layer("alexnet", "conv3", 192, 13, 13, 384, 3, 3, 1, 1, 1),
    Layer("alexnet", "conv4", 384, 13, 13, 256, 3, 3, 1, 1, 1),
    Layer("alexnet", "conv5", 256, 13, 13, 256, 3, 3, 1, 1, 1),
    Layer("vgg16", "conv1_2", 64, 224, 224, 64, 3, 3, 1, 1, 1),
    Layer("vgg16", "conv3_2", 256, 56, 56, 256, 3, 3, 1, 1, 1),
    Layer("vgg16", "conv5_1", 512, 14, 14, 512, 3, 3, 1, 1, 1),
    Layer("resnet50", "stem", 3, 224, 224, 64, 7, 7, 2, 3, 1),
    Layer("resnet50", "stage2 1x1", 64, 56, 56, 256, 1, 1, 1, 0, 1),
    Layer("resnet50", "stage3 3x3", 128, 28, 28, 128, 3, 3, 1, 1, 1),
    Layer("resnet50", "stage5 3x3", 512, 7, 7, 512, 3, 3, 1, 1, 1),
    Layer("mobilenet_v2", "block2 depthwise", 96, 112, 112, 96, 3, 3, 2, 1, 96),
    Layer("mobilenet_v2", "block3 expand", 24, 56, 56, 144, 1, 1, 1, 0, 1),
    Layer("mobilenet_v2", "block3 depthwise", 144, 56, 56, 144, 3, 3, 1, 1, 144),
    Layer("mobilenet_v2", "head", 320, 7, 7, 1280, 1, 1, 1, 0, 1),
)

NETWORKS = tuple(dict.fromkeys(layer.network for layer in DEFAULT))


def table(network: str, data: dict[str, Any]) -> tuple[Layer, ...]:
    """Layers of a data file: ``columns``, names of fields of `Layer`, and ``layers``, its rows."""
    columns = data["columns"]
    return tuple(Layer(network, **dict(zip(columns, row, strict=True))) for row in data["layers"])


def read(path: Path) -> tuple[Layer, ...]:
    """Read a TOML file with a `table`.

    Raises
    ------
    CommandError
        The file cannot be read, or its table is malformed.
    """
    try:
        layers = table(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CommandError(f"--network: cannot read {path}: {error}") from None
    if not layers:
        raise CommandError(f"--network: {path} has no layers")
    return layers


def named(network: str | None) -> tuple[Layer, ...]:
    """Layers of a network of the table, of a ``.toml`` file, or the whole table for None."""
    if network is None:
        return DEFAULT
    if network in NETWORKS:
        return tuple(layer for layer in DEFAULT if layer.network == network)
    if network.endswith(".toml"):
        return read(Path(network))
    raise CommandError(
        f"--network: there is no network {network!r}; choose from {', '.join(NETWORKS)}, "
        "or name a .toml file"
    )
