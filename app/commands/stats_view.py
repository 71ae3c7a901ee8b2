"""Shows statistics without a window: a live table on a terminal, one structured log line now and then otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.pipeline.state.stats import (
    BudgetLevel,
    BudgetReading,
    Distribution,
    DriftReading,
    RecordingState,
    StatsSnapshot,
)
from app.recording.writing.load import LoadStep

__all__ = ["StatsView", "budget_text", "drift_text", "log_fields", "render_table"]

_BUDGET_STYLE: Mapping[BudgetLevel, str] = {
    BudgetLevel.GREEN: "green",
    BudgetLevel.AMBER: "yellow",
    BudgetLevel.RED: "bold red",
    BudgetLevel.UNKNOWN: "dim",
}


class StatsView:
    """Context manager; call `update` about once a second from one thread. It starts no thread.

    Args:
        console: where the table goes; None = standard error. A table is drawn only on a terminal.
        log_interval_s: seconds between two log lines where there is no terminal.
        clock_s: monotonic time, s.
    """

    def __init__(
        self,
        console: Console | None = None,
        log_interval_s: float = 5.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console if console is not None else Console(stderr=True)
        self._log_interval_s = log_interval_s
        self._clock_s = clock_s
        self._logger: Any = structlog.get_logger("stats")
        self._live: Live | None = None
        self._last_log_s: float | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            # Log lines that are written meanwhile appear above the table.
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=True, redirect_stderr=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, snapshot: StatsSnapshot, final: bool = False) -> None:
        """Show these numbers; `final` writes a log line even if the last one is recent."""
        if self._live is not None:
            self._live.update(render_table(snapshot), refresh=True)
            return
        now_s = self._clock_s()
        if final or self._last_log_s is None or now_s - self._last_log_s >= self._log_interval_s:
            self._last_log_s = now_s
            self._logger.info("stats", **log_fields(snapshot))


def log_fields(snapshot: StatsSnapshot) -> dict[str, Any]:
    """The snapshot as flat key/value pairs for one log line; what is not known or zero is left out."""
    fields: dict[str, Any] = {"uptime_s": round(snapshot.uptime_s, 1), "engine": snapshot.engine}
    fields |= {f"fps_{stage}": round(rate, 1) for stage, rate in snapshot.fps.items() if snapshot.frames[stage]}
    for name, figures in (*snapshot.latency_ms.items(), ("skew", snapshot.skew_ms), ("fuse", snapshot.fuse_ms)):
        if figures.p50 is not None and figures.p95 is not None:
            fields[f"{name}_p50_ms"], fields[f"{name}_p95_ms"] = round(figures.p50, 1), round(figures.p95, 1)
    fields |= {f"camera_{stream}": state for stream, state in snapshot.cameras.items()}
    fields |= {f"reconnects_{stream}": count for stream, count in snapshot.reconnects.items() if count}
    fields["drops"] = dict(snapshot.drops)
    if snapshot.ffc_count:
        fields["ffc"] = snapshot.ffc_count
    if snapshot.fallback_reason:
        fields["fallback_reason"] = snapshot.fallback_reason
    if snapshot.recording is not RecordingState.OFF:
        fields |= {"recording": snapshot.recording.value, "file": snapshot.recording_file}
        fields |= {f"recorded_{track}": count for track, count in snapshot.recorded.items()}
        fields |= {"recording_step": snapshot.recording_step}
    if snapshot.disk_s_left is not None:
        fields["disk_s_left"] = round(snapshot.disk_s_left)
    if snapshot.budget is not None:
        fields |= {"budget": snapshot.budget.level.value, "budget_px": round(snapshot.budget.total_px, 1)}
    if snapshot.drift is not None:
        fields |= {"drift": snapshot.drift.level}
        if snapshot.drift.far_px is not None:
            fields["far_px"] = round(snapshot.drift.far_px)
        if snapshot.drift.drift_px is not None:
            fields["drift_px"] = round(snapshot.drift.drift_px, 1)
        if snapshot.drift.applied_px:
            fields["corrected_px"] = round(snapshot.drift.applied_px, 1)
    if snapshot.warnings:
        fields["warnings"] = list(snapshot.warnings)
    return fields


def render_table(snapshot: StatsSnapshot) -> RenderableType:
    """The snapshot as a table for a terminal of 100 columns (70 hold the rates)."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="bold", no_wrap=True)
    head.add_column()
    engine = Text(snapshot.engine)
    if snapshot.fallback_reason:
        engine.append(f"  (instead: {snapshot.fallback_reason})", style="yellow")
    head.add_row("engine", engine)
    head.add_row("cameras", _cameras(snapshot))
    head.add_row("skew", _figures(snapshot.skew_ms) + _signed(snapshot.skew_mean_ms))
    for name, figures in snapshot.latency_ms.items():
        head.add_row(name.replace("_", " "), _figures(figures))
    head.add_row("fuse", _figures(snapshot.fuse_ms))
    if snapshot.budget is not None:
        head.add_row("alignment", Text(budget_text(snapshot.budget), style=_BUDGET_STYLE[snapshot.budget.level]))
    if snapshot.drift is not None:
        style = {"warn": "yellow", "alarm": "bold red", "unknown": "dim"}.get(snapshot.drift.level, "")
        style = style if snapshot.drift.far_px is None else "bold red"
        head.add_row("drift", Text(drift_text(snapshot.drift), style=style))
    head.add_row("recording", _recording(snapshot))
    drops = ", ".join(f"{cause} {count}" for cause, count in snapshot.drops.items() if count)
    head.add_row("drops", Text(drops or "none", style="yellow" if drops else ""))
    if snapshot.queues:
        queues = ", ".join(f"{name} {q.depth}/{q.capacity} (most {q.most})" for name, q in snapshot.queues.items())
        head.add_row("queues", Text(queues))
    for warning in snapshot.warnings:
        head.add_row("warning", Text(warning, style="yellow"))

    rates = Table(title=f"after {_clock(snapshot.uptime_s)}", title_justify="left")
    for stage in snapshot.fps:
        rates.add_column(stage, justify="right", min_width=8)
    rates.add_row(*(f"{rate:.1f}/s" for rate in snapshot.fps.values()))
    rates.add_row(*(str(snapshot.frames[stage]) for stage in snapshot.fps), style="dim")
    return Group(rates, head)


