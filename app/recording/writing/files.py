"""The file that is being written, and the one before it for as long as late pictures belong there."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.recording.config import RecordingConfig, TrackName
from app.recording.encoders import StreamParams
from app.recording.segments import EncodedPicture, Layout, Segment, SegmentInfo
from app.recording.sidecar import GapLine

__all__ = ["Files"]

_FULL = 0.9  # of what a reader takes of a sidecar
_LATE_S = 2.0  # for fused pictures of before a split to come


class Files:
    """Not thread-safe; owner: the recorder's thread. What writes may raise DiskWriteError: call `abandon` then.

    Args:
        closed: called after a file was closed; the info says why, and what the disk did not take.
    """

    def __init__(self, config: RecordingConfig, closed: Callable[[Segment], None]) -> None:
        self._config, self._closed = config, closed
        self.current: Segment | None = None
        self.finished: list[SegmentInfo] = []
        self._ending: Segment | None = None
        self._ending_since_s = 0.0
        self._ending_reason = ""
        self._first_round = 0  # of the current file
        self._newest_round = 0
        self._entered: set[TrackName] = set()  # tracks with a picture in the current file

    @property
    def count(self) -> int:
        """Files so far."""
        return len(self.finished) + sum(segment is not None for segment in (self._ending, self.current))

    @property
    def name(self) -> str | None:
        """Of the recording: its first file's."""
        if self.finished:
            return self.finished[0].path.stem
        first = self._ending or self.current
        return first.info.path.stem if first is not None else None

    @property
    def infos(self) -> list[SegmentInfo]:
        """Of all files, oldest first."""
        return [*self.finished, *(s.info for s in (self._ending, self.current) if s is not None)]

    def begin(self, segment: Segment, picture: EncodedPicture) -> None:
        """Write into this file from the picture's round on."""
        self.current = segment
        self._first_round = self._newest_round = picture.round
        self._entered = set()

    def belongs_before(self, picture: EncodedPicture) -> bool:
        """Whether it belongs before the current file."""
        return self.current is not None and picture.round < self._first_round

    def write_late(self, picture: EncodedPicture) -> GapLine | None:
        """Write a picture that belongs before the current file; a gap where that is closed already."""
        if self._ending is None and not self.finished:
            return None  # fused from before the recording
        if self._ending is None or _of(self._ending.layout, picture.track) != _of(picture.layout, picture.track):
            return GapLine("late", picture.t_ns, picture.t_ns, track=str(picture.track), frames=1)
        self._ending.write(picture)
        return None

    def write(self, picture: EncodedPicture) -> None:
        """Write a picture into the current file."""
        assert self.current is not None  # by begin; for the type checker
        self.current.write(picture)
        self._newest_round = max(self._newest_round, picture.round)
        self._entered.add(picture.track)
        if self._ending is not None and self._entered >= {params.track for params in self._ending.layout}:
            self._close_ending()

    def turn_reason(self, picture: EncodedPicture, layout: Layout) -> str:
        """Why a new file begins with this picture: layout, clock, split; "" if it goes into the current one."""
        current = self.current
        if current is None:
            return ""
        if layout != current.layout:
            return "layout"
        if not picture.fresh or picture.round <= self._newest_round:
            return ""
        if picture.fell:
            return "clock"
        return "split" if self.over_limit() else ""

    def over_limit(self) -> bool:
        """Whether the current file has reached its longest or largest."""
        current = self.current
        if current is None:
            return False
        by_time = self._config.split_s > 0 and current.age_s >= self._config.split_s
        by_size = self._config.split_mb > 0 and current.size >= self._config.split_mb * 1e6
        return by_time or by_size or current.sidecar_fill > _FULL

    def turn(self, reason: str) -> None:
        """End the current file; it still takes pictures that are late for a moment."""
        self._close_ending()
        self._ending, self.current = self.current, None
        self._ending_since_s, self._ending_reason = time.monotonic(), reason

    def tick(self) -> None:
        """Write what has waited long enough, and close the file before when nothing more is to be expected."""
        for segment in (self._ending, self.current):
            if segment is not None:
                segment.flush_due()
        if self._ending is not None and time.monotonic() - self._ending_since_s > _LATE_S:
            self._close_ending()

    def sync(self) -> None:
        """Have the disk hold everything so far."""
        for segment in (self._ending, self.current):
            if segment is not None:
                segment.sync()

    def close(self, reason: str) -> None:
        """Close what is open."""
        self._close_ending()
        segment, self.current = self.current, None
        if segment is not None:
            self._finish(segment, segment.close(reason))

    def abandon(self) -> None:
        """Close what is open after a write error."""
        segments, self._ending, self.current = (self._ending, self.current), None, None
        for segment in segments:
            if segment is not None:
                self.finished.append(segment.abandon())

    def _close_ending(self) -> None:
        segment, self._ending = self._ending, None
        if segment is not None:
            self._finish(segment, segment.close(self._ending_reason))

    def _finish(self, segment: Segment, info: SegmentInfo) -> None:
        self.finished.append(info)
        self._closed(segment)


def _of(layout: Layout, track: TrackName) -> StreamParams | None:
    """What a file's header says of a track; None where it is not in the file."""
    return next((params for params in layout if params.track is track), None)
