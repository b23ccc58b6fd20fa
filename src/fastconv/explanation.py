"""What `explain` returns: the choice, every rejection with its reason, the cost."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import format_shape
from .dispatch import Choice
from .options import Options
from .problem import ConvProblem, Cost


@dataclass(frozen=True)
class Explanation:
    """Report on one call; print it, or read its attributes.

    Attributes
    ----------
    problem : ConvProblem
    backend, algorithm : str
        What would run.
    cost : Cost
        Multiply-accumulates, flops, bytes, arithmetic intensity.
    scratch_bytes : int
        Memory the algorithm needs besides x, w and the result, all threads together.
    rejected : tuple of (str, str)
        Backends that cannot serve this call, with their reasons.
    able : tuple of str
        Backends below the chosen one that could serve as well.
    packed_bytes : int
        Memory a plan holds for packed weights, beside its copy of w; 0 for a call without a plan.
    """

    problem: ConvProblem
    backend: str
    algorithm: str
    cost: Cost
    scratch_bytes: int
    threads: int
    precision: str
    rejected: tuple[tuple[str, str], ...]
    able: tuple[str, ...]
    packed_bytes: int = 0

    @classmethod
    def of(
        cls,
        problem: ConvProblem,
        options: Options,
        choice: Choice,
        others: list[tuple[str, str | None]],
        packed_bytes: int = 0,
    ) -> Explanation:
        """Join the choice with what every other backend says of the problem."""
        return cls(
            problem,
            choice.backend,
            choice.algorithm.name,
            problem.cost,
            choice.algorithm.scratch_bytes,
            options.threads,
            options.precision,
            tuple((name, reason) for name, reason in others if reason is not None),
            tuple(name for name, reason in others if reason is None and name != choice.backend),
            packed_bytes,
        )

    def __str__(self) -> str:
        """Print the report."""
        p, cost = self.problem, self.cost
        lines = [
            f"problem    {p}",
            f"result     {format_shape(p.out_shape, p.out_axes)} {p.out_dtype}",
            f"chosen     {self.backend}, algorithm {self.algorithm}, precision {self.precision}, "
            f"at most {self.threads} thread{'s' if self.threads != 1 else ''}",
            f"cost       {_quantity(cost.macs)}MAC = {_quantity(cost.flops)}flop, "
            f"{_quantity(cost.bytes)}B moved at least, {cost.intensity:.3g} flop/B",
            f"scratch    {_quantity(self.scratch_bytes)}B",
        ]
        if self.packed_bytes:
            lines.append(f"packed     {_quantity(self.packed_bytes)}B of weights")
        lines += [f"rejected   {name}: {reason}" for name, reason in self.rejected]
        lines += [f"could too  {name}" for name in self.able]
        return "\n".join(lines)

    __repr__ = __str__


def _quantity(value: float) -> str:
    """Print a number with an SI prefix, ready for its unit: ``1.85 G``."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} P"
