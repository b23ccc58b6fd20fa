"""How a problem is cut into tasks and blocks: plain integers, no arrays."""

from __future__ import annotations

from typing import NamedTuple

from ...problem import ConvProblem

#: Products summed in registers before the sum joins the accumulator tile. It fixes the order of
#: the reduction, hence depends on nothing.
DEPTH = 256
PIXELS = 256
CHANNELS = 256
#: Below these a block is dominated by packing, and is not cut further to feed more threads.
LEAST_PIXELS = 64
LEAST_CHANNELS = 32
TASKS_PER_THREAD = 4


class Blocking(NamedTuple):
    """Blocks of one task: `pixels` (whole panels) by `channels` outputs, reduced in steps.

    A step covers `channel_step` input channels with all their taps, or `tap_step` taps of one.
    """

    pixels: int
    channels: int
    channel_step: int
    tap_step: int
    tasks: int
    scratch: int

    @property
    def depth(self) -> int:
        """Most products of one step."""
        return self.channel_step * self.tap_step


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def block(problem: ConvProblem, threads: int, workspace: int, rows: int, width: int,
          itemsize: int) -> Blocking:  # fmt: skip
    """Cut `problem` for a register tile of `rows` channels by `width` pixels.

    Parameters
    ----------
    problem : ConvProblem
    threads : int
        There should be a few tasks for each; results do not depend on how the work is cut.
    workspace : int
        Most bytes of scratch per thread.
    rows, width : int
        Register tile.
    itemsize : int
        Bytes of the accumulator.

    Returns
    -------
    Blocking
        With `scratch`, the elements that each thread needs.
    """
    inputs, outputs = problem.c // problem.groups, problem.k // problem.groups
    taps, total = problem.r * problem.s, problem.n * problem.p * problem.q
    tap_step = min(taps, DEPTH)
    steps = _ceil(inputs, max(1, DEPTH // taps))
    channel_step = _ceil(inputs, steps)
    depth = channel_step * tap_step

    def elements() -> int:
        # panels of pixels, tile of sums, packed weights; whole cache lines each
        line = 64 // itemsize
        sizes = (depth * pixels, channels * pixels, rows * depth)
        return sum(_ceil(size, line) * line for size in sizes)

    def tasks() -> int:
        return problem.groups * _ceil(total, pixels) * _ceil(outputs, channels)

    pixels = min(PIXELS // width * width, _ceil(total, width) * width)
    channels = min(CHANNELS, outputs)
    while elements() * itemsize > workspace and channels > rows:
        channels = max(rows, channels // 2)
    while elements() * itemsize > workspace and pixels > width:
        pixels = max(1, pixels // 2 // width) * width
    while tasks() < TASKS_PER_THREAD * threads and threads > 1:
        if pixels >= 2 * max(LEAST_PIXELS, width):
            pixels = _ceil(pixels // 2, width) * width
        elif channels >= 2 * LEAST_CHANNELS:
            channels = _ceil(channels // 2, rows) * rows
        else:
            break
    return Blocking(pixels, channels, channel_step, tap_step, tasks(), elements())
