"""The native backend: C++17 with a thread pool of its own, behind a thin binding."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

from ... import activations
from ...borders import PAD_MODES
from ...deformable import DeformProblem
from ...dtypes import itemsize
from ...options import Options
from ...problem import ConvProblem
from .. import Algorithm, Direct, Ready

#: Dtypes of operands and their results, in the order of the extension's `Element`.
ELEMENTS = {
    "float32": "float32",
    "float64": "float64",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}
#: Dtypes whose gradients, and volumes, have kernels of their own.
GRADIENTS = ("float32", "float64")
#: The same where what a box of pixels reads can be widened: a border of zeros.
HALF_GRADIENTS = ("float16", "bfloat16")
#: Channels of a group, of which a volume has as many of y or of x to be a matrix product.
LEAST_OUTPUTS, LEAST_CHANNELS = 8, 16
#: Rows or columns from which on a kernel's phases may have ways of their own in `fast`.
_LARGE_KERNEL = 13
_CODES = {name: code for code, name in enumerate(ELEMENTS)}

_native: Any = None
_missing: str | None = None
try:
    _native = importlib.import_module("fastconv._native")
except ModuleNotFoundError:
    _missing = (
        "the native extension was not built when fastconv was installed; reinstall with a C++17 "
        "compiler at hand (Debian: apt-get install g++, macOS: xcode-select --install); "
        "FASTCONV_REQUIRE_NATIVE=1 makes the installation show what fails"
    )
except ImportError as _error:
    _missing = f"the native extension cannot be loaded: {_error}"


def in_default_arithmetic(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with subnormals kept, on threads of libraries that flush them, too."""
    if _native is None:
        return function(*arguments)
    return _native.in_default_arithmetic(function, *arguments)


def available() -> str | None:
    """Return None if the extension was built and this processor can run it."""
    if _missing is not None:
        return _missing
    try:
        _native.isa()
    except RuntimeError as error:
        return str(error)
    return None


def build_facts() -> dict[str, Any]:
    """Compiler, instruction sets and threading of the extension, and where its library is."""
    facts: dict[str, Any] = _native.build_facts()
    return facts


def supports(problem: ConvProblem, options: Options) -> str | None:
    """Return None for floats and integers of 8 and 16 bits, otherwise the reason."""
    if problem.dtype not in ELEMENTS:
        return f"computes {', '.join(ELEMENTS)}, not {problem.dtype}"
    if problem.out_dtype != ELEMENTS[problem.dtype]:
        return f"computes {problem.dtype} into {ELEMENTS[problem.dtype]}, not {problem.out_dtype}"
    return None


def computes(problem: ConvProblem) -> bool:
    """Whether the extension computes a problem other than y of images.

    It computes gradients, and y of volumes but for those of few channels, which what computes
    their planes does better than a matrix product.
    """
    if problem.result == "y":
        return problem.spatial == 3 and _is_product(problem)
    return problem.spatial == 2 and _has_gradient(problem)


def _is_product(problem: ConvProblem) -> bool:
    """Whether y of a volume is one matrix product."""
    outputs, channels = problem.k // problem.groups, problem.c // problem.groups
    return (
        problem.dtype in GRADIENTS and problem.out_dtype == problem.dtype
        and problem.pad_mode == "constant"
        and (outputs >= LEAST_OUTPUTS or channels >= LEAST_CHANNELS)
    )  # fmt: skip


def _has_gradient(problem: ConvProblem) -> bool:
    """Whether there are kernels for a gradient of images or signals."""
    if problem.spatial == 3:
        return False
    half = problem.dtype in HALF_GRADIENTS and problem.out_dtype == problem.dtype
    if not half and problem.dtype not in GRADIENTS:
        return False
    zeros = problem.pad_mode == "constant"
    if problem.result == "w":
        return zeros or not half
    return zeros and max(problem.r, problem.s) < _LARGE_KERNEL


