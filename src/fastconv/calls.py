"""A call, described and chosen: what `conv2d` repeats and a plan keeps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import arguments, dispatch, lowering
from .backends import Backend, Direct, algorithm_for, direct
from .dispatch import Choice
from .dtypes import COMPONENTS, Promotion, as_dtype, promote
from .errors import DTypeError
from .geometry import Shape
from .keys import Place, is_plain
from .options import Options
from .problem import ConvProblem
from .sizes import Result, Spatial

#: What the two operands are called, by what is computed from them.
OPERANDS = {"y": ("x", "w"), "x": ("gy", "w"), "w": ("x", "gy")}


class Described(NamedTuple):
    """A problem and the dtypes its arrays are read, computed and returned in."""

    problem: ConvProblem
    promotion: Promotion


class Call:
    """One convolution with everything decided that no array's values change.

    Attributes
    ----------
    problem, promotion : ConvProblem, Promotion
    options : Options
    choice : Choice
    backend : Backend
        The module that `choice` names.
    arrays : str
        ``numpy`` or ``cupy``.
    """

    __slots__ = (
        "_lowered", "_spatial", "arrays", "backend", "choice", "options", "problem", "promotion",
        "xp",
    )  # fmt: skip

    def __init__(self, described: Described, options: Options, arrays: str) -> None:
        self.problem, self.promotion = described
        self.options, self.arrays = options, arrays
        self.choice: Choice = dispatch.select(self.problem, options, arrays)
        self.backend: Backend = dispatch.load(self.choice.backend)
        self.xp: Any = namespace(arrays)
        self._spatial = self.problem.spatial
        self._lowered: lowering.Lowered | None = None

    def with_batch(self, n: int) -> Call:
        """Return the same call for n images, made by the same backend."""
        call = Call.__new__(Call)
        call.problem, call.promotion = self.problem.with_batch(n), self.promotion
        call.options, call.arrays, call.xp = self.options, self.arrays, self.xp
        call.choice, call.backend = self.choice, self.backend
        call._spatial, call._lowered = self._spatial, None
        return call

    def run(self, a: Any, b: Any, bias: Any, out: Any, flip: bool) -> Any:
        """Compute arrays as the caller holds them; everything but `out` has been checked.

        a and b are x and w for y, the gradient of y and w for that of x, x and the gradient of y
        for that of w; a `flip` turns w, or its gradient.
        """
        if out is not None:
            arguments.check_output(self.xp, self.problem, self.promotion, out)
        if self.arrays == "numpy":
            return self._run(a, b, bias, out, flip)
        first, second = OPERANDS[self.problem.result]
        with arguments.on_device(self.arrays, **{first: a, second: b}, bias=bias, out=out):
            return self._run(a, b, bias, out, flip)

    def _run(self, a: Any, b: Any, bias: Any, out: Any, flip: bool) -> Any:
        weights, addend = self._second_operand(b, flip), self._readable_bias(bias)
        lowered = self.lowered

        def compute(image: Any, target: Any) -> None:
            lowered(image, weights, addend, target)

        return self.compute(a, (b, addend), out, compute, flip)

    @property
    def lowered(self) -> lowering.Lowered:
        """The problem as its backend computes it."""
        if self._lowered is None:
            self._lowered = lowering.Lowered(self.backend, self.problem, self.options)
        return self._lowered

    def _second_operand(self, b: Any, flip: bool) -> Any:
        """Logical w, or gradient of y, in the dtype that backends read; a view where it can be."""
        if self.problem.result == "w":
            view = arguments.logical(b, self.problem)
        else:
            view = arguments.kernel(b, flip, self._spatial)
        return arguments.readable(self.xp, view, self.promotion.operand)

    def _readable_bias(self, bias: Any) -> Any:
        if bias is None:
            return None
        bias = arguments.readable(self.xp, bias, self.promotion.computed)
        return self.xp.ascontiguousarray(bias)

    def readable_weights(self, w: Any, bias: Any, flip: bool) -> tuple[Any, Any]:
        """Logical w and contiguous bias in the dtypes that backends read; views where they can."""
        return self._second_operand(w, flip), self._readable_bias(bias)

    def compute(
        self,
        a: Any,
        others: tuple[Any, ...],
        out: Any,
        function: Callable[[Any, Any], None],
        flip: bool = False,
    ) -> Any:
        """Run function(a, result) on logical views; `others` are inputs that `out` may overlap."""
        target, result = arguments.output(self.xp, self.problem, self.promotion, out, (a, *others))
        if target.size:
            if self.problem.result == "w":
                view = arguments.kernel(target, flip, self._spatial)
            else:
                view = arguments.logical(target, self.problem)
            image = arguments.logical(a, self.problem)
            function(arguments.readable(self.xp, image, self.promotion.operand), view)
        if result is not target:
            with np.errstate(over="ignore", invalid="ignore"):
                result[...] = target
        return result


def choice_for(
    problem: ConvProblem, options: Options, choice: Choice, w: Any, promotion: Promotion
) -> Choice:
    """Return the choice with the algorithm that these very weights get."""
    if options.precision != "fast" or problem.dtype in COMPONENTS:
        return choice
    kernel = arguments.kernel(arguments.as_array("w", w), False)
    kernel = arguments.readable(np, kernel, promotion.operand)
    backend = dispatch.load(choice.backend)
    return replace(choice, algorithm=algorithm_for(backend, problem, options, kernel))


@lru_cache(maxsize=1024)
def call_for(described: Described, options: Options, arrays: str) -> Call:
    """Return the call that these decide; equal ones are decided once."""
    return Call(described, options, arrays)


class Remembered(NamedTuple):
    """A call that will be made again with other arrays of the same shapes, dtypes and options."""

    call: Call
    #: The backend's short way for arrays that need no conversion.
    direct: Direct | None
    #: Options in force around the call: held, so that their identity stays theirs.
    around: Options
    #: Of an operator's call: whether it turns the kernel; where its operands, bias and out are.
    flip: bool
    places: tuple[Place, ...]

    def again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make an operator's call with the arrays that stand where those of the first one did."""
        a, b, bias, out = [
            None if place is None else kwargs[place] if isinstance(place, str) else args[place]
            for place in self.places
        ]
        if self.direct is not None:
            result = self.direct(a, b, bias, out)
            if result is not None:
                return result
        return self.call.run(a, b, bias, out, self.flip)


