"""What the examples share: their arguments, a bar with the loss, and pictures."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BLUE, ORANGE, GREY = "#2f6db3", "#e08a1e", "#7a8288"
WIDTH = 24


def arguments(description: str | None, epochs: int, output: str) -> argparse.Namespace:
    """Read the command line: ``--epochs``, ``--seed``, ``--output``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=_positive, default=epochs, help=f"default: {epochs}")
    parser.add_argument("--seed", type=int, default=0, help="of everything random; default: 0")
    parser.add_argument(
        "--output", type=Path, default=Path(output), help=f"the picture, PNG; default: {output}"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


class LossBar:
    """A bar that grows with the epochs and names the loss; one line an epoch where it cannot.

    On a terminal with rich installed the bar stays in its line.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.done, self.bar = epochs, 0, None
        if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
            from rich import progress

            self.bar = progress.Progress(
                progress.BarColumn(), progress.MofNCompleteColumn(), progress.TextColumn("epochs"),
                progress.TimeElapsedColumn(), progress.TextColumn("{task.description}"),
            )  # fmt: skip
            self.task = self.bar.add_task("", total=epochs)

    def __enter__(self) -> LossBar:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def epoch(self, loss: float, remark: str) -> None:
        """Show that an epoch is over."""
        self.done += 1
        text = f"loss {loss:<9.3g} {remark}"
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, description=text)
        else:
            full = "#" * (WIDTH * self.done // self.epochs)
            digits = len(str(self.epochs))
            print(f"[{full:.<{WIDTH}}] {self.done:{digits}}/{self.epochs} {text}", flush=True)


def save(draw: Callable[[Any], None], size: tuple[float, float], path: Path) -> None:
    """Let `draw` fill a figure of `size` inches and write it; needs matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: that needs matplotlib (pip install '.[examples]')")
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    draw(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
    print(f"picture: {path}")


def plain(axes: Any, title: str) -> None:
    """Title of a plot over epochs, without its box."""
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e7ea", linewidth=0.8)
    axes.set_axisbelow(True)


def image(axes: Any, pixels: Array, title: str, signed: bool = False) -> None:
    """Show pixels; signed ones with red for positive, blue for negative and white for 0."""
    limit = float(np.abs(pixels).max()) * 1.3 or 1.0
    axes.imshow(pixels, cmap="RdBu_r" if signed else "gray", vmin=-limit if signed else None,
                vmax=limit if signed else None, interpolation="nearest")  # fmt: skip
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
