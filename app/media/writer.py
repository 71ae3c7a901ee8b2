"""Encode frames into a video file that plays however the program ends.

Matroska is written in clusters of half a second that go to the disk at once, MP4 in fragments of half a second that
become an ordinary MP4 on closing: a kill or a full disk costs at most the last moments, never the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from app.media.pictures import NO_ROOM_ERRNOS, no_room_message
from fusion_core.errors import BadInputError, RecordingError

__all__ = ["VIDEO_SUFFIXES", "VideoFormat", "VideoWriter"]

VIDEO_SUFFIXES = (".mkv", ".mp4")
_KEY_FRAME_EVERY_S = 2


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """How to encode. H.264 for pictures to look at, FFV1 for lossless 8- and 16-bit thermal counts.

    codec: "libx264" or "ffv1". pixel_format: "yuv420p" takes (H, W, 3) RGB, "gray" and "gray16le" take (H, W).
    crf: x264's constant rate factor, 0 (lossless) to 51 (worst); 18 is hard to tell from the source.
    preset: x264's speed; "veryfast" leaves the processor to the network. threads: encoder threads.
    """

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    crf: int = 18
    preset: str = "veryfast"
    threads: int = 1


class VideoWriter:
    """One video file. One owner thread calls `write` and `close`.

    H.264 goes out as BT.709, limited range, and is tagged so. No B frames: stamps stay in order and less is lost at a
    kill. Odd sizes grow by one repeated row or column, since 4:2:0 needs even ones.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        time_base: Fraction,
        rate: Fraction | None = None,
        video_format: VideoFormat | None = None,
        sample_aspect_ratio: Fraction | None = None,
        metadata: dict[str, str] | None = None,
        kept: bool = True,
    ) -> None:
        """Create the file; an existing one is replaced.

        Args:
            path: .mkv or .mp4; - for Matroska on standard output.
            height, width: of the frames that will come.
            time_base: unit of the `pts` given to `write`. MP4 keeps it; Matroska stores whole milliseconds.
            rate: nominal frames a second, for the encoder's rate control only.
            kept: whether its owner keeps what was written before a failure, for the message.

        Raises:
            BadInputError: another suffix. RecordingError: the file cannot be created.
        """
        self._to_stdout = str(path) == "-"
        if not self._to_stdout and path.suffix.lower() not in VIDEO_SUFFIXES:
            raise BadInputError(f"{path}: a fused video is .mkv or .mp4, got {path.suffix or 'no suffix'!r}.")
        self.path, self._kept = path, kept
        self.frames_written = 0
        self.last_pts: int | None = None
        self._format = video_format or VideoFormat()
        self._time_base = time_base
        self._height, self._width = height, width
        self._is_yuv = self._format.pixel_format == "yuv420p"
        self._odd_rows, self._odd_columns = (height % 2, width % 2) if self._is_yuv else (0, 0)
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._container: Any = None
        try:
            self._container = (
                av.open("pipe:1", "w", format="matroska", options=self._container_options())
                if self._to_stdout
                else av.open(f"file:{path}", "w", options=self._container_options())
            )
            for key, value in (metadata or {}).items():
                self._container.metadata[key] = value
            self._stream: Any = self._add_stream(rate or Fraction(25), sample_aspect_ratio)
        except (av.error.FFmpegError, OSError) as error:
            if self._container is not None:
                self._container.close()
            raise self._failure(error) from error

    def _container_options(self) -> dict[str, str]:
        if self._to_stdout or self.path.suffix.lower() == ".mkv":
            return {"cluster_time_limit": "500", "flush_packets": "1"}
        return {
            # delay_moov writes the edit list that keeps a start later than zero
            "movflags": "+hybrid_fragmented+delay_moov",
            "frag_duration": "500000",
            "flush_packets": "1",
            "video_track_timescale": str(self._time_base.denominator),
        }

    def _add_stream(self, rate: Fraction, sample_aspect_ratio: Fraction | None) -> Any:
        chosen = self._format
        # x264 wants a rate that fits 16 bits; the time stamps do not depend on it
        nominal = Fraction(rate).limit_denominator(1001)
        options = {}
        if chosen.codec == "libx264":
            options = {"crf": str(chosen.crf), "preset": chosen.preset, "bf": "0", "rc-lookahead": "10"}
        stream = self._container.add_stream(chosen.codec, rate=nominal, options=options)
        stream.width = self._width + self._odd_columns
        stream.height = self._height + self._odd_rows
        stream.pix_fmt = chosen.pixel_format
        stream.time_base = self._time_base
        context = stream.codec_context
        context.time_base = self._time_base
        context.thread_count = chosen.threads
        context.gop_size = 1 if chosen.codec == "ffv1" else max(1, round(nominal * _KEY_FRAME_EVERY_S))
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if self._is_yuv:
            context.color_range = ColorRange.MPEG
            context.colorspace = Colorspace.ITU709
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
        return stream

    def write(self, pixels: np.ndarray, pts: int, duration: int = 0) -> None:
        """Encode one frame.

        Args:
            pixels: (H, W, 3) uint8 RGB for yuv420p; (H, W) uint8 or uint16 for the grey formats.
            pts: in `time_base`, larger than the one before.
            duration: in `time_base`; 0 where unknown. It decides how long the last frame lasts.

        Raises:
            RecordingError: the disk is full, or the encoder or the file failed.
        """
        if pixels.shape[:2] != (self._height, self._width):
            raise RecordingError(
                f"{self.path} takes {self._width}x{self._height} frames, got {pixels.shape[1]}x{pixels.shape[0]}."
            )
        if self.last_pts is not None and pts <= self.last_pts:
            raise RecordingError(f"{self.path}: time stamp {pts} does not lie after {self.last_pts}.")
        frame = self._video_frame(pixels)
        frame.pts = pts
        frame.time_base = self._time_base
        frame.duration = duration
        self._durations[pts] = duration
        try:
            self._mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        self.last_pts = pts
        self.frames_written += 1

    def _video_frame(self, pixels: np.ndarray) -> Any:
        if not self._is_yuv:
            return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=self._format.pixel_format)
        if self._odd_rows or self._odd_columns:
            pixels = cv2.copyMakeBorder(pixels, 0, self._odd_rows, 0, self._odd_columns, cv2.BORDER_REPLICATE)
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        return self._reformatter.reformat(
            rgb,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
            threads=1,
        )

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            duration = self._durations.pop(packet.pts, 0)
            if duration:
                packet.duration = duration
            self._container.mux(packet)

    def close(self) -> None:
        """Write what the encoder still holds and finish the file. Safe to call twice.

        Raises:
            RecordingError: the last frames did not fit; what was written before them plays.
        """
        container, self._container = self._container, None
        if container is None:
            return
        failure: BaseException | None = None
        try:
            if self.frames_written:
                for packet in self._stream.encode(None):
                    duration = self._durations.pop(packet.pts, 0)
                    if duration:
                        packet.duration = duration
                    container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            failure = error
        try:
            container.close()
        except (av.error.FFmpegError, OSError) as error:
            failure = failure or error
        if failure is not None:
            raise self._failure(failure) from failure

    def _failure(self, error: BaseException) -> RecordingError:
        number = getattr(error, "errno", None)
        if number in NO_ROOM_ERRNOS:
            on_disk = self.path.is_file() and self.path.stat().st_size > 0
            if not self._kept:
                remains = "Nothing of this file is kept."
            elif on_disk and self.last_pts is not None and self.last_pts * self._time_base > 1:
                remains = f"Its {self.frames_written} frames until then, but the last second, play."
            else:
                remains = "Nothing that plays was written."
            return RecordingError(no_room_message(self.path, remains))
        reason = getattr(error, "strerror", None) or str(error)
        return RecordingError(f"{self.path} cannot be written: {reason}.")
