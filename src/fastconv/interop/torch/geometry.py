"""What a call means, in the terms of PyTorch: its convolution of batches, and the size of y.

Shapes may be those of tensors that are traced, whose sizes are symbols.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from .checks import (
    ConvolutionError,
    Sizes,
    check_dtypes,
    check_numbers,
    check_ranks,
    check_shapes,
    expanded,
    integer,
)


class Geometry(NamedTuple):
    """A convolution of batches, but for its arrays.

    Attributes
    ----------
    stride, dilation, output_padding : tuple of int
        One an axis.
    padding : tuple of int
        Two an axis, before and after.
    y_shape : tuple of int
    options : dict
        The same arguments in the shortest form that fastconv's own functions take; empty where
        sizes are symbols.
    """

    spatial: int
    transposed: bool
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    output_padding: Sizes
    groups: int
    y_shape: Sizes
    options: dict[str, Any]

    @property
    def attributes(self) -> tuple[Sizes, Sizes, Sizes, bool, Sizes, int]:
        """The arguments of the operators after their tensors."""
        return (
            self.stride, self.padding, self.dilation, self.transposed, self.output_padding,
            self.groups,
        )  # fmt: skip


def geometry(
    x: Sizes,
    w: Sizes,
    bias: Sizes | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Geometry:
    """Check a convolution of batches and describe it.

    `padding` has one number an axis, or two: before and after.
    """
    check_ranks(x, w)
    spatial = len(w) - 2
    stride = expanded("stride", stride, spatial)
    dilation = expanded("dilation", dilation, spatial)
    output_padding = expanded("output_padding", output_padding, spatial)
    if len(padding) != 2 * spatial:
        padding = tuple(pad for pad in expanded("padding", padding, spatial) for _ in range(2))
    check_numbers(stride, padding, dilation, output_padding, groups)
    check_shapes(x, w, bias, transposed, groups)
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    reach = [(taps - 1) * spread + 1 for taps, spread in zip(w[2:], dilation, strict=True)]
    if transposed:
        sizes = [
            (size - 1) * step + span - sum(pad) + extra
            for size, step, span, pad, extra in zip(
                x[2:], stride, reach, pairs, output_padding, strict=True
            )
        ]
        if min(sizes) < 1:
            raise ConvolutionError(
                f"Given input size per channel: {list(x[2:])}. Calculated output size per channel: "
                f"{sizes}. Output size is too small"
            )
    else:
        whole = [size + sum(pad) for size, pad in zip(x[2:], pairs, strict=True)]
        if any(size < span for size, span in zip(whole, reach, strict=True)):
            raise ConvolutionError(
                f"Calculated padded input size per channel: ({' x '.join(map(str, whole))}). "
                f"Kernel size: ({' x '.join(map(str, reach))}). Kernel size can't be greater than "
                "actual input size"
            )
        sizes = [
            (size - span) // step + 1 for size, span, step in zip(whole, reach, stride, strict=True)
        ]
    y_shape = (x[0], w[1] * groups if transposed else w[0], *sizes)
    return Geometry(
        spatial, transposed, stride, padding, dilation, output_padding, groups, y_shape, {}
    )


def _with_options(g: Geometry) -> Geometry:
    """Add the arguments of fastconv that are not its defaults, as few numbers as say them."""
    pairs = tuple(zip(g.padding[::2], g.padding[1::2], strict=True))
    even = all(before == after for before, after in pairs)
    found: dict[str, Any] = {
        "stride": _shortest(g.stride),
        "pad": _shortest(g.padding[::2]) if even else pairs,
        "dilation": _shortest(g.dilation),
        "groups": g.groups,
    }
    if g.transposed:
        found["output_padding"] = _shortest(g.output_padding)
    usual = {"stride": 1, "dilation": 1, "groups": 1, "pad": 0, "output_padding": 0}
    options = {name: value for name, value in found.items() if value != usual[name]}
    return g._replace(options=options)


def _shortest(sizes: Sizes) -> int | Sizes:
    """One number where all are equal."""
    return sizes[0] if len(set(sizes)) == 1 else sizes


class Prepared(NamedTuple):
    """A call of a function: its convolution of batches; whether x is one, or a single image."""

    geometry: Geometry
    batched: bool


def prepare(
    spatial: int,
    transposed: bool,
    x: Sizes,
    w: Sizes,
    bias: Sizes | None,
    dtypes: tuple[Any, Any, Any],
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    groups: int,
) -> Prepared:
    """Check a call of `conv2d` or its like, and describe it."""
    name = f"conv_transpose{spatial}d" if transposed else f"conv{spatial}d"
    if len(x) not in (spatial + 1, spatial + 2):
        raise ConvolutionError(
            f"Expected {spatial + 1}D (unbatched) or {spatial + 2}D (batched) input to {name}, but "
            f"got input of size: {list(x)}"
        )
    check_dtypes(*dtypes)
    groups = integer("groups", groups)
    batched = len(x) == spatial + 2
    whole = tuple(x) if batched else (1, *x)
    check_ranks(whole, w)
    stride = expanded("stride", stride, spatial)
    dilation = expanded("dilation", dilation, spatial)
    if isinstance(padding, str) and transposed:
        raise TypeError(f"padding of {name} must be made of integers, got {padding!r}")
    if isinstance(padding, str):
        padding = _named(padding, w[2:], stride, dilation)
    else:
        padding = tuple(p for p in expanded("padding", padding, spatial) for _ in range(2))
    found = geometry(whole, tuple(w), bias, stride, padding, dilation, transposed,
                     output_padding, groups)  # fmt: skip
    return Prepared(found, batched)


def _named(padding: str, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Sizes:
    """``same``, an odd pixel at the end, and ``valid``."""
    if padding not in ("same", "valid"):
        raise ConvolutionError(f"Invalid padding string: {padding!r}")
    if padding == "valid":
        return (0,) * (2 * len(kernel))
    if max(stride) > 1:
        raise ConvolutionError("padding='same' is not supported for strided convolutions")
    totals = [(taps - 1) * spread for taps, spread in zip(kernel, dilation, strict=True)]
    return tuple(end for total in totals for end in (total // 2, total - total // 2))


@lru_cache(maxsize=1024, typed=True)
def prepared(*call: Any) -> Prepared:
    """Return what `prepare` does, for numbers; equal calls are checked once."""
    found = prepare(*call)
    return found._replace(geometry=_with_options(found.geometry))


@lru_cache(maxsize=1024, typed=True)
def known_geometry(*call: Any) -> Geometry:
    """Return what `geometry` does, for numbers; equal ones are checked once."""
    return _with_options(geometry(*call))
