"""`lumitherm fuse VISIBLE THERMAL -o OUT`: fuse pictures, folders and videos."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.commands.common.options import AgcName, Overwrite, ViewName
from app.commands.common.output import output as current_output
from app.commands.common.output import progress_console, say, stop_on_signals, tell
from fusion_core.errors import DamagedInputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from app.jobs.report import FuseProgress, FuseReport
    from app.jobs.request import FuseRequest
    from fusion_core.engines.engine import FusionEngine
    from fusion_core.thermal.agc import AgcConfig

__all__ = ["ProgressPrinter", "describe", "register", "report_facts"]

_PLAIN_EVERY_S = 2.0


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("fuse")(_fuse)


def _fuse(
    visible: Annotated[
        Path,
        typer.Argument(help="Picture, folder, video, or numbered pictures (frames/%05d.png); or only a recording."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Picture, folder, or video (.mkv, .mp4); or -; never an input."),
    ],
    thermal: Annotated[
        Path | None, typer.Argument(help="As the visible input: 8- or 16-bit pictures, or a grey or gray16 video.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Size of the network: tiny, small or base.")] = "tiny",
    weights: Annotated[Path | None, typer.Option(help="Your checkpoint instead of the shipped one.")] = None,
    engine: Annotated[
        str,
        typer.Option(help="auto, openvino, torch: network; aligned-pyramid, pyramid, average, ncc-pyramid, edges."),
    ] = "auto",
    strength: Annotated[
        float,
        typer.Option(min=0.0, max=1.5, help="0: visible alone, 1: as trained, above: heat first."),
    ] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine; default: its own choice.")] = None,
    view: Annotated[ViewName, typer.Option(help="What the output shows.")] = "fused",
    calibration: Annotated[
        Path | None, typer.Option(help="The rig's calibration. [default: plain scaling onto the visible picture]")
    ] = None,
    align: Annotated[
        Literal["calibration", "auto"],
        typer.Option(help="auto: find from the pictures how thermal lies on visible, other lenses and turns included."),
    ] = "calibration",
    crf: Annotated[
        int, typer.Option("--crf", "--quality", min=0, max=51, help="H.264 quality: 0 lossless, 18 fine, 51 worst.")
    ] = 18,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames or pictures.")] = None,
    max_skew_ms: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest time between two frames of a pair. [default: 0.75 thermal intervals]"),
    ] = None,
    max_hold_ms: Annotated[
        float, typer.Option(min=0.0, help="How long the last thermal frame stands in for missing ones.")
    ] = 500.0,
    thermal_offset_ms: Annotated[
        float, typer.Option(help="Added to the thermal time stamps, when the two clocks differ.")
    ] = 0.0,
    sequence_fps: Annotated[float, typer.Option(min=0.01, help="Frames a second of numbered pictures.")] = 25.0,
    agc: Annotated[AgcName, typer.Option(help="How 16-bit counts become 8 bit.")] = "plateau",
    agc_range: Annotated[
        str | None, typer.Option(metavar="LOW:HIGH", help="Values shown black and white, in the input's unit.")
    ] = None,
    agc_damping_s: Annotated[
        float | None, typer.Option(min=0.0, max=60.0, help="Time constant of the AGC in videos; 0 = none.")
    ] = None,
    allow_unmatched: Annotated[
        bool, typer.Option("--allow-unmatched", help="Folders: leave out pictures without a partner.")
    ] = False,
    accept_colour: Annotated[
        bool, typer.Option("--accept-colour", help="Thermal in an unknown palette: take its brightness.")
    ] = False,
    allow_damage: Annotated[
        bool, typer.Option("--allow-damage", help="Exit code 0 though an input breaks off or lost frames.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Fuse a visible and a thermal picture, folder of pictures, or video; or a recording of Lumitherm anew.

    Videos are paired by time stamp. Every visible frame appears once in the output, with its own time stamp; where
    thermal is missing, its last frame is held for --max-hold-ms, then the visible frame stands alone.
    """
    from app.jobs.request import AlignBy, FuseOptions, FuseRequest
    from app.view.views import FileView

    value_range = _value_range(agc_range)
    options = FuseOptions(
        view=FileView(view),
        crf=crf,
        limit=limit,
        max_skew_ns=None if max_skew_ms is None else round(max_skew_ms * 1e6),
        max_hold_ns=round(max_hold_ms * 1e6),
        thermal_offset_ns=round(thermal_offset_ms * 1e6),
        agc=_agc_config(agc, agc_damping_s, value_range),
        agc_range=value_range,
        accept_colour=accept_colour,
        calibration=calibration,
        align=AlignBy(align),
        strength=strength,
    )
    request = FuseRequest(visible, thermal, output, options, overwrite, allow_unmatched, sequence_fps)
    _carry_out(request, partial(_make_engine, engine, preset, weights, threads), allow_damage)


