"""Arrays of other libraries go in through DLPack, and their own kind comes out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.example import BIAS, WANT, W, X
from support.oracles import oracle

import fastconv
from fastconv import interchange

Array = np.ndarray[Any, Any]
HOST, GPU, ELSEWHERE = 1, 2, 10


class Foreign:
    """An array of a library that exists here alone: all that the standard asks for, no more."""

    def __init__(self, array: Array, device: int = HOST) -> None:
        self.array, self.device = array, device
        self.taken = 0

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return Foreign

    def __dlpack__(self, **options: Any) -> Any:
        if self.device != HOST:
            raise BufferError("not in the memory of the processor")
        self.taken += 1
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("taken by DLPack, not by conversion")

    @staticmethod
    def from_dlpack(array: Array) -> Foreign:
        return Foreign(np.from_dlpack(array))  # type: ignore[arg-type]


class Library:
    """How a test makes and reads a library's arrays."""

    def __init__(self, name: str) -> None:
        if name == "foreign":
            self.make, self.kind, self.read = Foreign, Foreign, lambda value: value.array
            return
        library = oracle("jax.numpy" if name == "jax" else name)
        self.make = library.asarray
        self.kind = library.Tensor if name == "torch" else type(library.asarray(np.ones(1, "f4")))
        self.read = np.from_dlpack


