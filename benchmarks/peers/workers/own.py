"""fastconv: the plain call, and plans in both precisions."""

from __future__ import annotations

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
        with fastconv.options(threads=threads):
            report = fastconv.explain(x, w, task.stride, task.pad, **how)
        return Prepared(
            lambda: fastconv.conv2d(x, w, task.stride, task.pad, **how), _same, _chosen(report)
        )
    layout = "NHWC" if variant == "strict_nhwc" else "NCHW"
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    plan = fastconv.plan_conv2d(
        w, x.shape, task.stride, task.pad, layout=layout, threads=threads,
        x_dtype=x.dtype, precision="fast" if variant == "fast" else "strict", **how,
    )  # fmt: skip
    out = np.empty(plan.problem.out_shape, numpy_dtype(task.out_dtype))
    view, note = _channels_first if layout == "NHWC" else _same, _chosen(plan.explain())
    return Prepared(lambda: plan(x, out=out), view, note)


def _chosen(report: fastconv.Explanation) -> str:
    return f"{report.backend}/{report.algorithm}"


def _same(y: Array) -> Array:
    return y


def _channels_first(y: Array) -> Array:
    return y.transpose(0, 3, 1, 2)
