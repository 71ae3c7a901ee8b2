"""Makes the sidecar's lines and the video's pictures agree. Pure functions; used by the reader and by `recover`."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import msgspec

from app.recording.config import TrackName
from app.recording.sidecar import FrameLine, Ref, SidecarContent, SourceRef
from app.recording.video_scan import VideoScan
from fusion_core.frames import TimestampSource

__all__ = ["Agreement", "agree"]

_SAME_MOMENT_MS = 20


@dataclass(slots=True)
class Agreement:
    """Lines that name exactly the pictures of the video, numbered anew; and what had to change."""

    lines: list[FrameLine]
    dropped: int = 0  # lines without any picture in the video
    trimmed: int = 0  # lines that lost some of their pictures
    rebuilt: int = 0  # pictures without a line that got one

    @property
    def changed(self) -> bool:
        """Whether the sidecar as it was did not agree with the video."""
        return bool(self.dropped or self.trimmed or self.rebuilt)


def agree(content: SidecarContent | None, scan: VideoScan) -> Agreement:
    """Match lines and pictures by their stamps.

    A line keeps the pictures that exist; a line that keeps none goes. A picture that no line names gets one whose
    times are the container's (milliseconds) and which says `rebuilt`.
    """
    places = {name: {ms: k for k, ms in enumerate(track.ms)} for name, track in scan.tracks.items()}
    named: dict[TrackName, set[int]] = {name: set() for name in places}
    result = Agreement([])
    start_ns = content.header.start_ns if content is not None and content.header is not None else 0
    for line in content.frames if content is not None else ():
        refs = {
            TrackName.FUSED: _existing(line.fused, TrackName.FUSED, places, named),
            TrackName.VISIBLE: _existing(line.visible.at if line.visible else None, TrackName.VISIBLE, places, named),
            TrackName.THERMAL: _existing(line.thermal.at if line.thermal else None, TrackName.THERMAL, places, named),
        }
        before = (line.fused, line.visible.at if line.visible else None, line.thermal.at if line.thermal else None)
        if not any(ref is not None for ref in refs.values()):
            result.dropped += 1
            continue
        result.trimmed += any(ref is None and old is not None for ref, old in zip(refs.values(), before, strict=True))
        result.lines.append(
            msgspec.structs.replace(
                line,
                n=len(result.lines),
                fused=refs[TrackName.FUSED],
                visible=_placed(line.visible, refs[TrackName.VISIBLE]),
                thermal=_placed(line.thermal, refs[TrackName.THERMAL]),
            )
        )
    _rebuild(result, places, named, start_ns)
    return result


def _existing(
    ref: Ref | None, name: TrackName, places: dict[TrackName, dict[int, int]], named: dict[TrackName, set[int]]
) -> Ref | None:
    k = places.get(name, {}).get(ref.ms) if ref is not None else None
    if ref is None or k is None:
        return None
    new = ref.new and ref.ms not in named[name]
    named[name].add(ref.ms)
    return Ref(k, ref.ms, new, ref.crc)


def _placed(source: SourceRef | None, ref: Ref | None) -> SourceRef | None:
    return None if source is None else msgspec.structs.replace(source, at=ref)


def _rebuild(
    result: Agreement,
    places: dict[TrackName, dict[int, int]],
    named: dict[TrackName, set[int]],
    start_ns: int,
) -> None:
    left = {name: sorted(set(stamps) - named[name]) for name, stamps in places.items()}
    result.rebuilt = sum(len(stamps) for stamps in left.values())
    if not result.rebuilt:
        return
    for master in (TrackName.THERMAL, TrackName.FUSED, TrackName.VISIBLE):
        for ms in left.get(master, []):
            found = {master: ms}
            for other in left:
                if other is not master and (near := _nearest(left[other], ms)) is not None:
                    found[other] = near
                    left[other].remove(near)
            refs = {name: Ref(places[name][stamp], stamp) for name, stamp in found.items()}
            result.lines.append(_rebuilt_line(refs, start_ns + ms * 1_000_000, start_ns))
        left[master] = []
    result.lines.sort(key=lambda line: line.t_ns)
    result.lines[:] = [msgspec.structs.replace(line, n=n) for n, line in enumerate(result.lines)]


def _nearest(stamps: list[int], ms: int) -> int | None:
    at = bisect_left(stamps, ms)
    near = min(stamps[max(0, at - 1) : at + 1], key=lambda stamp: abs(stamp - ms), default=None)
    return near if near is not None and abs(near - ms) <= _SAME_MOMENT_MS else None


def _rebuilt_line(refs: dict[TrackName, Ref], t_ns: int, start_ns: int) -> FrameLine:
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
