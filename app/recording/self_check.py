"""After a recording: are the pictures really there, and do video and sidecar say the same?"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from app.recording.agreement import Agreement, agree
from app.recording.config import TrackName
from app.recording.recover import recover
from app.recording.sidecar import (
    FrameLine,
    HeaderLine,
    PictureLine,
    RawLine,
    Ref,
    SidecarContent,
    read_sidecar,
    sidecar_path,
)
from app.recording.timing import write_timing_page
from app.recording.track_reader import TrackReader, picture_size
from app.recording.video_scan import TrackScan, VideoScan, scan_video
from fusion_core.errors import LumithermError, RecordingError

__all__ = ["CheckReport", "check_recording", "finish_recording"]

_END_S = 1.0
_READ_BYTES_PER_S = 50e6  # what a slow disk gives
_MOST_TOLD = 20  # problems of a kind
_PART_PICTURES = 100  # that one thread decodes in one go, about
_CHANGED = "its bytes are not those that were written"

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check saw. `complete` is false when there was no time for all of it."""

    path: Path
    frames: dict[str, int]
    decoded: int
    problems: tuple[str, ...]
    complete: bool


def check_recording(
    path: Path, deadline: float | None = None, quick: bool = False, progress: Progress | None = None
) -> CheckReport:
    """Count the pictures of each track against the sidecar, compare their bytes with its checksums, and decode them.

    Args:
        path: the video file.
        deadline: time.monotonic() at which to stop; None = take the time it needs.
        quick: decode only the first and last second of each track, and compare no checksums of the rest.
        progress: called now and then with the share that is done, 0 to 1; from several threads, one at a time.

    Raises:
        BadInputError: the file is no recording.
    """
    problems: list[str] = []
    told = _Progress(path, 0.0 if quick else 0.3, progress)
    # Half of the time at most for counting: the ends are to be decoded too.
    limit = None if deadline is None else (time.monotonic() + deadline) / 2
    scan = scan_video(path, limit, crcs=not quick, progress=told.read)
    told.read_all()
    if scan.damage:
        problems.append(scan.damage)
    content = _content(path, scan, problems)
    if scan.complete and not scan.damage and content is not None and scan.metadata is not None:
        problems += _differences(content, scan.metadata)
    agreement = agree(content, scan) if scan.complete and content is not None else None
    if agreement is not None and agreement.changed and content is not None:
        problems += _disagreement(path, agreement, content)
    for name, track in scan.tracks.items():
        if any(later <= earlier for earlier, later in zip(track.ms, track.ms[1:], strict=False)):
            problems.append(f"{name}: the stamps do not rise")
        if track.ms and (not track.keys or track.keys[0] != 0):
            problems.append(f"{name}: the first picture is no key frame")
    if not any(track.ms for track in scan.tracks.values()):
        problems.append("it holds no pictures")
    refs = _refs(agreement.lines) if agreement is not None else {}
    damage = _Damage()
    if not quick:
        damage.compare(scan, refs)
    header = content.header if content is not None else None
    decoded, complete = _decode(path, scan, header, refs, damage, deadline, quick, told)
    problems += damage.told()
    frames = {str(name): len(track.ms) for name, track in scan.tracks.items()}
    return CheckReport(path, frames, decoded, tuple(problems), complete and scan.complete)


def _content(path: Path, scan: VideoScan, problems: list[str]) -> SidecarContent | None:
    """The sidecar, with what is wrong about it by itself and about its counts."""
    try:
        content = read_sidecar(sidecar_path(path))
    except LumithermError as error:
        problems.append(str(error))
        return None
    if content.damage:
        problems.append(f"the sidecar is damaged: {content.damage}")
    if content.end is None:
        problems.append(f"the recording was not closed in order; lumitherm recording recover {path} finishes it")
    elif scan.complete:
        frames = {str(name): len(track.ms) for name, track in scan.tracks.items()}
        problems += [
            f"{track}: the sidecar counts {count} pictures, the video has {frames.get(track, 0)}"
            for track, count in content.end.frames.items()
            if count != frames.get(track, 0)
        ]
    return content


