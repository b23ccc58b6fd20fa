"""The convolution and its gradients as one primitive of JAX, which knows how it transforms.

y, the gradient of x and that of w are each linear in both of their operands, and the transposes of
any of them are the two others: every derivative, forward or backward, of any order, is such a call
again. A batch of calls is one call of more images, more channels or more groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ...options import Options, current
from ...sizes import Result
from . import ways
from .convolution import OPERANDS, Convolution, Fold

primitive: Any = Primitive("fastconv")
_type_of: Any = getattr(jax, "typeof", None) or jax.core.get_aval  # before 0.6


def convolve(a: Any, b: Any, result: Result, conv: Convolution, dtype: str) -> Any:
    """Compute y, or the gradient of x or of w, by the options in force where it is traced."""
    alike = _varying_axes(_type_of(a)) | _varying_axes(_type_of(b))
    return primitive.bind(
        _varying(a, alike), _varying(b, alike),
        result=result, conv=conv, dtype=dtype, options=current(), way=ways.calls_by(),
    )  # fmt: skip


def _varying_axes(aval: Any) -> frozenset[Any]:
    """Return axes of a mesh along which a value differs, inside ``jax.shard_map``."""
    manual = getattr(aval, "mat", None)  # before 0.10: vma
    found: frozenset[Any] = getattr(manual or aval, "varying" if manual else "vma", frozenset())
    return found


def _varying(array: Any, axes: frozenset[Any]) -> Any:
    """Say that an operand differs where the other one does: its gradient is then a sum of all."""
    missing = tuple(axes - _varying_axes(_type_of(array)))
    if not missing:
        return array
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, missing, to="varying")
    return jax.lax.pvary(array, missing)


def _abstract(
    a: Any, b: Any, *, result: Result, conv: Convolution, dtype: str, options: Options, way: str
) -> Any:
    shape = conv.shape(result)
    if not _varying_axes(a):
        return jax.core.ShapedArray(shape, jnp.dtype(dtype))
    nowhere = a.sharding.update(spec=jax.sharding.PartitionSpec(*(None,) * len(shape)))
    return a.update(shape=shape, dtype=jnp.dtype(dtype), weak_type=False, sharding=nowhere)


def _evaluate(a: Any, b: Any, **parameters: Any) -> Any:
    return _compiled(a, b, tuple(parameters.items()))


@partial(jax.jit, static_argnums=2)
def _compiled(a: Any, b: Any, parameters: tuple[tuple[str, Any], ...]) -> Any:
    return primitive.bind(a, b, **dict(parameters))


primitive.def_abstract_eval(_abstract)
primitive.def_impl(_evaluate)
mlir.register_lowering(primitive, ways.refuse)
mlir.register_lowering(primitive, ways.lower, platform="cpu")


def _transposed(place: int, cotangent: Any, a: Any, b: Any, *, result: Result, **same: Any) -> Any:
    """Return the cotangent of the operand at `place`."""
    wanted = OPERANDS[result][place]
    arrays = {OPERANDS[result][1 - place]: (b, a)[place], result: cotangent}
    first, second = OPERANDS[wanted]
    return primitive.bind(arrays[first], arrays[second], result=wanted, **same)


ad.defbilinear(primitive, partial(_transposed, 0), partial(_transposed, 1))


def split(array: Any, axis: int, size: int) -> Any:
    """Reshape an axis into (size, rest)."""
    shape = array.shape
    return array.reshape(*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :])


def merge(array: Any, source: int, axis: int) -> Any:
    """Make an axis part of another one, outside of it; `axis` counts without `source`."""
    moved = jnp.moveaxis(array, source, axis)
    shape = moved.shape
    return moved.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])


def _fold(array: Any, batch_axis: int, axis: int, groups: int) -> Any:
    """Make a batch part of an axis, within the groups."""
    if groups == 1:
        return merge(array, batch_axis, axis)
    grouped = split(jnp.moveaxis(array, batch_axis, 0), axis + 1, groups)
    return merge(merge(grouped, 0, axis + 1), axis, axis)


def _unfold(array: Any, batch: int, axis: int, groups: int) -> Any:
    """Undo `_fold`; the batch comes first."""
    if groups == 1:
        return jnp.moveaxis(split(array, axis, batch), axis, 0)
    grouped = jnp.moveaxis(split(split(array, axis, groups), axis + 1, batch), axis + 1, 0)
    return merge(grouped, axis + 1, axis + 1)


def _batched(
    arrays: Sequence[Any], axes: Sequence[int | None], *, result: Result, conv: Convolution,
    dtype: str, **same: Any,
) -> tuple[Any, int]:  # fmt: skip
    operands = OPERANDS[result]
    has = {o for o, axis in zip(operands, axes, strict=True) if axis is not None} | {result}
    folds: dict[str, Fold] = {"xy": "N", "wy": "K", "wx": "C", "wxy": "G"}
    fold = folds["".join(sorted(has))]
    batch = next(a.shape[i] for a, i in zip(arrays, axes, strict=True) if i is not None)
    if batch == 0:
        return jnp.zeros((0, *conv.shape(result)), dtype), 0
    folded = [
        array if axis is None else _fold(array, axis, *conv.place(fold, operand))
        for operand, array, axis in zip(operands, arrays, axes, strict=True)
    ]
    out = primitive.bind(*folded, result=result, conv=conv.folded(fold, batch), dtype=dtype, **same)
    return _unfold(out, batch, *conv.place(fold, result)), 0


batching.primitive_batchers[primitive] = _batched
