"""The thread pool: every task once, thread numbers apart, no dead-lock, forks, signals, exits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.memory import linux

import fastconv
from fastconv.dispatch import availability
from fastconv.options import usable_cores

if availability("native") is not None:
    if "native" in os.environ.get("FASTCONV_REQUIRE_BACKENDS", ""):
        pytest.fail("the native extension is required and missing", pytrace=False)
    pytest.skip("the native extension is not built", allow_module_level=True)

PATIENCE = 120  # seconds until something that hangs counts as hanging
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

PROBE = """
    import os, signal, sys, threading, time, warnings
    import numpy as np, fastconv
    from fastconv import _native
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
    def probe(tasks, threads, microseconds=0, nested=False):
        seen = _native.parallel_probe(tasks, threads, microseconds, nested)
        assert not any(seen[k] for k in ("missed", "repeated", "shared", "outside")), seen
        return seen["threads"]
"""


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROBE) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


def probe(tasks: int, threads: int, microseconds: int = 0, nested: bool = False) -> int:
    """Run tasks that pass the time; return how many threads took part, at least one."""
    from fastconv import _native

    seen: dict[str, Any] = _native.parallel_probe(tasks, threads, microseconds, nested)
    used = seen.pop("threads")
    assert not any(seen.values()), (tasks, threads, microseconds, nested, seen)
    return int(used)


@pytest.mark.parametrize("threads", [1, 2, 3, 16, 1000])
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 7, 500])
def test_every_task_runs_once_and_no_two_share_a_thread_number(tasks: int, threads: int) -> None:
    for microseconds in (0, 0, 0, 30):
        for nested in (False, True):
            used = probe(tasks, threads, microseconds if tasks < 100 else 0, nested)
            assert min(tasks, 1) <= used <= min(tasks, threads)


@pytest.mark.skipif(usable_cores() < 2, reason="there is one processor")
def test_workers_help_and_may_be_more_than_the_processors() -> None:
    """Somebody must come within 100 tasks of a millisecond, on the busiest machine."""
    for threads in (2, usable_cores() + 2):
        assert any(probe(100, threads, 1000) == threads for _ in range(20))


def test_a_call_does_not_wait_for_workers_that_are_busy_elsewhere() -> None:
    finished = threading.Event()

    def occupy() -> None:
        probe(2, 2, 2_000_000)  # this thread and the worker
        finished.set()

    probe(2, 2)
    other = threading.Thread(target=occupy)
    other.start()
    time.sleep(0.1)
    for _ in range(100):
        assert probe(2, 2) == 1 or usable_cores() > 2
    assert not finished.is_set()
    other.join(PATIENCE)
    assert finished.is_set()


def test_hammered_by_many_threads() -> None:
    """More callers than the pool has slots, all kinds of jobs: nothing is lost, nothing hangs."""

    def call(index: int) -> int:
        tasks, threads = index * 7 % 23, 1 + index % 5
        return probe(tasks, threads, index % 4 * 5, index % 11 == 0)

    with ThreadPoolExecutor(80) as pool:
        futures = [pool.submit(call, index) for index in range(6000)]
        for future in futures:
            future.result(timeout=PATIENCE)


@forks
def test_children_forked_while_the_pool_is_busy() -> None:
    out = run_python(
        """
        stop = threading.Event()
        def hammer(threads):
            while not stop.is_set():
                probe(5, threads, 20)
        others = [threading.Thread(target=hammer, args=(n,)) for n in (1, 2, 3, 3)]
        for other in others: other.start()
        for generation in range(25):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # a dead-lock ends the child by SIGALRM
                used = max(probe(40, 3, 200) for _ in range(8))
                grandchild = os.fork()
                if grandchild == 0:
                    probe(40, 3)
                    os._exit(0)
                code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
                os._exit(code or 10 + min(used, 2))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (11, 12), code
            if code == 12: print("threads")
            probe(5, 3, 20)
        stop.set()
        for other in others: other.join()
        """
    )
    assert "threads" in out or usable_cores() < 2, "no child had threads of its own"


@forks
def test_a_signal_handler_forks_in_the_middle_of_a_call() -> None:
    """The child goes on inside the call that was interrupted, without the workers it had."""
    run_python(
        """
        w = np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype("f4")
        x = np.random.default_rng(0).standard_normal((16, 16, 400, 400)).astype("f4")
        children = []
        def fork(*_):
            children.append(os.fork())
            if children[-1] == 0: signal.alarm(60)
        want = fastconv.conv2d(x, w, backend="native", threads=1)
        signal.signal(signal.SIGUSR1, fork)
        while not children:
            timer = threading.Timer(0.06, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            y = fastconv.conv2d(x, w, backend="native", threads=3)
            if 0 not in children: timer.join()
        same = np.array_equal(y, want)
        again = np.array_equal(fastconv.conv2d(x, w, backend="native", threads=3), want)
        if 0 in children:
            os._exit(0 if same and again else 1)
        assert same and again
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="no interval timers")
def test_a_signal_handler_convolves_in_the_middle_of_a_call() -> None:
    """The inner call must not take the scratch memory of the one it interrupts."""
    run_python(
        """
        rng = np.random.default_rng(0)
        x = rng.standard_normal((24, 32, 200, 200)).astype("f4")
        w = rng.standard_normal((32, 32, 5, 5)).astype("f4")
        small = rng.standard_normal((1, 300, 60, 60)).astype("f4")
        v = rng.standard_normal((40, 300, 3, 3)).astype("f4")
        want, inner = fastconv.conv2d(x, w, threads=2), fastconv.conv2d(small, v, threads=2)
        fastconv.conv2d(x[:1, :, :20, :20], w[:, :, :1, :1], threads=2)  # shrinks the scratch
        got = []
        signal.signal(signal.SIGALRM, lambda *_: got.append(fastconv.conv2d(small, v, threads=2)))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        with fastconv.options(workspace=1 << 16):  # much less than the inner call takes
            for _ in range(2):
                assert np.array_equal(fastconv.conv2d(x, w, threads=2), want)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert got and all(np.array_equal(y, inner) for y in got)
        """
    )


