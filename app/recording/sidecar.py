"""The sidecar: one JSON line for each recorded picture, beside the video file, written before the picture it describes.

    NAME.mkv     the pictures             NAME.jsonl   this file

Line types: `header` (first line), `raw` (a frame as the camera gave it), `frame` (a fused picture, with the stamps of
the two that it was made of), `gap`, `event`, `end` (last line of a file that was closed in order). In schema 1 there
was no `raw`: a `frame` was a pair as it had been fused, and named its places in all tracks.
Times are nanoseconds on the monotonic clock of the machine that recorded; the header ties them to the wall clock.
`ms` is that moment as Matroska holds it: milliseconds since the header's `start_ns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from app.recording.config import TrackName
from app.recording.disk_file import DiskFile
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.files import open_plain

__all__ = [
    "MAX_LINES",
    "MAX_LINE_BYTES",
    "MAX_VALUES",
    "SCHEMA_VERSION",
    "EndLine",
    "EventLine",
    "FrameLine",
    "GapLine",
    "HeaderLine",
    "Line",
    "PictureLine",
    "RawLine",
    "Ref",
    "SidecarContent",
    "SidecarWriter",
    "SourceRef",
    "TrackInfo",
    "decode_line",
    "encode_line",
    "read_sidecar",
    "sidecar_path",
]

SCHEMA_VERSION = 2
MAX_BYTES = 1 << 29
MAX_LINES = 700_000  # 2 hours in one file, of three tracks at 30 pictures a second: 1 GB with the pairs found anew
MAX_VALUES = 11_200_000  # by the commas between them: what few lines could take much memory by
MAX_LINE_BYTES = 256 * 1024  # a frame line has about 500 bytes; anything above this is damage


Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10**11)]  # three years, in Matroska's clock
Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]  # a difference of two still fits 64 bits
Side = Annotated[int, msgspec.Meta(ge=0, le=16_384)]


class TrackInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One track as the header describes it; `height` and `width` without the padding to even numbers."""

    name: str
    codec: str
    encoder: str
    height: Side
    width: Side
    pixel_format: str


class HeaderLine(msgspec.Struct, frozen=True, tag_field="type", tag="header"):
    """First line. `start_ns` is the monotonic time of `ms` 0; `wall_start` the wall clock at that moment, ISO 8601."""

    schema: int
    recording: str  # name of the recording's first file, in all its segments
    segment: Count  # 0, 1, ... within the recording
    start_ns: Nanoseconds
    wall_start: str
    wall_start_ns: Nanoseconds
    tracks: list[TrackInfo]
    label: str | None = None
    reason: str = "start"  # why this file begins: start, split, event, layout, encoder, disk, clock
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}
    calibration: str | None = None  # at the start of the file; fused pictures name the one they were made with
    offsets_ns: dict[str, int] = {}


class Ref(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A picture in a track: its number `k` there (from 0) and its stamp `ms`. `new` is false for one shown before.

    `crc` is the CRC-32 of a lossless picture's bytes (rows top to bottom, 16 bits little-endian): decoders conceal
    damage, this reveals it. `data` is the CRC-32 of the encoded bytes as the file holds them.
    """

    k: Count
    ms: Milliseconds
    new: bool = True
    crc: int | None = None
    data: int | None = None


class SourceRef(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the camera said of a frame, and where it is. `at` is None when its track is not recorded."""

    i: int  # Frame.index
    t_ns: Nanoseconds
    src: str  # TimestampSource
    flags: int = 0
    at: Ref | None = None


class RawLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="raw"):
    """One frame of a camera, recorded as it came, whether or not it was fused. track: visible or thermal."""

    track: TrackName
    i: int  # Frame.index
    t_ns: Nanoseconds
    src: str  # TimestampSource
    flags: int = 0
    at: Ref | None = None
    rebuilt: bool = False  # made by `recover` from the video alone: the time is the container's


class FrameLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="frame"):
    """One fused picture and its pair; in schema 1 and from `rematch` the pair has its places, too.

    `skew_ns` is visible minus thermal; `drops` counts since the start; flags are FrameFlag numbers.
    """

    n: int
    t_ns: Nanoseconds
    fused: Ref | None = None
    visible: SourceRef | None = None
    thermal: SourceRef | None = None
    skew_ns: Nanoseconds | None = None
    flags: int = 0
    engine: str = ""
    fuse_ms: float = 0.0
    fused_ns: int = 0
    agc: tuple[float, float] | None = None
    calibration: str | None = None
    offsets_ns: dict[str, int] = {}
    drops: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    detections: tuple[tuple[str, float, float, float, float, float], ...] = ()
    """Of a detector: label, confidence, and top, left, bottom, right in pixels of the visible grid."""
    rebuilt: bool = False  # made by `recover` from the video alone: the times are the container's


class GapLine(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="gap"):
    """Pictures are missing between two moments.

    cause: refused (queue full), outage (the camera gave none), disk, encoder, load (left out because encoding could not
    keep up), size (fused before visible changed its size), late (fused after its file was closed).
    """

    cause: str
    from_ns: Nanoseconds
    to_ns: Nanoseconds
    track: str = "all"
    frames: int = 0  # how many are missing where that is known


