"""fastconv: the plain call, and plans in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv
from benchmarks.peers.task import Array, Task, numpy_dtype, operands

from . import Prepared


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"fastconv": fastconv.__version__, "numpy": np.__version__}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Prepare ``fastconv`` (the call as a user writes it) or a plan, which writes into `out`."""
    x, w = operands(task)
    how = {"dilation": task.dilation, "groups": task.groups}
    if variant == "fastconv":
        image = x.astype(np.float32) if task.dtype == "uint8" else x
        with fastconv.options(threads=threads):
            report = fastconv.explain(image, w, task.stride, task.pad, **how)
        return Prepared(_plain(task, x, w, how), _same, _chosen(report))
    layout = "NHWC" if variant == "strict_nhwc" else "NCHW"
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    plan = fastconv.plan_conv2d(
        w, x.shape, task.stride, task.pad, layout=layout, threads=threads,
        x_dtype=np.float32 if task.dtype == "uint8" else x.dtype,
        precision="fast" if variant == "fast" else "strict", **how,
    )  # fmt: skip
    out = np.empty(plan.problem.out_shape, numpy_dtype(task.out_dtype))
    view, note = _channels_first if layout == "NHWC" else _same, _chosen(plan.explain())
    if task.dtype == "uint8":
        return Prepared(lambda: plan(x.astype(np.float32), out=out), view, note)
    return Prepared(lambda: plan(x, out=out), view, note)


def _chosen(report: fastconv.Explanation) -> str:
    return f"{report.backend}/{report.algorithm}"


def _plain(task: Task, x: Array, w: Array, how: dict[str, Any]) -> Any:
    stride, pad = task.stride, task.pad
    if task.dtype == "uint8":
        return lambda: fastconv.conv2d(x.astype(np.float32), w, stride, pad, **how)
    return lambda: fastconv.conv2d(x, w, stride, pad, **how)


def _same(y: Array) -> Array:
    return y


def _channels_first(y: Array) -> Array:
    return y.transpose(0, 3, 1, 2)