def budget_text(reading: BudgetReading) -> str:
    """One line: total against the limit, its parts, and what cannot be told."""
    parts = (("parallax", reading.parallax_px), ("skew", reading.skew_px), ("shift", reading.residual_px))
    shown = " + ".join(f"{name} {'?' if value is None else f'{value:.1f}'}" for name, value in parts)
    text = f"{reading.level.value}: {reading.total_px:.1f} of {reading.limit_px:g} px = {shown}"
    return f"{text} ({'; '.join(reading.notes)})" if reading.notes else text


def drift_text(reading: DriftReading) -> str:
    """One line: how far thermal lies off, and what is done about it."""
    if reading.far_px is not None:
        text = f"far off: {reading.far_px:.0f} px, the pair does not fit"
    elif reading.drift_px is None:
        text = "unknown: the scene does not tell (yet)"
    else:
        text = f"{reading.level}: {reading.drift_px:.1f} px (x {reading.dx_px:+.1f}, y {reading.dy_px:+.1f})"
    if reading.moving:
        text += ", being corrected"
    elif reading.proposed_px is not None:
        text += f", a correction of {reading.proposed_px:.1f} px is proposed"
    return f"{text}, corrected by {reading.applied_px:.1f} px" if reading.applied_px else text


def _cameras(snapshot: StatsSnapshot) -> Text:
    text = Text()
    for stream, state in snapshot.cameras.items():
        count = snapshot.reconnects.get(stream, 0)
        text.append(f"{stream} {state}", style="" if state in ("streaming", "opening", "ended", "closed") else "yellow")
        text.append(f", reconnected {count}x  " if count else "  ")
    shutter = "closed now" if snapshot.ffc_active else "open"
    text.append(f"shutter {shutter}, {snapshot.ffc_count} corrections", style="yellow" if snapshot.ffc_active else "")
    return text


def _recording(snapshot: StatsSnapshot) -> Text:
    bad = snapshot.recording in (RecordingState.PAUSED, RecordingState.FAILED)
    text = Text(snapshot.recording.value, style="bold red" if bad else "")
    if snapshot.recording_file:
        text.append(f"  {snapshot.recording_file}")
    if snapshot.recorded_s is not None:
        text.append(f"  {_clock(snapshot.recorded_s)}")
    if snapshot.recorded:
        text.append("  " + ", ".join(f"{track} {count}" for track, count in snapshot.recorded.items()))
    if snapshot.recording_step != LoadStep.FULL:
        text.append(f"  {snapshot.recording_step.replace('_', ' ')}", style="yellow")
    if snapshot.disk_s_left is not None:
        text.append(f"  space for {_clock(snapshot.disk_s_left)}", style="red" if snapshot.disk_s_left < 600 else "")
    return text


def _figures(figures: Distribution) -> str:
    if figures.p50 is None or figures.p95 is None or figures.maximum is None:
        return "-"
    return f"p50 {figures.p50:.1f}  p95 {figures.p95:.1f}  max {figures.maximum:.1f} ms"


def _signed(mean_ms: float | None) -> str:
    return "" if mean_ms is None else f"  (visible {abs(mean_ms):.1f} ms {'later' if mean_ms >= 0 else 'earlier'})"


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole >= 100 * 3600:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
