"""Nodes of ONNX graphs that fastconv computes, for `onnx.reference.ReferenceEvaluator`.

Each is a class of the reference implementation with another `_run`: what fastconv does not compute
(more than three axes of space, quantised volumes, strings) is left to the one it inherits.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from onnx.reference.ops.op_col2im import Col2Im as _Col2Im
from onnx.reference.ops.op_conv import Conv as _Conv
from onnx.reference.ops.op_conv_integer import ConvInteger as _ConvInteger
from onnx.reference.ops.op_conv_transpose import ConvTranspose as _ConvTranspose
from onnx.reference.ops.op_deform_conv import DeformConv as _DeformConv
from onnx.reference.ops.op_qlinear_conv import QLinearConv as _QLinearConv

import fastconv

from ...errors import FastconvError, ShapeError
from .attributes import arguments, of_images, transposed
from .served import Served


class Weighted(Served):
    """What Conv and ConvTranspose share: X, W and B, and plans."""

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
                return self.inherited(X, W, B, **attributes)
            given = self.arguments(X, W, attributes)
            return (self.convolve(key, f"{self.operator}{spatial}d", X, W, B, given),)
        except FastconvError as error:
            self.refuse(error, X, W, B)

    #: Of fastconv, without its dimensions.
    operator: str

    def arguments(self, X: Any, W: Any, attributes: Any) -> dict[str, Any]:
        """Return what the attributes are for it."""
        raise NotImplementedError


class Conv(Weighted, _Conv):  # type: ignore[misc]
    """ONNX's Conv of one to three axes of space."""

    operator = "conv"

    def arguments(self, X: Any, W: Any, attributes: Any) -> dict[str, Any]:
        """As of any convolution."""
        return self.given(arguments, attributes, W.shape[2:])


class ConvTranspose(Weighted, _ConvTranspose):  # type: ignore[misc]
    """ONNX's ConvTranspose of one to three axes of space."""

    operator = "conv_transpose"

    def arguments(self, X: Any, W: Any, attributes: Any) -> dict[str, Any]:
        """Which know ``output_shape``, from which pads follow for images of this size."""
        return self.given(transposed, attributes, W.shape[2:], X.shape[2:])


class ConvInteger(Served, _ConvInteger):  # type: ignore[misc]
    """ONNX's ConvInteger of signals and images."""

    def _run(
        self, x: Any, w: Any, x_zero_point: Any = None, w_zero_point: Any = None, **attributes: Any
    ) -> tuple[Any, ...]:
        try:
            if self.check(x, w, "xw") > 2:
                return self.inherited(x, w, x_zero_point, w_zero_point, **attributes)
            self.calls_ += 1
            y = fastconv.conv2d_integer(
                _image(x), _image(w), **self.given(of_images, attributes, w.shape[2:]),
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
                return self.inherited(x, *quantised, **attributes)
            self.calls_ += 1
            y = fastconv.qlinear_conv2d(
                _image(x), x_scale, x_zero_point, _image(w), *quantised[3:],
                **self.given(of_images, attributes, w.shape[2:]),
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
                return self.inherited(X, W, offset, B, mask, **attributes)
            self.calls_ += 1
            y = fastconv.deform_conv2d(
                X, W, offset, mask=mask, bias=B, offset_groups=attributes.get("offset_group") or 1,
                **self.given(arguments, attributes, W.shape[2:]),
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
                return self.inherited(data, image_shape, block_shape, **attributes)
            given = self.given(arguments, attributes, kernel)
            self.calls_ += 1
            return (fastconv.col2im(data, [int(n) for n in image_shape], kernel, **given),)
        except FastconvError as error:
            self.refuse(error, data, image_shape, block_shape)


def _image(array: Any) -> Any:
    """View a signal as an image of one row."""
    return array if array.ndim == 4 else array[:, :, None]


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
