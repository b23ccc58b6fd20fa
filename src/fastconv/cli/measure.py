"""One convolution on several backends: timed in turns, every result held against the definition."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .. import dispatch, peak
from ..accuracy import Verdict, check
from ..api import conv2d, explain
from ..errors import FastconvError
from ..explanation import Explanation
from ..options import resolve

Array = np.ndarray[Any, Any]

#: Calls shorter than this are timed several at a time, seconds.
SHORTEST_SAMPLE = 2e-3
#: Multiply-accumulates of the definition that verifying one result may cost.
CHECK_MACS = 16_000_000
#: How long one peak measurement runs, seconds.
PEAK_SECONDS = 0.01


@dataclass(frozen=True)
class Case:
    """One call of `fastconv.conv2d`.

    Attributes
    ----------
    name : str
    x, w : ndarray
        NumPy arrays, (N, C, H, W) and (K, C/groups, R, S).
    bias : ndarray (K,) or None
    options : dict
        Further arguments of `conv2d`.
    """

    name: str
    x: Array
    w: Array
    bias: Array | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What one backend made of one case.

    Attributes
    ----------
    case, backend, algorithm : str
    threads : int
        At most.
    flops : int
        Of one call.
    seconds : tuple of float
        One call each, in the order they were timed.
    peak : float or None
        Measured multiply-add peak of `threads` cores, GFLOP/s; None where there is none.
    verdict : Verdict or None
        None where nothing was computed.
    refusal : str or None
        Why the backend does not compute this case.
    y : ndarray or None
        The result, a NumPy array.
    """

    case: str
    backend: str
    algorithm: str
    threads: int
    flops: int = 0
    seconds: tuple[float, ...] = ()
    peak: float | None = None
    verdict: Verdict | None = None
    refusal: str | None = None
    y: Array | None = None

    @cached_property
    def median(self) -> float:
        """Median time of a call, seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range between the quartiles, as a share of the median."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(high - low) / 2 / self.median

    @property
    def gflops(self) -> float:
        """Throughput at the median time, GFLOP/s."""
        return self.flops / self.median / 1e9

    @property
    def share_of_peak(self) -> float | None:
        """Throughput as a share of the measured peak."""
        return None if self.peak is None else self.gflops / self.peak

    @property
    def ok(self) -> bool:
        """Whether the result is right, or was rightly refused."""
        return self.refusal is not None or (self.verdict is not None and self.verdict.ok)


class _Contender:
    """A case on one backend, its arrays where the backend wants them."""

    def __init__(self, case: Case, backend: str, threads: int) -> None:
        entry = next(e for e in dispatch.TABLE if e.name == backend)
        self.on_host = entry.arrays == "numpy"
        self._xp: Any = np if self.on_host else importlib.import_module(entry.arrays)
        self.backend, self.threads = backend, threads
        move: Callable[[Any], Any] = self._xp.asarray
        self._arrays = (move(case.x), move(case.w))
        bias = None if case.bias is None else move(case.bias)
        self._options = {**case.options, "bias": bias, "backend": backend, "threads": threads}
        self.report: Explanation = explain(*self._arrays, **self._options)
        problem = self.report.problem
        self._out = self._xp.empty(problem.out_shape, problem.out_dtype)
        # all bits set is NaN, so that a pixel nobody wrote cannot pass for a result
        self._out.view(np.uint8)[...] = 0xFF
        self.cold = self.time(1)
        self.samples: list[float] = []
        self._calls = 1
        first = self.time(1)
        if first >= SHORTEST_SAMPLE:
            self.samples.append(first)
        else:
            self._calls = int(SHORTEST_SAMPLE / max(first, 1e-7)) + 1

    def time(self, calls: int) -> float:
        """Seconds of one call, averaged over `calls`; the device is waited for."""
        start = time.perf_counter()
        for _ in range(calls):
            conv2d(*self._arrays, out=self._out, **self._options)
        if not self.on_host:
            self._xp.cuda.get_current_stream().synchronize()
        return (time.perf_counter() - start) / calls

    def sample(self, budget: float) -> None:
        """Take one more sample, unless `budget` seconds have been spent on them."""
        if not self.samples or sum(self.samples) * self._calls < budget:
            self.samples.append(self.time(self._calls))

    def result(self) -> Array:
        """Return the result as a NumPy array."""
        array: Array = self._out if self.on_host else self._xp.asnumpy(self._out)
        return array


def measure(
    case: Case,
    backends: Sequence[str],
    threads: int | None = None,
    *,
    rounds: int = 5,
    budget: float = 0.4,
    keep: bool = True,
    starting: Callable[[str], None] = lambda backend: None,
) -> list[Measurement]:
    """Run a case on several backends in turns, and verify every result.

    Parameters
    ----------
    case : Case
    backends : sequence of str
    threads : int, optional
    rounds : int
        Samples per backend, one a round, so that a change of clock or load meets all of them.
    budget : float
        Seconds after which a backend takes part in no further round; it has at least one sample.
    keep : bool
        Keep the results, not their verdicts alone.
    starting : callable
        Told each backend before its first call, which may compile.

    Returns
    -------
    list of Measurement
        One a backend, in the order given. A backend that does not compute the case is recorded
        with its reason; what it raises beyond that is not caught.
    """
    limit = resolve(None, None, threads).threads
    contenders: dict[str, _Contender | str] = {}
    for backend in backends:
        starting(backend)
        try:
            contenders[backend] = _Contender(case, backend, limit)
        except (FastconvError, MemoryError) as error:
            contenders[backend] = str(error)
    running = [c for c in contenders.values() if isinstance(c, _Contender)]
    peaks: list[float] = []
    for _ in range(rounds):
        peaks += _peak(running, limit)
        for contender in running:
            contender.sample(budget)
    machine = statistics.median(peaks) if peaks else None
    return [
        Measurement(case.name, name, "", limit, refusal=c)
        if isinstance(c, str)
        else _measured(case, c, machine if c.on_host else None, keep)
        for name, c in contenders.items()
    ]


def _peak(contenders: Sequence[_Contender], threads: int) -> list[float]:
    """One measurement of the machine's peak, in the precision the contenders accumulate in."""
    for contender in contenders:
        dtype = contender.report.problem.accumulator
        if contender.on_host and dtype in ("float32", "float64"):
            measured = peak.measure_peak(threads, dtype, PEAK_SECONDS)
            return [] if measured is None else [measured]
    return []


