"""Plans of operators: weights packed once, for any number of first operands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import arguments, calls, dispatch, interchange, lowering
from ..backends import Direct
from ..calls import Call
from ..dtypes import Promotion
from ..errors import DTypeError
from ..explanation import Explanation
from ..options import resolve
from ..plan import batch_of
from ..problem import ConvProblem

#: Batch sizes whose calls a plan remembers.
REMEMBERED = 64


class OperatorPlan:
    """An operator with its weights fixed; made by ``fastconv.conv1d.plan(...)`` and its like.

    Call it: ``plan(x, out=None)`` has the very bits of the call. Any number of threads may do so at
    once, with any batch size. Weights are packed part by part, when a part is first computed.
    Pickled, a plan is its arguments and weights.

    Attributes
    ----------
    problem : ConvProblem
        What is computed, with the batch size it was planned for.
    """

    def __init__(self, request: Any) -> None:
        common = request.common
        options = resolve(common.backend, common.precision, common.threads)
        arrays = arguments.array_kind(request.b, request.bias)
        self._request, self._flip = request, common.flip
        self._call: Call = calls.call_for(request.described, options, arrays)
        self.problem: ConvProblem = self._call.problem
        with arguments.on_device(arrays, w=request.b, bias=request.bias):
            w = arguments.private_copy(request.b)
            bias = None if request.bias is None else arguments.private_copy(request.bias)
            self._kernel, self._addend = self._call.readable_weights(w, bias, common.flip)
        self._kept = lowering.Kept(self.problem, request.a.dtype.name)
        self._calls: dict[tuple[int, ...], tuple[Call, lowering.Lowered]] = {}
        self._direct: Direct | None = None
        self._rounds = self._call.promotion.result != self._call.promotion.computed

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Compute from the first operand: x, or the gradient of y for an input gradient.

        Raises
        ------
        ShapeError
            It has another shape than planned, N aside.
        DTypeError
            It would be computed in another dtype than planned.
        OutputError, MemoryError
            As the call.
        """
        if self._direct is not None:
            y = self._direct(x, out)
            if y is not None:
                return y
        if (
            type(x) is type(self._kernel) is np.ndarray
            and out is None
            and x.dtype == self._request.a.dtype
            and x.shape in self._calls
        ):
            y = self._compute(*self._calls[x.shape], x, None)
        else:
            y = self._checked(x, out)
        if not self._rounds:
            self._direct = self._kept.direct
        return y

    def _checked(self, x: Any, out: Any) -> Any:
        """Look at the arrays, and compute."""
        if interchange.any_foreign(x, out):
            return interchange.call(self, (x,), {"out": out})
        name = calls.OPERANDS[self.problem.result][0]
        arrays = arguments.array_kind(x, self._kernel, out, names=f"{name}, w, bias and out")
        x = arguments.as_array(name, x)
        call, lowered = self._for_shape(tuple(x.shape))
        self._check_dtype(name, x.dtype)
        if out is not None:
            arguments.check_output(call.xp, call.problem, call.promotion, out)
        with arguments.on_device(arrays, **{name: x}, w=self._kernel, out=out):
            return self._compute(call, lowered, x, out)

    def _compute(self, call: Call, lowered: lowering.Lowered, x: Any, out: Any) -> Any:
        def compute(image: Any, target: Any) -> None:
            lowered(image, self._kernel, self._addend, target)

        return call.compute(x, (), out, compute)

    def explain(self) -> Explanation:
        """Say what the plan runs, and why."""
        call = self._call
        others = dispatch.rejections(self.problem, call.options, call.arrays)
        return Explanation.of(
            self.problem, call.options, call.choice, others, self._kept.packed_bytes
        )

    def __repr__(self) -> str:
        """Print the problem and what computes it."""
        choice = self._call.choice
        return f"<OperatorPlan: {self.problem}; {choice.backend}, {choice.algorithm.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments: packed weights belong to this machine's processor."""
        options = self._call.options
        common = self._request.common._replace(
            out=None, backend=options.backend, precision=options.precision, threads=options.threads
        )
        return OperatorPlan, (replace(self._request, common=common),)

    def _for_shape(self, shape: tuple[int, ...]) -> tuple[Call, lowering.Lowered]:
        found = self._calls.get(shape)
        if found is None:
            n = batch_of(self.problem, shape)
            call = self._call if n == self.problem.n else self._call.with_batch(n)
            found = call, lowering.Lowered(call.backend, call.problem, call.options, self._kept)
            if len(self._calls) >= REMEMBERED:
                self._calls = {}
            self._calls[shape] = found
        return found

    def _check_dtype(self, name: str, dtype: np.dtype[Any]) -> None:
        planned = self._request.a.dtype
        if dtype == planned:
            return
        wanted: Promotion = self._call.promotion
        names = calls.OPERANDS[self.problem.result]
        w = self._request.b.dtype
        if calls.promotion_of(dtype, w, self._request.common.dtype, names) != wanted:
            raise DTypeError(
                f"the plan was made for {name} of {planned}, computed as {wanted.computed}; "
                f"convert {name}, or plan with an array of {dtype} in its place"
            )
