"""A program whose threads are still inside a C++ library when it ends: it ends in order, with its own exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from app.__main__ import main
from app.process import end_threads, end_with_program

ROOT = Path(__file__).resolve().parents[2]
# Left behind while it works in OpenCV, as an engine that is still being built when a window closes.
CHILD = """
import sys, threading, time
import cv2, numpy as np
from app.process import Worker
cv2.setNumThreads(1)
picture = np.zeros((400, 400, 3), np.uint8)
began = threading.Event()
def body(stopping):
    while not stopping.is_set():
        cv2.GaussianBlur(picture, (31, 31), 5)
        began.set()
def failed(name, error):
    print(error, file=sys.stderr)
workers = [Worker(f"worker {number}", body, failed) for number in range(2)]
for worker in workers:
    worker.start()
began.wait(30)
sys.exit(3)
"""


@pytest.mark.parametrize("time", range(3))
def test_a_thread_inside_a_library_does_not_abort_the_program(time: int) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""


def test_threads_that_hang_are_named_and_left() -> None:
    hung, asked = threading.Event(), threading.Event()
    thread = threading.Thread(target=hung.wait, name="hung in a driver", daemon=True)
    thread.start()
    end_with_program(thread, asked.set)
    assert "hung in a driver" in end_threads(0.05)
    assert asked.is_set()
    hung.set()
    assert "hung in a driver" not in end_threads(30.0)


# The same, but in a library that does not come back in time, as when a machine has too much else to do.
HUNG = """
import atexit, ctypes, sys, threading
from app.process import Worker, leave
atexit.register(print, "what was registered is done")
began = threading.Event()
def body(stopping):
    began.set()
    ctypes.CDLL(None).sleep(60)
Worker("engine builder", body, print).start()
threading.Thread(target=ctypes.CDLL(None).sleep, args=(60,), daemon=True).start()  # nobody's
began.wait(30)
leave(3, 0.1)
"""


def test_a_thread_that_does_not_come_back_from_a_library_holds_up_nothing_and_aborts_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", HUNG], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 3 and done.stdout == "what was registered is done\n", done.stderr
    assert done.stderr == "lumitherm: ends although engine builder hangs in a driver or a library\n"


def test_ctrl_c_while_it_waits_ends_it_at_once_and_without_a_traceback() -> None:
    waits = HUNG.replace("leave(3, 0.1)", "threading.Timer(0.5, os.kill, (os.getpid(), 2)).start()\nleave(3, 50)")
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it
    command = [sys.executable, "-c", f"import os{waits}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=45, preexec_fn=heard)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


# Freed by a destructor that the interpreter's end runs: an atexit function is not the last of what happens.
IN_ORDER = """
import sys
from app.process import leave
class Last:
    def __del__(self):
        print("in order")
last = Last()
leave(4)
"""


def test_without_such_a_thread_the_interpreter_ends_in_order() -> None:
    done = subprocess.run([sys.executable, "-c", IN_ORDER], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (4, "in order\n", "")


def test_the_command_ends_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr("app.__main__.leave", codes.append)
    for name in ("bound_heap", "calm_blas"):  # of a whole process, and this one has other tests to do
        monkeypatch.setattr(f"app.__main__.{name}", lambda: None)
    for words in (["--version"], ["recording", "info", "none.mkv"], ["config", "show"]):
        monkeypatch.setattr(sys, "argv", ["lumitherm", *words])
        main()
    assert codes == [0, 2, 2]
