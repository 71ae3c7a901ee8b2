"""What concerns the whole process: its heap, its garbage collector, its threads and how they end."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

__all__ = [
    "Worker",
    "bound_heap",
    "calm_blas",
    "data_bytes",
    "end_child",
    "end_threads",
    "end_with_program",
    "freeze_imports",
    "go_first",
    "held_collector",
    "how_it_ended",
    "keep_files_private",
    "leave",
    "live_with_parent",
    "return_free_memory",
    "start_child",
]

# ------------------------------------------------------------------ heap
# Keeps the C library's heap from hoarding: pictures are large, threads come and go, and each has its own arena.
#
# Every arena of glibc keeps the most that it ever held. With the dozen and a half threads of a pipeline, started anew a
# few times, that came to hundreds of MB that nothing used.

_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def bound_heap() -> bool:
    """Let all threads share two arenas from now on. Call it before they start; whether the C library can (glibc)."""
    libc = _libc()
    return libc is not None and libc.mallopt(_M_ARENA_MAX, _ARENAS) == 1


def calm_blas() -> bool:
    """Let NumPy's and SciPy's linear algebra use the calling thread only; False: NumPy is loaded, and has chosen.

    Its own threads spin for some tens of ms after each call, on the cores that the pictures need: an equation system
    of 300 unknowns took 104 ms of processor time in place of 4. `OPENBLAS_NUM_THREADS` of the environment has its way.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return "numpy" not in sys.modules


def return_free_memory() -> bool:
    """Return what is free to the system, some tens of ms for a large heap; whether anything was."""
    libc = _libc()
    return libc is not None and libc.malloc_trim(0) == 1


# ------------------------------------------------------------------ garbage collector
# Keeps Python's garbage collector from halting every thread: a full round looks at all objects, libraries' included.
#
# With window and pipeline loaded a round takes some 50 ms, with PyTorch and OpenVINO 150 ms, and nothing else runs.

_MANY = 50  # modules more than at the last time: a library has come
_known = 0
_holding = threading.Lock()
_holders, _held = 0, False  # threads that import, and whether the collector was on before


def freeze_imports() -> bool:
    """If libraries have been imported since the last call, take all that is alive out of the collector's rounds.

    Reference counting still frees it. Call it after imports, not again and again: what is garbage now, and only a
    round would find, stays. Returns whether it did.
    """
    global _known
    modules = len(sys.modules)
    if modules < _known + _MANY:
        return False
    _known = modules
    gc.freeze()
    return True


@contextmanager
def held_collector() -> Iterator[None]:
    """No rounds while libraries are imported, by one thread or several; afterwards they are frozen.

    Only then the collector is on again: with half a million new objects it would begin a round at once, on whatever
    thread makes the next one, the window's as likely as any. Without libraries, the round is done here.
    """
    global _holders, _held
    with _holding:
        if _holders == 0:
            _held = gc.isenabled()
            gc.disable()
        _holders += 1
    try:
        yield
    finally:
        with _holding:
            _holders -= 1
            if not freeze_imports():
                gc.collect(0)
            if _holders == 0 and _held:
                gc.enable()


# ------------------------------------------------------------------ threads at the end
# What becomes of threads that still run when the program ends: they are asked to end, and waited for.
#
# A thread may have been left behind because it hangs in a driver, or compiles an engine. That is why they are
# daemons. But when the interpreter ends, a daemon that comes back from a library is stopped by unwinding its stack, and
# C++ that may not be unwound aborts the whole program after all its work is done: "terminate called without an active
# exception" (pybind/pybind11#2215, pytorch/pytorch#38228; OpenCV, PyTorch and OpenVINO are all written like that).

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


def leave(code: int, limit_s: float = _LIMIT_S) -> NoReturn:
    """End the process with this exit code, from the main thread: threads that were named are waited for so long.

    Where a daemon runs on, in a library or a driver, the interpreter is not taken down under it, which would abort the
    program: what is registered with `atexit` is done, and the process ends as it is. A Ctrl-C ends the waiting, and it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _tell(end_threads(limit_s))
    if any(thread.daemon for thread in threading.enumerate()):
        atexit.unregister(_at_exit)
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _at_exit() -> None:
    """For programs that do not end by `leave`."""
    _tell(end_threads())


def _tell(left: list[str]) -> None:
    if left:
        print(f"lumitherm: ends although {', '.join(left)} hangs in a driver or a library", file=sys.stderr)


# ------------------------------------------------------------------ priority
# What a camera gave and nobody took is gone; what is fused later can be fused again. So capture and encoding go first.

_FIRST: Final = -5  # niceness


def go_first() -> bool:
    """Give the calling thread more of a busy processor than the rest; whether the system allows it.

    Linux alone has a niceness for each thread. root may raise it, and whom `LimitNICE=` of the service's unit lets.
    """
    if sys.platform != "linux":
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _FIRST)
    except OSError:
        return False
    return True


# ------------------------------------------------------------------ a thread with an owner


class Worker:
    """A named thread that runs `body(stopping)` once. Its owner asks it to stop and is told what failed.

    Args:
        name: of the thread, as it appears in logs and debuggers.
        body: returns when it is done or when `stopping` is set; it waits for nothing longer than a moment.
        on_failure: called in the thread with whatever `body` raised.
        on_end: called in the thread when `body` returned in order.
    """

    def __init__(
        self,
        name: str,
        body: Callable[[threading.Event], None],
        on_failure: Callable[[str, BaseException], None],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._body, self._on_failure, self._on_end = body, on_failure, on_end
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once. What is left of it when the program ends is waited for."""
        self._thread.start()
        end_with_program(self._thread, self._stopping.set)

    def request_stop(self) -> None:
        """Ask the thread to end, without waiting."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came in time. True for a worker that never started."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """`request_stop` and `join`."""
        self.request_stop()
        return self.join(timeout_s)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping.is_set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def native_id(self) -> int | None:
        """The operating system's number of the thread; None before the start."""
        return self._thread.native_id

    def _run(self) -> None:
        try:
            self._body(self._stopping)
        except BaseException as error:  # everything goes to the owner, nothing dies in the thread
            self._on_failure(self.name, error)
            return
        if self._on_end is not None:
            self._on_end()


def keep_files_private() -> None:
    """Files of this process from now on: 0640 at most, folders 0750; a stricter setting of the user stays."""
    os.umask(os.umask(0o077) | 0o027)


# ------------------------------------------------------------------ children
# One that reads what strangers made is another process, at the other end of a socket: `start_child` and `end_child` in
# the parent, `live_with_parent` first of all in the child.

_PR_SET_PDEATHSIG: Final = 1


def start_child(command: list[str], theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Start `command` with the number of its end of the socket as the last word; that end is closed here."""
    with theirs:
        return subprocess.Popen(
            [*command, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )


def end_child(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """End it, and our end of the socket."""
    process.kill()
    connection.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs in a driver is left to the system
        process.wait(0.5)


def live_with_parent() -> None:
    """Leave Ctrl-C to the parent, and die when it dies (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def how_it_ended(process: subprocess.Popen[bytes], alive: str) -> str:
    """How a child ended, for a sentence that begins with it; `alive` where it does not within half a second."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    code = process.poll()
    if code is None:
        return alive
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def data_bytes() -> int:
    """What counts to this process's RLIMIT_DATA so far. Linux."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
