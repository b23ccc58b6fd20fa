"""The photograph: the one shipped with the package, or any image that matplotlib reads."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CREDIT = "Photograph: Chelsea the cat, by Stéfan van der Walt (CC0)"

#: Red, green and blue in the luma of ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114])

#: Mean and standard deviation of ImageNet's red, green and blue, the input scaling of AlexNet.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])


def photograph() -> Array:
    """Load the photograph that ships with fastconv.

    Returns
    -------
    ndarray (224, 224, 3) of float64
        Red, green and blue in [0, 1].
    """
    resource = importlib.resources.files(__package__) / "data" / "chelsea.npz"
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return unit_range(archive["rgb"])


def read(path: Path) -> Array:
    """Read an image file; needs matplotlib.

    Parameters
    ----------
    path : Path
        Any format that `matplotlib.image.imread` knows.

    Returns
    -------
    ndarray (H, W, 3) of float64
        In [0, 1]; grey images are repeated three times, transparency is dropped.

    Raises
    ------
    ImportError
        Without matplotlib.
    OSError
        The file cannot be read, or is no image.
    """
    from matplotlib import image

    pixels = unit_range(np.asarray(image.imread(path)))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] < 3:  # grey, or grey with transparency
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    return pixels[:, :, :3]


def unit_range(pixels: Array) -> Array:
    """Scale integer pixels by the largest value of their dtype; clip floats to [0, 1]."""
    if pixels.dtype.kind == "u":
        scaled: Array = pixels / np.iinfo(pixels.dtype).max
        return scaled
    return np.clip(np.asarray(pixels, np.float64), 0, 1)


def _resampling(size: int, target: int) -> Array:
    """Weights (target, size) of a triangle filter as wide as one output pixel, at least."""
    scale = size / target
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(size)[None, :] - centres[:, None]) / max(scale, 1.0)
    weights: Array = np.maximum(1 - distance, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def square(pixels: Array, size: int) -> Array:
    """Cut out the central square and resample it.

    Parameters
    ----------
    pixels : ndarray (H, W, 3)
    size : int
        Side of the result, in pixels.

    Returns
    -------
    ndarray (size, size, 3) of float64
    """
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    crop = pixels[top : top + side, left : left + side]
    if side == size:
        return crop
    weights = _resampling(side, size)
    resampled: Array = np.einsum("ph,hwc,qw->pqc", weights, crop, weights, optimize=True)
    return resampled


def grey_batch(rgb: Array) -> Array:
    """Luma of an RGB image as a batch of one: (1, 1, H, W) float32."""
    return np.asarray((rgb @ LUMA)[None, None], np.float32)


def rgb_batch(rgb: Array) -> Array:
    """Red, green and blue planes as a batch of one: (1, 3, H, W) float32, contiguous."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32)


def normalised_batch(rgb: Array) -> Array:
    """Planes scaled as ImageNet networks expect: (1, 3, H, W) float32, contiguous."""
    return rgb_batch((rgb - IMAGENET_MEAN) / IMAGENET_STD)
