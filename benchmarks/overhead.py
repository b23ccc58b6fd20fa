"""What a call costs beside its arithmetic: every operator on a few pixels, in microseconds.

    python -m benchmarks.overhead [operator ...]

A call of an operator again with other arrays of the same shapes, its plan where it has one, and
PyTorch's function of the same arithmetic where PyTorch is installed. Least of some thousand calls'
means, one thread.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastconv

Call = Callable[[], object]
CALLS, ROUNDS = 1000, 7


class Row(NamedTuple):
    """One operator: its call, its plan's, and PyTorch's, where there are such."""

    name: str
    call: Call
    plan: Call | None = None
    torch: Call | None = None


def microseconds(call: Call) -> float:
    """Mean time of a call, of the best round."""
    call()
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - start)
    return best / CALLS * 1e6


def _torch() -> Any:
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return torch


def _of_rank(spatial: int, torch: Any) -> list[Row]:
    """Rows of the operators that exist in this many dimensions."""
    size = (0, 8, 8, 4)[spatial]
    x = np.ones((1, 1) + (size,) * spatial, "f4")
    w, gy = np.ones((1, 1) + (3,) * spatial, "f4"), np.ones((1, 1) + (size - 2,) * spatial, "f4")
    peers: dict[str, Call] = {}
    if torch is not None:
        tx, tw, tgy = (torch.from_numpy(array) for array in (x, w, gy))
        f, grad = torch.nn.functional, torch.nn.grad
        gx = getattr(grad, f"conv{spatial}d_input")
        gw = getattr(grad, f"conv{spatial}d_weight")
        forward = getattr(f, f"conv{spatial}d")
        transposed = getattr(f, f"conv_transpose{spatial}d")
        peers = {
            "": lambda: forward(tx, tw),
            "_input_grad": lambda: gx(x.shape, tw, tgy),
            "_weight_grad": lambda: gw(tx, w.shape, tgy),
            "transpose": lambda: transposed(tx, tw),
        }
    conv = f"conv{spatial}d"
    call, gx_of, gw_of = (
        getattr(fastconv, conv + suffix) for suffix in ("", "_input_grad", "_weight_grad")
    )
    transpose = getattr(fastconv, f"conv_transpose{spatial}d")
    plan = fastconv.plan_conv2d(w, x.shape) if spatial == 2 else call.plan(x.shape, w)
    back, up = gx_of.plan(x.shape, w, gy.shape), transpose.plan(x.shape, w)
    bias_grad, grads = getattr(fastconv, conv + "_bias_grad"), getattr(fastconv, conv + "_grads")
    return [
        Row(conv, lambda: call(x, w), lambda: plan(x), peers.get("")),
        Row(
            f"conv_transpose{spatial}d", lambda: transpose(x, w), lambda: up(x),
            peers.get("transpose"),
        ),
        Row(
            conv + "_input_grad", lambda: gx_of(x.shape, w, gy), lambda: back(gy),
            peers.get("_input_grad"),
        ),
        Row(
            conv + "_weight_grad", lambda: gw_of(x, w.shape, gy), None, peers.get("_weight_grad")
        ),
        Row(conv + "_bias_grad", lambda: bias_grad(gy)),
        Row(conv + "_grads", lambda: grads(x, w, gy)),
    ]  # fmt: skip


def rows(torch: Any = None) -> list[Row]:
    """Every operator that repeats a call, beside PyTorch's functions where `torch` is given."""
    found = [row for spatial in (1, 2, 3) for row in _of_rank(spatial, torch)]
    x, w = np.ones((1, 1, 8, 8), "f4"), np.ones((1, 1, 3, 3), "f4")
    mix, z, v = np.ones((1, 1, 1, 1), "f4"), x.astype("c8"), w.astype("c8")
    depthwise = fastconv.depthwise_conv2d.plan(x.shape, w)
    found += [
        Row("depthwise_conv2d", lambda: fastconv.depthwise_conv2d(x, w), lambda: depthwise(x)),
        Row("separable_conv2d", lambda: fastconv.separable_conv2d(x, w, mix)),
        Row("conv2d_per_sample", lambda: fastconv.conv2d_per_sample(x, w[None])),
        Row("conv2d of complex64", lambda: fastconv.conv2d(z, v)),
    ]
    return found


def main(names: list[str]) -> None:
    """Print the table, or those rows of it whose names have one of `names` in them."""
    print(f"{'us a call':24}{'call':>8}{'plan':>8}{'PyTorch':>9}")
    for row in rows(_torch()):
        if names and not any(name in row.name for name in names):
            continue
        times = [
            "" if call is None else f"{microseconds(call):.1f}"
            for call in (row.call, row.plan, row.torch)
        ]
        print(f"{row.name:24}{times[0]:>8}{times[1]:>8}{times[2]:>9}")


if __name__ == "__main__":
    main(sys.argv[1:])
