"""`lumitherm recording info|check|play|recover|export`: what to do with a recording."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.options import AgcName, Cli, DurationS, Overwrite, ViewName
from app.commands.common.output import claim, say, tell
from app.commands.common.output import output as current_output
from fusion_core.errors import BadInputError, RecordingError, UsageError

if TYPE_CHECKING:
    from app.playback.recorded_views import DamagedPairs
    from app.recording.reader import RecordingReader
    from app.recording.recover import RecoverReport
    from app.view.views import FileView
    from fusion_core.thermal.agc import AgcConfig

__all__ = ["register"]

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A recording: NAME.mkv, with NAME.jsonl beside it.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = Cli(help="Look at a recording: play, check, mend, export.")
    group.command("info")(_info)
    group.command("check")(_check)
    group.command("play")(_play)
    group.command("recover")(_recover)
    group.command("export")(_export)
    cli.add_typer(group, name="recording")
    cli.command("recover", hidden=True)(_recover)  # the names of before
    cli.command("play", hidden=True)(_play)


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
    from app.recording.recover import recover

    report = recover(file, finish_video)
    tell(
        frames=dict(report.frames), rewritten=report.rewritten, source=report.source, remuxed=report.remuxed,
        damage=list(report.damage),
    )  # fmt: skip
    for line in _describe(report):
        say(line)


def _describe(report: RecoverReport) -> list[str]:
    frames = ", ".join(f"{track} {count}" for track, count in report.frames.items())
    lines = [f"{report.path.name}: {frames}"]
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


def _info(file: _File) -> None:
    """Say what a recording holds, and how regular its frames are."""
    from app.recording.reader import RecordingReader
    from app.recording.sidecar import GapLine, read_sidecar, sidecar_path
    from app.recording.timing import timing_page

    with RecordingReader(file) as reader:
        info = reader.info
        current_output().document = {
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
        say(f"{info.path}: {info.pairs} pairs, {info.duration_s:.3f} s")
        for track, text in info.tracks.items():
            say(f"  {track:8} {text}")
        source = {
            "sidecar": "the sidecar",
            "embedded": "the video's own metadata track (no usable sidecar)",
            "container": "the container's stamps alone (no metadata)",
        }[info.metadata]
        say(f"  stamps and flags come from {source}")
        if not info.closed_in_order:
            say(f"  it was not closed in order: lumitherm recording recover {file} makes sidecar and video agree")
        for text in info.damage:
            say(f"  damage: {text}")
    if info.metadata == "sidecar":
        say()
        say(timing_page(file.stem, read_sidecar(sidecar_path(file)), None), nl=False)


def _check(
    file: _File,
    quick: Annotated[
        bool, typer.Option("--quick", help="Decode only the first and last second of each track; compare no checksums.")
    ] = False,
    every_frame: Annotated[bool, typer.Option("--every-frame", hidden=True, help="The default now.")] = False,
) -> None:
    """Read everything: count the pictures against the sidecar, compare their checksums, decode them.

    Exit code 1 when something is wrong; each damaged place is named.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from app.recording.self_check import check_recording

    columns = (TextColumn("checking"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("check", total=1.0)
        report = check_recording(
            file, quick=quick and not every_frame, progress=lambda share: bar.update(task, completed=share)
        )
    frames = ", ".join(f"{track} {count}" for track, count in report.frames.items())
    tell(frames=dict(report.frames), decoded=report.decoded, problems=list(report.problems))
    say(f"{file.name}: {frames}; {report.decoded} pictures decoded")
    for problem in report.problems:
        say(f"  {problem}")
    if report.problems:
        raise RecordingError(
            f"{file} has {len(report.problems)} problem(s); lumitherm recording recover {file} may help"
        )
    say("sound")


_View = Annotated[ViewName | None, typer.Option("--view", help="What to show. [default: fused, else what there is]")]
_StartS = Annotated[float, typer.Option("--start-s", min=0.0, metavar="S", help="Begin so many seconds in.")]
_AgcOption = Annotated[AgcName, typer.Option("--agc", help="How 16-bit counts become 8 bit.")]


def _play(
    file: _File,
    view: _View = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PNGDIR", help="Write PNG files instead, as `recording export` does."),
    ] = None,
    start_s: _StartS = 0.0,
    duration_s: DurationS = None,
    speed: Annotated[float, typer.Option(min=0.05, max=64.0, help="1 is the pace of the recording.")] = 1.0,
    agc: _AgcOption = "plateau",
    overwrite: Overwrite = False,
) -> None:
    """Play a recording in the terminal; `lumitherm gui FILE` plays it in the window."""
    from app.playback.recorded_views import DamagedPairs, export_png, play_in_terminal
    from app.recording.reader import RecordingReader

    config = _agc(agc)
    with RecordingReader(file) as reader:
        start, stop = _span(reader, start_s, duration_s)
        chosen, damaged = _view_of(reader, view), DamagedPairs()
        if output is not None:
            claim(output, overwrite)
            count = export_png(reader, output, chosen, start, stop, config, damaged)
            tell(output=str(output), pictures=count)
            say(f"{count} pictures in {output}")
        elif sys.stdout.isatty() and not current_output().as_json:
            play_in_terminal(reader, sys.stdout, chosen, start, stop, speed, config, damaged)
        else:
            raise UsageError(
                "play shows pictures in a terminal, and this is none: use"
                f" `lumitherm recording export {file} -o FOLDER` (or play --output PNGDIR)"
            )
        _tell_damage(file, damaged)


def _export(
    file: _File,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A video (.mp4, .mkv), a folder for pictures and CSV, .mcap; - for .mkv."),
    ],
    view: _View = None,
    start_s: _StartS = 0.0,
    duration_s: DurationS = None,
    agc: _AgcOption = "plateau",
    crf: Annotated[int, typer.Option(min=0, max=51, help="H.264 quality: 0 lossless, 18 fine, 51 worst.")] = 18,
    calibration: Annotated[Path | None, typer.Option(help="The rig's calibration, to go with the pictures.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a recording for other programs.

    A video shows the view. A folder gets PNG for visible and fused, 16-bit TIFF for thermal counts, pairs.csv with
    stamps and flags, and the calibration. MCAP gets all pictures with their stamps, and both cameras' calibration.
    """
    import app.playback.export as export
    from app.playback.recorded_views import DamagedPairs
    from app.recording.reader import RecordingReader

    claim(output, overwrite)
    config = _agc(agc)
    with RecordingReader(file) as reader:
        damaged = DamagedPairs()
        start, stop = _span(reader, start_s, duration_s)
        if output.suffix.lower() == ".mcap":
            count = export.to_mcap(reader, output, start, stop, calibration, damaged)
        elif output.suffix.lower() in (".mp4", ".mkv") or str(output) == "-":
            current_output().results_elsewhere = str(output) == "-"
            count = export.to_video(reader, output, _view_of(reader, view), start, stop, config, crf, damaged)
        elif not output.suffix or output.is_dir():
            count = export.to_folder(reader, output, start, stop, calibration, damaged)
        else:
            raise UsageError(f"{output} has an ending that is not known: give .mp4, .mkv, .mcap, or a folder")
    tell(output=str(output), pairs=count)
    say(f"{count} pairs in {output}")
    _tell_damage(file, damaged)


def _tell_damage(file: Path, damaged: DamagedPairs) -> None:
    """Exit code 1 where something was left out. Raises RecordingError."""
    if damaged.count:
        raise RecordingError(f"{file}: {damaged.told}; lumitherm recording check FILE lists the places")


def _agc(name: AgcName) -> AgcConfig:
    from fusion_core.thermal.agc import AgcConfig, AgcMode

    if name == "manual":
        raise UsageError("there is no manual AGC here: choose linear, percentile, plateau or clahe")
    return AgcConfig(mode=AgcMode(name))


def _view_of(reader: RecordingReader, view: ViewName | None) -> FileView:
    from app.view.views import FileView

    return FileView(view if view is not None else str(reader.tracks[0]))


def _span(reader: RecordingReader, start_s: float, duration_s: float | None) -> tuple[int, int]:
    """First pair, and the one behind the last."""
    if not len(reader):
        raise BadInputError(f"{reader.path} holds no pictures")
    if start_s > reader.info.duration_s:
        raise UsageError(
            f"--start-s {start_s} is behind the end: {reader.path.name} has {reader.info.duration_s:.3f} s"
        )
    stop = len(reader) if duration_s is None else min(len(reader), reader.index_at(start_s + duration_s) + 1)
    return reader.index_at(start_s), stop
