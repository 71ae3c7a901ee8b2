"""Decodes the pictures of one track of a recording, by their stamps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np

from app.media.decoded import bound_decoder
from app.recording.config import TrackName
from app.recording.encoders import OWN_CRC
from app.recording.sidecar import HeaderLine
from app.recording.video_scan import TrackScan, open_video
from fusion_core.errors import BadInputError, RecordingError

__all__ = ["TrackReader", "picture_size"]

_SCAN_FORWARD_MS = 2000  # nearer targets ahead are reached by decoding on, others by a seek


def picture_size(header: HeaderLine | None, track: TrackScan) -> tuple[int, int]:
    """Height and width of a track's pictures: the header's if they can be true (the coded ones less at most 1 px)."""
    for info in header.tracks if header is not None else ():
        if info.name == track.name and 0 <= track.height - info.height <= 1 and 0 <= track.width - info.width <= 1:
            return info.height, info.width
    return track.height, track.width


class TrackReader:
    """Decodes one track; keeps the last picture. Not thread-safe.

    Args:
        height, width: of the pictures; the coded ones may be a row or column larger.
    """

    def __init__(self, path: Path, track: TrackScan, height: int, width: int) -> None:
        self._path, self._track = path, track
        self._height, self._width = height, width
        self._container = open_video(path)
        stream = self._container.streams[track.stream_index]
        if not isinstance(stream, av.VideoStream):
            raise BadInputError(f"{path}: the {track.name} track is no video")
        self._stream = stream
        bound_decoder(stream.codec_context, f"{path}: the {track.name} track")
        self._stream.thread_type = "SLICE"  # frame threads would decode ahead of what is asked for
        self._own_crc = track.codec == OWN_CRC
        self._frames: Iterator[tuple[av.VideoFrame, int | None]] = iter(())
        self._at_ms = -1
        self._pixels: np.ndarray | None = None

    def picture(self, ms: int) -> np.ndarray:
        """The picture stamped `ms`: (H, W, 3) uint8 RGB, or thermal (H, W) uint16 or uint8, bit-exact.

        Raises:
            RecordingError: it is not there, or it is damaged.
        """
        if ms == self._at_ms and self._pixels is not None:
            return self._pixels
        forward = self._at_ms >= 0 and self._at_ms < ms <= self._at_ms + _SCAN_FORWARD_MS
        if not forward:
            self._seek(ms)
        pixels = self._decode_to(ms)
        if pixels is None and forward:
            self._seek(ms)
            pixels = self._decode_to(ms)
        if pixels is None:
            raise RecordingError(
                f"{self._path}: the {self._track.name} picture at {ms / 1000:.3f} s cannot be decoded; "
                "lumitherm recording check FILE lists what is damaged"
            )
        return pixels

    def _seek(self, ms: int) -> None:
        try:
            time_base = self._stream.time_base or 1
            self._container.seek(round(ms / 1000 / time_base), stream=self._stream, backward=True)
        except av.error.FFmpegError as error:
            raise RecordingError(f"{self._path}: no way to {ms / 1000:.3f} s: {error}") from error
        self._frames = self._decoded()
        self._at_ms = -1

    def _decoded(self) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Frames from here on, each with the checksum that its packet tells of its pixels."""
        for packet in self._container.demux(self._stream):
            crc = int.from_bytes(memoryview(packet)[-4:], "little") if self._own_crc and packet.size else None
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    yield frame, crc

    def _decode_to(self, ms: int) -> np.ndarray | None:
        try:
            for frame, crc in self._frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                at_ms = round(frame.pts * frame.time_base * 1000)
                if at_ms < ms:
                    continue
                self._at_ms = at_ms
                self._pixels = self._to_pixels(frame)
                if crc is not None and zlib.crc32(self._pixels.data) != crc:
                    raise ValueError("the picture's checksum is wrong")
                return self._pixels if at_ms == ms else None
        except (av.error.FFmpegError, ValueError) as error:
            self._at_ms = -1
            raise RecordingError(
                f"{self._path}: the {self._track.name} track is damaged near {ms / 1000:.3f} s: {error}"
            ) from error
        return None

    def _to_pixels(self, frame: av.VideoFrame) -> np.ndarray:
        if frame.is_corrupt:
            raise ValueError("the picture's checksum is wrong")
        if (frame.height, frame.width) != (self._track.height, self._track.width):
            raise ValueError(
                f"a picture of {frame.height}x{frame.width} among {self._track.height}x{self._track.width}"
            )
        pixels: np.ndarray
        if self._track.name is TrackName.THERMAL:
            pixels = frame.to_ndarray()
        else:
            pixels = frame.reformat(
                format="rgb24", src_colorspace="ITU709", src_color_range="MPEG", dst_color_range="JPEG"
            ).to_ndarray()
        pixels = np.ascontiguousarray(pixels[: self._height, : self._width])
        pixels.flags.writeable = False
        return pixels

    def close(self) -> None:
        self._container.close()
