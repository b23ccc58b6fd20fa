"""Plans: one convolution, decided and its weights made ready once, run on any number of images."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from . import arguments, calls, dispatch, interchange
from .backends import Direct, Weights
from .calls import Call
from .checks import array_axes, format_shape
from .dtypes import as_dtype
from .errors import DTypeError, ShapeError
from .explanation import Explanation
from .geometry import Pad, Shape, Size
from .lowering import weights_of
from .options import resolve
from .problem import ConvProblem

#: Batch sizes whose calls a plan remembers.
REMEMBERED = 64


@interchange.served
def plan_conv2d(
    w: Any,
    x_shape: Sequence[int],
    stride: Size = 1,
    pad: Pad = 0,
    *,
    dilation: Size = 1,
    groups: int = 1,
    bias: Any = None,
    activation: str | None = None,
    pad_mode: str = "constant",
    flip: bool = False,
    layout: str = "NCHW",
    x_dtype: Any = None,
    dtype: Any = None,
    precision: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    workspace: int | None = None,
) -> Conv2dPlan:
    """Prepare `conv2d` with these weights for many images: ``plan(x)`` has the call's very bits.

    Arguments are checked, the backend and its algorithm chosen and the weights packed once.

    Parameters
    ----------
    w : array
        (K, C/groups, R, S), or (R, S) with x (H, W). Copied: later changes have no effect.
    x_shape : sequence of int
        Shape of the images: (N, C, H, W), (C, H, W) or (H, W), or channels last with
        ``layout="NHWC"``. The plan takes any N.
    stride, pad, dilation, groups, bias, activation, pad_mode, flip, layout, dtype
        As in `conv2d`; `bias` is copied.
    x_dtype : dtype, optional
        Of the images; default: that of `w`.
    precision, backend, threads, workspace
        As in `conv2d` and `options`. What is in force now is kept: a ``with options(...)`` around
        a later ``plan(x)`` changes nothing.

    Returns
    -------
    Conv2dPlan
        Call it: ``y = plan(x, out=None)``.

    Raises
    ------
    ShapeError, DTypeError, BackendUnavailable, BackendUnsupported, MemoryError
        As `conv2d` would, before anything is allocated.

    Notes
    -----
    Time and memory are those of copying w, and of one more copy where ``plan.explain()`` says that
    its algorithm packs. On a GPU the copies are queued on the current stream.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> w = np.ones((8, 3, 3, 3), dtype="float32")
    >>> plan = fastconv.plan_conv2d(w, (1, 3, 32, 32), pad="same", activation="relu")
    >>> plan(np.ones((1, 3, 32, 32), dtype="float32")).shape
    (1, 8, 32, 32)
    >>> plan(np.ones((5, 3, 32, 32), dtype="float32")).shape  # any batch
    (5, 8, 32, 32)
    """
    arrays = arguments.array_kind(w, bias)
    w = arguments.as_array("w", w)
    bias = None if bias is None else arguments.as_array("bias", bias)
    image = w.dtype if x_dtype is None else _image_dtype(x_dtype)
    described = calls.describe(
        _image_shape(x_shape), image, w, stride, pad, dilation, groups, bias, activation,
        pad_mode, layout, dtype,
    )  # fmt: skip
    call = Call(described, resolve(backend, precision, threads, workspace), arrays)
    return Conv2dPlan(call, w, bias, bool(flip), image, None if dtype is None else as_dtype(dtype))


class Conv2dPlan:
    """One convolution with its weights packed and everything chosen; made by `plan_conv2d`.

    Call it: ``plan(x, out=None)`` returns what `conv2d` would, bit by bit. Any number of threads
    may do so at once. Pickled, a plan is its arguments and weights, and is made anew where it is
    loaded.

    Attributes
    ----------
    problem : ConvProblem
        The convolution, with the batch size it was planned for.
    """

    def __init__(
        self,
        call: Call,
        w: Any,
        bias: Any,
        flip: bool,
        x_dtype: np.dtype[Any],
        dtype: np.dtype[Any] | None,
    ) -> None:
        self.problem: ConvProblem = call.problem
        self._call, self._flip, self._x_dtype, self._dtype = call, flip, x_dtype, dtype
        with arguments.on_device(call.arrays, x=w, bias=bias):
            self._w = arguments.private_copy(w)
            self._bias = None if bias is None else arguments.private_copy(bias)
            kernel, addend = call.readable_weights(self._w, self._bias, flip)
            self._weights: Weights = weights_of(
                call.backend, call.problem, call.options, kernel, addend, x_dtype.name
            )
        self._calls: dict[int, Call] = {call.problem.n: call}
        rounded = call.promotion.result != call.promotion.computed
        self._direct: Direct | None = None if rounded else self._weights.direct

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Convolve images.

        Parameters
        ----------
        x : array
            Of the planned shape with any N. Another dtype than the planned one is converted where
            `conv2d` would compute the same from it, and refused where its result would differ.
        out : array, optional
            Receives the result, and is returned; as in `conv2d`.

        Raises
        ------
        ShapeError
            x has another shape than planned, N aside.
        DTypeError
            x would be computed in another dtype than planned.
        OutputError, MemoryError
            As `conv2d`.
        """
        if self._direct is not None:
            y = self._direct(x, out)
            if y is not None:
                return y
        if interchange.any_foreign(x, out):
            return interchange.call(self, (x,), {"out": out})
        planned = self._call
        arrays = arguments.array_kind(x, self._w, out)
        x = arguments.as_array("x", x)
        call = self._for_batch(batch_of(self.problem, x.shape))
        if x.dtype != self._x_dtype:
            self._check_dtype(x.dtype)
        if out is not None:
            arguments.check_output(planned.xp, call.problem, call.promotion, out)
        with arguments.on_device(arrays, x=x, w=self._w, out=out):

            def compute(image: Any, target: Any) -> None:
                self._weights.run(call.problem, call.options, image, target)

            return call.compute(x, (), out, compute)

    def explain(self) -> Explanation:
        """Say what the plan runs, and why: the report of `fastconv.explain`, for packed weights.

        Examples
        --------
        >>> import numpy as np, fastconv
        >>> plan = fastconv.plan_conv2d(np.ones((3, 3)), (480, 640), backend="reference")
        >>> plan.explain().algorithm
        'definition'
        """
        problem, options, choice = self.problem, self._call.options, self._call.choice
        if problem.out_bytes:
            choice = replace(choice, algorithm=self._weights.algorithm(problem, options))
        others = dispatch.rejections(problem, options, self._call.arrays)
        return Explanation.of(problem, options, choice, others, self._weights.packed_bytes)

    def __repr__(self) -> str:
        """Print the problem and what computes it."""
        choice = self._call.choice
        return f"<Conv2dPlan: {self.problem}; {choice.backend}, {choice.algorithm.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments: packed weights belong to this machine's processor."""
        problem, options = self.problem, self._call.options
        make = partial(
            plan_conv2d, stride=problem.stride, pad=problem.pad, dilation=problem.dilation,
            groups=problem.groups, bias=self._bias, activation=problem.activation,
            pad_mode=problem.pad_mode, flip=self._flip, layout=problem.layout,
            x_dtype=self._x_dtype, dtype=self._dtype, precision=options.precision,
            backend=options.backend, threads=options.threads, workspace=options.workspace,
        )  # fmt: skip
        return make, (self._w, problem.x_shape)

    def _for_batch(self, n: int) -> Call:
        """Return the planned call for n images; sizes are checked anew."""
        call = self._calls.get(n)
        if call is None:
            call = self._call.with_batch(n)
            if len(self._calls) >= REMEMBERED:
                self._calls = {self.problem.n: self._call}
            self._calls[n] = call
        return call

    def _check_dtype(self, dtype: np.dtype[Any]) -> None:
        promotion = calls.promotion_of(dtype, self._w.dtype, self._dtype)
        if promotion != self._call.promotion:
            raise DTypeError(
                f"the plan was made for x of {self._x_dtype}, computed as "
                f"{self._call.promotion.computed}; from x of {dtype} conv2d computes "
                f"{promotion.computed}: convert x, or plan with x_dtype={dtype.name!r}"
            )


