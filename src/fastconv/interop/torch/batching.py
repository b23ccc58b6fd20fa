"""`torch.vmap`: convolutions of several x, several w, or both at once, as one convolution.

Several x with one w are a larger batch. Several w of one group are more channels: of y with one x,
or of x with one gy. Anything else is one convolution of that many times the groups. The functions
take the operator to call, and then what `torch.library.register_vmap` hands over.
"""

from __future__ import annotations

from typing import Any

Batched = tuple[Any, int]


def _folded(tensor: Any, dim: int | None, axis: int, count: int) -> Any:
    """Make the mapped dimension the outer part of an axis; repeat what is not mapped."""
    if dim is None:
        tensor, dim = tensor.expand(count, *tensor.shape), 0
    return tensor.movedim(dim, axis).flatten(axis, axis + 1)


def _unfolded(tensor: Any, axis: int, count: int) -> Batched:
    return tensor.unflatten(axis, (count, tensor.shape[axis] // count)), axis


def _grouped(attributes: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return (*attributes[:-1], attributes[-1] * count)


def _scaled(size: Any, axis: int, count: int) -> list[Any]:
    """Multiply one number of a size."""
    return [number * count if i == axis else number for i, number in enumerate(size)]


def convolution(
    call: Any, info: Any, in_dims: Any, x: Any, w: Any, bias: Any, *attributes: Any
) -> Batched:
    """Map y = C(x, w, bias)."""
    count, (x_dim, w_dim, bias_dim) = info.batch_size, in_dims[:3]
    if bias_dim is not None:
        if x_dim is None and w_dim is None:
            several = call(x, w, None, *attributes)[None]
        else:
            y, dim = convolution(call, info, (x_dim, w_dim, None), x, w, None, *attributes)
            several = y.movedim(dim, 0)
        pixels = (1,) * (several.ndim - 3)
        return several + bias.movedim(bias_dim, 0)[:, None].unflatten(-1, (-1, *pixels)), 0
    transposed, groups = attributes[3], attributes[5]
    if w_dim is None:
        return _unfolded(call(_folded(x, x_dim, 0, count), w, bias, *attributes), 0, count)
    addend = None if bias is None else bias.repeat(count)
    if x_dim is None and groups == 1:
        several = _folded(w, w_dim, 1 if transposed else 0, count)
        return _unfolded(call(x, several, addend, *attributes), 1, count)
    several, x = _folded(w, w_dim, 0, count), _folded(x, x_dim, 1, count)
    return _unfolded(call(x, several, addend, *_grouped(attributes, count)), 1, count)


def input_grad(
    call: Any, info: Any, in_dims: Any, x_size: Any, w: Any, gy: Any, *attributes: Any
) -> Batched:
    """Map gx = X(w, gy)."""
    count, (_, w_dim, gy_dim) = info.batch_size, in_dims[:3]
    transposed, groups = attributes[3], attributes[5]
    if w_dim is None:
        size = _scaled(x_size, 0, count)
        return _unfolded(call(size, w, _folded(gy, gy_dim, 0, count), *attributes), 0, count)
    size = _scaled(x_size, 1, count)
    if gy_dim is None and groups == 1:
        several = _folded(w, w_dim, 0 if transposed else 1, count)
        return _unfolded(call(size, several, gy, *attributes), 1, count)
    several, gy = _folded(w, w_dim, 0, count), _folded(gy, gy_dim, 1, count)
    return _unfolded(call(size, several, gy, *_grouped(attributes, count)), 1, count)


def weight_grad(
    call: Any, info: Any, in_dims: Any, x: Any, w_size: Any, gy: Any, *attributes: Any
) -> Batched:
    """Map gw = W(x, gy)."""
    count, (x_dim, _, gy_dim) = info.batch_size, in_dims[:3]
    transposed, groups = attributes[3], attributes[5]
    if groups == 1 and (x_dim is None or gy_dim is None):
        axis = int((x_dim is None) == transposed)  # that of the mapped one's channels
        x = x if x_dim is None else _folded(x, x_dim, 1, count)
        gy = gy if gy_dim is None else _folded(gy, gy_dim, 1, count)
        return _unfolded(call(x, _scaled(w_size, axis, count), gy, *attributes), axis, count)
    x, gy = _folded(x, x_dim, 1, count), _folded(gy, gy_dim, 1, count)
    size = _scaled(w_size, 0, count)
    return _unfolded(call(x, size, gy, *_grouped(attributes, count)), 0, count)
