"""The sizes of a convolution and of its gradients: what follows from them, and nothing else.

Dimensions, everywhere in fastconv:

====== =================================  ====== ======================
``n``  images in the batch                ``k``  output channels
``c``  input channels                     ``r``  kernel height
``h``  input height                       ``s``  kernel width
``w``  input width                        ``p``  output height
``g``  groups                             ``q``  output width
====== =================================  ====== ======================

Volumes add the depth of the input ``d``, of the kernel ``t`` and of the output ``o``. Signals of
one dimension are images of height 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Self, TypeVar

from . import checks, geometry
from .borders import most_copies
from .checks import array_axes, weight_axes
from .dtypes import accumulator, itemsize
from .geometry import Pads, Pair, Shape

T = TypeVar("T")
Spatial = Literal[1, 2, 3]
#: Which of the three arrays of a convolution a problem computes from the other two: y from x and
#: w, the gradient of x from w and that of y, the gradient of w from x and that of y.
Result = Literal["y", "x", "w"]


class Depth(NamedTuple):
    """The depth axis of a volume: flat for anything else."""

    size: int = 1
    taps: int = 1
    stride: int = 1
    pad: Pair = (0, 0)
    dilation: int = 1

    @property
    def outputs(self) -> int:
        """Planes of the result."""
        return geometry.output_size(self.size, self.taps, self.stride, self.pad, self.dilation)


FLAT = Depth()


class Whole(NamedTuple):
    """Of an image that blocks are cut from (`fastconv.tiling`): its height, width and border."""

    h: int
    w: int
    pad: Pads


@dataclass(frozen=True)
class ConvSizes:
    """One convolution, or one of its gradients, by plain integers and names.

    Attributes
    ----------
    n, c, h, w : int
        Images, input channels, input height and width.
    k, r, s : int
        Output channels, kernel height and width.
    stride, dilation : (int, int)
        Vertical, horizontal.
    pad : ((int, int), (int, int))
        ((top, bottom), (left, right)).
    groups : int
        Divides c and k.
    pad_mode : str
        ``constant`` (zeros), ``edge``, ``reflect``, ``symmetric`` or ``wrap``, as in `numpy.pad`.
    layout : str
        ``NCHW`` or ``NHWC``: how the caller's x and y are ordered; ``NCL``, ``NLC`` for signals,
        ``NCDHW``, ``NDHWC`` for volumes.
    dtype, out_dtype : str
        What the operands are read as, and what the result is computed as.
    bias : bool
        Whether a bias is added, one element for each channel of the result.
    activation : str or None
        Applied after the bias.
    rank : int
        Axes of the caller's images: with batch and channels, those of one image (one less), or
        those of one channel of it (two less).
    depth : Depth
        The depth axis of a volume.
    result : {"y", "x", "w"}
        Which array is computed from the other two, all described by the sizes of the convolution
        that makes y of x and w.
    real : {"", "a", "b"}
        Where `dtype` is complex, the operand that is of real numbers: the first or the second one.
    whole : Whole or None
        Of a block, the image that it is cut from. What decides the order of sums looks at the
        image (`chosen_as`), so that a block has its bits.
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
    rank: int = 4
    depth: Depth = FLAT
    result: Result = "y"
    real: str = ""
    whole: Whole | None = None

    @cached_property
    def chosen_as(self) -> Self:
        """The convolution of the whole image where this is one of a block."""
        if self.whole is None:
            return self
        return replace(self, h=self.whole.h, w=self.whole.w, pad=self.whole.pad, whole=None)

    @cached_property
    def spatial(self) -> int:
        """Dimensions of an image: 1, 2 or 3."""
        return len(self.layout) - 2

    @cached_property
    def channels_last(self) -> bool:
        """Whether the channels of a pixel are neighbours in the caller's images."""
        return self.layout.endswith("C") and self.rank != self.spatial

    def _along(self, depth: T, others: tuple[T, T]) -> tuple[T, ...]:
        """What belongs to the image's axes, of what belongs to all three."""
        return (depth, *others)[3 - self.spatial :]

    @property
    def strides(self) -> Shape:
        """Stride along each axis of the image."""
        return self._along(self.depth.stride, self.stride)

    @property
    def dilations(self) -> Shape:
        """Dilation along each axis of the image."""
        return self._along(self.depth.dilation, self.dilation)

    @property
    def pads(self) -> tuple[Pair, ...]:
        """(before, after) along each axis of the image."""
        return self._along(self.depth.pad, self.pad)

    @cached_property
    def p(self) -> int:
        """Output height."""
        return geometry.output_size(self.h, self.r, self.stride[0], self.pad[0], self.dilation[0])

    @cached_property
    def q(self) -> int:
        """Output width."""
        return geometry.output_size(self.w, self.s, self.stride[1], self.pad[1], self.dilation[1])

    @property
    def x_image(self) -> Shape:
        """Sizes of an image along its axes."""
        return self._along(self.depth.size, (self.h, self.w))

    @property
    def kernel(self) -> Shape:
        """Sizes of the kernel along its axes."""
        return self._along(self.depth.taps, (self.r, self.s))

    @property
    def y_image(self) -> Shape:
        """Sizes of the convolution's output along its axes."""
        return self._along(self.depth.outputs, (self.p, self.q))

    def held(self, channels: int, image: Shape) -> Shape:
        """Shape of an array of n images as the caller holds it."""
        names = checks.IMAGE_AXES[self.spatial]
        extent = {"N": self.n, "C": channels, **dict(zip(names, image, strict=True))}
        return tuple(extent[a] for a in array_axes(self.rank, self.layout))

    @cached_property
    def x_shape(self) -> Shape:
        """Shape of x as the caller holds it."""
        return self.held(self.c, self.x_image)

    @cached_property
    def y_shape(self) -> Shape:
        """Shape of the convolution's output as the caller holds it."""
        return self.held(self.k, self.y_image)

    @cached_property
    def w_shape(self) -> Shape:
        """Shape of w, channels always among it."""
        return (self.k, self.c // self.groups, *self.kernel)

    @property
    def out_axes(self) -> tuple[str, ...]:
        """Axis names of the result as the caller receives it."""
        axes = array_axes(self.rank, self.layout)
        if self.result == "x":
            return axes
        if self.result == "w":
            return (
                weight_axes(self.spatial)[-self.rank :]
                if self.rank == self.spatial
                else (weight_axes(self.spatial))
            )
        names = {"N": "N", "C": "K"}
        extents = zip(
            checks.IMAGE_AXES[self.spatial], checks.RESULT_AXES[self.spatial], strict=True
        )
        names.update(extents)
        return tuple(names[a] for a in axes)

    @cached_property
    def out_shape(self) -> Shape:
        """Shape of the result as the caller receives it."""
        if self.result == "x":
            return self.x_shape
        if self.result == "w":
            return self.w_shape[2:] if self.rank == self.spatial else self.w_shape
        return self.y_shape

    @property
    def accumulator(self) -> str:
        """Dtype that every backend accumulates in (the reference uses a wider one)."""
        return accumulator(self.out_dtype)

    @property
    def taps(self) -> int:
        """Elements of the kernel along its axes: T * R * S."""
        return self.depth.taps * self.r * self.s

    @property
    def reduction(self) -> int:
        """Most products summed for one element of the result: the n of the error bounds.

        (C/groups) * R * S for y, N * P * Q for the gradient of w, (K/groups) * R * S for that of x,
        times the copies of a pixel that the border may hold.
        """
        if self.result == "w":
            return self.n * self.depth.outputs * self.p * self.q
        if self.result == "y":
            return self.c // self.groups * self.taps
        copies = (
            most_copies(size, pad, self.pad_mode)
            for size, pad in zip(self.x_image, self.pads, strict=True)
        )
        return self.k // self.groups * self.taps * math.prod(copies)

    @property
    def out_elements(self) -> int:
        """Elements of the result."""
        if self.result == "w":
            return self.k * (self.c // self.groups) * self.taps
        if self.result == "x":
            return self.n * self.c * self.depth.size * self.h * self.w
        return self.n * self.k * self.depth.outputs * self.p * self.q

    @property
    def out_bytes(self) -> int:
        """Bytes of the result."""
        return self.out_elements * itemsize(self.out_dtype)
