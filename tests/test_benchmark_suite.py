"""The benchmark suite's own parts: operation counts, slices, verification, fits, tables."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import calibrate, measure, networks, overhead
from benchmarks.claims import training, writer
from benchmarks.claims.fits import power_law
from benchmarks.claims.pictures import six
from benchmarks.claims.record import HOLDS, ORDER, Claim, Plot
from benchmarks.networks.results import Result, tables
from benchmarks.operators import every
from benchmarks.tables import Table, markdown, plain
from support import backends

import fastconv
from fastconv import ConvProblem
from fastconv.backends.native import fft

#: Convolutions of each network as its architecture defines it.
CONVOLUTIONS = {
    "alexnet": 5, "vgg16": 13, "unet": 19, "resnet50": 53, "resnext50": 53, "mobilenet_v2": 52,
    "efficientnet_b0": 81, "convnext_t": 58, "unusual": 19, "filters": 10,
}  # fmt: skip

#: Parameters of the whole network as torchvision documents it, and those of its classifier.
PARAMETERS = {
    "alexnet": (61100840, 58631144), "vgg16": (138357544, 123642856),
    "resnet50": (25557032, 2049000), "resnext50": (25028904, 2049000),
    "mobilenet_v2": (3504872, 1281000), "efficientnet_b0": (5288548, 1281000),
    "convnext_t": (28589128, 769000),
}  # fmt: skip


def _beside_weights(layer: networks.Layer) -> int:
    """Parameters that come with a convolution: its bias, or the normalisation after it."""
    if layer.network in ("alexnet", "vgg16") or layer.name.endswith(("squeeze", "excite")):
        return layer.k
    if layer.network != "convnext_t":
        return 2 * layer.k
    if layer.name.endswith("depthwise"):  # layer norm; the block's scale
        return layer.k + 2 * layer.k + layer.k
    if layer.name == "stem":  # layer norm behind it, and the last one before the classifier
        return layer.k + 2 * layer.k + 2 * 768
    return layer.k + (2 * layer.c if layer.name.startswith("downsample") else 0)


@pytest.mark.parametrize("name", networks.NAMES)
def test_operation_counts_are_the_published_ones(name: str) -> None:
    network = networks.load(name)
    assert sum(layer.count for layer in network.layers) == CONVOLUTIONS[name]
    if network.published is not None:
        total = (network.macs + network.classifier) / 1e9
        assert round(total, 2) == network.published


def test_what_the_overhead_of_is_measured_computes_the_same() -> None:
    found = overhead.rows()
    assert len({row.name for row in found}) == len(found) >= 20
    for row in found:
        assert row.torch is None
        if row.plan is not None:
            np.testing.assert_array_equal(row.plan(), row.call(), row.name)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    """Every kernel's shape and every count is in this number, and no image size."""
    published, classifier = PARAMETERS[name]
    counted = sum(
        layer.count * (math.prod(layer.problem().w_shape) + _beside_weights(layer))
        for layer in networks.load(name).layers
    )
    assert counted + classifier == published


def test_unet_counts() -> None:
    """Four levels down and up cost the same at every level but the first and the last."""
    level = 64 * 64 * 9 * 256 * 256  # 64 -> 64 channels at 256 x 256; 128 -> 128 at half the size
    first, last = 64 * 9 * 256 * 256, 64 * 2 * 256 * 256
    down = first + level + 4 * (level // 2 + level)
    up = 4 * (2 * level + level)
    assert networks.load("unet").macs == down + up + last


def test_layers_follow_one_another() -> None:
    """Every layer of a network but the first reads as many channels as some layer writes."""
    for name in networks.NAMES[:-2]:
        layers = networks.load(name).layers
        written = {layer.k for layer in layers}
        joined = {2 * k for k in written} if name == "unet" else set()
        for layer in layers[1:]:
            assert layer.c in written | joined, f"{name} {layer.name}"
            assert layer.c % layer.groups == layer.k % layer.groups == 0


def test_unknown_network() -> None:
    with pytest.raises(ValueError, match="choose from alexnet"):
        networks.load("lenet")


PROBLEMS = (
    ConvProblem.describe((2, 4, 13, 9), (6, 4, 3, 3), stride=2, pad=1),
    ConvProblem.describe((1, 6, 11, 8), (9, 2, 5, 3), pad=((3, 1), (0, 2)), groups=3),
    ConvProblem.describe((1, 3, 17, 6), (2, 3, 3, 2), stride=(3, 1), dilation=(2, 1), pad=4),
)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_rows_of_a_problem_are_rows_of_its_result(problem: ConvProblem) -> None:
    whole = measure.case(problem)
    y = whole.run("reference")
    for first in range(problem.p):
        for last in range(first + 1, problem.p + 1):
            part = measure.rows(whole, first, last)
            np.testing.assert_array_equal(part.run("reference"), y[:, :, first:last])


def test_groups_of_a_problem_are_channels_of_its_result() -> None:
    whole = measure.case(PROBLEMS[1])
    part = measure.first_groups(whole, 2)
    np.testing.assert_array_equal(part.run("reference"), whole.run("reference")[:, :6])


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "filters"])
def test_pieces_are_small_and_of_the_same_kind(name: str) -> None:
    for layer in networks.load(name).layers:
        whole = measure.case(layer.problem())
        part = measure.piece(whole, measure.REFERENCE_MACS)
        one_row = whole.problem.cost.macs // whole.problem.p
        assert part.problem.cost.macs <= max(measure.REFERENCE_MACS, one_row)
        assert part.problem.reduction == whole.problem.reduction