def test_interrupts_under_load() -> None:
    out = run_python(
        """
        stop = threading.Event()
        def hammer():
            while not stop.is_set(): probe(7, 3, 20)
        others = [threading.Thread(target=hammer) for _ in range(3)]
        for other in others: other.start()
        class Stop(Exception): pass
        def handler(*_): raise Stop
        signal.signal(signal.SIGINT, handler)
        stopped = 0
        for _ in range(10):
            timer = threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                probe(1_000_000, 3, 1000)
            except Stop:
                stopped += 1
            timer.join()
            probe(9, 3, 20)
        stop.set()
        for other in others: other.join()
        print(stopped)
        """
    )
    assert out == "10"


@pytest.mark.parametrize("busy", [False, True])
def test_the_process_ends_while_workers_sleep_or_work(busy: bool) -> None:
    for _ in range(5):
        run_python(
            f"""
            probe(100, 3, 100)
            def hammer():
                while True: probe(9, 3, 50)
            if {busy}:
                for _ in range(3): threading.Thread(target=hammer, daemon=True).start()
                time.sleep(0.05)
            """
        )


@linux
def test_workers_take_no_signals() -> None:
    out = run_python(
        """
        before = set(os.listdir("/proc/self/task"))
        probe(100, 3, 100)
        workers = set(os.listdir("/proc/self/task")) - before
        for worker in workers:
            status = open(f"/proc/self/task/{worker}/status").read()
            print(next(line for line in status.splitlines() if line.startswith("SigBlk")))
        print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        """
    ).splitlines()
    assert out[-1] == "[]"
    assert len(out) == 3, "two workers"
    for line in out[:-1]:
        blocked = int(line.split()[1], 16)
        for number in (1, 2, 10, 14, 15, 17):  # HUP, INT, USR1, ALRM, TERM, CHLD
            assert blocked >> (number - 1) & 1


@linux
def test_a_system_that_has_no_more_threads() -> None:
    out = run_python(
        """
        import resource
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + (2 << 20), limits[1]))  # no stack fits
        threads = len(os.listdir("/proc/self/task"))
        for _ in range(50): assert probe(20, 4, 20) == 1
        assert len(os.listdir("/proc/self/task")) == threads
        resource.setrlimit(resource.RLIMIT_AS, limits)
        time.sleep(1.1)
        probe(20, 4, 20)
        print(len(os.listdir("/proc/self/task")) - threads)
        """
    )
    assert out == "3"


def test_an_idle_process_is_quiet() -> None:
    probe(20, 2, 100)
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.3


@linux
def test_workers_keep_their_affinity() -> None:
    """Waking steers them around the caller's processor; the mask they inherited comes back."""
    out = run_python(
        """
        before = set(os.listdir("/proc/self/task"))
        mask = os.sched_getaffinity(0)
        for _ in range(50):
            probe(20, 3, 200)
            time.sleep(0.002)
        time.sleep(0.3)  # whoever was woken last has run
        workers = set(os.listdir("/proc/self/task")) - before
        print(len(workers), all(os.sched_getaffinity(int(w)) == mask for w in workers))
        """
    )
    assert out == "2 True"


def test_the_threads_are_named_in_the_configuration() -> None:
    assert fastconv.show_config("dict")["native"]["threads"] == "std::thread pool"


def test_results_do_not_depend_on_who_helps() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 30, 50, 50)), rng.standard_normal((20, 30, 3, 3))
    want = fastconv.conv2d(x, w, backend="native", threads=1)

    def call(index: int) -> bool:
        y = fastconv.conv2d(x, w, backend="native", threads=1 + index % 4)
        return np.array_equal(y, want)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(call, range(120)))
