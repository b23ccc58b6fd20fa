"""Every convolution layer of every network: its result asserted, its speed measured."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import measure, networks, settings
from benchmarks.networks.results import Result
from fastconv.options import current
from fastconv.peak import measure_peak


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = settings.of(metafunc.config)
    metafunc.parametrize(
        ("network", "name", "backend"),
        [
            pytest.param(
                name, layer.name, backend, id=f"{name}-{layer.name}-{backend}",
                marks=pytest.mark.benchmark(group=name),
            )
            for name in chosen.networks
            for backend in chosen.backends
            for layer in chosen.layers(name)
        ],
    )  # fmt: skip


def test_layer(
    benchmark: Any, network_results: list[Result], network: str, name: str, backend: str
) -> None:
    layer = networks.load(network).layer(name)
    whole = measure.case(layer.problem(), f"{network} {name}")
    served_by, algorithm = measure.chosen(whole.problem, backend)
    timed = measure.piece(whole, measure.REFERENCE_MACS) if served_by == "reference" else whole
    scale = whole.problem.cost.macs / timed.problem.cost.macs
    threads = current().threads
    timed.run(served_by)  # compile, and touch the memory, before the clock runs
    peak = measure_peak(threads)
    y = benchmark(timed.run, served_by)
    peak = max(peak, measure_peak(threads) or 0) if peak else None

    verdict = measure.verify(timed, y)
    stats = benchmark.stats.stats if benchmark.stats else None
    result = Result(
        layer, served_by, algorithm, threads,
        seconds=stats.min * scale if stats else None,
        peak=peak,
        reference=measure.reference_seconds(whole) if stats else None,
        scaled=timed is not whole,
        ratio=verdict.ratio,
    )  # fmt: skip
    network_results.append(result)
    benchmark.extra_info.update(result.info())
    assert verdict.ok, f"{network} {name} on {served_by}: {verdict}"
