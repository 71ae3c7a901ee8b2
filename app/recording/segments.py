"""One segment of a recording: a video file with its sidecar, and the names that keep segments in order."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from app.recording.config import RecordingConfig, TrackName
from app.recording.encoders import EncodedPacket, StreamParams
from app.recording.matroska_writer import DiskWriteError, MatroskaWriter
from app.recording.sidecar import (
    SCHEMA_VERSION,
    EndLine,
    EventLine,
    GapLine,
    HeaderLine,
    PictureLine,
    RawLine,
    Ref,
    SidecarWriter,
    TrackInfo,
    encode_line,
    sidecar_path,
)
from fusion_core.errors import RecordingError

__all__ = [
    "EncodedPicture",
    "Layout",
    "Segment",
    "SegmentInfo",
    "delete_recording",
    "is_protected",
    "list_recordings",
    "next_name",
    "protect",
    "track_infos",
    "wall_iso",
]

Layout = tuple[StreamParams, ...]
_LAST_SEQUENCE = 900_000_000  # no rig comes so far; a file that somebody put there must not use the numbers up
_NAME = re.compile(
    r"^(?P<prefix>[A-Za-z0-9][A-Za-z0-9_]{0,31})-(?P<sequence>\d{6,9})-\d{8}T\d{6}Z(-[A-Za-z0-9_]+)?\.mkv$"
)
_DEFAULT_DURATION_MS = 33
_LONGEST_DURATION_MS = 250


@dataclass(slots=True)
class EncodedPicture:
    """One picture after its encoder: its sidecar line without the place in the file, and its packet.

    A file can begin with any round: the first picture of each track in it is a key frame, and no picture of an earlier
    round comes after one of its track in a later round. `fresh` is true for each of those first pictures.
    """

    track: TrackName
    line: PictureLine
    packet: EncodedPacket
    layout: Layout
    round: int
    fresh: bool
    start_ns: int  # of its round, about
    fell: bool = False  # the round began because the clock of a source fell back
    marks: tuple[GapLine | EventLine, ...] = ()

    @property
    def t_ns(self) -> int:
        """Its time."""
        return self.packet.t_ns

    @property
    def nbytes(self) -> int:
        """Memory that it takes in the pre-event buffer, about."""
        return 700 + len(self.packet.data)


@dataclass(slots=True)
class SegmentInfo:
    """What became of one file."""

    path: Path
    frames: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    duration_s: float = 0.0


class Segment:
    """Writes pictures into one new file. Owner thread: the recorder's.

    Raises:
        RecordingError: the files cannot be made. DiskWriteError: no space for them.
    """

    def __init__(self, config: RecordingConfig, path: Path, header: HeaderLine, layout: Layout) -> None:
        self.layout = layout
        self.info = SegmentInfo(path, {str(params.track): 0 for params in layout})
        self.start_ns = header.start_ns
        self.disk_error = ""  # why `close` could not finish the files
        self._last_ms: dict[str, int] = {}
        self._text_ms = -1
        self._end_ns = header.start_ns
        self._sidecar = SidecarWriter(sidecar_path(path))
        try:
            self._embed = config.embed_metadata
            line = self._sidecar.write(header)
            self._video = MatroskaWriter(
                path,
                layout,
                config.cluster_ms,
                {"title": path.stem, "date": header.wall_start, "lumitherm_schema": str(SCHEMA_VERSION)},
            )
            self._video.write_text(line, 0)
            self._text_ms = 0
        except (OSError, RecordingError) as error:
            self._sidecar.close()
            sidecar_path(path).unlink(missing_ok=True)
            if isinstance(error, OSError):
                path.unlink(missing_ok=True)
                raise DiskWriteError(path, error) from error
            raise

    @property
    def size(self) -> int:
        """Bytes of video so far."""
        return self._video.size

    @property
    def sidecar_fill(self) -> float:
        """How much of what a reader takes of a sidecar is used, 0 to 1."""
        return self._sidecar.fill

    @property
    def age_s(self) -> float:
        """Seconds from the first picture to the last, by their stamps."""
        return (self._end_ns - self.start_ns) / 1e9

    def write(self, picture: EncodedPicture) -> None:
        """Append one picture. Raises DiskWriteError; this picture and what follows then belong into another file."""
        track, packet = str(picture.track), picture.packet
        before = self._last_ms.get(track)
        ms = max((packet.t_ns - self.start_ns + 500_000) // 1_000_000, 0 if before is None else before + 1)
        duration = _DEFAULT_DURATION_MS if before is None else min(ms - before, _LONGEST_DURATION_MS)
        ref = Ref(self.info.frames[track], ms, crc=packet.crc, data=packet.data_crc)
        for mark in picture.marks:
            self.mark(mark)
        # The line goes first: after a kill the sidecar then knows at least every picture that the video has.
        if isinstance(picture.line, RawLine):
            self._put_line(msgspec.structs.replace(picture.line, at=ref), ms)
        else:
            self._put_line(msgspec.structs.replace(picture.line, n=ref.k, fused=ref), ms)
        self._video.write(track, packet, ms, duration)
        self._last_ms[track] = ms
        self.info.frames[track] += 1
        self._end_ns = max(self._end_ns, packet.t_ns)

    def mark(self, line: GapLine | EventLine) -> None:
        """Write a gap or an event. Raises DiskWriteError."""
        at_ns = line.to_ns if isinstance(line, GapLine) else line.t_ns
        self._put_line(line, max(0, (at_ns - self.start_ns) // 1_000_000))

    def _put_line(self, line: PictureLine | GapLine | EventLine, ms: int) -> None:
        try:
            data = self._sidecar.write(line)
        except OSError as error:
            raise DiskWriteError(self._sidecar.path, error) from error
        if self._embed:
            self._text_ms = max(self._text_ms + 1, min(ms, self._text_ms + 60_000))
            self._video.write_text(data, self._text_ms)

    def flush_due(self) -> None:
        """Write pictures that have waited in memory for long enough, whether or not another follows."""
        self._video.flush_due()

    def sync(self) -> None:
        """Have the disk hold everything so far: the sidecar first, so that it knows every picture there."""
        try:
            self._sidecar.sync()
        except OSError as error:
            raise DiskWriteError(self._sidecar.path, error) from error
        self._video.sync()

    def close(self, reason: str) -> SegmentInfo:
        """Finish both files. A full disk does not raise: it is told in `disk_error`, and the sidecar gets no end line.

        The end line comes last of all: where it stands, the video is complete.
        """
        end = EndLine(reason, dict(self.info.frames), self._end_ns - self.start_ns)
        try:
            self._video.write_text(encode_line(end), self._text_ms + 1)
            self._video.close()
            self._sidecar.write(end)
        except (DiskWriteError, OSError) as error:
            self.disk_error = f"{error}"
        return self.abandon()

    def abandon(self) -> SegmentInfo:
        """Close after a write error, without an end line; `recover` makes video and sidecar agree later."""
        with contextlib.suppress(RecordingError):
            self._video.close()
        self._sidecar.close()
        self.info.duration_s = self.age_s
        self.info.bytes = self.info.path.stat().st_size if self.info.path.exists() else 0
        return self.info


def track_infos(layout: Layout) -> list[TrackInfo]:
    """The header's description of the tracks."""
    return [TrackInfo(str(p.track), p.codec, p.encoder, p.height, p.width, p.pixel_format) for p in layout]


