"""The C interface, called by ctypes; beside it the same plan in Python."""

from __future__ import annotations

import ctypes

import numpy as np
from tests.support import c_api

import fastconv

from .row import Row


def rows() -> list[Row]:
    """One small layer as a plan and as a call; ctypes itself takes a part of a microsecond."""
    x, w = np.ones((1, 8, 8, 8), "float32"), np.ones((8, 8, 3, 3), "float32")
    y = np.empty((1, 8, 6, 6), "float32")
    api, problem, options = c_api.api(), c_api.describe(x, w, y), c_api.options(threads=1)
    at_x, at_w, at_y = (ctypes.c_void_p(array.ctypes.data) for array in (x, w, y))
    plan = ctypes.c_void_p()
    c_api.check(api.plan_create(problem, options, at_w, None, ctypes.byref(plan)))
    pointers = ctypes.byref(problem), ctypes.byref(options)
    planned = fastconv.plan_conv2d(w, x.shape, threads=1, backend="native")

    def call() -> object:
        return fastconv.conv2d(x, w, threads=1, backend="native", out=y)

    return [
        Row("plan_run, 8 channels 8x8", lambda: api.plan_run(plan, 1, at_x, at_y, 1),
            lambda: planned(x, y)),
        Row("run, 8 channels 8x8", lambda: api.run(*pointers, at_x, at_w, None, at_y), call),
    ]  # fmt: skip
