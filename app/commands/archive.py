"""`lumitherm archive`: fuse many recordings anew, with resume and a report of what failed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.commands.common.options import ViewName
from app.commands.common.output import progress_console, say, stop_on_signals, tell
from fusion_core.errors import UsageError

if TYPE_CHECKING:
    from app.jobs.archive import ArchiveJob, ArchiveReport
    from app.jobs.archive_item import ItemResult

__all__ = ["register"]


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("archive")(_archive)


def _archive(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="JOB.yaml | RECORDING...", help="A job file; or recordings and folders.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="For the fused videos.")] = None,
    engine: Annotated[str | None, typer.Option(help="As in `lumitherm fuse`.")] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the network: tiny, small or base.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights file, or a model's name.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="The rig's calibration. [default: plain resize]")] = None,
    view: Annotated[ViewName | None, typer.Option(help="What the videos show.")] = None,
    crf: Annotated[int | None, typer.Option(min=0, max=51, help="H.264 quality: 0 lossless, 51 worst.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes side by side.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each process.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Fuse also what is done already.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Run on Ray (optional extra).")] = False,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the cluster. [default: Ray on this machine]")
    ] = None,
) -> None:
    """Fuse many recordings anew. Run again with the same arguments, it goes on where it was.

    One recording that fails does not stop the others: the error is listed, in DIR/report.json too, and the exit code
    is 1. Options given here win over those of a job file.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from app.jobs.archive import run_archive

    options: dict[str, Any] = {
        "output": output, "engine": engine, "preset": preset, "weights": weights, "calibration": calibration,
        "view": view, "crf": crf, "workers": workers, "threads": threads,
    }  # fmt: skip
    job = _job(inputs, {key: value for key, value in options.items() if value is not None})
    runner = None
    if ray or ray_address is not None:
        from app.jobs.archive_ray import ray_runner

        runner = ray_runner(ray_address)
    console = progress_console()
    columns = (TextColumn("fusing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        stop_on_signals() as (stop, received),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        bar = progress.add_task("archive", total=None)

        def tell(result: ItemResult, count: int, total: int) -> None:
            progress.update(bar, completed=count, total=total)
            progress.console.print(f"[{count}/{total}] {_line(result)}", highlight=False, soft_wrap=True, markup=False)

        report = run_archive(job, runner=runner, again=overwrite, on_result=tell, stop=stop)
    _say(job, report)
    if report.interrupted:
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT))
    if report.failed:
        raise typer.Exit(1)


def _job(inputs: list[Path], options: dict[str, Any]) -> ArchiveJob:
    from pydantic import ValidationError

    from app.jobs.archive import ArchiveJob
    from fusion_core.yaml_config import load_model

    if len(inputs) == 1 and inputs[0].suffix.lower() in (".yaml", ".yml"):
        job = load_model(ArchiveJob, inputs[0])
        values = job.model_dump() | options
    else:
        if "output" not in options:
            raise UsageError("give --output DIR, the folder for the fused videos")
        values = {"recordings": tuple(inputs)} | options
    try:
        return ArchiveJob.model_validate(values)
    except ValidationError as error:
        issue = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}") from error


def _line(result: ItemResult) -> str:
    if result.state == "failed":
        return f"{result.name}: FAILED: {result.error}"
    fps = result.frames / result.wall_s if result.wall_s > 0 else 0.0
    extra = f", {result.damaged} damaged pairs left out" if result.damaged else ""
    extra += f", {result.without_thermal} without thermal" if result.without_thermal else ""
    return f"{result.name}: {result.frames} frames, {fps:.1f} fps{extra}"


def _say(job: ArchiveJob, report: ArchiveReport) -> None:
    text = f"{len(report.done)} fused, {len(report.skipped)} were done before, {len(report.failed)} failed"
    if report.left:
        text += f", {len(report.left)} left (run the same command again)"
    say(text)
    for result in report.failed:
        say(f"  {result.name}: {result.error}")
    say(f"{job.output / 'report.json'}")
    tell(
        done=[result.name for result in report.done],
        failed={result.name: result.error for result in report.failed},
        left=len(report.left),
        report=str(job.output / "report.json"),
    )
