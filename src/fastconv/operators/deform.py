"""Deformable convolutions: every tap of every output pixel samples x at a place of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from .. import arguments, calls
from ..backends import deform
from ..calls import Call
from ..deformable import DeformProblem, Moves
from ..dtypes import is_float
from ..errors import DTypeError
from ..options import resolve
from .request import Common, Operator, Request, held, request


@dataclass(frozen=True)
class DeformRequest(Request):
    """One call of `deform_conv2d`."""

    offset: Any
    mask: Any

    def run(self) -> Any:
        """Compute it."""
        common, described = self.common, self.described
        out, others = common.out, (self.b, self.bias, self.offset, self.mask)
        arrays = arguments.array_kind(
            self.a, *others, out, names="x, w, offset, mask, bias and out"
        )
        xp = calls.namespace(arrays)
        if out is not None:
            arguments.check_output(xp, *described, out)
        call = Call(described, resolve(common.backend, common.precision, common.threads), arrays)
        problem = call.problem
        assert isinstance(problem, DeformProblem)
        w, bias = call.readable_weights(self.b, self.bias, False)
        offset, mask = (
            None
            if a is None
            else arguments.readable(xp, arguments.logical(a, problem), problem.accumulator)
            for a in (self.offset, self.mask)
        )

        def compute(image: Any, target: Any) -> None:
            deform(call.backend, problem, call.options, image, w, (offset, mask), bias, target)

        return call.compute(self.a, others, out, compute)

    def plan(self) -> NoReturn:
        """Raise: a plan would have to keep the places that taps are moved to, or weights alone."""
        raise TypeError("there is no plan of deform_conv2d: its taps move with every image")


_described = lru_cache(maxsize=1024)(DeformProblem.of)


def _check_real(name: str, array: Any) -> None:
    if array.dtype.kind not in "biuf" and not is_float(array.dtype):
        raise DTypeError(f"{name} has dtype {array.dtype}, which holds no real numbers")


@Operator
def deform_conv2d(
    x: Any,
    w: Any,
    offset: Any,
    stride: Any = 1,
    pad: Any = 0,
    *,
    mask: Any = None,
    dilation: Any = 1,
    groups: int = 1,
    offset_groups: int | None = None,
    bias: Any = None,
    activation: str | None = None,
    layout: str = "NCHW",
    out: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Request:
    """Deformable convolution: `fastconv.conv2d` whose taps read x at moved places.

    ``y[n,k,p,q] = activation(bias[k] + sum over c, r, s of w[k,c,r,s] * mask[n,t,p,q] *
    sample(x[n,c], p*stride + r*dilation - pad + offset[n,2*t,p,q], q*stride + s*dilation - pad +
    offset[n,2*t+1,p,q]))`` with t = (g*R + r)*S + s in the offset group g of channel c.

    As DeformConv of ONNX and ``torchvision.ops.deform_conv2d``: with a mask, version 2 of Zhu et
    al. (2019), without one that of Dai et al. (2017).

    Parameters
    ----------
    x : array
        (N, C, H, W) or, for one image, (C, H, W); with ``layout="NHWC"`` (N, H, W, C) or (H, W, C).
    w : array
        (K, C/groups, R, S) in either layout.
    offset : array
        (N, offset_groups*2*R*S, P, Q), or channels last as x: for every tap (vertical, horizontal)
        in pixels of x. Read in the dtype that sums are in: float32, or float64 where x or w is.
    stride, dilation : int or (int, int), default 1
    pad : int, (int, int), ((int, int), (int, int)) or str, default 0
        Zeros around the image, as in `conv2d`.
    mask : array, optional
        (N, offset_groups*R*S, P, Q), or channels last as x: factor of every sample; read as
        `offset`.
    offset_groups : int, optional
        Divides C: as many groups of channels are sampled each at places of their own. Default: what
        the channels of `offset` say.
    groups, bias, activation, out, dtype, precision, backend, threads
        As in `conv2d`.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        Axis order of x, offset, mask, out and the result.

    Returns
    -------
    array
        (N, K, P, Q) or (K, P, Q), channels last with ``layout="NHWC"``; P and Q as in `conv2d`.

    Raises
    ------
    ShapeError
        As `conv2d`; or `offset` or `mask` are of other shapes than these.
    DTypeError
        As `conv2d`; or x and w are integers and `dtype` says nothing else.
    OutputError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d`. No CUDA kernel computes it.

    Notes
    -----
    A sample is the bilinear mean of the four pixels around its place, of which those outside of the
    image count as zero; a place at -1 or H, or beyond, samples zero. An infinite offset is such a
    place, a NaN samples NaN. The mask is multiplied into the weights of the four pixels.

    N*K*P*Q*(C/groups)*R*S multiply-accumulates, and 4*N*C*P*Q*R*S for samples. x is not unfolded.
    Results stay within ``m*u/(1-m*u)`` times the sum of the magnitudes of all products, those of
    the pixels of a sample included, m = (C/groups)*R*S + 8. The same bits for any number of
    threads.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.ones((1, 8, 16, 16)), np.ones((4, 8, 3, 3))
    >>> offset = np.full((1, 18, 16, 16), 0.5)
    >>> fastconv.deform_conv2d(x, w, offset, pad=1).shape
    (1, 4, 16, 16)
    >>> fastconv.deform_conv2d.output_shape((1, 8, 16, 16), (4, 8, 3, 3), (1, 18, 14, 14))
    (1, 4, 14, 14)
    """
    x, w, offset = held("x", x, dtype), held("w", w, dtype), held("offset", offset)
    mask = None if mask is None else held("mask", mask)
    bias = None if bias is None else held("bias", bias, dtype)
    common = Common(
        stride, pad, dilation, groups, "constant", layout, False, out, dtype, precision, backend,
        threads,
    )  # fmt: skip
    plain = request("deform_conv2d", 2, "y", x, w, x.shape, w.shape, common, bias, activation)
    _check_real("offset", offset)
    if mask is not None:
        _check_real("mask", mask)
    moves = Moves(tuple(offset.shape), None if mask is None else tuple(mask.shape))
    # only plain integers may be cached: 1 and 1.0 are equal keys, and 1.0 must be refused
    plainly = type(offset_groups) in (int, type(None))
    describe = _described if plainly else DeformProblem.of
    problem = describe(plain.described.problem, moves, offset_groups)
    described = plain.described._replace(problem=problem)
    return DeformRequest(x, w, bias, described, common, offset, mask)
