"""Where the pictures of a fuse job go: picture files, or one video."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from app.jobs.sources import TimedPair, VideoTiming
from app.media.pictures import encode_picture, write_picture
from app.media.writer import VideoFormat, VideoWriter

__all__ = ["PictureSink", "Sink", "VideoSink"]


class Sink(Protocol):
    """Takes the composed pictures of a job. One thread at a time."""

    path: Path
    kept: bool  # whether what was written before a failure stays

    @property
    def written(self) -> int:
        """Pictures that are complete."""
        ...

    def write(self, shown: np.ndarray, timed: TimedPair, engine: str) -> None:
        """Write (H, W, 3) uint8 RGB of this pair. Raises RecordingError."""

    def close(self) -> None:
        """Finish the output. Raises RecordingError."""

    def discard(self) -> None:
        """Remove the output after `close`."""


class PictureSink:
    """Writes each pair's picture into its file. `path`: the file, or the folder of all."""

    kept = True

    def __init__(self, path: Path, targets: Sequence[Path]) -> None:
        self.path, self._targets = path, targets
        self.written = 0

    def write(self, shown: np.ndarray, timed: TimedPair, engine: str) -> None:
        """See `Sink`; the pair's `pts` is the number of its target."""
        target = self._targets[timed.pts]
        if str(target) == "-":
            sys.stdout.buffer.write(encode_picture(shown, ".png", "standard output"))
            sys.stdout.buffer.flush()
        else:
            write_picture(target, shown)
        self.written += 1

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def discard(self) -> None:
        """Pictures stand for themselves: nothing is removed."""


class VideoSink:
    """Writes one video (.mkv or .mp4), made when the first picture comes; none is left without a picture.

    Args:
        metadata: gives the tags of the file from the engine's name.
        threads: of the encoder; None = by the size of the pictures.
        kept: whether what was written before a failure stays.
    """

    def __init__(
        self,
        path: Path,
        timing: VideoTiming,
        metadata: Callable[[str], dict[str, str]],
        crf: int = 18,
        threads: int | None = None,
        kept: bool = True,
    ) -> None:
        self.kept = kept
        self.path, self._timing, self._metadata = path, timing, metadata
        self._crf, self._threads = crf, threads
        self._writer: VideoWriter | None = None

    @property
    def written(self) -> int:
        """Pictures that were encoded."""
        return self._writer.frames_written if self._writer is not None else 0

    def write(self, shown: np.ndarray, timed: TimedPair, engine: str) -> None:
        """See `Sink`."""
        if self._writer is None:
            height, width = shown.shape[:2]
            self._writer = VideoWriter(
                self.path,
                height,
                width,
                self._timing.time_base,
                self._timing.rate,
                VideoFormat(crf=self._crf, threads=self._threads or _encoder_threads(height, width)),
                self._timing.sample_aspect_ratio,
                self._metadata(engine),
                self.kept,
            )
        self._writer.write(shown, timed.pts, timed.duration)

    def close(self) -> None:
        """See `Sink`."""
        if self._writer is not None:
            self._writer.close()
            if not self._writer.frames_written:
                self.discard()

    def discard(self) -> None:
        """See `Sink`."""
        if str(self.path) != "-":
            self.path.unlink(missing_ok=True)


def _encoder_threads(height: int, width: int) -> int:
    if height * width <= 1280 * 720:
        return 1
    return max(1, min(8, (os.cpu_count() or 1) // 4))
