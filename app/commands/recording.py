"""`lumitherm recover`, `lumitherm recording info|check` and `lumitherm play`: what to do with a recording."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.playback.recorded_views import export_png, play_in_terminal
from app.recording.reader import RecordingReader
from app.recording.recover import RecoverReport, recover
from app.recording.self_check import check_recording
from app.recording.sidecar import GapLine, read_sidecar, sidecar_path
from app.recording.timing import timing_page
from app.view.views import FileView
from fusion_core.errors import BadInputError, RecordingError, UsageError
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["register"]

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A recording: NAME.mkv, with NAME.jsonl beside it.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at a recording and check it.", no_args_is_help=True)
    group.command("info")(_info)
    group.command("check")(_check)
    cli.add_typer(group, name="recording")
    cli.command("recover")(_recover)
    cli.command("play")(_play)


def _recover(
    file: _File,
    finish_video: Annotated[
        bool,
        typer.Option("--finish-video", help="Also copy the video into a file with duration and index (fast seeking)."),
    ] = False,
) -> None:
    """Make the sidecar of an interrupted recording agree with its video, or rebuild a lost one.

    The pictures are never changed. Running it on a sound recording changes nothing.
    """
    for line in _describe(recover(file, finish_video)):
        typer.echo(line)


def _describe(report: RecoverReport) -> list[str]:
    frames = ", ".join(f"{track} {count}" for track, count in report.frames.items())
    lines = [f"{report.path.name}: {report.pairs} pairs ({frames})"]
    if not report.rewritten:
        lines.append("sidecar and video agree; nothing was changed")
    else:
        lines.append(
            f"sidecar written anew from the {report.source}: {report.dropped} lines without a picture left out, "
            f"{report.trimmed} lines shortened, {report.rebuilt} pictures got a line"
        )
    if report.remuxed:
        lines.append("the video has its duration and index now")
    lines += [f"damage: {text}" for text in report.damage]
    return lines


def _info(
    file: _File,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Say what a recording holds, and how regular its frames are."""
    with RecordingReader(file) as reader:
        info = reader.info
        if as_json:
            document = {
                "path": str(info.path),
                "pairs": info.pairs,
                "duration_s": info.duration_s,
                "tracks": info.tracks,
                "metadata": info.metadata,
                "closed_in_order": info.closed_in_order,
                "damage": list(info.damage),
                "gaps": sum(isinstance(mark, GapLine) for mark in info.marks),
                "recording": info.header.recording if info.header is not None else None,
                "segment": info.header.segment if info.header is not None else None,
                "wall_start": info.header.wall_start if info.header is not None else None,
            }
            typer.echo(json.dumps(document, indent=2))
            return
        typer.echo(f"{info.path}: {info.pairs} pairs, {info.duration_s:.3f} s")
        for track, text in info.tracks.items():
            typer.echo(f"  {track:8} {text}")
        source = {
            "sidecar": "the sidecar",
            "embedded": "the video's own metadata track (no usable sidecar)",
            "container": "the container's stamps alone (no metadata)",
        }[info.metadata]
        typer.echo(f"  stamps and flags come from {source}")
        if not info.closed_in_order:
            typer.echo(f"  it was not closed in order: lumitherm recover {file} makes sidecar and video agree")
        for text in info.damage:
            typer.echo(f"  damage: {text}")
    if info.metadata == "sidecar":
        typer.echo()
        typer.echo(timing_page(file.stem, read_sidecar(sidecar_path(file)), info.damage), nl=False)


def _check(
    file: _File,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Decode every picture, not only the first and last second.")
    ] = False,
) -> None:
    """Count the pictures against the sidecar and decode them. Exit code 1 when something is wrong."""
    report = check_recording(file, every_frame=every_frame)
    frames = ", ".join(f"{track} {count}" for track, count in report.frames.items())
    typer.echo(f"{file.name}: {frames}; {report.decoded} pictures decoded")
    for problem in report.problems:
        typer.echo(f"  {problem}")
    if report.problems:
        raise RecordingError(f"{file} has {len(report.problems)} problem(s); lumitherm recover FILE may help")
    typer.echo("sound")


def _play(
    file: _File,
    view: Annotated[FileView | None, typer.Option(help="What to show. [default: fused, else what there is]")] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="PNGDIR", help="Write PNG files instead; the thermal view gives the 16-bit counts."),
    ] = None,
    start_s: Annotated[float, typer.Option("--start", min=0.0, help="Begin so many seconds in.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Only so many seconds.")] = None,
    speed: Annotated[float, typer.Option(min=0.05, max=64.0, help="1 is the pace of the recording.")] = 1.0,
    agc: Annotated[AgcMode, typer.Option(help="How 16-bit counts become 8 bit.")] = AgcConfig().mode,
) -> None:
    """Play a recording in the terminal, or export its pictures."""
    if agc is AgcMode.MANUAL:
        raise UsageError("play has no manual AGC: choose linear, percentile, plateau or clahe")
    config = AgcConfig(mode=agc)
    with RecordingReader(file) as reader:
        if not len(reader):
            raise BadInputError(f"{file} holds no pictures")
        if start_s > reader.info.duration_s:
            raise UsageError(f"--start {start_s} is behind the end: {file.name} has {reader.info.duration_s:.3f} s")
        start = reader.index_at(start_s)
        stop = len(reader) if seconds is None else min(len(reader), reader.index_at(start_s + seconds) + 1)
        chosen = view if view is not None else FileView(str(reader.tracks[0]))
        if export is not None:
            count = export_png(reader, export, chosen, start, stop, config)
            typer.echo(f"{count} pictures in {export}")
        elif sys.stdout.isatty():
            play_in_terminal(reader, sys.stdout, chosen, start, stop, speed, config)
        else:
            raise UsageError("play shows pictures in a terminal, and this is none: use --export PNGDIR")