@pytest.mark.parametrize("row", [0, 40, 79])
@pytest.mark.parametrize("channel", [0, 7])
def test_verification_notices_one_wrong_pixel(row: int, channel: int) -> None:
    # So large that only bands of rows are verified: first, middle and last.
    problem = ConvProblem.describe((1, 64, 80, 80), (8, 64, 3, 3), pad=1)
    whole = measure.case(problem)
    y = _exact(whole)
    assert measure.verify(whole, y).ok
    y[0, channel, row, 79] += 0.05  # bounds are about 0.005
    assert not measure.verify(whole, y).ok


def _exact(whole: measure.Case) -> np.ndarray:
    """Result in float64 through NumPy, rounded: within the bound, and quick."""
    p = whole.problem
    padded = np.pad(whole.x.astype("float64"), ((0, 0), (0, 0), *p.pad))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (p.r, p.s), (2, 3))
    sums = np.tensordot(windows, whole.w.astype("float64"), ((1, 4, 5), (1, 2, 3)))
    return sums.transpose(0, 3, 1, 2).astype("float32")


def test_power_law() -> None:
    x = [1, 2, 4, 8, 16]
    exact = power_law(x, [3 * v**1.5 for v in x])
    assert exact.exponent == pytest.approx(1.5)
    assert exact.margin == pytest.approx(0, abs=1e-12)
    assert exact.scale == pytest.approx(3)
    # Worked by hand: residuals of +-d around slope 1, three points.
    d = 0.1
    noisy = power_law([1, np.e, np.e**2], np.exp([d, 1 - 2 * d, 2 + d]))
    assert noisy.exponent == pytest.approx(1)
    assert noisy.margin == pytest.approx(12.706 * np.sqrt(6 * d * d / 1 / 2))
    with pytest.raises(ValueError, match="3 to 12"):
        power_law([1, 2], [1, 2])


def test_a_six_upside_down_is_a_nine() -> None:
    np.testing.assert_array_equal(six(41)[::-1, ::-1], six(41, 180))
    assert set(np.unique(six(41) % 1)) == {0}


def test_resampled_pictures() -> None:
    """Quarter turns move pixels and change none; ink grows as the area."""
    x = np.random.default_rng(0).random((4, 1, 8, 8)).astype("float32")
    drawn = training.resampled(x, np.array([0, 90, 180, -90]), np.ones(4), 12)
    for image, quarters, got in zip(x, (0, -1, 2, 1), drawn, strict=True):
        want = np.pad(np.rot90(image[0], quarters), 2)
        np.testing.assert_allclose(got[0], want, atol=1e-6)
    flat = np.ones((1, 1, 8, 8), "float32")
    for scale in (0.5, 1.0, 1.5):
        ink = training.resampled(flat, np.array([30]), np.array([scale]), 24).sum()
        assert ink == pytest.approx((8 * scale) ** 2, rel=0.15 / scale)


