"""Says when a camera is plugged in or out, so that a lost one is reopened at once instead of at the next attempt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HotplugMonitor"]


class HotplugMonitor:
    """Listens to udev from construction to `close`, in a thread of pyudev's; does nothing on other systems than Linux.

    It only speeds things up: without it (a container without udev events) cameras are found by the next attempt.

    Args:
        on_change: called in pyudev's thread after a video device came or went; e.g. nudges the capture threads.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._observer: Any = None
        if sys.platform != "linux":
            return
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("video4linux")
        self._observer = pyudev.MonitorObserver(monitor, callback=lambda device: self.handle(device.action))
        self._observer.start()

    def handle(self, action: str | None) -> None:
        """One event of udev: add, remove, change..."""
        if action in ("add", "remove"):
            self._on_change()

    def close(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def __enter__(self) -> HotplugMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
