"""Transposed convolutions: the gradient of x as an operator of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import checks, geometry
from ..arguments import module_of
from ..calls import promotion_of
from ..errors import DTypeError, ShapeError
from ..geometry import Pair, Shape
from ..sizes import Spatial
from .naming import named, sizes_of
from .request import Common, Held, Operator, Request, conjugated, held, request

_NAMED = ("valid", "same", "same_lower")

_WORDS = """Transposed convolution: the gradient of {conv} with respect to its input.

    Every pixel of x adds a copy of the kernel, times its value, to y; copies lie `stride` apart.
    Along one axis ``y[h*stride + r*dilation - pad] += x[h] * w[r]``, summed over the channels of x.

    Parameters
    ----------
    x : array
        {x}, or without N.
    w : array
        (C, K/groups, ...): C the channels of x, K those of y, as in PyTorch and ONNX.
    stride, dilation : int or one int an axis, default 1
    pad : int, one int an axis or (before, after) for each axis, default 0
        Pixels cut off around y.
    output_padding : int or one int an axis, default 0
        Pixels added to y at the end, where more than one size of y has x as its convolution; less
        than stride or dilation.
    output_shape : sequence of int, optional
        Size of y along its axes, in the place of `output_padding` and `pad`, which are then chosen
        so that y has it, as in ONNX: an odd pixel is cut off at the end, or, with
        ``pad="same_lower"``, at the beginning.
    groups, bias, activation, flip, out, dtype, precision, backend, threads
        As in `{conv}`; bias (K,).
    layout : {{{layouts}}}, optional

    Returns
    -------
    array
        (N, K, ...), of size (H - 1)*stride - before - after + (R - 1)*dilation + output_padding + 1
        along each axis.

    Raises
    ------
    ShapeError, DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `{conv}`.

    Notes
    -----
    N*C*H*W*(K/groups)*R*S multiply-accumulates. One convolution for each phase of the stride; no
    zeros are inserted.
    """


_INPUT = """Gradient with respect to x of ``sum(gy * {conv}(x, w))``: a convolution of gy.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of x, {x}, or without N.
    w : array
        (C, K/groups, ...), as in `{conv}`.
    gy : array
        Gradient of the output, of the shape that `{conv}` returns.
    stride, pad, output_padding, output_shape, dilation, groups, flip, layout, dtype, precision, \
backend, threads
        As in `{conv}`.
    out : array, optional
        Receives the result, and is returned.

    Returns
    -------
    array
        Of shape `x_shape`.

    Raises
    ------
    ShapeError
        gy is not what `{conv}` returns for these shapes, or as `{conv}`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `{conv}`.
    """

_WEIGHT = """Gradient with respect to w of ``sum(gy * {conv}(x, w))``.

    Parameters
    ----------
    x : array
        {x}, or without N.
    w_shape : sequence of int
        Shape of w, (C, K/groups, ...).
    gy : array
        Gradient of the output, of the shape that `{conv}` returns.
    stride, pad, output_padding, output_shape, dilation, groups, flip, layout, dtype, precision, \
