"""A plugin for pytest that runs SciPy's own tests on fastconv: ``-p support.scipy_patch``.

The patch is in force before SciPy's tests are imported, so that the names they import are ours.
What it counted goes to the file that FASTCONV_TEST_CALLS names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy._lib import _array_api

import fastconv.interop.scipy
from fastconv.interop.scipy.drop_in import STANDS_FOR

_patch = fastconv.interop.scipy.patch()
_calls = _patch.__enter__()
# SciPy's tests ask a table, by function, which kinds of arrays it takes.
_table = getattr(_array_api, "xp_capabilities_table", {})
for _own, _ours in STANDS_FOR.items():
    if _own in _table:
        _table[_ours] = _table[_own]

if os.environ.get("FASTCONV_TEST_PLANT"):
    # a wrong sum, for the test of the proof
    _run = fastconv.calls.Call.compute

    def _wrong(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        result = _run(self, *args, **kwargs)
        result.reshape(-1)[-1:] += np.asarray(1, result.dtype)
        return result

    fastconv.calls.Call.compute = _wrong  # type: ignore[method-assign]
    fastconv.calls.direct = lambda *_: None  # type: ignore[assignment]


def pytest_sessionfinish(session: pytest.Session) -> None:
    _patch.__exit__(None, None, None)
    counts = {
        "computed": dict(_calls.computed),
        "handed": [[name, why, n] for (name, why), n in _calls.handed.items()],
        "failed": session.testsfailed,
        "ran": session.testscollected,
    }
    Path(os.environ["FASTCONV_TEST_CALLS"]).write_text(json.dumps(counts))
