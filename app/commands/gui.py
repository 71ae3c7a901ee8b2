"""`lumitherm gui`: the window."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.commands.common.options import Overrides, Simulated
from app.commands.common.output import output
from fusion_core.errors import RunError

__all__ = ["register"]


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("gui")(_gui)


def _gui(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            exists=True, dir_okay=False, help="A configuration, a recording, or a visible and a thermal video."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration to start at once.")
    ] = None,
    set_: Overrides = None,
    simulated: Simulated = False,
) -> None:
    """Open the window: live picture, recording, playback, set-up. Without arguments it begins with a start page."""
    if sys.platform == "linux" and not any(
        os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        raise RunError("there is no display (DISPLAY and WAYLAND_DISPLAY are not set); `lumitherm run` needs none")
    import cv2

    from app.configuration.config import LoggingConfig, load_config
    from app.logging_setup import configure_logging
    from app.process import keep_files_private
    from app.rig.setup_assistant import simulated_config

    keep_files_private()
    chosen = load_config(config, set_ or [], os.environ) if config is not None else None
    if chosen is None and simulated:
        chosen = simulated_config()
    configure_logging(output().logging(chosen.logging if chosen is not None else LoggingConfig()))
    cv2.setNumThreads(1)  # the stages run side by side already; OpenCV's own threads would only get in their way
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the window is there, which then ends in order
    try:
        from app.gui.application import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("PyQt6", "superqt", "pyqtgraph", "qtawesome"):
            raise
        raise RunError(
            f"this installation has no window: {error.name} is missing, as a set-up with HEADLESS=1 leaves it out; "
            "`pip install lumitherm` brings it"
        ) from error

    raise typer.Exit(run(list(files or []), chosen))