def _differences(sidecar: SidecarContent, copy: SidecarContent) -> list[str]:
    """Where sidecar and its copy in the video say different things: lines have no checksums, but they stand twice."""
    if sidecar.end is None or sidecar.end.reason == "recovered" or sidecar.damage or copy.end is None:
        return []  # then they need not be the same
    if copy.damage:
        return [f"the sidecar's copy in the video is damaged: {copy.damage}"]
    both = (
        ("its header", [sidecar.header], [copy.header]),
        ("line", sidecar.pictures, copy.pictures),
        ("mark", sidecar.others, copy.others),
        ("its end", [sidecar.end], [copy.end]),
    )
    told = []
    for what, ours, theirs in both:
        wrong = [n for n, (a, b) in enumerate(zip_longest(ours, theirs)) if a != b]
        if wrong:
            where = what if what.startswith("its") else f"{len(wrong)} {what}(s), the first of them number {wrong[0]}"
            told.append(f"the sidecar and its copy in the video differ in {where}: one of them is damaged")
    return told


def _disagreement(path: Path, agreement: Agreement, content: SidecarContent) -> list[str]:
    kept = {(track, ref.ms) for track, found in _refs(agreement.lines).items() for ref in found.values()}
    lost = [
        f"{track} at {ref.ms / 1000:.3f} s"
        for track, found in _refs(content.pictures).items()
        for ref in found.values()
        if (track, ref.ms) not in kept
    ]
    where = f" (the first: {', '.join(lost[:3])})" if lost else ""
    return [
        f"sidecar and video disagree: {agreement.dropped} lines without pictures{where}, {agreement.trimmed} lines "
        f"that lost one, {agreement.rebuilt} pictures without a line; lumitherm recording recover {path} "
        "makes them agree"
    ]


def _refs(lines: Sequence[PictureLine]) -> dict[TrackName, dict[int, Ref]]:
    """What the sidecar says of each picture, by track and stamp."""
    found: dict[TrackName, dict[int, Ref]] = {name: {} for name in TrackName}
    for line in lines:
        if isinstance(line, RawLine):
            named: Iterator[tuple[TrackName, Ref | None]] = iter([(line.track, line.at)])
        else:
            named = _places(line)
        for name, ref in named:
            if ref is not None:
                found[name].setdefault(ref.ms, ref)
    return found


def _places(line: FrameLine) -> Iterator[tuple[TrackName, Ref | None]]:
    yield TrackName.FUSED, line.fused
    yield TrackName.VISIBLE, line.visible.at if line.visible is not None else None
    yield TrackName.THERMAL, line.thermal.at if line.thermal is not None else None


class _Progress:
    """Adds up what is read and decoded; tells the share that is done."""

    def __init__(self, path: Path, share_read: float, tell: Progress | None) -> None:
        self._share_read, self._tell = share_read, tell
        self._bytes = max(1, path.stat().st_size if path.exists() else 1)
        self._read = 0
        self._done = 0
        self.pictures = 1  # to decode
        self._lock = threading.Lock()

    def read(self, nbytes: int) -> None:
        self._read += nbytes
        self._show()

    def read_all(self) -> None:
        self.read(self._bytes)

    def decoded(self) -> None:
        with self._lock:
            self._done += 1
            self._show()

    def _show(self) -> None:
        if self._tell is not None:
            read, done = min(1.0, self._read / self._bytes), min(1.0, self._done / self.pictures)
            self._tell(self._share_read * read + (1 - self._share_read) * done)


@dataclass(slots=True)
class _Damage:
    """Damaged pictures by track, stamp and reason; any thread."""

    _found: dict[TrackName, dict[int, str]] = field(default_factory=lambda: {name: {} for name in TrackName})
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, track: TrackName, ms: int, reason: str) -> None:
        with self._lock:
            self._found[track].setdefault(ms, reason)

    def compare(self, scan: VideoScan, refs: Mapping[TrackName, Mapping[int, Ref]]) -> None:
        """Find the pictures whose bytes have another checksum than the sidecar says."""
        for name, track in scan.tracks.items():
            named = refs.get(name, {})
            for ms, crc in zip(track.ms, track.crcs, strict=False):
                ref = named.get(ms)
                if ref is not None and ref.data is not None and ref.data != crc:
                    self.add(name, ms, _CHANGED)

    def told(self) -> list[str]:
        """One line a run of damaged pictures."""
        lines: list[str] = []
        for name, found in self._found.items():
            runs: list[tuple[int, int, int, str]] = []
            for ms in sorted(found):
                first, last, count, reason = runs[-1] if runs else (ms, ms, 0, "")
                if runs and ms - last <= 250 and reason == found[ms]:
                    runs[-1] = (first, ms, count + 1, reason)
                else:
                    runs.append((ms, ms, 1, found[ms]))
            lines += [_run_text(name, *run) for run in runs[:_MOST_TOLD]]
            if len(runs) > _MOST_TOLD:
                lines.append(f"{name}: and {sum(run[2] for run in runs[_MOST_TOLD:])} more damaged pictures")
        return lines


