"""Makes the sidecar's lines and the video's pictures agree. Pure functions; used by the reader and by `recover`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from app.recording.config import TrackName
from app.recording.sidecar import FrameLine, PictureLine, RawLine, Ref, SidecarContent, SourceRef
from app.recording.video_scan import VideoScan
from fusion_core.frames import TimestampSource

__all__ = ["Agreement", "agree"]

_SAME_MOMENT_MS = 20


@dataclass(slots=True)
class Agreement:
    """Lines that name exactly the pictures of the video, numbered anew; and what had to change."""

    lines: list[PictureLine]
    dropped: int = 0  # lines without any picture in the video
    trimmed: int = 0  # lines that lost some of their pictures
    rebuilt: int = 0  # pictures without a line that got one

    @property
    def changed(self) -> bool:
        """Whether the sidecar as it was did not agree with the video."""
        return bool(self.dropped or self.trimmed or self.rebuilt)


class _Places:
    """Where the pictures are by their stamps, and which of them a line has named."""

    def __init__(self, scan: VideoScan) -> None:
        self.of = {name: {ms: k for k, ms in enumerate(track.ms)} for name, track in scan.tracks.items()}
        self.named: dict[TrackName, set[int]] = {name: set() for name in self.of}

    def find(self, name: TrackName, ref: Ref | None) -> Ref | None:
        """The place as it is in the video; None when the picture is not there."""
        k = self.of.get(name, {}).get(ref.ms) if ref is not None else None
        if ref is None or k is None:
            return None
        new = ref.new and ref.ms not in self.named[name]
        self.named[name].add(ref.ms)
        return msgspec.structs.replace(ref, k=k, new=new)

    @property
    def left(self) -> dict[TrackName, list[int]]:
        """Stamps of the pictures that no line has named."""
        return {name: sorted(set(stamps) - self.named[name]) for name, stamps in self.of.items()}


def agree(content: SidecarContent | None, scan: VideoScan) -> Agreement:
    """Match lines and pictures by their stamps.

    A line keeps the pictures that exist; a line that keeps none goes. A picture that no line names gets one whose
    times are the container's (milliseconds) and which says `rebuilt`.
    """
    places, result = _Places(scan), Agreement([])
    start_ns = content.header.start_ns if content is not None and content.header is not None else 0
    paired = content is not None and content.paired
    for line in content.pictures if content is not None else ():
        if isinstance(line, RawLine):
            ref = places.find(line.track, line.at)
            found: PictureLine | None = None if ref is None else msgspec.structs.replace(line, at=ref)
        else:
            found = _kept(line, places, result) if paired else _kept_fused(line, places)
        if found is None:
            result.dropped += 1
        else:
            result.lines.append(found)
    left = places.left
    result.rebuilt = sum(len(stamps) for stamps in left.values())
    result.lines += _rebuilt_pairs(left, places, start_ns) if paired else _rebuilt(left, places, start_ns)
    if result.rebuilt:
        result.lines.sort(key=lambda line: line.t_ns)
    result.lines[:] = _numbered(result.lines)
    return result


def _numbered(lines: Sequence[PictureLine]) -> list[PictureLine]:
    numbered: list[PictureLine] = []
    n = 0
    for line in lines:
        if isinstance(line, FrameLine):
            line = msgspec.structs.replace(line, n=n) if line.n != n else line
            n += 1
        numbered.append(line)
    return numbered


def _kept_fused(line: FrameLine, places: _Places) -> FrameLine | None:
    ref = places.find(TrackName.FUSED, line.fused)
    return None if ref is None else msgspec.structs.replace(line, fused=ref)


def _kept(line: FrameLine, places: _Places, result: Agreement) -> FrameLine | None:
    """A pair of schema 1, with what is left of its pictures."""
    before = (line.fused, line.visible.at if line.visible else None, line.thermal.at if line.thermal else None)
    refs = [places.find(name, ref) for name, ref in zip(TrackName, before, strict=True)]
    if not any(ref is not None for ref in refs):
        return None
    result.trimmed += any(ref is None and old is not None for ref, old in zip(refs, before, strict=True))
    fused, visible, thermal = refs
    return msgspec.structs.replace(
        line, fused=fused, visible=_placed(line.visible, visible), thermal=_placed(line.thermal, thermal)
    )


def _placed(source: SourceRef | None, ref: Ref | None) -> SourceRef | None:
    return None if source is None else msgspec.structs.replace(source, at=ref)


def _rebuilt(left: dict[TrackName, list[int]], places: _Places, start_ns: int) -> list[PictureLine]:
    """A line for each picture. What a fused one was made of nobody knows; its time says where it belongs."""
    lines: list[PictureLine] = []
    for name, stamps in left.items():
        for ms in stamps:
            ref, t_ns = Ref(places.of[name][ms], ms), start_ns + ms * 1_000_000
            if name is TrackName.FUSED:
                lines.append(FrameLine(n=0, t_ns=t_ns, fused=ref, rebuilt=True))
            else:
                lines.append(RawLine(name, ref.k, t_ns, str(TimestampSource.FILE), at=ref, rebuilt=True))
    return lines


def _rebuilt_pairs(left: dict[TrackName, list[int]], places: _Places, start_ns: int) -> list[PictureLine]:
    """The same in schema 1: pictures of one moment get a line together."""
    lines: list[PictureLine] = []
    for master in (TrackName.THERMAL, TrackName.FUSED, TrackName.VISIBLE):
        for ms in left.get(master, []):
            found = {master: ms}
            for other in left:
                if other is not master and (near := _nearest(left[other], ms)) is not None:
                    found[other] = near
                    left[other].remove(near)
            refs = {name: Ref(places.of[name][stamp], stamp) for name, stamp in found.items()}
            lines.append(_rebuilt_pair(refs, start_ns + ms * 1_000_000, start_ns))
        left[master] = []
    return lines


def _nearest(stamps: list[int], ms: int) -> int | None:
    at = bisect_left(stamps, ms)
    near = min(stamps[max(0, at - 1) : at + 1], key=lambda stamp: abs(stamp - ms), default=None)
    return near if near is not None and abs(near - ms) <= _SAME_MOMENT_MS else None


def _rebuilt_pair(refs: dict[TrackName, Ref], t_ns: int, start_ns: int) -> FrameLine:
    def source(name: TrackName) -> SourceRef | None:
        ref = refs.get(name)
        if ref is None:
            return None
        return SourceRef(ref.k, start_ns + ref.ms * 1_000_000, str(TimestampSource.FILE), at=ref)

    visible, thermal = source(TrackName.VISIBLE), source(TrackName.THERMAL)
    return FrameLine(
        n=0,
        t_ns=t_ns,
        fused=refs.get(TrackName.FUSED),
        visible=visible,
        thermal=thermal,
        skew_ns=visible.t_ns - thermal.t_ns if visible is not None and thermal is not None else None,
        rebuilt=True,
    )
