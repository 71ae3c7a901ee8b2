"""Work that takes longer than the window may wait: runs elsewhere, comes back as a call on the GUI thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future as _Future
from concurrent.futures import ThreadPoolExecutor, wait
from enum import StrEnum
from typing import Any

from PyQt6.QtCore import QObject, Qt, pyqtSignal

__all__ = ["Lane", "TaskRunner"]


class Lane(StrEnum):
    """Tasks of a lane run one after another; lanes run side by side."""

    CONTROL = "control"  # starting, stopping, settings of the pipeline: in the order asked for
    FILES = "files"  # snapshots, opening, listing


class TaskRunner(QObject):
    """Owns one thread a lane, `window-LANE`; they end in `close`. GUI thread calls everything here."""

    _finished = pyqtSignal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pools = {lane: ThreadPoolExecutor(1, thread_name_prefix=f"window-{lane}") for lane in Lane}
        self._pending: set[_Future[Any]] = set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._undelivered = 0
        self._finished.connect(self._deliver, type=Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg]

    def run(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        lane: Lane = Lane.CONTROL,
    ) -> None:
        """Do `work` on the lane's thread, then call `done` with its result or `failed` with its error, here."""
        if self._closed.is_set():
            return

        def job() -> None:
            try:
                result = work()
            except Exception as error:  # whatever it is, the caller decides: it goes to `failed`
                caught = error
                self._post(failed, caught)
            else:
                self._post(done, result)

        future = self._pools[lane].submit(job)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    @property
    def busy(self) -> bool:
        """Whether something runs, waits to run, or has ended and is not delivered yet."""
        return bool(self._pending) or self._undelivered > 0

    def close(self, timeout_s: float = 10.0) -> bool:
        """Let what runs end, drop what waits; nothing is delivered any more. False if something still runs."""
        self._closed.set()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        _, running = wait(set(self._pending), timeout_s)
        if not running:
            for pool in self._pools.values():
                pool.shutdown(wait=True)
        return not running

    def _post(self, callback: Callable[[Any], None] | None, value: object) -> None:
        if not self._closed.is_set() and callback is not None:
            with self._lock:
                self._undelivered += 1
            self._finished.emit(callback, value)

    def _deliver(self, callback: Callable[[Any], None], value: object) -> None:
        try:
            if not self._closed.is_set():
                callback(value)
        finally:  # not before what the callback has asked for is pending
            with self._lock:
                self._undelivered -= 1
