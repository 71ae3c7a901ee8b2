"""Pairs the raw frames of a recording anew, by the code that pairs them live, and finds the fused pictures their pair.

Live, fusion takes as many pairs as it can; a recording holds every frame, so that each pair can be had of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from pydantic import ValidationError

from app.capture.pairing import PairMatcher, output_time_ns
from app.capture.sync_config import SyncConfig
from app.recording.config import TrackName
from app.recording.sidecar import FrameLine, HeaderLine, PictureLine, RawLine, Ref, SourceRef
from fusion_core.frames import Frame, FrameFlag, FramePair, Stream, TimestampSource

__all__ = ["rematch"]

_STREAMS = {TrackName.VISIBLE: Stream.VISIBLE, TrackName.THERMAL: Stream.THERMAL}
_HELD, _REUSED = (
    int(FrameFlag.HELD),
    int(FrameFlag.REUSED_VISIBLE),
)  # as numbers: a flag's own & takes ten times as long
_NOTHING = np.zeros((1, 1), np.uint8)
_END_NS = 5_000_000_000  # after the last frame everything that waits has its time


def rematch(lines: list[PictureLine], header: HeaderLine | None) -> list[FrameLine]:
    """The pairs of a recording in their order, each with its places in all tracks.

    Stamps alone decide, so that a rig that was busy then is no part of it. A fused picture stands with the pair of its
    moment; one that was made of other frames than are paired now has a line of its own.

    Args:
        lines: `raw` and `frame` lines of schema 2. They are taken out of it: of a long recording they hold much memory.
        header: its configuration says how to pair.
    """
    raws: dict[Stream, list[RawLine]] = {stream: [] for stream in Stream}
    fused: list[FrameLine] = []
    for line in lines:
        if isinstance(line, FrameLine):
            fused.append(line)
        else:
            raws[_STREAMS[line.track]].append(line)
    lines.clear()
    for found in raws.values():
        found.sort(key=lambda line: line.t_ns)
    if all(raws.values()):
        pairs = [_line_of(pair, raws) for pair in _pairs(raws, _sync_config(header))]
    else:
        pairs = [_lone(line) for found in raws.values() for line in found]
    return _with_fused(pairs, fused, raws, header)


def _sync_config(header: HeaderLine | None) -> SyncConfig:
    """As it was when the recording was made; the defaults where nothing of it is known."""
    app: Any = header.config.get("app") if header is not None else None
    section = app.get("sync") if isinstance(app, Mapping) else None
    try:
        return SyncConfig.model_validate(section if isinstance(section, Mapping) else {})
    except ValidationError:
        return SyncConfig()


def _pairs(raws: Mapping[Stream, Sequence[RawLine]], config: SyncConfig) -> Iterator[FramePair]:
    """What the live matcher gives to a consumer that is always ready, when each frame arrives at its own time."""
    matcher = PairMatcher(config)
    now_ns = 0
    arrivals = heapq.merge(*(_frames(stream, found) for stream, found in raws.items()), key=lambda f: f.timestamp_ns)
    for frame in arrivals:
        yield from _until(matcher, now_ns, frame.timestamp_ns)
        now_ns = frame.timestamp_ns
        matcher.push(frame, now_ns)
        yield from _due(matcher, now_ns)
    yield from _until(matcher, now_ns, now_ns + _END_NS)


def _frames(stream: Stream, lines: Sequence[RawLine]) -> Iterator[Frame]:
    """Frames without their pixels. `index` is the place in `lines`, so that a pair finds them again."""
    known: dict[int, FrameFlag] = {}
    for number, line in enumerate(lines):
        flags = known.get(line.flags)
        if flags is None:
            flags = known[line.flags] = FrameFlag(line.flags)
        yield Frame(stream, _NOTHING, number, line.t_ns, TimestampSource.FILE, flags)


def _until(matcher: PairMatcher, from_ns: int, to_ns: int) -> Iterator[FramePair]:
    """What becomes due between two arrivals."""
    at_ns = from_ns
    while (event_ns := matcher.next_event_ns(at_ns)) is not None and event_ns < to_ns:
        at_ns = event_ns
        yield from _due(matcher, at_ns)


def _due(matcher: PairMatcher, now_ns: int) -> Iterator[FramePair]:
    while (pair := matcher.poll(now_ns)) is not None:
        yield pair


def _line_of(pair: FramePair, raws: Mapping[Stream, Sequence[RawLine]]) -> FrameLine:
    visible = thermal = None
    rebuilt, flags = False, int(pair.flags)
    if pair.visible is not None:
        line = raws[Stream.VISIBLE][pair.visible.index]
        visible, rebuilt = _source(line, int(pair.visible.flags)), line.rebuilt
    if pair.thermal is not None:
        line = raws[Stream.THERMAL][pair.thermal.index]
        thermal, rebuilt = _source(line, int(pair.thermal.flags)), rebuilt or line.rebuilt
    t_ns = output_time_ns(pair) if flags & _HELD else pair.timestamp_ns
    return FrameLine(
        n=0, t_ns=t_ns, visible=visible, thermal=thermal, skew_ns=pair.skew_ns, flags=flags, rebuilt=rebuilt
    )


def _source(line: RawLine, flags: int) -> SourceRef:
    return SourceRef(line.i, line.t_ns, line.src, flags, line.at)


def _lone(line: RawLine) -> FrameLine:
    source = _source(line, line.flags)
    if line.track is TrackName.VISIBLE:
        return FrameLine(n=0, t_ns=line.t_ns, visible=source, flags=int(FrameFlag.VISIBLE_ONLY), rebuilt=line.rebuilt)
    return FrameLine(n=0, t_ns=line.t_ns, thermal=source, flags=int(FrameFlag.THERMAL_ONLY), rebuilt=line.rebuilt)


def _with_fused(
    pairs: list[FrameLine],
    fused: list[FrameLine],
    raws: Mapping[Stream, Sequence[RawLine]],
    header: HeaderLine | None,
) -> list[FrameLine]:
    place = _place_finder(pairs)
    at = {stream: {line.t_ns: line.at for line in found} for stream, found in raws.items()}
    taken: dict[int, FrameLine] = {}
    own: list[FrameLine] = []
    for line in fused:
        number = place(line)
        if number is None or number in taken:
            own.append(_with_places(line, at))
        else:
            taken[number] = line
    joined = [_joined(pair, taken.get(number)) for number, pair in enumerate(pairs)]
    joined += own
    joined.sort(key=lambda line: line.t_ns)
    for done in (pairs, own, fused, taken):
        done.clear()
    _complete(joined, header)
    return joined


def _place_finder(pairs: Sequence[FrameLine]) -> Callable[[FrameLine], int | None]:
    """Finds the pair of a fused line: the same two frames, else the same thermal, else the same visible one."""
    both: dict[tuple[int | None, int | None], int] = {}
    thermal: dict[int, int] = {}
    visible: dict[int, int] = {}
    times: dict[int, int] = {}
    for number, pair in enumerate(pairs):
        v_ns, t_ns = (None if s is None else s.t_ns for s in (pair.visible, pair.thermal))
        both.setdefault((v_ns, t_ns), number)
        times.setdefault(pair.t_ns // 1_000_000, number)
        if t_ns is not None and not pair.flags & _HELD:
            thermal.setdefault(t_ns, number)
        if v_ns is not None and not pair.flags & _REUSED:
            visible.setdefault(v_ns, number)

    def find(line: FrameLine) -> int | None:
        v_ns, t_ns = (None if s is None else s.t_ns for s in (line.visible, line.thermal))
        if v_ns is None and t_ns is None:  # rebuilt: nothing but its time is known
            return times.get(line.t_ns // 1_000_000)
        number = both.get((v_ns, t_ns))
        if number is None and t_ns is not None and not line.flags & _HELD:
            number = thermal.get(t_ns)
        if number is None and v_ns is not None and not line.flags & _REUSED:
            number = visible.get(v_ns)
        return number

    return find


def _with_places(line: FrameLine, at: Mapping[Stream, Mapping[int, Ref | None]]) -> FrameLine:
    visible, thermal = (
        source if source is None or (place := at[stream].get(source.t_ns)) == source.at
        else msgspec.structs.replace(source, at=place)
        for stream, source in ((Stream.VISIBLE, line.visible), (Stream.THERMAL, line.thermal))
    )  # fmt: skip
    if visible is line.visible and thermal is line.thermal:
        return line
    return msgspec.structs.replace(line, visible=visible, thermal=thermal)


def _joined(pair: FrameLine, fused: FrameLine | None) -> FrameLine:
    if fused is None:
        return pair
    return msgspec.structs.replace(
        fused,
        t_ns=pair.t_ns,
        visible=pair.visible if pair.visible is not None else fused.visible,
        thermal=pair.thermal if pair.thermal is not None else fused.thermal,
        skew_ns=pair.skew_ns if pair.skew_ns is not None else fused.skew_ns,
        flags=pair.flags if pair.visible is not None and pair.thermal is not None else fused.flags,
        rebuilt=pair.rebuilt or fused.rebuilt,
    )


def _complete(lines: list[FrameLine], header: HeaderLine | None) -> None:
    """Give them their numbers, and carry what only fused pictures tell on to the pairs that were not fused."""
    calibration = header.calibration if header is not None else None
    offsets = dict(header.offsets_ns) if header is not None else {}
    seen: dict[TrackName, set[int]] = {name: set() for name in TrackName}
    for n, line in enumerate(lines):
        if line.fused is not None and not line.rebuilt:
            calibration, offsets = line.calibration, line.offsets_ns
        lines[n] = msgspec.structs.replace(
            line,
            n=n,
            visible=_first_or_again(line.visible, seen[TrackName.VISIBLE]),
            thermal=_first_or_again(line.thermal, seen[TrackName.THERMAL]),
            calibration=calibration,
            offsets_ns=offsets,
        )


def _first_or_again(source: SourceRef | None, seen: set[int]) -> SourceRef | None:
    if source is None or source.at is None:
        return source
    again = source.at.k in seen
    seen.add(source.at.k)
    return msgspec.structs.replace(source, at=msgspec.structs.replace(source.at, new=False)) if again else source
