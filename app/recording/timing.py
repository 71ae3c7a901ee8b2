"""The one-page timing summary of a recording, from its sidecar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from app.recording.config import TrackName
from app.recording.sidecar import FrameLine, GapLine, PictureLine, RawLine, SidecarContent
from fusion_core.files import write_atomic
from fusion_core.frames import FrameFlag

__all__ = ["timing_page", "write_timing_page"]


def timing_page(name: str, content: SidecarContent, problems: Iterable[str] | None) -> str:
    """Markdown: how regular the frames came, how well they were matched, what is missing, what the check found.

    problems: None where nothing was checked; then the page calls nothing sound.
    """
    return "\n".join([f"# {name}", "", *_head(content), *_pairs(content), *_gaps(content), *_check(problems)]) + "\n"


def _head(content: SidecarContent) -> Iterator[str]:
    """What was recorded, and a table of its tracks."""
    header = content.header
    if header is not None:
        label = f", label {header.label}" if header.label else ""
        part = f"segment {header.segment} of {header.recording}; begun by {header.reason}"
        yield f"Recorded {header.wall_start}{label}; {part}."
        yield ""
    yield "| track | codec | pictures | first to last s | rate Hz | interval ms p50 / p95 / max |"
    yield "|" + "---|" * 6
    for track in TrackName:
        stamps = _stamps(content.pictures, track)
        if stamps.size:
            codec = next((f"{t.codec} ({t.encoder})" for t in header.tracks if t.name == track), "") if header else ""
            yield f"| {track} | {codec} | {stamps.size} | {_span_s(stamps):.3f} | {_rate(stamps)} |"
    yield ""


def _pairs(content: SidecarContent) -> Iterator[str]:
    """How well frames were matched, how long fusing took, and what they are marked with."""
    lines = content.frames
    yield f"{'Pairs' if content.paired else 'Fused pictures'}: {len(lines)}."
    skews = np.array([line.skew_ns for line in lines if line.skew_ns is not None], dtype=np.float64) / 1e6
    if skews.size:
        p50, p95, worst = np.percentile(np.abs(skews), (50, 95, 100))
        yield (
            f"Skew, visible minus thermal: mean {skews.mean():+.2f} ms; |skew| p50 {p50:.2f}, p95 {p95:.2f}, "
            f"max {worst:.2f} ms."
        )
    fuse = np.array([line.fuse_ms for line in lines], dtype=np.float64)
    if fuse.size:
        yield (
            f"Fusion: median {np.median(fuse):.2f} ms, p95 {np.percentile(fuse, 95):.2f} ms, "
            f"engines {', '.join(sorted({line.engine for line in lines if line.engine})) or 'unknown'}."
        )
    flagged = {flag.name: sum(bool(_all_flags(line) & flag) for line in content.pictures) for flag in FrameFlag if flag}
    yield f"Flags: {', '.join(f'{name} {count}' for name, count in flagged.items() if count) or 'none'}."
    yield ""


def _gaps(content: SidecarContent) -> Iterator[str]:
    """What is missing."""
    gaps = [mark for mark in content.others if isinstance(mark, GapLine)]
    yield f"Gaps: {len(gaps)}."
    start_ns = content.header.start_ns if content.header is not None else 0
    for gap in gaps[:20]:
        frames = f", {gap.frames} frames" if gap.frames else ""
        yield (
            f"- {gap.cause}, {gap.track}: {(gap.to_ns - gap.from_ns) / 1e9:.3f} s "
            f"from {(gap.from_ns - start_ns) / 1e9:.3f} s{frames}"
        )
    if len(gaps) > 20:
        yield f"- and {len(gaps) - 20} more"
    if content.frames and content.frames[-1].drops:
        drops = ", ".join(f"{cause} {count}" for cause, count in sorted(content.frames[-1].drops.items()))
        yield f"Drops before the recorder, at the end: {drops}."
    yield ""


def _check(problems: Iterable[str] | None) -> Iterator[str]:
    """What the self-check found."""
    if problems is None:
        yield "Not checked: `lumitherm recording check FILE` reads every picture."
        return
    found = list(problems)
    yield "Self-check: " + (f"{len(found)} problem(s)." if found else "sound.")
    yield from (f"- {text}" for text in found)


def write_timing_page(video: Path, content: SidecarContent, problems: Iterable[str]) -> Path:
    """Write the page as NAME.md beside the video; returns its path. Raises OSError."""
    page = video.with_suffix(".md")
    write_atomic(page, timing_page(video.stem, content, problems))
    return page


def _stamps(lines: list[PictureLine], track: TrackName) -> np.ndarray:
    """Times of the new pictures of a track, (N,) int64 ns."""
    stamps: list[int] = []
    for line in lines:
        if isinstance(line, RawLine):
            if line.track is track and line.at is not None:
                stamps.append(line.t_ns)
        elif track is TrackName.FUSED:
            if line.fused is not None and line.fused.new:
                stamps.append(line.t_ns)
        else:
            source = line.visible if track is TrackName.VISIBLE else line.thermal
            if source is not None and source.at is not None and source.at.new:
                stamps.append(source.t_ns)
    return np.array(stamps, dtype=np.int64)


def _span_s(stamps: np.ndarray) -> float:
    return float(stamps[-1] - stamps[0]) / 1e9


def _rate(stamps: np.ndarray) -> str:
    if stamps.size < 2 or stamps[-1] <= stamps[0]:
        return "- | -"
    p50, p95, worst = np.percentile(np.diff(stamps) / 1e6, (50, 95, 100))
    return f"{(stamps.size - 1) / _span_s(stamps):.2f} | {p50:.1f} / {p95:.1f} / {worst:.1f}"


def _all_flags(line: PictureLine) -> int:
    flags = line.flags
    if isinstance(line, FrameLine):
        for source in (line.visible, line.thermal):
            flags |= source.flags if source is not None else 0
    return flags
