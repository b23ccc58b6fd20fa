"""What may be wrong with the shapes of a call: one message for each, naming the fix. A leaf."""

from __future__ import annotations

from collections.abc import Sequence

from .activations import ACTIVATIONS
from .dtypes import COMPONENTS, is_float
from .errors import DTypeError, ShapeError, SizeError
from .geometry import Pair

#: Sizes, strides, pads and dilations stay below this, so that 64-bit index arithmetic cannot wrap.
INDEX_LIMIT = 2**61

#: Names of the axes along which an image, a kernel and a result extend, by their number.
IMAGE_AXES = {1: "L", 2: "HW", 3: "DHW"}
KERNEL_AXES = {1: "S", 2: "RS", 3: "TRS"}
RESULT_AXES = {1: "Q", 2: "PQ", 3: "OPQ"}
_EXTENTS = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}

#: Position of N, C and the image's axes in the array.
LAYOUTS = {
    "NCL": (0, 1, 2),
    "NLC": (0, 2, 1),
    "NCHW": (0, 1, 2, 3),
    "NHWC": (0, 3, 1, 2),
    "NCDHW": (0, 1, 2, 3, 4),
    "NDHWC": (0, 4, 1, 2, 3),
}


def layouts(spatial: int) -> tuple[str, str]:
    """Channels first, channels last."""
    return f"NC{IMAGE_AXES[spatial]}", f"N{IMAGE_AXES[spatial]}C"


def weight_axes(spatial: int) -> tuple[str, ...]:
    """Axis names of w."""
    return ("K", "C/groups", *KERNEL_AXES[spatial])


def format_shape(shape: Sequence[int], axes: Sequence[str]) -> str:
    """Print a shape with its axis names: ``(N=1, C=3, H=8, W=8)``."""
    return "(" + ", ".join(f"{a}={n}" for a, n in zip(axes, shape, strict=True)) + ")"


def array_axes(rank: int, layout: str) -> tuple[str, ...]:
    """Axis names of an image array: the layout's, those of one image, or its channel's alone."""
    missing = len(layout) - rank
    return tuple(a for a in layout if a not in "NC"[:missing]) if missing else tuple(layout)


def describe_shapes(x_shape: Sequence[int], w_shape: Sequence[int], layout: str) -> str:
    """Print the shapes of x and w, which belong together, with the names of their axes."""
    spatial = len(layout) - 2
    kernel = KERNEL_AXES[spatial] if len(w_shape) == spatial else weight_axes(spatial)
    x = format_shape(x_shape, array_axes(len(x_shape), layout))
    return f"x {x}, w {format_shape(w_shape, kernel)}"


def check_ranks(function: str, x_rank: int, w_rank: int, layout: str, shapes: object) -> None:
    """Raise unless arrays of these ranks make a call of `function`."""
    spatial = len(layout) - 2
    if (x_rank, w_rank) in ((spatial, spatial), (spatial + 1, spatial + 2), (spatial + 2,) * 2):
        return
    hint = ""
    if w_rank == spatial and x_rank in (spatial + 1, spatial + 2):
        hint = "; to filter every channel alike, use w[None, None] with one-channel images"
    elif x_rank == spatial and w_rank == spatial + 2:
        hint = (
            f"; add the channel axis: x[None] (or x[..., None] with layout='{layouts(spatial)[1]}')"
        )
    elif (x_rank, w_rank) == (4, 5):
        hint = "; for kernels of each image's own there is conv2d_per_sample, for volumes conv3d"
    elif spatial == 2 and 5 in (x_rank, w_rank):
        hint = "; conv2d convolves images: for volumes there is conv3d"
    elif spatial < 3 and spatial + 3 in (x_rank, w_rank):
        hint = f"; for one more axis there is conv{spatial + 1}d"
    image, kernel = ", ".join(IMAGE_AXES[spatial]), ", ".join(KERNEL_AXES[spatial])
    raise ShapeError(
        f"{function} takes x (N, C, {image}) or (C, {image}) with w (K, C/groups, {kernel}), or x "
        f"({image}) with w ({kernel}); got {shapes}{hint}"
    )


def check_channels(
    c: int, k: int, cg: int, g: int, x_shape: Sequence[int], layout: str, shapes: str
) -> None:
    """Channels and groups must fit; the message suggests what would."""
    if c == 0 or cg == 0:
        raise ShapeError(f"{'x' if c == 0 else 'w'} has zero input channels: {shapes}")
    if c % g == 0 and k % g == 0 and c // g == cg:
        return
    fixes = []
    if c % cg == 0 and k % (c // cg) == 0 and c // cg != g:
        fixes.append(f"groups={c // cg}")
    spatial = len(layout) - 2
    first, last = layouts(spatial)
    there = -1 if layout == first else -spatial - 1
    if len(x_shape) > spatial and x_shape[there] == cg * g:
        fixes.append(f"layout='{last if layout == first else first}'")
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


def check_sizes(image: Sequence[int], kernel: Sequence[int], shapes: str) -> None:
    """Neither the kernel nor the image may be empty along any axis."""
    for axis, size in zip(KERNEL_AXES[len(kernel)], kernel, strict=True):
        if size == 0:
            raise ShapeError(f"the kernel has no elements along {axis}: {shapes}")
    for axis, size in zip(IMAGE_AXES[len(image)], image, strict=True):
        if size == 0:
            raise ShapeError(f"x has no pixels along {axis}: {shapes}")


def check_index_range(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[Pair],
    dilation: Sequence[int],
    shapes: str,
) -> None:
    """Everything index arithmetic touches must stay far below 2**63."""
    along = zip(_EXTENTS[len(image)], image, kernel, stride, pads, dilation, strict=True)
    for name, size, taps, step, pad, spread in along:
        numbers = (size + sum(pad), step, (taps - 1) * spread + 1)
        if max(numbers) >= INDEX_LIMIT:
            raise SizeError(
                f"padded {name} {numbers[0]}, stride {step} and dilated kernel {numbers[2]} "
                f"must stay below 2**61: {shapes}, pad {tuple(pads)}"
            )


def check_result(
    result: Sequence[int],
    image: Sequence[int],
    kernel: Sequence[int],
    pads: Sequence[Pair],
    dilation: Sequence[int],
    shapes: str,
) -> None:
    """The kernel must fit into the padded image along every axis."""
    spatial = len(image)
    names = zip(_EXTENTS[spatial], RESULT_AXES[spatial], strict=True)
    along = zip(names, result, image, kernel, pads, dilation, strict=True)
    for (name, axis), outputs, size, taps, pad, spread in along:
        if outputs < 1:
            raise ShapeError(
                f"the output {name} {axis} would be empty: the kernel covers "
                f"{(taps - 1) * spread + 1} pixels (dilation included), the padded input has "
                f"{size + sum(pad)}: {shapes}; use a smaller kernel or dilation, or pad='same'"
            )


def check_activation_dtype(activation: str | None, computed: str) -> None:
    """Raise if the activation has fractions where the result is an integer."""
    if activation is not None and computed in COMPONENTS:
        raise DTypeError(
            f"activation={activation!r} is a function of real numbers, the result is {computed}; "
            "leave it out, and apply it to the parts"
        )
    if activation is None or is_float(computed) or ACTIVATIONS[activation].integers:
        return
    raise DTypeError(
        f"activation={activation!r} has fractions, the result is {computed}; "
        "ask for dtype='float32', or use 'relu' or 'relu6'"
    )
