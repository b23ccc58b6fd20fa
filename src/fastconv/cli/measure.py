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
from ..accuracy import Verdict
from ..api import conv2d, explain
from ..errors import BackendUnsupported, FastconvError
from ..explanation import Explanation
from ..options import resolve
from .judge import Judge

Array = np.ndarray[Any, Any]

#: Calls shorter than this are timed several at a time, seconds.
SHORTEST_SAMPLE = 2e-3
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
    channels : int
        Output channels that were verified.
    refusal : str or None
        Why the backend does not compute this case.
    failure : str or None
        What the backend raised.
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
    channels: int = 0
    refusal: str | None = None
    failure: str | None = None
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
        cold = self.time(1)
        self.samples: list[float] = []
        self._calls = 1
        if entry == dispatch.TABLE[-1]:  # the definition compiles nothing, and is slow
            self.samples.append(cold)
            return
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

    def sample(self, turn: int, budget: float) -> None:
        """Take the sample of one round, unless `budget` seconds have been spent already."""
        if len(self.samples) > turn:  # a call while warming up was long enough to count
            return
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
        One a backend, in the order given. A backend that does not compute the case, or breaks,
        is recorded with what it says.

    Raises
    ------
    FastconvError
        The case describes no convolution, or a backend cannot be used here.
    """
    limit = resolve(None, None, threads).threads
    found: dict[str, Measurement] = {}
    contenders: list[_Contender] = []
    for backend in backends:
        starting(backend)
        try:
            contenders.append(_Contender(case, backend, limit))
        except BackendUnsupported as error:
            found[backend] = Measurement(case.name, backend, "", limit, refusal=str(error))
        except FastconvError:
            raise
        except Exception as error:  # whatever a broken installation raises
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            found[backend] = Measurement(case.name, backend, "", limit, failure=failure)
    peaks: list[float] = []
    for turn in range(rounds):
        peaks += _peak(contenders, limit)
        for contender in contenders:
            contender.sample(turn, budget)
    peak_here = statistics.median(peaks) if peaks else None
    if contenders:
        judge = Judge(contenders[0].report.problem, case.x, case.w, case.bias)
        found |= {c.backend: _measured(case, c, peak_here, judge, keep) for c in contenders}
    return [found[backend] for backend in backends]


def _peak(contenders: Sequence[_Contender], threads: int) -> list[float]:
    """One measurement of the machine's peak, in the precision the contenders accumulate in."""
    for contender in contenders:
        dtype = contender.report.problem.accumulator
        if contender.on_host and dtype in ("float32", "float64"):
            measured = peak.measure_peak(threads, dtype, PEAK_SECONDS)
            return [] if measured is None else [measured]
    return []


def _measured(
    case: Case, contender: _Contender, peak_here: float | None, judge: Judge, keep: bool
) -> Measurement:
    y = contender.result()
    return Measurement(
        case=case.name,
        backend=contender.backend,
        algorithm=contender.report.algorithm,
        threads=contender.threads,
        flops=contender.report.cost.flops,
        seconds=tuple(contender.samples),
        peak=peak_here if contender.on_host else None,
        verdict=judge.verdict(y),
        channels=len(judge.channels),
        y=y if keep else None,
    )


def remarks(measurements: Sequence[Measurement]) -> list[str]:
    """One line on each way in which a backend refused, broke or was wrong, and on which cases."""
    cases: dict[str, list[str]] = {}
    for m in measurements:
        if m.refusal is not None:
            what = f"not computed: {m.backend}: {m.refusal}"
        elif m.failure is not None:
            what = f"FAILED: {m.backend}: {m.failure}; python -m fastconv doctor may know more"
        elif m.verdict is not None and not m.verdict.ok:
            what = f"FAILED: {m.backend}: wrong result, error {m.verdict.ratio:.3g} x its bound"
        else:
            continue
        cases.setdefault(what, []).append(m.case)
    return [f"{what} ({', '.join(dict.fromkeys(names))})" for what, names in cases.items()]
