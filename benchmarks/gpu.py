"""Time the CUDA kernels on network layers: ``python -m benchmarks.gpu [network ...]``.

Times are medians between CUDA events around single calls, on operands rotated through more memory
than the second-level cache holds, after the kernel was compiled and every buffer touched. Each
layer's result is held against the reference first: first and last image, two output channels.
Needs a GPU and CuPy.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastconv
from benchmarks import networks, tables
from benchmarks.networks import Layer
from fastconv import ConvProblem, accuracy, dispatch
from fastconv.backends.cuda.configuration import choose

HEADER = (
    "layer", "count", "GFLOP", "ms", "TFLOP/s", "% of peak", "GB/s", "error/bound", "kernel",
)  # fmt: skip

#: Bytes the operands rotate through: twice the cache of a large GPU.
ROTATED_BYTES = 128 << 20


def peak_flops(cupy: Any, dtype: str) -> float:
    """Multiply-add ceiling of the ordinary units, flop/s, from cores and highest clock.

    128 float cores a multiprocessor; half as many for double on the large accelerators (compute
    capability x.0), 1/64 of them on all others.
    """
    device = cupy.cuda.Device()
    cores = 128.0
    if dtype == "float64":
        cores /= 2 if device.compute_capability.endswith("0") else 64
    runtime = cupy.cuda.runtime
    processors, kilohertz = (
        runtime.deviceGetAttribute(attribute, device.id)
        for attribute in (runtime.cudaDevAttrMultiProcessorCount, runtime.cudaDevAttrClockRate)
    )
    return 2 * cores * float(processors) * kilohertz * 1e3


def describe(layer: Layer, batch: int, layout: str, dtype: str) -> ConvProblem:
    """The layer's problem in a layout and dtype."""
    problem = layer.problem(batch)
    return replace(problem, layout=layout, dtype=dtype, out_dtype=dtype)


def worst_ratio(problem: ConvProblem, x: Any, w: Any, y: Any) -> float:
    """Hold first and last image, first and last channel, against the bound; raise beyond it."""
    single = replace(problem, n=1, layout="NCHW")
    ratio = 0.0
    for image in {0, problem.n - 1}:
        x_one, y_one = x[image : image + 1].get(), y[image : image + 1].get()
        if problem.layout == "NHWC":
            x_one, y_one = (np.moveaxis(a, -1, 1) for a in (x_one, y_one))
        channels = sorted({0, problem.k - 1})
        verdict = accuracy.check(single, x_one, w.get(), None, y_one, channels)
        if not verdict.ok:
            raise SystemExit(f"wrong result for {problem}: {verdict}")
        ratio = max(ratio, verdict.ratio)
    return ratio


def measure(cupy: Any, problem: ConvProblem, rounds: int) -> tuple[float, float]:
    """Median seconds of one call, and the worst error as a share of its bound."""
    rng = np.random.default_rng(1)
    w = cupy.asarray(rng.standard_normal(problem.w_shape).astype(problem.dtype))
    image = cupy.asarray(rng.standard_normal(problem.x_shape).astype(problem.dtype))
    copies = max(1, min(16, -(-ROTATED_BYTES // (image.nbytes + problem.out_bytes))))
    xs = [image, *(image.copy() for _ in range(copies - 1))]
    ys = [cupy.empty(problem.out_shape, problem.out_dtype) for _ in range(copies)]

    def call(i: int) -> None:
        fastconv.conv2d(
            xs[i % copies], w, problem.stride, problem.pad, dilation=problem.dilation,
            groups=problem.groups, layout=problem.layout, out=ys[i % copies],
        )  # fmt: skip

    for i in range(copies):
        call(i)
    ratio = worst_ratio(problem, image, w, ys[0])
    seconds = []
    for i in range(rounds):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call(i)
        end.record()
        end.synchronize()
        seconds.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    return median(seconds), ratio


def record(cupy: Any, layer: Layer, problem: ConvProblem, rounds: int) -> dict[str, Any]:
    """Measure one layer; everything JSON gets to know."""
    seconds, ratio = measure(cupy, problem, rounds)
    flops = problem.cost.flops / seconds
    return {
        "network": layer.network, "layer": layer.name, "count": layer.count,
        "kernel": choose(problem).name, "seconds": seconds, "flops": flops,
        "share_of_peak": flops / peak_flops(cupy, problem.dtype), "error_over_bound": ratio,
        "bytes_per_second": problem.cost.bytes / seconds,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Print a table per network and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(networks.NAMES)}")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--layout", choices=("NCHW", "NHWC"), default="NCHW")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("reports/gpu.json"))
    asked = parser.parse_args(arguments)
    reason = dispatch.availability("cuda")
    if reason is not None:
        sys.exit(f"the GPU benchmark needs the CUDA backend, which cannot be used: {reason}")
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    records = []
    for network in networks.load_all(tuple(asked.networks) or ("resnet50",)):
        title = f"{network.title}, batch {asked.batch}, {asked.layout}, {asked.dtype}, {name}"
        table = tables.Table(HEADER, title)
        for layer in network.layers:
            problem = describe(layer, asked.batch, asked.layout, asked.dtype)
            row = record(cupy, layer, problem, asked.rounds)
            table.add(
                layer.name, str(layer.count), f"{problem.cost.flops / 1e9:.2f}",
                f"{row['seconds'] * 1e3:.3f}", f"{row['flops'] / 1e12:.2f}",
                f"{100 * row['share_of_peak']:.0f}", f"{row['bytes_per_second'] / 1e9:.0f}",
                f"{row['error_over_bound']:.2f}", row["kernel"],
            )  # fmt: skip
            records.append(row)
        print(tables.plain(table), end="\n\n")
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {"device": name, "batch": asked.batch, "rounds": asked.rounds}
    text = json.dumps({**settings, "layers": records}, indent=1)
    asked.json.write_text(text + "\n", encoding="utf-8")
    print(f"written to {asked.json}")


if __name__ == "__main__":
    main()
