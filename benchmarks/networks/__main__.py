"""List the networks, or the layers of those named: ``python -m benchmarks.networks [name ...]``."""

from __future__ import annotations

import sys
from dataclasses import fields

from benchmarks import networks
from benchmarks.tables import Table, plain


def _overview() -> str:
    table = Table(("network", "layers", "distinct", "GMAC", "published", "million outputs"))
    for network in networks.load_all():
        total = (network.macs + network.classifier) / 1e9
        published = f"{network.published:.2f} ({total:.3f})" if network.published else "-"
        table.add(
            network.name, str(sum(layer.count for layer in network.layers)),
            str(len(network.layers)), f"{network.macs / 1e9:.3f}", published,
            f"{network.outputs / 1e6:.2f}",
        )  # fmt: skip
    return plain(table) + "\npublished counts the classifier too: in brackets, our count with it"


def _layers(name: str) -> str:
    network = networks.load(name)
    columns = [field.name for field in fields(networks.Layer)][1:]
    table = Table((*columns, "MMAC"), network.title, last_is_total=True)
    for layer in network.layers:
        table.add(*(str(getattr(layer, c)) for c in columns), f"{layer.macs / 1e6:.2f}")
    blank = [""] * (len(columns) - 2)
    count = sum(layer.count for layer in network.layers)
    table.add("all, times count", *blank, str(count), f"{network.macs / 1e6:.2f}")
    return plain(table)


if __name__ == "__main__":
    print("\n\n".join(_layers(name) for name in sys.argv[1:]) or _overview())