class EventLine(msgspec.Struct, frozen=True, tag_field="type", tag="event"):
    """Somebody or something marked this moment."""

    t_ns: Nanoseconds
    label: str


class EndLine(msgspec.Struct, frozen=True, tag_field="type", tag="end"):
    """Last line of a file that was closed in order; `frames` a track."""

    reason: str
    frames: dict[str, int]
    duration_ns: Nanoseconds


PictureLine = RawLine | FrameLine
Line = HeaderLine | RawLine | FrameLine | GapLine | EventLine | EndLine

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def encode_line(line: Line) -> bytes:
    """One line of JSON without its newline. What is no text, as in names of files from other systems, becomes `?`."""
    try:
        return _encoder.encode(line)
    except UnicodeEncodeError:
        return _encoder.encode(_as_text(msgspec.to_builtins(line)))


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    return [_as_text(each) for each in value] if isinstance(value, list | tuple) else value


def decode_line(data: bytes) -> Line:
    """The line, checked against its type. Raises BadInputError."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadInputError(f"not a sidecar line: {error}") from error


def sidecar_path(video: Path) -> Path:
    """Where the sidecar of a video file is."""
    return video.with_suffix(".jsonl")


class SidecarWriter:
    """Appends lines; a line is either whole in the file or not there. Owner thread: the recorder's.

    Raises:
        RecordingError: the file exists already or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = self._values = 0
        try:
            self._file = DiskFile(path)
        except OSError as error:
            raise RecordingError(f"{path} could not be made: {error.strerror}") from error

    def write(self, line: Line) -> bytes:
        """Append one line; returns it. Raises OSError (disk full); the file then ends with the line before."""
        data = encode_line(line)
        self._file.append(data + b"\n")
        self._lines += 1
        self._values += data.count(b",")
        return data

    @property
    def fill(self) -> float:
        """How much of what a reader takes is used; at 1 it would refuse the file."""
        return max(self._file.size / MAX_BYTES, self._lines / MAX_LINES, self._values / MAX_VALUES)

    def sync(self) -> None:
        """Have the disk hold everything written so far. Raises OSError."""
        self._file.sync()

    def close(self) -> None:
        """Sync and close. Safe to call twice."""
        self._file.close()


class SidecarContent:
    """A sidecar as read: header, pictures, everything else, and what was wrong with it ("" = nothing)."""

    def __init__(self) -> None:
        self.header: HeaderLine | None = None
        self.pictures: list[PictureLine] = []
        """Raw and fused ones, in the order in which they were written."""
        self.others: list[GapLine | EventLine] = []
        self.end: EndLine | None = None
        self.damage = ""

    def add(self, line: Line) -> None:
        """Take the next line in; raises BadInputError when it cannot stand here."""
        if isinstance(line, HeaderLine):
            if self.header is not None:
                raise BadInputError("a second header line")
            if line.schema > SCHEMA_VERSION:
                raise BadInputError(
                    f"schema {line.schema} is newer than {SCHEMA_VERSION}, which this version reads; update Lumitherm"
                )
            self.header = line
        elif isinstance(line, EndLine):
            self.end = line
        elif isinstance(line, GapLine | EventLine):
            self.others.append(line)
        else:
            self.pictures.append(line)

    @property
    def frames(self) -> list[FrameLine]:
        """The fused ones; in schema 1 the pairs."""
        return [line for line in self.pictures if isinstance(line, FrameLine)]

    @property
    def paired(self) -> bool:
        """Whether the lines are pairs already, as in schema 1."""
        return self.header is not None and self.header.schema < 2


def read_sidecar(path: Path) -> SidecarContent:
    """Read a sidecar up to its first damaged line; `damage` says what that was.

    Raises:
        BadInputError: the file cannot be opened, or its first line is no header.
    """
    content = SidecarContent()
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadInputError(f"{path} has {size} bytes, a sidecar may have at most {MAX_BYTES}; is it another file?")
        _count(path)
        for number, data in enumerate(_lines(path), 1):
            try:
                content.add(decode_line(data))
            except BadInputError as error:
                if content.header is None:
                    raise BadInputError(f"{path}, line {number}: {error}") from error
                content.damage = f"line {number}: {error}"
                break
    except OSError as error:
        raise BadInputError(f"{path} could not be read: {error.strerror}") from error
    if content.header is None:
        raise BadInputError(f"{path} is no Lumitherm sidecar: it has no header line")
    return content


def _count(path: Path) -> None:
    """Look at how much there is before any of it takes memory. Raises BadInputError."""
    lines = values = 0
    with open_plain(path, "sidecar") as file:
        while data := file.read(1 << 20):
            lines += data.count(b"\n")
            values += data.count(b",")
            for what, number, most in (("lines", lines, MAX_LINES), ("values", values, MAX_VALUES)):
                if number > most:
                    raise BadInputError(f"{path} has more than {most} {what}, which no recording of ours has")


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without newline; one that is too long comes in pieces, which then are no valid JSON."""
    with open_plain(path, "sidecar") as file:
        while data := file.readline(MAX_LINE_BYTES + 1):
            yield data.rstrip(b"\n")
