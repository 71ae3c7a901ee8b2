"""Reads a recording back, frame-accurately: pairs with their original stamps, lossless thermal, and the fused track.

What is recorded are raw frames and fused pictures; the pairs are made anew of all raw frames (`rematch`)."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from app.recording.agreement import agree
from app.recording.config import TrackName
from app.recording.rematch import rematch
from app.recording.sidecar import (
    EventLine,
    FrameLine,
    GapLine,
    HeaderLine,
    Ref,
    SidecarContent,
    SourceRef,
    read_sidecar,
    sidecar_path,
)
from app.recording.track_reader import TrackReader, picture_size
from app.recording.video_scan import VideoScan, find_tracks, open_video, scan_video
from fusion_core.errors import BadInputError, RecordingError
from fusion_core.frames import Detection, Frame, FrameFlag, FramePair, FusedFrame, Stream, TimestampSource

__all__ = ["RecordingInfo", "RecordingReader"]

_UNORDERED = 400
"""Lines among which stamps may stand out of order: tracks are encoded side by side, each from a queue of its own."""


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What a recording is. `metadata` says where the stamps come from: sidecar, embedded or container."""

    path: Path
    pairs: int
    duration_s: float
    tracks: dict[str, str]  # track name to "codec HEIGHTxWIDTH"
    header: HeaderLine | None
    metadata: str
    damage: tuple[str, ...]
    closed_in_order: bool
    marks: tuple[GapLine | EventLine, ...]