def _measured(case: Case, contender: _Contender, machine: float | None, keep: bool) -> Measurement:
    report, y = contender.report, contender.result()
    return Measurement(
        case.name,
        contender.backend,
        report.algorithm,
        contender.threads,
        report.cost.flops,
        tuple(contender.samples),
        machine,
        verify(case, report, y),
        None,
        y if keep else None,
    )


def verify(case: Case, report: Explanation, y: Array) -> Verdict:
    """Hold a result against the definition, on as many output channels as `CHECK_MACS` allows.

    Channels are spread evenly from first to last; the rest must at least have been written.
    """
    problem = report.problem
    # the definition runs twice: once for the sum, once for the sum of magnitudes
    affordable = CHECK_MACS * problem.k // max(1, 2 * problem.cost.macs)
    count = min(problem.k, max(2, affordable))
    channels = sorted({int(k) for k in np.linspace(0, problem.k - 1, count)})
    order = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}[problem.layout]
    x, got = case.x.transpose(order), y.transpose(order)
    bias = None if case.bias is None else case.bias.astype(problem.out_dtype)
    operand = np.dtype(problem.dtype)
    verdict = check(problem, x.astype(operand), case.w.astype(operand), bias, got, channels)
    if got.dtype.kind == "f" and not np.isfinite(got).all() and np.isfinite(case.x).all():
        return Verdict(False, np.inf, np.inf, np.inf)
    return verdict
