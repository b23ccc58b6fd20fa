"""Every case of ONNX's own backend tests that is about convolutions, computed by fastconv."""

from __future__ import annotations

import contextlib
import re
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support.oracles import oracle

import fastconv

onnx = oracle("onnx")
with warnings.catch_warnings():  # cases of other operators are made at import, and overflow
    warnings.simplefilter("ignore")
    runner = oracle("onnx.backend.test.runner")
    adapter = oracle("fastconv.interop.onnx")
    RUNNER = runner.Runner(adapter.Backend)

MODULES = [oracle(f"fastconv.interop.onnx.{name}") for name in ("nodes", "served")]

CASES = {
    name: item.func
    for items in RUNNER._test_items.values()
    for name, item in items.items()
    if re.search("conv|col2im", name, re.IGNORECASE) and name.endswith("_cpu")
}


class Watched:
    """fastconv, whose every result that the adapter asks for is counted, and may be changed."""

    def __init__(self, change: Callable[[Any], Any] = lambda y: y) -> None:
        self.results, self.change = 0, change

    def __getattr__(self, name: str) -> Any:
        operator = getattr(fastconv, name)

        def planned(*args: Any, **kwargs: Any) -> Any:
            make = operator if name == "plan_conv2d" else operator.plan
            return self.watch(make(*args, **kwargs))

        if name == "plan_conv2d":
            return planned
        watched = self.watch(operator)
        watched.plan = planned  # type: ignore[attr-defined]
        return watched

    def watch(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.results += 1
            return self.change(compute(*args, **kwargs))

        return watched


@contextlib.contextmanager
def watching(monkeypatch: pytest.MonkeyPatch, watched: Watched) -> Iterator[Watched]:
    with monkeypatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "fastconv", watched)
        yield watched


def run(case: Callable[..., None]) -> None:
    """Run a case as unittest would."""
    case(unittest.TestCase())


def test_there_are_cases() -> None:
    kinds = ["basic_conv", "convtranspose", "convinteger", "qlinearconv", "deform_conv", "col2im",
             "Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d"]  # fmt: skip
    if any(operator.__name__ == "CausalConvWithState" for operator in adapter.new_ops):
        kinds.append("causal_conv_with_state")
    else:
        assert not onnx.defs.has("CausalConvWithState")
    for kind in kinds:
        assert any(kind in name for name in CASES), kind
    assert len(CASES) >= 55


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes, fastconv computed it, and it fails where fastconv's results are one too large."""
    with watching(monkeypatch, Watched()) as watched:
        run(CASES[name])
    assert watched.results > 0
    wrong = Watched(lambda y: y + np.ones((), y.dtype))
    with watching(monkeypatch, wrong), pytest.raises(AssertionError):
        run(CASES[name])
