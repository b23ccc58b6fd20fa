"""Every operator on arrays of a GPU, held against the contract, or the reference on the host.

The same list runs on the host model and on a real GPU: `through` turns an operator's name into a
function from NumPy arrays to NumPy arrays that computes on the GPU between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from support.cases import generator
from support.operators import OperatorCase, Through

import fastconv
from fastconv import accuracy

Array = np.ndarray[Any, Any]


class OnDevice:
    """Call operators of fastconv with arrays that are moved to a device, and back."""

    def __init__(self, to_device: Callable[[Array], Any]) -> None:
        self._to_device = to_device

    def __call__(self, name: str) -> Callable[..., Any]:
        """Return the operator of that name, for NumPy arrays."""
        function = getattr(fastconv, name)

        def call(*given: Any, out: Array | None = None, **options: Any) -> Any:
            given = tuple(map(self._moved, given))
            options = {key: self._moved(value) for key, value in options.items()}
            if out is None:
                return self._back(function(*given, **options))
            held = self._to_device(out)
            got = function(*given, out=held, **options)
            assert got is held
            out[...] = got.get()
            return out

        return call

    def _moved(self, value: Any) -> Any:
        return self._to_device(value) if isinstance(value, np.ndarray) else value

    def _back(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return type(value)(*map(self._back, value))
        assert not isinstance(value, np.ndarray), "computed on the host"
        return None if value is None else value.get()


#: Phases, groups, every border, flips, ranks and layouts, in one to three dimensions.
CASES = [
    OperatorCase((2, 3, 14), (4, 3, 3), stride=3, pad=5, dilation=2),
    OperatorCase((1, 2, 9), (3, 2, 2), stride=4, pad=(0, 3)),  # phases without taps
    OperatorCase((2, 4, 5, 6), (6, 2, 3, 2), stride=(2, 3), dilation=(3, 2), pad=2, groups=2),
    OperatorCase((2, 6, 5, 4), (12, 1, 3, 3), groups=6, pad=1, stride=2),
    OperatorCase((2, 7, 6, 4), (5, 4, 2, 2), last=True, pad=1, flip=True),
    OperatorCase((3, 7, 5), (4, 3, 3, 3), pad=3, pad_mode="reflect", stride=2),
    OperatorCase((1, 2, 1, 4), (3, 2, 1, 3), pad=(2, 3), pad_mode="wrap"),
    OperatorCase((1, 8, 6, 9), (33, 8, 3, 3), pad=1),  # more than a tile
    OperatorCase((1, 2, 5, 4, 6), (3, 2, 3, 2, 3), stride=(2, 1, 2), pad=(2, 1, 0)),
    OperatorCase((1, 2, 4, 3, 3), (2, 2, 3, 3, 3), pad=2, pad_mode="edge"),
    OperatorCase((3, 4, 4, 2), (2, 2, 2, 3, 3), last=True, pad=((1, 0), (2, 1), (0, 1))),
]
DTYPES = ("float32", "float64", "float16", "int16")
RESULTS = ("y", "x", "w")


def judge(through: Through, case: OperatorCase, result: str) -> None:
    """Hold y or a gradient against the contract: exact for integers."""
    case.judge(result, case.draw(), through=through, backend="cuda")
    if case.dtype in ("float32", "float64"):
        exact = case.draw(exact=True)
        assert case.judge(result, exact, through=through, backend="cuda").error == 0


def whole(*shape: int, dtype: str = "f4") -> Array:
    """Draw small integers, whose sums are exact in any order, or complex numbers made of them."""
    rng = generator(shape, dtype)
    drawn = rng.integers(-6, 7, shape)
    return (drawn + 1j * rng.integers(-6, 7, shape) if "c" in dtype else drawn).astype(dtype)


def _transposed(through: Through, d: int, dtype: str) -> None:
    """Transposed convolutions with a bias and an activation, and their gradients."""
    name, options = f"conv_transpose{d}d", {"stride": 2, "pad": 1, "output_padding": 1, "groups": 2}
    x, w = whole(2, 4, *(4, 3, 2)[:d], dtype=dtype), whole(4, 3, *(3, 2, 3)[:d], dtype=dtype)
    more: dict[str, Any] = {**options, "bias": whole(6, dtype=dtype)}
    if "f" in dtype:
        more["activation"] = "relu"
    y = same(through, name, x, w, **more)
    gy = whole(*y.shape, dtype=dtype)
    same(through, name + "_input_grad", x.shape, w, gy, **options)
    same(through, name + "_weight_grad", x, w.shape, gy, **options)


def same(through: Through, name: str, *given: Any, **options: Any) -> Any:
    """Compare with the reference's result on the host, bit by bit."""
    quantised = {"backend": "reference"} if "im" not in name and "bias" not in name else {}
    want = getattr(fastconv, name)(*given, **options, **quantised)
    got = through(name)(*given, **options)
    for mine, theirs in zip(*([g] if isinstance(g, np.ndarray) else g for g in (got, want)),
                            strict=True):  # fmt: skip
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    return want


def transposed(through: Through) -> None:
    """In one, two and three dimensions."""
    for d in (1, 2, 3):
        _transposed(through, d, "f4")


