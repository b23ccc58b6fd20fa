"""What fastconv is to reach, as one table, and how a run compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .record import LayerRecord, Run
from .task import Task

#: Tasks of this network measure what a call costs, not what it computes.
OVERHEAD = Task("overhead", "8x8 by 3x3", 1, 1, 8, 8, 1, 3, 3)

TORCH = ("torch", "torch_cl")
DIRECT = (*TORCH, "ort", "openvino")
ALL = (*DIRECT, "ncnn", "mnn")
SCIPY = ("convolve2d", "ndimage", "fftconvolve", "oaconvolve")
SIGNALS = ("torch", "oaconvolve")
BOTH_LAYOUTS = ("strict", "strict_nhwc")
#: Calls in both layouts: of operators whose weights change from one to the next, as in training.
PLAIN = ("fastconv", "fastconv_cl")
EITHER = PLAIN + BOTH_LAYOUTS

Choice = Callable[[Task], bool]


def _is_filter(task: Task) -> bool:
    return task.network == "filters"


def _network(task: Task) -> bool:
    return task.dtype == "float32" and not _is_filter(task) and task.operator == "conv2d"


def _grouped(task: Task) -> bool:
    return _network(task) and task.groups > 1


def _filter(task: Task) -> bool:
    return task.dtype in ("float32", "uint8") and _is_filter(task)


def _of(*dtypes: str) -> Choice:
    return lambda task: task.dtype in dtypes and not _is_filter(task) and task.operator == "conv2d"


def _operator(name: str) -> Choice:
    return lambda task: task.operator == name and task.dtype in ("float32", "complex64")


def _depthwise_grad(task: Task) -> bool:
    gradient = _operator("input_grad")(task) or _operator("weight_grad")(task)
    return gradient and 1 < task.groups == task.c


@dataclass(frozen=True)
class Bar:
    """One bar: time of the best of `peers` over time of the best of `columns`.

    Attributes
    ----------
    title : str
    columns : tuple of str
        Of fastconv; at each layer the fastest counts.
    peers : tuple of str
        At each layer the fastest counts.
    layers : callable
        Which tasks it is about.
    mean, worst : float
        What geometric mean and smallest ratio are to reach.
    """

    title: str
    columns: tuple[str, ...]
    peers: tuple[str, ...]
    layers: Choice
    mean: float
    worst: float


BARS = (
    Bar("plan strict, NCHW : best direct peer", ("strict",), DIRECT, _network, 1.05, 0.85),
    Bar("plan strict, best layout : same peers", BOTH_LAYOUTS, DIRECT, _network, 1.05, 0.85),
    Bar("plan fast : best of all", ("fast",), ALL, _network, 1.10, 0.85),
    Bar("plain conv2d : torch NCHW", ("fastconv",), ("torch",), _network, 1.8, 1.0),
    Bar("groups > 1, plan strict : best of all", ("strict",), ALL, _grouped, 1.25, 1.0),
    Bar("groups > 1, best layout : same peers", BOTH_LAYOUTS, ALL, _grouped, 1.25, 1.0),
    Bar("filters, plain conv2d : OpenCV", ("fastconv",), ("opencv",), _filter, 1.5, 1.0),
    Bar("filters, plan fast : OpenCV", ("fast",), ("opencv",), _filter, 1.5, 1.0),
    Bar("filters, plain conv2d : best SciPy", ("fastconv",), SCIPY, _filter, 20, 5),
    Bar("float64, best layouts : torch", BOTH_LAYOUTS, TORCH, _of("float64"), 1.6, 1.1),
    Bar("16 bits, best layouts : torch", BOTH_LAYOUTS, TORCH, _of("float16", "bfloat16"), 5, 2),
    Bar("int8, plan strict : ORT int8 weights", ("strict",), ("ort",), _of("int8"), 4, 2),
    Bar("int8, plan strict : ORT uint8 weights", ("strict",), ("ort_u8",), _of("int8"), 4, 2),
    Bar("input gradient : torch", PLAIN, TORCH, _operator("input_grad"), 1.2, 0.85),
    Bar("weight gradient : torch", PLAIN, TORCH, _operator("weight_grad"), 1.5, 1.0),
    Bar("depthwise gradients : torch", PLAIN, TORCH, _depthwise_grad, 2.0, 1.0),
    Bar("transposed : torch, ORT", EITHER, (*TORCH, "ort"), _operator("transposed"), 1.8, 1.1),
    Bar("conv1d : torch, oaconvolve", EITHER, SIGNALS, _operator("conv1d"), 1.5, 1),
    Bar("conv1d, plan fast : same", ("fast",), SIGNALS, _operator("conv1d"), 1.5, 1),
    Bar("conv3d : torch", EITHER, TORCH, _operator("conv3d"), 1.1, 0.8),
    Bar("complex64 : torch", EITHER, TORCH, _operator("complex"), 2.0, 1.0),
    Bar("complex64, plan fast : torch", ("fast",), TORCH, _operator("complex"), 2.0, 1.0),
)  # fmt: skip

#: Time on one thread over time on two.
SCALING = 1.85


@dataclass(frozen=True)
class Outcome:
    """How a run stands at a bar.

    Attributes
    ----------
    bar : Bar
    ratios : dict of str to float
        By layer.
    missing : tuple of str
        Layers that a peer computed and fastconv did not, or wrongly.
    """

    bar: Bar
    ratios: dict[str, float]
    missing: tuple[str, ...]

    @property
    def mean(self) -> float | None:
        """Geometric mean of the ratios."""
        return geometric_mean(self.ratios.values())

    @property
    def worst(self) -> tuple[str, float] | None:
        """Layer with the smallest ratio."""
        if not self.ratios:
            return None
        name = min(self.ratios, key=self.ratios.__getitem__)
        return name, self.ratios[name]

    @property
    def reached(self) -> bool:
        """Whether mean and worst layer are there, and no layer is missing."""
        mean, worst = self.mean, self.worst
        if mean is None or worst is None or self.missing:
            return False
        return mean >= self.bar.mean and worst[1] >= self.bar.worst


def geometric_mean(values: Iterable[float]) -> float | None:
    """Geometric mean of positive numbers; None of none."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def name_of(task: Task) -> str:
    """Name a task so that no other has the same."""
    return task.name if task.dtype == "float32" else f"{task.name} {task.dtype}"


