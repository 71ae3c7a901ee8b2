"""`lumitherm dataset build`: from recordings, or two video files, to a training set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.options import Cli
from app.commands.common.output import progress_console, say, tell
from fusion_core.errors import UsageError

if TYPE_CHECKING:
    from app.dataset.builder import DatasetSummary, PairRecord
    from app.dataset.sources import Source
    from fusion_core.thermal.agc import AgcConfig

__all__ = ["register"]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    group = Cli(help="Make training sets from your footage.")
    group.callback()(_group)
    group.command("build")(_build)
    cli.add_typer(group, name="dataset")


def _group() -> None:
    """Make training sets from your footage."""


def _build(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder for the training set.")],
    recordings: Annotated[
        list[Path] | None, typer.Argument(metavar="[RECORDING]...", help="Recordings (NAME.mkv) with raw pictures.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="The rig's calibration. [default: plain resize]")] = None,
    visible: Annotated[
        list[Path] | None, typer.Option(help="Instead of recordings: a visible video; may be repeated.")
    ] = None,
    thermal: Annotated[
        list[Path] | None, typer.Option(help="The thermal video of each --visible, in the same order.")
    ] = None,
    thermal_offset_ms: Annotated[float, typer.Option(help="Videos: added to the thermal time stamps.")] = 0.0,
    model: Annotated[
        str | None, typer.Option(help="Use the AGC that this model was trained with. [default: the standard AGC]")
    ] = None,
    validate: Annotated[
        list[str] | None,
        typer.Option(metavar="SESSION", help="Session to hold out; may be repeated. [default: the last]"),
    ] = None,
    interval_s: Annotated[
        float | None,
        typer.Option(min=0.0, help="Look at a frame at most this often. [default: 0.2, less where few differ]"),
    ] = None,
    min_distance: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="From all others; 0 takes any. [default: 0.06, less where few differ]"),
    ] = None,
    max_pairs: Annotated[int, typer.Option(min=1, help="Most pairs of a session.")] = 200,
    max_skew_ms: Annotated[float, typer.Option(min=0.0, help="Largest time between the two frames of a pair.")] = 20.0,
    search_px: Annotated[
        float, typer.Option(min=2.0, max=48.0, help="How far thermal may be off after the calibration.")
    ] = 12.0,
    max_residual_px: Annotated[
        float, typer.Option(min=0.1, max=8.0, help="Largest median residual of a kept pair after alignment.")
    ] = 0.7,
) -> None:
    """Build a training set: varied frames, aligned to the pixel, split by session, with a report.

    Left out: frames during shutter corrections, held, stale, skewed or damaged ones, and near-repetitions. Each pair
    is warped by the calibration, then aligned to the pixel; where that cannot be shown to have worked, it is rejected.
    """
    from app.dataset.builder import BuildSettings, build_dataset
    from app.dataset.report import write_dataset_report

    sources = _sources(recordings or [], visible or [], thermal or [], thermal_offset_ms)
    standard = BuildSettings()
    settings = BuildSettings(
        interval_s=standard.interval_s if interval_s is None else interval_s,
        min_distance=standard.min_distance if min_distance is None else min_distance,
        wanted_pairs=standard.wanted_pairs if interval_s is None and min_distance is None else 0,
        max_pairs=max_pairs,
        max_skew_ms=max_skew_ms,
        search_px=search_px,
        max_median_px=max_residual_px,
        max_expected_p95_px=standard.max_expected_p95_px * max_residual_px / standard.max_median_px,
        agc=_agc_of(model),
    )
    console = progress_console()
    counts = {"kept": 0, "rejected": 0}
    with console.status("choosing frames") as status:

        def tell(record: PairRecord) -> None:
            counts["rejected" if record.reason else "kept"] += 1
            status.update(f"{record.session}: {counts['kept']} pairs kept, {counts['rejected']} rejected")

        summary = build_dataset(
            sources, output, settings, calibration=calibration, validation_sessions=validate or [], on_pair=tell
        )
    write_dataset_report(summary, output / "report.html")
    _say(summary)
    if calibration is None:
        say(
            "first: the rig had no --calibration; lumitherm calibrate refine makes one of the same footage "
            "(--also names more of it), which can bring more than training does"
        )
    say(f"next: lumitherm train --from small --data {summary.output}")


def _say(summary: DatasetSummary) -> None:
    say(
        f"{len(summary.kept)} pairs kept ({summary.count('training')} to train on, "
        f"{summary.count('validation')} held out), {len(summary.rejected)} rejected"
    )
    for warning in summary.warnings:
        say(f"note: {warning}")
    tell(
        kept=len(summary.kept), rejected=len(summary.rejected), warnings=list(summary.warnings),
        output=str(summary.output),
    )  # fmt: skip
    say(f"report: {summary.output / 'report.html'}")


def _sources(recordings: list[Path], visible: list[Path], thermal: list[Path], offset_ms: float) -> list[Source]:
    from app.dataset.sources import RecordingSource, VideoSource

    if len(visible) != len(thermal):
        raise UsageError(f"{len(visible)} --visible and {len(thermal)} --thermal; give both of each pair of videos")
    if not recordings and not visible:
        raise UsageError("give recordings, or --visible VIDEO --thermal VIDEO")
    sources: list[Source] = [RecordingSource(path) for path in recordings]
    sources += [VideoSource(v, t, offset_ms=offset_ms) for v, t in zip(visible, thermal, strict=True)]
    return sources


def _agc_of(model: str | None) -> AgcConfig:
    from pydantic import ValidationError

    from fusion_core.thermal.agc import AgcConfig

    if model is None:
        return AgcConfig()
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.model_store import resolve_weights

    contract = load_checkpoint(resolve_weights(model)).facts.get("agc")
    if not isinstance(contract, dict):
        return AgcConfig()
    try:
        return AgcConfig.model_validate({key: value for key, value in contract.items() if key != "version"})
    except ValidationError as error:
        raise UsageError(f"the AGC of model {model} is of another version: {error.errors()[0]['msg']}") from error
