"""Filter every image of an xarray.DataArray, in memory or in dask's chunks: `filter2d`.

python examples/xarray_filter.py
"""

from __future__ import annotations

import functools
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

import fastconv
from fastconv.interop.dask import conv2d


def _images(array: Any, w: Any, **options: Any) -> Any:
    """Convolve the last two axes; all before them are a batch."""
    function = conv2d if isinstance(array, da.Array) else fastconv.conv2d
    batch = array.reshape(-1, 1, *array.shape[-2:])
    return function(batch, w[None, None], **options).reshape(array.shape)


def filter2d(images: xr.DataArray, w: Any, dims: tuple[str, str], **options: Any) -> xr.DataArray:
    """Filter along two dimensions of a DataArray with one kernel; its coordinates stay.

    With chunks along `dims` no image need fit into memory; without, whole images are tasks.
    """
    return xr.apply_ufunc(
        functools.partial(_images, w=np.asarray(w), pad="same", **options),
        images,
        input_core_dims=[dims],
        output_core_dims=[dims],
        dask="allowed",  # the adapter takes dask arrays as they are, chunked along `dims` or not
        keep_attrs=True,
    ).transpose(*images.dims)


def main() -> None:
    """Find the fronts in a field that moves: the gradient of it, smoothed, day by day."""
    time, lat, lon = np.arange(8), np.linspace(-90, 90, 721), np.arange(0, 360, 0.25)
    wave = np.sin(np.radians(lon + 12 * time[:, None, None])) * np.cos(np.radians(lat[:, None]))
    field = xr.DataArray(
        wave.astype("float32"), coords={"time": time, "lat": lat, "lon": lon}, name="temperature"
    ).chunk(time=1, lat=200, lon=360)
    sobel = np.outer([1, 2, 1], [-1, 0, 1]).astype("float32") / 8
    east = filter2d(field, sobel, ("lat", "lon"), pad_mode="wrap")  # the globe is round
    print(east.data)
    print(f"steepest at lon {float(abs(east).mean(('time', 'lat')).idxmax('lon'))}")


if __name__ == "__main__":
    main()
