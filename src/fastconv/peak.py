"""The machine's measured floating-point peak: what a share of peak is a share of."""

from __future__ import annotations

from . import dispatch


def measure_peak(threads: int, dtype: str = "float32", seconds: float = 0.05) -> float | None:
    """Measure multiply-add throughput of a register-only loop, in GFLOP/s.

    Parameters
    ----------
    threads : int
        Threads that run the loop at the same time.
    dtype : {"float32", "float64"}
    seconds : float
        How long each thread runs.

    Returns
    -------
    float or None
        GFLOP/s of all threads together, in the instruction set the native backend uses; None
        without the native backend. On a shared machine the figure moves: measure it beside what
        is compared with it.
    """
    if dispatch.availability("native") is not None:
        return None
    from .backends import native

    return native.measure_peak(threads, dtype == "float64", seconds)
