"""What the demo convolves: the photograph, the filters, AlexNet's layers, the picture."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest

import fastconv
from fastconv.demo import alexnet, figure, filters, photo


def test_photograph_is_a_real_colour_picture():
    rgb = photo.photograph()
    assert rgb.shape == (224, 224, 3)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert len(np.unique((255 * rgb).round().astype(np.uint8).reshape(-1, 3), axis=0)) > 10_000
    assert abs(rgb[..., 0] - rgb[..., 2]).max() > 0.2


def test_photograph_states_its_licence():
    folder = importlib.resources.files("fastconv.demo") / "data"
    text = (folder / "LICENSE.txt").read_text(encoding="utf-8")
    data = [entry.name for entry in folder.iterdir() if not entry.name.startswith("LICENSE")]
    assert data
    for name in data:
        assert name in text
    assert "CC0" in text


def test_square_cuts_the_centre_and_keeps_what_needs_no_resampling():
    pixels = np.random.default_rng(0).random((40, 60, 3))
    np.testing.assert_array_equal(photo.square(pixels, 40), pixels[:, 10:50])


@pytest.mark.parametrize("size", [7, 40, 64, 101])
def test_square_resamples_planes(size):
    # away from the ends, interpolation reproduces a ramp; a wider triangle is only nearly even
    tolerance = 1e-12 if size >= 40 else 0.01
    ramp = np.broadcast_to(np.linspace(0, 1, 40)[None, :, None], (40, 40, 3))
    got = photo.square(ramp, size)
    assert got.shape == (size, size, 3)
    centres = ((np.arange(size) + 0.5) * 40 / size - 0.5) / 39
    inside = slice(max(1, size // 20), -max(1, size // 20))
    np.testing.assert_allclose(got[0, inside, 0], centres[inside], atol=tolerance)
    np.testing.assert_allclose(photo.square(np.full((40, 40, 3), 0.3), size), 0.3, atol=1e-12)


@pytest.mark.parametrize(
    ("pixels", "want"),
    [
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 65535], np.uint16), [0, 1]),
        (np.array([-0.5, 0.25, 1.5], np.float32), [0, 0.25, 1]),
    ],
)
def test_unit_range(pixels, want):
    np.testing.assert_array_equal(photo.unit_range(pixels), want)


def test_read_takes_grey_transparent_and_colour_files(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    colour = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    image.imsave(tmp_path / "rgba.png", np.dstack([colour, np.full((5, 7), 128, np.uint8)]))
    np.testing.assert_allclose(photo.read(tmp_path / "rgba.png"), colour / 255, atol=1e-6)
    from PIL import Image

    Image.fromarray(colour[:, :, 0]).save(tmp_path / "grey.png")
    grey = photo.read(tmp_path / "grey.png")
    np.testing.assert_allclose(grey, np.repeat(colour[:, :, :1] / 255, 3, axis=2), atol=1e-6)


def response(image: np.ndarray, title: str) -> np.ndarray:
    index = [f.title for f in filters.FILTERS].index(title)
    y = fastconv.conv2d(
        image[None, None], filters.bank(1), pad="same", pad_mode="edge", backend="reference"
    )
    return y[0, index]


STEP = np.zeros((9, 9), np.float32)
STEP[5:] = 1


@pytest.mark.parametrize(
    ("title", "transposed"),
    [
        ("Horizontal edges", False),
        ("Sobel, vertical gradient", False),
        ("Vertical edges", True),
        ("Sobel, horizontal gradient", True),
    ],
)
def test_edge_filters_answer_to_their_direction_alone(title, transposed):
    edge = STEP.T if transposed else STEP
    assert np.abs(response(edge, title)).max() >= 3
    assert not response(np.ascontiguousarray(edge.T), title).any()


@pytest.mark.parametrize("item", filters.FILTERS, ids=lambda f: f.title)
def test_filters_keep_flat_images(item):
    flat = response(np.full((6, 6), 0.5, np.float32), item.title)
    np.testing.assert_allclose(flat, 0 if item.edges else 0.5, atol=1e-6)


def test_bank_is_depthwise():
    planes = np.random.default_rng(2).random((1, 3, 8, 8), np.float32)
    y = fastconv.conv2d(planes, filters.bank(3), pad=1, groups=3, backend="reference")
    count = len(filters.FILTERS)
    for channel in range(3):
        alone = fastconv.conv2d(
            planes[:, channel : channel + 1], filters.bank(1), pad=1, backend="reference"
        )
        np.testing.assert_array_equal(y[:, channel * count : (channel + 1) * count], alone)


def test_alexnet_layers_fit_each_other():
    side, channels = 224, 3
    sides = []
    for layer in alexnet.LAYERS:
        assert layer.channels == channels
        weights, bias = alexnet.parameters(layer)
        assert bias.shape == (layer.filters,)
        shape = fastconv.output_shape((1, channels, side, side), weights, layer.stride, layer.pad)
        sides.append(shape[2])
        channels, side = shape[1], (shape[2] - 3) // 2 + 1 if layer.pool else shape[2]
    assert sides == [55, 27, 13, 13, 13]
    assert (channels, side) == (256, 6)


def test_parameters_are_he_scaled_and_reproducible():
    for layer in alexnet.LAYERS:
        weights, bias = alexnet.parameters(layer)
        again, _ = alexnet.parameters(layer)
        np.testing.assert_array_equal(weights, again)
        assert weights.dtype == bias.dtype == np.float32
        fan_in = layer.channels * layer.kernel**2
        assert weights.var() * fan_in == pytest.approx(2, rel=0.05)
    first, second = (alexnet.parameters(layer)[0] for layer in alexnet.LAYERS[3:])
    assert first[0, 0, 0, 0] != second[0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (2, 3, 8, 11), (1, 1, 55, 55)])
def test_max_pool(shape):
    maps = np.random.default_rng(3).standard_normal(shape, np.float32)
    got = alexnet.max_pool(maps)
    p, q = (shape[2] - 3) // 2 + 1, (shape[3] - 3) // 2 + 1
    assert got.shape == (*shape[:2], p, q)
    for i in range(p):
        for j in range(q):
            window = maps[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            np.testing.assert_array_equal(got[:, :, i, j], window.max(axis=(2, 3)))


def test_smallest_image_still_reaches_the_last_layer():
    side = alexnet.SMALLEST_IMAGE
    for layer in alexnet.LAYERS:
        side = (side + 2 * layer.pad - layer.kernel) // layer.stride + 1
        assert side >= 1
        side = (side - 3) // 2 + 1 if layer.pool and layer is not alexnet.LAYERS[-1] else side
    assert side >= 1


def test_mosaic_keeps_every_map_apart():
    maps = np.arange(5 * 4 * 3, dtype=np.float64).reshape(5, 4, 3)
    canvas = figure.mosaic(maps, columns=2)
    gap = figure.GAP
    assert canvas.shape == (3 * (4 + gap) - gap, 2 * (3 + gap) - gap)
    assert np.isfinite(canvas).sum() == maps.size
    assert np.isnan(canvas[4 : 4 + gap]).all()
    assert np.isnan(canvas[-4:, 3 + gap :]).all()  # the sixth place is empty
    assert np.nanmin(canvas) == 0
    assert np.nanmax(canvas) == 1


def test_edge_strength_has_no_sign_and_survives_flat_images():
    flat = figure.edge_strength(np.zeros((4, 4)))
    assert not flat.any()
    signed = np.array([[-2.0, 2.0], [0.0, 1.0]])
    np.testing.assert_array_equal(figure.edge_strength(signed)[0], figure.edge_strength(-signed)[0])
