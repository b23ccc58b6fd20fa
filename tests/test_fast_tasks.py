"""The tasks that precision="fast" runs in Python threads."""

from __future__ import annotations

from typing import Any

import pytest

from fastconv.backends.native import tasks


def test_tasks_run_once_each_and_errors_come_back() -> None:
    for threads in (1, 2, 5):
        done: list[int] = []
        tasks.for_each(done.append, range(100), threads)
        assert sorted(done) == list(range(100))

        def fail(task: int) -> None:
            if task == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tasks.for_each(fail, range(1000), threads)
    tasks.for_each(lambda task: None, [], 3)


def test_tasks_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(tasks.threading.Thread, "start", refuse)
    done: list[int] = []
    tasks.for_each(done.append, range(10), 4)
    assert done == list(range(10))
