"""The command line: `lumitherm COMMAND ...`. Sets up logging and turns errors into one line and an exit code."""

from __future__ import annotations

import sys

try:
    import importlib
    import os
    from typing import Annotated, Any

    import typer
    from typer.core import TyperCommand, TyperGroup

    from app.commands.common.options import Cli
    from app.process import bound_heap, calm_blas, leave
    from fusion_core.errors import LumithermError
except KeyboardInterrupt:  # of a Ctrl-C in the first second; later ones come to `run`
    sys.stderr.write("lumitherm: interrupted\n")
    sys.exit(130)

__all__ = ["COMMANDS", "build_cli", "main", "run"]

# The root of what the parser raises for bad usage: typer carries its own copy of click in newer versions.
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[2]

COMMANDS: dict[str, tuple[str, str]] = {
    "archive": ("archive", "Fuse many recordings anew; goes on where it was."),
    "benchmark": ("network.benchmark", "Measure what each engine costs on this machine."),
    "calibrate": ("calibrate.commands", "Print a board, capture, solve, check, refine, pick points."),
    "config": ("config", "Make, check, show and explain configuration files."),
    "ctl": ("ctl", "Control a rig that runs as a service on this computer."),
    "dataset": ("network.dataset", "Make training sets from your footage."),
    "demo": ("demo", "Record and fuse a simulated rig: the first thing to try."),
    "desktop": ("desktop", "Menu entry, icon and manual pages for this user."),
    "devices": ("devices", "List connected cameras, and how to name each."),
    "doctor": ("devices", "Check cameras, clocks, engine, disk; each fault with its remedy."),
    "engine": ("network.engine", "Engines on disk: the network built for this machine."),
    "evaluate": ("network.evaluate", "Measure fusion at known displacements."),
    "fuse": ("fuse", "Fuse pictures, folders, videos, or a recording anew."),
    "gui": ("gui", "Open the window: look, record, play back, set up."),
    "models": ("network.models", "List, add, use, compare, roll back and export models."),
    "play": ("recording", ""),
    "recording": ("recording", "Play, check, mend and export a recording."),
    "recover": ("recording", ""),
    "run": ("run", "Run the live pipeline, with a window or without."),
    "service": ("service", "Run a rig unattended, by systemd."),
    "train": ("network.train", "Train the network on your own pairs."),
}
"""Name of a command to its module in `app.commands` and its line in the help; no line: a former name, not shown.

Only the command that is called is imported: the help of them all would otherwise cost a second of imports.
"""


class _Commands(TyperGroup):
    """The commands by name, each imported when it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._loaded: dict[str, Any] = {}
        self.commands = {
            name: TyperCommand(name, help=line, hidden=not line) for name, (_, line) in COMMANDS.items()
        }  # what the help shows, and what a misspelt name is compared with

    def load(self, name: str) -> Any:
        """The command itself."""
        if name not in self._loaded:
            cli = Cli()
            importlib.import_module(f"app.commands.{COMMANDS[name][0]}").register(cli)
            cli.callback()(_nothing)
            self._loaded |= typer.main.get_group(cli).commands
        return self._loaded[name]

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the one that is called."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if name is None else self.load(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run it. Raises Abort at a Ctrl-C: typer would end without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error


def _nothing() -> None: ...


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lumitherm {version('lumitherm')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_version, help="Print the version and end.")
    ] = False,
) -> None:
    """Fuse a visible and a thermal camera into one picture, live or from files."""


def build_cli() -> typer.Typer:
    """The whole command line."""
    cli = Cli(name="lumitherm", cls=_Commands, add_completion=True, pretty_exceptions_enable=False)
    cli.callback()(_root)
    return cli


def main() -> None:
    """Entry point of the `lumitherm` command. Exit codes: 0 done, 1 failed at run time, 2 bad usage or config."""
    bound_heap()
    calm_blas()
    leave(run())


def run() -> int:
    """Do what the command line says and return its exit code, without ending the process."""
    try:
        code = build_cli()(standalone_mode=False, prog_name="lumitherm")
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("lumitherm: interrupted", err=True)
        return 130
    except typer.Exit as error:
        return error.exit_code
    except _USAGE_ERROR as error:
        error.show()
        return int(error.exit_code)
    except LumithermError as error:
        if os.environ.get("LUMITHERM_TRACEBACK"):
            raise
        typer.echo(f"lumitherm: {error}", err=True)
        return error.exit_code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
