"""What ``--operator`` takes: operators, the layers they are measured on, and their titles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import networks, operators
from benchmarks.networks import Layer

from .task import Task

#: How tables call what a task computes.
TITLES = {
    "input_grad": "input gradient", "weight_grad": "weight gradient", "transposed": "transposed",
    "conv1d": "conv1d", "conv3d": "conv3d", "complex": "complex",
}  # fmt: skip

#: Networks whose layers' gradients are measured.
TRAINED = ("resnet50", "mobilenet_v2", "unet")


@dataclass(frozen=True)
class Choice:
    """A name that ``--operator`` takes.

    Attributes
    ----------
    operators : tuple of str
        Operators of the tasks; the layers of each network are asked for one after the other.
    sources : tuple of str
        Networks, or subjects of `benchmarks.operators`.
    layers : callable
        Which layers of the networks.
    dtype : str or None
        Another one than ``--dtype``.
    """

    operators: tuple[str, ...]
    sources: tuple[str, ...]
    layers: Callable[[Layer], bool] = lambda layer: True
    dtype: str | None = None


def _of(operator: str) -> Choice:
    """All subjects of an operator."""
    names = (name for name in operators.NAMES if operators.load(name).operator == operator)
    return Choice((operator,), tuple(names))


CHOICES = {
    "input_grad": Choice(("input_grad",), TRAINED),
    "weight_grad": Choice(("weight_grad",), TRAINED),
    "depthwise_grad": Choice(
        ("input_grad", "weight_grad"), ("mobilenet_v2",), lambda layer: layer.groups > 1
    ),
    "transposed": _of("transposed"),
    "conv1d": _of("conv1d"),
    "conv3d": _of("conv3d"),
    "complex": Choice(("complex",), ("resnet50",), lambda layer: layer.r == 3, "complex64"),
}

#: All that `Choice.sources` names.
SOURCES = tuple(dict.fromkeys(name for choice in CHOICES.values() for name in choice.sources))


def tasks(
    name: str, batch: int, dtype: str, only: tuple[str, ...] = ()
) -> Iterator[tuple[Task, int]]:
    """Describe the layers of a choice, of the sources in `only` or of all, and count them."""
    choice = CHOICES[name]
    dtype = choice.dtype or dtype
    for source in choice.sources:
        if only and source not in only:
            continue
        if source in operators.NAMES:
            subject = operators.load(source)
            for fields in subject.layers:
                yield Task(source, n=batch, dtype=dtype, operator=subject.operator, **fields), 1
            continue
        for operator in choice.operators:
            for layer in filter(choice.layers, networks.load(source).layers):
                yield Task.of(layer, batch, dtype, operator), layer.count


def title(task: Task) -> str:
    """Name the table that a task belongs to."""
    name = task.network
    if name in operators.NAMES:
        source = operators.load(name).title
    else:
        source = networks.load(name).title if name in networks.NAMES else name
    return ", ".join(filter(None, (source, TITLES.get(task.operator), task.dtype)))
