"""What every operator has in common: a call is described, checked and chosen before it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial, update_wrapper
from inspect import signature
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec

import numpy as np

from .. import arguments, calls, dispatch, interchange
from ..calls import Call, Described
from ..checks import array_axes, format_shape
from ..dtypes import as_dtype
from ..errors import ShapeError
from ..explanation import Explanation
from ..geometry import Shape
from ..keys import key_of, places_of
from ..options import current, resolve
from ..problem import Cost
from ..sizes import Result, Spatial
from .naming import named
from .plan import OperatorPlan

P = ParamSpec("P")


class Kind(NamedTuple):
    """Which of the operators that differ in the dimensions of their images alone."""

    name: str
    spatial: Spatial


@dataclass(frozen=True)
class Held:
    """A shape in the place of an array: enough to describe a call, not to run it."""

    shape: Shape
    dtype: np.dtype[Any]

    def __getitem__(self, index: tuple[slice, ...]) -> Held:
        """Return the shape of that part of the array."""
        sizes = (len(range(n)[i]) for n, i in zip(self.shape, index, strict=True))
        return Held(tuple(sizes), self.dtype)


def held(name: str, value: Any, dtype: Any = None) -> Any:
    """Return an array as it is or converted, and a tuple of sizes as what stands for an array."""
    if isinstance(value, Held):
        return value
    if isinstance(value, tuple) and all(isinstance(size, int) for size in value):
        return Held(value, np.dtype("float32") if dtype is None else as_dtype(dtype))
    return arguments.as_array(name, value)


def conjugated(array: Any) -> Any:
    """Return the conjugate of complex numbers; of anything else itself."""
    complex_numbers = array.dtype.kind == "c" and not isinstance(array, Held)
    return array.conj() if complex_numbers else array


class Common(NamedTuple):
    """Arguments that all operators share, as the caller wrote them."""

    stride: Any = 1
    pad: Any = 0
    dilation: Any = 1
    groups: Any = 1
    pad_mode: Any = "constant"
    layout: Any = None
    flip: bool = False
    out: Any = None
    dtype: Any = None
    precision: str | None = None
    backend: str | None = None
    threads: int | None = None

    @classmethod
    def among(cls, arguments: dict[str, Any]) -> Common:
        """Those of a call's arguments, which bear the same names in every operator: its locals."""
        return cls(**{name: arguments[name] for name in cls._fields if name in arguments})

    def given(self) -> dict[str, Any]:
        """Those that are not the defaults, by their names."""
        pairs = zip(self._fields, self, DEFAULTS, strict=True)
        return {name: value for name, value, default in pairs if value is not default}


DEFAULTS = Common()


@dataclass(frozen=True)
class Request:
    """One call of an operator: operands, what is done with them, and where."""

    a: Any
    b: Any
    bias: Any
    described: Described
    common: Common

    def call(self) -> Call:
        """Check what depends on the arrays, and choose."""
        common = self.common
        shapes = [v.shape for v in (self.a, self.b, self.bias) if isinstance(v, Held)]
        if shapes:
            raise TypeError(
                f"a tuple of sizes, {shapes[0]}, stands where an array is computed with; only "
                "explain, cost and output_shape take shapes"
            )
        options = resolve(common.backend, common.precision, common.threads)
        names = ", ".join(calls.OPERANDS[self.described.problem.result]) + ", bias and out"
        arrays = arguments.array_kind(self.a, self.b, self.bias, common.out, names=names)
        if common.out is not None:
            arguments.check_output(calls.namespace(arrays), *self.described, common.out)
        return calls.call_for(self.described, options, arrays)

    def run(self) -> Any:
        """Compute it."""
        return self.call().run(self.a, self.b, self.bias, self.common.out, self.common.flip)

    def plan(self) -> OperatorPlan:
        """Fix the weights, for many first operands."""
        if self.described.problem.result == "w":
            raise TypeError("a weight gradient has no weights that a plan could keep")
        if isinstance(self.b, Held):
            raise TypeError(f"w must be an array to be planned with, got a shape {self.b.shape}")
        return OperatorPlan(self)

    def explain(self) -> Explanation:
        """Say what would run, and why."""
        options = resolve(self.common.backend, self.common.precision, self.common.threads)
        operands = [v for v in (self.a, self.b, self.bias) if v is not None]
        real = [v for v in operands if not isinstance(v, Held)]
        arrays = arguments.array_kind(*real) if real else dispatch.arrays_for(options)
        problem = self.described.problem
        choice = dispatch.select(problem, options, arrays)
        return Explanation.of(
            problem, options, choice, dispatch.rejections(problem, options, arrays)
        )


def request(
    function: str,
    spatial: Spatial,
    result: Result,
    a: Any,
    b: Any,
    x_shape: Shape,
    w_shape: Shape,
    common: Common,
    bias: Any = None,
    activation: str | None = None,
) -> Request:
    """Check a call and describe it; `x_shape` and `w_shape` are those of the convolution."""
    if isinstance(a, Held) and not isinstance(b, Held):  # a shape is of the weights' dtype
        a = Held(a.shape, b.dtype)
    described = calls.describe_any(
        x_shape, w_shape, a.dtype, b.dtype, common.stride, common.pad, common.dilation,
        common.groups, bias, activation, common.pad_mode, common.layout, common.dtype, spatial,
        result, function,
    )  # fmt: skip
    return Request(a, b, bias, described, common)


