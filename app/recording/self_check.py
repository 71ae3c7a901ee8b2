"""After a recording: are the pictures really there, and do video and sidecar say the same?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.recording.agreement import agree
from app.recording.config import TrackName
from app.recording.reader import RecordingReader
from app.recording.recover import recover
from app.recording.sidecar import FrameLine, Ref, SidecarContent, read_sidecar, sidecar_path
from app.recording.timing import write_timing_page
from app.recording.video_scan import scan_video
from fusion_core.errors import LumithermError, RecordingError

__all__ = ["CheckReport", "check_recording", "finish_recording"]

_END_S = 1.0
_READ_BYTES_PER_S = 50e6  # what a slow disk gives


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check saw. `complete` is false when there was no time for all of it."""

    path: Path
    frames: dict[str, int]
    decoded: int
    problems: tuple[str, ...]
    complete: bool


def check_recording(path: Path, deadline: float | None = None, every_frame: bool = False) -> CheckReport:
    """Count the pictures of each track against the sidecar and decode the first and last second of each track.

    Args:
        path: the video file.
        deadline: time.monotonic() at which to stop; None = take the time it needs.
        every_frame: decode everything, not only the ends.

    Raises:
        BadInputError: the file is no recording.
    """
    problems: list[str] = []
    # Half of the time at most for counting: the ends are to be decoded too.
    scan = scan_video(path, None if deadline is None else (time.monotonic() + deadline) / 2)
    if scan.damage:
        problems.append(scan.damage)
    frames = {str(name): len(track.ms) for name, track in scan.tracks.items()}
    content: SidecarContent | None = None
    try:
        content = read_sidecar(sidecar_path(path))
    except LumithermError as error:
        problems.append(str(error))
    if content is not None:
        if content.damage:
            problems.append(f"the sidecar is damaged: {content.damage}")
        if content.end is None:
            problems.append("the recording was not closed in order; lumitherm recover FILE finishes it")
        elif scan.complete:
            problems += [
                f"{track}: the sidecar counts {count} pictures, the video has {frames.get(track, 0)}"
                for track, count in content.end.frames.items()
                if count != frames.get(track, 0)
            ]
        agreement = agree(content, scan) if scan.complete else None
        if agreement is not None and agreement.changed:
            problems.append(
                f"sidecar and video disagree: {agreement.dropped} lines without pictures, {agreement.trimmed} lines "
                f"that lost one, {agreement.rebuilt} pictures without a line; lumitherm recover FILE makes them agree"
            )
    for name, track in scan.tracks.items():
        if any(later <= earlier for earlier, later in zip(track.ms, track.ms[1:], strict=False)):
            problems.append(f"{name}: the stamps do not rise")
        if track.ms and (not track.keys or track.keys[0] != 0):
            problems.append(f"{name}: the first picture is no key frame")
    decoded, complete = _decode_ends(path, problems, deadline, every_frame)
    return CheckReport(path, frames, decoded, tuple(problems), complete and scan.complete)


def _decode_ends(path: Path, problems: list[str], deadline: float | None, every_frame: bool) -> tuple[int, bool]:
    decoded = 0
    with RecordingReader(path) as reader:
        if not len(reader):
            problems.append("it holds no pictures")
            return 0, True
        last_s = (reader.line(len(reader) - 1).t_ns - reader.line(0).t_ns) / 1e9
        for track in reader.tracks:
            if every_frame or last_s <= 2 * _END_S:
                wanted = range(len(reader))
                parts = [wanted]
            else:
                parts = [range(reader.index_at(_END_S) + 1), range(reader.index_at(last_s - _END_S), len(reader))]
            for part in parts:
                for index in part:
                    if deadline is not None and time.monotonic() > deadline:
                        return decoded, False
                    ref = _ref(reader.line(index), track)
                    if ref is None or not ref.new:
                        continue
                    try:
                        reader.picture(track, index)
                        decoded += 1
                    except LumithermError as error:
                        problems.append(str(error))
                        if len(problems) > 20:
                            return decoded, False
    return decoded, True


def _ref(line: FrameLine, track: TrackName) -> Ref | None:
    if track is TrackName.FUSED:
        return line.fused
    source = line.visible if track is TrackName.VISIBLE else line.thermal
    return source.at if source is not None else None


def finish_recording(paths: Sequence[Path], check: bool, deadline: float) -> list[CheckReport]:
    """Everything that comes after the last byte: make interrupted segments agree, check, write the timing pages.

    Args:
        paths: the segments, oldest first; those that the ring policy has deleted are left out.
        check: whether to decode; the timing page is written in any case.
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
                    raise RecordingError("no time left to make sidecar and video agree; run lumitherm recover on it")
                recover(path)
                content = read_sidecar(sidecar_path(path))
            if check:
                report = check_recording(path, deadline)
                problems += report.problems
                reports.append(report)
            write_timing_page(path, content, problems)
        except (LumithermError, OSError) as error:
            reports.append(CheckReport(path, {}, 0, (str(error),), False))
    return reports[::-1]
