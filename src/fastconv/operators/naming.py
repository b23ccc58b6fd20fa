"""Names and words of operators that exist for one, two and three dimensions."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..geometry import Shape, integer
from ..sizes import Spatial


def sizes_of(name: str, value: Any) -> Shape:
    """Check that `value` is a sequence of sizes, or an array that has one."""
    sizes = getattr(value, "shape", value)
    try:
        return tuple(integer(name, size, 0) for size in sizes)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {value!r:.60}") from None


def named(operator: Any, name: str, doc: str, spatial: Spatial, family: str = "conv") -> Any:
    """Give the operator of one number of dimensions its name and its words."""
    image, kernel = ", ".join(checks.IMAGE_AXES[spatial]), ", ".join(checks.KERNEL_AXES[spatial])
    words = {
        "conv": f"{family}{spatial}d",
        "x": f"(N, C, {image})",
        "w": f"(K, C/groups, {kernel})",
        "y": f"(N, K, {', '.join(checks.RESULT_AXES[spatial])})",
        "layouts": " or ".join(f'"{layout}"' for layout in checks.layouts(spatial)),
    }
    operator.__name__ = operator.__qualname__ = name
    operator.__doc__ = doc.format(**words)
    return operator
