"""What kernels detect: edges of one direction, and noise, which some of them amplify."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv
from benchmarks.claims import plots
from benchmarks.claims.pictures import SOBEL_HORIZONTAL, SOBEL_VERTICAL, half_plane, house
from benchmarks.claims.record import IMPRECISE, LIMITS, Claim, Plot, Record
from benchmarks.tables import Table

Array = np.ndarray[Any, Any]


def _answer_at_centre(angle: float) -> float:
    """Answer of the horizontal-edge kernel to an edge through the picture's centre."""
    return float(fastconv.conv2d(half_plane(9, angle)[3:6, 3:6], SOBEL_HORIZONTAL)[0, 0])


def test_horizontal_edges(benchmark: Any, record: Record) -> None:
    horizontal = np.zeros((32, 32), "float32")
    horizontal[16:] = 255
    vertical = np.ascontiguousarray(horizontal.T)
    at_horizontal = benchmark(fastconv.conv2d, horizontal, SOBEL_HORIZONTAL)
    at_vertical = fastconv.conv2d(vertical, SOBEL_HORIZONTAL)
    turned_over = fastconv.conv2d(horizontal[::-1], SOBEL_HORIZONTAL)
    rows = sorted(set(np.nonzero(at_horizontal)[0].tolist()))
    angles = np.arange(0, 181, 5)
    answers = np.array([_answer_at_centre(float(angle)) for angle in angles])
    picture = house()
    maps = (
        fastconv.conv2d(picture, SOBEL_HORIZONTAL),
        fastconv.conv2d(picture, SOBEL_VERTICAL),
    )
    assert rows == [14, 15]
    assert (at_horizontal[14:16] == 1020).all()
    assert (at_vertical == 0).all()
    assert turned_over.min() == -1020
    assert abs(answers[18]) < 0.01 * answers[0]
    assert (np.diff(answers[:19]) <= 0).all()
    record(
        Claim(
            "horizontal-edges",
            "A horizontal-edge kernel answers at horizontal edges",
            "a kernel might be designed to detect horizontal edges in an image, and the resulting "
            "feature map would have high values wherever there are horizontal edges in the input "
            "image",
            "The 3 x 3 Sobel kernel (rows -1 -2 -1, 0 0 0, 1 2 1) on edges from 0 to 255: "
            "horizontal, vertical, and at 37 angles.",
            (
                f"At the horizontal edge the map is {at_horizontal.max():.0f} = 4 * 255 in the "
                f"{len(rows)} rows that touch it, over the whole width, and 0 elsewhere.",
                f"At the vertical edge it is 0 everywhere (largest magnitude "
                f"{np.abs(at_vertical).max():.0f}).",
                f"At an edge from light to dark it is {turned_over.min():.0f}: not high but low. "
                'The sign tells the direction; "high values" is true of the magnitude.',
                "In between, it follows the cosine of the angle, nearly: an edge at 45 degrees "
                f"still gives {100 * answers[9] / answers[0]:.0f} % of the answer. The kernel "
                "prefers horizontal edges, it does not select them.",
            ),
            LIMITS,
            "High in magnitude, with the sign of the edge; slanted edges answer as well.",
            plot=Plot(
                lambda figure: plots.edges(figure, picture, maps, angles, answers),
                (10, 2.9),
                "A picture, the magnitude of its horizontal- and vertical-edge maps, and the "
                "answer to an edge by its angle, as a share of the answer to a horizontal edge.",
            ),
        )
    )


KERNELS = {
    "box 3 x 3": np.ones((3, 3)) / 9,
    "box 7 x 7": np.ones((7, 7)) / 49,
    "binomial 5 x 5": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "identity": np.eye(1),
    "Sobel 3 x 3": SOBEL_HORIZONTAL.astype("float64"),
    "Laplace 3 x 3": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], "float64"),
    "sharpen 3 x 3": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], "float64"),
}