def batch_of(problem: ConvProblem, shape: Shape) -> int:
    """N of a first operand of this shape, which must otherwise be the planned one."""
    expected = problem.y_shape if problem.result == "x" else problem.x_shape
    batched = problem.rank == problem.spatial + 2
    if batched and len(shape) == len(expected) and shape[1:] == expected[1:]:
        return int(shape[0])
    if shape == expected:
        return 1
    name = calls.OPERANDS[problem.result][0]
    axes = array_axes(problem.rank, problem.layout)
    sizes = format_shape(expected, axes)
    if batched:
        sizes = f"(N, {format_shape(expected[1:], axes[1:])[1:]} with any N"
    got = format_shape(shape, axes) if len(shape) == len(axes) else str(shape)
    raise ShapeError(f"the plan was made for {name} {sizes}, got {name} {got}; plan another")


def _image_shape(x_shape: Any) -> Shape:
    """Check that `x_shape` is a sequence of sizes."""
    try:
        sizes = tuple(operator.index(size) for size in x_shape)
    except TypeError:
        held = f"{x_shape!r:.60}"
        raise TypeError(
            f"x_shape must be a sequence of integers, such as x.shape; got {held}"
        ) from None
    if min(sizes, default=0) < 0:
        raise ShapeError(f"x_shape has a negative size: {sizes}")
    return sizes


def _image_dtype(x_dtype: Any) -> np.dtype[Any]:
    try:
        dtype = as_dtype(x_dtype)
    except TypeError as error:
        raise DTypeError(f"x_dtype={x_dtype!r} is no dtype: {error}") from None
    return dtype
