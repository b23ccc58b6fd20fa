from collections.abc import Callable
from typing import Any

_C_API: Any

class Whole:
    def __init__(
        self,
        *,
        h: int = 0,
        w: int = 0,
        p: int = 0,
        q: int = 0,
        pad_top: int = 0,
        pad_left: int = 0,
    ) -> None: ...

class Problem:
    def __init__(
        self,
        *,
        n: int,
        c: int,
        h: int,
        w: int,
        k: int,
        r: int,
        s: int,
        p: int,
        q: int,
        groups: int,
        stride_h: int,
        stride_w: int,
        dilation_h: int,
        dilation_w: int,
        pad_top: int,
        pad_left: int,
        pad_mode: int,
        activation: int,
        element: int,
        channels_last: bool,
        d: int,
        t: int,
        o: int,
        stride_d: int,
        dilation_d: int,
        pad_front: int,
        whole: Whole,
    ) -> None: ...

class Resources:
    def __init__(self, *, threads: int, thread_bytes: int, fast: bool) -> None: ...

class PackedConvolution:
    packed_bytes: int
    def __init__(self, problem: Problem, w: Any, bias: Any, resources: Resources) -> None: ...
    def run(self, x: Any, out: Any) -> None: ...
    def direct(self, rank: int, spatial: int, pixel: int) -> Callable[[Any, Any], Any] | None: ...

class PackedInputGrad:
    packed_bytes: int
    def __init__(self, problem: Problem, w: Any, bias: Any, resources: Resources) -> None: ...
    def run(self, gy: Any, out: Any) -> None: ...
    def direct(self, rank: int, spatial: int) -> Callable[[Any, Any], Any] | None: ...

def input_grad(
    problem: Problem, gy: Any, w: Any, bias: Any, out: Any, resources: Resources
) -> None: ...
def input_grad_algorithm(
    problem: Problem, resources: Resources, packed: bool
) -> tuple[str, int, int]: ...
def direct(
    problem: Problem, resources: Resources, rank: int, spatial: int, flip: bool, pixel: int
) -> Callable[[Any, Any, Any, Any], Any] | None: ...
def input_grad_direct(
    problem: Problem, resources: Resources, rank: int, spatial: int, flip: bool
) -> Callable[[Any, Any, Any, Any], Any] | None: ...
def weight_grad_direct(
    problem: Problem, resources: Resources, rank: int, spatial: int, flip: bool
) -> Callable[[Any, Any, Any, Any], Any] | None: ...
def conv2d(problem: Problem, x: Any, w: Any, bias: Any, out: Any, resources: Resources) -> None: ...
def deform_conv2d(
    problem: Problem,
    x: Any,
    w: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    out: Any,
    offset_groups: int,
    resources: Resources,
) -> None: ...
def split_complex(
    numbers: Any, length: int, conjugate: bool, planes: Any, threads: int
) -> None: ...
def join_complex(planes: Any, length: int, numbers: Any, threads: int) -> None: ...
def requantise(
    sums: Any,
    scales: Any,
    each: bool,
    length: int,
    low: float,
    high: float,
    zero: int,
    out: Any,
    threads: int,
) -> None: ...
def deform_scratch(problem: Problem, resources: Resources) -> int: ...
def algorithm(problem: Problem, resources: Resources, packed: bool) -> tuple[str, int, int]: ...
def weight_grad(problem: Problem, x: Any, gy: Any, out: Any, resources: Resources) -> None: ...
def weight_grad_algorithm(problem: Problem, resources: Resources) -> tuple[str, int, int]: ...
def isa() -> str: ...
def build_facts() -> dict[str, Any]: ...
def parallel_probe(
    tasks: int, threads: int, microseconds: int = 0, nested: bool = False
) -> dict[str, int]: ...
def measure_peak(threads: int, double_precision: bool, seconds: float) -> float: ...
def in_default_arithmetic(function: Callable[..., Any], *arguments: Any) -> Any: ...
def fail_next_allocations(count: int) -> None: ...
