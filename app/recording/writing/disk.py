"""How long the disk lasts, and what to do when it does not."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from app.recording.config import RecordingConfig
from app.recording.segments import delete_recording, is_protected, list_recordings
from fusion_core.errors import RecordingError
from fusion_core.files import make_folder

__all__ = ["DiskGuard", "DiskLevel", "free_bytes", "require_writable"]

_RATE_WINDOW_S = 10.0
_HYSTERESIS = 1.25  # space is back when a quarter more than the reserve is free


class DiskLevel(StrEnum):
    """What the free space allows."""

    OK = "ok"
    WARN = "warn"  # space for fewer than warn_min minutes
    RESERVE = "reserve"  # down to the reserve: act


def require_writable(directory: Path) -> None:
    """Make the folder if need be, and write a file there to be sure that one can.

    Raises:
        RecordingError: it cannot be made or written; says why and what to do.
    """
    advice = "Set recording.directory to a folder that you may write."
    try:
        make_folder(directory)
    except OSError as error:
        planted = isinstance(error, PermissionError) or not directory.exists()
        what = f"cannot be made: {error.strerror}" if planted else "is no folder"
        raise RecordingError(f"the recording folder {directory} {what}. {advice}") from error
    probe = directory / f".write-probe-{secrets.token_hex(8)}"
    try:
        try:
            with probe.open("xb", buffering=0) as file:
                file.write(bytes(4096))
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingError(
            f"the recording folder {directory} cannot be written: {error.strerror}. {advice}"
        ) from error


def free_bytes(directory: Path) -> int:
    """Bytes that this process may still write there."""
    return shutil.disk_usage(directory).free


class DiskGuard:
    """Watches free space and the rate at which it goes. Not thread-safe; owner: the recorder's thread."""

    def __init__(self, config: RecordingConfig, free: Callable[[Path], int] = free_bytes) -> None:
        self._config = config
        self._free = free
        self._written: deque[tuple[float, int]] = deque()
        self._low = False
        self._last_free = 0

    def note(self, now_s: float, total_bytes: int) -> None:
        """Tell how many bytes were written in all, so that the rate is known."""
        self._written.append((now_s, total_bytes))
        while len(self._written) > 2 and now_s - self._written[0][0] > _RATE_WINDOW_S:
            self._written.popleft()

    @property
    def bytes_per_s(self) -> float:
        """Rate over the last seconds; 0 when nothing is known yet."""
        if len(self._written) < 2:
            return 0.0
        (t0, b0), (t1, b1) = self._written[0], self._written[-1]
        return max(0.0, (b1 - b0) / (t1 - t0)) if t1 > t0 else 0.0

    @property
    def reserve_bytes(self) -> int:
        """The larger of reserve_mb and reserve_s at the present rate."""
        return round(max(self._config.reserve_mb * 1e6, self._config.reserve_s * self.bytes_per_s))

    def seconds_left(self) -> float | None:
        """Time until the reserve is reached; None while the rate is unknown."""
        rate = self.bytes_per_s
        return max(0.0, (self._free(self._config.directory) - self.reserve_bytes) / rate) if rate > 0 else None

    def level(self) -> DiskLevel:
        """The level now, with hysteresis at the reserve so that it does not flap."""
        free = self._last_free = self._free(self._config.directory)
        reserve = self.reserve_bytes
        self._low = free < reserve * (_HYSTERESIS if self._low else 1.0)
        if self._low:
            return DiskLevel.RESERVE
        left = self.seconds_left()
        return DiskLevel.WARN if left is not None and left < self._config.warn_min * 60 else DiskLevel.OK

    def seconds_left_cached(self) -> float | None:
        """`seconds_left` as of the last `level`: costs no call to the system."""
        rate = self.bytes_per_s
        return max(0.0, (self._last_free - self.reserve_bytes) / rate) if rate > 0 else None

    def half_left(self) -> bool:
        """Whether more than half of the reserve is still free."""
        return self._last_free > self.reserve_bytes / 2

    def mark_low(self) -> None:
        """A write failed for want of space: wait for the reserve and a quarter more, whatever the system says."""
        self._low = True

    def make_room(self, in_use: frozenset[Path]) -> list[Path]:
        """Delete the oldest unprotected recordings until the reserve is free again; returns what was deleted."""
        deleted: list[Path] = []
        for video in list_recordings(self._config.directory, self._config.prefix):
            if self._free(self._config.directory) >= self.reserve_bytes * _HYSTERESIS:
                break
            if video not in in_use and not is_protected(video):
                delete_recording(video)
                deleted.append(video)
        return deleted
