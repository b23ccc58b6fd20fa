"""A column's process: reads requests from standard input, one JSON object a line, and answers.

``python -m benchmarks.peers.worker MODULE VARIANT THREADS``. Requests: ``prepare`` (a task; runs it
once), ``sample`` (store sampled images and channels of the result), ``slice`` (time calls),
``drop``. Every answer is one line: a result, ``refused`` with a reason, or ``error``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
from statistics import median
from typing import Any, TextIO

import numpy as np

from benchmarks.peers.task import Task
from benchmarks.peers.workers import Prepared, Unsupported

#: A first call that takes longer, in seconds, is not repeated before the rounds.
LONG = 4.0

#: The same for fastconv, whose first call may compile; no compiler is to be timed.
LONG_OWN = 60.0


class Worker:
    """State of the process: the library's module and the layer in hand."""

    def __init__(self, module: str, variant: str, threads: int) -> None:
        name = module if "." in module else f"benchmarks.peers.workers.{module}"
        self._library: Any = importlib.import_module(name)
        self._variant, self._threads = variant, threads
        self._long = LONG_OWN if module == "own" else LONG
        self._prepared: Prepared | None = None
        self._y: Any = None
        self._last = 0.0

    def hello(self) -> dict[str, Any]:
        """Answer before the first request: the library has been imported."""
        return {"versions": self._library.versions()}

    def prepare(self, task: dict[str, Any]) -> dict[str, Any]:
        """Build the layer and compute it: once to warm up, once more unless that took long."""
        self.drop()
        self._prepared = prepared = self._library.prepare(
            self._variant, Task(**task), self._threads
        )
        for _ in range(2):
            start = time.perf_counter()
            self._y = prepared.call()
            self._last = time.perf_counter() - start
            if self._last > self._long:
                break
        return {"seconds": self._last, "note": prepared.note}

    def sample(self, images: list[int], channels: list[int], path: str) -> dict[str, Any]:
        """Store (images, channels, P, Q) of the last result as a .npy file."""
        assert self._prepared is not None
        y = self._prepared.result(self._y)
        part = np.ascontiguousarray(y[images][:, channels])
        if part.dtype.kind == "V" or part.dtype.name == "bfloat16":
            part = part.astype(np.float32)
        np.save(path, part, allow_pickle=False)
        return {"shape": list(y.shape)}

    def slice(self, seconds: float, warm: bool = True) -> dict[str, Any]:
        """Call until `seconds` have passed, at least once; median seconds of one call."""
        assert self._prepared is not None
        call = self._prepared.call
        if warm and self._last < seconds:
            call()
        times: list[float] = []
        clock = time.perf_counter
        begin = clock()
        while not times or clock() - begin < seconds:
            start = clock()
            call()
            times.append(clock() - start)
        self._last = median(times)
        return {"seconds": self._last, "calls": len(times)}

    def measure(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Run another function of the library's module: the peak, the bandwidth."""
        answer: dict[str, Any] = getattr(self._library, what)(
            **{"threads": self._threads, **arguments}
        )
        return answer

    def drop(self) -> dict[str, Any]:
        """Let go of the layer."""
        self._prepared = self._y = None
        gc.collect()
        return {}


def _answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = getattr(worker, request.pop("do"))(**request)
        return answer
    except Unsupported as refusal:
        return {"refused": str(refusal)}
    except Exception as error:  # whatever a library raises is its answer
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]}


def _end_with_parent() -> None:
    """Have Linux kill this process when its parent is killed: stopped, it could not notice."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    _end_with_parent()
    # libraries print on standard output; the answers keep a copy of it for themselves
    answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module, variant, threads = arguments
    worker = Worker(module, variant, int(threads))
    print(json.dumps(worker.hello()), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(worker, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
