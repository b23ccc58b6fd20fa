"""The parent's end of a column: start the process, ask it, stop it while others are asked."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: Whether an idle process can be stopped; elsewhere the driver waits until its threads sleep.
CAN_PAUSE = hasattr(signal, "SIGSTOP")


class Gone(Exception):
    """The process ended or did not answer in time; the message says which."""


class Refused(Exception):
    """The process lives, and says that it does not compute this or why it failed."""


def environment(threads: int) -> dict[str, str]:
    """Variables that make every library use as many threads, and find the benchmarks."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    count = str(threads)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count),
        "FASTCONV_THREADS": count,
    }


class Child:
    """A column's process.

    Parameters
    ----------
    module, variant : str
        See `benchmarks.peers.worker`.
    threads : int
    log : Path
        Receives what the library prints.
    patience : float
        Seconds the library may take to be imported.
    """

    def __init__(
        self, module: str, variant: str, threads: int, log: Path, patience: float = 120
    ) -> None:
        self._log = log
        command = [sys.executable, "-m", "benchmarks.peers.worker", module, variant, str(threads)]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                env=environment(threads), start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._text = b""
        self._patience = patience
        self.versions: dict[str, str] = {}

    def greet(self) -> None:
        """Wait until the library has been imported."""
        self.versions = self._read(self._patience)["versions"]
        self.pause()

    def ask(self, patience: float, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer; the process runs only meanwhile.

        Raises
        ------
        Gone
            It crashed, or did not answer within `patience` seconds and was killed.
        Refused
            It answered that it does not compute this, or with an error.
        """
        line = json.dumps({"do": do, **request}) + "\n"
        assert self._process.stdin is not None
        self.resume()
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except OSError:
            raise Gone(self._epitaph()) from None
        answer = self._read(patience)
        self.pause()
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def _read(self, patience: float) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        assert self._process.stdout is not None
        while b"\n" not in self._text:
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                self.kill()
                raise Gone(f"no answer within {patience:g} s")
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise Gone(self._epitaph())
            self._text += data
        line, self._text = self._text.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _epitaph(self) -> str:
        """Say how the process ended, with the last line that it printed."""
        self.kill(wait=5)
        code = self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"crashed: {how}{': ' + words[-1][:200] if words else ''}"

    def _signal(self, name: str) -> None:
        """Signal the process and whatever it started; they are a session of their own."""
        if CAN_PAUSE and self._process.poll() is None:
            os.killpg(self._process.pid, getattr(signal, name))

    def pause(self) -> None:
        """Stop the process: threads that spin for a while would slow whoever runs next."""
        self._signal("SIGSTOP")
        if not CAN_PAUSE:
            time.sleep(0.05)

    def resume(self) -> None:
        """Let it run again."""
        self._signal("SIGCONT")

    def kill(self, wait: float = 0) -> None:
        """End the process; one that is ending by itself is given `wait` seconds."""
        self.resume()
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            self._signal("SIGKILL")
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(OSError):  # a request that it never read
                    stream.close()
        self._selector.close()
