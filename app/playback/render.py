"""Jobs over what is played, each in a thread beside the player's; and the one that renders a range into a video."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.playback.fuser import FuseSettings, PlaybackFuser
from app.playback.sources import NumberedPairs
from fusion_core.errors import LumithermError

if TYPE_CHECKING:
    from app.media.writer import VideoWriter

__all__ = ["PlaybackJob", "RenderJob"]


class PlaybackJob:
    """Works through pairs in a thread of its own. `cancel` leaves what is done. Subclasses say what `_work` does."""

    def __init__(self, name: str, open_it: Callable[[], NumberedPairs]) -> None:
        """Start at once: attributes that `_work` needs are set before.

        Args:
            name: of the thread, and what fails in the log.
            open_it: opens the source for this job alone, on the thread.
        """
        self._name, self._open_it = name, open_it
        self._cancelled = threading.Event()
        self._error = ""
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    @property
    def error(self) -> str:
        """Why it ended early; "" if it did not, or was cancelled."""
        return self._error

    @property
    def cancelled(self) -> bool:
        """Whether it was told to end early."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End after the present pair."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; False if it still runs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # shown by whoever looks at `error`
            text = str(error)
            if not isinstance(error, LumithermError):
                structlog.get_logger("playback").error(f"{self._name} failed", exc_info=error)
                text = f"unexpected: {type(error).__name__}: {error}"
            self._error = text


class RenderJob(PlaybackJob):
    """Fuses a range of a source into a video file, which plays up to where a cancelled one ended.

    Args:
        start, stop: pairs, stop excluded.
    """

    def __init__(
        self, open_it: Callable[[], NumberedPairs], settings: FuseSettings, start: int, stop: int, output: Path
    ) -> None:
        self.output = output
        self.total = max(0, stop - start)
        self._settings, self._start, self._stop = settings, start, stop
        self._done = 0
        super().__init__("render", open_it)

    @property
    def done(self) -> int:
        """Pairs that are written."""
        return self._done

    def _work(self) -> None:
        from app.media.writer import VideoWriter

        source = self._open_it()
        fuser = PlaybackFuser(self._settings, source.calibration)
        writer: VideoWriter | None = None
        try:
            zero = source.seconds(self._start)
            last_ms = -1
            for index in range(self._start, min(self._stop, len(source))):
                if self._cancelled.is_set():
                    break
                recorded = source.fused(index)
                pixels = fuser.fuse(source.pair(index), recorded).pixels
                if writer is None:
                    height, width = pixels.shape[:2]
                    writer = VideoWriter(self.output, height, width, Fraction(1, 1000))
                ms = max(last_ms + 1, round((source.seconds(index) - zero) * 1000))
                writer.write(pixels, ms, self._length_ms(source, index))
                last_ms = ms
                self._done += 1
        finally:
            if writer is not None:
                writer.close()
            fuser.close()
            source.close()

    @staticmethod
    def _length_ms(source: NumberedPairs, index: int) -> int:
        following = min(index + 1, len(source) - 1)
        return max(1, round((source.seconds(following) - source.seconds(index)) * 1000)) if following > index else 33
