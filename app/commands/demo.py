"""`lumitherm demo`: the main job on a simulated rig, with nothing needed but this program."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.options import Overwrite
from app.commands.common.output import claim, say, stop_on_signals, tell
from app.commands.fuse import ProgressPrinter, describe, report_facts
from fusion_core.errors import CheckpointError, EngineError, RecordingError

if TYPE_CHECKING:
    from fusion_core.engines.engine import FusionEngine

__all__ = ["register"]

_FALLBACK = "ncc-pyramid"


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("demo")(_demo)


def _demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files; made if missing.")] = Path(
        "out/demo"
    ),
    duration_s: Annotated[float, typer.Option(min=0.2, max=600.0, metavar="S", help="Length of the recording.")] = 8.0,
    preset: Annotated[str, typer.Option(help="Size of the network: tiny, small or base.")] = "tiny",
    engine: Annotated[str, typer.Option(help="As in `lumitherm fuse`.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Chooses houses, people and noise.")] = 7,
    overwrite: Overwrite = False,
) -> None:
    """Record a simulated rig that is 6 px out of calibration, fuse it, and lay the result out on a contact sheet.

    Leaves visible.mkv, thermal.mkv (16 bit), fused.mkv, contact_sheet.png, and demo-TIME.mkv with demo-TIME.jsonl: a
    recording of all three, which `lumitherm gui` and `lumitherm recording` open.
    """
    from app.jobs.demo import DemoScene, run_demo
    from fusion_core.engines.engine import create_engine
    from fusion_core.engines.pyramid_engine import LaplacianPyramidEngine
    from fusion_core.engines.video_options import VideoOptions

    def make_engine() -> FusionEngine:
        try:
            return create_engine(engine, preset, None, None, video=VideoOptions())
        except (CheckpointError, EngineError) as error:
            if engine != "auto":
                raise
            typer.echo(f"lumitherm: the network cannot run, {_FALLBACK} stands in for it: {error}", err=True)
            return create_engine(_FALLBACK, preset, None, None)

    claim(output, overwrite)
    scene = DemoScene(seconds=duration_s, seed=seed)
    with (
        stop_on_signals() as (stop, received),
        ProgressPrinter(verb="recording") as recording,
        ProgressPrinter(verb="fusing") as fusing,
    ):
        try:
            files = run_demo(
                output, scene, make_engine, LaplacianPyramidEngine(), recording.update, fusing.update, stop
            )
        except RecordingError:
            if not received:
                raise
            typer.echo(
                f"lumitherm: stopped before anything was fused; {output} holds a part of the recording", err=True
            )
            raise typer.Exit(128 + received[0]) from None
    x_px, y_px = scene.residual_shift_px
    say(f"simulated rig, thermal off by ({x_px:g}, {y_px:g}) px: {files.visible} and {files.thermal}")
    for line in describe(files.report)[:-1]:
        say(line)
    if files.fused.exists():
        say(f"fused video: {files.fused}")
    if files.contact_sheet.exists():
        say(f"contact sheet: {files.contact_sheet}")
    if files.recording is not None:
        say(f"recording: {files.recording} (lumitherm gui {files.recording})")
    tell(
        **report_facts(files.report), visible=str(files.visible), thermal=str(files.thermal), fused=str(files.fused),
        contact_sheet=str(files.contact_sheet), recording=str(files.recording or "") or None,
    )  # fmt: skip
    if files.report.interrupted:
        typer.echo("lumitherm: stopped early; what was fused until then plays", err=True)
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))
