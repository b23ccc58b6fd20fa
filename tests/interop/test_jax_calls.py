"""How JAX comes to fastconv: by which way, with which options, from which threads, and what not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support import jax_calls, processes
from support.jax_calls import Case, assert_close, draw, jax, run

import fastconv
from fastconv.interop.jax import calls_by, conv_general_dilated, ways

jnp = jax.numpy

CASE = Case((2, 3, 8, 9), (4, 3, 3, 3), (1, 1), "SAME")


def gradient(x: Any, w: Any, gy: Any) -> Any:
    return jax.vjp(CASE.ours(), x, w)[1](gy)


def test_show_config_tells_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ways.VARIABLE, raising=False)
    assert fastconv.show_config("dict")["jax"] == calls_by()
    monkeypatch.setenv(ways.VARIABLE, "callback")
    assert fastconv.show_config("dict")["jax"] == calls_by() == "callback"


def test_show_config_imports_no_jax() -> None:
    printed = processes.run(
        "import sys, fastconv; fastconv.show_config(); assert 'jax' not in sys.modules"
    )
    assert "jax: " in printed


def test_a_way_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ways.VARIABLE, "socket")
    with pytest.raises(ValueError, match="socket"):
        conv_general_dilated(*draw(CASE, "float32", "integers"), (1, 1), "SAME")


def test_the_way_that_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_registered", lambda: "No module named 'fastconv._jax_ffi'")
    monkeypatch.delenv(ways.VARIABLE, raising=False)
    assert calls_by() == "callback"
    monkeypatch.setenv(ways.VARIABLE, "ffi")
    with pytest.raises(fastconv.BackendUnavailable, match="FASTCONV_BUILD_JAX"):
        calls_by()


def test_a_target_newer_than_the_installed_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not registered: XLA would refuse it, and with it the whole CPU."""
    jax_calls.take("ffi", monkeypatch)
    monkeypatch.setattr(ways, "_installed_api", lambda *names: (0, 0))
    reason = ways._registered.__wrapped__()
    assert reason is not None
    assert "(0, 0)" in reason


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_ffi_computes_all_three_results_without_python(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jax_calls.take("ffi", monkeypatch)
    monkeypatch.setattr(ways, "compute", None)
    x, w = draw(CASE, dtype, "integers")
    gy = CASE.theirs()(x, w)
    text = jax.jit(gradient).lower(x, w, gy).as_text()
    assert text.count(f"@{ways.TARGET}") == 2
    assert "callback" not in text
    run(gradient, x, w, gy, by="ffi")
    run(CASE.ours(), x, w, by="ffi")


def test_callbacks_reach_fastconv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: what tells ours from JAX's; and a wrong result is seen."""
    jax_calls.take("callback", monkeypatch)
    computed = []

    def counting(conv: Any, result: Any, *arguments: Any) -> Any:
        computed.append(result)
        return ways_compute(conv, result, *arguments) + 1

    ways_compute = ways.compute
    monkeypatch.setattr(ways, "compute", counting)
    x, w = draw(CASE, "float32", "integers")
    gy = CASE.theirs()(x, w)
    fresh = jax.jit(lambda x, w, gy: gradient(x, w, gy))  # not what was compiled before
    got = jax.block_until_ready(fresh(x, w, gy))
    assert sorted(computed) == ["w", "x"]
    with pytest.raises(AssertionError):
        assert_close(got[0], jax.vjp(CASE.theirs(), x, w)[1](gy)[0])


@pytest.mark.parametrize("way", ["ffi", "callback"])
def test_options_are_those_where_a_function_is_traced(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jax_calls.take(way, monkeypatch)
    x, w = draw(CASE, "float32", "integers")
    with fastconv.options(backend="reference", threads=1):
        got = run(CASE.ours(), x, w, by="callback")  # the extension is not asked
    assert_close(got, CASE.theirs()(x, w))
    with fastconv.options(precision="fast"):
        got = run(CASE.ours(), x, w)
    np.testing.assert_allclose(got, CASE.theirs()(x, w), atol=1e-3)
    with (
        fastconv.options(backend="cuda"),
        pytest.raises((fastconv.BackendUnavailable, fastconv.BackendUnsupported), match="cuda"),
    ):
        run(CASE.ours(), x, w)


def test_other_backends_of_fastconv(backend: str) -> None:
    case = Case((2, 4, 6, 7), (6, 2, 3, 2), (1, 2), ((1, -1), (0, 3)), (1, 1), (2, 1), None, 1, 2)
    transposed = case._replace(strides=(1, 1), lhs_dilation=(3, 2))
    for each in (case, transposed):
        x, w = draw(each, "float32", "integers")
        with fastconv.options(backend=backend):
            y, pull = jax.vjp(each.ours(), x, w)
            got = (y, *pull(y % 3))
        y, pull = jax.vjp(each.theirs(), x, w)
        for one, other in zip(got, (y, *pull(y % 3)), strict=True):
            assert_close(one, other, what=f"{each} {backend}")


def test_threads_call_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("callback", "ffi"):
        jax_calls.take(way, monkeypatch)
        x, w = draw(Case((2, 8, 40, 40), (16, 8, 3, 3), (1, 1), "SAME"), "float32", "normal")
        conv = jax.jit(lambda x, w: conv_general_dilated(x, w, (1, 1), "SAME"))
        want = np.asarray(conv(x, w))
        with ThreadPoolExecutor(8) as pool:
            for got in pool.map(lambda _: np.asarray(conv(x, w)), range(64)):  # noqa: B023
                np.testing.assert_array_equal(got, want)


ONE_PROCESSOR = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import faulthandler, jax, jax.numpy as jnp
faulthandler.dump_traceback_later(120, exit=True)
from fastconv.interop.jax import calls_by, conv_general_dilated
assert calls_by() == "callback"

@jax.jit
def chain(x, w):
    for _ in range(3):
        x = conv_general_dilated(x * 2, w, (1, 1), "SAME") + 1
    return x

w = jnp.ones((1, 1, 3, 3)) / 20
for size in (10, 1000):
    x = jnp.ones((1, 1, size, size))
    jax.block_until_ready([chain(x + i, w) for i in range(6)])
print("done")
"""


def test_callbacks_do_not_wait_for_threads_that_wait_for_them() -> None:
    """With one processor jax.pure_callback waits for ever: its operands are arrays of JAX's."""
    printed = processes.run(ONE_PROCESSOR, environment={ways.VARIABLE: "callback"})
    assert printed.strip() == "done"


SUBNORMALS = """
import jax, numpy as np, fastconv
from fastconv.interop.jax import conv_general_dilated
x, w = np.full((1, 8, 128, 128), 1e-40, "f4"), np.ones((8, 8, 1, 1), "f4")
with fastconv.options(threads=2):  # workers are made by one of XLA's threads, which flush
    for _ in range(5):
        conv = jax.jit(lambda x, w: conv_general_dilated(x, w, (1, 1), "VALID"))
        print(*np.unique(conv(x, w)))
for _ in range(20):
    print(*np.unique(fastconv.conv2d(x, w, threads=2, backend="native")))
"""


@pytest.mark.parametrize("way", ["ffi", "callback"])
def test_subnormals_are_not_flushed(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither inside of XLA nor, afterwards, by workers that its threads have made."""
    jax_calls.take(way, monkeypatch)
    printed = processes.run(SUBNORMALS, environment={ways.VARIABLE: way})
    assert set(printed.split()) == {str(np.float32(8) * np.float32(1e-40))}


def test_other_platforms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = draw(CASE, "float32", "integers")
    traced = jax.jit(CASE.ours()).trace(x, w)
    with pytest.raises(NotImplementedError, match=r"cuda.*jax\.lax"):
        traced.lower(lowering_platforms=("cuda",))


def test_arrays_that_are_not_those_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of a call reach into memory: what does not fit is refused, not read."""
    jax_calls.take("ffi", monkeypatch)
    x, w = draw(CASE, "float32", "integers")
    conv = ways_of(x, w)
    small = jax.ShapeDtypeStruct((2, 4, 8, 8), "float32")
    right = jax.ShapeDtypeStruct((2, 4, 8, 9), "float32")
    assert_close(target(right, conv)(x, w), CASE.theirs()(x, w))
    for shape, a, b in ((small, x, w), (right, x[:, :, :7], w), (right, x, w[:3])):
        with pytest.raises(Exception, match="arrays are not those of the call"):
            jax.block_until_ready(target(shape, conv)(a, b))
    with pytest.raises(Exception, match="not a call of this version"):
        jax.block_until_ready(target(right, conv[:-1])(x, w))


X_STRIDE, W_STRIDE, OFFSETS = 28, 33, 46  # among the numbers


@pytest.mark.parametrize(
    ("place", "number", "message"),
    [
        (0, 5, "result is 5"), (1, 9, "spatial is 9"), (2, 8, "dtype is 8"), (5, 9, "tion is 9"),
        (6, 3, "not those of the call"), (7, 6, "not those of the call"),  # n, c
        (2, 1, "not those of the call"),  # float64
        *((at, step, "not those of the call") for at in (X_STRIDE, W_STRIDE)
          for step in (-(2**63), -1, 2**20)),
        (X_STRIDE, 2**61, "below"), (X_STRIDE + 3, 2**59, "address space"),
        *((OFFSETS + array, offset, "not those of the call") for array in range(3)
          for offset in (-1, 1, 2**62, -(2**63))),
    ],
)  # fmt: skip
def test_numbers_that_reach_beyond_the_arrays(
    place: int, number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jax_calls.take("ffi", monkeypatch)
    x, w = draw(CASE, "float32", "integers")
    numbers = ways_of(x, w)
    assert number != numbers[place]
    numbers[place] = number
    right = jax.ShapeDtypeStruct((2, 4, 8, 9), "float32")
    with pytest.raises(Exception, match=message):
        jax.block_until_ready(target(right, numbers)(x, w))


def ways_of(x: Any, w: Any) -> list[int]:
    """The numbers that describe CASE."""
    seen: list[list[int]] = []
    numbers = ways.foreign.numbers

    def keeping(*arguments: Any) -> list[int]:
        seen.append(numbers(*arguments))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways.foreign, "numbers", keeping)
        jax.jit(CASE.ours()).lower(x, w)
    return seen[0]


def target(result: Any, numbers: list[int]) -> Any:
    """The bare target of jax.ffi, as a compiled function."""
    call = jax.ffi.ffi_call(ways.TARGET, result)
    return jax.jit(lambda a, b: call(a, b, numbers=np.array(numbers, np.int64)))


def test_several_devices() -> None:
    """Of a mesh each device computes its own, and gradients of what they share are added up."""
    processes.run(SEVERAL_DEVICES, environment={"XLA_FLAGS": DEVICES, ways.VARIABLE: "callback"})
    processes.run(SEVERAL_DEVICES, environment={"XLA_FLAGS": DEVICES})


DEVICES = "--xla_force_host_platform_device_count=2"
SEVERAL_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from fastconv.interop.jax import conv_general_dilated
assert len(jax.devices()) == 2
x = jnp.arange(4 * 2 * 6.0).reshape(4, 2, 6)
w = jnp.arange(3 * 2 * 3.0).reshape(3, 2, 3)
conv = lambda x, w: conv_general_dilated(x, w, (1,), "SAME")
want = jax.lax.conv_general_dilated(x, w, (1,), "SAME")
mesh = Mesh(np.array(jax.devices()), ("n",))
sharded = jax.device_put(x, NamedSharding(mesh, P("n")))
np.testing.assert_array_equal(jax.jit(conv)(sharded, w), want)
theirs = lambda x, w: jax.lax.conv_general_dilated(x, w, (1,), "SAME")
for check in (True, False):
    each, other = (
        jax.shard_map(f, mesh=mesh, in_specs=(P("n"), P()), out_specs=P("n"), check_vma=check)
        for f in (conv, theirs)
    )
    np.testing.assert_array_equal(jax.jit(each)(x, w), want)
    ours, lax = (jax.grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1))(x, w) for f in (each, other))
    for one, two in zip(ours, lax):  # that of w is a sum over devices
        np.testing.assert_array_equal(one, two)
mapped = jax.pmap(conv, in_axes=(0, None))
np.testing.assert_array_equal(mapped(x.reshape(2, 2, 2, 6), w).reshape(want.shape), want)
"""