def judge(run: Run, bar: Bar) -> Outcome | None:
    """Hold a run against a bar; None where it has no column or no peer of it at any layer."""
    ratios, missing = {}, []
    if not set(bar.columns) & set(run.columns):
        return None
    for record in run.layers:
        if record.task.network == OVERHEAD.network or not bar.layers(record.task):
            continue
        best, ours = record.best(bar.peers), record.best(bar.columns)
        if best is None:
            continue
        if ours is None:
            missing.append(name_of(record.task))
        else:
            ratios[name_of(record.task)] = best[1] / ours[1]
    return Outcome(bar, ratios, tuple(missing)) if ratios or missing else None


def shares_of_peak(run: Run, column: str) -> dict[str, float]:
    """Share of the measured peak at layers of at least 200 MFLOP: VGG-16's 3x3, ResNet-50's."""
    return {
        record.task.name: speed / record.peak
        for record in run.layers
        if record.task.network in ("vgg16", "resnet50")
        and (record.task.operator, record.task.dtype) == ("conv2d", "float32")
        and record.task.flops >= 2e8
        and (speed := record.gflops(column)) is not None
        and record.peak
    }


def scaling(records: Iterable[LayerRecord], column: str) -> dict[str, float]:
    """Time on one thread over time on all, by layer."""
    return {
        name_of(r.task): one / many
        for r in records
        if (one := r.seconds(f"{column}@1")) and (many := r.seconds(column))
    }
