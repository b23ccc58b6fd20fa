"""Where images are in arrays as the caller holds them. A leaf."""

from __future__ import annotations

from collections.abc import Sequence

from ..problem import ConvProblem


def image_axes(problem: ConvProblem) -> tuple[int, ...]:
    """Axes of the caller's arrays along which images extend."""
    first = problem.rank - problem.spatial - problem.channels_last
    return tuple(range(first, first + problem.spatial))


def has_batch(problem: ConvProblem) -> bool:
    """Whether the caller's arrays have an axis of images."""
    return problem.rank == problem.spatial + 2


def placed(problem: ConvProblem, images: slice, image: Sequence[slice]) -> tuple[slice, ...]:
    """Index of an array as the caller holds it, all channels."""
    index = [slice(None)] * problem.rank
    for axis, part in zip(image_axes(problem), image, strict=True):
        index[axis] = part
    if has_batch(problem):
        index[0] = images
    return tuple(index)
