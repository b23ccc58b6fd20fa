"""Every example in a docstring runs, and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import fastconv

OPTIONAL = ("numba", "llvmlite", "cupy", "cuda", "matplotlib", "rich", "scipy", "torch")

MODULES = [
    "fastconv",
    *(
        m.name
        for m in pkgutil.walk_packages(fastconv.__path__, "fastconv.", onerror=lambda _: None)
        if not m.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
    with np.printoptions(legacy=False):
        failed, _ = doctest.testmod(module)
    assert failed == 0, f"run python -m doctest on {name}"


@pytest.mark.parametrize(
    "name",
    ["conv2d", "conv_cost", "explain", "output_shape", "available_backends", "options",
     "plan_conv2d"],
)  # fmt: skip
def test_public_functions_have_examples(name: str) -> None:
    function = getattr(fastconv, name)
    assert doctest.DocTestFinder().find(function, name)[0].examples
    assert "Examples" in function.__doc__
