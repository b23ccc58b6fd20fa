"""Tasks on Python threads: for work that releases the interpreter's lock in long calls."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

Task = TypeVar("Task")


def for_each(function: Callable[[Task], None], tasks: Iterable[Task], threads: int) -> None:
    """Call function(task) for every task, on at most `threads` threads; the first error is raised.

    Floating-point flags are ignored inside.
    """
    waiting = deque(tasks)
    errors: list[BaseException] = []

    def work() -> None:
        with np.errstate(all="ignore"):
            while not errors:
                try:
                    task = waiting.popleft()
                except IndexError:
                    return
                try:
                    function(task)
                except BaseException as error:
                    errors.append(error)

    others = []
    for _ in range(min(threads, len(waiting)) - 1):
        thread = threading.Thread(target=work, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            break  # the system has no more threads; those we have do the work
        others.append(thread)
    work()
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
