"""One convolution of arrays whose axes stand in any order: plain numbers, no arrays, no JAX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from ... import calls
from ...calls import Call
from ...dtypes import as_dtype
from ...geometry import Pair, Resolved, Shape, output_size
from ...options import Options
from ...sizes import Result, Spatial

#: Which dimension a batch of convolutions becomes part of: images, output channels or input
#: channels of each group, or groups.
Fold = Literal["N", "K", "C", "G"]
#: The two operands from which each result is computed.
OPERANDS: dict[Result, tuple[Result, Result]] = {"y": ("x", "w"), "x": ("y", "w"), "w": ("x", "y")}


@dataclass(frozen=True)
class Convolution:
    """The convolution that makes y of x and w, and where the axes of all three stand.

    Attributes
    ----------
    n, c, k, groups : int
        Images, input channels, output channels, groups.
    image, kernel, strides, dilations : tuple of int
        Along each axis of an image.
    pads : tuple of (int, int)
        (before, after); negative where pixels are cut.
    x, w, y : tuple of int
        Where N, C and the image's axes stand in x, K, C/groups and the kernel's in w, N, K and the
        image's in y.
    flip : bool
        Whether the kernel is turned by 180 degrees.
    """

    n: int
    c: int
    k: int
    groups: int
    image: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: tuple[Pair, ...]
    x: Shape
    w: Shape
    y: Shape
    flip: bool = False

    def axes(self, array: Result) -> Shape:
        """Where the logical axes of x, w or y stand."""
        return cast(Shape, getattr(self, array))

    def logical(self, array: Result) -> Shape:
        """Sizes of x, w or y along their logical axes."""
        if array == "x":
            return (self.n, self.c, *self.image)
        if array == "w":
            return (self.k, self.c // self.groups, *self.kernel)
        along = zip(self.image, self.kernel, self.strides, self.pads, self.dilations, strict=True)
        return (self.n, self.k, *(output_size(*axis) for axis in along))

    def shape(self, array: Result) -> Shape:
        """Shape of x, w or y as it is held."""
        sizes = dict(zip(self.axes(array), self.logical(array), strict=True))
        return tuple(sizes[axis] for axis in range(len(sizes)))

    def seen(self) -> tuple[slice, ...]:
        """What of an image negative pads leave."""
        return tuple(
            slice(max(-before, 0), size - max(-after, 0))
            for size, (before, after) in zip(self.image, self.pads, strict=True)
        )

    def is_zero(self) -> bool:
        """Whether there is nothing to add up: no pixels, no channels, or none that are seen."""
        sizes = (*self.logical("x"), *self.logical("w"), *self.logical("y"))
        return min(sizes) < 1 or any(part.stop <= part.start for part in self.seen())

    def view(self, array: Result, held: Any, result: Result) -> Any:
        """View an array along its logical axes, as the problem that computes `result` sees it."""
        view = held.transpose(self.axes(array))
        if array == "x" and result != "x":
            return view[(slice(None), slice(None), *self.seen())]
        if array == "w" and self.flip:
            return view[(slice(None), slice(None), *(slice(None, None, -1),) * len(self.kernel))]
        return view

    def folded(self, fold: Fold, batch: int) -> Convolution:
        """Return `batch` such convolutions as one."""
        n, c, k, g = self.n, self.c, self.k, self.groups
        if fold == "N":
            return replace(self, n=batch * n)
        if fold == "K":
            return replace(self, k=batch * k)
        if fold == "C":
            return replace(self, c=batch * c)
        return replace(self, c=batch * c, k=batch * k, groups=batch * g)

    def place(self, fold: Fold, array: Result) -> tuple[int, int]:
        """Return the axis of an array that a batch becomes part of, and the groups outside it."""
        if fold == "N":
            return self.axes(array)[0], 1
        if fold == "G":
            return self.axes(array)[0 if array == "w" else 1], 1
        within = array == "w" and fold == "C"  # channels of one group
        axis = 0 if array == "w" and fold == "K" else 1
        return self.axes(array)[axis], 1 if within else self.groups


@lru_cache(maxsize=1024)
def call_of(conv: Convolution, result: Result, dtype: Any, wanted: str, options: Options) -> Call:
    """Describe and choose what computes `result`, of dtype `wanted`, from operands of `dtype`."""
    last = conv.x[1] == len(conv.x) - 1
    layout = {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[len(conv.image)][last]
    image, pads = conv.image, conv.pads
    if result != "x":
        image = tuple(part.stop - part.start for part in conv.seen())
        pads = tuple((max(before, 0), max(after, 0)) for before, after in pads)
    x_shape = (conv.n, *image, conv.c) if last else (conv.n, conv.c, *image)
    described = calls.describe_any(
        x_shape, conv.logical("w"), dtype, dtype, conv.strides, Resolved(pads), conv.dilations,
        conv.groups, None, None, "constant", layout, wanted, cast(Spatial, len(image)), result,
        "conv_general_dilated",
    )  # fmt: skip
    return calls.call_for(described, options, "numpy")


def compute(conv: Convolution, result: Result, call: Call, a: Any, b: Any) -> Any:
    """Compute `result` from NumPy arrays as they are held."""
    first, second = OPERANDS[result]
    out = np.empty(conv.shape(result), as_dtype(call.promotion.result))
    if a.dtype.kind == "c":  # gradients conjugate one operand, which JAX's do not
        a, b = (a, b.conj()) if result == "x" else (a.conj(), b) if result == "w" else (a, b)
    call.lowered(
        conv.view(first, a, result), conv.view(second, b, result), None,
        conv.view(result, out, result),
    )  # fmt: skip
    return out


class View(NamedTuple):
    """Of an array as it is held, in elements."""

    offset: int
    strides: Shape


def views(conv: Convolution, result: Result) -> dict[Result, View]:
    """Return the logical views of x, w and y, as the problem that computes `result` sees them."""
    found = {}
    for array in OPERANDS:
        held = np.broadcast_to(np.uint8(0), conv.shape(array))
        strides = np.cumprod([1, *held.shape[:0:-1]])[::-1]
        view = conv.view(array, np.lib.stride_tricks.as_strided(held, strides=strides), result)
        offset = view.__array_interface__["data"][0] - held.__array_interface__["data"][0]
        found[array] = View(offset, view.strides)
    return found