def complex_numbers(through: Through) -> None:
    """Both complex, x alone, w alone; gradients; channels last."""
    for d, a, b in ((1, "c8", "c8"), (2, "c8", "c8"), (3, "c8", "c8"), (2, "c8", "f4"),
                    (2, "f4", "c8")):  # fmt: skip
        x, w = whole(2, 4, *(5, 4, 3)[:d], dtype=a), whole(6, 2, *(2, 3, 2)[:d], dtype=b)
        options: dict[str, Any] = {"stride": 2, "pad": 1, "groups": 2}
        y = same(through, f"conv{d}d", x, w, bias=whole(6, dtype="c8"), **options)
        gy = whole(*y.shape, dtype="c8")
        same(through, f"conv{d}d_input_grad", x.shape, w, gy, **options)
        same(through, f"conv{d}d_weight_grad", x, w.shape, gy, **options)
    x, w = whole(2, 5, 4, 3, dtype="c8"), whole(4, 3, 2, 2, dtype="c8")
    y = same(through, "conv2d", x, w, layout="NHWC", pad=1, pad_mode="wrap")
    same(through, "conv2d_input_grad", x.shape, w, y, layout="NHWC", pad=1, pad_mode="wrap")
    _transposed(through, 2, "c8")


def kernels_of_each_image(through: Through) -> None:
    """Forwards and backwards, both layouts, with a bias."""
    w = whole(2, 6, 2, 3, 2)
    for layout in ("NCHW", "NHWC"):
        x = whole(2, 4, 6, 5) if layout == "NCHW" else whole(2, 6, 5, 4)
        options: dict[str, Any] = {"pad": 1, "stride": 2, "groups": 2, "layout": layout}
        for bias in (whole(6), whole(2, 6)):
            y = same(through, "conv2d_per_sample", x, w, bias=bias, **options)
        same(through, "conv2d_per_sample_input_grad", x.shape, w, y, **options)
        same(through, "conv2d_per_sample_weight_grad", x, w.shape, y, **options)


def layers_and_filters(through: Through) -> None:
    """Depthwise, separable, filters, all gradients at once, gradients of a bias."""
    x = whole(2, 3, 6, 5)
    same(through, "depthwise_conv2d", x, whole(6, 1, 3, 2), pad=1, pad_mode="reflect")
    same(through, "separable_conv2d", x, whole(6, 1, 3, 2), whole(4, 6, 1, 1), bias=whole(4))
    for name in ("correlate2d", "convolve2d"):
        for boundary, fill in (("fill", 0), ("fill", 3), ("symm", 0), ("wrap", 0)):
            same(through, name, whole(5, 6), whole(3, 2), "same", boundary, fill)
        same(through, name, whole(5, 6, dtype="c8"), whole(3, 2, dtype="c8"), "full")
        same(through, name, whole(3, 2), whole(5, 6), "valid")
    for d in (1, 2, 3):
        image, w = whole(2, 3, *(5, 4, 3)[:d]), whole(4, 3, *(2, 3, 2)[:d])
        y = same(through, f"conv{d}d", image, w)
        same(through, f"conv{d}d_bias_grad", y)
        for activation in (None, "relu"):
            same(through, f"conv{d}d_grads", image, w, y, activation=activation)
        name, smooth = f"conv{d}d_grads", {"activation": "gelu"}
        want = getattr(fastconv, name)(image, w / 50, y, backend="reference", **smooth)
        for mine, theirs in zip(through(name)(image, w / 50, y, **smooth), want, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * abs(theirs).max())


def patches(through: Through) -> None:
    """Copies of patches, and sums of them."""
    x = whole(2, 3, 5, 4)
    for mode in ("constant", "edge"):
        columns = same(through, "im2col", x, (3, 2), 2, 1, pad_mode=mode)
    same(through, "col2im", columns, (5, 4), (3, 2), 2, 1)


def quantised(through: Through) -> None:
    """Bytes less their zero points, and scaled."""
    rng = generator("quantised")
    x = rng.integers(0, 256, (2, 3, 6, 5), "u1")
    w = rng.integers(-128, 128, (4, 3, 3, 2), "i1")
    for zeros in ((0, 0), (7, 0), (9, -128), (3, 5), (3, np.array([1, 2, 3, 4]))):
        options = {"x_zero_point": zeros[0], "w_zero_point": zeros[1]}
        got = through("conv2d_integer")(x, w, pad=1, **options)
        want = fastconv.conv2d_integer(x, w, pad=1, **options)
        np.testing.assert_array_equal(got, want)
        for scale in (0.01, np.linspace(0.01, 0.04, 4).astype("f4")):
            arguments = (0.1, zeros[0], w, scale, zeros[1], 0.05, 3)
            got = through("qlinear_conv2d")(x, *arguments, pad=1)
            np.testing.assert_array_equal(got, fastconv.qlinear_conv2d(x, *arguments, pad=1))


#: Checks of operators that are not a convolution's y or gradient.
CHECKS = {
    f.__name__: f
    for f in (transposed, complex_numbers, kernels_of_each_image, layers_and_filters, patches,
              quantised)
}  # fmt: skip


def bound_of_transposed(through: Through, dtype: str) -> None:
    """Rounding of transposed convolutions, with the device's own functions."""
    rng = generator("transposed", dtype)
    shapes = (2, 6, 5, 4), (6, 4, 3, 4), (8,)
    x, w, bias = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    for activation in (None, "gelu", "tanh"):
        options: dict[str, Any] = {
            "stride": 2, "pad": 1, "groups": 2, "bias": bias, "activation": activation,
        }  # fmt: skip
        problem = fastconv.conv_transpose2d.explain(x, w, **options).problem
        got = through("conv_transpose2d")(x, w, **options)
        assert accuracy.check(problem, x, w, bias, got).ok, activation
