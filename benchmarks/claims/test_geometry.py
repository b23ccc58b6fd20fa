"""Stride, padding, and how much data a layer hands on."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv
from benchmarks import networks
from benchmarks.claims import plots
from benchmarks.claims.record import HOLDS, IMPRECISE, LIMITS, Claim, Plot, Record
from benchmarks.tables import Table


def _positions(size: int, kernel: int, stride: int) -> list[set[int]]:
    """Input columns under the kernel at each step."""
    steps = fastconv.output_shape((1, size), (1, kernel), stride)[1]
    return [set(range(i * stride, i * stride + kernel)) for i in range(steps)]


def test_stride(benchmark: Any, record: Record) -> None:
    size, kernel = 224, 5
    image = np.ones((size, size), "float32")
    strides = range(1, 9)
    sizes, overlaps, unread = [], [], []
    for stride in strides:
        steps = _positions(size, kernel, stride)
        answer = fastconv.conv2d(image, np.ones((kernel, kernel), "float32"), stride)
        assert answer.shape == (len(steps), len(steps))
        sizes.append(len(steps))
        overlaps.append(len(steps[0] & steps[1]) / kernel)
        unread.append(1 - len(set().union(*steps)) / size)
    benchmark(fastconv.conv2d, image, np.ones((kernel, kernel), "float32"), 2)
    table = Table(("stride", *map(str, strides)))
    table.add("map, pixels across", *map(str, sizes))
    table.add("overlap with the previous step", *(f"{100 * v:.0f} %" for v in overlaps))
    table.add("columns never read", *(f"{100 * v:.0f} %" for v in unread))
    equal = [fastconv.output_shape((7, 7), (3, 3), stride) for stride in (3, 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert overlaps == [max(kernel - stride, 0) / kernel for stride in strides]
    assert equal[0] == equal[1]
    record(
        Claim(
            "stride",
            "A larger stride: smaller map, less overlap",
            "The stride is the number of pixels the kernel moves at each step, and it determines "
            "how much the kernel overlaps with its previous position. A larger stride results in "
            "a smaller feature map and less overlap.",
            f"A kernel of {kernel} x {kernel} on {size} x {size} pixels at strides 1 to 8: the "
            "columns under the kernel at each step, compared.",
            (
                f"The overlap of neighbouring steps is (R - stride) / R, from "
                f"{100 * overlaps[0]:.0f} % at stride 1 to 0 at stride R = {kernel}, exactly.",
                f"The map shrinks as 1 / stride, from {sizes[0]} to {sizes[-1]} pixels across.",
                "Beyond R the overlap cannot shrink any more, and the kernel steps over pixels "
                f"that it never reads: {100 * unread[-1]:.0f} % of the columns at stride 8.",
                f"On small maps a larger stride may change nothing: 7 x 7 pixels and 3 x 3 give "
                f"{equal[0][0]} x {equal[0][1]} at stride 3 and at stride 4. Never larger is "
                "what holds.",
            ),
            HOLDS,
            "Never a larger map or more overlap; up to stride R it is less.",
            (table,),
            Plot(
                lambda figure: plots.stride(figure, list(strides), sizes, overlaps, unread, kernel),
                (9, 2.9),
                "Size of the map, and share of the kernel that overlaps with its previous "
                "position, by stride.",
            ),
        )
    )


def _kept(kernel: int, stride: int, pad: int | str) -> tuple[int, int]:
    return fastconv.output_shape((24, 31), (kernel, kernel), stride, pad)  # type: ignore[return-value]


def test_padding(benchmark: Any, record: Record) -> None:
    sides = range(1, 12)
    table = Table(("kernel", "pad 1, stride 1", "same, stride 1", "same, stride 2", "full"))
    for side in sides:
        sizes = (_kept(side, 1, 1), _kept(side, 1, "same"), _kept(side, 2, "same"),
                 _kept(side, 1, "full"))  # fmt: skip
        assert sizes[1] == (24, 31)
        assert sizes[2] == (12, 16)
        table.add(f"{side} x {side}", *(f"{h} x {w}" for h, w in sizes))
    symmetric = sum(any(_kept(side, 1, p) == (24, 31) for p in range(6)) for side in sides)
    flat = np.full((24, 31), 9, "float32")
    box = np.ones((3, 3), "float32")
    zeros = benchmark(fastconv.conv2d, flat, box, pad="same")
    edge = fastconv.conv2d(flat, box, pad="same", pad_mode="edge")
    assert symmetric == 6
    assert zeros[0, 5] == 54
    assert zeros[0, 0] == 36
    assert (edge == 81).all()
    record(
        Claim(
            "padding",
            "Padding keeps the size",
            "Padding involves adding extra pixels around the input image before performing the "
            "convolution operation. This allows the kernel to slide over the edge of the image, "
            "resulting in a feature map that is the same size as the input image.",
            "The map's size on 24 x 31 pixels for kernels of 1 x 1 to 11 x 11, several amounts of "
            "padding and two strides; and the values at the border of an even picture.",
            (
                'With (R - 1) / 2 pixels on every side, or `pad="same"`, and stride 1 the size '
                "is kept, always.",
                f"The same number of pixels on every side can do it for {symmetric} of the "
                f"{len(sides)} kernels, those with odd sides; for even sides one border must get "
                "one pixel more.",
                "Any other padding gives another size: one pixel around a 5 x 5 kernel shrinks "
                "the map, `full` padding enlarges it; and with stride 2 `same` means half the "
                "size, rounded up.",
                "The extra pixels are made up, and show: a 3 x 3 mean over an even picture padded "
                f"with zeros drops to {zeros[0, 5] / 81:.2f} at the edges (2/3) and "
                f"{zeros[0, 0] / 81:.2f} in the corners (4/9); padded with copies of the border "
                f'(`pad_mode="edge"`) it stays {edge.min() / 81:.0f}.',
            ),
            LIMITS,
            "For the one amount of padding called `same`, and stride 1.",
            (table,),
        )
    )


def _flow(network: networks.Network) -> tuple[dict[str, int], dict[int, float]]:
    """How many layers grow, keep and shrink the data; and, by the map's pixels across, the
    largest map in units of the image."""
    first = network.layers[0]
    image = first.c * first.h * first.w
    change = {"grow": 0, "keep": 0, "shrink": 0}
    largest: dict[int, float] = {}
    for layer in network.layers:
        p = layer.problem()
        before, after = p.c * p.h * p.w, p.k * p.p * p.q
        kind = "grow" if after > before else "shrink" if after < before else "keep"
        change[kind] += layer.count
        largest[p.p] = max(largest.get(p.p, 0), after / image)
    return change, largest


def test_dimensionality(benchmark: Any, record: Record) -> None:
    names = ("alexnet", "vgg16", "resnet50", "mobilenet_v2")
    table = Table(("network", "layers", "grow", "keep", "shrink", "first map", "largest map",
                   "largest of the last resolution"))  # fmt: skip
    curves = {}
    for name in names:
        network = networks.load(name)
        change, largest = _flow(network)
        resolutions = sorted(largest, reverse=True)
        curves[network.title] = [(r, largest[r]) for r in resolutions]
        p = network.layers[0].problem()
        first = p.k * p.p * p.q / (p.c * p.h * p.w)
        table.add(network.title, str(sum(change.values())), *(str(v) for v in change.values()),
                  *(f"{v:.2f} x image" for v in (first, max(largest.values()),
                                                 largest[resolutions[-1]])))  # fmt: skip
    vgg = 64 / 3
    conv1 = networks.load("alexnet").layers[0]
    x = np.ones((1, conv1.c, conv1.h, conv1.w), "float32")
    w = np.ones(conv1.problem().w_shape, "float32")
    y = benchmark(fastconv.conv2d, x, w, conv1.stride, conv1.pad)
    assert y.size / x.size == 64 * 55 * 55 / (3 * 224 * 224) > 1
    assert curves["VGG-16"][0] == (224, vgg)
    assert all(curve[-1][1] < 1 for curve in curves.values())
    record(
        Claim(
            "dimensionality",
            "Convolutions reduce the dimensionality of the data",
            "extracting key features and reducing the dimensionality of the data",
            "Numbers that go into and come out of every convolution layer of four networks, at "
            "224 x 224.",
            (
                "A layer of stride 1 that keeps the image's size multiplies the data by K / C: "
                f"VGG-16 opens with 3 -> 64 channels, {vgg:.1f} times the image. "
                f"Even AlexNet's first layer, with stride 4, hands on {y.size / x.size:.2f} "
                "times as many numbers as the image has.",
                "What shrinks data is stride, missing padding, pooling, and kernels fewer than "
                "channels (the 1 x 1 layers of ResNet and MobileNet): choices of the network, not "
                "properties of the operation.",
                "Over whole networks it holds: at the last resolution every map holds fewer "
                "numbers than the image. The largest map on the way is "
                f"{max(size for curve in curves.values() for _, size in curve):.0f} times the "
                "image.",
            ),
            IMPRECISE,
            "True of networks from end to end, false of most convolution layers.",
            (table,),
            Plot(
                lambda figure: plots.dimensionality(figure, curves),
                (9, 3.2),
                "Numbers in the largest map of each resolution, over numbers in the image.",
            ),
        )
    )