def algorithm(problem: ConvProblem, options: Options) -> Algorithm:
    """Name the algorithm the extension's ladder takes, and its scratch memory."""
    if problem.result == "w":
        name, scratch, _ = _native.weight_grad_algorithm(_description(problem), resources(options))
        return Algorithm(name, scratch)
    if problem.result == "x":
        return _input_grad_algorithm(problem, options, False)
    if _may_be_fast(problem, options):
        way = _fast().without_values(problem, options)
        if way is not None:
            return Algorithm(*way)
    name, scratch, _ = _native.algorithm(_description(problem), resources(options), False)
    return Algorithm(name, scratch)


def _input_grad_algorithm(problem: ConvProblem, options: Options, packed: bool) -> Algorithm:
    name, scratch, _ = _native.input_grad_algorithm(
        _description(problem), resources(options), packed
    )
    return Algorithm(name, scratch)


def algorithm_for(problem: ConvProblem, options: Options, w: Any) -> Algorithm:
    """Name the algorithm for these very weights; see `fastconv.backends.algorithm_for`."""
    if problem.result != "y":
        return algorithm(problem, options)
    way = _fast().choose(problem, options, w) if _may_be_fast(problem, options) else None
    if way is None:
        name, scratch, _ = _native.algorithm(_description(problem), resources(options), False)
        return Algorithm(name, scratch)
    return Algorithm(way.name, way.scratch_bytes(problem, options))


def fields(problem: ConvProblem) -> dict[str, int]:
    """Return the fields of the extension's plain struct, in their order."""
    return {
        "n": problem.n, "c": problem.c, "h": problem.h, "w": problem.w,
        "k": problem.k, "r": problem.r, "s": problem.s, "p": problem.p, "q": problem.q,
        "groups": problem.groups,
        "stride_h": problem.stride[0], "stride_w": problem.stride[1],
        "dilation_h": problem.dilation[0], "dilation_w": problem.dilation[1],
        "pad_top": problem.pad[0][0], "pad_left": problem.pad[1][0],
        "pad_mode": PAD_MODES.index(problem.pad_mode),
        "activation": activations.code(problem.activation),
        "element": _CODES[problem.dtype],
        "channels_last": problem.channels_last,
        "d": problem.depth.size, "t": problem.depth.taps, "o": problem.depth.outputs,
        "stride_d": problem.depth.stride, "dilation_d": problem.depth.dilation,
        "pad_front": problem.depth.pad[0],
    }  # fmt: skip


@lru_cache(maxsize=4096)
def _description(problem: ConvProblem) -> Any:
    """Mirror the problem into the extension's plain struct."""
    return _native.Problem(**fields(problem), whole=_whole(problem))


def _whole(problem: ConvProblem) -> Any:
    """Mirror the sizes of the image that a block is cut from."""
    if problem.whole is None:
        return _native.Whole()
    image = problem.chosen_as
    return _native.Whole(
        h=image.h, w=image.w, p=image.p, q=image.q, pad_top=image.pad[0][0],
        pad_left=image.pad[1][0],
    )  # fmt: skip


@lru_cache(maxsize=64)
def _resources(threads: int, workspace: int, precision: str) -> Any:
    return _native.Resources(threads=threads, thread_bytes=workspace, fast=precision == "fast")


def resources(options: Options) -> Any:
    """Mirror the options into the extension's plain struct."""
    return _resources(options.threads, options.workspace, options.precision)


def run(problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any) -> None:
    """Compute `problem` into `out`; see `fastconv.backends.Backend`."""
    ready(problem, options)(x, w, bias, out)


@lru_cache(maxsize=4096)
def ready(problem: ConvProblem, options: Options) -> Ready:
    """Return what computes `problem` from (x, w, bias, out); see `fastconv.backends.ready`."""
    description, means = _description(problem), resources(options)
    conv2d, weight_grad, input_grad = _native.conv2d, _native.weight_grad, _native.input_grad

    def input_gradient(gy: Any, w: Any, bias: Any | None, out: Any) -> None:
        input_grad(description, gy, w, bias, out, means)

    def gradient(x: Any, w: Any, bias: Any | None, out: Any) -> None:
        weight_grad(description, x, w, out, means)

    def convolution(x: Any, w: Any, bias: Any | None, out: Any) -> None:
        conv2d(description, x, w, bias, out, means)

    if problem.result == "w":
        return gradient
    if problem.result == "x":
        return input_gradient
    fast = _considered_fast(problem, options)
    return partial(_run_fast, problem, options) if fast else convolution