class RecordingReader:
    """A recording, open for reading by index or time. Works without the sidecar (then from the file's own metadata
    track, then from the container's stamps alone). One thread at a time.

    Raises:
        BadInputError: the file is no recording that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        damage: list[str] = []
        content, source = self._metadata(damage)
        with open_video(self.path) as container:
            tracks = find_tracks(container, self.path)
        if content is not None and content.end is not None and not content.damage and source == "sidecar":
            pictures = content.pictures
        else:  # not closed in order: look at what is there
            scan = self._scan(damage)
            if content is None and scan.metadata is not None and scan.metadata.header is not None:
                content, source = scan.metadata, "embedded"
            pictures = agree(content, scan).lines
            tracks = scan.tracks
        header = content.header if content is not None else None
        if content is not None and content.paired:
            lines = [line for line in pictures if isinstance(line, FrameLine)]
        else:
            lines = rematch(pictures, header)
        self._lines = lines
        self._times_ns = [line.t_ns for line in lines]
        self._readers: dict[TrackName, TrackReader] = {}
        self._tracks = tracks
        self._sizes = {name: picture_size(header, track) for name, track in tracks.items()}
        self.info = RecordingInfo(
            path=self.path,
            pairs=len(lines),
            duration_s=self._duration_s(),
            tracks={
                str(name): f"{track.codec} {self._sizes[name][0]}x{self._sizes[name][1]} {track.pixel_format}"
                for name, track in tracks.items()
            },
            header=header,
            metadata=source,
            damage=tuple(damage),
            closed_in_order=content is not None and content.end is not None,
            marks=tuple(content.others) if content is not None else (),
        )

    def _metadata(self, damage: list[str]) -> tuple[SidecarContent | None, str]:
        path = sidecar_path(self.path)
        if not path.exists():
            return None, "container"
        try:
            content = read_sidecar(path)
        except BadInputError as error:
            damage.append(str(error))
            return None, "container"
        if content.damage:
            damage.append(f"{path.name} is damaged: {content.damage}")
        return content, "sidecar"

    def _scan(self, damage: list[str]) -> VideoScan:
        scan = scan_video(self.path)
        if scan.damage:
            damage.append(scan.damage)
        return scan

    def _duration_s(self) -> float:
        if not self._lines:
            return 0.0
        last = [ref.ms for line in self._lines[-_UNORDERED:] for ref in _refs(line) if ref is not None]
        first = [ref.ms for line in self._lines[:_UNORDERED] for ref in _refs(line) if ref is not None]
        return (max(last, default=0) - min(first, default=0)) / 1000

    # ---- what it holds

    def __len__(self) -> int:
        return len(self._lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[FramePair]:
        return self.pairs()

    @property
    def tracks(self) -> tuple[TrackName, ...]:
        """The tracks in the file."""
        return tuple(name for name in TrackName if name in self._tracks)

    def line(self, index: int) -> FrameLine:
        """The metadata of a pair: stamps, skew, flags, AGC limits, calibration, drops."""
        if not 0 <= index < len(self._lines):
            raise BadInputError(f"{self.path} has the pairs 0 to {len(self._lines) - 1}, not {index}")
        return self._lines[index]

    def has_pair(self, index: int) -> bool:
        """Whether `pair` can be had: false where only the fused picture was recorded or survived."""
        line = self.line(index)
        return any(source is not None and source.at is not None for source in (line.visible, line.thermal))

    def index_at(self, seconds: float) -> int:
        """The pair that is shown `seconds` after the first one: the last with a time not later than that."""
        if not self._lines:
            raise BadInputError(f"{self.path} holds no pairs")
        at = bisect_left(self._times_ns, self._times_ns[0] + round(seconds * 1e9) + 1)
        return min(max(at - 1, 0), len(self._lines) - 1)

    # ---- pictures

    def pair(self, index: int) -> FramePair:
        """The pair as it was captured: exact stamps and flags; thermal bit-exact; visible as H.264/HEVC keeps it.

        Raises:
            BadInputError: no such index. RecordingError: neither raw track was recorded, or a picture is damaged.
        """
        line = self.line(index)
        visible = self._frame(Stream.VISIBLE, TrackName.VISIBLE, line.visible)
        thermal = self._frame(Stream.THERMAL, TrackName.THERMAL, line.thermal)
        if visible is None and thermal is None:
            raise RecordingError(
                f"{self.path}: pair {index} has neither a visible nor a thermal picture; only fused was recorded"
            )
        flags = FrameFlag(line.flags)
        if visible is None:
            flags |= FrameFlag.THERMAL_ONLY
        if thermal is None:
            flags |= FrameFlag.VISIBLE_ONLY
        return FramePair(visible, thermal, flags)

    def fused(self, index: int) -> np.ndarray | None:
        """The fused picture of a pair, (H, W, 3) uint8 RGB, read-only; None when the pair has none."""
        ref = self.line(index).fused
        return None if ref is None else self._picture(TrackName.FUSED, ref)

    def fused_frame(self, index: int) -> FusedFrame | None:
        """Pair and fused picture as the pipeline once published them; None where either is missing."""
        pixels = self.fused(index)
        if pixels is None or not self.has_pair(index):
            return None
        line = self.line(index)
        return FusedFrame(
            pixels=pixels,
            pair=self.pair(index),
            fuse_ms=line.fuse_ms,
            engine=line.engine,
            fused_ns=line.fused_ns,
            agc_limits=line.agc,
            notes=line.notes,
            detections=tuple(Detection(*each) for each in line.detections),
        )

    def picture(self, track: TrackName, index: int) -> np.ndarray | None:
        """The picture of one track at a pair, as stored; None when the pair has none."""
        line = self.line(index)
        ref = dict(zip(TrackName, _refs(line), strict=True))[track]
        return None if ref is None else self._picture(track, ref)

    def pairs(self, start: int = 0, stop: int | None = None) -> Iterator[FramePair]:
        """The pairs in order, without those that have no raw picture."""
        for index in range(start, len(self._lines) if stop is None else min(stop, len(self._lines))):
            if self.has_pair(index):
                yield self.pair(index)

    def _frame(self, stream: Stream, track: TrackName, source: SourceRef | None) -> Frame | None:
        if source is None or source.at is None or track not in self._tracks:
            return None
        try:
            origin = TimestampSource(source.src)
        except ValueError:
            origin = TimestampSource.FILE
        pixels = self._picture(track, source.at)
        return Frame(stream, pixels, source.i, source.t_ns, origin, FrameFlag(source.flags))

    def _picture(self, track: TrackName, ref: Ref) -> np.ndarray:
        if track not in self._tracks:
            raise RecordingError(f"{self.path} has no {track} track, although its sidecar names one")
        reader = self._readers.get(track)
        if reader is None:
            height, width = self._sizes[track]
            reader = self._readers[track] = TrackReader(self.path, self._tracks[track], height, width)
        pixels = reader.picture(ref.ms)
        if ref.crc is not None and track is TrackName.THERMAL and zlib.crc32(pixels.data) != ref.crc:
            raise RecordingError(
                f"{self.path}: the thermal picture at {ref.ms / 1000:.3f} s is damaged: its checksum is wrong"
            )
        return pixels

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


def _refs(line: FrameLine) -> tuple[Ref | None, Ref | None, Ref | None]:
    """The line's places in the tracks, in the order of TrackName."""
    return (
        line.fused,
        line.visible.at if line.visible is not None else None,
        line.thermal.at if line.thermal is not None else None,
    )
