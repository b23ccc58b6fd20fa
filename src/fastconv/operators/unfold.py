"""Patches of images as columns, as a copy or as a view, and columns added up to images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import checks, geometry
from ..arguments import as_array, module_of
from ..borders import source_index
from ..dtypes import NARROW, as_dtype
from ..errors import ShapeError, SizeError
from ..geometry import Shape
from ..interchange import served
from ..problem import ConvProblem


@served
def im2col(
    x: Any,
    kernel: Any,
    stride: Any = 1,
    pad: Any = 0,
    *,
    dilation: Any = 1,
    pad_mode: str = "constant",
    layout: str | None = None,
    fold: bool = True,
) -> Any:
    """Copy the patches that a convolution multiplies with its kernel: `torch.nn.functional.unfold`.

    ``w.reshape(K, -1) @ im2col(x, w.shape[2:], ...)`` is the convolution of x and w, (N, K, P*Q).

    Parameters
    ----------
    x : array
        (N, C, H, W) or (C, H, W), of any dtype; (N, C, L) and (N, C, D, H, W) with a kernel of one
        and of three sizes.
    kernel : int or (int, int)
        (R, S). One number is that of an image along both axes, unless `layout` says otherwise.
    stride, pad, dilation, pad_mode
        As in `fastconv.conv2d`.
    layout : {"NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC"}, optional
        Axis order of x; columns keep theirs. Default: channels first.
    fold : bool, default True
        False leaves the axes apart: (N, C, R, S, P, Q).

    Returns
    -------
    array
        (N, C*R*S, P*Q), or (C*R*S, P*Q) for one image; of the dtype of x.

    Raises
    ------
    ShapeError
        Sizes that describe no convolution; the message names the shapes and the fix.

    Notes
    -----
    R*S times the memory of x, where the stride is 1: no function of this library but this one makes
    it. `im2col_view` makes no copy.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.im2col(np.arange(9).reshape(1, 3, 3), 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    x = as_array("x", x)
    problem = _problem("im2col", x.shape, kernel, stride, pad, dilation, layout, pad_mode)
    xp, image = module_of(x), _images(x, problem)
    if problem.pad_mode != "constant" and any(map(any, problem.pads)):
        for axis, (size, ends) in enumerate(zip(problem.x_image, problem.pads, strict=True), 2):
            index = source_index(np.arange(-ends[0], size + ends[1]), size, problem.pad_mode)
            image = xp.take(image, xp.asarray(index), axis=axis)
        problem = _problem("im2col", image.shape, problem.kernel, problem.strides, 0,
                           problem.dilations, None)  # fmt: skip
    shape = (*image.shape[:2], *problem.kernel, *problem.y_image)
    _check_bytes("im2col", shape, x.dtype)
    make = xp.zeros if any(map(any, problem.pads)) else xp.empty
    columns = make(shape, dtype=x.dtype)
    for tap, outputs, pixels in _taps(problem):
        columns[(..., *tap, *outputs)] = image[(..., *pixels)]
    columns = columns if x.ndim == problem.spatial + 2 else columns[0]
    if not fold:
        return columns
    alone = columns.shape[: x.ndim - problem.spatial - 1]
    rows = problem.c * problem.taps
    return columns.reshape(*alone, rows, math.prod(problem.y_image))


@served
def im2col_view(
    x: Any, kernel: Any, stride: Any = 1, *, dilation: Any = 1, layout: str | None = None
) -> Any:
    """View the patches that a convolution without a border multiplies with its kernel; no copy.

    Parameters
    ----------
    x, kernel, stride, dilation, layout
        As in `im2col`.

    Returns
    -------
    array
        (N, C, R, S, P, Q), or (C, R, S, P, Q) for one image: x itself, read-only, as one pixel is
        there many times.

    Raises
    ------
    ShapeError
        As `im2col`.

    Notes
    -----
    O(1) time and memory. A border is not in x, and no view can have it: pad x first
    (`numpy.pad`).

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = np.arange(16.).reshape(1, 4, 4)
    >>> patches = fastconv.im2col_view(x, 3)
    >>> patches.shape, np.shares_memory(patches, x)
    ((1, 3, 3, 2, 2), True)
    >>> patches.max(axis=(1, 2))  # max pooling
    array([[[10., 11.],
            [14., 15.]]])
    """
    x = as_array("x", x)
    problem = _problem("im2col_view", x.shape, kernel, stride, 0, dilation, layout)
    image, spatial = _images(x, problem), problem.spatial
    reach = tuple(
        (taps - 1) * spread + 1
        for taps, spread in zip(problem.kernel, problem.dilations, strict=True)
    )
    windows = module_of(x).lib.stride_tricks.sliding_window_view(
        image, reach, axis=tuple(range(2, 2 + spatial))
    )
    steps = (*problem.strides, *problem.dilations)
    windows = windows[(..., *(slice(None, None, step) for step in steps))]
    pixels, taps = range(2, 2 + spatial), range(2 + spatial, 2 + 2 * spatial)
    windows = windows.transpose(0, 1, *taps, *pixels)
    return windows if x.ndim == spatial + 2 else windows[0]


@served
def col2im(
    cols: Any,
    image_shape: Any,
    kernel: Any,
    stride: Any = 1,
    pad: Any = 0,
    *,
    dilation: Any = 1,
    layout: str | None = None,
) -> Any:
    """Add patches up to images, each where `im2col` took it: `torch.nn.functional.fold`.

    Parameters
    ----------
    cols : array
        (N, C*R*S, P*Q) or (C*R*S, P*Q), as `im2col` returns them; any dtype.
    image_shape : sequence of int
        (H, W): the size of the images. (L,) and (D, H, W) make signals and volumes.
    kernel, stride, pad, dilation
        As in `im2col`. Pads are where patches lie outside of the image: those pixels are dropped.
    layout : {"NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC"}, optional
        Axis order of the result. Default: channels first.

    Returns
    -------
    array
        (N, C, H, W) or (C, H, W), of the dtype of `cols`. Pixels in no patch are zero.

    Raises
    ------
    ShapeError
        `cols` are not those of such images; the message names the shapes that would be.

    Notes
    -----
    The transpose of `im2col`, one addition for each element of `cols`, in the order of the taps;
    floats of 16 bits are added up in float32. ONNX's Col2Im.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.col2im(np.ones((4, 4)), (3, 3), 2)  # how many patches a pixel is in
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    cols = as_array("cols", cols)
    sizes = _image_sizes(image_shape)
    axes = geometry.AXES[len(sizes)]
    taps = math.prod(geometry.sizes("kernel", kernel, 1, axes))
    whole = cols.shape if cols.ndim == 3 else (1, *cols.shape)
    if len(whole) != 3 or not whole[1] or whole[1] % taps:
        raise ShapeError(
            f"col2im takes cols (N, C*{taps}, L) or (C*{taps}, L) for a kernel of {taps} elements, "
            f"got {cols.shape}"
        )
    n, c = whole[0], whole[1] // taps
    problem = _problem("col2im", (n, c, *sizes), kernel, stride, pad, dilation, None)
    patches = math.prod(problem.y_image)
    if whole[2] != patches:
        raise ShapeError(
            f"cols {cols.shape} have {whole[2]} patches, images of {sizes} have "
            f"{' * '.join(map(str, problem.y_image))} = {patches} for {problem}"
        )
    first, last = checks.layouts(problem.spatial)
    layout = first if layout is None else layout
    geometry.check_choice("layout", layout, (first, last))
    narrow = cols.dtype.name in NARROW
    total = as_dtype("float32") if narrow else cols.dtype.newbyteorder("=")
    shape = (n, *sizes, c) if layout == last else (n, c, *sizes)
    _check_bytes("col2im", shape, total)
    images = module_of(cols).zeros(shape, dtype=total)
    view = images.transpose(checks.LAYOUTS[layout])
    columns = cols.reshape(n, c, *problem.kernel, *problem.y_image)
    for tap, outputs, pixels in _taps(problem):
        view[(..., *pixels)] += columns[(..., *tap, *outputs)]
    images = images.astype(cols.dtype, copy=False) if narrow else images
    return images if cols.ndim == 3 else images[0]


def _image_sizes(image_shape: Any) -> Shape:
    try:
        sizes = tuple(geometry.integer("image_shape", size, 1) for size in image_shape)
    except TypeError:
        raise TypeError(
            f"image_shape must be a sequence of integers such as (H, W), got {image_shape!r:.60}"
        ) from None
    if len(sizes) not in geometry.AXES:
        raise ShapeError(f"image_shape must have one to three sizes, got {sizes}")
    return sizes


def _check_bytes(function: str, shape: Shape, dtype: np.dtype[Any]) -> None:
    """Raise where no address space holds the result."""
    size = math.prod(shape) * dtype.itemsize
    if size > np.iinfo(np.intp).max:
        raise SizeError(
            f"the result {shape} of {function} needs {size} bytes, more than an address space holds"
        )


def _problem(
    function: str, shape: Shape, kernel: Any, stride: Any, pad: Any, dilation: Any,
    layout: str | None, pad_mode: str = "constant",
) -> ConvProblem:  # fmt: skip
    """Describe the convolution whose patches are meant, with one output channel, and check it."""
    if layout is not None:
        geometry.check_choice("layout", layout, tuple(checks.LAYOUTS))
    sizes = tuple(kernel) if isinstance(kernel, tuple | list | np.ndarray) else None
    spatial = len(sizes or "HW") if layout is None else len(layout) - 2
    if spatial not in geometry.AXES:
        raise ShapeError(f"kernel must have one to three sizes, got {sizes}")
    taps = geometry.sizes("kernel", kernel, 1, geometry.AXES[spatial])
    first, last = checks.layouts(spatial)
    if len(shape) not in (spatial + 1, spatial + 2):
        image = ", ".join(checks.IMAGE_AXES[spatial])
        raise ShapeError(
            f"{function} takes x (N, C, {image}) or (C, {image}) with a kernel of {spatial} "
            f"size{'s' if spatial > 1 else ''}, got x {shape} and kernel {taps}"
        )
    c = shape[-1] if layout == last else shape[-1 - spatial]
    return ConvProblem.describe(
        shape, (1, c, *taps), stride=stride, pad=pad, dilation=dilation, pad_mode=pad_mode,
        layout=layout or first, spatial=spatial, function=function,  # type: ignore[arg-type]
    )  # fmt: skip


def _images(x: Any, problem: ConvProblem) -> Any:
    """View x as (N, C, H, W)."""
    whole = x[None] if x.ndim == problem.spatial + 1 else x
    return whole.transpose(checks.LAYOUTS[problem.layout])


def _taps(problem: ConvProblem) -> Iterator[tuple[Shape, list[slice], list[slice]]]:
    """Each tap with the outputs for which it lies inside of the image, and the pixels it is on."""
    along = list(
        zip(problem.x_image, problem.y_image, problem.strides, problem.dilations, problem.pads,
            strict=True)
    )  # fmt: skip
    for tap in np.ndindex(*problem.kernel):
        outputs, pixels = [], []
        for index, (size, count, step, spread, pad) in zip(tap, along, strict=True):
            offset = index * spread - pad[0]
            first = max(0, -(offset // step))
            end = min(count, (size - 1 - offset) // step + 1)
            if end <= first:
                break
            outputs.append(slice(first, end))
            pixels.append(slice(first * step + offset, (end - 1) * step + offset + 1, step))
        else:
            yield tap, outputs, pixels
