"""Ctrl+C in the terminal, and the system asking the program to end: as if the window had been closed."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType
from typing import Any

from PyQt6.QtCore import QObject, QSocketNotifier, pyqtSignal

__all__ = ["Interrupts"]

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts(QObject):
    """`asked` at the first of these signals, so that a recording is ended properly; the second ends the program.

    Qt waits for events in C, where Python hears no signal: the interpreter writes a byte into a socket that Qt watches.
    Main thread; from the constructor until `close`.
    """

    asked = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._ours, self._interpreters = socket.socketpair()
        for end in (self._ours, self._interpreters):
            end.setblocking(False)
        self._notifier = QSocketNotifier(self._ours.fileno(), QSocketNotifier.Type.Read, self)  # type: ignore[call-overload]
        self._notifier.activated.connect(self._woken)
        self._came = False
        self._fd_before = signal.set_wakeup_fd(self._interpreters.fileno(), warn_on_full_buffer=False)
        numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        self._before: dict[Any, Any] = {number: signal.signal(number, self._heard) for number in numbers}

    def close(self) -> None:
        """As it was before."""
        self._notifier.setEnabled(False)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._ours.close()
        self._interpreters.close()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        signal.signal(number, signal.SIG_DFL)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ours.recv(64)
        if self._came:
            self._came = False
            self.asked.emit()
