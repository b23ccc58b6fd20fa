"""How a problem is cut into tasks and blocks: plain integers, no arrays.

Two ways to bring pixels to the micro-kernel, which reads one vector of pixels per product:

- ``strip``: the padded rows of the image that a band of output rows needs, each pixel once (once
  per phase of the stride); products read them at an offset. Panels end at the end of a row.
- ``im2col``: one row of pixels per product. Gathers each pixel once per tap, but panels run over
  the ends of rows and images, and any geometry will do.

Both sum in the same order, so that the choice changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...problem import ConvProblem

#: Products summed in registers before the sum joins the task's sums. It fixes the order of the
#: reduction, hence depends on nothing.
DEPTH = 256
#: Pixels and output channels of an im2col task.
PIXELS = 256
CHANNELS = 256
#: Sums of a strip task, and most pixels of one that has few output channels.
STRIP_SUMS = 1 << 16
STRIP_PIXELS = 2048
#: Strips must stay in a second-level cache; their offset table must stay small.
STRIP_ELEMENTS = 1 << 16
STRIP_TAPS = 1 << 12
#: Below these, blocks are dominated by gathering and are not cut further to feed more threads.
LEAST_PIXELS = 64
LEAST_CHANNELS = 32
#: Channels that a strip task gathers together, so that channels-last lines are used while cached.
GROUPED_CHANNELS = 16
TASKS_PER_THREAD = 4
#: Gathering a pixel costs about as much as multiplying it with this many output channels.
GATHER_COST = 16
CACHE_LINE = 64


class Machine(NamedTuple):
    """What blocking knows of the machine and the accumulator.

    `rows` by `width` is the register tile, `itemsize` the accumulator's, `threads` the number of
    threads to feed, `workspace` the most bytes of scratch for each.
    """

    rows: int
    width: int
    itemsize: int
    threads: int
    workspace: int


class Axis(NamedTuple):
    """Where the taps of one axis read in a strip: (phase, offset) per tap.

    Pixel ``i * stride + phase`` lies at i of its phase, so that strided taps read densely.
    """

    phases: tuple[int, ...]
    taps: tuple[tuple[int, int], ...]

    @property
    def reach(self) -> int:
        """Positions that taps read beyond the last output's own."""
        return max(offset for _, offset in self.taps)

    @classmethod
    def of(cls, taps: int, stride: int, dilation: int) -> Axis:
        """Lay out an axis."""
        phases = tuple(sorted({t * dilation % stride for t in range(taps)}))
        places = ((t * dilation % stride, t * dilation // stride) for t in range(taps))
        return cls(phases, tuple((phases.index(phase), offset) for phase, offset in places))


class Blocking(NamedTuple):
    """Blocks of one task, sizes of its scratch, and the offsets of its products.

    A task computes `rows` by `columns` output pixels (im2col: `columns` of all pixels of the
    batch, `rows` is 1) of `channels` output channels in each of `groups` groups. A step of the
    reduction covers `channel_step` input channels with all their taps, or `tap_step` taps of one.
    """

    strip: bool
    rows: int
    columns: int
    channels: int
    groups: int
    channel_step: int
    tap_step: int
    tasks: int
    pixel_elements: int
    sum_elements: int
    weight_elements: int
    axes: tuple[Axis, Axis] | None = None

    @property
    def scratch(self) -> int:
        """Elements of scratch per thread."""
        return self.pixel_elements + self.sum_elements + self.weight_elements


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _lines(elements: int, itemsize: int) -> int:
    """`elements` rounded up to whole cache lines."""
    return _ceil(elements * itemsize, CACHE_LINE) * CACHE_LINE // itemsize


def _steps(problem: ConvProblem) -> tuple[int, int]:
    """Channels and taps of one step of the reduction; a function of the problem alone."""
    inputs, taps = problem.c // problem.groups, problem.r * problem.s
    steps = _ceil(inputs, max(1, DEPTH // taps))
    return _ceil(inputs, steps), min(taps, DEPTH)


def _im2col(problem: ConvProblem, machine: Machine, columns: int, channels: int) -> Blocking:
    total = problem.n * problem.p * problem.q
    channel_step, tap_step = _steps(problem)
    depth, itemsize = channel_step * tap_step, machine.itemsize
    blocks = _ceil(total, columns) * _ceil(problem.k // problem.groups, channels)
    return Blocking(
        False, 1, columns, channels, 1, channel_step, tap_step, problem.groups * blocks,
        _lines(depth * columns, itemsize), _lines(channels * columns, itemsize),
        _lines(machine.rows * depth, itemsize),
    )  # fmt: skip


def _im2col_candidates(problem: ConvProblem, machine: Machine) -> Iterator[Blocking]:
    """From the largest blocks to the smallest."""
    total, width, rows = problem.n * problem.p * problem.q, machine.width, machine.rows
    columns = min(PIXELS // width * width, _ceil(total, width) * width)
    channels = min(CHANNELS, problem.k // problem.groups)
    while True:
        yield _im2col(problem, machine, columns, channels)
        if columns > max(LEAST_PIXELS, width):
            columns = _ceil(columns // 2, width) * width
        elif channels > LEAST_CHANNELS:
            channels = _ceil(channels // 2, rows) * rows
        elif columns > width:
            columns = width
        elif channels > rows:
            channels = rows
        else:
            return


def _strip(
    problem: ConvProblem, machine: Machine, axes: tuple[Axis, Axis], rows: int, columns: int,
    channels: int, groups: int,
) -> Blocking:  # fmt: skip
    vertical, horizontal = axes
    channel_step, tap_step = _steps(problem)
    itemsize = machine.itemsize
    lines = len(vertical.phases) * (rows + vertical.reach)
    line = len(horizontal.phases) * (columns + horizontal.reach)
    blocks = _ceil(problem.p, rows) * _ceil(problem.q, columns)
    tasks = problem.n * blocks * _ceil(problem.groups, groups)
    return Blocking(
        True, rows, columns, channels, groups, channel_step, tap_step,
        tasks * _ceil(problem.k // problem.groups, channels),
        _lines(groups * channel_step * lines * line, itemsize),
        _lines(groups * channels * rows * columns, itemsize),
        _lines(machine.rows * channel_step * tap_step, itemsize),
        axes,
    )  # fmt: skip


def _strip_candidates(problem: ConvProblem, machine: Machine) -> Iterator[Blocking]:
    """From the largest blocks to the smallest."""
    if problem.r * problem.s > STRIP_TAPS:
        return
    inputs, outputs, width = problem.c // problem.groups, problem.k // problem.groups, machine.width
    axes = (
        Axis.of(problem.r, problem.stride[0], problem.dilation[0]),
        Axis.of(problem.s, problem.stride[1], problem.dilation[1]),
    )
    channels = min(CHANNELS, outputs)
    # several groups at once only where one step covers all channels of each
    grouped = _steps(problem)[0] == inputs and channels == outputs
    most = GROUPED_CHANNELS // max(inputs, outputs) if grouped else 1
    groups = max(1, min(most, problem.groups))
    pixels = min(STRIP_PIXELS, STRIP_SUMS // (channels * groups))
    columns = min(_ceil(problem.q, width), max(1, PIXELS // width)) * width
    rows = min(problem.p, max(1, pixels // columns))
    while True:
        yield _strip(problem, machine, axes, rows, columns, channels, groups)
        if rows * columns > LEAST_PIXELS and rows > 1:
            rows = _ceil(rows, 2)
        elif groups > 1:
            groups = _ceil(groups, 2)
        elif channels > LEAST_CHANNELS:
            channels = _ceil(channels // 2, machine.rows) * machine.rows
        elif rows > 1:
            rows = _ceil(rows, 2)
        elif columns > width:
            columns = _ceil(columns // 2, width) * width
        else:
            return


def _choose(candidates: Iterator[Blocking], machine: Machine, limit: int) -> Blocking | None:
    """Return the largest blocks that fit the workspace and the caches and feed every thread."""
    wanted = TASKS_PER_THREAD * machine.threads if machine.threads > 1 else 1
    best = None
    for candidate in candidates:
        if candidate.scratch * machine.itemsize > machine.workspace:
            continue
        if candidate.pixel_elements > limit:
            continue
        small = candidate.rows * candidate.columns < LEAST_PIXELS
        if best is not None and (small or candidate.channels < LEAST_CHANNELS):
            break
        best = candidate
        if best.tasks >= wanted:
            break
    return best


def _cost(problem: ConvProblem, machine: Machine, blocking: Blocking) -> float:
    """Work per output pixel and product, in products of one output channel."""
    outputs = problem.k // problem.groups
    gathers = _ceil(outputs, blocking.channels) * GATHER_COST
    if not blocking.strip:
        return outputs + gathers
    pixels = blocking.rows * blocking.columns * blocking.groups * blocking.channel_step
    repeats = blocking.pixel_elements / (pixels * problem.r * problem.s)
    padding = _ceil(problem.q, machine.width) * machine.width / problem.q
    return padding * (outputs + gathers * repeats)


def block(problem: ConvProblem, machine: Machine) -> Blocking:
    """Cut `problem` for `machine`, the cheaper of the two ways.

    Results depend on neither, only speed and scratch do.
    """
    # the smallest im2col block takes every problem within the smallest workspace there is
    blocking = _choose(_im2col_candidates(problem, machine), machine, machine.workspace)
    strip = _choose(_strip_candidates(problem, machine), machine, STRIP_ELEMENTS)
    if blocking is None or (
        strip is not None and _cost(problem, machine, strip) < _cost(problem, machine, blocking)
    ):
        blocking = strip
    if blocking is None:
        raise MemoryError(
            f"a workspace of {machine.workspace} bytes per thread holds no block of {problem}"
        )
    return blocking