backend, threads
        As in `{conv}`.
    out : array, optional
        Receives the result, and is returned.

    Returns
    -------
    array
        Of shape `w_shape`.

    Raises
    ------
    ShapeError
        gy is not what `{conv}` returns for these shapes, or as `{conv}`.
    DTypeError, OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `{conv}`.
    """


def _transposed(spatial: Spatial) -> Any:
    name = f"conv_transpose{spatial}d"

    @Operator
    def conv_transpose(
        x: Any,
        w: Any,
        stride: Any = 1,
        pad: Any = 0,
        *,
        output_padding: Any = 0,
        output_shape: Any = None,
        dilation: Any = 1,
        groups: int = 1,
        bias: Any = None,
        activation: str | None = None,
        flip: bool = False,
        layout: str | None = None,
        out: Any = None,
        dtype: Any = None,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> Request:
        x, w = held("x", x, dtype), held("w", w, dtype)
        w = conjugated(w)  # the gradient that it is computed as conjugates w
        bias = None if bias is None else held("bias", bias, dtype)
        sizes = _Sizes(name, spatial, tuple(x.shape), tuple(w.shape), layout, groups)
        pads = sizes.resolve(stride, pad, dilation, output_padding, output_shape)
        common = Common(
            stride, pads, dilation, groups, "constant", sizes.layout, flip, out, dtype, precision,
            backend, threads,
        )  # fmt: skip
        with _naming(("x", x), ("w", w), dtype):
            return request(
                name, spatial, "x", x, w, sizes.y_shape, tuple(w.shape), common, bias, activation
            )

    return named(conv_transpose, name, _WORDS, spatial)


def _input_grad(spatial: Spatial) -> Any:
    name = f"conv_transpose{spatial}d_input_grad"

    @Operator
    def input_grad(
        x_shape: Any,
        w: Any,
        gy: Any,
        stride: Any = 1,
        pad: Any = 0,
        *,
        output_padding: Any = 0,
        output_shape: Any = None,
        dilation: Any = 1,
        groups: int = 1,
        flip: bool = False,
        layout: str | None = None,
        out: Any = None,
        dtype: Any = None,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> Request:
        w, gy = held("w", w, dtype), held("gy", gy, dtype)
        image = sizes_of("x_shape", x_shape)
        sizes = _Sizes(name, spatial, image, tuple(w.shape), layout, groups)
        pads = sizes.resolve(stride, pad, dilation, output_padding, output_shape)
        gy, pads = sizes.seen(gy, pads)
        common = Common(
            stride, pads, dilation, groups, "constant", sizes.layout, flip, out, dtype, precision,
            backend, threads,
        )  # fmt: skip
        w = conjugated(w)
        with _naming(("gy", gy), ("w", w), dtype):
            return request(name, spatial, "y", gy, w, tuple(gy.shape), tuple(w.shape), common)

    return named(input_grad, name, _INPUT, spatial, "conv_transpose")


def _weight_grad(spatial: Spatial) -> Any:
    name = f"conv_transpose{spatial}d_weight_grad"

    @Operator
    def weight_grad(
        x: Any,
        w_shape: Any,
        gy: Any,
        stride: Any = 1,
        pad: Any = 0,
        *,
        output_padding: Any = 0,
        output_shape: Any = None,
        dilation: Any = 1,
        groups: int = 1,
        flip: bool = False,
        layout: str | None = None,
        out: Any = None,
        dtype: Any = None,
        precision: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> Request:
        x, gy = held("x", x, dtype), held("gy", gy, dtype)
        kernel = sizes_of("w_shape", w_shape)
        sizes = _Sizes(name, spatial, tuple(x.shape), kernel, layout, groups)
        pads = sizes.resolve(stride, pad, dilation, output_padding, output_shape)
        gy, pads = sizes.seen(gy, pads)
        common = Common(
            stride, pads, dilation, groups, "constant", sizes.layout, flip, out, dtype, precision,
            backend, threads,
        )  # fmt: skip
        gy, x = conjugated(gy), conjugated(x)  # it conjugates the first one, and is to do the other
        with _naming(("gy", gy), ("x", x), dtype):
            return request(name, spatial, "w", gy, x, tuple(gy.shape), kernel, common)

    return named(weight_grad, name, _WEIGHT, spatial, "conv_transpose")


@contextmanager
def _naming(first: tuple[str, Any], second: tuple[str, Any], dtype: Any) -> Iterator[None]:
    """Call operands by the caller's names where their dtypes are refused."""
    try:
        yield
    except DTypeError:
        names = first[0], second[0]
        promotion_of(first[1].dtype, second[1].dtype, dtype, names)
        raise


