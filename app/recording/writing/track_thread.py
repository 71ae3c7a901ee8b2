"""A thread that runs one track's encoder, one call after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from app.process import go_first

__all__ = ["TrackThread"]

_T = TypeVar("_T")
_Job = tuple[Callable[[], object], "Future[object]"]


class TrackThread:
    """Owns one encoder: only this thread calls into it. A daemon, because a hung driver cannot be interrupted.

    Args:
        first: it goes before other threads, see `go_first`.
    """

    def __init__(self, name: str, first: bool = False) -> None:
        self._first = first
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=64)
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"encode-{name}", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Queue a call; its result or exception is the future's. The caller keeps fewer than 64 in flight."""
        future: Future[object] = Future()
        self._jobs.put_nowait((job, future))
        return future  # type: ignore[return-value]

    def close(self, timeout_s: float) -> bool:
        """Finish what is queued and end; returns whether the thread ended in time."""
        self._jobs.put(None, timeout=max(timeout_s, 0.01))
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Stop waiting for a thread that hangs in a driver. If it ever comes back, it ends without doing more."""
        self._abandoned.set()

    def _run(self) -> None:
        if self._first:
            go_first()
        while not self._abandoned.is_set():
            try:
                entry = self._jobs.get(timeout=1.0)
            except queue.Empty:
                continue
            if entry is None:
                return
            job, future = entry
            try:
                result = job()
            except BaseException as error:  # handed to whoever waits for the future
                future.set_exception(error)
            else:
                future.set_result(result)
