"""A library for `benchmarks.peers` that computes, errs, refuses, crashes or hangs as it is told."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
from benchmarks.peers.task import Task, operands
from benchmarks.peers.workers import Prepared, Unsupported

import fastconv


def versions() -> dict[str, str]:
    print("libraries print where the answers go")
    return {"peer": "1"}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    x, w = operands(task)
    if variant == "refuses":
        raise Unsupported("not this one")
    if variant == "errs":
        raise ValueError("two\nlines")
    if variant == "crashes":
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    y = fastconv.conv2d(x, w, task.stride, task.pad, backend="reference")
    if variant == "wrong":
        y[0, -1, -1, -1] += 1
    if variant == "shapeless":
        y = y[..., 1:]

    def call() -> np.ndarray[Any, Any]:
        if variant == "hangs":
            time.sleep(1e6)
        return y

    return Prepared(call, lambda got: got, f"{threads} threads")
