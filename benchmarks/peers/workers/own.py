"""fastconv: the plain call of every operator, and plans in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv
from benchmarks.peers.task import Array, Task, numpy_dtype, operands
from fastconv.checks import layouts

from . import Prepared

#: Columns of images whose channels come last.
_LAST = ("strict_nhwc", "fastconv_cl")


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"fastconv": fastconv.__version__, "numpy": np.__version__}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Prepare ``fastconv`` (the call as a user writes it) or a plan, which writes into `out`."""
    if task.operator not in ("conv2d", "complex"):
        return _operator(variant, task, threads)
    x, w = operands(task)
    how = {"dilation": task.dilation, "groups": task.groups}
    last = variant in _LAST
    view, layout = _channels_first if last else _same, "NHWC" if last else "NCHW"
    if last:
        x = _channels_last(x)
    if variant in ("fastconv", "fastconv_cl"):
        with fastconv.options(threads=threads):
            report = fastconv.explain(x, w, task.stride, task.pad, layout=layout, **how)
        return Prepared(
            lambda: fastconv.conv2d(x, w, task.stride, task.pad, layout=layout, **how),
            view, _chosen(report),
        )  # fmt: skip
    plan = fastconv.plan_conv2d(
        w, x.shape, task.stride, task.pad, layout=layout, threads=threads,
        x_dtype=x.dtype, precision=_precision(variant), **how,
    )  # fmt: skip
    out = np.empty(plan.problem.out_shape, numpy_dtype(task.out_dtype))
    return Prepared(lambda: plan(x, out=out), view, _chosen(plan.explain()))


#: Functions of the operators, and which operands, by position, are images.
_FUNCTIONS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "input_grad": (fastconv.conv2d_input_grad, (0,)),
    "weight_grad": (fastconv.conv2d_weight_grad, (0, 1)),
    "transposed": (fastconv.conv_transpose2d, (0,)),
    "conv1d": (fastconv.conv1d, (0,)),
    "conv3d": (fastconv.conv3d, (0,)),
}


def _operator(variant: str, task: Task, threads: int) -> Prepared:
    """Prepare the call of an operator as a user writes it, or its plan, where weights are given."""
    function, images = _FUNCTIONS[task.operator]
    last, given, shape = variant in _LAST, list(operands(task)), task.x_shape
    if last:
        given = [_channels_last(a) if i in images else a for i, a in enumerate(given)]
        shape = (shape[0], *shape[2:], shape[1])
    if task.operator == "input_grad":  # of gy and w
        given = [shape, *reversed(given)]
    elif task.operator == "weight_grad":  # of x and gy
        given.insert(1, task.w_shape)
    how: dict[str, Any] = {
        "stride": task.stride, "pad": task.pad, "dilation": task.dilation, "groups": task.groups,
        "layout": layouts(task.spatial)[last],
    }  # fmt: skip
    if task.operator == "transposed":
        how["output_padding"] = task.output_padding
    view = _channels_first if last and task.operator != "weight_grad" else _same
    with fastconv.options(threads=threads):
        if variant in ("fastconv", "fastconv_cl"):
            note = _chosen(function.explain(*given, **how))
            return Prepared(lambda: function(*given, **how), view, note)
        plan = function.plan(*given, **how, precision=_precision(variant))
    image = given[-1] if task.operator == "input_grad" else given[0]
    out = np.empty(plan.problem.out_shape, numpy_dtype(task.out_dtype))
    return Prepared(lambda: plan(image, out=out), view, _chosen(plan.explain()))


def _precision(variant: str) -> str:
    return "fast" if variant == "fast" else "strict"


def _chosen(report: fastconv.Explanation) -> str:
    return f"{report.backend}/{report.algorithm}"


def _same(y: Array) -> Array:
    return y


def _channels_first(y: Array) -> Array:
    return np.moveaxis(y, -1, 1)


def _channels_last(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))
