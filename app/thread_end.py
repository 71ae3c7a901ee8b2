"""What becomes of threads that still run when the program ends: they are asked to end, and waited for.

A thread of ours may have been left behind because it hangs in a driver, or compiles an engine. That is why they are
daemons. But when the interpreter ends, a daemon that comes back from a library is stopped by unwinding its stack, and
C++ that may not be unwound aborts the whole program after all its work is done: "terminate called without an active
exception" (pybind/pybind11#2215, pytorch/pytorch#38228; OpenCV, PyTorch and OpenVINO are all written like that).
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

__all__ = ["end_threads", "end_with_program"]

_LIMIT_S: Final = 10.0
_lock = threading.Lock()
_threads: weakref.WeakKeyDictionary[threading.Thread, Callable[[], None]] = weakref.WeakKeyDictionary()
_registered = False


def end_with_program(thread: threading.Thread, request_stop: Callable[[], None]) -> None:
    """Have this thread asked to end and waited for when the program ends, if it has not ended by then.

    Args:
        request_stop: asks, and returns at once; it must not hold the thread alive, nor raise.
    """
    global _registered
    with _lock:
        _threads[thread] = request_stop
        if not _registered:
            _registered = True
            atexit.register(_at_exit)


def end_threads(limit_s: float = _LIMIT_S) -> list[str]:
    """Ask all that were named and are alive, and wait for them; the names of those that did not end in time."""
    with _lock:
        alive = [(thread, ask) for thread, ask in _threads.items() if thread.is_alive()]
    for _, ask in alive:
        ask()
    end_s = time.monotonic() + limit_s
    for thread, _ in alive:
        thread.join(max(0.0, end_s - time.monotonic()))
    return [thread.name for thread, _ in alive if thread.is_alive()]


def _at_exit() -> None:
    left = end_threads()
    if left:
        print(f"lumitherm: ends although {', '.join(left)} hangs in a driver or a library", file=sys.stderr)
