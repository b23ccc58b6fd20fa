"""The errors that fastconv raises; each is also the built-in error NumPy users expect."""


class FastconvError(Exception):
    """Base of every error that fastconv raises on purpose."""


class ShapeError(FastconvError, ValueError):
    """Shapes, strides, pads or groups that describe no convolution."""


class DTypeError(FastconvError, TypeError):
    """A dtype (or a kind of array) that cannot be convolved, or not without losing values."""


class OutputError(FastconvError, ValueError):
    """An ``out`` array that cannot hold the result: wrong shape, wrong dtype or read-only."""


class BackendUnavailable(FastconvError, ImportError):
    """A backend was asked for by name and cannot be used on this machine."""


class BackendUnsupported(FastconvError, NotImplementedError):
    """A backend was asked for by name and does not compute this problem."""


class SizeError(FastconvError, MemoryError):
    """A result too large for any address space, refused before anything is allocated."""


class GradientError(FastconvError, AssertionError):
    """Gradients that differences contradict: what `fastconv.grad.check` raises on request."""


class ResumeError(FastconvError, ValueError):
    """A file of a run that was interrupted, and another run that cannot go on from there."""