def _considered_fast(problem: ConvProblem, options: Options) -> bool:
    """Whether some weights of the problem might get a way of `fast`."""
    return _may_be_fast(problem, options) and bool(_fast().considered(problem, options))


def is_one_call(problem: ConvProblem, options: Options) -> bool:
    """Whether the extension alone computes a problem, in one call and from any strides."""
    if problem.reduction == 0 or supports(problem, options) is not None:
        return False
    if computes(problem):
        return True
    whole = problem.result == "y" and problem.spatial != 3
    return whole and not _considered_fast(problem, options)


def _run_fast(
    problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
) -> None:
    """Compute `problem` by the way of `fast` that these weights get, if any."""
    way = _fast().choose(problem, options, w)
    if way is None:
        convolve(problem, options, x, w, bias, out)
    else:
        way.run(problem, options, x, w, bias, out)


def _may_be_fast(problem: ConvProblem, options: Options) -> bool:
    """Whether whole passes of other algorithms are considered."""
    return options.precision == "fast" and problem.spatial != 3


@cache
def _fast() -> Any:
    """Import what only fast calls need, and what needs this module."""
    return importlib.import_module(".fast", __name__)


def convolve(
    problem: ConvProblem, options: Options, x: Any, w: Any, bias: Any | None, out: Any
) -> None:
    """Compute `problem` by the extension's own ladder."""
    _native.conv2d(_description(problem), x, w, bias, out, resources(options))


def _in_accumulators(problem: DeformProblem) -> DeformProblem:
    """Return the problem of the dtype that sums are in: samples of 16 bits are widened before."""
    if problem.dtype == problem.accumulator:
        return problem
    return replace(problem, dtype=problem.accumulator, out_dtype=problem.accumulator)


def deform_algorithm(problem: DeformProblem, options: Options) -> Algorithm:
    """Name the algorithm of `deform`, and its scratch memory; see `fastconv.backends`."""
    wide = _in_accumulators(problem)
    scratch = _native.deform_scratch(_description(wide), resources(options))
    if wide is not problem:
        images = problem.n * problem.c * problem.h * problem.w
        weights = problem.k * problem.reduction
        scratch += (images + weights + problem.out_elements) * itemsize(wide.dtype)
    return Algorithm("sampled_gemm", scratch)


def deform(
    problem: DeformProblem, options: Options, x: Any, w: Any, offset: Any, mask: Any | None,
    bias: Any | None, out: Any,
) -> None:  # fmt: skip
    """Compute a deformable convolution into `out`; see `fastconv.backends`."""
    wide, target = _in_accumulators(problem), out
    if wide is not problem:
        x, w = x.astype(wide.dtype), w.astype(wide.dtype)
        bias = None if bias is None else bias.astype(wide.dtype)
        target = np.empty_like(out, wide.dtype)
    _native.deform_conv2d(
        _description(wide), x, w, offset, mask, bias, target, problem.offset_groups,
        resources(options),
    )  # fmt: skip
    if target is not out:
        with np.errstate(over="ignore", invalid="ignore"):
            out[...] = target


def requantise(
    options: Options, sums: Any, scale: Any, length: int, each: bool, limits: tuple[float, float],
    zero: int, out: Any,
) -> bool:  # fmt: skip
    """Scale sums into bytes, where both arrays are contiguous; see `fastconv.backends`."""
    if not (sums.flags.c_contiguous and out.flags.c_contiguous):
        return False
    _native.requantise(
        sums, np.ascontiguousarray(scale), each, length, *limits, zero % 256, out, options.threads
    )
    return True


def split_planes(options: Options, numbers: Any, length: int, conjugate: bool, planes: Any) -> None:
    """Write the planes of complex numbers; see `fastconv.backends`."""
    _native.split_complex(numbers, length, conjugate, planes, options.threads)


def join_planes(options: Options, planes: Any, length: int, numbers: Any) -> None:
    """Write complex numbers of three planes; see `fastconv.backends`."""
    _native.join_complex(planes, length, numbers, options.threads)


