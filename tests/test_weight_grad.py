"""The native gradient of w: the definition's bound, every way of reading, and the same bits."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from support import processes
from support.backends import present
from support.guard import Fence
from support.judge import MARGIN, THREADS, assert_same_bits

import fastconv
from fastconv import ConvProblem, accuracy, calls
from fastconv.backends import native, reference
from fastconv.dtypes import Promotion, as_dtype

Array = np.ndarray[Any, Any]
FLOATS = ("float32", "float64")
HALVES = ("float16", "bfloat16")


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")


@dataclass(frozen=True)
class Grad:
    """A gradient of w: the shapes of the convolution, and its options."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def problem(self) -> ConvProblem:
        """The gradient as a problem; images in NCHW whatever the layout."""
        options = {k: v for k, v in self.options.items() if k not in ("layout", "flip")}
        dtypes = Promotion(self.dtype, self.dtype, self.dtype)
        described = ConvProblem.describe(self.x, self.w, promotion=dtypes, result="w", **options)
        return replace(described, layout=self.options.get("layout", "NCHW"))

    def operands(self, values: str) -> tuple[Array, Array]:
        """x and gy, in logical order."""
        rng = np.random.default_rng(len(values) + sum(self.x))
        problem = self.problem
        shapes = self.x, (problem.n, problem.k, problem.p, problem.q)
        dtype = as_dtype(self.dtype)
        if values != "integers":
            return tuple(rng.standard_normal(s).astype(dtype) for s in shapes)
        x, gy = (rng.integers(-4, 5, s).astype(dtype) for s in shapes)
        if self.dtype in HALVES:  # few products: their sums are exact in the result
            pixels = max(1, problem.n * problem.p * problem.q)
            gy[rng.random(gy.shape) > 4 / pixels] = 0
        return x, gy


