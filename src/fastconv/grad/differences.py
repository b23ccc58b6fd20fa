"""The function that is checked, and its differences along one of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from .report import LEAST_SMOOTH, Comparison

Array = np.ndarray[Any, Any]

EPS = float(np.finfo(np.float64).eps)

#: Of the size of an element: curvature costs step**2, rounding EPS / step; here they balance.
STEP = float(np.cbrt(EPS))


class Subject:
    """The function and its inputs, whichever way they were written."""

    def __init__(self, function: Callable[..., Any], inputs: Any) -> None:
        self.function = function
        self.named = isinstance(inputs, Mapping)
        self.single = not isinstance(inputs, Mapping | list | tuple)
        values = inputs.values() if self.named else [inputs] if self.single else inputs
        self.values = [_as_float64(v) for v in values]
        self.names = list(map(str, inputs)) if self.named else _names(function, len(self.values))
        y = self.run(self.values)
        if not np.array_equal(y, self.run(self.values), equal_nan=True):
            raise ValueError(
                "the function returns something else for the same inputs; seed its random numbers"
            )
        self.y = y

    def call(self, function: Callable[..., Any], values: Sequence[Array], **more: Any) -> Any:
        """Call a function with inputs; gy comes last, by name with a mapping."""
        if self.named:
            return function(**dict(zip(self.names, values, strict=True)), **more)
        return function(*values, *more.values())

    def run(self, values: Sequence[Array]) -> Array:
        """Compute the function: a float64 array that nobody else holds."""
        y = np.asarray(self.call(self.function, values))
        if y.dtype.kind == "f" and y.dtype.itemsize >= 8:
            return np.array(y, np.float64)
        raise DTypeError(
            f"the function returns {y.dtype} for float64 inputs: differences need all digits of "
            "float64; leave out conversions, and dtype= of float32"
        )

    def output_gradient(self, gy: Any, drawn: bool, rng: np.random.Generator) -> Array:
        """Check or choose gy."""
        if gy is None:
            if drawn:
                gy = rng.standard_normal(self.y.shape)
            elif self.y.size == 1:
                gy = np.ones(self.y.shape)
            else:
                raise ShapeError(
                    f"the function returns {self.y.shape}: pass the gy of that shape that the "
                    "gradients were computed with, or a function of the inputs and gy"
                )
        value = _as_float64(gy)
        if value.shape != self.y.shape:
            raise ShapeError(f"gy has shape {value.shape}, the function returns {self.y.shape}")
        return value

    def gradients(self, gradients: Any, gy: Array) -> Iterator[tuple[int, Array]]:
        """List the gradients that were given, each with its input's position."""
        if callable(gradients):
            gradients = self.call(gradients, self.values, gy=gy)
        if self.named:
            unknown = sorted(set(gradients) - set(self.names))
            if unknown:
                raise ShapeError(f"gradients of {unknown}, which are no inputs: {self.names}")
            gradients = [gradients.get(name) for name in self.names]
        elif not isinstance(gradients, list | tuple):
            gradients = [gradients]
        if len(gradients) != len(self.values):
            raise ShapeError(
                f"{len(gradients)} gradients for {len(self.values)} inputs ({self.names}); None "
                "stands for one that is not checked"
            )
        for position, gradient in enumerate(gradients):
            if gradient is None:
                continue
            value = np.asarray(gradient, np.float64)
            if value.shape != self.values[position].shape:
                raise ShapeError(
                    f"the gradient of {self.names[position]} has shape {value.shape}, "
                    f"{self.names[position]} has {self.values[position].shape}"
                )
            yield position, value


def _as_float64(value: Any) -> Array:
    """Copy to float64, read-only: a function that writes into its inputs is told by NumPy."""
    array = np.array(value, np.float64)
    array.flags.writeable = False
    return array


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """Name inputs as the function's parameters, where they can be read."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in by_position]
    return names[:count] if len(names) >= count else [f"input {i}" for i in range(count)]


class Probe:
    """Differences of the function along one of its inputs, and what they may be off by."""

    def __init__(
        self, subject: Subject, position: int, gradient: Array, gy: Array, step: float,
        rounding: float,
    ) -> None:  # fmt: skip
        self.subject, self.position, self.gradient = subject, position, gradient
        self.gy, self.step, self.rounding = gy, step, rounding
        self.x = subject.values[position]
        sizes = np.abs(self.x)
        typical = float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0
        self.scale = np.maximum(sizes, typical)
        y = np.abs(subject.y)
        # an element that cancelled carries the roundings of its terms, as large as the others
        carried = np.maximum(y, np.sqrt(np.mean(y * y))) if y.size else y
        self.noise = float(np.sqrt(np.sum((gy * carried) ** 2)))

    def element(self, index: int) -> Comparison:
        """Compare the derivative with respect to one element, by its place in C order."""
        weights = np.zeros(self.x.size)
        weights[index] = 1
        where = tuple(int(i) for i in np.unravel_index(index, self.x.shape))
        return self._compare(weights, where, 1 / float(self.scale.flat[index]))

    def along(self, weights: Array) -> Comparison:
        """Compare the derivative along a direction, of the size of the input at weights of 1."""
        return self._compare(weights, None, 1.0)

    def _compare(self, weights: Array, index: tuple[int, ...] | None, unit: float) -> Comparison:
        direction = weights.reshape(self.x.shape) * self.scale
        numerical, moved = self._difference(direction, self.step)
        doubled, _ = self._difference(direction, 2 * self.step)
        steps = self.gradient[moved != 0] * moved[moved != 0]  # NaN elsewhere is no part of it
        analytic = float(np.sum(steps))
        largest = max(abs(doubled), abs(numerical))
        curvature = min(abs(doubled - numerical), LEAST_SMOOTH * largest)
        terms = self.noise / self.step + float(np.sqrt(np.sum(steps**2)))
        tolerance = curvature + self.rounding * EPS * terms
        return Comparison(
            self.subject.names[self.position], index, analytic * unit, numerical * unit,
            doubled * unit, tolerance * unit,
        )  # fmt: skip

    def _difference(self, direction: Array, step: float) -> tuple[float, Array]:
        """Derivative along a direction, and the direction as the rounding of x left it."""
        ends = [_as_float64(self.x + sign * step * direction) for sign in (1, -1)]
        values = list(self.subject.values)
        results = []
        for end in ends:
            values[self.position] = end
            results.append(self.subject.run(values))
        difference = float(np.sum(self.gy * (results[0] - results[1])))
        return difference / (2 * step), (ends[0] - ends[1]) / (2 * step)
