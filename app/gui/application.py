"""Starts the window and runs it until it is closed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

from PyQt6 import sip
from PyQt6.QtWidgets import QApplication

from app.configuration.config import AppConfig
from app.gui.common.pipeline_protocol import Pipeline
from app.gui.common.qt_application import make_application
from app.gui.common.settings import GuiSettings, default_settings_file
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.theme import apply_theme
from app.gui.common.translation import install_language
from app.gui.interrupts import Interrupts
from app.gui.main_window import MainWindow
from app.gui.window_controller import WindowController
from app.process import held_collector

__all__ = ["Session", "make_application", "make_pipeline", "run"]


def make_pipeline(config: AppConfig) -> Pipeline:
    """Make the live pipeline; it is imported here, on a task's thread, because it brings cameras and codecs along."""
    from app.pipeline.live_fusion import LiveFusion

    return LiveFusion(config)


def load_pipeline() -> None:
    """Import what `make_pipeline` needs, ahead of time: half a second that the first start need not wait for."""
    with held_collector():
        import app.pipeline.live_fusion  # noqa: F401


class Session:
    """The window with its controllers; `close` ends its threads. Used by the command, tests and screenshots."""

    def __init__(
        self,
        application: QApplication,
        settings_file: Path,
        config_folder: Path,
        pipeline_factory: Callable[[AppConfig], Pipeline] = make_pipeline,
    ) -> None:
        self.settings = GuiSettings(settings_file)
        self.language = install_language(application, self.settings.language)
        apply_theme(application, self.settings.appearance)
        self.tasks = TaskRunner()
        self.window = MainWindow()
        self.controller = WindowController(self.window, pipeline_factory, self.settings, self.tasks, config_folder)

    def close(self, timeout_s: float = 20.0) -> bool:
        """End the threads of the tasks and write the settings; False if something still runs."""
        ended = self.tasks.close(timeout_s)
        self.settings.save()
        return ended

    def take_down(self) -> None:
        """Delete the window with all that is in it, after `close`, while the application is there.

        Left to the interpreter's end, they go in any order, and a widget that outlives its application may crash.
        """
        for each in (self.window, self.tasks):
            sip.delete(each)
        gc.collect()


def run(paths: list[Path], config: AppConfig | None = None) -> int:
    """Show the window until it is closed; returns the exit code.

    Args:
        paths: a configuration or recording to open, or a visible and a thermal video; empty = the start page.
        config: started at once, in place of a file.
    """
    application = make_application(sys.argv[:1])
    session = Session(application, default_settings_file(), Path.cwd())
    application.setQuitOnLastWindowClosed(False)
    session.window.closed.connect(application.quit)
    interrupts = Interrupts()
    interrupts.asked.connect(session.controller.end)
    session.window.show()
    session.tasks.run(load_pipeline, lane=Lane.CONTROL)
    if config is not None:
        session.controller.open_config(config)
    elif paths:
        session.controller.open_path(paths[0], paths[1] if len(paths) > 1 else None)
    code = application.exec()
    interrupts.close()
    if not session.close():
        return 1
    session.take_down()
    return code
