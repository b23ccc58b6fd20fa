"""What nodes that fastconv computes have in common: plans, attributes, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from onnx.reference.op_run import RuntimeTypeError

import fastconv

from ...errors import DTypeError, FastconvError, ShapeError
from ...options import current

#: Plans that one node keeps, by the shape of its images; fewer where their weights are larger.
PLANS, PLAN_BYTES = 8, 64 << 20


class Planned(NamedTuple):
    """A plan, and the very arrays and options that it was made of."""

    w: Any
    bias: Any
    options: Any
    plan: Any


def is_constant(array: Any) -> bool:
    """Say whether nobody may write to an array, nor to what it is a view of.

    As ONNX reads initialisers: views of bytes. A caller's own array is none, and may change.
    """
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or isinstance(array, bytes)


def freeze(array: Any) -> None:
    """Make an array that nobody else has constant."""
    while isinstance(array, np.ndarray):
        array.setflags(write=False)
        array = array.base


class Served:
    """What nodes of fastconv have in common, before a class of the reference implementation."""

    op_domain = ""
    onnx_node: Any
    has_linked_attribute: bool
    attributes_names_: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: How often fastconv computed it.
        self.calls_ = 0
        self._plans: dict[tuple[Any, ...], Planned] = {}
        self._given: dict[Any, dict[str, Any]] = {}

    def given(
        self, read: Callable[..., dict[str, Any]], attributes: Any, *sizes: Any
    ) -> dict[str, Any]:
        """Return what `read` makes of the attributes, which are the same in every call."""
        if self.has_linked_attribute:  # but in functions
            return read(attributes, *sizes)
        found = self._given.get(sizes)
        if found is None:
            found = read(attributes, *sizes)
            others = self._given if len(self._given) < PLANS else {}
            self._given = {**others, sizes: found}
        return found

    def inherited(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        """Leave it to the reference implementation."""
        return super()._run(*inputs, **attributes)  # type: ignore[misc, no-any-return]

    def planned(self, key: tuple[Any, ...], w: Any, bias: Any) -> Any:
        """Return the plan for images of this shape, if weights and options are the same as then."""
        found = self._plans.get(key)
        if (
            found is None
            or found.w is not w
            or found.bias is not bias
            or found.options is not current()
        ):
            return None
        return found.plan

    def convolve(
        self, key: tuple[Any, ...], operator: str, x: Any, w: Any, bias: Any, given: dict[str, Any]
    ) -> Any:
        """Compute; with a plan that is kept, where the weights are constants of the graph."""
        self.calls_ += 1
        if self.has_linked_attribute or not (is_constant(w) and is_constant(bias)):
            return getattr(fastconv, operator)(x, w, bias=bias, **given)
        if operator == "conv2d":
            plan = fastconv.plan_conv2d(w, x.shape, bias=bias, **given)
        else:
            plan = getattr(fastconv, operator).plan(x.shape, w, bias=bias, **given)
        y = plan(x)
        room = max(1, min(PLANS, PLAN_BYTES // max(1, w.nbytes)))
        others = [pair for pair in self._plans.items() if pair[0] != key and pair[1].w is w]
        made = key, Planned(w, bias, current(), plan)
        self._plans = dict([*others, made][-room:])  # anew: other threads may be reading it
        return y

    def check(self, x: Any, w: Any, names: str = "XW") -> int:
        """Return how many axes of space images and weights have."""
        for name, array in zip(names, (x, w), strict=True):
            if not isinstance(array, np.ndarray):
                raise DTypeError(f"{name} must be a tensor, got {type(array).__name__}")
        if x.ndim != w.ndim or x.ndim < 3:
            raise ShapeError(
                f"{names[0]} must be (N, C, ...) and {names[1]} have as many axes, got shapes "
                f"{x.shape} and {w.shape}"
            )
        return int(w.ndim) - 2

    def refuse(self, error: FastconvError, *inputs: Any) -> NoReturn:
        """Raise what fastconv refuses, with the name of the node and what it was given."""
        node = self.onnx_node
        operands = ", ".join(
            f"{name} {value.dtype}{list(value.shape)}"
            if isinstance(value, np.ndarray)
            else f"{name} {type(value).__name__}"
            for name, value in zip(node.input, inputs, strict=False)
            if name
        )
        given = ", ".join(
            f"{name}={getattr(self, name)}"
            for name in sorted(self.attributes_names_)
            if getattr(self, name) is not None
        )
        message = f"node {node.name!r}: {node.op_type}({operands}; {given}): {error}"
        # ONNX replaces a TypeError by a message of its own, that names no node
        kind = RuntimeTypeError if isinstance(error, TypeError) else type(error)
        raise kind(message) from error
