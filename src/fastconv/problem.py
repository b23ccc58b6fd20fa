"""The problem, described once: plain integers and names, no arrays, no backends.

Dimensions, everywhere in fastconv:

====== =================================  ====== ======================
``n``  images in the batch                ``k``  output channels
``c``  input channels                     ``r``  kernel height
``h``  input height                       ``s``  kernel width
``w``  input width                        ``p``  output height
``g``  groups                             ``q``  output width
====== =================================  ====== ======================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from . import geometry
from .activations import ACTIVATIONS
from .borders import PAD_MODES
from .dtypes import Promotion, accumulator, is_float, itemsize
from .errors import DTypeError, ShapeError, SizeError
from .geometry import Pads, Pair

Rank = Literal[2, 3, 4]

#: Sizes, strides, pads and dilations stay below this, so that 64-bit index arithmetic cannot wrap.
INDEX_LIMIT = 2**61

LAYOUTS = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2)}  # position of N, C, H, W in the array
WEIGHT_AXES = ("K", "C/groups", "R", "S")


def format_shape(shape: Sequence[int], axes: Sequence[str]) -> str:
    """Print a shape with its axis names: ``(N=1, C=3, H=8, W=8)``."""
    return "(" + ", ".join(f"{a}={n}" for a, n in zip(axes, shape, strict=True)) + ")"


def array_axes(rank: int, layout: str) -> tuple[str, ...]:
    """Axis names of an image array of `rank` 2, 3 or 4: ``('N', 'C', 'H', 'W')`` and so on."""
    return ("H", "W") if rank == 2 else tuple(layout[4 - rank :])


@dataclass(frozen=True)
class Cost:
    """What a convolution costs, counted on the definition (zeros of the border included).

    Attributes
    ----------
    macs : int
        Multiply-accumulates.
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
class ConvProblem:
    """One 2-D convolution, described by plain integers and names; hashable and picklable.

    Build it with `ConvProblem.describe`, which checks everything that can be wrong with a call.

    Attributes
    ----------
    n, c, h, w : int
        Images, input channels, input height and width.
    k, r, s : int
        Output channels, kernel height and width.
    stride, dilation : (int, int)
        Vertical, horizontal.
    pad : ((int, int), (int, int))
        ((top, bottom), (left, right)), never negative.
    groups : int
        Divides c and k.
    pad_mode : str
        ``constant`` (zeros), ``edge``, ``reflect``, ``symmetric`` or ``wrap``, as in `numpy.pad`.
    layout : str
        ``NCHW`` or ``NHWC``: how the caller's x and y are ordered.
    dtype, out_dtype : str
        What x and w are read as, and what y is computed as.
    bias : bool
        Whether a bias (K,) is added.
    activation : str or None
        Applied after the bias.
    rank : int
        4 for batched arrays, 3 for one image with channels, 2 for a plain image.
    """

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: Pair = (1, 1)
    pad: Pads = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    pad_mode: str = "constant"
    layout: str = "NCHW"
    dtype: str = "float32"
    out_dtype: str = "float32"
    bias: bool = False
    activation: str | None = None
    rank: Rank = 4

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
        layout: str = "NCHW",
        promotion: Promotion = Promotion("float32", "float32", "float32"),  # noqa: B008
        bias_shape: Sequence[int] | None = None,
        activation: str | None = None,
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
        geometry.check_choice("layout", layout, tuple(LAYOUTS))
        geometry.check_choice("pad_mode", pad_mode, PAD_MODES)
        if activation is not None:
            geometry.check_choice("activation", activation, tuple(ACTIVATIONS))
        sh, sw = geometry.pair("stride", stride, minimum=1)
        dh, dw = geometry.pair("dilation", dilation, minimum=1)
        g = geometry.integer("groups", groups, minimum=1)
        rank, n, c, h, w = _image_sizes(x_shape, w_shape, layout)
        k, cg, r, s = (1, 1, *w_shape) if rank == 2 else w_shape
        shapes = f"x {format_shape(x_shape, array_axes(rank, layout))}, w " + format_shape(
            w_shape, ("R", "S") if rank == 2 else WEIGHT_AXES
        )
        _check_channels(c, k, cg, g, x_shape, layout, rank, shapes)
        for axis, size in (("R", r), ("S", s)):
            if size == 0:
                raise ShapeError(f"the kernel has no elements along {axis}: {shapes}")
        for axis, size in (("H", h), ("W", w)):
            if size == 0:
                raise ShapeError(f"x has no pixels along {axis}: {shapes}")
        pads = geometry.resolve_pad(pad, (h, w), (r, s), (sh, sw), (dh, dw))
        _check_index_range((h, w), (r, s), (sh, sw), pads, (dh, dw), shapes)
        if bias_shape is not None and tuple(bias_shape) != (k,):
            raise ShapeError(f"bias has shape {tuple(bias_shape)}, expected (K={k},) for {shapes}")
        _check_activation_dtype(activation, promotion.computed)
        problem = cls(
            n, c, h, w, k, r, s, (sh, sw), pads, (dh, dw), g, pad_mode, layout,
            promotion.operand, promotion.computed, bias_shape is not None, activation, rank,
        )  # fmt: skip
        for axis, size, extent, kernel in (
            ("height P", problem.p, h + sum(pads[0]), (r - 1) * dh + 1),
            ("width Q", problem.q, w + sum(pads[1]), (s - 1) * dw + 1),
        ):
            if size < 1:
                raise ShapeError(
                    f"the output {axis} would be empty: the kernel covers {kernel} pixels "
                    f"(dilation included), the padded input has {extent}: {shapes}; "
                    f"use a smaller kernel or dilation, or pad='same'"
                )
        problem._check_bytes()
        return problem

    def with_batch(self, n: int) -> ConvProblem:
        """Return the same problem for `n` images; raises `SizeError` as `describe` does."""
        problem = replace(self, n=n)
        problem._check_bytes()
        return problem

    def _check_bytes(self) -> None:
        if self.out_bytes > np.iinfo(np.intp).max:
            x = format_shape(self.x_shape, array_axes(self.rank, self.layout))
            w = (
                format_shape((self.r, self.s), ("R", "S"))
                if self.rank == 2
                else format_shape(self.w_shape, WEIGHT_AXES)
            )
            raise SizeError(
                f"the output {format_shape(self.out_shape, self.out_axes)} of x {x}, w {w} "
                f"needs {self.out_bytes} bytes, more than an address space holds; use less pad"
            )

    @cached_property
    def p(self) -> int:
        """Output height."""
        return geometry.output_size(self.h, self.r, self.stride[0], self.pad[0], self.dilation[0])

    @cached_property
    def q(self) -> int:
        """Output width."""
        return geometry.output_size(self.w, self.s, self.stride[1], self.pad[1], self.dilation[1])

    @property
    def out_axes(self) -> tuple[str, ...]:
        """Axis names of the result as the caller receives it."""
        names = {"N": "N", "C": "K", "H": "P", "W": "Q"}
        return tuple(names[a] for a in array_axes(self.rank, self.layout))

    @cached_property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the result as the caller receives it."""
        sizes = {"N": self.n, "K": self.k, "P": self.p, "Q": self.q}
        return tuple(sizes[a] for a in self.out_axes)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x as the caller holds it."""
        sizes = {"N": self.n, "C": self.c, "H": self.h, "W": self.w}
        return tuple(sizes[a] for a in array_axes(self.rank, self.layout))

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """Shape of w, always four axes."""
        return (self.k, self.c // self.groups, self.r, self.s)

    @property
    def accumulator(self) -> str:
        """Dtype that every backend accumulates in (the reference uses a wider one)."""
        return accumulator(self.out_dtype)

    @property
    def reduction(self) -> int:
        """Products summed for one output element: (C/groups) * R * S, the n of the error bounds."""
        return self.c // self.groups * self.r * self.s

    @property
    def out_bytes(self) -> int:
        """Bytes of the result."""
        return self.n * self.k * self.p * self.q * itemsize(self.out_dtype)

    @cached_property
    def cost(self) -> Cost:
        """Multiply-accumulates, flops and compulsory bytes."""
        size = itemsize(self.dtype)
        macs = self.n * self.k * self.p * self.q * self.reduction
        read = self.n * self.c * self.h * self.w * size + self.k * self.reduction * size
        bias = self.k * itemsize(self.out_dtype) if self.bias else 0
        return Cost(macs, 2 * macs, read + bias + self.out_bytes)

    def __str__(self) -> str:
        """Print the problem in one line."""
        x = format_shape(self.x_shape, array_axes(self.rank, self.layout))
        (top, bottom), (left, right) = self.pad
        parts = [
            f"x {x} {self.dtype}",
            f"w {format_shape(self.w_shape, WEIGHT_AXES)}",
            f"stride {self.stride}",
            f"pad ((top {top}, bottom {bottom}), (left {left}, right {right})) {self.pad_mode}",
        ]
        if self.dilation != (1, 1):
            parts.append(f"dilation {self.dilation}")
        if self.groups != 1:
            parts.append(f"groups {self.groups}")
        if self.bias:
            parts.append("bias")
        if self.activation:
            parts.append(self.activation)
        return ", ".join(parts)


def _image_sizes(
    x_shape: Sequence[int], w_shape: Sequence[int], layout: str
) -> tuple[Rank, int, int, int, int]:
    """Rank of the call and N, C, H, W of x; raises when the ranks of x and w do not belong."""
    x_rank, w_rank = len(x_shape), len(w_shape)
    if (x_rank, w_rank) not in ((2, 2), (3, 4), (4, 4)):
        hint = ""
        if w_rank == 2 and x_rank in (3, 4):
            hint = "; to filter every channel alike, use w[None, None] with one-channel images"
        elif x_rank == 2 and w_rank == 4:
            hint = "; add the channel axis: x[None] (or x[..., None] with layout='NHWC')"
        elif x_rank == 5 or w_rank == 5:
            hint = "; conv2d convolves images, not volumes"
        raise ShapeError(
            "conv2d takes x (N, C, H, W) or (C, H, W) with w (K, C/groups, R, S), or x (H, W) "
            f"with w (R, S); got x {tuple(x_shape)} and w {tuple(w_shape)}{hint}"
        )
    if x_rank == 2:
        return 2, 1, 1, x_shape[0], x_shape[1]
    full = (1, *x_shape) if x_rank == 3 else tuple(x_shape)
    n, c, h, w = (full[axis] for axis in LAYOUTS[layout])
    return (3 if x_rank == 3 else 4), n, c, h, w


def _check_channels(
    c: int, k: int, cg: int, g: int, x_shape: Sequence[int], layout: str, rank: int, shapes: str
) -> None:
    """Channels and groups must fit; the message suggests what would."""
    if c == 0 or cg == 0:
        raise ShapeError(f"{'x' if c == 0 else 'w'} has zero input channels: {shapes}")
    if c % g == 0 and k % g == 0 and c // g == cg:
        return
    fixes = []
    if c % cg == 0 and k % (c // cg) == 0 and c // cg != g:
        fixes.append(f"groups={c // cg}")
    other = "NHWC" if layout == "NCHW" else "NCHW"
    if rank != 2 and x_shape[-1 if layout == "NCHW" else -3] == cg * g:
        fixes.append(f"layout='{other}'")
    suggestion = f": {', or '.join(fixes)}?" if fixes else ""
    if c // g == cg and k % g:
        problem = f"groups={g} does not divide the {k} output channels of w"
    else:
        plural = "s" if cg != 1 else ""
        problem = f"w expects {cg} input channel{plural} per group, x has {c}"
        if g != 1:
            problem += f" in {g} groups"
            suggestion = suggestion or (": groups must divide C" if c % g else "")
        suggestion = suggestion or "; check groups= and layout="
    raise ShapeError(f"{problem}{suggestion} (got {shapes}, groups={g})")


def _check_index_range(
    image: Pair, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair, shapes: str
) -> None:
    """Everything index arithmetic touches must stay far below 2**63."""
    for axis, (size, taps, step, pad, spread) in enumerate(
        zip(image, kernel, stride, pads, dilation, strict=True)
    ):
        numbers = (size + sum(pad), step, (taps - 1) * spread + 1)
        if max(numbers) >= INDEX_LIMIT:
            name = "height" if axis == 0 else "width"
            raise SizeError(
                f"padded {name} {numbers[0]}, stride {step} and dilated kernel {numbers[2]} "
                f"must stay below 2**61: {shapes}, pad {pads}"
            )


def _check_activation_dtype(activation: str | None, computed: str) -> None:
    if activation is None or is_float(computed) or ACTIVATIONS[activation].integers:
        return
    raise DTypeError(
        f"activation={activation!r} has fractions, the result is {computed}; "
        "ask for dtype='float32', or use 'relu' or 'relu6'"
    )
