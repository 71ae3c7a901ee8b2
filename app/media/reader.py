"""Decode one video or numbered picture sequence into frames that carry their own time stamps.

Time stamps are the file's presentation times, never an index times a nominal rate. Threads: a reader has one owner
thread, which may be another one than the thread that opened it, but never two at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from app.media.pictures import is_picture, read_thermal_picture, read_visible_picture
from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, Stream, TimestampSource

__all__ = ["FrameReader", "MediaFrame", "SequenceReader", "VideoReader", "is_sequence", "open_reader"]

_FALLBACK_RATE = Fraction(25)
_MOST_BAD_PACKETS_IN_A_ROW = 100
# Matrix coefficients as numbered by ITU-T H.273 -> what swscale calls them.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_PLANAR_LUMA = re.compile(r"^(yuv[aj]?4\d\dp|nv\d\d|gray|p01|p21|p41)")
_LIMITED_TO_FULL = np.clip(np.round((np.arange(256) - 16.0) * (255.0 / 219.0)), 0, 255).astype(np.uint8)
# Full chroma interpolation on top costs about 2.5 ms more a 640x480 frame on one core.
_RESAMPLING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND


@dataclass(frozen=True, slots=True, eq=False)
class MediaFrame:
    """A frame and the stamp it has in its file: `pts` and `duration` in units of the reader's `time_base`.

    duration is 0 where the file does not give it.
    """

    frame: Frame
    pts: int
    duration: int


class FrameReader(Protocol):
    """What pairing and the fuse job need of a source of frames."""

    path: Path
    height: int
    width: int
    time_base: Fraction
    rate: Fraction | None  # average frames a second, None when the file does not tell
    expected_frames: int | None  # for a progress bar; may be off
    start_s: float
    end_s: float | None  # as the file declares it; None when it does not
    sample_aspect_ratio: Fraction | None
    damage: str | None  # set at the end of `frames` when the file broke off early
    notes: list[str]  # one line each, for the report

    def frames(self) -> Iterator[MediaFrame]:
        """All frames in order of time, strictly increasing stamps. Runs once."""

    def close(self) -> None:
        """Close the file. Safe to call twice."""


def is_sequence(path: Path) -> bool:
    """Whether the path is a pattern of numbered pictures such as `frames/%05d.png`."""
    return re.search(r"%0?\d*d", path.name) is not None


def open_reader(path: Path, stream: Stream, sequence_fps: float = 25.0, threads: int = 1) -> FrameReader:
    """Open a video file, or a numbered sequence when the name holds a `%d` pattern.

    Raises:
        BadInputError: missing, empty, not a video, no frame in it.
    """
    if is_sequence(path):
        return SequenceReader(path, stream, sequence_fps)
    return VideoReader(path, stream, threads)


class VideoReader:
    """Decode the first video stream of any container and codec that FFmpeg reads.

    Visible: RGB, by the matrix and range that the file declares; where it declares none, BT.709 from 720 lines up
    and BT.601 below, limited range. The display rotation of phones is applied. Thermal: grey 8 bit unchanged, grey 9
    to 16 bit as uint16 counts, colour formats their luma (limited range widened to 0..255).
    """

    def __init__(self, path: Path, stream: Stream, threads: int = 1) -> None:
        """Open the file and decode its first frame.

        Args:
            threads: decoder threads. 1 leaves the other cores to the network.

        Raises:
            BadInputError: the file is missing, empty, no video, or its first frame cannot be decoded.
        """
        self.path = path
        self.notes: list[str] = []
        self.damage: str | None = None
        self._stream = stream
        self._index = 0
        self._bad_packets = 0
        self._repeated_stamps = 0
        self._is_end_certain = True
        self._resized = 0
        self._container: Any = _open_container(path)
        try:
            self._open_stream(threads)
        except BaseException:
            self.close()
            raise

    def _open_stream(self, threads: int) -> None:
        candidates = [s for s in self._container.streams.video if s.codec_context is not None]
        if not candidates or candidates[0].codec_context.name == "ansi":
            raise BadInputError(f"{self.path} holds no video stream that can be decoded.")
        self._av_stream: Any = candidates[0]
        self._av_stream.codec_context.thread_count = threads
        self.time_base: Fraction = self._av_stream.time_base
        self.rate: Fraction | None = self._av_stream.average_rate or self._av_stream.guessed_rate or None
        self.sample_aspect_ratio: Fraction | None = self._av_stream.sample_aspect_ratio or None
        self._reformatter = VideoReformatter()
        self._decoded = self._decode()
        self._first: Any = next(self._decoded, None)
        if self._first is None:
            raise BadInputError(
                f"{self.path} holds no frame that can be decoded: it is damaged or was cut off at the start."
            )
        self.height, self.width = 0, 0
        self.height, self.width = self._pixels(self._first).shape[:2]
        self.start_s = float((self._first.pts or 0) * self.time_base)
        duration_s = self._declared_duration_s()
        self.end_s: float | None = None if duration_s is None else self.start_s + duration_s
        self.expected_frames: int | None = self._av_stream.frames or None
        if self.expected_frames is None and duration_s is not None and self.rate:
            self.expected_frames = max(1, round(duration_s * self.rate))
        self._say_if_coloured()

    def _declared_duration_s(self) -> float | None:
        if self._av_stream.duration:
            return float(self._av_stream.duration * self.time_base)
        tag = self._av_stream.metadata.get("DURATION")  # Matroska: "00:00:04.040000000"
        if tag and (match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", tag.strip("\0 "))):
            hours, minutes, seconds = match.groups()
            # Matroska counts it from time zero, not from the first frame.
            return max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - self.start_s)
        if self._container.duration:  # may be a longer sound track's
            self._is_end_certain = len(self._container.streams) == 1
            return float(self._container.duration / av.time_base)
        return None

    def _decode(self) -> Iterator[Any]:
        bad_in_a_row = 0
        packets = self._container.demux(self._av_stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self.damage = f"{self.path} is damaged: {error.strerror}"
                packet = None  # flushes the decoder
            try:
                decoded = self._av_stream.codec_context.decode(packet)
                bad_in_a_row = 0
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self._bad_packets += 1
                bad_in_a_row += 1
                decoded = []
                if bad_in_a_row >= _MOST_BAD_PACKETS_IN_A_ROW:
                    self.damage = f"{self.path} is damaged: {error.strerror} {bad_in_a_row} times in a row"
            yield from decoded
            if self.damage is not None:
                return

    def frames(self) -> Iterator[MediaFrame]:
        """See FrameReader. A frame whose stamp does not lie after the one before it is left out and counted."""
        previous_pts: int | None = None
        end_s = self.start_s
        first, self._first = self._first, None
        step = max(1, round(1 / ((self.rate or _FALLBACK_RATE) * self.time_base)))
        for decoded in (frame for part in ([first], self._decoded) for frame in part):
            pts = decoded.pts
            if pts is None:
                pts = 0 if previous_pts is None else previous_pts + step
            if previous_pts is not None and pts <= previous_pts:
                self._repeated_stamps += 1
                continue
            previous_pts = pts
            duration = int(decoded.duration or 0)
            end_s = float((pts + (duration or step)) * self.time_base)
            yield MediaFrame(self._frame(decoded, pts), pts, duration)
        self._finish(end_s)

    def _frame(self, decoded: Any, pts: int) -> Frame:
        frame = Frame(
            stream=self._stream,
            pixels=self._pixels(decoded),
            index=self._index,
            timestamp_ns=round(pts * self.time_base * 1_000_000_000),
            ts_source=TimestampSource.FILE,
        )
        self._index += 1
        return frame

    def _finish(self, end_s: float) -> None:
        frame_s = float(1 / (self.rate or _FALLBACK_RATE))
        missing_s = 0.0 if self.end_s is None or not self._is_end_certain else self.end_s - end_s
        if self.damage is None and missing_s > max(3 * frame_s, 0.02 * (end_s - self.start_s)):
            self.damage = (
                f"{self.path} breaks off: {self._index} frames until {end_s:.2f} s can be read, "
                f"but it says that it lasts until {self.end_s:.2f} s"
            )
        elif self.damage is not None:
            self.damage += f", after {self._index} frames ({end_s:.2f} s)"
        if self._bad_packets:
            self.notes.append(f"{self.path.name}: {self._bad_packets} damaged packets were skipped")
        if self._repeated_stamps:
            self.notes.append(
                f"{self.path.name}: {self._repeated_stamps} frames without a later time stamp than the one before "
                "were left out"
            )
        if self._resized:
            self.notes.append(
                f"{self.path.name}: {self._resized} frames of another size were brought to {self.width}x{self.height}"
            )

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _pixels(self, decoded: Any) -> np.ndarray:
        pixels = self._visible(decoded) if self._stream is Stream.VISIBLE else self._thermal(decoded)
        turns = round(decoded.rotation / 90) % 4  # degrees counter-clockwise, as np.rot90 counts
        if turns:
            pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        if self.height and pixels.shape[:2] != (self.height, self.width):
            self._resized += 1
            pixels = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return pixels

    def _to_rgb(self, decoded: Any) -> np.ndarray:
        if decoded.format.name.startswith(("rgb", "bgr", "gbr", "pal8", "gray", "argb", "abgr", "0rgb", "0bgr")):
            rgb = self._reformatter.reformat(decoded, format="rgb24", interpolation=_RESAMPLING, threads=1)
        else:
            is_large = decoded.height > 576 or decoded.width >= 1280
            guessed = Colorspace.ITU709 if is_large else Colorspace.ITU601
            rgb = self._reformatter.reformat(
                decoded,
                format="rgb24",
                src_colorspace=_MATRICES.get(int(decoded.colorspace), guessed),
                src_color_range=ColorRange.JPEG if _is_full_range(decoded) else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=_RESAMPLING,
                threads=1,
            )
        return np.asarray(rgb.to_ndarray())

    def _visible(self, decoded: Any) -> np.ndarray:
        return self._to_rgb(decoded)

    def _thermal(self, decoded: Any) -> np.ndarray:
        name: str = decoded.format.name
        bits = int(decoded.format.components[0].bits)
        if not _PLANAR_LUMA.match(name):
            rgb = self._to_rgb(decoded)
            if np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2]):
                return np.ascontiguousarray(rgb[..., 0])
            luma = rgb.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
            return np.asarray(np.round(luma).astype(np.uint8))
        luma_plane = _plane(decoded, 0, bits, decoded.width, decoded.height)
        if bits > 8:
            if name.startswith("p01"):  # p010 and p016 hold their bits at the upper end
                luma_plane = luma_plane >> (16 - bits)
            return luma_plane
        is_limited = (
            int(decoded.color_range) == ColorRange.MPEG if name.startswith("gray") else not _is_full_range(decoded)
        )
        return cv2.LUT(luma_plane, _LIMITED_TO_FULL) if is_limited else luma_plane

    def _say_if_coloured(self) -> None:
        if self._stream is not Stream.THERMAL:
            return
        rgb = self._to_rgb(self._first).astype(np.int16)
        spread = float((rgb.max(axis=2) - rgb.min(axis=2)).mean())
        if spread > 12:
            self.notes.append(
                f"{self.path.name}: the thermal video is coloured (a palette?); its brightness is used, which need not "
                "rise with temperature. A grey export fuses better."
            )


def _is_full_range(decoded: Any) -> bool:
    return bool(decoded.format.name.startswith("yuvj") or int(decoded.color_range) == ColorRange.JPEG)


def _plane(decoded: Any, number: int, bits: int, width: int, height: int) -> np.ndarray:
    """A copy of one plane: (height, width) uint8, or uint16 for more than 8 bits."""
    plane = decoded.planes[number]
    wide = ">u2" if decoded.format.is_big_endian else "<u2"
    dtype: np.dtype[Any] = np.dtype(wide if bits > 8 else np.uint8)
    rows = np.frombuffer(plane, dtype=dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[:height, :width].astype(np.uint16 if bits > 8 else np.uint8)


def _open_container(path: Path) -> Any:
    if "://" not in str(path):
        if not path.exists():
            raise BadInputError(f"{path} does not exist. Check the name.")
        if path.is_file() and path.stat().st_size == 0:
            raise BadInputError(f"{path} is empty (0 bytes). Was it copied completely?")
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInputError(
            f"{path} cannot be read as a video: {reason}. It is another kind of file, or its recording or copy "
            "was cut off."
        ) from error


class SequenceReader:
    """Numbered pictures as a video: `frames/%05d.png`. Frame n lies at n / fps, so a missing number is a gap."""

    def __init__(self, path: Path, stream: Stream, sequence_fps: float) -> None:
        """List the pictures and read the first.

        Raises:
            BadInputError: no picture fits the pattern, or the first cannot be read.
        """
        self.path = path
        self.notes: list[str] = []
        self.damage: str | None = None
        self.sample_aspect_ratio: Fraction | None = None
        self._stream = stream
        numbered = _numbered_files(path)
        self._numbered = numbered
        self.rate: Fraction | None = Fraction(sequence_fps).limit_denominator(1_001_000)
        self.time_base = 1 / self.rate
        self.height, self.width = self._read(numbered[0][1]).shape[:2]
        self.expected_frames: int | None = len(numbered)
        self.start_s = float(numbered[0][0] * self.time_base)
        self.end_s: float | None = float((numbered[-1][0] + 1) * self.time_base)

    def _read(self, path: Path) -> np.ndarray:
        return read_visible_picture(path) if self._stream is Stream.VISIBLE else read_thermal_picture(path)

    def frames(self) -> Iterator[MediaFrame]:
        """See FrameReader. A picture of another size than the first is brought to that size."""
        resized = 0
        for index, (number, path) in enumerate(self._numbered):
            pixels = self._read(path)
            if pixels.shape[:2] != (self.height, self.width):
                resized += 1
                pixels = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
            time_ns = round(number * self.time_base * 1_000_000_000)
            yield MediaFrame(Frame(self._stream, pixels, index, time_ns, TimestampSource.FILE), number, 1)
        if resized:
            self.notes.append(f"{self.path}: {resized} pictures of another size were brought to the first one's")

    def close(self) -> None:
        """Nothing stays open between two pictures."""


def _numbered_files(pattern: Path) -> list[tuple[int, Path]]:
    if not is_picture(pattern):
        raise BadInputError(f"{pattern}: a numbered sequence is made of pictures, for example frames/%05d.png")
    match = re.search(r"%0?(\d*)d", pattern.name)
    if match is None:
        raise BadInputError(f"{pattern} is no pattern: it needs %d or %05d where the number stands.")
    before, after = re.escape(pattern.name[: match.start()]), re.escape(pattern.name[match.end() :])
    digits = rf"\d{{{int(match.group(1))},}}" if match.group(1) else r"\d+"
    wanted = re.compile(f"{before}({digits}){after}")
    try:
        names = [path for path in pattern.parent.iterdir() if path.is_file()]
    except OSError as error:
        raise BadInputError(f"folder {pattern.parent} cannot be read: {error.strerror}.") from error
    found = sorted((int(hit.group(1)), path) for path in names if (hit := wanted.fullmatch(path.name)))
    if not found:
        raise BadInputError(f"no picture fits {pattern}. Is the number of digits right?")
    return found
