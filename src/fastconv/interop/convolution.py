"""One convolution for all of its blocks: what `conv2d_blocks` and the adapter for dask run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import arguments, calls, tiling
from ..calls import Call, Described
from ..dtypes import as_dtype
from ..geometry import Pad, Size
from ..options import Options
from ..plan import Conv2dPlan
from ..problem import ConvProblem
from ..tiling import Block

#: Plans that a convolution keeps: blocks of an image have few sizes, and weights take memory.
PLANS = 8


class BlockConvolution:
    """One convolution for its blocks, planned once for each size of them.

    Pickled, it is its arguments and weights: plans are made where blocks are computed, and kept as
    long as it lives there. Any number of threads may use it at once.
    """

    def __init__(
        self, described: Described, options: Options, w: Any, bias: Any, flip: bool,
        x_dtype: np.dtype[Any], dtype: np.dtype[Any] | None,
    ) -> None:  # fmt: skip
        self.described, self.options = described, options
        self.w = arguments.private_copy(w)
        self.bias = None if bias is None else arguments.private_copy(bias)
        self.flip, self.x_dtype, self.dtype = flip, x_dtype, dtype
        self._plans: dict[ConvProblem, Conv2dPlan] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the plans: they belong to this process."""
        return self.__dict__ | {"_plans": {}}

    @property
    def problem(self) -> ConvProblem:
        """The whole convolution."""
        return self.described.problem

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """Dtype of the result."""
        return as_dtype(self.described.promotion.result)

    def __call__(self, block: Block, parts: Sequence[Sequence[Any]], out: Any = None) -> Any:
        """Compute a block from the parts of x that it reads."""
        return self._plan(block.problem)(self._assemble(block, parts), out)

    def _assemble(self, block: Block, parts: Sequence[Sequence[Any]]) -> Any:
        if parts and parts[0]:
            return assemble(block, parts)
        return arguments.module_of(self.w).zeros(block.read_shape, self.x_dtype)

    def _plan(self, problem: ConvProblem) -> Conv2dPlan:
        plan = self._plans.get(problem)
        if plan is None:
            arrays = arguments.array_kind(self.w, self.bias)
            # with "fast", what the block's own size makes fastest
            alone = self.options.precision == "fast"
            block = replace(problem, whole=None) if alone else problem
            described = Described(block, self.described.promotion)
            call = Call(described, self.options, arrays)
            plan = Conv2dPlan(call, self.w, self.bias, self.flip, self.x_dtype, self.dtype)
            if len(self._plans) >= PLANS:
                self._plans = {}
            self._plans[problem] = plan
        return plan


def described_convolution(
    x_shape: Sequence[int], x_dtype: Any, w: Any, stride: Size, pad: Pad, dilation: Size,
    groups: int, bias: Any, activation: str | None, pad_mode: str, flip: bool, layout: str,
    dtype: Any, options: Options,
) -> BlockConvolution:  # fmt: skip
    """Check the arguments of a `conv2d`, and that a backend computes it."""
    w = arguments.as_array("w", w)
    bias = None if bias is None else arguments.as_array("bias", bias)
    described = calls.describe(
        tuple(x_shape), x_dtype, w, stride, pad, dilation, groups, bias, activation, pad_mode,
        layout, dtype,
    )  # fmt: skip
    Call(described, options, arguments.array_kind(w, bias))
    wanted = None if dtype is None else as_dtype(dtype)
    return BlockConvolution(described, options, w, bias, bool(flip), x_dtype, wanted)


def assemble(block: Block, parts: Sequence[Sequence[Any]]) -> Any:
    """Put the parts of x that a block reads beside one another, and take its pixels of them."""
    x = parts[0][0]
    if len(parts) > 1 or len(parts[0]) > 1:
        down, across = tiling.image_axes(block.problem)
        x = np.empty_like(x, shape=block.read_shape, subok=False)
        index = [slice(None)] * x.ndim
        top = 0
        for row in parts:
            left, bottom = 0, top + row[0].shape[down]
            index[down] = slice(top, bottom)
            for part in row:
                index[across] = slice(left, left + part.shape[across])
                x[tuple(index)] = part
                left += part.shape[across]
            top = bottom
    for axis, taken in block.taken:
        x = x.take(taken, axis)
    return x
