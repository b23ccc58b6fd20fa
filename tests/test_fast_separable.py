"""precision="fast": kernels that are outer products."""

from __future__ import annotations

import numpy as np
import pytest
from support.backends import FLOATS, present
from support.cases import Case, draw, generator
from support.fast import FAMILIES, SEPARABLE, fast, judge, outer

from fastconv import calls
from fastconv.backends.native import separable


@pytest.fixture(autouse=True)
def _native() -> None:
    present("native")
    calls.forget()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", SEPARABLE, ids=str)
def test_separable_kernels(small: None, case: Case, dtype: str) -> None:
    case = case.with_(dtype=dtype)
    for family in FAMILIES:
        arrays = outer(case, draw(case, family))
        got = fast(case, arrays, "separable")
        assert judge(case, arrays, got, "separable") > 0 or family == "subnormal"


@pytest.mark.parametrize("dtype", FLOATS)
def test_rounded_outer_products_are_recognised(dtype: str) -> None:
    for seed in range(200):
        rng = generator("outer", seed)
        k, r, s = rng.integers(1, 4), rng.integers(2, 32), rng.integers(2, 32)
        wide = np.longdouble
        u, v = (rng.standard_normal((k, n)).astype(dtype).astype(wide) for n in (r, s))
        if seed % 3 == 0:  # magnitudes over many orders
            u *= np.exp2(rng.integers(-20, 20, u.shape)).astype(wide)
            v *= np.exp2(rng.integers(-20, 20, v.shape)).astype(wide)
        w = (u[:, None, :, None] * v[:, None, None, :]).astype(dtype)
        factors = separable.factor(w)
        assert factors is not None, f"seed {seed}"
        again = factors.column.astype(wide) * factors.row.astype(wide)
        limit = 2 * np.finfo(dtype).eps * np.abs(w).max(axis=(1, 2, 3), keepdims=True)
        assert (np.abs(again - w) <= limit).all(), f"seed {seed}"
        assert np.abs(factors.column).max() <= 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_no_outer_product_is_refused(dtype: str) -> None:
    """One element off by more than roundings, in any place, or a kernel that is not finite."""
    eps = np.finfo(dtype).eps
    u, v = np.array([1.0, 2, 3, 4, 1]), np.array([1.0, -1, 2, 1])
    w = np.multiply.outer(u, v)[None, None].astype(dtype)
    assert separable.factor(w) is not None
    for index in np.ndindex(w.shape):
        off = w.copy()
        off[index] += 8 * eps * np.abs(w).max()
        assert separable.factor(off) is None, index
        assert separable.factor(np.concatenate([w, off])) is None, "the second kernel"
        off[index] = np.nan
        assert separable.factor(off) is None
        off[index] = np.inf
        assert separable.factor(off) is None
    assert separable.factor(np.zeros((1, 1, 3, 3), dtype)) is not None
    assert separable.factor(np.eye(3, dtype=dtype)[None, None]) is None
    huge = np.full((1, 1, 3, 3), np.finfo(dtype).max, dtype)
    factors = separable.factor(huge)
    assert factors is None or np.isfinite(factors.row).all()
    tiny = np.full((1, 1, 3, 3), np.finfo(dtype).smallest_subnormal, dtype)
    assert separable.factor(tiny) is not None


def test_zero_kernels(small: None) -> None:
    case = Case((1, 2, 20, 20), (2, 1, 5, 5), groups=2, pad=2)
    arrays = draw(case, "normal")
    arrays.w[...] = 0
    assert not fast(case, arrays, "separable").any()
