"""What a run of the window came to: figures, a table, a plot."""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.soak.heartbeat import Gap, Heartbeat, HeartbeatFigures

__all__ = ["Report", "Sample", "Step", "conclude", "write_out"]

_KEPT_UP_FPS = 29.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of the run."""

    t_s: float
    rss_mb: float
    threads: int
    files: int
    fused_fps: float
    shown_fps: float
    latency_ms: float | None
    worst_gap_ms: float
    engine: str
    recording: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the operator did, and how long until the window had done it."""

    at_s: float
    name: str
    seconds: float


@dataclass
class Report:
    """Figures of one run. Times in s or ms as named; memory in MB (1e6 bytes)."""

    import_s: float = 0.0
    first_picture_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    shown_latency_ms: tuple[float, float] | None = None
    unseen: int = 0
    unseen_frozen: int = 0
    presented: int = 0
    paint_p95_ms: float = 0.0
    heartbeat: HeartbeatFigures | None = None
    gaps: list[Gap] = field(default_factory=list)
    rss_start_mb: float = 0.0
    rss_end_mb: float = 0.0
    growth_mb: float = 0.0
    block_s: float = 0.0
    block_growth_mb: float | None = None
    block_first_ms: float | None = None
    block_age_ms: float | None = None
    block_stale: int = 0
    snapshot_ms: list[float] = field(default_factory=list)  # from the key to the bundle on disk
    snapshot_lost: int = 0  # frames lost anywhere meanwhile
    round_mb: list[float] = field(default_factory=list)  # resident at the end of each round, the rig running
    steady_gaps_ms: tuple[int, float, float, int] | None = None  # see `_steady`
    close_s: float | None = None
    recordings: list[str] = field(default_factory=list)
    single_shown: int = 0  # pictures of one camera alone, each of which must say so
    unmarked: list[str] = field(default_factory=list)
    growth_after_5_min_mb: float | None = None
    threads_left: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def conclude(
    report: Report,
    frames: dict[str, int],
    drops: dict[str, int],
    latency_ms: list[tuple[float, float]],
    unseen: int,
    heart: Heartbeat,
    samples: list[Sample],
) -> None:
    """Fill in what is known at the end. growth_mb: the last sixth of the run against the second, medians."""
    report.frames, report.drops, report.unseen = frames, drops, unseen
    if latency_ms:
        report.shown_latency_ms = statistics.median(p[0] for p in latency_ms), max(p[1] for p in latency_ms)
    report.heartbeat, report.gaps, report.samples = heart.figures, heart.gaps, samples
    report.seconds = samples[-1].t_s if samples else 0.0
    report.steady_gaps_ms = _steady(samples)
    rss = [sample.rss_mb for sample in samples]
    sixth = len(rss) // 6
    if sixth:
        report.rss_start_mb = statistics.median(rss[sixth : 2 * sixth])
        report.rss_end_mb = statistics.median(rss[-sixth:])
        report.growth_mb = report.rss_end_mb - report.rss_start_mb


def _steady(samples: list[Sample]) -> tuple[int, float, float, int] | None:
    """The seconds in which the pipeline kept up, 29 frames/s: how many, and of the longest gap of each the median, the
    worst, and how many were above 50 ms."""
    gaps = [sample.worst_gap_ms for sample in samples if sample.fused_fps >= _KEPT_UP_FPS]
    return (len(gaps), statistics.median(gaps), max(gaps), sum(gap > 50.0 for gap in gaps)) if gaps else None


