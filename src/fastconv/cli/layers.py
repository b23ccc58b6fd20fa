"""Layers that ``bench`` runs: a short table, or any data file of the same columns."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

from .errors import CommandError


class Layer(NamedTuple):
    """One convolution on one image, strides, pads and dilations the same on both axes."""

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


def read(path: Path) -> tuple[Layer, ...]:
    """Read a TOML file with ``columns``, a list of names, and ``layers``, a list of rows.

    Columns are ``name`` and the fields of `Layer`; ``count`` is accepted and not used.

    Raises
    ------
    CommandError
        The file cannot be read, or its table is malformed.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        rows = [dict(zip(data["columns"], row, strict=True)) for row in data["layers"]]
        for row in rows:
            row.pop("count", None)
        layers = tuple(Layer(path.stem, **row) for row in rows)
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