def test_splits_share_no_digit() -> None:
    pytest.importorskip("sklearn")
    s, again, few = training.split(1), training.split(1), training.split(1, 50)
    assert len(s.x) + len(s.test_x) == 1797
    np.testing.assert_array_equal(s.x, again.x)
    np.testing.assert_array_equal(few.x, s.x[:50])
    np.testing.assert_array_equal(few.test_labels, s.test_labels)
    other = training.split(2)
    both = [np.bincount([*cut.labels, *cut.test_labels]).tolist() for cut in (s, other)]
    assert both[0] == both[1]
    assert (s.labels != other.labels).any()


def _result(name: str, seconds: float | None = 1e-3, scaled: bool = False) -> Result:
    layer = networks.load("vgg16").layer(name)
    return Result(layer, "native", "im2col_gemm", 2, seconds, 200.0, 0.5, scaled, 0.25)


def test_result_numbers() -> None:
    result = _result("conv5_1")
    info = result.info()
    assert info["gflops"] == pytest.approx(924.844032)
    assert info["share_of_peak"] == pytest.approx(4.62422016)
    assert info["times_reference"] == pytest.approx(500)
    unmeasured = replace(result, seconds=None, reference=None)
    assert unmeasured.info()["gflops"] is None
    (table,) = tables([unmeasured])
    assert table.rows[0][3:7] == ("-", "-", "-", "-")


def test_total_counts_every_layer_as_often_as_the_network_holds_it() -> None:
    names = [layer.name for layer in networks.load("vgg16").layers]
    (whole,) = tables([_result(name) for name in names])
    assert whole.rows[-1][:4] == ("all, times count", "13", "30693.3", "13.000")
    (part,) = tables([_result(name) for name in names[1:]])
    assert not part.last_is_total
    (scaled,) = tables([_result("conv5_1", scaled=True)])
    assert scaled.rows[0][3] == "~1.000"


def test_tables() -> None:
    table = Table(("name", "n"), "title", last_is_total=True)
    table.add("a|b", "1")
    table.add("all", "10")
    assert plain(table) == "title\nname   n\n----  --\na|b    1\n----  --\nall   10"
    lines = [
        "**title**",
        "",
        "| name | n |",
        "| :-- | --: |",
        "| a\\|b | 1 |",
        "| **all** | **10** |",
    ]
    assert markdown(table).splitlines() == lines
    with pytest.raises(ValueError, match="3 cells under 2 columns"):
        table.add("a", "b", "c")


def test_report(tmp_path: Path) -> None:
    def draw(figure: object) -> None:
        figure.subplots().plot([1, 2])  # type: ignore[attr-defined]

    claim = Claim(
        "stride", "Title", "Quote.", "What.", ("Finding.",), HOLDS, "Because.",
        plot=Plot(draw, (3, 2), "Caption."),
    )  # fmt: skip
    text = writer.write([claim], tmp_path / "new", ["a machine"]).read_text(encoding="utf-8")
    assert f"Only 1 of {len(ORDER)} claims were measured" in text
    assert "> Quote." in text
    assert "**Verdict: holds.** Because." in text
    assert "![Caption.](stride.png)" in text
    assert (tmp_path / "new" / "stride.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no place"):
        replace(claim, key="other")
    with pytest.raises(ValueError, match="no verdict"):
        replace(claim, verdict="maybe")


def test_every_constant_of_the_transforms_model_is_measured() -> None:
    backends.present("native")
    found = calibrate.measured(budget=0)
    held = {n for n, v in vars(fft).items() if n.isupper() and isinstance(v, dict | float)}
    scipy = {"TRANSFORM", "LINE_TRANSFORM"}
    assert found.keys() | scipy | {"CALL"} == held - {"LEAST_GAIN", "LEAST_SAVED"}
    assert all(np.isfinite(v) for by in found.values() for v in by.values())


#: What is no operator, or one by another name.
NO_OPERATORS = {"conv_cost", "conv2d_blocks"}


def test_every_operator_has_a_benchmark() -> None:
    kinds = ("conv", "corr", "depthwise", "separable", "deform", "qlinear", "im2col", "col2im")
    names = {name for name in fastconv.__all__ if name.startswith(kinds)} - NO_OPERATORS
    assert {call.name for call in every.calls()} == names


def test_benchmarks_of_operators_notice_one_wrong_element() -> None:
    for call in every.calls():
        want = call.expected()
        first = want[0] if isinstance(want, tuple) else want
        assert first.any(), f"{call.name} is all zeros"
        assert len(np.unique(first)) > 4, f"{call.name} is of one value"