def _make_engine(name: str, preset: str, weights: Path | None, threads: int | None) -> FusionEngine:
    from fusion_core.engines.engine import create_engine  # loads the network's libraries
    from fusion_core.engines.video_options import VideoOptions

    return create_engine(name, preset, weights, threads, video=VideoOptions())


def _carry_out(request: FuseRequest, make_engine: Callable[[], FusionEngine], allow_damage: bool) -> None:
    from app.jobs.fuse_files import fuse_files

    if str(request.output) == "-":
        current_output().results_elsewhere = True
    with stop_on_signals() as (stop, received), ProgressPrinter() as printer:
        report = fuse_files(request, make_engine, printer.update, stop)
    for line in describe(report, allow_damage):
        say(line)
    tell(**report_facts(report))
    if report.interrupted:
        what = "it plays" if report.seconds > 0 else "each is complete"
        kept = f"{report.output} holds what was fused until then, {what}" if report.frames else "nothing was written"
        typer.echo(f"lumitherm: stopped early; {kept}", err=True)
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))
    if report.damage and not allow_damage:
        raise DamagedInputError(f"{'; '.join(report.damage)}. What could be read is in {report.output}.")


def _agc_config(mode: AgcName, damping_s: float | None, value_range: tuple[float, float] | None) -> AgcConfig:
    from pydantic import ValidationError

    from fusion_core.thermal.agc import AgcConfig

    values: dict[str, object] = {"mode": "plateau" if value_range is not None else mode}
    if damping_s is not None:
        values["damping_s"] = damping_s
    try:
        return AgcConfig.model_validate(values)
    except ValidationError as error:
        reasons = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"thermal AGC: {reasons} (--agc-range LOW:HIGH)") from error


def _value_range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        values = (float(low), float(high))
    except ValueError:
        values = (math.nan, math.nan)
    if not colon or not all(map(math.isfinite, values)):
        raise UsageError(
            f"--agc-range is {text!r}, wanted LOW:HIGH in the unit of the thermal input, for example"
            " 29000:31000 or 15:40"
        )
    if values[0] >= values[1]:
        raise UsageError(f"--agc-range is {text!r}: {low} must be below {high}")
    return values


def describe(report: FuseReport, with_damage: bool = False) -> list[str]:
    """The report as lines for the user; the output path stands alone on the last."""
    lines = []
    if report.seconds > 0:
        lines.append(f"{report.frames} frames ({report.seconds:.2f} s of video), {report.fps:.1f} fps, {report.engine}")
    else:
        noun = "picture" if report.frames == 1 else "pictures"
        lines.append(f"{report.frames} {noun}, {report.fps:.1f} a second, {report.engine}")
    if report.stages:
        parts = [
            f"{name} {stage.share:.0%} (median {stage.median_ms:.1f} ms, p95 {stage.p95_ms:.1f} ms)"
            for name, stage in report.stages.items()
        ]
        lines.append("time: " + ", ".join(parts))
    if report.held or report.visible_only:
        lines.append(
            f"thermal missing: {report.held} frames with the last thermal picture held, {report.visible_only} frames "
            f"visible only, first at {report.first_gap_s or 0.0:.2f} s"
        )
    lines += [f"note: {note}" for note in (*(report.damage if with_damage else ()), *report.notes)]
    lines.append(str(report.output))
    return lines


def report_facts(report: FuseReport) -> dict[str, Any]:
    """The report for `--json`."""
    return {
        "output": str(report.output), "engine": report.engine, "frames": report.frames, "fps": round(report.fps, 2),
        "seconds": report.seconds, "held": report.held, "visible_only": report.visible_only,
        "notes": list(report.notes), "damage": list(report.damage), "interrupted": report.interrupted,
    }  # fmt: skip


class ProgressPrinter:
    """A bar with fps and time left on a terminal; a plain line every two seconds elsewhere. Writes to stderr."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic, verb: str = "fusing"
    ) -> None:
        self._console = console or progress_console()
        self._clock = clock
        self._verb = verb
        self._last_line_s: float | None = None
        self._task: Any = None
        self._bar: Any = None
        if self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn(verb),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[fps]:.1f} fps"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self._console,
                transient=True,
            )

    def __enter__(self) -> ProgressPrinter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: FuseProgress) -> None:
        """Show where the job is."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("fuse", total=progress.total, fps=0.0)
            self._bar.update(self._task, completed=progress.done, total=progress.total, fps=progress.fps)
            return
        now_s = self._clock()
        if self._last_line_s is not None and now_s - self._last_line_s < _PLAIN_EVERY_S:
            return
        self._last_line_s = now_s
        left = ""
        if progress.total is not None and progress.fps > 0:
            seconds = max(0, round((progress.total - progress.done) / progress.fps))
            left = f", {seconds // 60}:{seconds % 60:02d} left"
        total = "" if progress.total is None else f"/{progress.total}"
        if not self._console.quiet:
            line = f"{self._verb} frame {progress.done}{total}, {progress.fps:.1f} fps{left}"
            typer.echo(line, file=self._console.file)
