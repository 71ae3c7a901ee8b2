"""A visible and a thermal video as pairs by number: both files are scanned once, then any frame is a seek away."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from app.media.decoded import DECODER_LIMITS
from app.media.pairing import default_max_skew_ns
from app.media.reader import VideoReader
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.frames import Frame, FrameFlag, FramePair, Stream, TimestampSource

__all__ = ["VideoFiles"]

_FORWARD = 48  # frames that are decoded on the way rather than sought


class _SeekableVideo(VideoReader):
    """A video whose frames are found by number. One thread at a time."""

    def __init__(self, path: Path, stream: Stream) -> None:
        super().__init__(path, stream)
        self.times: list[int] = self._scan()
        self._at = -1
        self._pixels_at: npt.NDArray[Any] | None = None
        self._ahead: Iterator[Any] = iter(())

    def _scan(self) -> list[int]:
        """Stamps of all frames in stream units, in order; reads the packets once without decoding."""
        times: set[int] = set()
        last: int | None = None
        starts_over = False
        with av.open(f"file:{self.path}", options=dict(DECODER_LIMITS), metadata_errors="replace") as container:
            try:
                for packet in container.demux(container.streams.video[0]):
                    if packet.dts is not None:
                        starts_over = starts_over or (last is not None and packet.dts < last)
                        last = packet.dts
                    if packet.pts is not None:
                        times.add(packet.pts)
            except av.error.FFmpegError as error:
                self._notes.append(f"{self.path.name} breaks off: {error.strerror}")
        if starts_over:
            raise BadInputError(
                f"{self.path} is joined from files, its clock starts over; `ffmpeg -i IN OUT.mkv` makes one file of it"
            )
        if not times or self._times.by_rate:
            raise BadInputError(f"{self.path} has no time stamps; `ffmpeg -i IN -c copy OUT.mkv` writes new ones")
        return sorted(times)

    def time_ns(self, number: int) -> int:
        """Stamp of a frame."""
        return round((self.times[number] - self._times.begins) * self.time_base * 1_000_000_000)

    def picture(self, number: int) -> npt.NDArray[Any]:
        """The frame's pixels, as `VideoReader` gives them.

        Raises:
            RecordingError: it cannot be decoded.
        """
        if number == self._at and self._pixels_at is not None:
            return self._pixels_at
        wanted = self.times[number]
        if not 0 <= self._at < number <= self._at + _FORWARD:
            self._container.seek(wanted, stream=self._av_stream, backward=True)
            self._av_stream.codec_context.flush_buffers()
            self._ahead = self._decode()
        for decoded in self._ahead:
            if decoded.pts is not None and decoded.pts >= wanted:
                self._at, self._pixels_at = number, self.pixels(decoded)
                return self._pixels_at
        self._at = -1
        raise RecordingError(f"{self.path}: the frame at {self.time_ns(number) / 1e9:.3f} s cannot be decoded")


class VideoFiles:
    """Two videos paired by time: each visible frame with the nearest thermal one. They are `NumberedPairs`.

    Raises:
        BadInputError: a file is no video, or has no time stamps.
    """

    def __init__(self, visible: Path, thermal: Path) -> None:
        self._visible = _SeekableVideo(visible, Stream.VISIBLE)
        try:
            self._thermal = _SeekableVideo(thermal, Stream.THERMAL)
        except BaseException:
            self._visible.close()
            raise
        self.name = f"{visible.name} + {thermal.name}"
        self.calibration: Path | None = None
        self.config: dict[str, Any] = {}
        self._thermal_ns = [self._thermal.time_ns(number) for number in range(len(self._thermal.times))]
        self._most_ns = default_max_skew_ns(self._thermal.rate)

    def __len__(self) -> int:
        return len(self._visible.times)

    def seconds(self, index: int) -> float:
        """Time of a pair since the first one."""
        return (self._visible.time_ns(index) - self._visible.time_ns(0)) / 1e9

    def pair(self, index: int) -> FramePair:
        """The visible frame and the thermal one nearest in time; without thermal where none is near."""
        visible = self._frame(self._visible, Stream.VISIBLE, index)
        now = visible.timestamp_ns
        after = bisect_left(self._thermal_ns, now)
        near = [number for number in (after - 1, after) if 0 <= number < len(self._thermal_ns)]
        best = min(near, key=lambda number: abs(self._thermal_ns[number] - now))
        if abs(self._thermal_ns[best] - now) > self._most_ns:
            return FramePair(visible, None, FrameFlag.VISIBLE_ONLY)
        return FramePair(visible, self._frame(self._thermal, Stream.THERMAL, best))

    def fused(self, index: int) -> npt.NDArray[np.uint8] | None:
        """Two plain videos hold no fused picture."""
        return None

    def close(self) -> None:
        """Close both files."""
        self._visible.close()
        self._thermal.close()

    @staticmethod
    def _frame(video: _SeekableVideo, stream: Stream, number: int) -> Frame:
        return Frame(stream, video.picture(number), number, video.time_ns(number), TimestampSource.FILE)
