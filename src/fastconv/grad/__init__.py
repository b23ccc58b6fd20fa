"""Gradients held against differences: `check`, for the tests of code that computes its own.

    numerical = sum(gy * (f(x + h u) - f(x - h u))) / 2h     u a direction, or one element

in float64. Two things keep it from the derivative, and the tolerance is their sum: curvature, seen
by the difference of twice the step, and the rounding of f, which h divides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import GradientError
from .differences import STEP, Array, Probe, Subject
from .report import Comparison, Report

__all__ = ["Comparison", "GradientError", "Report", "check"]


def check(
    function: Callable[..., Any],
    inputs: Any,
    gradients: Any,
    *,
    gy: Any = None,
    elements: int = 100,
    directions: int = 4,
    step: float = STEP,
    rounding: float = 16.0,
    seed: int = 0,
    raises: bool = False,
) -> Report:
    """Hold the gradients of ``sum(gy * function(*inputs))`` against central differences.

    Parameters
    ----------
    function : callable
        ``function(*inputs)`` returns an array of any shape, or a number; the same for the same
        inputs, in float64. With a mapping of inputs ``function(**inputs)``.
    inputs : array, sequence of arrays or mapping of str to array
        Where the derivatives are taken; the function receives them as read-only float64 arrays.
        Stay away from kinks: at 0 no difference gives the derivative that ``relu`` is said to have.
    gradients : callable, or what it returns
        ``gradients(*inputs, gy)`` (with a mapping ``gradients(**inputs, gy=gy)``) returns, in the
        form of `inputs`, an array for each; None, or a name left out, is not checked.
    gy : array, optional
        Of the shape of the function's result. Default: random numbers, so that a gradient that
        ignores gy is found; 1 where `gradients` holds arrays and the function returns a number.
    elements : int, default 100
        Inputs of at most so many elements are checked element by element; of larger ones the
        first, the last and a random choice. What a direction finds beyond them is located.
    directions : int, default 4
        Random directions through each input, with all of its elements at once.
    step : float, optional
        Of the size of an element (at least the median of its input). Default: EPS ** (1/3).
    rounding : float, default 16
        Roundings that each element of the function's result carries, in units of its last place.
    seed : int, default 0
        Of gy, directions and elements.
    raises : bool, default False
        Raise unless all derivatives agree.

    Returns
    -------
    Report
        True where all derivatives agree. ``ok``, ``worst`` (input, index, analytic, numerical,
        tolerance), ``failures``, ``comparisons``; prints what is wrong.

    Raises
    ------
    GradientError
        With ``raises=True``: the report, as an `AssertionError`.
    ShapeError
        A gradient has not the shape of its input, or gy not that of the result.
    DTypeError
        The function does not compute in float64.
    ValueError
        It returns something else for the same inputs.

    Notes
    -----
    Four calls of the function for each derivative. tolerance = |D(h) - D(2h)| + rounding * EPS *
    (||gy * y|| / h + ||gradient||): the first term is three times the curvature's share, capped at
    1/1000 of the derivative so that a kink excuses nothing; the second is what rounding moves.

    Beside `torch.autograd.gradcheck` (function, inputs, tolerances by hand, the whole Jacobian) and
    `scipy.optimize.check_grad` (function of one vector, one number returned): gradients are
    whatever computes them, results and inputs have any shapes, the tolerance is derived, and one
    random gy takes the place of the Jacobian's rows.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> from fastconv import grad
    >>> x, w = np.linspace(-1, 1, 50).reshape(2, 5, 5), np.linspace(1, 2, 18).reshape(1, 2, 3, 3)
    >>> def gradients(x, w, gy):
    ...     return fastconv.conv2d_input_grad(x.shape, w, gy), 2 * fastconv.conv2d_weight_grad(
    ...         x, w.shape, gy)
    >>> report = grad.check(fastconv.conv2d, (x, w), gradients)
    >>> report.ok, report.worst.input
    (False, 'w')
    >>> print(str(report).splitlines()[-1])
    w: analytic is 2 times numerical throughout
    """
    if elements < 0 or directions < 0 or elements + directions == 0:
        raise ValueError(f"nothing to check with elements={elements} and directions={directions}")
    if not (step > 0 and rounding > 0):
        raise ValueError(f"step and rounding must be positive, got {step!r} and {rounding!r}")
    rng = np.random.default_rng(seed)
    subject = Subject(function, inputs)
    gy = subject.output_gradient(gy, callable(gradients), rng)
    comparisons: list[Comparison] = []
    for position, gradient in subject.gradients(gradients, gy):
        probe = Probe(subject, position, gradient, gy, step, rounding)
        comparisons += _compare(probe, elements, directions, rng)
    if not comparisons:
        raise ValueError("gradients names none of the inputs, or they hold no element")
    report = Report(tuple(comparisons))
    if raises and not report.ok:
        raise GradientError(str(report))
    return report


def _compare(
    probe: Probe, elements: int, directions: int, rng: np.random.Generator
) -> list[Comparison]:
    """Check one input: elements, directions, and the element behind a direction that fails."""
    size = probe.x.size
    if size == 0:
        return []
    chosen = np.arange(size)
    if size > elements:
        ends = np.array([0, size - 1])[:elements]
        between = 1 + rng.choice(size - 2, elements - len(ends), replace=False)
        chosen = np.union1d(ends, between)
    found = [probe.element(int(i)) for i in chosen]
    for _ in range(directions):
        signs = rng.choice([-1.0, 1.0], size)
        along = probe.along(signs)
        found.append(along)
        if all(c.ok or c.index is None for c in found) and not along.ok and size > elements:
            found.append(probe.element(_locate(probe, signs)))
    return found


def _locate(probe: Probe, signs: Array) -> int:
    """Halve a failing direction, keeping the half that is farther off, down to one element."""
    low, high = 0, signs.size
    whole = probe.along(signs)
    while high - low > 1:
        middle = (low + high) // 2
        half = np.zeros_like(signs)
        half[low:middle] = signs[low:middle]
        first = probe.along(half)
        off = first.analytic - first.numerical
        rest = whole.analytic - whole.numerical - off
        if not np.isfinite(off) or abs(off) >= abs(rest):  # false where the rest is NaN
            high, whole = middle, first
        else:
            low = middle
            half[:] = 0
            half[low:high] = signs[low:high]
            whole = probe.along(half)
    return low
