"""What runs in forked and spawned children; importable there by name."""

from __future__ import annotations

import multiprocessing
import warnings
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from .cases import Case, draw
from .judge import compute, on
from .processes import PATIENCE


def answer(pipe: Connection, backend: str, case: Case, threads: int) -> None:
    """Compute a case and send the bits, or the error's text, through a pipe."""
    try:
        result = compute(on(backend), case, draw(case, "normal"), threads=threads)
    except BaseException as error:
        pipe.send_bytes(b"error: " + repr(error).encode())
    else:
        pipe.send_bytes(result.tobytes())
    pipe.close()


def ask(method: str, backend: str, case: Case, threads: int) -> np.ndarray[Any, Any]:
    """Compute a case in a child started by `method`; a child that hangs is a failure."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(theirs, backend, case, threads))  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # since Python 3.12: fork in a process with threads; that it works here is what is tested
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    theirs.close()
    try:
        assert ours.poll(PATIENCE), f"the {method}ed child neither answered nor ended"
        data = ours.recv_bytes()
        child.join(PATIENCE)
        assert child.exitcode == 0, f"the {method}ed child ended with {child.exitcode}"
    except EOFError:
        child.join(PATIENCE)
        raise AssertionError(f"the {method}ed child died with {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
    assert not data.startswith(b"error: "), data.decode()
    return np.frombuffer(data, case.problem.out_dtype).reshape(case.problem.out_shape)
