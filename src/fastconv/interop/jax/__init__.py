"""fastconv inside JAX: ``conv_general_dilated`` as ``jax.lax`` has it, computed on the CPU.

Works under ``jit``, ``grad``, ``jvp`` and ``vmap``, to any order: see docs/interop/jax.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ...dtypes import COMPONENTS, INTEGERS, is_float
from ...errors import BackendUnsupported, DTypeError
from .primitive import merge, split
from .ways import calls_by
from .windows import Axes, Window, convolved

__all__ = ["calls_by", "conv_general_dilated"]


class _Checked(NamedTuple):
    """What a call's shapes, dtypes and plain arguments decide."""

    shape: tuple[int, ...]
    dtype: Any
    operand: Any  # what x and w are converted to
    computed: str  # what fastconv returns
    axes: Axes
    windows: tuple[Window, ...]


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """Convolve as `jax.lax.conv_general_dilated` does, whose arguments these are.

    Parameters
    ----------
    lhs, rhs : array
        n + 2 axes, n of 0 to 3, of one dtype: bool, integers, floats of 16, 32 or 64 bits,
        bfloat16 or complex numbers.
    window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers : optional
    feature_group_count, batch_group_count, preferred_element_type : optional
        As in `jax.lax.conv_general_dilated`, which checks them. Axes are read where they stand,
        whatever their order; negative padding is not copied either.
    precision : optional
        Nothing: sums are always of float32 or wider. `fastconv.options` has a precision.
    out_sharding : None

    Returns
    -------
    jax.Array
        The shape and dtype of `jax.lax.conv_general_dilated`.

    Raises
    ------
    ValueError, TypeError
        As `jax.lax.conv_general_dilated`.
    BackendUnsupported
        Four axes and more, sizes that are no numbers, a sharding (also a `NotImplementedError`).
    DTypeError
        Floats of 8 bits, integers of 4 (also a `TypeError`).

    Notes
    -----
    Options in force where a function is traced (`fastconv.options`) stay those of its compiled
    form.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from fastconv.interop.jax import conv_general_dilated
    >>> x, w = np.ones((1, 8, 8, 3), "float32"), np.ones((3, 3, 3, 4), "float32")
    >>> conv = jax.jit(lambda x, w: conv_general_dilated(
    ...     x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    >>> conv(x, w)[0, 4, 4, 0]
    Array(27., dtype=float32)
    """
    if out_sharding is not None:
        raise BackendUnsupported("fastconv computes on one device: leave out_sharding out")
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    checked = _checked(
        lhs.shape, rhs.shape, lhs.dtype, rhs.dtype, _plain(window_strides), _plain(padding),
        _plain(lhs_dilation), _plain(rhs_dilation), _plain(dimension_numbers),
        feature_group_count, batch_group_count, preferred_element_type, jax.config.jax_enable_x64,
    )  # fmt: skip
    if 0 in (lhs.size, rhs.size, *checked.shape):
        return jnp.zeros(checked.shape, checked.dtype)
    axes, groups = checked.axes, feature_group_count
    if batch_group_count > 1:  # (groups * N, C) as (N, groups * C)
        lhs = merge(split(lhs, axes.x[0], batch_group_count), axes.x[0], axes.x[1])
        groups = batch_group_count
    x, w = lhs.astype(checked.operand), rhs.astype(checked.operand)
    alone = len(axes.x) == 2  # a product of matrices: images of one pixel
    if alone:
        x, w, axes = x[..., None], w[..., None], Axes(*((*order, 2) for order in axes))
    y = convolved(x, w, axes, checked.windows, groups, checked.computed)
    y = y[..., 0] if alone else y
    return y != 0 if checked.dtype == bool else y.astype(checked.dtype)


def _plain(value: Any) -> Any:
    """Return sequences of numbers as tuples, which can be keys."""
    if value is None or isinstance(value, str | lax.ConvDimensionNumbers):
        return value
    try:
        return tuple(v if isinstance(v, str) else _plain(v) for v in value)
    except TypeError:
        return value


@lru_cache(maxsize=1024)
def _checked(
    lhs: tuple[int, ...], rhs: tuple[int, ...], lhs_dtype: Any, rhs_dtype: Any, strides: Any,
    padding: Any, lhs_dilation: Any, rhs_dilation: Any, numbers: Any, groups: int,
    batch_groups: int, wanted: Any, x64: bool,
) -> _Checked:  # fmt: skip
    """Let JAX check a call, and resolve its windows."""
    sizes = (*lhs, *rhs)
    if not all(isinstance(size, int) for size in sizes):
        raise BackendUnsupported(
            f"fastconv computes arrays whose sizes are known, got {lhs} and {rhs}; export with "
            "sizes that are numbers"
        )
    y = jax.eval_shape(
        partial(
            lax.conv_general_dilated, window_strides=strides, padding=padding,
            lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation, dimension_numbers=numbers,
            feature_group_count=groups, batch_group_count=batch_groups,
            preferred_element_type=wanted,
        ),
        jax.ShapeDtypeStruct(lhs, lhs_dtype), jax.ShapeDtypeStruct(rhs, rhs_dtype),
    )  # fmt: skip
    axes = Axes(*lax.conv_dimension_numbers(lhs, rhs, numbers))
    along = len(axes.x) - 2
    if along > 3:
        raise BackendUnsupported(
            f"fastconv convolves along three axes at most, got {along}: use "
            "jax.lax.conv_general_dilated"
        )
    spreads = (1,) * along if lhs_dilation is None else lhs_dilation
    dilations = (1,) * along if rhs_dilation is None else rhs_dilation
    image = [lhs[axis] for axis in axes.x[2:]]
    if isinstance(padding, str):
        kernel = [
            (rhs[axis] - 1) * spread + 1 for axis, spread in zip(axes.w[2:], dilations, strict=True)
        ]
        padding = lax.padtype_to_pads(image, kernel, strides, padding)
    windows = tuple(
        Window(int(stride), int(before), int(after), int(spread) if size > 1 else 1, int(dilation))
        for stride, (before, after), spread, dilation, size in zip(
            strides, padding, spreads, dilations, image, strict=True
        )
    ) or (Window(1, 0, 0, 1, 1),)
    return _Checked(y.shape, y.dtype, *_computed(lhs_dtype, y.dtype), axes, windows)


def _computed(dtype: Any, result: Any) -> tuple[Any, str]:
    """Return what operands are converted to, and the dtype that fastconv makes of them."""
    if dtype.name == "bool":
        return jnp.dtype("uint8"), "int32"
    if is_float(dtype) or dtype.name in COMPONENTS:
        return result, result.name
    if dtype.name not in INTEGERS:
        raise DTypeError(
            f"fastconv does not convolve {dtype}; convert it, for example with "
            ".astype('bfloat16') or .astype('int8'), or use jax.lax.conv_general_dilated"
        )
    if dtype.itemsize <= 2 and result.itemsize <= 4:
        return dtype, "int32"
    return result, result.name
