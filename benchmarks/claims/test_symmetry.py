"""What happens when the object in the picture moves, turns, or is seen from farther away."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv
from benchmarks.claims import plots
from benchmarks.claims.pictures import place, six
from benchmarks.claims.record import HOLDS, IMPRECISE, LIMITS, Claim, Plot, Record
from benchmarks.tables import Table

Array = np.ndarray[Any, Any]

SIZE = 41  # pixels across a glyph


def _matched(glyph: Array) -> Array:
    """Kernel that answers most strongly to `glyph`: the glyph, less its mean, in whole numbers."""
    kernel: Array = np.round((glyph - glyph.mean()) / 16).astype("float32")
    return kernel


def _score(glyph: Array, kernel: Array) -> float:
    """Largest answer of the kernel anywhere on a page with `glyph` in its middle."""
    page = place([(glyph, 50, 50)], 101, 101)
    return float(fastconv.conv2d(page, kernel).max())


def test_position(benchmark: Any, record: Record) -> None:
    rng = np.random.default_rng(11)
    kernel = rng.integers(-8, 9, (5, 5)).astype("float32")
    picture = rng.integers(0, 256, (64, 80)).astype("float32")
    dy, dx = 7, 4
    moved = np.roll(picture, (dy, dx), (0, 1))

    def compare(stride: int, step: tuple[int, int], pad: int | str = 0) -> tuple[float, Array]:
        """Share of the elements that differ where both maps see the picture, and the map of it."""
        here = fastconv.conv2d(picture, kernel, stride, pad)
        there = fastconv.conv2d(moved, kernel, stride, pad)
        rows, columns = step
        differ = there[rows:, columns:] != here[: here.shape[0] - rows, : here.shape[1] - columns]
        return float(differ.mean()), differ

    one, _ = benchmark(compare, 1, (dy, dx))
    two, _ = compare(2, (dy // 2, dx // 2))
    padded, where = compare(1, (dy, dx), "same")
    inner = where[2:-2, 2:-2]
    noise = rng.standard_normal((64, 80)).astype("float32")
    weights = rng.standard_normal((5, 5)).astype("float32")
    here = fastconv.conv2d(noise, weights)
    there = fastconv.conv2d(np.roll(noise, (dy, dx), (0, 1)), weights)[dy:, dx:]
    here = here[: there.shape[0], : there.shape[1]]
    real = float((here != there).mean())
    scale = fastconv.conv2d(np.abs(noise), np.abs(weights))[: there.shape[0], : there.shape[1]]
    units = float((np.abs(here - there) / scale).max() / 2**-24)
    rounding = (
        f"equal up to rounding: {100 * real:.1f} % of the elements differ, by at most "
        f"{units:.2g} u * sum |x||w|."
    )
    table = Table(("object moves by 7 down, 4 right", "elements that differ"))
    table.add("stride 1, no padding", f"{100 * one:.2f} %")
    table.add("stride 1, same: the 2 outermost rows and columns", f"{100 * padded:.2f} %")
    table.add("stride 1, same: further inside", f"{100 * inner.mean():.2f} %")
    table.add("stride 2 (7 is no multiple of 2)", f"{100 * two:.2f} %")
    table.add("stride 1, arbitrary real numbers", f"{100 * real:.2f} %")
    assert one == 0
    assert not inner.any()
    assert padded > 0
    assert two > 0.9
    assert units <= 2 * weights.size
    even = fastconv.conv2d(np.roll(picture, (6, 4), (0, 1)), kernel, 2)[3:, 2:]
    still = fastconv.conv2d(picture, kernel, 2)
    np.testing.assert_array_equal(even, still[: even.shape[0], : even.shape[1]])
    record(
        Claim(
            "position",
            "Convolutions are sensitive to position",
            "One of the main limitations of convolutions is their sensitivity to the position and "
            "orientation of features in the input.",
            "A picture of whole numbers and the same picture moved by 7 rows and 4 columns: the "
            "second map against the first one moved alike.",
            (
                "With stride 1 the map of the moved picture *is* the moved map, element for "
                "element: a convolution is equivariant to shifts, its answer does not depend on "
                "where the object is.",
                "With arbitrary real numbers the two maps are "
                + ("equal as well, bit for bit." if real == 0 else rounding),
                "Padding breaks it at the border, and only there: the made-up pixels do not move "
                "with the object.",
                f"Stride breaks it: with stride 2 and a move by 7 rows, {100 * two:.0f} % of the "
                "elements differ, because no output pixel lies where the kernel would have to. "
                "Multiples of the stride are exact.",
                "What is sensitive to position is what comes after: strides, pooling, and layers "
                "that read the map at fixed places.",
            ),
            IMPRECISE,
            "To position a convolution of stride 1 is equivariant, exactly; to orientation it is "
            "not.",
            (table,),
        )
    )


def test_orientation(benchmark: Any, record: Record) -> None:
    digit = six(SIZE)
    nine = np.ascontiguousarray(digit[::-1, ::-1])
    kernel = _matched(digit)
    page = place([(digit, 24, 30), (nine, 24, 90)], 49, 121)
    found = benchmark(fastconv.conv2d, page, kernel, pad="same")
    turned = fastconv.conv2d(page, kernel, pad="same", flip=True)
    own = _score(digit, kernel)
    angles = list(range(0, 361, 10))
    scores = [_score(six(SIZE, angle), kernel) / own for angle in angles]
    at_nine = _score(nine, kernel) / own
    commutes = [
        np.array_equal(fastconv.conv2d(digit[::-1, ::-1], kernel[5:30, 5:30]),
                       fastconv.conv2d(digit, w)[::-1, ::-1])
        for w in (kernel[5:30, 5:30], kernel[5:30, 5:30][::-1, ::-1])
    ]  # fmt: skip
    assert commutes == [False, True]
    assert at_nine < 0.9
    assert scores[0] == 1 == max(scores)
    assert found[24, 30] == found.max() == own
    assert turned[24, 90] == turned.max() == own
    record(
        Claim(
            "orientation",
            "A rotated object changes the answer",
            "for instance when trying to recognize numbers a six rotated 180 degrees upside down "
            "becomes a nine",
            f"A six drawn {SIZE} x {SIZE} pixels large, the kernel matched to it (the six, less "
            "its mean), and the kernel's largest answer on a page with the six turned by 0 to 360 "
            "degrees.",
            (
                f"Turned by 180 degrees the six gives {100 * at_nine:.0f} % of the answer it gives "
                f"upright; at 20 degrees already {100 * scores[2]:.0f} %. The least is "
                f"{100 * min(scores):.0f} %.",
                "Turning picture and kernel together by 180 degrees turns the map, exactly: "
                "the kernel would have to turn with the object.",
                "The six turned by 180 degrees is a nine, pixel for pixel. So the six's kernel, "
                "used in the printed formula (the true convolution, `flip=True`), finds nines: "
                f"its answer at the nine is {turned[24, 90] / own:.2f} times, at the six "
                f"{turned[24, 30] / own:.2f} times that of the six's kernel at the six.",
            ),
            HOLDS,
            "A kernel is not equivariant to rotation.",
            plot=Plot(
                lambda figure: plots.orientation(figure, page, found, turned, angles, scores),
                (10, 3.3),
                "A six and a nine, the answers of the six's kernel with `flip=False` and "
                "`flip=True`, and the largest answer to the six by its angle.",
            ),
        )
    )


def test_scale(benchmark: Any, record: Record) -> None:
    kernel = _matched(six(SIZE))
    own = _score(six(SIZE), kernel)
    scales = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]
    drawn = {scale: six(3 * SIZE, 0, scale / 3)[31:92, 31:92] for scale in scales}
    scores = [_score(drawn[scale], kernel) / own for scale in scales]
    half = six(SIZE, 0, 0.5)
    fitted = _matched(half)
    share = _score(half, fitted) / own
    benchmark(_score, half, kernel)
    assert scores[2] < 0.9
    assert scores[7] == 1 == max(scores)
    record(
        Claim(
            "scale",
            "A rescaled object changes the answer",
            "Convolutions can also struggle to handle features at different scales. A network "
            "trained to recognize large objects might fail to recognize the same objects when "
            "they are smaller in the image.",
            "The kernel matched to the six, and its largest answer on a page with the six drawn "
            "0.3 to 1.3 times as large.",
            (
                f"At half the size the answer is {100 * scores[2]:.0f} % of that at the kernel's "
                f"own size, at 0.8 times {100 * scores[5]:.0f} %.",
                "Part of this is that a small six has less ink: the kernel matched to the small "
                f"six answers {100 * share:.0f} % as strongly to it as the large kernel to the "
                "large six.",
                "A large object loses too, though it has more ink: the kernel's dark surroundings "
                "are covered.",
            ),
            LIMITS,
            "A single kernel has one scale; networks cover several by stride, pooling and depth.",
            plot=Plot(
                lambda figure: plots.scale(figure, drawn, scales, scores),
                (9, 2.9),
                "The six at three sizes, and the largest answer of the kernel matched to it by "
                "its size.",
            ),
        )
    )
