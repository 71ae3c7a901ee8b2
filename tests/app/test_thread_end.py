"""A program whose threads are still inside a C++ library when it ends: it ends in order, with its own exit code."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

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
