"""Drop-ins for SciPy's convolutions: call them, or let SciPy's own names mean them.

`convolve`, `correlate`, `convolve2d` and `correlate2d` are those of `scipy.signal`;
``ndimage.convolve``, ``ndimage.correlate`` and their ``1d`` those of `scipy.ndimage`. What fastconv
does not compute as SciPy does goes to SciPy's own function, with its errors and warnings.
"""

from . import ndimage
from .drop_in import Calls
from .patching import patch
from .signal import convolve, convolve2d, correlate, correlate2d

__all__ = [
    "Calls",
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "ndimage",
    "patch",
]
