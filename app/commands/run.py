"""`lumitherm run --config FILE`: the live pipeline, with a window or without."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.options import Overrides, Simulated
from app.commands.common.output import output, progress_console, say, stop_on_signals, tell

if TYPE_CHECKING:
    import threading

    from app.configuration.config import AppConfig
    from app.pipeline.live_fusion import LiveFusion
    from app.recording.writing.status import RecordingSummary
    from fusion_core.errors import RecordingError

__all__ = ["register", "run_headless"]

_UPDATE_S = 1.0


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("run")(_run)


def _run(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration of the rig.")
    ] = None,
    simulated: Simulated = False,
    headless: Annotated[bool, typer.Option("--headless", help="No window: statistics on the terminal.")] = False,
    duration_s: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="S", help="Stop after so long; counts from the first picture."),
    ] = None,
    record: Annotated[
        bool | None, typer.Option("--record/--no-record", help="Record from the start; default: as the file says.")
    ] = None,
    overrides: Overrides = None,
    service: Annotated[
        bool, typer.Option("--service", help="Unattended, with all of the section `service`; goes with --headless.")
    ] = False,
) -> None:
    """Run the live pipeline until Ctrl-C, SIGTERM, a hang-up, the end of the sources, or --duration-s.

    Cameras that are missing or fail are reopened for ever; what is wrong is shown and logged. Every way of ending
    closes the recording in order.
    """
    from app.configuration.config import load_config
    from app.configuration.examples import example
    from app.logging_setup import configure_logging
    from app.process import keep_files_private
    from fusion_core.errors import UsageError

    keep_files_private()
    changes = list(overrides or ())
    if record is not None:
        changes.append(f"recording.autostart={'true' if record else 'false'}")
    if (config is None) != simulated:
        raise UsageError(
            "give --config FILE or --simulated; `lumitherm config init` writes a configuration to begin with"
        )
    file = config if config is not None else example("simulated")
    settings = load_config(file, changes, os.environ)
    if service and not headless:
        raise UsageError("--service goes with --headless; a window needs somebody who looks at it")
    if not headless:
        if duration_s is not None:
            raise UsageError("--duration-s goes with --headless; close the window to stop")
        from app.gui.application import run as run_window  # Qt loads only for a window

        configure_logging(output().logging(settings.logging))
        raise typer.Exit(run_window([], settings))
    configure_logging(output().logging(settings.logging))
    read_config = (lambda: load_config(file, changes, os.environ)) if service else None
    run_headless(settings, duration_s, read_config)


def run_headless(
    settings: AppConfig,
    duration_s: float | None,
    read_config: Callable[[], AppConfig] | None = None,
    make_live: Callable[[AppConfig], LiveFusion] | None = None,
) -> None:
    """`read_config`: run as a service, and read the configuration again by it. `make_live`: for fault drills."""
    import cv2

    from app.pipeline.live_fusion import LiveFusion
    from app.recording.writing.disk import require_writable

    cv2.setNumThreads(1)  # the stages run side by side already; OpenCV's own threads would only get in their way
    with stop_on_signals() as (stop, received), contextlib.ExitStack() as after:
        if read_config is not None:
            from app.service.runner import service_run  # the web server and its friends load only for a service

            settings, attach = after.enter_context(service_run(settings, read_config, stop.set))
        elif settings.recording.autostart:
            require_writable(settings.recording.directory)  # rather than a run that records nothing
        live = make_live(settings) if make_live is not None else LiveFusion(settings)
        if read_config is not None:
            attach(live)
        live.start()
        try:
            _watch(live, settings, stop, duration_s)
        finally:
            live.stop()
        _tell_end(live)
    if live.failure is not None:
        raise live.failure
    if live.recording.in_vain and (read_config is None or received or duration_s is not None):
        raise _recorded_nothing(live, settings)
    if received:
        raise typer.Exit(128 + received[0])


def _recorded_nothing(live: LiveFusion, settings: AppConfig) -> RecordingError:
    """Who asked for a recording and got none learns it by the exit code, and why."""
    from fusion_core.errors import RecordingError

    told = [problem.text for problem in live.problems.recent() if problem.source == "recording"]
    reason = told[-1] if told else "no camera gave a picture"
    return RecordingError(f"nothing was recorded in {settings.recording.directory}: {reason}")


def _watch(live: LiveFusion, settings: AppConfig, stop: threading.Event, duration_s: float | None) -> None:
    """Show statistics until there is a reason to stop."""
    from app.commands.stats_view import StatsView

    end_s: float | None = None
    with StatsView(progress_console(), log_interval_s=settings.logging.stats_interval_s) as view:
        next_s = 0.0
        while not stop.is_set() and not live.wait(0.1):
            now_s = time.monotonic()
            if duration_s is not None and end_s is None and live.latest.sequence:
                end_s = now_s + duration_s
            if end_s is not None and now_s >= end_s:
                break
            if now_s >= next_s:
                next_s = now_s + _UPDATE_S
                view.update(live.stats.snapshot())
        view.update(live.stats.snapshot(), final=True)


def _tell_end(live: LiveFusion) -> None:
    snapshot = live.stats.snapshot()
    total = snapshot.latency_total_ms["grab_to_fused"]
    latency = "" if total.p50 is None else f", latency p50 {total.p50:.1f} ms, p95 {total.p95:.1f} ms"
    say(f"{snapshot.frames['fused']} pictures fused by {snapshot.engine}{latency}, {snapshot.total_drops} lost")
    tell(
        frames=dict(snapshot.frames), engine=snapshot.engine, drops=dict(snapshot.drops),
        latency_p50_ms=total.p50, latency_p95_ms=total.p95,
    )  # fmt: skip
    for cause, count in snapshot.drops.items():
        say(f"lost: {cause} {count}")
    if live.recording.summary is not None:
        summary = live.recording.summary
        gaps = [each.text for each in live.problems.recent() if (each.source, each.severity) == ("recording", "error")]
        problems = list(dict.fromkeys([*gaps, *summary.problems]))
        tell(recording={
            "seconds": summary.seconds, "bytes": summary.bytes, "frames": dict(summary.frames),
            "problems": problems, "files": [str(segment.path) for segment in summary.segments],
        })  # fmt: skip
        for line in _describe_recording(summary, problems):
            say(line)


def _describe_recording(summary: RecordingSummary, problems: list[str]) -> list[str]:
    frames = ", ".join(f"{track} {count}" for track, count in summary.frames.items())
    lines = [
        f"recorded {summary.seconds:.1f} s, {summary.bytes / 1e6:.1f} MB, pictures: {frames or 'none'}"
        + "".join(f", refused {count} {track}" for track, count in summary.refused.items())
        + (f", left out {summary.left_out} fused" if summary.left_out else "")
    ]
    lines += [f"problem: {problem}" for problem in problems]
    lines += [str(segment.path) for segment in summary.segments]
    return lines