def test_noise(benchmark: Any, record: Record) -> None:
    noise = np.random.default_rng(5).standard_normal((512, 512))
    table = Table(("kernel", "predicted, norm of the kernel", "measured", "noise is"))
    measured = {}
    for name, kernel in KERNELS.items():
        measured[name] = float(fastconv.conv2d(noise, kernel).std() / noise.std())
        norm = float(np.linalg.norm(kernel))
        effect = "kept" if norm == 1 else "reduced" if norm < 1 else "amplified"
        table.add(name, f"{norm:.3f}", f"{measured[name]:.3f}", effect)
    benchmark(fastconv.conv2d, noise, KERNELS["box 3 x 3"])
    for name, kernel in KERNELS.items():
        assert abs(measured[name] / np.linalg.norm(kernel) - 1) < 0.03, name
    record(
        Claim(
            "noise",
            "Convolutions filter out noise",
            "By extracting and focusing on key features, convolutions help to reduce the "
            "dimensionality of the input data, effectively filtering out noise and irrelevant "
            "details",
            "White noise of 512 x 512 pixels through seven kernels: standard deviation after, "
            "divided by before.",
            (
                "The factor is the Euclidean norm of the kernel, whatever the kernel: smoothing "
                "kernels reduce noise.",
                f"The edge detectors of the article's own example amplify it: Sobel by "
                f"{measured['Sobel 3 x 3']:.2f}, while it turns an edge of contrast 1 into 4: the "
                "edge stands out only 4 / 3.46 = 1.15 times as far from the noise as before.",
                "What a trained network does to noise depends on its kernels, and is a matter for "
                "a trained network.",
            ),
            IMPRECISE,
            "True of smoothing kernels; kernels that detect edges amplify noise.",
            (table,),
        )
    )


def test_receptive_field(benchmark: Any, record: Record) -> None:
    def widths(stride: int, kernel: int, depth: int) -> list[int]:
        """How many input columns reach one output pixel after each layer: counted, by changing
        one input pixel at a time along the middle row's columns."""
        seen = []
        for layers in range(1, depth + 1):
            reach = 1 + (kernel - 1) * sum(stride**i for i in range(layers))
            size = reach + 2 * stride**layers
            basis = np.zeros((size, 1, size, size), "float32")
            basis[np.arange(size), 0, size // 2, np.arange(size)] = 1
            for _ in range(layers):
                ones = np.ones((1, 1, kernel, kernel), "float32")
                basis = (fastconv.conv2d(basis, ones, stride) > 0).astype("float32")
            seen.append(int((basis[:, 0, basis.shape[2] // 2, 0] > 0).sum()))
        return seen

    three = benchmark(widths, 1, 3, 6)
    strided = widths(2, 3, 4)
    table = Table(("layers", *map(str, range(1, 7))))
    table.add("3 x 3, stride 1: pixels across", *map(str, three))
    table.add("3 x 3, stride 2: pixels across", *map(str, strided), "", "")
    assert three == [2 * layers + 1 for layers in range(1, 7)]
    assert strided == [2 ** (layers + 1) - 1 for layers in range(1, 5)]
    record(
        Claim(
            "receptive-field",
            "Deeper layers see more",
            "The more complex the feature, the deeper into the network it is typically found.",
            "How many input pixels across reach one output pixel after 1 to 6 layers of 3 x 3 "
            "kernels, counted by switching on one input pixel at a time.",
            (
                "L layers of stride 1 see 2L + 1 pixels across, L layers of stride 2 see "
                "2^(L+1) - 1: a feature of a given size cannot be found before the layer that "
                "covers it.",
                "Convolutions in a row without anything between them are one convolution with a "
                "larger kernel, hence the same features: the complexity comes from the "
                "non-linear functions between them.",
            ),
            LIMITS,
            "Depth makes larger features possible; that they are more complex is a matter of "
            "training.",
            (table,),
        )
    )
