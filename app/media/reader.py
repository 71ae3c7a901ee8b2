"""Decode one video or numbered picture sequence into frames that carry their own time stamps.

Time stamps are the file's presentation times, never an index times a nominal rate. Threads: a reader has one owner
thread, which may be another one than the thread that opened it, but never two at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np

from app.media.decoded import DECODER_LIMITS, FrameConverter, bound_decoder
from app.media.geometry import MediaInput, frame_orientation, parse_media_input
from app.media.pictures import read_picture
from app.media.stamps import FrameTimes
from fusion_core.errors import BadInputError, DamagedInputError
from fusion_core.frames import Frame, Stream, TimestampSource
from fusion_core.picture_file import COUNTS, PictureReader, ValueScale, is_picture

__all__ = ["FrameReader", "MediaFrame", "SequenceReader", "VideoReader", "is_sequence", "open_reader"]

_FALLBACK_RATE = Fraction(25)
_MOST_BAD_PACKETS_IN_A_ROW = 100
_VIDEO_HEADS = (b"\x1a\x45\xdf\xa3", b"RIFF", b"\x47\x40")  # Matroska, AVI, transport stream; MP4 has ftyp
_MANY_SKIPPED = 0.05  # share of damaged packets from which on the result is not called whole


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
    begins_s: float  # the file's own clock at its start, which counts as 0
    scale: ValueScale  # what the counts of thermal frames mean in the file's own unit

    @property
    def notes(self) -> list[str]:
        """One line each, for the report."""
        ...

    def frames(self) -> Iterator[MediaFrame]:
        """All frames in order of time, strictly increasing stamps. Runs once."""

    def close(self) -> None:
        """Close the file. Safe to call twice."""


def is_sequence(path: Path) -> bool:
    """Whether the path is a pattern of numbered pictures such as `frames/%05d.png`."""
    try:
        return re.search(r"%0?\d*d", path.name) is not None and not path.exists()
    except OSError:  # a name that is too long
        return False


def open_reader(
    given: Path, stream: Stream, sequence_fps: float = 25.0, threads: int = 1, accept_colour: bool = False
) -> FrameReader:
    """Open a video file, or a numbered sequence when the name holds a `%d` pattern and no file has this name.

    given: also with options, see `parse_media_input`.

    Raises:
        BadInputError: missing, empty, not a video, no frame in it.
    """
    source = parse_media_input(given)
    if is_sequence(source.path):
        return SequenceReader(source, stream, sequence_fps, accept_colour)
    return VideoReader(source, stream, threads, accept_colour)


class VideoReader:
    """Decode one video track of any container and codec that FFmpeg reads; see `FrameConverter` for the pixels.

    Time zero is the container's start, which is no delay of the camera; `pts` stay the file's own. See `FrameTimes`.
    """

    scale = COUNTS

    def __init__(
        self,
        given: Path | MediaInput,
        stream: Stream,
        threads: int = 1,
        accept_colour: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Open the file and decode its first frame.

        Args:
            threads: decoder threads. 1 leaves the other cores to the network; 0 takes as many as there are.
            options: of FFmpeg, handed on as they are.

        Raises:
            BadInputError: the file is missing, empty, no video, or its first frame cannot be decoded.
        """
        source = given if isinstance(given, MediaInput) else parse_media_input(given)
        self.path = source.path
        self.damage: str | None = None
        self.skipped_packets = 0
        self._notes: list[str] = []
        self._stream = stream
        self._cut = source.cut
        self._converter = FrameConverter(stream, source.path.name, accept_colour, source.cut)
        self._count = 0
        self._is_end_certain = True
        self._resized = 0
        self._container: Any = _open_container(source.path, options or {})
        try:
            self._open_stream(source.track, threads)
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """See `FrameReader`."""
        return [*self._notes, *self._converter.notes]

    def _open_stream(self, track: int, threads: int) -> None:
        candidates = [s for s in self._container.streams.video if s.codec_context is not None]
        if not candidates or candidates[0].codec_context.name == "ansi":
            raise BadInputError(f"{self.path} holds no video stream that can be decoded.")
        if track >= len(candidates):
            raise BadInputError(
                f"{self.path} has {len(candidates)} video track(s), track {track} is not there (they count from 0)"
            )
        self.tracks = len(candidates)
        self._av_stream: Any = candidates[track]
        context = self._av_stream.codec_context
        context.thread_count = threads
        bound_decoder(context, str(self.path))
        self._times = FrameTimes(self._container, self._av_stream)
        self.time_base: Fraction = self._times.time_base
        self.rate: Fraction | None = self._times.rate
        self.begins_s = float(self._times.begins * self.time_base)
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise DamagedInputError(
                f"{self.path} holds no frame that can be decoded: it is damaged or was cut off at the start."
            )
        self._first: tuple[Any, int] | None = (first, self._times.stamp(first))
        self.height, self.width = 0, 0
        self.height, self.width = self.pixels(first).shape[:2]
        self.sample_aspect_ratio: Fraction | None = self._shown_aspect(first)
        self.start_s = float((self._first[1] - self._times.begins) * self.time_base)
        duration_s = self._declared_duration_s()
        self.end_s: float | None = None if duration_s is None else self.start_s + duration_s
        self.expected_frames: int | None = self._av_stream.frames or None
        if self.expected_frames is None and duration_s is not None and self.rate:
            self.expected_frames = max(1, round(duration_s * self.rate))

    def _shown_aspect(self, decoded: Any) -> Fraction | None:
        aspect: Fraction | None = self._av_stream.sample_aspect_ratio or None
        is_quarter = (frame_orientation(decoded) >= 5) != (self._cut.rotate in (90, 270))
        return 1 / aspect if aspect and is_quarter else aspect

    def _declared_duration_s(self) -> float | None:
        if self._times.by_rate:
            return None
        if self._av_stream.duration:
            return float(self._av_stream.duration * self._av_stream.time_base)
        tag = self._av_stream.metadata.get("DURATION")  # Matroska: "00:00:04.040000000"
        if tag and (match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", tag.strip("\0 "))):
            hours, minutes, seconds = match.groups()
            # Matroska counts it from time zero, not from the first frame.
            whole_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            return max(0.0, whole_s - self.start_s - self.begins_s)
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
            except (av.error.FFmpegError, IndexError) as error:  # IndexError: a stream that its header does not tell of
                self.damage = f"{self.path} is damaged: {getattr(error, 'strerror', None) or error}"
                packet = None  # flushes the decoder
            self._times.sent(packet)
            try:
                decoded = self._av_stream.codec_context.decode(packet)
                bad_in_a_row = 0
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, ValueError) as error:
                self._times.refused()
                self.skipped_packets += 1
                bad_in_a_row += 1
                decoded = []
                if bad_in_a_row >= _MOST_BAD_PACKETS_IN_A_ROW:
                    self.damage = f"{self.path} is damaged: {error} {bad_in_a_row} times in a row"
            yield from decoded
            if self.damage is not None:
                return

    def stamped(self) -> Iterator[tuple[Any, int]]:
        """(decoded frame, its time in ns from the start of the file) in order; for who does not want all pixels."""
        for decoded, pts in self._stamped():
            yield decoded, round((pts - self._times.begins) * self.time_base * 1_000_000_000)

    def _stamped(self) -> Iterator[tuple[Any, int]]:
        first, self._first = self._first, None
        later = ((decoded, self._times.stamp(decoded)) for decoded in self._decoded)
        end = 0
        for decoded, pts in later if first is None else chain((first,), later):
            self._count += 1
            end = pts - self._times.begins + (self._duration(decoded) or self._times.step)
            yield decoded, pts
        self._finish(float(end * self.time_base))

    def _duration(self, decoded: Any) -> int:
        return self._times.step if self._times.by_rate else int(decoded.duration or 0)

    def frames(self) -> Iterator[MediaFrame]:
        """See FrameReader. No frame is left out for its stamp."""
        for index, (decoded, pts) in enumerate(self._stamped()):
            time_ns = round((pts - self._times.begins) * self.time_base * 1_000_000_000)
            frame = Frame(self._stream, self.pixels(decoded), index, time_ns, TimestampSource.FILE)
            yield MediaFrame(frame, pts, self._duration(decoded))

    def _finish(self, end_s: float) -> None:
        frame_s = float(1 / (self.rate or _FALLBACK_RATE))
        is_certain = self._is_end_certain and not self._times.joins
        missing_s = 0.0 if self.end_s is None or not is_certain else self.end_s - end_s
        if self.damage is None and missing_s > max(3 * frame_s, 0.02 * (end_s - self.start_s)):
            self.damage = (
                f"{self.path} breaks off: {self._count} frames until {end_s:.2f} s can be read, "
                f"but it says that it lasts until {self.end_s:.2f} s"
            )
        elif self.damage is not None:
            self.damage += f", after {self._count} frames ({end_s:.2f} s)"
        elif self.skipped_packets > _MANY_SKIPPED * (self._count + self.skipped_packets):
            self.damage = f"{self.path}: {self.skipped_packets} of its packets are damaged and were left out"
        elif self.skipped_packets:
            self._notes.append(f"{self.path.name}: {self.skipped_packets} damaged packets were skipped")
        self._notes += self._times.notes(self.path.name)
        if self._resized:
            self._notes.append(
                f"{self.path.name}: {self._resized} frames of another size were brought to {self.width}x{self.height}"
            )

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def pixels(self, decoded: Any) -> np.ndarray:
        """The pixels of a decoded frame, in the size of the first."""
        pixels = self._converter.pixels(decoded)
        if self.height and pixels.shape[:2] != (self.height, self.width):
            self._resized += 1
            pixels = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return pixels

    @property
    def format_name(self) -> str:
        """Codec and pixel format, for a description."""
        codec = self._av_stream.codec_context
        return f"{codec.name} {codec.pix_fmt}"


