"""A script for a fresh process: the floating-point environment is as before, after every call."""

SCRIPT = """
import ctypes, platform, sys, threading
import numpy as np

def control_word():
    "Rounding, masks, flush-to-zero and denormals-are-zero; None where this is not known."
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return None
    environment = ctypes.create_string_buffer(32)
    ctypes.CDLL(None).fegetenv(environment)
    return int.from_bytes(environment.raw[28:32], "little") & 0xFFC0

def check(when):
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        assert (np.full(67, info.tiny) * dtype(0.25) != 0).all(), f"{when}: results are flushed"
        assert (np.full(67, info.smallest_subnormal) * dtype(2) != 0).all(), f"{when}: inputs are"
        down, up = dtype(1) + info.eps / dtype(4), dtype(1) + info.eps * dtype(0.75)
        assert down == 1 and up == 1 + info.eps, f"{when}: rounds otherwise"
    assert control_word() == before, f"{when}: {control_word():#x}, was {before:#x}"

before = control_word()
check("at the start")
import fastconv
check("after import fastconv")
backend = sys.argv[1]
for dtype in (np.float32, np.float64):
    tiny = np.finfo(dtype).smallest_subnormal
    whole = np.arange(8 * 64 * 64).reshape(2, 4, 64, 64) % 15 - 7
    kernel = np.arange(4 * 4 * 9).reshape(4, 4, 3, 3) % 5 - 2
    want = fastconv.conv2d(whole, kernel, pad=1, backend="reference")
    for threads in (1, 3):
        def call():
            y = fastconv.conv2d(
                (whole * tiny).astype(dtype), kernel.astype(dtype), pad=1, threads=threads,
                backend=backend)
            assert np.array_equal(y, (want * tiny).astype(dtype)), "subnormals are flushed inside"
            check(f"after a call with {threads} threads")
        call()
        failures = []
        def guarded():
            try:
                check("in a fresh thread")
                call()
            except BaseException as error:
                failures.append(error)
        fresh = threading.Thread(target=guarded)
        fresh.start(); fresh.join()
        if failures:
            raise failures[0]
fastconv.conv2d(np.ones((9, 9)), np.ones((3, 3)), activation="gelu", backend=backend)
check("at the end")
print("sound")
"""
