"""`lumitherm train`: train the network on folders of pairs, and check such folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(cli: typer.Typer) -> None:
    """Add `train` and `train doctor`."""
    group = typer.Typer(help="Train the fusion network on your own pairs.", invoke_without_command=True)
    group.callback()(_train)
    cli.add_typer(group, name="train")


def _train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="YAML file of the run, e.g. configs/train.yaml.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting: schedule.max_steps=1000")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with the run in this folder.")] = None,
    vgg16: Annotated[
        Path | None, typer.Option(metavar="FILE", help="VGG16 features (.safetensors) for the perception loss.")
    ] = None,
) -> None:
    """Train the fusion network. Ctrl-C or SIGTERM saves and ends; --resume RUN goes on where it was."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from fusion_core.errors import UsageError
    from fusion_core.training.config import load_training_config
    from fusion_core.training.session import load_run_config, train

    overrides = list(set_ or [])
    if vgg16 is not None:
        overrides.append(f"vgg16={vgg16}")
    if resume is not None:
        if config is not None:
            raise UsageError("give --config for a new run or --resume for an old one, not both")
        settings = load_run_config(resume, overrides)
    elif config is not None:
        settings = load_training_config(config, overrides)
    else:
        raise UsageError("give --config FILE (e.g. configs/train.yaml) or --resume RUN")
    console = Console()
    weights = train(settings, resume=resume, console=console)
    console.print(f"weights: {weights}", highlight=False)