def forward(function: str, spatial: Spatial, arguments: dict[str, Any]) -> Request:
    """Describe the convolution that a call's arguments, its locals, make of x and w."""
    dtype, bias = arguments["dtype"], arguments["bias"]
    x, w = held("x", arguments["x"], dtype), held("w", arguments["w"], dtype)
    bias = None if bias is None else held("bias", bias, dtype)
    return request(
        function, spatial, "y", x, w, x.shape, w.shape, Common.among(arguments), bias,
        arguments["activation"],
    )  # fmt: skip


def check_output_gradient(request: Request, gy: Any) -> Request:
    """Raise unless gy has the shape of the convolution's output."""
    problem = request.described.problem
    if tuple(gy.shape) != problem.y_shape:
        names = {"C": "K", "D": "O", "H": "P", "W": "Q", "L": "Q"}
        axes = [names.get(a, a) for a in array_axes(problem.rank, problem.layout)]
        raise ShapeError(
            f"gy has shape {tuple(gy.shape)}, the convolution's output is "
            f"{format_shape(problem.y_shape, axes)} for {problem}"
        )
    return request


#: What other libraries call an argument.
_OTHER_NAMES = {
    "padding": "pad", "pads": "pad", "padding_mode": "pad_mode", "mode": "pad_mode",
    "strides": "stride", "dilations": "dilation", "dilation_rate": "dilation", "group": "groups",
    "data_format": "layout", "weight": "w", "input": "x", "input_size": "x_shape",
    "weight_size": "w_shape", "grad_output": "gy",
}  # fmt: skip


def check_names(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise for an argument that there is none of, and say which was meant."""
    for name in given:
        if name in known:
            continue
        meant = _OTHER_NAMES.get(name, "")
        close = [meant] if meant in known else get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise TypeError(f"{function} has no argument {name!r}{hint}")


class Operator(Generic[P]):
    """An operator of the library: call it, or ask what a call would do.

    ``operator(...)`` computes. ``operator.explain(...)``, ``operator.cost(...)`` and
    ``operator.output_shape(...)`` take the same arguments, or shapes in the place of arrays, and
    compute nothing. ``operator.plan(...)`` keeps the weights for many calls.
    """

    def __init__(self, describe: Callable[P, Request]) -> None:
        self._describe = describe
        update_wrapper(self, describe)

    @classmethod
    def of_every_rank(
        cls,
        describe: Callable[Concatenate[Kind, P], Request],
        name: str,
        doc: str,
        family: str = "conv",
    ) -> tuple[Operator[P], Operator[P], Operator[P]]:
        """Return the operators of one, two and three dimensions.

        `describe` takes a `Kind` before the caller's arguments; `name` has ``{d}`` in it, and `doc`
        what `naming.named` fills in.
        """

        def operator(spatial: Spatial) -> Operator[P]:
            kind = Kind(name.format(d=spatial), spatial)
            made = cls(partial(describe, kind))
            named(made, kind.name, doc, spatial, family)
            return made

        return operator(1), operator(2), operator(3)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Compute."""
        around = current()
        key = key_of(self, around, args, kwargs)
        known = None if key is None else calls.remembered(key)
        if known is not None:
            return known.again(args, kwargs)
        if key is None and interchange.any_foreign(*args, *kwargs.values()):
            return interchange.call(self, args, kwargs)
        request = self._request(*args, **kwargs)
        if type(request) is not Request:
            return request.run()
        call, common = request.call(), request.common
        if key is not None:
            operands = request.a, request.b, request.bias, common.out
            places = places_of(operands, args, kwargs)
            if places is not None:
                calls.remember(key, call, common.flip, request.a.dtype.name, around, places)
        return call.run(request.a, request.b, request.bias, common.out, common.flip)

    def _request(self, *args: P.args, **kwargs: P.kwargs) -> Request:
        """Describe a call; an unknown name among its arguments is told by its likely meaning."""
        if interchange.any_foreign(*args, *kwargs.values()):
            args, kwargs, _ = interchange.views(self, args, kwargs)  # type: ignore[assignment]
        try:
            return self._describe(*args, **kwargs)
        except TypeError:
            known = signature(self._describe).parameters
            check_names(getattr(self, "__name__", "the operator"), kwargs, known)
            raise

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Say what a call would run, and why; see `fastconv.explain`."""
        return self._request(*args, **kwargs).explain()

    def cost(self, *args: P.args, **kwargs: P.kwargs) -> Cost:
        """Count multiply-accumulates and bytes of a call; see `fastconv.conv_cost`."""
        return self._request(*args, **kwargs).described.problem.cost

    def output_shape(self, *args: P.args, **kwargs: P.kwargs) -> Shape:
        """Shape of a call's result."""
        return self._request(*args, **kwargs).described.problem.out_shape

    def check(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Raise what is wrong with a call's shapes and dtypes; nothing is with one made before."""
        key = key_of(self, current(), args, kwargs)
        if key is None or calls.remembered(key) is None:
            self._request(*args, **kwargs)

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> OperatorPlan:
        """Fix the weights: the arguments of a call, with a shape in the place of x, or of gy.

        Returns
        -------
        OperatorPlan
            Call it with arrays of that shape, of any batch size.
        """
        return self._request(*args, **kwargs).plan()

    def __repr__(self) -> str:
        """Print the name."""
        return f"<fastconv operator {getattr(self, '__name__', '?')}>"
