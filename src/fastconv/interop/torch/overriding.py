"""PyTorch's own convolutions, computed by fastconv while a context lasts.

`aten::convolution` and `aten::convolution_backward` get kernels for dense CPU tensors. Everything
of PyTorch's above them, `nn.Module`, autograd, `vmap`, autocast, compiled graphs, and everything
beside them, tensors on other devices, quantised, sparse, in oneDNN's layout, stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from . import compute
from .checks import ConvolutionError, check_dtypes
from .geometry import Geometry, known_geometry

#: PyTorch's own kernels, which serve all devices, by the key they are registered for.
_OWN = torch._C.DispatchKey.CompositeExplicitAutograd
_ATEN = torch.ops.aten


@dataclass
class Calls:
    """What has been computed while a context lasted, in any thread.

    Attributes
    ----------
    forward, input_grad, weight_grad : int
        Convolutions that fastconv computed, and gradients.
    own : int
        Calls left to PyTorch's own kernels, which compute or refuse them.
    """

    forward: int = 0
    input_grad: int = 0
    weight_grad: int = 0
    own: int = 0

    @property
    def count(self) -> int:
        """All that fastconv computed."""
        return self.forward + self.input_grad + self.weight_grad


_lock = threading.Lock()
_active: list[Calls] = []
_library: Any = None


@contextmanager
def override() -> Iterator[Calls]:
    """Compute `aten::convolution` and its backward of dense CPU tensors by fastconv.

    Returns
    -------
    Calls
        Counts what fastconv computed: ``with override() as calls: ...; calls.count``.

    Notes
    -----
    Holds for the whole process, as the flags of ``torch.backends`` do: other threads compute by
    fastconv as well until the last of nested or concurrent contexts is left, by an exception too.
    PyTorch's dispatcher is changed on the first way in and the last way out: let no other thread be
    inside of a convolution then.

    What fastconv does not compute, dtypes that it does not know and arguments that PyTorch refuses,
    goes to PyTorch's own kernels, and is counted as `own`. Memory formats are those that PyTorch's
    own kernels would choose.

    Examples
    --------
    >>> import torch, fastconv.interop.torch as fct
    >>> model = torch.nn.Conv2d(3, 8, 3)
    >>> with fct.override() as calls:
    ...     model(torch.ones(1, 3, 8, 8)).sum().backward()
    >>> calls.forward, calls.weight_grad
    (1, 1)
    """
    calls = Calls()
    _enter(calls)
    try:
        yield calls
    finally:
        _leave(calls)


def _enter(calls: Calls) -> None:
    global _library
    with _lock:
        if _library is None:
            library = torch.library.Library("aten", "IMPL")
            library.impl("convolution", _convolution, "CPU")
            library.impl("convolution_backward", _convolution_backward, "CPU")
            _library = library
        _active.append(calls)


def _leave(calls: Calls) -> None:
    global _library
    with _lock:
        _active[:] = [other for other in _active if other is not calls]
        if not _active:
            _library._destroy()
            _library = None


def _counted(name: str) -> None:
    for calls in _active:
        setattr(calls, name, getattr(calls, name) + 1)


def _described(
    x: Any, w: Any, bias_shape: Any, bias_dtype: Any, attributes: tuple[Any, ...]
) -> Geometry | None:
    """Describe what fastconv computes; None for what is left to PyTorch."""
    stride, padding, dilation, transposed, output_padding, groups = attributes
    try:
        check_dtypes(x.dtype, w.dtype, bias_dtype)
        found: Geometry = known_geometry(
            x.shape, w.shape, bias_shape, tuple(stride), tuple(padding), tuple(dilation),
            transposed, tuple(output_padding), groups,
        )  # fmt: skip
    except ConvolutionError:
        return None
    return found


def _lies_last(x: Any, w: Any, bias: Any, bias_sizes: Any, attributes: tuple[Any, ...]) -> bool:
    """Whether PyTorch's own kernel would make results channels last: some do, of such operands."""
    image, kernel = x, w
    if w.ndim == 3:  # signals are images of height 1, whose x is copied in any other format
        strides = w.stride()
        if strides[2] < strides[1]:
            return False
        image = kernel = w.unsqueeze(2)
    if not compute.channels_last(image, kernel):
        return False
    backend = torch._C._select_conv_backend(x, w, bias, *attributes, bias_sizes)
    layout = torch._C._conv_determine_backend_memory_format(image, kernel, backend)
    return bool(layout != torch.contiguous_format)


def _convolution(x: Any, w: Any, bias: Any, *attributes: Any) -> Any:
    shape, dtype = (None, None) if bias is None else (bias.shape, bias.dtype)
    g = _described(x, w, shape, dtype, attributes)
    if g is None:
        _counted("own")
        return _ATEN.convolution.default._op_dk(_OWN, x, w, bias, *attributes)
    y = compute.forward(x, w, bias, g, _lies_last(x, w, bias, None, attributes))
    _counted("forward")
    return y


def _convolution_backward(
    gy: Any, x: Any, w: Any, bias_sizes: Any, *options: Any
) -> tuple[Any, Any, Any]:
    *attributes, mask = options
    g = _described(x, w, None, None, tuple(attributes))
    if g is None or gy.dtype != x.dtype or tuple(gy.shape) != g.y_shape:
        _counted("own")
        own: tuple[Any, Any, Any] = _ATEN.convolution_backward.default._op_dk(
            _OWN, gy, x, w, bias_sizes, *options
        )
        return own
    last = _lies_last(x, w, None, bias_sizes, tuple(attributes))
    gx = gw = None
    if mask[1]:
        gw = compute.weight_grad(x, w.shape, gy, g, last)
        _counted("weight_grad")
    if mask[0]:
        gx = compute.input_grad(x.shape, w, gy, g, last)
        _counted("input_grad")
    return gx, gw, gy.sum(compute.PIXELS[g.spatial]) if mask[2] else None
