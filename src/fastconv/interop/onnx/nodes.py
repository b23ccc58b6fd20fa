"""Nodes of ONNX graphs that fastconv computes, for `onnx.reference.ReferenceEvaluator`.

Each is a class of the reference implementation with another `_run`: what fastconv does not compute
(more than three axes of space, quantised volumes, strings) is left to the one it inherits.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple, NoReturn

import numpy as np
from onnx.reference.op_run import RuntimeTypeError
from onnx.reference.ops.op_col2im import Col2Im as _Col2Im
from onnx.reference.ops.op_conv import Conv as _Conv
from onnx.reference.ops.op_conv_integer import ConvInteger as _ConvInteger
from onnx.reference.ops.op_conv_transpose import ConvTranspose as _ConvTranspose
from onnx.reference.ops.op_deform_conv import DeformConv as _DeformConv
from onnx.reference.ops.op_qlinear_conv import QLinearConv as _QLinearConv

import fastconv

from ...errors import DTypeError, FastconvError, ShapeError
from ...options import current
from .attributes import Attributes, arguments, transposed

Array = np.ndarray[Any, Any]

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

    def planned(self, key: tuple[Any, ...], w: Any, bias: Any) -> Any:
        """Return the plan for images of this shape, if weights and options are the same as then."""
        found = self._plans.get(key)
        if (
            found is None
            or found.w is not w
            or found.bias is not bias
            or found.options is not current()
            or self.has_linked_attribute
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
        kept = [pair for pair in self._plans.items() if pair[0] != key and pair[1].w is w]
        self._plans = dict(
            [*kept[len(kept) + 1 - room :], (key, Planned(w, bias, current(), plan))]
        )
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


class Conv(Served, _Conv):  # type: ignore[misc]
    """ONNX's Conv of one to three axes of space."""

    def _run(self, X: Any, W: Any, B: Any = None, **attributes: Any) -> tuple[Any, ...]:
        try:
            key = X.shape[1:] if type(X) is np.ndarray else ()
            plan = self.planned(key, W, B)
            if plan is not None:
                y = plan(X)
                self.calls_ += 1
                return (y,)
            spatial = self.check(X, W)
            if spatial > 3:
                return super()._run(X, W, B, **attributes)  # type: ignore[no-any-return]
            given = arguments(attributes, W.shape[2:])
            return (self.convolve(key, f"conv{spatial}d", X, W, B, given),)
        except FastconvError as error:
            self.refuse(error, X, W, B)


class ConvTranspose(Served, _ConvTranspose):  # type: ignore[misc]
    """ONNX's ConvTranspose of one to three axes of space."""

    def _run(self, X: Any, W: Any, B: Any = None, **attributes: Any) -> tuple[Any, ...]:
        try:
            key = X.shape[1:] if type(X) is np.ndarray else ()
            plan = self.planned(key, W, B)
            if plan is not None:
                y = plan(X)
                self.calls_ += 1
                return (y,)
            spatial = self.check(X, W)
            if spatial > 3:
                return super()._run(X, W, B, **attributes)  # type: ignore[no-any-return]
            given = transposed(attributes, W.shape[2:], X.shape[2:])
            return (self.convolve(key, f"conv_transpose{spatial}d", X, W, B, given),)
        except FastconvError as error:
            self.refuse(error, X, W, B)


class ConvInteger(Served, _ConvInteger):  # type: ignore[misc]
    """ONNX's ConvInteger of signals and images."""

    def _run(
        self, x: Any, w: Any, x_zero_point: Any = None, w_zero_point: Any = None, **attributes: Any
    ) -> tuple[Any, ...]:
        try:
            if self.check(x, w, "xw") > 2:
                return super()._run(  # type: ignore[no-any-return]
                    x, w, x_zero_point, w_zero_point, **attributes
                )
            self.calls_ += 1
            y = fastconv.conv2d_integer(
                _image(x), _image(w), **_image_arguments(attributes, w),
                x_zero_point=0 if x_zero_point is None else x_zero_point,
                w_zero_point=0 if w_zero_point is None else w_zero_point,
            )  # fmt: skip
            return (y if x.ndim == 4 else y[:, :, 0],)
        except FastconvError as error:
            self.refuse(error, x, w, x_zero_point, w_zero_point)