@pytest.fixture(params=["foreign", "torch", "jax", "array_api_strict"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(request.param)


GY = np.ones(WANT.shape, "f4")

#: Every function of arrays: positional arguments and others; arrays are made foreign.
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "conv2d": ((X, W, 2, 1), {"bias": BIAS}),
    "conv1d": ((X[..., 0], W[..., 0]), {"bias": BIAS}),
    "conv3d": ((X[:, :, None], W[:, :, None]), {"pad": 1}),
    "conv1d_input_grad": ((X[..., 0].shape, W[..., 0], GY[..., 0]), {"stride": 2, "pad": 1}),
    "conv2d_input_grad": ((X.shape, W, GY), {"stride": 2, "pad": 1}),
    "conv2d_weight_grad": ((X, W.shape, GY), {"stride": 2, "pad": 1}),
    "conv2d_bias_grad": ((GY,), {}),
    "conv2d_grads": ((X, W, GY, 2, 1), {"activation": "relu"}),
    "conv_transpose2d": ((X, W[:3]), {"stride": 2}),
    "conv_transpose2d_input_grad": (((2, 4, 2, 3), W[:, :2], np.ones((2, 2, 4, 4), "f4")), {}),
    "conv2d_per_sample": ((X, np.stack([W, W])), {}),
    "depthwise_conv2d": ((X, W[:3, :1]), {}),
    "separable_conv2d": ((X, W[:3, :1], np.ones((5, 3, 1, 1), "f4")), {}),
    "correlate2d": ((X[0, 0], W[0, 0]), {"mode": "same", "boundary": "symm"}),
    "convolve2d": ((X[0, 0], W[0, 0]), {}),
    "deform_conv2d": ((X, W, np.zeros((2, 12, 5, 7), "f4")), {}),
    "im2col": ((X, 2), {}),
    "im2col_view": ((X, 2), {}),
    "col2im": ((np.ones((2, 12, 6), "f4"), (3, 4), 2), {}),
    "conv2d_integer": ((X.astype("i1"), W.astype("i1"), np.int8(1)), {}),
}


def foreign(library: Library, value: Any) -> Any:
    """Return an array as the library's; anything else as it is."""
    return library.make(value.copy()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", CALLS)
def test_the_kind_that_goes_in_comes_out(name: str, library: Library) -> None:
    function: Callable[..., Any] = getattr(fastconv, name)
    args, kwargs = CALLS[name]
    want = function(*args, **kwargs)
    given = [foreign(library, value) for value in args]
    got = function(*given, **{key: foreign(library, value) for key, value in kwargs.items()})
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    assert type(got) is type(want) or not isinstance(want, tuple)
    for ours, theirs in pairs:
        assert isinstance(ours, library.kind), type(ours)
        values = library.read(ours)
        assert values.dtype == theirs.dtype
        assert np.array_equal(values, theirs)


def test_no_function_is_forgotten() -> None:
    """Whoever adds an operator adds its line, or says here why it takes no arrays."""
    ranks = ("1d", "2d", "3d")
    shown = {name.replace(rank, "") for name in CALLS for rank in ranks if rank in name}
    without_arrays = {
        "options", "output_shape", "plan_conv2d", "show_config", "conv2d_blocks", "get_include",
        "get_cmake_dir", "get_pkgconfig_dir",
    }  # fmt: skip
    for name in fastconv.__all__:
        thing = getattr(fastconv, name)
        if not callable(thing) or inspect.isclass(thing) or name in without_arrays:
            continue
        family = next((name.replace(rank, "") for rank in ranks if rank in name), name)
        assert family in shown | set(CALLS) or name in OTHERWISE, name


#: Shown by tests of their own below, or by those whose twin they are.
OTHERWISE = {
    "available_backends", "conv_cost", "explain", "qlinear_conv2d", "conv2d_per_sample_input_grad",
    "conv2d_per_sample_weight_grad", "conv_transpose1d_weight_grad",
    "conv_transpose2d_weight_grad", "conv_transpose3d_weight_grad",
}  # fmt: skip


def test_plans(library: Library) -> None:
    x, w, bias = (library.make(array.copy()) for array in (X, W, BIAS))
    plan = fastconv.plan_conv2d(w, X.shape, 2, 1, bias=bias)
    assert np.array_equal(library.read(plan(x)), WANT)
    assert isinstance(plan(x), library.kind)
    assert type(plan(X)) is np.ndarray, "the kind of x, not that of the weights"
    plan = fastconv.conv_transpose2d.plan(X.shape, library.make(W[:3].copy()))
    assert np.array_equal(library.read(plan(x)), fastconv.conv_transpose2d(X, W[:3]))


def test_questions_about_foreign_arrays(library: Library) -> None:
    x, w = library.make(X.copy()), library.make(W.copy())
    assert fastconv.explain(x, w).algorithm == fastconv.explain(X, W).algorithm
    assert fastconv.conv_cost(x, w) == fastconv.conv_cost(X, W)
    assert fastconv.output_shape(x, w) == fastconv.output_shape(X, W)
    assert fastconv.conv_transpose2d.output_shape(x, library.make(W[:3].copy())) == (2, 3, 9, 9)


@pytest.mark.parametrize("name", ["foreign", "torch"])
def test_results_are_written_in_place(name: str) -> None:
    library = Library(name)
    memory = np.full(WANT.shape, np.nan, "f4")
    out = Foreign(memory) if name == "foreign" else oracle("torch").from_numpy(memory)
    x, w, bias = (library.make(array.copy()) for array in (X, W, BIAS))
    assert fastconv.conv2d(x, w, 2, 1, bias=bias, out=out) is out
    assert np.array_equal(memory, WANT)
    memory[:] = np.nan
    assert fastconv.plan_conv2d(w, X.shape, 2, 1, bias=bias)(x, out=out) is out
    assert np.array_equal(memory, WANT)


def test_what_goes_in_is_not_copied() -> None:
    torch = oracle("torch")
    x = torch.rand(1, 3, 8, 8)
    patches = fastconv.im2col_view(x, 3)
    x.fill_(7)
    assert bool((patches == 7).all())
    x = Foreign(X.copy())
    fastconv.conv2d(x, Foreign(W.copy()))
    assert x.taken == 1


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_bfloat16(name: str) -> None:
    ml_dtypes = oracle("ml_dtypes")
    library = oracle("jax.numpy" if name == "jax" else name)
    make = library.asarray if name == "jax" else library.tensor
    x, w = (make(array.tolist(), dtype=library.bfloat16) for array in (X, W))
    y = fastconv.conv2d(x, w)
    assert y.dtype == library.bfloat16
    want = fastconv.conv2d(X.astype(ml_dtypes.bfloat16), W.astype(ml_dtypes.bfloat16))
    assert np.array_equal(np.array(y.tolist()), want.astype("f8"))


def test_a_dtype_of_the_library() -> None:
    torch = oracle("torch")
    y = fastconv.conv2d(torch.ones(4, 4), torch.ones(2, 2), dtype=torch.float64)
    assert y.dtype == torch.float64
    strict = oracle("array_api_strict")
    one = strict.ones((4, 4), dtype=strict.float32)
    assert fastconv.conv2d(one, one, dtype=strict.float64).dtype == strict.float64


def test_operators_are_told_from_options(library: Library) -> None:
    """A list, a number or a tuple beside foreign arrays stays what it is."""
    x = library.make(X.copy())
    got = fastconv.conv2d(x, library.make(W.copy()), stride=[2, 2], pad=((1, 1), (1, 1)))
    assert np.array_equal(library.read(got), fastconv.conv2d(X, W, 2, 1))


def test_errors_name_what_to_do() -> None:
    with pytest.raises(fastconv.DTypeError, match=r"one library, got x a .*Foreign, w a numpy"):
        fastconv.conv2d(Foreign(X), W)
    with pytest.raises(fastconv.DTypeError, match=r"one library, got .*bias a numpy"):
        fastconv.conv1d(Foreign(X[..., 0]), Foreign(W[..., 0]), bias=BIAS)
    with pytest.raises(fastconv.BackendUnavailable, match=r"device 10.*move it there"):
        fastconv.conv2d(Foreign(X, ELSEWHERE), Foreign(W))
    with pytest.raises(fastconv.BackendUnavailable, match="GPU's memory, where CuPy"):
        fastconv.conv2d(Foreign(X, GPU), Foreign(W, GPU))
    with pytest.raises(fastconv.ShapeError, match=r"x \(N=2, C=3"):
        fastconv.conv2d(Foreign(X), Foreign(W[:, :2].copy()))
    with pytest.raises(fastconv.DTypeError, match="no from_dlpack"):
        fastconv.conv2d(Nameless(), Nameless())


class Nameless:
    """An array of no library."""

    __module__ = "nowhere"

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("must not be consumed")


def test_two_libraries_of_one_package() -> None:
    """Arrays are of one library where they have one namespace, whatever module they are from."""

    class Other(Foreign):
        def __array_namespace__(self, *, api_version: str | None = None) -> Any:
            return Other

        @staticmethod
        def from_dlpack(array: Array) -> Other:
            return Other(np.from_dlpack(array))  # type: ignore[arg-type]

    for kind in (Foreign, Other):
        assert type(fastconv.conv2d(kind(X), kind(W))) is kind
    with pytest.raises(fastconv.DTypeError, match="of one library, got x a"):
        fastconv.conv2d(Foreign(X), Other(W))


def test_gradients_are_not_lost() -> None:
    torch = oracle("torch")
    w = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(fastconv.DTypeError, match=r"fastconv\.interop\.torch"):
        fastconv.conv2d(torch.ones(4, 4), w)
    assert fastconv.conv2d(torch.ones(4, 4), w.detach()).shape == (3, 3)


def test_what_is_traced_says_so() -> None:
    jax = oracle("jax")
    ones = jax.numpy.ones((4, 4))
    with pytest.raises(fastconv.DTypeError, match=r"fastconv\.interop\.jax"):
        jax.jit(fastconv.conv2d)(ones, ones)


def test_types_are_not_collected_for_ever() -> None:
    for _ in range(2 * interchange.MOST_TYPES):
        assert not interchange.any_foreign(type("Once", (), {})())
    assert len(interchange._libraries) <= interchange.MOST_TYPES
    assert isinstance(fastconv.conv2d(Foreign(X), Foreign(W)), Foreign)
