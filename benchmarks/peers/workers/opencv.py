"""OpenCV's ``filter2D``: a call a plane, zeros around the image."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.peers.task import Array, Task, operands

from . import Prepared
from .planes import planes, stacked


def versions() -> dict[str, str]:
    """Version of the library."""
    return {"opencv": cv2.__version__}


def prepare(variant: str, task: Task, threads: int) -> Prepared:
    """Filter every output plane; an image of bytes goes in as it is, float32 comes out."""
    cv2.setNumThreads(threads)
    x, w = operands(task)
    depth = cv2.CV_64F if task.dtype == "float64" else cv2.CV_32F
    pairs = planes(task, x, w)

    def call() -> list[Array]:
        return [
            cv2.filter2D(image, depth, kernel, borderType=cv2.BORDER_CONSTANT)
            for image, kernel in pairs
        ]

    def result(got: list[Array]) -> Array:
        return stacked(task, [np.asarray(plane) for plane in got])

    return Prepared(call, result)
