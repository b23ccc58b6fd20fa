"""What was measured of a layer, and the table a network's layers make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import networks
from benchmarks.tables import Table

HEADER = (
    "layer", "count", "MFLOP", "ms", "GFLOP/s", "% of peak", "x reference", "error/bound",
    "algorithm",
)  # fmt: skip

NOTE = (
    "Best of the rounds. % of peak: of the multiply-add peak, same threads, the higher one of "
    "before and after each layer. x reference: speed over the reference backend, whose time is "
    "measured on a slice of the layer (rows or groups) and scaled by multiply-accumulates. "
    "error/bound: largest error of the sampled output channels as a share of the derived bound."
)


@dataclass(frozen=True)
class Result:
    """One layer on one backend.

    Attributes
    ----------
    layer : Layer
    backend, algorithm : str
    threads : int
    seconds : float or None
        Best time of one call; None when the benchmark only checked the result.
    peak : float or None
        GFLOP/s of the multiply-add loop, the higher one of before and after; None without the
        native backend.
    reference : float or None
        Seconds of the reference, estimated from a slice.
    scaled : bool
        `seconds`, too, is estimated from a slice.
    ratio : float
        Largest error as a share of its bound.
    """

    layer: networks.Layer
    backend: str
    algorithm: str
    threads: int
    seconds: float | None
    peak: float | None
    reference: float | None
    scaled: bool
    ratio: float

    @property
    def flops(self) -> int:
        """Floating-point operations of one call."""
        return 2 * self.layer.macs

    @property
    def gflops(self) -> float | None:
        """Speed, GFLOP/s."""
        return self.flops / self.seconds / 1e9 if self.seconds else None

    def info(self) -> dict[str, object]:
        """Collect what goes into the JSON of pytest-benchmark."""
        gflops = self.gflops
        return {
            "network": self.layer.network,
            "layer": self.layer.name,
            "count": self.layer.count,
            "backend": self.backend,
            "algorithm": self.algorithm,
            "threads": self.threads,
            "macs": self.layer.macs,
            "gflops": gflops,
            "peak_gflops": self.peak,
            "share_of_peak": gflops / self.peak if gflops and self.peak else None,
            "times_reference": _quotient(self.reference, self.seconds),
            "reference_seconds_scaled_from_slice": self.reference,
            "seconds_scaled_from_slice": self.scaled,
            "error_over_bound": self.ratio,
        }


def _quotient(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


def _text(value: float | None, form: str, scaled: bool = False) -> str:
    return "-" if value is None else ("~" if scaled else "") + format(value, form)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.{0 if share >= 0.1 else 1}f}"


def _row(result: Result) -> tuple[str, ...]:
    gflops, seconds = result.gflops, result.seconds
    return (
        result.layer.name,
        str(result.layer.count),
        f"{result.flops / 1e6:.1f}",
        _text(None if seconds is None else seconds * 1e3, ".3f", result.scaled),
        _text(gflops, ".1f"),
        _percent(_quotient(gflops, result.peak)),
        _text(_quotient(result.reference, seconds), ".3g"),
        f"{result.ratio:.2g}",
        result.algorithm,
    )


def _total(results: Sequence[Result]) -> tuple[str, ...]:
    """Sum over the network: every layer as often as the network holds it."""
    flops = sum(r.flops * r.layer.count for r in results)
    known = all(r.seconds for r in results)
    seconds = sum(r.layer.count * (r.seconds or 0) for r in results) if known else None
    reference = sum(r.layer.count * (r.reference or 0) for r in results) if known else None
    gflops = flops / seconds / 1e9 if seconds else None
    # Time at peak over time taken: the peak moves from layer to layer.
    at_peak = sum(r.layer.count * r.flops / 1e9 / r.peak for r in results if r.peak)
    return (
        "all, times count",
        str(sum(r.layer.count for r in results)),
        f"{flops / 1e6:.1f}",
        _text(None if seconds is None else seconds * 1e3, ".3f", any(r.scaled for r in results)),
        _text(gflops, ".1f"),
        _percent(_quotient(at_peak, seconds)),
        _text(_quotient(reference, seconds), ".3g"),
        f"{max(r.ratio for r in results):.2g}",
        "",
    )


def tables(results: Sequence[Result]) -> list[Table]:
    """One table for each network and backend, in the order of the results."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.layer.network, result.backend), []).append(result)
    made = []
    for (name, backend), group in groups.items():
        threads = group[0].threads if backend != "reference" else 1
        plural = "s" if threads != 1 else ""
        network = networks.load(name)
        peaks = sorted(r.peak for r in group if r.peak)
        title = f"{network.title}: {backend}, {threads} thread{plural}"
        if peaks:
            title += f", peak {peaks[len(peaks) // 2]:.0f} GFLOP/s"
        table = Table(HEADER, title, left=frozenset({0, len(HEADER) - 1}))
        for result in group:
            table.add(*_row(result))
        if len(group) == len(network.layers):
            table.add(*_total(group))
            table.last_is_total = True
        made.append(table)
    return made
