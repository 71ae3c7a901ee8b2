"""A named thread with an owner: it is asked to stop, it reports what failed, and nothing dies inside it unheard."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.process import end_with_program

__all__ = ["Worker"]


class Worker:
    """Runs `body(stopping)` once in a thread of its own.

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

    def stop(self, timeout_s: float) -> bool:
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