def _pixel_code(problem: ConvProblem, image: str) -> int:
    """Code of the caller's x, or of the problem's dtype where the extension has none."""
    return _CODES.get(image, _CODES[problem.dtype])


def direct(problem: ConvProblem, options: Options, flip: bool, image: str) -> Direct | None:
    """Return a function (a, b, bias, out) for arrays as the caller holds them; see `Backend`."""
    if problem.spatial == 3:
        return None
    form = _description(problem), resources(options), problem.rank, problem.spatial, flip
    function: Direct | None = None
    if problem.result != "y":
        if _has_gradient(problem):
            way = "input_grad_direct" if problem.result == "x" else "weight_grad_direct"
            function = getattr(_native, way)(*form)
    elif not _considered_fast(problem, options):
        function = _native.direct(*form, _pixel_code(problem, image))
    return function


class PackedWeights:
    """Weights in the form that the problem's algorithm reads; see `fastconv.backends.Weights`."""

    def __init__(
        self, problem: ConvProblem, options: Options, w: Any, bias: Any | None, image: str
    ) -> None:
        description = _description(problem)
        self._packed = _native.PackedConvolution(description, w, bias, resources(options))
        self.packed_bytes: int = self._packed.packed_bytes
        self.direct: Direct | None = None
        if problem.spatial != 3:
            self.direct = self._packed.direct(
                problem.rank, problem.spatial, _pixel_code(problem, image)
            )

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name the algorithm, and its scratch memory where the weights are packed."""
        name, scratch, _ = _native.algorithm(_description(problem), resources(options), True)
        return Algorithm(name, scratch)

    def run(self, problem: ConvProblem, options: Options, x: Any, out: Any) -> None:
        """Compute `problem` into `out`; n is read off x."""
        self._packed.run(x, out)


class InputGradWeights:
    """Weights of a gradient of x, phase by phase; see `fastconv.backends.Weights`."""

    def __init__(self, problem: ConvProblem, options: Options, w: Any, bias: Any | None) -> None:
        description = _description(problem)
        self._packed = _native.PackedInputGrad(description, w, bias, resources(options))
        self.packed_bytes: int = self._packed.packed_bytes
        self.direct: Direct | None = None
        if problem.spatial != 3:
            self.direct = self._packed.direct(problem.rank, problem.spatial)

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name the algorithm, and its scratch memory where the weights are packed."""
        return _input_grad_algorithm(problem, options, True)

    def run(self, problem: ConvProblem, options: Options, x: Any, out: Any) -> None:
        """Compute the gradient of x, from that of y, into `out`; n is read off it."""
        self._packed.run(x, out)


class FastWeights:
    """A way of `fast` with its form of the weights; see `fastconv.backends.Weights`."""

    direct: Direct | None = None

    def __init__(self, way: Any, w: Any, bias: Any | None) -> None:
        self._way, self._w, self._bias = way, w, bias
        self.packed_bytes: int = way.packed_bytes

    def algorithm(self, problem: ConvProblem, options: Options) -> Algorithm:
        """Name the way, and its scratch memory beside the weights it holds."""
        return Algorithm(self._way.name, self._way.scratch_bytes(problem, options))

    def run(self, problem: ConvProblem, options: Options, x: Any, out: Any) -> None:
        """Compute `problem` into `out`."""
        self._way.run(problem, options, x, self._w, self._bias, out)


def pack(
    problem: ConvProblem, options: Options, w: Any, bias: Any | None, image: str
) -> PackedWeights | InputGradWeights | FastWeights:
    """Make weights ready for many runs; see `fastconv.backends.pack`."""
    if problem.result == "x":
        return InputGradWeights(problem, options, w, bias)
    fast = _may_be_fast(problem, options)
    way = _fast().choose(problem, options, w, keep=True) if fast else None
    if way is None:
        return PackedWeights(problem, options, w, bias, image)
    return FastWeights(way, w, bias)


def measure_peak(threads: int, double_precision: bool, seconds: float) -> float:
    """GFLOP/s of a register-only multiply-add loop; see `fastconv.peak.measure_peak`."""
    return float(_native.measure_peak(threads, double_precision, seconds))
