"""`lumitherm train`: train the network on folders of pairs, and check such folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands.common.options import Cli, CommandGroup, Overrides, Overwrite
from app.commands.common.output import claim, result_console, say, tell
from fusion_core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fusion_core.training.finetuning.measure import Measured
    from fusion_core.training.finetuning.settings import FinetuneRequest

__all__ = ["register"]


def register(cli: typer.Typer) -> None:
    """Add `train`, `train doctor` and `train registration`."""
    group = Cli(
        help="Train the fusion network on your own pairs.",
        invoke_without_command=True,
        no_args_is_help=False,
        cls=CommandGroup,
    )
    group.callback()(_train)
    group.command("doctor")(_check_data)
    group.command("registration")(_registration)
    cli.add_typer(group, name="train")


def _train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="YAML file of the run, e.g. train.yaml.")] = None,
    set_: Overrides = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with the run in this folder.")] = None,
    vgg16: Annotated[
        Path | None, typer.Option(metavar="FILE", help="VGG16 features (.safetensors) for the perception loss.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune: preset, model or weights to start from.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Fine-tune on this folder (lumitherm dataset build).")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Held-out pairs. [default: DIR/validation]")
    ] = None,
    generic: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Other pairs to mix in, so that nothing is forgotten.")
    ] = None,
    generic_share: Annotated[
        float, typer.Option(min=0.0, max=0.95, help="Share of all crops that come from --generic.")
    ] = 0.3,
    stages: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Of a fine-tuning: align, fuse, joint. [default: align,fuse]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Add the fine-tuned weights to the models by this name.")] = None,
    even_if_worse: Annotated[
        bool, typer.Option("--even-if-worse", help="Export weights that are worse than those they came from, too.")
    ] = False,
) -> None:
    """Train the fusion network. Ctrl-C or SIGTERM saves and ends; --resume RUN goes on where it was.

    With --from MODEL --data DIR: a short training from existing weights in two stages, the displacement estimate and
    then the fusion, measured before and after on held-out sessions, checked for collapse and for the engine's parity,
    and exported with a model card. A stage that made nothing better, or made edges, ghosts, Qabf, SSIM or the estimate
    worse, is dropped. Where none is left the old weights are kept, the reason is told, and the exit code is 1.
    """
    if context.invoked_subcommand is not None:
        return
    overrides = list(set_ or [])
    if from_ is None and data is None and not (resume is not None and (resume / "finetune_request.yaml").is_file()):
        if name is not None or validation is not None or generic is not None or stages is not None:
            raise UsageError("--name, --validation, --generic and --stages belong to --from MODEL --data DIR")
        _train_anew(config, resume, overrides if vgg16 is None else [*overrides, f"vgg16={vgg16}"])
        return
    if config is not None:
        raise UsageError("--from takes its settings from the weights; give --config or --from, not both")
    request = _finetune_request(from_, data, validation, generic, generic_share, vgg16, overrides, resume)
    if even_if_worse:
        request = dataclasses.replace(request, even_if_worse=True)
    if stages is not None:
        if resume is not None:
            raise UsageError("--resume RUN goes on with the stages of the run; leave --stages away")
        request = dataclasses.replace(request, stages=tuple(part.strip() for part in stages.split(",")))
    _finetune(request, resume, name)


def _train_anew(config: Path | None, resume: Path | None, overrides: list[str]) -> None:
    from fusion_core.training.config import load_training_config
    from fusion_core.training.session import load_run_config, train

    if resume is not None:
        if config is not None:
            raise UsageError("give --config for a new run or --resume for an old one, not both")
        settings = load_run_config(resume, overrides)
    elif config is not None:
        settings = load_training_config(config, overrides)
    else:
        raise UsageError("give --config FILE (`lumitherm config init --train` writes one) or --resume RUN")
    console = result_console()
    weights = train(settings, resume=resume, console=console)
    tell(weights=str(weights))
    console.print(f"weights: {weights}", highlight=False)


def _finetune_request(
    model: str | None,
    data: Path | None,
    validation: Path | None,
    generic: Path | None,
    generic_share: float,
    vgg16: Path | None,
    overrides: list[str],
    resume: Path | None,
) -> FinetuneRequest:
    from fusion_core.model_store import resolve_weights
    from fusion_core.training.finetuning.settings import FinetuneRequest, load_request

    if resume is not None:
        if model is not None or data is not None:
            raise UsageError("--resume RUN takes model and data from the run; leave --from and --data away")
        request = load_request(resume)
        return dataclasses.replace(request, overrides=(*request.overrides, *overrides))
    if model is None or data is None:
        raise UsageError("fine-tuning needs both --from MODEL and --data DIR")
    return FinetuneRequest(resolve_weights(model), data, validation, generic, generic_share, vgg16, tuple(overrides))


def _finetune(request: FinetuneRequest, resume: Path | None, name: str | None) -> None:
    from fusion_core.model_store import ModelStore
    from fusion_core.training.finetuning.finetune import finetune

    console = result_console()
    result = finetune(request, resume=resume, console=console)
    if result is None:  # not the first process of torchrun, or stopped by a signal
        return
    tell(
        weights=None if result.weights is None else str(result.weights), card=str(result.card),
        before=result.before.rows(), after=result.after.rows(),
    )  # fmt: skip
    _print_before_and_after(console, result.before, result.after)
    console.print(f"card: {result.card}", highlight=False, soft_wrap=True)
    if result.weights is None:
        console.print(
            f"no new weights; {request.initial} stays in use. More footage, --generic DIR or a lower "
            "optimizer.learning_rate may help; --even-if-worse exports them nevertheless",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        raise typer.Exit(1)
    console.print(f"weights: {result.weights}", highlight=False, soft_wrap=True)
    for reason in result.kept_old:
        console.print(f"exported although {reason}", highlight=False, soft_wrap=True)
    if name is not None:
        added = ModelStore().add(result.weights, name, replace=True)
        tell(added=added.name)
        console.print(f"added as {added.name}; put it to use: lumitherm models use {added.name}", highlight=False)


_SHOWN = (
    ("error px", "error_px"), ("Qabf", "qabf"), ("SSIM", "ssim"), ("edges visible", "g_visible"),
    ("edges thermal", "g_thermal"), ("ghost", "g_ghost"),
)  # fmt: skip


def _print_before_and_after(console: Console, before: Measured, after: Measured) -> None:
    from rich.table import Table

    table = Table("displacement", "", *(title for title, _ in _SHOWN), title="held out")
    for old, new in zip(before.rows(), after.rows(), strict=True):
        for label, row in (("before", old), ("after", new)):
            values = (row[key] for _, key in _SHOWN)
            shown = ("-" if value != value else f"{value:.3f}" for value in values)
            table.add_row(str(row["displacement"]) if label == "before" else "", label, *shown)
    console.print(table)


def _check_data(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pairs: vi/NAME.* and ir/NAME.*.")],
    validation: Annotated[Path | None, typer.Option(help="Folder of the held-out pairs, if it is another.")] = None,
    max_shift_px: Annotated[float, typer.Option(min=0.0, help="A larger residual shift is a problem.")] = 8.0,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many findings of a kind.")] = 20,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of it as a page, too.")] = None,
) -> None:
    """Look for unreadable, unequal, constant, doubled and misaligned pairs. Exit code 1 if there are any."""
    from rich.table import Table

    from app.commands.network.data_check_report import SHIFT_BOUNDS_PX, shift_counts, write_data_check_report
    from fusion_core.training.data_check import UNALIGNED, FaultKind, check_data

    console = result_console()
    with console.status("looking at every pair"):
        found = check_data(directory, validation_root=validation, max_shift_px=max_shift_px)
    tell(
        pairs=found.pairs, unclear=found.unclear, notes=list(found.notes),
        problems=[{"kind": each.kind.value, "pair": each.stem, "text": each.detail} for each in found.findings],
    )  # fmt: skip
    table = Table("problem", "pair", "what", title=f"{directory}: {found.pairs} pairs")
    for problem in FaultKind:
        of_kind: dict[str, list[str]] = {}
        for finding in found.findings:
            if finding.kind is problem:
                of_kind.setdefault(finding.detail, []).append(finding.stem)
        for text, stems in list(of_kind.items())[:limit]:
            more = f" and {len(stems) - 1} more" if len(stems) > 1 else ""
            table.add_row(problem.value, f"{stems[0]}{more}", text)
        left = [stem for stems in list(of_kind.values())[limit:] for stem in stems]
        if left:
            table.add_row(problem.value, f"... {len(left)} more", "")
    if found.findings:
        console.print(table)
    counts = shift_counts(found.shifts_px)
    histogram = Table(
        *(f"< {high:g}" for high in SHIFT_BOUNDS_PX[1:-1]),
        ">= 8",
        "unclear",
        title="shift of the whole picture, px: pairs",
    )
    histogram.add_row(*(str(count) for count in counts), str(found.unclear))
    console.print(histogram)
    shown = ", ".join(f"{count} x {kind}" for kind, count in found.sizes[:4]) or "no pair can be used"
    more = f", {len(found.sizes) - 4} more sizes" if len(found.sizes) > 4 else ""
    console.print(f"{shown}{more}; {found.repeated} near-duplicates inside the training part", highlight=False)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    if html is not None:
        write_data_check_report(found, directory, html)
        console.print(f"page: {html}", highlight=False, soft_wrap=True)
    if found.findings:
        console.print(f"{len(found.findings)} problems", highlight=False)
        if found.unaligned:
            console.print(UNALIGNED, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    console.print("no problems", highlight=False)


def _registration(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pairs: vi/NAME.* and ir/NAME.*.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write; or -.")] = Path("registration.png"),
    rows: Annotated[int, typer.Option(min=1, help="Pairs to show, those with the largest shift.")] = 6,
    overwrite: Overwrite = False,
) -> None:
    """Register the pairs as training does, say how many remain, and draw them before and after."""
    claim(output, overwrite)
    from fusion_core.training.config import DataConfig, RunConfig, TrainingConfig
    from fusion_core.training.dataset import load_pairs
    from fusion_core.training.registration_figure import write_registration_figure
    from fusion_core.training.session import register_pairs

    console = result_console()
    config = TrainingConfig(data=DataConfig(root=directory))
    pairs = register_pairs(load_pairs(directory), config, RunConfig().folder / "registration", console)
    write_registration_figure(pairs, output, rows=rows)
    tell(output=str(output), pairs=len(pairs))
    say(f"figure: {output}")
