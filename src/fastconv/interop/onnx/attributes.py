"""Attributes of ONNX's convolutions as arguments of fastconv's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ShapeError
from ...geometry import Pair, Shape

Attributes = Mapping[str, Any]

#: ``auto_pad`` for a convolution. NOTSET: the attribute ``pads``.
_NAMED = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def arguments(attributes: Attributes, kernel: Shape) -> dict[str, Any]:
    """Return stride, pad, dilation and groups, where they are not fastconv's defaults.

    `kernel` is the size of the kernel that there is.
    """
    spatial = len(kernel)
    given = attributes.get("kernel_shape")
    if given is not None and tuple(given) != kernel:
        raise ShapeError(f"kernel_shape={list(given)}, the kernel of W is {list(kernel)}")
    found = {
        "stride": _axes("strides", attributes, spatial, 1),
        "pad": _pad(attributes, spatial),
        "dilation": _axes("dilations", attributes, spatial, 1),
        "groups": attributes.get("group") or 1,
    }
    defaults = (1, (1,) * spatial, ((0, 0),) * spatial)
    return {name: value for name, value in found.items() if value not in defaults}


def transposed(attributes: Attributes, kernel: Shape, image: Shape) -> dict[str, Any]:
    """Return the arguments of a transposed convolution of images of that size."""
    found = arguments(attributes, kernel)
    ones = (1,) * len(kernel)
    added = _axes("output_padding", attributes, len(kernel), 0)
    if attributes.get("output_shape") is None:
        return {**found, "output_padding": added}
    sizes = _axes("output_shape", attributes, len(kernel), 0)
    pads, extra = [], []
    for size, taps, step, spread, more, target in zip(
        image, kernel, found.get("stride", ones), found.get("dilation", ones), added, sizes,
        strict=True,
    ):  # fmt: skip
        whole = (size - 1) * step + (taps - 1) * spread + 1
        cut = whole + more - target
        # ONNX Runtime's rule: nothing is cut off where more is wanted than there is
        small = max(cut, 0) // 2
        large = max(cut, 0) - small
        upper = attributes.get("auto_pad") == "SAME_UPPER"
        pads.append((small, large) if upper else (large, small))
        extra.append(more if cut >= 0 else target - whole)
    return {**found, "pad": tuple(pads), "output_padding": tuple(extra)}


def of_images(attributes: Attributes, kernel: Shape) -> dict[str, Any]:
    """Return the arguments of a convolution of images, or of signals as images of one row."""
    found = arguments(attributes, kernel)
    if len(kernel) == 1:
        for name, along in (("stride", 1), ("dilation", 1), ("pad", (0, 0))):
            if not isinstance(found.get(name, ""), str):
                found[name] = (along, *found[name])
    return found


def _axes(name: str, attributes: Attributes, spatial: int, default: int) -> Shape:
    """Read an attribute of one number an axis."""
    given = attributes.get(name)
    if given is None:
        return (default,) * spatial
    _check_length(name, given, spatial, spatial)
    return tuple(given)


def _pad(attributes: Attributes, spatial: int) -> str | tuple[Pair, ...]:
    """Read ``auto_pad`` and ``pads``, all of whose beginnings are before all of its ends."""
    named = attributes.get("auto_pad") or "NOTSET"
    if named in _NAMED:
        return _NAMED[named]
    if named != "NOTSET":
        raise ShapeError(f"auto_pad={named!r} is none of NOTSET, {', '.join(_NAMED)}")
    pads = attributes.get("pads")
    if pads is None:
        return ((0, 0),) * spatial
    _check_length("pads", pads, 2 * spatial, spatial)
    return tuple(zip(pads[:spatial], pads[spatial:], strict=True))


def _check_length(name: str, given: Sequence[int], length: int, spatial: int) -> None:
    if len(given) != length:
        axes = "axis" if spatial == 1 else "axes"
        raise ShapeError(f"{name}={list(given)} must be {length} numbers for {spatial} {axes}")
