"""The command line: `lumitherm COMMAND ...`. Sets up logging and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from app.commands import archive, config, ctl, demo, devices, fuse, gui, recording, run, service
from app.commands.calibrate import commands as calibrate
from app.commands.network import benchmark, dataset, engine, evaluate, models, train
from app.process import bound_heap
from fusion_core.errors import LumithermError

__all__ = ["build_cli", "main"]

# The root of what the parser raises for bad usage: typer carries its own copy of click in newer versions.
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[2]


def build_cli() -> typer.Typer:
    """The whole command line. Each module in app.commands adds its own with `register`."""
    cli = typer.Typer(
        name="lumitherm",
        help="Fuse a visible and a thermal camera into one picture, live or from files.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # One line a command module, kept in alphabetical order: from app.commands import x; x.register(cli)
    archive.register(cli)
    benchmark.register(cli)
    calibrate.register(cli)
    config.register(cli)
    ctl.register(cli)
    dataset.register(cli)
    demo.register(cli)
    devices.register(cli)
    engine.register(cli)
    evaluate.register(cli)
    fuse.register(cli)
    gui.register(cli)
    models.register(cli)
    recording.register(cli)
    run.register(cli)
    service.register(cli)
    train.register(cli)
    return cli


def main() -> None:
    """Entry point of the `lumitherm` command. Exit codes: 0 done, 1 failed at run time, 2 bad usage or config."""
    bound_heap()
    try:
        code = build_cli()(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("lumitherm: interrupted", err=True)
        sys.exit(130)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except _USAGE_ERROR as error:
        error.show()
        sys.exit(error.exit_code)
    except LumithermError as error:
        if os.environ.get("LUMITHERM_TRACEBACK"):
            raise
        typer.echo(f"lumitherm: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
