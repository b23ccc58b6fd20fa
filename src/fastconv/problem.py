"""The problem, described once: plain integers and names, no arrays, no backends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from . import checks, geometry
from .activations import ACTIVATIONS
from .borders import PAD_MODES
from .checks import LAYOUTS, array_axes, format_shape, weight_axes
from .dtypes import COMPONENTS, Promotion, itemsize
from .errors import ShapeError, SizeError
from .sizes import ConvSizes, Depth, Result, Spatial


@dataclass(frozen=True)
class Cost:
    """What a convolution costs, counted on the definition (zeros of the border included).

    Attributes
    ----------
    macs : int
        Multiply-accumulates of real numbers: four for one of two complex numbers, two for one of
        a real and a complex number.
    flops : int
        2 * macs: a multiply and an add each.
    bytes : int
        Compulsory traffic: x, w and bias read once, y written once.
    intensity : float
        flops / bytes, the arithmetic intensity of the roofline model.
    """

    macs: int
    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Flops per byte of compulsory traffic."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class ConvProblem(ConvSizes):
    """One convolution, or one of its gradients, by plain integers and names; hashable, picklable.

    Build it with `ConvProblem.describe`, which checks everything that can be wrong with a call.
    Its sizes are those of `ConvSizes`.
    """

    @classmethod
    def describe(
        cls,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        *,
        stride: object = 1,
        pad: object = 0,
        dilation: object = 1,
        groups: object = 1,
        pad_mode: str = "constant",
        layout: str | None = None,
        promotion: Promotion = Promotion("float32", "float32", "float32"),  # noqa: B008
        bias_shape: Sequence[int] | None = None,
        activation: str | None = None,
        spatial: Spatial = 2,
        result: Result = "y",
        function: str | None = None,
    ) -> ConvProblem:
        """Check a call and describe it.

        Parameters
        ----------
        x_shape, w_shape : sequence of int
            Shapes as the caller holds them: x (N,C,H,W), (C,H,W) or (H,W), channels last with
            ``layout="NHWC"``; w (K, C/groups, R, S), or (R, S) with x (H, W).
        stride, pad, dilation, groups, pad_mode, layout, activation
            As in `fastconv.conv2d`.
        promotion : Promotion
            From `fastconv.dtypes.promote`.
        bias_shape : sequence of int, optional
        spatial : {1, 2, 3}, default 2
            Dimensions of an image.
        result : {"y", "x", "w"}, default "y"
            Which array is computed from the other two.
        function : str, optional
            Name of the call, for messages.

        Returns
        -------
        ConvProblem

        Raises
        ------
        ShapeError
            Whatever describes no convolution; the message names both shapes and the fix.
        SizeError
            A result that no address space holds (also a `MemoryError`).
        TypeError
            Strides, pads, dilations or groups that are not integers.

        Notes
        -----
        O(1) time and memory: nothing proportional to any size is touched.
        """
        layout = checks.layouts(spatial)[0] if layout is None else layout
        geometry.check_choice("layout", layout, checks.layouts(spatial))
        geometry.check_choice("pad_mode", pad_mode, PAD_MODES)
        if activation is not None:
            geometry.check_choice("activation", activation, tuple(ACTIVATIONS))
        axes = geometry.AXES[spatial]
        strides = geometry.sizes("stride", stride, 1, axes)
        dilations = geometry.sizes("dilation", dilation, 1, axes)
        g = geometry.integer("groups", groups, minimum=1)
        rank = len(x_shape)
        checks.check_ranks(
            function or f"conv{spatial}d", rank, len(w_shape), layout,
            f"x {tuple(x_shape)} and w {tuple(w_shape)}",
        )  # fmt: skip
        alone = rank == spatial
        whole = (1, 1, *x_shape) if alone else (1,) * (spatial + 2 - rank) + tuple(x_shape)
        order = range(spatial + 2) if alone else LAYOUTS[layout]
        n, c, *image = (whole[axis] for axis in order)
        k, cg, *kernel = (1, 1, *w_shape) if alone else w_shape
        shapes = checks.describe_shapes(x_shape, w_shape, layout)
        checks.check_channels(c, k, cg, g, x_shape, layout, shapes)
        checks.check_sizes(image, kernel, shapes)
        pads = geometry.resolve_pad(pad, image, kernel, strides, dilations)
        checks.check_index_range(image, kernel, strides, pads, dilations, shapes)
        channels = c if result == "x" else k
        if bias_shape is not None and tuple(bias_shape) != (channels,):
            raise ShapeError(
                f"bias has shape {tuple(bias_shape)}, expected (K={channels},) for {shapes}"
            )
        checks.check_activation_dtype(activation, promotion.computed)
        missing = 3 - spatial
        (d, h, w), (t, r, s) = (1,) * missing + tuple(image), (1,) * missing + tuple(kernel)
        (sd, sh, sw), (dd, dh, dw) = (1,) * missing + strides, (1,) * missing + dilations
        around = ((0, 0),) * missing + pads
        problem = cls(
            n, c, h, w, k, r, s, (sh, sw), (around[1], around[2]), (dh, dw), g, pad_mode, layout,
            promotion.operand, promotion.computed, bias_shape is not None, activation, rank,
            Depth(d, t, sd, around[0], dd), result, promotion.real,
        )  # fmt: skip
        checks.check_result(problem.y_image, image, kernel, pads, dilations, shapes)
        problem._check_bytes()
        return problem

    @cached_property
    def _hash(self) -> int:
        values = (getattr(self, field.name) for field in fields(self))
        return hash(tuple(values))

    def __hash__(self) -> int:
        """Hash all fields once: problems are the keys of many caches."""
        return self._hash

    def __getstate__(self) -> dict[str, object]:
        """Pickle the fields alone: hashes of names are others in another process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def with_batch(self, n: int) -> ConvProblem:
        """Return the same problem for `n` images; raises `SizeError` as `describe` does."""
        problem = replace(self, n=n)
        problem._check_bytes()
        return problem

    def _check_bytes(self) -> None:
        if self.out_bytes > np.iinfo(np.intp).max:
            alone = self.rank == self.spatial
            w = self.w_shape[2:] if alone else self.w_shape
            raise SizeError(
                f"the output {format_shape(self.out_shape, self.out_axes)} of "
                f"{checks.describe_shapes(self.x_shape, w, self.layout)} "
                f"needs {self.out_bytes} bytes, more than an address space holds; use less pad"
            )

    @cached_property
    def cost(self) -> Cost:
        """Multiply-accumulates, flops and compulsory bytes."""
        kernel = self.k * (self.c // self.groups) * self.taps
        x = self.n * self.c * self.depth.size * self.h * self.w
        y = self.n * self.k * self.depth.outputs * self.p * self.q
        macs = y * (self.c // self.groups) * self.taps
        if self.dtype in COMPONENTS:
            macs *= 2 if self.real else 4
        read = x + kernel + y - self.out_elements
        channels = self.c if self.result == "x" else self.k
        bias = channels * itemsize(self.out_dtype) if self.bias else 0
        return Cost(macs, 2 * macs, read * itemsize(self.dtype) + bias + self.out_bytes)

    def __str__(self) -> str:
        """Print the problem in one line."""
        x = f"x {format_shape(self.x_shape, array_axes(self.rank, self.layout))}"
        w = f"w {format_shape(self.w_shape, weight_axes(self.spatial))}"
        named = (("front", "back"), ("top", "bottom"), ("left", "right"))[3 - self.spatial :]
        pads = ", ".join(
            f"({before} {pad[0]}, {after} {pad[1]})"
            for (before, after), pad in zip(named, self.pads, strict=True)
        )
        parts = [f"{x} {self.dtype}", w, f"stride {self.strides}", f"pad ({pads}) {self.pad_mode}"]
        if self.result != "y":
            parts.insert(0, f"gradient of {self.result}")
        if any(step != 1 for step in self.dilations):
            parts.append(f"dilation {self.dilations}")
        if self.groups != 1:
            parts.append(f"groups {self.groups}")
        if self.bias:
            parts.append("bias")
        if self.activation:
            parts.append(self.activation)
        return ", ".join(parts)