def in_layout(array: Array, layout: str) -> Array:
    """Order an image as the caller of a layout holds it, contiguous."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if layout == "NHWC" else array)


def compute(grad: Grad, x: Array, gy: Array, **options: Any) -> Array:
    """Run the operator into an `out` full of NaN between margins that must stay untouched."""
    buffer = np.empty(int(np.prod(grad.w)) + 2 * MARGIN, as_dtype(grad.dtype))
    buffer.view(np.uint8)[...] = 0xFF
    out = buffer[MARGIN:-MARGIN].reshape(grad.w)
    layout = grad.options.get("layout", "NCHW")
    fastconv.conv2d_weight_grad(
        in_layout(x, layout), grad.w, in_layout(gy, layout), out=out, backend="native",
        **grad.options, **options,
    )  # fmt: skip
    edges = np.concatenate([buffer[:MARGIN], buffer[-MARGIN:]])
    assert (edges.view(np.uint8) == 0xFF).all(), f"{grad}: wrote outside of out"
    return out


def judge(grad: Grad, **options: Any) -> None:
    """Hold a gradient against the definition: exact for integers, within its bound otherwise."""
    for values in ("integers", "normal"):
        x, gy = grad.operands(values)
        got = compute(grad, x, gy, **options)
        if grad.options.get("flip"):
            got = got[:, :, ::-1, ::-1]
        want = accuracy.expected(grad.problem, x, gy)
        verdict = accuracy.compare(want, got)
        assert verdict.ok, f"{grad}, {values}: {verdict}"
        if values == "integers":
            assert verdict.error == 0, f"{grad}: off by {verdict.error}, not exact"


def dense(c: int, k: int, h: int, w: int, r: int, s: int, **options: Any) -> Grad:
    return Grad((options.pop("n", 2), c, h, w), (k, c, r, s), options)


def depthwise(c: int, h: int, w: int, r: int, s: int, each: int = 1, **options: Any) -> Grad:
    return Grad((options.pop("n", 2), c, h, w), (c * each, 1, r, s), {"groups": c, **options})


def grouped(groups: int, c: int, k: int, h: int, w: int, r: int, s: int, **options: Any) -> Grad:
    """Groups of c channels that k outputs read."""
    x = (options.pop("n", 2), groups * c, h, w)
    return Grad(x, (groups * k, c, r, s), {"groups": groups, **options})


GRADS = [
    dense(3, 40, 30, 41, 7, 7, stride=2, pad=3),  # few channels: taps are rows
    dense(1, 3, 9, 40, 3, 3, pad=1),
    dense(3, 32, 30, 41, 3, 3, stride=2, pad=1),  # rows of the kernel are tiles, channels last
    dense(3, 35, 9, 300, 3, 3, pad=((9, 1), (2, 4))),
    dense(3, 16, 700, 5, 2, 3, pad=1, n=3),
    dense(4, 33, 5, 6, 3, 3, stride=(1, 2), pad=7, n=3),
    dense(2, 40, 6, 9, 5, 5, stride=3, pad=2, n=40),
    dense(33, 17, 13, 14, 3, 3, pad=1),  # channels are lanes, tails of all kinds
    dense(48, 33, 8, 9, 3, 3, pad=1, dilation=(1, 2)),
    dense(48, 20, 14, 14, 1, 1),
    dense(16, 96, 20, 28, 1, 1, n=1),
    dense(96, 24, 28, 20, 1, 1, n=1),
    dense(64, 32, 15, 16, 1, 1, stride=2),
    dense(20, 9, 11, 12, 2, 3, stride=(2, 3), pad=((0, 3), (2, 0))),
    dense(32, 32, 7, 7, 3, 3, pad=1, n=5),  # several images a box
    dense(5, 7, 1, 1300, 1, 5, pad=((0, 0), (2, 2))),  # several boxes a row
    dense(5, 7, 1300, 1, 4, 1),
    dense(4, 6, 5, 6, 3, 3, pad=9),  # pads beyond the image
    dense(32, 16, 5, 6, 3, 3, pad=8),
    dense(8, 8, 64, 64, 3, 3, pad=1, n=1),  # chunks; planes in the same sets of the cache
    dense(64, 14, 32, 32, 1, 1),
    dense(6, 4, 40, 1, 40, 1, pad=((39, 0), (0, 0))),
    Grad((2, 12, 9, 9), (15, 4, 3, 3), {"groups": 3, "pad": 1}),
    Grad((2, 36, 7, 7), (34, 18, 3, 3), {"groups": 2, "pad": 1}),
    dense(96, 40, 20, 24, 1, 1, n=3),  # several boxes of several panels, every pixel whole
    dense(80, 40, 13, 18, 3, 3, pad=1, n=3),
    dense(40, 33, 21, 37, 1, 1, stride=2),  # every second pixel of planes
    dense(40, 33, 9, 34, 1, 1, stride=(1, 2)),
    grouped(32, 4, 4, 14, 15, 3, 3, pad=1),  # vectors of several groups
    grouped(5, 8, 8, 9, 30, 3, 3, pad=1, stride=2, n=3),
    grouped(9, 3, 5, 12, 11, 3, 2, pad=(1, 0), dilation=(1, 2)),
    grouped(17, 2, 1, 10, 33, 1, 1, stride=2),
    grouped(6, 1, 2, 8, 9, 5, 5, pad=2),
    grouped(8, 4, 4, 70, 64, 3, 3, pad=1, n=2),  # chunks
    grouped(70, 2, 2, 5, 6, 1, 3, pad=((0, 0), (3, 1)), n=9),  # several vectors a task
    depthwise(5, 9, 11, 3, 3, pad=1),
    depthwise(32, 14, 14, 3, 3, pad=1, stride=2),
    depthwise(33, 30, 21, 5, 5, pad=2),
    depthwise(16, 12, 12, 7, 7, 2, pad=3, n=3),
    depthwise(17, 9, 8, 2, 9, 3, pad=4, dilation=(2, 1)),
    depthwise(4, 1, 2100, 1, 3, pad=1, n=1),
    depthwise(32, 70, 64, 3, 3, pad=1, n=1),  # chunks
    depthwise(20, 4, 4, 3, 3, pad=7),
    depthwise(16, 6, 6, 8, 1, pad=((4, 4), (0, 0))),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", FLOATS + HALVES)
@pytest.mark.parametrize("grad", GRADS, ids=lambda g: f"{g.x}-{g.w}".replace(" ", ""))
def test_definition(grad: Grad, dtype: str, layout: str) -> None:
    judge(replace(grad, dtype=dtype, options={**grad.options, "layout": layout}))


EVERY_ISA = """
import itertools
from dataclasses import replace
from test_weight_grad import GRADS, judge
ways = list(itertools.product(("NCHW", "NHWC"), ("float32", "float64", "float16", "bfloat16")))
for number, grad in enumerate(GRADS):
    for layout, dtype in ways[number % 3 :: 3]:  # each of them with many others, here
        judge(replace(grad, dtype=dtype, options={**grad.options, "layout": layout}))
