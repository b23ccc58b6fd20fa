"""The deformable convolution: a convolution, and how the places that it reads are moved."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

from . import geometry
from .checks import array_axes, describe_shapes, format_shape
from .dtypes import is_float, itemsize
from .errors import DTypeError, ShapeError
from .geometry import Shape
from .problem import ConvProblem, Cost

#: Multiply-accumulates of one sample: the four pixels around it.
CORNERS = 4
#: Offset groups that a message lists.
LISTED = 4


class Moves(NamedTuple):
    """Shapes of the arrays that move a convolution's samples, as the caller holds them."""

    offset: Shape
    mask: Shape | None


@dataclass(frozen=True)
class DeformProblem(ConvProblem):
    """One deformable convolution; build it with `DeformProblem.of`.

    Attributes
    ----------
    offset_groups : int
        Divides c: channels of one of them are sampled at the same places.
    masked : bool
        Whether every sample is multiplied by an element of a mask.
    """

    offset_groups: int = 1
    masked: bool = False

    @classmethod
    def of(cls, problem: ConvProblem, moves: Moves, offset_groups: object = None) -> DeformProblem:
        """Check offsets, and a mask, that belong to a checked convolution, and describe both.

        Raises
        ------
        ShapeError
            Shapes that fit neither the convolution nor each other; the message says what would.
        DTypeError
            A convolution of integers: there are none between pixels.
        TypeError
            Offset groups that are no integer.
        """
        x, w = problem.x_shape, problem.w_shape
        shapes = describe_shapes(x, w if problem.rank > 2 else w[2:], problem.layout)
        if problem.rank == problem.spatial:
            raise ShapeError(
                "deform_conv2d takes x (N, C, H, W) or (C, H, W) with w (K, C/groups, R, S); "
                f"add the channel axes: x[None], w[None, None] (got {shapes})"
            )
        if not is_float(problem.dtype):
            raise DTypeError(
                f"deform_conv2d samples x between its pixels, which {problem.dtype} cannot hold; "
                "pass dtype='float32', or convert x or w"
            )
        groups = _offset_groups(problem, moves.offset, offset_groups, shapes)
        own = {f.name: getattr(problem, f.name) for f in fields(ConvProblem)}
        made = cls(**own, offset_groups=groups, masked=moves.mask is not None)
        named = (("offset", moves.offset, 2 * made.taps), ("mask", moves.mask, made.taps))
        for name, shape, taps in named:
            if shape is not None and shape != made.moved_shape(taps * groups):
                raise ShapeError(made._misshapen(name, shape, taps, shapes))
        return made

    def moved_shape(self, channels: int) -> Shape:
        """Shape of an array with so many channels an output pixel, as the caller holds it."""
        return self.held(channels, self.y_image)

    def _misshapen(self, name: str, shape: Shape, taps: int, shapes: str) -> str:
        channels = f"{'2*' if name == 'offset' else ''}R*S*offset_groups"
        renamed = {"C": channels, "H": "P", "W": "Q"}
        axes = [renamed.get(a, a) for a in array_axes(self.rank, self.layout)]
        expected = format_shape(self.moved_shape(taps * self.offset_groups), axes)
        return (
            f"{name} has shape {shape}, expected {expected} with offset_groups="
            f"{self.offset_groups}, of the output's height and width, for {shapes}"
        )

    @cached_property
    def cost(self) -> Cost:
        """Those of the convolution, of sampling x, and of reading offsets and mask once."""
        conv = ConvProblem(**{f.name: getattr(self, f.name) for f in fields(ConvProblem)}).cost
        places = self.n * self.p * self.q * self.taps
        macs = conv.macs + places * self.c * (CORNERS + self.masked)
        moves = places * self.offset_groups * (2 + self.masked) * itemsize(self.accumulator)
        return Cost(macs, 2 * macs, conv.bytes + moves)

    def __str__(self) -> str:
        """Print the problem in one line."""
        masked = ", masked" if self.masked else ""
        return f"deformable, {super().__str__()}, offset groups {self.offset_groups}{masked}"


def _offset_groups(problem: ConvProblem, offset: Shape, given: object, shapes: str) -> int:
    """Read the number of offset groups off the offset's channels, and hold it against `given`."""
    pair = 2 * problem.taps
    wanted = None if given is None else geometry.integer("offset_groups", given, 1)
    if wanted is not None and problem.c % wanted:
        raise ShapeError(f"offset_groups={wanted} does not divide C={problem.c} (got {shapes})")
    if len(offset) != problem.rank:
        axes = ["2*R*S*offset_groups" if a == "C" else a for a in _axes(problem)]
        raise ShapeError(f"offset must be ({', '.join(axes)}), got shape {offset} for {shapes}")
    channels = offset[_axes(problem).index("C")]
    groups = channels // pair
    fits = channels % pair == 0 and groups > 0 and problem.c % groups == 0
    if fits and wanted in (None, groups):
        return groups
    if wanted is None:
        divisors = [g for g in range(1, min(problem.c, 1 << 10) + 1) if problem.c % g == 0]
        fixes = ", ".join(f"{g * pair} (offset_groups={g})" for g in divisors[:LISTED])
        more = ", ..." if len(divisors) > LISTED else ""
        fix = f"{fixes}{more}"
    else:
        fix = f"{wanted * pair} with offset_groups={wanted}"
    raise ShapeError(
        f"offset has {channels} channels; a kernel of {problem.r}x{problem.s} needs two for each "
        f"tap and offset group: {fix} (got offset {offset}, {shapes}, layout={problem.layout!r})"
    )


def _axes(problem: ConvProblem) -> list[str]:
    """Axes of arrays with a value for every output pixel."""
    names = {"H": "P", "W": "Q"}
    return [names.get(a, a) for a in array_axes(problem.rank, problem.layout)]