def write_out(report: Report, out: Path) -> None:
    """report.md, figures.json, samples.csv, gaps.txt and window.png."""
    figures = dataclasses.asdict(report)
    for name in ("samples", "gaps"):
        figures.pop(name)
    (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if report.samples:
        names = [item.name for item in dataclasses.fields(Sample)]
        with (out / "samples.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([_shown(getattr(sample, name)) for name in names] for sample in report.samples)
    with (out / "gaps.txt").open("w", encoding="utf-8") as file:
        for gap in report.gaps:
            file.write(
                f"{gap.at_s:.3f} s: {gap.gap_ms:.1f} ms; own work {gap.work_ms:.1f}, waiting for a processor "
                f"{gap.ready_ms:.1f}, held up {gap.held_ms:.1f}\n{gap.stacks}\n"
            )
    (out / "report.md").write_text(_table(report), encoding="utf-8")
    if report.samples:
        _plot(report, out / "window.png")


def _shown(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


def _table(report: Report) -> str:
    heart, frames = report.heartbeat, report.frames
    fused = max(1, frames.get("fused", 0))
    rows: list[tuple[str, str]] = [
        ("time", f"{report.seconds:.0f} s, {len(report.steps)} steps of the operator, {len(report.problems)} problems"),
        (
            "frames",
            ", ".join(
                f"{frames.get(n, 0)} {n}" for n in ("visible", "thermal", "paired", "fused", "shown", "recorded")
            ),
        ),
        ("dropped", ", ".join(f"{count} {cause}" for cause, count in report.drops.items() if count) or "none"),
        (
            "fused, never shown",
            f"{report.unseen} of {fused}; {report.unseen_frozen} of them while frozen or blocked on purpose",
        ),
    ]
    if report.shown_latency_ms is not None:
        p50, p95 = report.shown_latency_ms
        rows.append(("grab to screen", f"p50 {p50:.0f} ms, p95 {p95:.0f} ms (the worst of all starts of the rig)"))
    rows.append(("painting", f"{report.presented} times, p95 {report.paint_p95_ms:.1f} ms on the wall"))
    if heart is not None:
        rows += [
            (
                "GUI thread, on the wall",
                f"{heart.beats} beats; p50 {heart.p50_ms:.1f} ms, p99 {heart.p99_ms:.1f} ms, worst {heart.worst_ms:.1f}"
                f" ms; {heart.over_20} above 20 ms, {heart.over_50} above 50 ms",
            ),
            (
                "GUI thread, own work",
                f"p50 {heart.own_p50_ms:.1f} ms, p99 {heart.own_p99_ms:.1f} ms, worst {heart.own_worst_ms:.1f} ms;"
                f" {heart.own_over_20} above 20 ms, {heart.own_over_50} above 50 ms",
            ),
        ]
    if report.steady_gaps_ms is not None:
        seconds, median_ms, worst_ms, above = report.steady_gaps_ms
        rows.append(
            (
                f"seconds with {_KEPT_UP_FPS:g} frames/s or more, the longest gap of each",
                f"{seconds}: median {median_ms:.1f} ms, worst {worst_ms:.1f} ms, {above} above 50 ms",
            )
        )
    rows.append(
        (
            "memory",
            f"{report.rss_start_mb:.0f} MB in the second sixth, {report.rss_end_mb:.0f} MB in the last:"
            f" {report.growth_mb:+.1f} MB; at the end of each round {', '.join(f'{mb:.0f}' for mb in report.round_mb)}",
        )
    )
    if report.snapshot_ms:
        shown = sorted(report.snapshot_ms)
        rows.append(
            (
                "snapshot, from the key to the bundle",
                f"{len(shown)} times; median {statistics.median(shown):.0f} ms, worst {shown[-1]:.0f} ms;"
                f" {report.snapshot_lost} frames lost meanwhile",
            )
        )
    if report.block_growth_mb is not None:
        rows.append(
            (
                f"GUI thread blocked for {report.block_s:g} s",
                f"{report.block_growth_mb:+.1f} MB; then {report.block_stale} old pictures and the newest after"
                f" {report.block_first_ms or 0:.0f} ms, fused {report.block_age_ms or 0:.0f} ms before it was shown",
            )
        )
    starts = ", ".join(f"{seconds:.2f}" for seconds in report.first_picture_s)
    rows.append(("start of the rig to first picture", f"{starts} s; imports of the window {report.import_s:.2f} s"))
    if report.close_s is not None:
        rows.append(("closing while recording", f"{report.close_s:.2f} s"))
    rows.append(("recordings", "; ".join(report.recordings) or "none"))
    rows.append(("threads left", ", ".join(report.threads_left) or "none"))
    lines = ["| what | figures |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
    lines += ["", f"- pictures of one camera: {report.single_shown}, unmarked: {len(report.unmarked)}"]
    if report.growth_after_5_min_mb is not None:
        lines.append(f"- memory after the fifth minute: {report.growth_after_5_min_mb:+.1f} MB")
    lines += ["", *(f"- {problem}" for problem in report.problems)]
    worst = sorted(report.gaps, key=lambda gap: -gap.gap_ms)[:12]
    worst += [gap for gap in sorted(report.gaps, key=lambda gap: -gap.work_ms)[:6] if gap not in worst]
    if worst:
        lines += [
            "",
            "| longest gaps, and those of most own work, at s | ms | own work | waiting for a processor | held up |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {g.at_s:.1f} | {g.gap_ms:.1f} | {g.work_ms:.1f} | {g.ready_ms:.1f} | {g.held_ms:.1f} |" for g in worst
        ]
    return "\n".join(lines) + "\n"


def _plot(report: Report, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    samples = report.samples
    times = [sample.t_s for sample in samples]
    figure, axes = plt.subplots(4, 1, sharex=True, figsize=(10, 8), layout="constrained")
    axes[0].plot(times, [s.rss_mb for s in samples], linewidth=0.9)
    axes[0].set_ylabel("resident MB")
    axes[0].set_ylim(bottom=0)
    axes[1].plot(times, [s.fused_fps for s in samples], linewidth=0.9, label="fused")
    axes[1].plot(times, [s.shown_fps for s in samples], linewidth=0.9, label="shown")
    axes[1].set_ylabel("frames/s")
    axes[1].legend(loc="lower right")
    axes[2].plot(times, [s.latency_ms for s in samples], linewidth=0.9)
    axes[2].set_ylabel("grab to screen\np95, ms")
    axes[2].set_ylim(bottom=0)
    axes[3].plot(times, [s.worst_gap_ms for s in samples], linewidth=0.9)
    axes[3].axhline(50.0, color="tab:red", linewidth=0.8, linestyle="--")
    axes[3].set_ylabel("longest gap of the\nGUI thread, ms")
    axes[3].set_ylim(0, 200)
    axes[3].set_xlabel("s; shaded: recording")
    for axis in axes:
        for sample in samples:
            if sample.recording == "recording":
                axis.axvspan(sample.t_s - 1.0, sample.t_s, alpha=0.12, color="tab:green", linewidth=0)
    figure.savefig(path, dpi=110)
    plt.close(figure)