class QLinearConv(Served, _QLinearConv):  # type: ignore[misc]
    """ONNX's QLinearConv of signals and images."""

    def _run(
        self, x: Any, x_scale: Any, x_zero_point: Any, w: Any, w_scale: Any, w_zero_point: Any,
        y_scale: Any, y_zero_point: Any, B: Any = None, **attributes: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        quantised = x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B
        try:
            if self.check(x, w, "xw") > 2:
                return super()._run(x, *quantised, **attributes)  # type: ignore[no-any-return]
            self.calls_ += 1
            y = fastconv.qlinear_conv2d(
                _image(x), x_scale, x_zero_point, _image(w), *quantised[3:],
                **_image_arguments(attributes, w),
            )  # fmt: skip
            return (y if x.ndim == 4 else y[:, :, 0],)
        except FastconvError as error:
            self.refuse(error, x, *quantised)


class DeformConv(Served, _DeformConv):  # type: ignore[misc]
    """ONNX's DeformConv of images, which is all that its reference implementation has."""

    def _run(
        self, X: Any, W: Any, offset: Any, B: Any = None, mask: Any = None, **attributes: Any
    ) -> tuple[Any, ...]:
        try:
            if self.check(X, W) != 2:
                return super()._run(X, W, offset, B, mask, **attributes)  # type: ignore[no-any-return]
            self.calls_ += 1
            y = fastconv.deform_conv2d(
                X, W, offset, mask=mask, bias=B, offset_groups=attributes.get("offset_group") or 1,
                **arguments(attributes, W.shape[2:]),
            )  # fmt: skip
            return (y,)
        except FastconvError as error:
            self.refuse(error, X, W, offset, B, mask)


class Col2Im(Served, _Col2Im):  # type: ignore[misc]
    """ONNX's Col2Im of one to three axes of space."""

    def _run(
        self, data: Any, image_shape: Any, block_shape: Any, **attributes: Any
    ) -> tuple[Any, ...]:
        try:
            kernel = tuple(int(size) for size in block_shape)
            if not 1 <= len(kernel) <= 3 or data.dtype.kind not in "biufcV":
                return super()._run(data, image_shape, block_shape, **attributes)  # type: ignore[no-any-return]
            given = arguments(attributes, kernel)
            del given["groups"]
            self.calls_ += 1
            return (fastconv.col2im(data, [int(n) for n in image_shape], kernel, **given),)
        except FastconvError as error:
            self.refuse(error, data, image_shape, block_shape)


def _image(array: Any) -> Any:
    """View a signal as an image of one row."""
    return array if array.ndim == 4 else array[:, :, None]


def _image_arguments(attributes: Attributes, w: Any) -> dict[str, Any]:
    """Return the arguments of a convolution of images, or of signals as such."""
    given = arguments(attributes, w.shape[2:])
    if w.ndim == 3:
        given["stride"] = (1, *given["stride"])
        given["dilation"] = (1, *given["dilation"])
        if not isinstance(given["pad"], str):
            given["pad"] = ((0, 0), *given["pad"])
    return given


#: The operators, for ``ReferenceEvaluator(model, new_ops=new_ops)``.
new_ops: list[type[Any]] = [Conv, ConvTranspose, ConvInteger, QLinearConv, DeformConv, Col2Im]


def _causal_conv_with_state() -> type[Any]:
    """Make the class of an operator that came with ONNX 1.23."""
    reference = importlib.import_module("onnx.reference.ops.op_causal_conv_with_state")

    class CausalConvWithState(Served, reference.CausalConvWithState):  # type: ignore[misc, name-defined]
        """ONNX's CausalConvWithState: a depthwise convolution of a signal that goes on."""

        def _run(
            self, input: Any, weight: Any, bias: Any = None, past_state: Any = None,
            activation: Any = None,
        ) -> tuple[Any, ...]:  # fmt: skip
            try:
                return self._causal(input, weight, bias, past_state, activation or "none")
            except FastconvError as error:
                self.refuse(error, input, weight, bias, past_state)

        def _causal(self, x: Any, w: Any, bias: Any, past: Any, activation: str) -> tuple[Any, ...]:
            self.check(x, w, "xw")
            state = w.shape[-1] - 1
            if x.ndim != 3 or w.shape[:2] != (x.shape[1], 1):
                raise ShapeError(
                    f"input must be (N, C, L) and weight (C, 1, k), got {x.shape} and {w.shape}"
                )
            if past is not None and past.shape != (*x.shape[:2], state):
                raise ShapeError(
                    f"past_state must be (N, C, k - 1) = {(*x.shape[:2], state)}, got {past.shape}"
                )
            if activation not in _ACTIVATIONS:
                raise ShapeError(f"activation={activation!r} is none of {', '.join(_ACTIVATIONS)}")
            pad = ((state if past is None else 0, 0),)
            seen = x if past is None else np.concatenate([past, x], axis=2)
            key = (*seen.shape[1:], pad)
            plan = self.planned(key, w, bias)
            if plan is None:
                given = {"pad": pad, "groups": x.shape[1], "activation": _ACTIVATIONS[activation]}
                y = self.convolve(key, "conv1d", seen, w, bias, given)
            else:
                y = plan(seen)
                self.calls_ += 1
            missing = max(state - seen.shape[2], 0)
            left = np.zeros((*x.shape[:2], missing), x.dtype)
            kept = seen[:, :, seen.shape[2] - (state - missing) :]
            return y, np.concatenate([left, kept], axis=2)

    return CausalConvWithState


_ACTIVATIONS = {"none": None, "silu": "silu", "swish": "silu"}

try:
    new_ops.append(_causal_conv_with_state())
except ModuleNotFoundError as missing:
    if missing.name != "onnx.reference.ops.op_causal_conv_with_state":
        raise