def _open_container(path: Path, options: Mapping[str, str]) -> Any:
    try:
        if not path.exists():
            lead = "is a link to nothing" if path.is_symlink() else "does not exist"
            raise BadInputError(f"{path} {lead}. Check the name.")
        if not path.is_file():  # a pipe or device may never end
            raise BadInputError(f"{path} is no ordinary file, expected a video. Save it as one first.")
        if path.stat().st_size == 0:
            raise BadInputError(f"{path} is empty (0 bytes). Was it copied completely?")
        with path.open("rb") as opened:
            head = opened.read(8)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}. Check the name.") from error
    try:
        # A path is never an address with a protocol; tags in an old encoding are no reason to refuse a file.
        return av.open(f"file:{path}", options={**options, **DECODER_LIMITS}, metadata_errors="replace")
    except (av.error.FFmpegError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if head.startswith(_VIDEO_HEADS) or head[4:8] == b"ftyp":
            raise DamagedInputError(
                f"{path} cannot be read as a video: {reason}. Its recording or copy was cut off, or it is damaged."
            ) from error
        raise BadInputError(
            f"{path} cannot be read as a video: {reason}. It is another kind of file, or its recording or copy "
            "was cut off."
        ) from error


class SequenceReader:
    """Numbered pictures as a video: `frames/%05d.png`. Frame n lies at n / fps, so a missing number is a gap."""

    begins_s = 0.0

    def __init__(
        self, given: Path | MediaInput, stream: Stream, sequence_fps: float, accept_colour: bool = False
    ) -> None:
        """List the pictures and read the first.

        Raises:
            BadInputError: no picture fits the pattern, or the first cannot be read.
        """
        source = given if isinstance(given, MediaInput) else parse_media_input(given)
        self.path = source.path
        self.damage: str | None = None
        self.sample_aspect_ratio: Fraction | None = None
        self._stream, self._cut = stream, source.cut
        self._pictures = PictureReader(stream, accept_colour)
        self._resized = 0
        numbered = _numbered_files(source.path)
        self._numbered = numbered
        self.rate: Fraction | None = Fraction(sequence_fps).limit_denominator(1_001_000)
        self.time_base = 1 / self.rate
        self.height, self.width = self._read(numbered[0][1]).shape[:2]
        self.expected_frames: int | None = len(numbered)
        self.start_s = float(numbered[0][0] * self.time_base)
        self.end_s: float | None = float((numbered[-1][0] + 1) * self.time_base)

        self.scale = self._pictures.scale or COUNTS

    @property
    def notes(self) -> list[str]:
        """See FrameReader."""
        notes = list(self._pictures.notes)
        if self._resized:
            notes.append(f"{self.path}: {self._resized} pictures of another size were brought to the first one's")
        return notes

    def _read(self, path: Path) -> np.ndarray:
        return np.ascontiguousarray(self._cut.apply(read_picture(self._pictures, path)))

    def frames(self) -> Iterator[MediaFrame]:
        """See FrameReader. A picture of another size than the first is brought to that size."""
        for index, (number, path) in enumerate(self._numbered):
            pixels = self._read(path)
            if pixels.shape[:2] != (self.height, self.width):
                self._resized += 1
                pixels = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
            time_ns = round(number * self.time_base * 1_000_000_000)
            yield MediaFrame(Frame(self._stream, pixels, index, time_ns, TimestampSource.FILE), number, 1)

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
        names = [path for path in pattern.parent.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise BadInputError(f"folder {pattern.parent} cannot be read: {error.strerror}.") from error
    found = sorted((int(hit.group(1)), path) for path in names if (hit := wanted.fullmatch(path.name)))
    if not found:
        raise BadInputError(f"no picture fits {pattern}. Is the number of digits right?")
    return found
