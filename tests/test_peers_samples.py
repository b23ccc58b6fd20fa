"""Operators in `benchmarks.peers`: their tasks, their definition, and who computes them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks.peers import samples
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.check import Checker
from benchmarks.peers.task import OPERATORS, Task, operands
from benchmarks.peers.workers import Prepared, Unsupported

import fastconv
from fastconv import accuracy
from fastconv.backends import reference
from fastconv.errors import DTypeError

Array = np.ndarray[Any, Any]

#: A task of each operator, and corners: rows that no output reads, groups, output padding.
TASKS = [
    Task("net", "dense", 2, 4, 9, 7, 6, 3, 3, pad=1),
    Task("net", "strided", 2, 4, 10, 8, 6, 3, 3, 2, 1, operator="input_grad"),
    Task("net", "unread", 2, 3, 12, 9, 4, 2, 1, 4, operator="input_grad"),
    Task("net", "grouped", 3, 6, 9, 7, 4, 3, 2, 2, 2, 2, 2, operator="input_grad"),
    Task("net", "depthwise", 2, 5, 8, 9, 5, 3, 3, pad=1, groups=5, operator="input_grad"),
    Task("net", "dense", 2, 4, 9, 7, 6, 3, 3, pad=1, operator="weight_grad"),
    Task("net", "grouped", 3, 6, 9, 7, 4, 3, 2, 2, 2, 2, 2, operator="weight_grad"),
    Task("net", "depthwise", 2, 5, 8, 9, 5, 3, 3, 2, 1, groups=5, operator="weight_grad"),
    Task("net", "2x2", 2, 6, 5, 4, 3, 2, 2, 2, operator="transposed"),
    Task("net", "3x3", 1, 3, 7, 6, 4, 3, 3, 2, 1, operator="transposed", output_padding=1),
    Task("net", "4x4", 2, 4, 5, 6, 6, 4, 4, 2, 1, groups=2, operator="transposed"),
    Task("net", "dilated", 1, 3, 6, 5, 2, 3, 3, 2, 1, 2, operator="transposed"),
    Task("net", "signal", 2, 3, 1, 50, 4, 1, 7, 2, 6, 3, operator="conv1d"),
    Task("net", "filter", 1, 1, 1, 60, 1, 1, 9, pad=4, operator="conv1d"),
    Task("net", "volume", 2, 3, 6, 7, 4, 3, 2, 2, 1, operator="conv3d", d=5, t=3),
    Task("net", "grouped", 2, 4, 9, 7, 6, 3, 3, 2, 1, 1, 2, "complex64", "complex"),
]  # fmt: skip
REAL = [task for task in TASKS if task.operator != "complex"]


def definition(task: Task) -> Array:
    """The result of `fastconv.backends.reference`; of complex numbers from four real ones."""
    a, b = operands(task)
    if task.operator != "complex":
        wide = np.dtype(np.int64 if task.dtype == "int8" else np.longdouble)
        y = reference.accumulate(task.problem, a, b, wide)
        return y.astype(task.computed if wide == np.longdouble else np.int32)
    parts = [
        [reference.accumulate(task.problem, x, w, accuracy.WIDE) for w in (b.real, b.imag)]
        for x in (a.real, a.imag)
    ]
    y = np.empty(task.result_shape, np.complex64)
    y.real, y.imag = parts[0][0] - parts[1][1], parts[0][1] + parts[1][0]
    return y


def identity(task: Task) -> str:
    return task.name


def test_every_operator_has_a_task_here() -> None:
    assert {task.operator for task in TASKS} == set(OPERATORS)


@pytest.mark.parametrize("task", TASKS, ids=identity)
def test_shapes_are_those_of_the_definition(task: Task) -> None:
    a, b = operands(task)
    assert (a.shape, b.shape) == task.operand_shapes
    assert a.dtype == b.dtype == task.dtype
    assert definition(task).shape == task.result_shape
    per_number = 8 if task.operator == "complex" else 4
    assert task.bytes == per_number * (a.size + b.size + np.prod(task.result_shape))
    each = 8 if task.operator == "complex" else 2
    images = a if task.operator in ("input_grad", "transposed") else None
    sums = images.size * np.prod(b.shape[1:]) if images is not None else task.problem.cost.macs
    assert task.flops == each * sums


def test_transposed_convolutions_enlarge_images() -> None:
    shapes = {task.layer: task.result_shape for task in TASKS if task.operator == "transposed"}
    assert shapes == {"2x2": (2, 3, 10, 8), "3x3": (1, 4, 14, 12), "4x4": (2, 6, 10, 12),
                      "dilated": (1, 2, 13, 11)}  # fmt: skip


@pytest.mark.parametrize("macs", [1, 3000, 10**9])
@pytest.mark.parametrize("task", REAL, ids=identity)
def test_parts_are_parts_of_the_whole_result(task: Task, macs: int) -> None:
    a, b = operands(task)
    whole = accuracy.expected(task.problem, a, b)
    first, second = samples.positions(task)
    covered = np.zeros((len(first), len(second), *task.result_shape[2:]), bool)
    for index, want in samples.parts(task, first, second, macs):
        for name in ("y", "magnitude", "bound"):
            stored = getattr(whole, name)[first][:, second][index]
            got = getattr(want, name)
            assert got.shape == stored.shape
            # where no output reads a pixel the sum is empty, and its bound what we like
            judged = stored if name != "bound" else np.where(want.magnitude > 0, stored, got)
            np.testing.assert_allclose(got, judged, rtol=1e-15, atol=1e-17)
        covered[index] = True
    ends = covered[:, :, [0, -1]]
    assert ends.all(), "a border is not looked at"
    if macs == 10**9:
        assert covered.all()


NARROW = [replace(t, dtype=d) for t in REAL for d in ("float64", "float16", "bfloat16", "int8")]


@pytest.mark.parametrize("task", TASKS + NARROW, ids=lambda task: f"{task.name} {task.dtype}")
def test_checker_notices_one_wrong_element(task: Task) -> None:
    if task.dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    checker = Checker(task)
    sample = definition(task)[checker.images][:, checker.channels]
    assert checker.judge(sample, "bound").ok
    assert checker.judge(sample, "norm").ok
    corner = (0,) * sample.ndim
    opposite = (-1,) * sample.ndim
    units: tuple[Any, ...] = {"complex": (1.0, 1j, np.nan)}.get(task.operator, (1.0, np.nan))
    for at in (corner, opposite):
        for amount in (1,) if task.dtype == "int8" else units:
            wrong = sample.copy()
            wrong[at] += amount
            assert not checker.judge(wrong, "bound").ok
            assert not checker.judge(wrong, "norm").ok


def test_checker_wants_complex_numbers_of_complex_tasks() -> None:
    for task in (TASKS[0], TASKS[-1]):
        checker = Checker(task)
        sample = definition(task)[checker.images][:, checker.channels]
        other = sample.real if np.iscomplexobj(sample) else sample.astype(np.complex64)
        with pytest.raises(ValueError, match="the sample is of dtype"):
            checker.judge(other, "bound")


def computed(module: str, variant: str, task: Task) -> Prepared:
    library = importlib.import_module(f"benchmarks.peers.workers.{module}")
    prepared: Prepared = library.prepare(variant, task, 1)
    checker = Checker(task)
    y = prepared.result(prepared.call())
    assert y.shape == task.result_shape
    finding = checker.judge(y[checker.images][:, checker.channels], PEERS[variant].tolerance)
    assert finding.ok, f"{variant}: {finding.ratio} times what is allowed"
    return prepared


@pytest.mark.parametrize("variant", ["fastconv", "fastconv_cl"])
@pytest.mark.parametrize("task", TASKS, ids=identity)
def test_fastconv_computes_them(task: Task, variant: str) -> None:
    if task.operator == "complex":
        try:
            fastconv.explain(*operands(task), groups=task.groups)
        except DTypeError:
            pytest.skip("fastconv does not compute complex numbers")
    assert "/" in computed("own", variant, task).note


@pytest.mark.parametrize("variant", ["strict", "strict_nhwc", "fast"])
@pytest.mark.parametrize("task", TASKS, ids=identity)
def test_plans_of_fastconv_compute_some(task: Task, variant: str) -> None:
    pytest.importorskip("fastconv.operators.plan")
    if PEERS[variant].refuses(task) is None and task.operator != "complex":
        assert "/" in computed("own", variant, task).note


@pytest.mark.parametrize("variant", ["torch", "torch_cl"])
@pytest.mark.parametrize("task", TASKS, ids=identity)
def test_pytorch_computes_them(task: Task, variant: str) -> None:
    pytest.importorskip("torch")
    computed("pytorch", variant, task)


@pytest.mark.parametrize("task", TASKS, ids=identity)
def test_onnx_runtime_computes_some(task: Task) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    if PEERS["ort"].refuses(task) is None:
        computed("onnx_runtime", "ort", task)


def test_scipy_filters_single_signals() -> None:
    pytest.importorskip("scipy")
    by_name = {task.layer: task for task in TASKS if task.operator == "conv1d"}
    computed("scientific", "oaconvolve", by_name["filter"])
    with pytest.raises(Unsupported, match="planes alone"):
        computed("scientific", "oaconvolve", by_name["signal"])


def test_peers_are_asked_for_what_they_compute() -> None:
    gradient = TASKS[1]
    signal, volume = (next(t for t in TASKS if t.operator == o) for o in ("conv1d", "conv3d"))
    assert PEERS["torch"].refuses(gradient) is None
    assert PEERS["fastconv_cl"].refuses(gradient) is None
    assert PEERS["strict"].refuses(gradient) == "is not asked for input_grad"
    assert PEERS["openvino"].refuses(gradient) == "is not asked for input_grad"
    assert PEERS["oaconvolve"].refuses(signal) is None
    assert PEERS["ndimage"].refuses(signal) == "is not asked for conv1d"
    assert PEERS["oaconvolve"].refuses(TASKS[0]) == "computes image filters alone"
    assert PEERS["ort"].refuses(volume) is None
    assert PEERS["ort"].refuses(TASKS[-1]) == "is not asked for complex"
    assert PEERS["strict"].refuses(TASKS[0]) is None
    assert PEERS["fastconv_cl"].refuses(TASKS[0]) == "is not asked for conv2d"