#: The calls made last, by everything that decides them. Their keys hold no array's values.
_remembered: dict[Any, Remembered] = {}
MOST_REMEMBERED = 1024


def remembered(key: Any) -> Remembered | None:
    """Find a call by its key."""
    try:
        return _remembered.get(key)
    except TypeError:  # an argument that cannot be hashed; the call itself will explain
        return None


def remember(
    key: Any, call: Call, flip: bool, image: str, around: Options, places: tuple[Place, ...] = ()
) -> None:
    """Keep a call, with x of dtype `image`, for the next one with an equal key."""
    short = None
    problem = call.problem
    if call.promotion.result == call.promotion.computed and problem.out_bytes and problem.reduction:
        short = direct(call.backend, problem, call.options, flip, image)
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    _remembered[key] = Remembered(call, short, around, flip, places)


def forget() -> None:
    """Forget all calls, and what they chose."""
    _remembered.clear()
    call_for.cache_clear()
    dispatch.select.cache_clear()


def namespace(arrays: str) -> Any:
    """Return the module of a kind of array: NumPy or CuPy."""
    return sys.modules["cupy"] if arrays == "cupy" else np


def promotion_of(
    x: np.dtype[Any], w: np.dtype[Any], dtype: Any, names: tuple[str, str] = ("x", "w")
) -> Promotion:
    """Promote the operands' dtypes; `dtype` is whatever the caller wrote."""
    try:
        wanted = None if dtype is None else as_dtype(dtype)
    except TypeError as error:
        raise DTypeError(f"dtype={dtype!r} is no dtype: {error}") from None
    return promote(x, w, wanted, names)


@lru_cache(maxsize=1024)
def _describe_cached(
    x_shape: Shape, w_shape: Shape, a_dtype: Any, b_dtype: Any, stride: Any, pad: Any,
    dilation: Any, groups: Any, bias_shape: Shape | None, activation: Any, pad_mode: Any,
    layout: Any, dtype: Any, spatial: Spatial, result: Result, function: str | None,
) -> Described:  # fmt: skip
    promotion = promotion_of(a_dtype, b_dtype, dtype, OPERANDS[result])
    problem = ConvProblem.describe(
        x_shape, w_shape, stride=stride, pad=pad, dilation=dilation, groups=groups,
        pad_mode=pad_mode, layout=layout, promotion=promotion, bias_shape=bias_shape,
        activation=activation, spatial=spatial, result=result, function=function,
    )  # fmt: skip
    return Described(problem, promotion)


def describe(
    x_shape: Shape, x_dtype: Any, w: Any, stride: Any, pad: Any, dilation: Any, groups: Any,
    bias: Any, activation: Any, pad_mode: Any, layout: Any, dtype: Any,
) -> Described:  # fmt: skip
    """Describe a conv2d and check its bias; equal calls are described once."""
    return describe_any(
        x_shape, w.shape, x_dtype, w.dtype, stride, pad, dilation, groups, bias, activation,
        pad_mode, layout, dtype, 2, "y", None,
    )  # fmt: skip


def describe_any(
    x_shape: Shape, w_shape: Shape, a_dtype: Any, b_dtype: Any, stride: Any, pad: Any,
    dilation: Any, groups: Any, bias: Any, activation: Any, pad_mode: Any, layout: Any, dtype: Any,
    spatial: Spatial, result: Result, function: str | None,
) -> Described:  # fmt: skip
    """Describe a call of any operator and check its bias; equal calls are described once.

    Only plain integers may be cached: 1 and 1.0 are equal keys, and 1.0 must be refused.
    """
    plain = is_plain(stride, pad, dilation, groups)
    function_of = _describe_cached if plain else _describe_cached.__wrapped__
    described = function_of(
        x_shape, w_shape, a_dtype, b_dtype, stride, pad, dilation, groups,
        None if bias is None else bias.shape, activation, pad_mode, layout, dtype, spatial, result,
        function,
    )  # fmt: skip
    if bias is not None:
        arguments.check_bias(bias, described.promotion.computed)
    return described
