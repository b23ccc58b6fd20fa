"""Options: argument, context, environment, default, in this order; each in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import processes
from support.example import W, X

import fastconv
from fastconv.options import current


def test_options_nest_and_come_back() -> None:
    before = current()
    with fastconv.options(backend="reference", threads=2) as outer:
        assert (outer.backend, outer.threads) == ("reference", 2)
        with fastconv.options(threads=5, workspace=1 << 20):
            assert (current().backend, current().threads) == ("reference", 5)
            assert current().workspace == 1 << 20
        assert current() == outer
        with contextlib.suppress(RuntimeError), fastconv.options(precision="fast"):
            assert current().precision == "fast"
            raise RuntimeError("inside")
        assert current() == outer
    assert current() == before


def test_an_argument_beats_the_context() -> None:
    with fastconv.options(backend="reference", threads=3):
        report = fastconv.explain(X, W, threads=2)
        assert (report.backend, report.threads) == ("reference", 2)
        assert fastconv.explain(X, W).threads == 3


def test_options_belong_to_their_thread() -> None:
    seen = {}
    with fastconv.options(threads=7):

        def look() -> None:
            seen["threads"] = current().threads

        other = threading.Thread(target=look)
        other.start()
        other.join()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: current().threads).result() == current().threads
    assert seen["threads"] == current().threads != 7


def test_options_belong_to_their_task() -> None:
    async def task(threads: int, turns: list[int]) -> None:
        with fastconv.options(threads=threads):
            for _ in range(5):
                await asyncio.sleep(0)
                turns.append(threads)
                assert current().threads == threads

    async def both() -> list[int]:
        turns: list[int] = []
        await asyncio.gather(task(3, turns), task(11, turns))
        return turns

    turns = asyncio.run(both())
    assert turns[:2] in ([3, 11], [11, 3]), "the tasks did not interleave"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"threads": 0}, ValueError),
        ({"threads": -1}, ValueError),
        ({"threads": 1.5}, TypeError),
        ({"threads": "2"}, TypeError),
        ({"precision": "exact"}, ValueError),
        ({"precision": 1}, TypeError),
        ({"backend": "torch"}, ImportError),
        ({"backend": ""}, ImportError),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        fastconv.conv2d(X, W, **given)
    with pytest.raises(error), fastconv.options(**given):
        pass


def test_options_know_their_names() -> None:
    with pytest.raises(TypeError):
        fastconv.options(thread=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="workspace"), fastconv.options(workspace=10):
        pass


ENVIRONMENT = """
import fastconv, numpy as np
from fastconv.options import current
o = current()
print(o.backend, o.precision, o.threads, o.workspace)
print(fastconv.explain((1, 1, 4, 4), (1, 1, 2, 2)).backend)
with fastconv.options(backend="reference", threads=1):
    print(current().backend, current().threads)
"""


def test_the_environment_sets_defaults() -> None:
    printed = processes.run(
        ENVIRONMENT,
        environment={
            "FASTCONV_BACKEND": "reference", "FASTCONV_PRECISION": "fast",
            "FASTCONV_THREADS": "3", "FASTCONV_WORKSPACE": "1000000", "OMP_NUM_THREADS": "9",
        },
    )  # fmt: skip
    assert printed.split() == ["reference", "fast", "3", "1000000", "reference", "reference", "1"]


def test_omp_num_threads_is_respected() -> None:
    printed = processes.run(
        "from fastconv.options import current; print(current().threads)",
        environment={"OMP_NUM_THREADS": "5,2"},
    )
    assert printed.strip() == "5"


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("FASTCONV_THREADS", "many", "FASTCONV_THREADS='many'"),
        ("FASTCONV_THREADS", "-1", "threads must be at least 1"),
        ("FASTCONV_BACKEND", "torch", "there is no backend 'torch'"),
        ("FASTCONV_PRECISION", "exact", "unknown precision 'exact'"),
        ("FASTCONV_WORKSPACE", "12", "workspace must be at least"),
    ],
)
def test_an_environment_that_makes_no_sense(variable: str, value: str, error: str) -> None:
    done = processes.start("import fastconv; fastconv.conv2d([[1.]], [[1.]])",
                           environment={variable: value})  # fmt: skip
    assert done.returncode == 1
    assert error in done.stderr.splitlines()[-1]