def _run_text(name: TrackName, first_ms: int, last_ms: int, count: int, reason: str) -> str:
    if count == 1:
        return f"{name}: the picture at {first_ms / 1000:.3f} s is damaged: {reason}"
    return f"{name}: {count} pictures from {first_ms / 1000:.3f} s to {last_ms / 1000:.3f} s are damaged: {reason}"


def _decode(
    path: Path,
    scan: VideoScan,
    header: HeaderLine | None,
    refs: Mapping[TrackName, Mapping[int, Ref]],
    damage: _Damage,
    deadline: float | None,
    quick: bool,
    told: _Progress,
) -> tuple[int, bool]:
    """Decode side by side; returns how many pictures were sound, and whether there was time for all."""
    parts = [(track, part) for track in scan.tracks.values() for part in _parts(track, quick)]
    told.pictures = max(1, sum(len(part) for _, part in parts))

    def work(job: tuple[TrackScan, Sequence[int]]) -> tuple[int, bool]:
        track, stamps = job
        return _decode_part(path, track, stamps, header, refs.get(track.name, {}), damage, deadline, told)

    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)) as pool:
        results = list(pool.map(work, parts))
    return sum(count for count, _ in results), all(complete for _, complete in results)


def _parts(track: TrackScan, quick: bool) -> list[Sequence[int]]:
    """The stamps to decode, cut at key frames."""
    if not track.ms:
        return []
    if quick:
        first, last = track.ms[0] + _END_S * 1000, track.ms[-1] - _END_S * 1000
        return [[ms for ms in track.ms if ms <= first], [ms for ms in track.ms if ms >= last and ms > first]]
    starts = [0]
    for key in track.keys:
        if key - starts[-1] >= _PART_PICTURES:
            starts.append(key)
    return [track.ms[start:stop] for start, stop in zip(starts, [*starts[1:], len(track.ms)], strict=True)]


def _decode_part(
    path: Path,
    track: TrackScan,
    stamps: Sequence[int],
    header: HeaderLine | None,
    refs: Mapping[int, Ref],
    damage: _Damage,
    deadline: float | None,
    told: _Progress,
) -> tuple[int, bool]:
    count = 0
    reader = TrackReader(path, track, *picture_size(header, track))
    try:
        for ms in stamps:
            if deadline is not None and time.monotonic() > deadline:
                return count, False
            try:
                pixels = reader.picture(ms)
            except LumithermError:
                damage.add(track.name, ms, "it cannot be decoded")
                continue
            finally:
                told.decoded()
            ref = refs.get(ms)
            if ref is not None and ref.crc is not None and zlib.crc32(pixels.data) != ref.crc:
                damage.add(track.name, ms, "its checksum is wrong")
                continue
            count += 1
    finally:
        reader.close()
    return count, True


def finish_recording(paths: Sequence[Path], check: bool, deadline: float) -> list[CheckReport]:
    """Everything that comes after the last byte: make interrupted segments agree, check, write the timing pages.

    Args:
        paths: the segments, oldest first; those that the ring policy has deleted are left out.
        check: whether to decode the ends; the timing page is written in any case.
        deadline: time.monotonic() at which to stop. The last segment comes first.
    """
    reports: list[CheckReport] = []
    for path in reversed(paths):
        if not path.exists():
            continue
        if time.monotonic() > deadline:
            reports.append(CheckReport(path, {}, 0, (), False))
            continue
        problems: list[str] = []
        try:
            content = read_sidecar(sidecar_path(path))
            if content.end is None:
                if path.stat().st_size > _READ_BYTES_PER_S * (deadline - time.monotonic()):
                    raise RecordingError(
                        "no time left to make sidecar and video agree; do so by lumitherm recording recover"
                    )
                recover(path)
                content = read_sidecar(sidecar_path(path))
            if check:
                report = check_recording(path, deadline, quick=True)
                problems += report.problems
                reports.append(report)
            write_timing_page(path, content, problems)
        except (LumithermError, OSError) as error:
            reports.append(CheckReport(path, {}, 0, (str(error),), False))
    return reports[::-1]
