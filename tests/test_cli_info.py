"""``python -m fastconv info``: what a bug report needs."""

from __future__ import annotations

import json

import fastconv
from fastconv import dispatch
from fastconv.cli import main


def test_info_prints_what_a_bug_report_needs(monkeypatch, capsys):
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    monkeypatch.setenv("FASTCONV_UNHEARD_OF", "1")
    monkeypatch.setenv("NUMBA_DEBUG_CACHE", "0")
    monkeypatch.setenv("AN_UNRELATED_SECRET", "hidden-value")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for heading in ("fastconv: ", "numpy: ", "native:", "cpu:", "compiler:", "cuda driver:"):
        assert f"\n{heading}" in f"\n{out}"
    for variable in ("OMP_PROC_BIND: close", "FASTCONV_UNHEARD_OF: 1", "NUMBA_DEBUG_CACHE: 0"):
        assert f"  {variable}\n" in out
    assert "hidden-value" not in out
    for entry in dispatch.TABLE:
        assert f"  {entry.name}: " in out


def test_info_as_json(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    shown = fastconv.show_config(mode="dict")
    assert {name: facts[name] for name in shown} == json.loads(json.dumps(shown))
    assert facts["cpu"]["model"]
    assert facts["cpu"]["affinity"] >= 1
    assert isinstance(facts["thread pools"], list)


def test_info_reports_an_unusable_environment(fresh_environment, capsys):
    fresh_environment.setenv("FASTCONV_PRECISION", "sloppy")
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "sloppy" in facts["options"]["unusable"]
    assert facts["environment"]["FASTCONV_PRECISION"] == "sloppy"