"""


def test_every_instruction_set() -> None:
    processes.run_on_every_isa(EVERY_ISA)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_borders_that_repeat_pixels(mode: str, layout: str) -> None:
    for grad in (
        dense(3, 5, 9, 12, 3, 5, pad=((4, 2), (1, 3)), stride=(1, 2)),
        dense(33, 20, 7, 6, 3, 3, pad=3),
        depthwise(18, 7, 9, 3, 3, pad=((3, 1), (2, 5)), stride=(2, 1)),
        grouped(5, 4, 4, 7, 9, 3, 3, pad=((3, 1), (2, 5)), stride=(2, 1)),
    ):
        judge(replace(grad, options={**grad.options, "pad_mode": mode, "layout": layout}))


def random_grad(rng: random.Random) -> Grad | None:
    groups, c, k = rng.choice([1, 1, 2, 3]), rng.choice([1, 3, 5, 16, 17, 33]), rng.randint(1, 34)
    if rng.random() < 0.3:
        groups, c, k = rng.randint(2, 20), rng.choice([1, 2, 4, 7]), rng.randint(1, 9)
    kernel = rng.choice([1, 1, 2, 3, 5]), rng.choice([1, 1, 2, 3, 8])
    stride, dilation = ((rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2, 3])) for _ in range(2))
    image = rng.randint(1, 20), rng.choice([1, 5, 7, 14, 16, 23, 60])
    pad = tuple((rng.choice([0, 0, 1, 2, 9]), rng.randint(0, 3)) for _ in range(2))
    for taps, size, pads, spread in zip(kernel, image, pad, dilation, strict=True):
        if (taps - 1) * spread >= size + sum(pads):
            return None
    mode = rng.choice(["constant"] * 4 + ["edge", "reflect", "symmetric", "wrap"])
    options = {
        "stride": stride, "dilation": dilation, "pad": pad, "groups": groups, "pad_mode": mode,
        "layout": rng.choice(["NCHW", "NHWC"]), "flip": rng.random() < 0.2,
    }  # fmt: skip
    x = (rng.choice([1, 1, 2, 5]), groups * c, *image)
    grad = Grad(x, (groups * k, c, *kernel), options, rng.choice(FLOATS + HALVES))
    return grad if grad.problem.cost.macs < 1 << 21 else None


@pytest.mark.parametrize("seed", range(8))
def test_random_problems(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        grad = random_grad(rng)
        if grad is not None:
            judge(grad, threads=rng.choice(THREADS))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_same_bits_for_any_number_of_threads(layout: str) -> None:
    for grad in (
        dense(64, 64, 28, 28, 1, 1, n=4),
        dense(40, 50, 30, 30, 3, 3, pad=1),
        dense(3, 64, 64, 64, 7, 7, stride=2, pad=3, n=3),
        depthwise(24, 56, 56, 3, 3, pad=1, n=4),
        grouped(16, 4, 4, 56, 56, 3, 3, pad=1, n=2),
        replace(dense(64, 64, 28, 28, 1, 1, n=4), dtype="bfloat16"),
        replace(grouped(16, 4, 4, 56, 56, 3, 3, pad=1, n=2), dtype="float16"),
    ):
        grad = replace(grad, options={**grad.options, "layout": layout})
        x, gy = grad.operands("normal")
        want = compute(grad, x, gy, threads=1)
        for threads in THREADS:
            got = compute(grad, x, gy, threads=threads)
            assert_same_bits(got, want, f"{grad}, {threads} threads")
        with fastconv.options(workspace=1 << 16):
            assert_same_bits(compute(grad, x, gy, threads=2), want, f"{grad}, a small workspace")


def test_same_bits_wherever_operands_lie() -> None:
    """Views with gaps and negative strides, and a result that is one."""
    for grad in (
        dense(32, 48, 17, 18, 3, 3),
        dense(48, 32, 17, 18, 1, 1),
        depthwise(32, 17, 18, 3, 3),
        grouped(8, 4, 4, 17, 18, 3, 3),
        replace(dense(48, 32, 17, 18, 3, 3, pad=1), dtype="float16"),
        replace(dense(3, 32, 17, 18, 3, 3, pad=1), dtype="bfloat16"),
    ):
        x, gy = grad.operands("normal")
        want = compute(grad, x, gy)
        options = {**grad.options, "backend": "native"}
        for axis, step in itertools.product(range(4), (-1, 2)):
            strided = []
            for array in (x, gy):
                shape = list(array.shape)
                shape[axis] *= abs(step)
                room = np.full(shape, np.nan, array.dtype)
                view = np.moveaxis(np.moveaxis(room, axis, 0)[::step], 0, axis)
                view[...] = array
                strided.append(view)
            room = np.full((2 * grad.w[0], *grad.w[1:]), np.nan, want.dtype)
            out = room[::-2]
            fastconv.conv2d_weight_grad(strided[0], grad.w, strided[1], out=out, **options)
            assert_same_bits(np.ascontiguousarray(out), want, f"{grad}, axis {axis} by {step}")
            assert np.isnan(room[::2]).all()


def test_operands_that_overlap() -> None:
    """Channels and pixels that are both neighbours in memory, and ones that repeat."""
    for dtype, steps in itertools.product(FLOATS + HALVES, ((1, 1), (0, 1), (1, 0), (0, 0))):
        grad = dense(40, 48, 6, 7, 1, 1, n=2, layout="NHWC")
        grad = replace(grad, dtype=dtype)
        x, gy = grad.operands("integers")
        for which, operand in enumerate((x, gy)):
            size = operand.itemsize
            values = np.ascontiguousarray(operand).reshape(-1)
            shape = operand.transpose(0, 2, 3, 1).shape
            strides = (97 * size, 11 * size, steps[0] * size, steps[1] * size)
            view = np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
            held = [in_layout(x, "NHWC"), in_layout(gy, "NHWC")]
            held[which] = view.copy()
            options: dict[str, Any] = {"layout": "NHWC", "backend": "native"}
            want = fastconv.conv2d_weight_grad(held[0], grad.w, held[1], **options)
            held[which] = view
            got = fastconv.conv2d_weight_grad(held[0], grad.w, held[1], **options)
            assert_same_bits(got, want, f"{dtype}, {steps}, operand {which}")


def test_special_values() -> None:
    """NaN and infinities where the sum of all products puts them, border zeros among them."""
    for base, layout in itertools.product(
        (
            dense(5, 6, 9, 10, 3, 3, pad=1),
            dense(32, 32, 9, 10, 3, 3, pad=1),
            depthwise(18, 9, 10, 3, 3, pad=1),
            depthwise(16, 9, 10, 3, 3, pad=1, stride=2),
            grouped(5, 4, 4, 9, 10, 3, 3, pad=1),
        ),
        ("NCHW", "NHWC"),
    ):
        grad = replace(base, options={**base.options, "layout": layout})
        problem = grad.problem
        places = [(0, 0), (0, 3), (2, 2), (-1, -1), (2, -1)]
        for (row, col), value, which in itertools.product(places, (np.inf, np.nan), (0, 1)):
            operands = grad.operands("normal")
            operands[which][-1, 1, row, col] = value
            want = np.empty(grad.w, np.float32)
            reference.run(problem, None, *operands, None, want)  # type: ignore[arg-type]
            got = compute(grad, *operands)
            for mask in (np.isnan, np.isposinf, np.isneginf):
                assert np.array_equal(mask(got), mask(want)), (grad, row, col, value, which)


def test_nothing_is_summed_without_images() -> None:
    for grad in (dense(3, 4, 5, 6, 3, 3, n=0), depthwise(8, 5, 6, 3, 3, n=0)):
        assert not compute(grad, *grad.operands("normal")).any()


def test_names_and_scratch() -> None:
    for grad, name in (
        (dense(256, 256, 56, 56, 3, 3, pad=1, n=8), "weight_grad_gemm"),
        (dense(64, 64, 1, 100_000, 1, 3, n=1), "weight_grad_gemm"),
        (depthwise(64, 112, 112, 3, 3, pad=1, n=8), "weight_grad_depthwise"),
        (grouped(32, 4, 4, 56, 56, 3, 3, pad=1, n=8), "weight_grad_grouped"),
    ):
        for layout in ("NCHW", "NHWC"):
            options = {**grad.options, "layout": layout}
            n, c, h, w = grad.x
            shape = (n, h, w, c) if layout == "NHWC" else grad.x
            problem = grad.problem
            y = (problem.n, problem.k, problem.p, problem.q)
            y = (y[0], y[2], y[3], y[1]) if layout == "NHWC" else y
            explained = fastconv.conv2d_weight_grad.explain(
                shape, grad.w, y, threads=2, backend="native", **options
            )
            assert explained.algorithm == name
            # chunks hold at most 1 MiB, and each thread its share
            assert explained.scratch_bytes < (2 * 3 + 2) << 20


GUARDED = """
from support.guard import Fence
from test_weight_grad import fenced
print(fenced(Fence(16)))
"""


def fenced(fence: Fence) -> int:
    """Gradients whose operands, one after the other, end at a page that may not be touched."""
    calls = 0
    for c, k, (h, w), r, pad, layout, dtype in itertools.product(
        (1, 5, 16, 19), (1, 3, 16, 21), ((3, 5), (6, 7), (1, 17)), (1, 3), (0, 1),
        ("NCHW", "NHWC"), FLOATS + HALVES[:1],
    ):  # fmt: skip
        if r > min(h, w) + 2 * pad:
            continue
        for groups in {1, c, 4 if c % 4 == 0 and k < 9 else 1}:
            shape = (k * groups, c // groups, r, r)
            grad = Grad((1, c, h, w), shape, {"pad": pad, "groups": groups}, dtype)
            x, gy = (in_layout(a, layout) for a in grad.operands("integers"))
            out = np.empty(shape, as_dtype(dtype))
            for which, side in itertools.product(range(3), ("before", "after")):
                held = [x, gy, out]
                if held[which].nbytes > 16 * 4096:
                    continue
                held[which] = fence.hold(held[which], side)
                fastconv.conv2d_weight_grad(
                    held[0], shape, held[1], pad=pad, groups=groups, layout=layout, out=held[2],
                    backend="native",
                )  # fmt: skip
                calls += 1
    return calls


def test_nothing_outside_of_arrays_is_touched() -> None:
    assert int(processes.run(GUARDED)) > 2000


def test_refused_scratch() -> None:
    from fastconv import _native

    grad = dense(40, 50, 30, 30, 3, 3, pad=1)
    x, gy = grad.operands("normal")
    want = compute(grad, x, gy)
    _native.fail_next_allocations(1)
    try:
        with pytest.raises(MemoryError):
            compute(grad, x, gy)
    finally:
        _native.fail_next_allocations(0)
    assert_same_bits(compute(grad, x, gy), want, "after a refusal")


def test_planted_bugs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge of this file, held against results that are wrong in one respect."""
    grad = dense(33, 17, 13, 14, 3, 3, pad=1)
    prepare = native.ready

    def right(problem: Any, options: Any, *arrays: Any) -> None:
        prepare(problem, options)(*arrays)

    def plant(spoil: Any) -> None:
        monkeypatch.setattr(native, "ready", partial(partial, spoil, right))
        monkeypatch.setattr(native, "direct", lambda *_: None)
        calls.forget()
        with pytest.raises(AssertionError):
            judge(grad)
        calls.forget()

    def drops_an_image(run: Any, problem: Any, options: Any, x: Any, gy: Any, *rest: Any) -> None:
        run(replace(problem, n=1), options, x[:1], gy[:1], *rest)

    def drops_a_pixel(run: Any, problem: Any, options: Any, x: Any, gy: Any, *rest: Any) -> None:
        gy = gy.copy()
        gy[0, 0, -1, -1] = 0
        run(problem, options, x, gy, *rest)

    def skips_a_tail(run: Any, problem: Any, options: Any, x: Any, gy: Any, *rest: Any) -> None:
        kept = rest[-1][-1, -1].copy()
        run(problem, options, x, gy, *rest)
        rest[-1][-1, -1] = kept

    def swaps_taps(run: Any, problem: Any, options: Any, x: Any, gy: Any, *rest: Any) -> None:
        run(problem, options, x, gy, *rest)
        rest[-1][...] = rest[-1].swapaxes(2, 3).copy()

    for spoil in (drops_an_image, drops_a_pixel, skips_a_tail, swaps_taps):
        plant(spoil)
    monkeypatch.setattr(native, "ready", prepare)
    judge(grad)
    monkeypatch.undo()
    calls.forget()