def list_recordings(directory: Path, prefix: str | None = None) -> list[Path]:
    """The video files that carry our kind of name (and this prefix), oldest first by sequence number, not by clock."""
    found = [(match, path) for path in directory.glob("*.mkv") if (match := _NAME.match(path.name))]
    found = [(match, path) for match, path in found if prefix in (None, match["prefix"])]
    return [path for _, path in sorted(found, key=lambda entry: (int(entry[0]["sequence"]), entry[1].name))]


def next_name(config: RecordingConfig, wall_ns: int, label: str | None) -> Path:
    """The next file's path: PREFIX-SEQUENCE-UTC[-LABEL].mkv. The sequence rises whatever the wall clock does."""
    taken = [int(match["sequence"]) for path in config.directory.iterdir() if (match := _any_sequence(path.name))]
    sequence = max((number for number in taken if number < _LAST_SEQUENCE), default=0) + 1
    stamp = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    tail = "-" + re.sub(r"[^A-Za-z0-9_]+", "_", label).strip("_")[:40] if label else ""
    return config.directory / f"{config.prefix}-{sequence:06d}-{stamp}{tail.rstrip('-')}.mkv"


def _any_sequence(name: str) -> re.Match[str] | None:
    return _NAME.match(Path(name).stem + ".mkv")


def protect(video: Path) -> None:
    """Keep a recording from the ring policy: it deletes no file with a NAME.keep beside it."""
    with contextlib.suppress(FileExistsError):  # also a link, which is not followed
        os.close(os.open(video.with_suffix(".keep"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def is_protected(video: Path) -> bool:
    """Whether `protect` was called for this recording."""
    return os.path.lexists(video.with_suffix(".keep"))


def delete_recording(video: Path) -> int:
    """Delete a recording with everything that belongs to it; returns the bytes freed."""
    freed = 0
    for suffix in (".jsonl", ".md", ".mkv"):
        path = video.with_suffix(suffix)
        if path.exists():
            freed += path.stat().st_size
            path.unlink()
    return freed


def wall_iso(wall_ns: int) -> str:
    """A moment of the wall clock as ISO 8601 in UTC, milliseconds."""
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).isoformat(timespec="milliseconds")
