"""``doctor --weights``: subnormal, infinite and NaN weights, and files that hold none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.machines import HEALTHY

from fastconv.cli import doctor, findings, main, weights
from fastconv.cli.errors import CommandError
from fastconv.cli.findings import NOTE, PROBLEM


def finding(array: np.ndarray) -> findings.Finding | None:
    found = list(weights.examine("w", array))
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("count", "level"), [(0, None), (1, NOTE), (4, PROBLEM), (4000, PROBLEM)])
def test_subnormal_weights(dtype, count, level):
    w = np.ones(4000, dtype).reshape(40, 4, 5, 5)
    w.reshape(-1)[:count] = -np.finfo(dtype).tiny / 2
    found = finding(w)
    assert (None if found is None else found.level) == level
    if found is not None:
        assert f"{count} of 4000" in found.what
        assert "w[numpy.abs(w) < numpy.finfo(w.dtype).tiny] = 0" in found.fix
        w[np.abs(w) < np.finfo(w.dtype).tiny] = 0  # what the fix says
        assert finding(w) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights(value):
    w = np.ones((4, 3, 3, 3), np.float16)
    w[1, 2, 0, 1] = value
    found = finding(w)
    assert found is not None
    assert found.level == PROBLEM
    assert f"{int(np.isnan(value))} NaN and {int(np.isinf(value))} infinite" in found.what


def test_harmless_weights():
    assert finding(np.full(9, 1e-7, np.float16)) is None  # subnormal in float16 alone
    assert finding(np.arange(9, dtype=np.int8)) is None
    assert finding(np.zeros((0, 3, 3, 3), np.float32)) is None
    smallest = np.full(9, np.finfo(np.float32).tiny)
    assert finding(smallest) is None
    assert finding(np.ones(3, np.complex64)).level == PROBLEM


def test_weights_in_chunks(monkeypatch):
    monkeypatch.setattr(weights, "CHUNK", 7)
    w = np.ones(100, np.float32)
    w[[0, 6, 7, 99]] = 1e-40
    assert "4 of 100" in finding(w).what


def test_weight_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_all", lambda starting: {})
    monkeypatch.setattr(doctor, "gather", lambda results: HEALTHY)
    heavy = np.full((2, 3, 3, 3), 1e-40, np.float32)
    np.save(tmp_path / "heavy.npy", heavy)
    np.savez(tmp_path / "net.npz", first=np.ones(4, np.float32), second=heavy)
    np.save(tmp_path / "good.npy", np.ones(4))
    with (tmp_path / "objects.npy").open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
        np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "text.npy").write_text("no array")
    assert main(["doctor", "--weights", str(tmp_path / "heavy.npy")]) == 1
    assert "subnormal" in capsys.readouterr().out
    assert main(["doctor", "--json", "--weights", str(tmp_path / "net.npz")]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [f["topic"] for f in report["findings"]] == ["weights"]
    assert "net.npz[second]" in report["findings"][0]["what"]
    assert main(["doctor", "--weights", str(tmp_path / "good.npy")]) == 0
    assert "no subnormal" in capsys.readouterr().out
    for name in ("objects.npy", "text.npy"):
        with pytest.raises(CommandError, match=name):
            weights.examine_file(tmp_path / name)