class _Sizes:
    """Sizes of a transposed convolution: what y has to be for x to be its convolution."""

    def __init__(
        self, name: str, spatial: Spatial, x: Shape, w: Shape, layout: str | None, groups: Any
    ) -> None:
        layout = checks.layouts(spatial)[0] if layout is None else layout
        geometry.check_choice("layout", layout, checks.layouts(spatial))
        self.spatial, self.layout = spatial, layout
        self.groups = geometry.integer("groups", groups, minimum=1)
        image, kernel = (
            ", ".join(checks.IMAGE_AXES[spatial]),
            ", ".join(checks.KERNEL_AXES[spatial]),
        )
        if len(x) not in (spatial + 1, spatial + 2) or len(w) != spatial + 2:
            raise ShapeError(
                f"{name} takes x (N, C, {image}) or (C, {image}) with w (C, K/groups, {kernel}); "
                f"got x {x} and w {w}"
            )
        order = checks.LAYOUTS[layout]
        whole = x if len(x) == spatial + 2 else (1, *x)
        _, c, *self.image = (whole[axis] for axis in order)
        self.x, self.kernel = x, w[2:]
        axes = checks.array_axes(len(x), layout)
        self.shapes = (
            f"x {checks.format_shape(x, axes)}, "
            f"w {checks.format_shape(w, ('C', 'K/groups', *checks.KERNEL_AXES[spatial]))}"
        )
        if c != w[0]:
            raise ShapeError(
                f"w expects {w[0]} input channels, x has {c}: w of {name} is (C, K/groups, "
                f"{kernel}); check layout= (got {self.shapes})"
            )
        if c % self.groups:
            raise ShapeError(f"groups={self.groups} does not divide C={c} (got {self.shapes})")
        for axis, size in zip(checks.IMAGE_AXES[spatial], self.image, strict=True):
            if size == 0:
                raise ShapeError(f"x has no pixels along {axis}: {self.shapes}")
        self.channels = w[1] * self.groups
        self.y_shape: Shape = ()
        self.sizes: Shape = ()

    def resolve(
        self, stride: Any, pad: Any, dilation: Any, output_padding: Any, output_shape: Any
    ) -> geometry.Resolved:
        """Find the size of y, and the pads of the convolution that takes it to x."""
        axes = geometry.AXES[self.spatial]
        strides = geometry.sizes("stride", stride, 1, axes)
        dilations = geometry.sizes("dilation", dilation, 1, axes)
        extra = geometry.sizes("output_padding", output_padding, 0, axes)
        full = [
            (size - 1) * step + (taps - 1) * spread + 1
            for size, step, taps, spread in zip(
                self.image, strides, self.kernel, dilations, strict=True
            )
        ]
        for added, step, spread in zip(extra, strides, dilations, strict=True):
            if added >= max(step, spread):
                raise ShapeError(
                    f"output_padding={output_padding!r} must be smaller than stride "
                    f"{strides} or dilation {dilations} along each axis ({self.shapes})"
                )
        pads: tuple[Pair, ...]
        if output_shape is not None:
            sizes = geometry.sizes("output_shape", output_shape, 1, axes)
            if isinstance(pad, str):
                geometry.check_choice("pad", pad, _NAMED)
            elif np.any(pad):
                raise ShapeError(
                    f"output_shape={output_shape!r} says what is cut off; leave pad={pad!r} out, "
                    "or pass pad='same_lower' to cut an odd pixel off at the beginning"
                )
            lower = pad == "same_lower"
            pads = tuple(
                _cut(whole + added - size, lower)
                for whole, added, size in zip(full, extra, sizes, strict=True)
            )
        elif isinstance(pad, str):
            pads, sizes = self._named_pads(pad, full, extra, strides)
        else:
            pads = geometry.resolve_pad(pad, self.image, self.kernel, strides, dilations)
            sizes = tuple(
                whole + added - sum(cut)
                for whole, added, cut in zip(full, extra, pads, strict=True)
            )
        self._check(sizes, full, pads)
        # what the convolution of y must not see, so that its output is x and no more
        ends = geometry.Resolved(
            (cut[0], whole - size - cut[0])
            for whole, size, cut in zip(full, sizes, pads, strict=True)
        )
        self.sizes = sizes
        whole_shape = {"N": self._batch(), "C": self.channels}
        whole_shape.update(zip(checks.IMAGE_AXES[self.spatial], sizes, strict=True))
        self.y_shape = tuple(
            whole_shape[axis] for axis in checks.array_axes(len(self.x), self.layout)
        )
        return ends

    def seen(self, gy: Any, pads: geometry.Resolved) -> tuple[Any, geometry.Resolved]:
        """Return the part of gy whose convolution is the gradient, and the pads it takes."""
        if tuple(gy.shape) != self.y_shape:
            axes = checks.array_axes(len(self.x), self.layout)
            names = [{"C": "K"}.get(axis, axis) for axis in axes]
            raise ShapeError(
                f"gy has shape {tuple(gy.shape)}, the output is "
                f"{checks.format_shape(self.y_shape, names)} for {self.shapes}"
            )
        if min(min(pad) for pad in pads) >= 0:
            return gy, pads
        cuts, left, unseen = {}, [], False
        for axis, size, (before, after) in zip(
            checks.IMAGE_AXES[self.spatial], self.sizes, pads, strict=True
        ):
            first, end = max(-before, 0), size - max(-after, 0)
            cuts[axis] = slice(first, end)
            left.append((max(before, 0), max(after, 0)))
            if first >= end:  # y begins behind all copies of the kernel: one pixel, of zero
                cuts[axis], unseen = slice(0, 1), True
                left[-1] = (before + size + after - 1, 0)
        axes = checks.array_axes(len(self.x), self.layout)
        part = gy[tuple(cuts.get(axis, slice(None)) for axis in axes)]
        if unseen and not isinstance(part, Held):
            part = module_of(part).zeros(part.shape, dtype=part.dtype)
        return part, geometry.Resolved(left)

    def _batch(self) -> int:
        return self.x[0] if len(self.x) == self.spatial + 2 else 1

    def _named_pads(
        self, pad: str, full: list[int], extra: Shape, strides: Shape
    ) -> tuple[tuple[Pair, ...], Shape]:
        """``same``: y is `stride` times as large as x; ``full`` has no meaning here."""
        geometry.check_choice("pad", pad, _NAMED)
        if pad == "valid":
            return ((0, 0),) * self.spatial, tuple(
                whole + added for whole, added in zip(full, extra, strict=True)
            )
        sizes = tuple(size * step for size, step in zip(self.image, strides, strict=True))
        lower = pad == "same_lower"
        return tuple(
            _cut(whole + added - size, lower)
            for whole, added, size in zip(full, extra, sizes, strict=True)
        ), sizes

    def _check(self, sizes: Shape, full: list[int], pads: tuple[Pair, ...]) -> None:
        for axis, size, whole, cut in zip(
            checks.IMAGE_AXES[self.spatial], sizes, full, pads, strict=True
        ):
            if size < 1:
                raise ShapeError(
                    f"the output would be empty along {axis}: the copies of the kernel cover "
                    f"{whole} pixels and pad cuts off {sum(cut)}: {self.shapes}; use less pad"
                )


def _cut(total: int, lower: bool) -> Pair:
    """Share out what is cut off, or added where it is negative."""
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


conv_transpose1d = _transposed(1)
conv_transpose2d = _transposed(2)
conv_transpose3d = _transposed(3)
conv_transpose1d_input_grad = _input_grad(1)
conv_transpose2d_input_grad = _input_grad(2)
conv_transpose3d_input_grad = _input_grad(3)
conv_transpose1d_weight_grad = _weight_grad(1)
conv_transpose2d_weight_grad = _weight_grad(2)
conv_transpose3d_weight_grad = _weight_grad(3)
