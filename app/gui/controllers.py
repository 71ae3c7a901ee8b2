"""The controllers of one window, made in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.configuration.config import AppConfig
from app.gui.common.pipeline_protocol import Pipeline
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import TaskRunner
from app.gui.live.agc_controller import AgcController
from app.gui.live.comparison_controller import ComparisonController
from app.gui.live.controller import MainController
from app.gui.live.model_controller import ModelController
from app.gui.playback.playback_controller import PlaybackController
from app.gui.setup.assistant_controller import AssistantController
from app.gui.setup.calibration_controller import CalibrationController

__all__ = ["Controllers", "make_controllers"]


@dataclass(frozen=True, slots=True)
class Controllers:
    """Each decides about one thing; none knows a widget."""

    main: MainController
    agc: AgcController
    models: ModelController
    comparison: ComparisonController
    calibration: CalibrationController
    playback: PlaybackController
    assistant: AssistantController


def make_controllers(
    make_pipeline: Callable[[AppConfig], Pipeline], settings: GuiSettings, tasks: TaskRunner, folder: Path
) -> Controllers:
    """All of them.

    Args:
        folder: where new configurations and, without one, calibrations go.
    """
    main = MainController(make_pipeline, settings, tasks)
    models = ModelController(main, tasks)
    return Controllers(
        main,
        AgcController(main),
        models,
        ComparisonController(main, models, tasks),
        CalibrationController(main, tasks, folder),
        PlaybackController(tasks),
        AssistantController(tasks, folder),
    )
