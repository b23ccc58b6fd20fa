"""What the command line asked of the benchmark suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import networks
from benchmarks.networks import Layer

#: The networks are measured on NumPy arrays; CUDA has its own program, benchmarks/gpu.py.
BACKENDS = ("default", "native", "numba", "reference")


@dataclass(frozen=True)
class Settings:
    """Options of the suite, checked.

    Attributes
    ----------
    networks, backends : tuple of str
    smoke : bool
        Few layers, few rounds, small claims.
    report : Path
        Folder of the reports.
    """

    networks: tuple[str, ...]
    backends: tuple[str, ...]
    smoke: bool
    report: Path

    def layers(self, name: str) -> tuple[Layer, ...]:
        """Layers of a network to measure: all, or its first and its cheapest for a smoke test."""
        layers = networks.load(name).layers
        if not self.smoke:
            return layers
        cheapest = min(layers[1:], key=lambda layer: layer.macs)
        return (layers[0], cheapest)


def _chosen(option: str, text: str | None, known: tuple[str, ...], default: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (text or default).split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise pytest.UsageError(
            f"{option}: no {', '.join(unknown)}; choose from {', '.join(known)}"
        )
    return tuple(dict.fromkeys(names))


def of(config: pytest.Config) -> Settings:
    """Read the options.

    Raises
    ------
    pytest.UsageError
        A network or backend that does not exist.
    """
    option = config.option
    names: tuple[str, ...] = ()
    if option.benchmark_networks != "none":
        names = _chosen(
            "--benchmark-networks", option.benchmark_networks, networks.NAMES,
            ",".join(networks.NAMES),
        )  # fmt: skip
    return Settings(
        names,
        _chosen("--benchmark-backends", option.benchmark_backends, BACKENDS, "default"),
        option.benchmark_smoke,
        option.benchmark_report or config.rootpath / "reports",
    )
