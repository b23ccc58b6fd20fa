"""Power laws fitted to measurements: exponent and confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class PowerLaw(NamedTuple):
    """``y = scale * x**exponent``; the exponent is known to +- `margin` at 95 % confidence."""

    exponent: float
    margin: float
    scale: float

    def __str__(self) -> str:
        return f"{self.exponent:.3f} ± {self.margin:.3f}"


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Fit by least squares on the logarithms, errors assumed equal and normal there.

    Parameters
    ----------
    x, y : sequence of float
        At least three positive pairs.

    Raises
    ------
    ValueError
        Fewer than three pairs, or more than the table of Student's t covers.
    """
    degrees = len(x) - 2
    if not 1 <= degrees <= len(STUDENT_95):
        raise ValueError(f"cannot fit {len(x)} points: 3 to {len(STUDENT_95) + 2} are needed")
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    du = u - u.mean()
    exponent = float(du @ v / (du @ du))
    offset = float(v.mean() - exponent * u.mean())
    residual = v - (offset + exponent * u)
    error = float(np.sqrt(residual @ residual / degrees / (du @ du)))
    return PowerLaw(exponent, STUDENT_95[degrees - 1] * error, float(np.exp(offset)))
