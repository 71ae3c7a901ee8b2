"""Decides what the health light says, and does what it offers."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QObject
from PyQt6.QtWidgets import QFileDialog

from app.configuration.config import EngineConfig, EngineName, Preset
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.qt_application import show_in_folder
from app.gui.common.window_actions import WindowActions
from app.gui.live.live_controller import LiveController
from app.gui.live.live_page import LivePage
from app.gui.widgets.health import Health, HealthWatch, Remedy
from app.pipeline.state.stats import StatsSnapshot

__all__ = ["HealthController", "lighter_engine"]


def lighter_engine(config: EngineConfig, running: str) -> EngineConfig:
    """Return the next lighter engine than the one that runs ("openvino-bf16:small"): tiny, then without a network."""
    preset = running.partition(":")[2]
    if preset in (Preset.SMALL.value, Preset.BASE.value):
        return config.model_copy(update={"preset": Preset.TINY, "weights": None})
    if preset:
        return config.model_copy(update={"name": EngineName.ALIGNED_PYRAMID, "weights": None})
    return config.model_copy(update={"name": EngineName.PYRAMID, "weights": None})


class HealthController(QObject):
    """Judges each set of numbers of `live`. GUI thread."""

    def __init__(
        self, page: LivePage, actions: WindowActions, live: LiveController, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._page, self._actions, self._live = page, actions, live
        self._watch = HealthWatch()
        live.stats_ready.connect(self._judge)
        live.state_changed.connect(self._on_state_changed)
        for light in page.health_lights:
            light.remedy_asked.connect(self.do)

    @property
    def health(self) -> Health:
        """What the light says now."""
        return self._page.health_lights[0].health

    def do(self, remedy: Remedy) -> None:
        """Do what was offered."""
        live = self._live
        if remedy is Remedy.LIGHTER:
            self._use_lighter()
        elif remedy is Remedy.CALIBRATE:
            self._actions["calibrate"].trigger()
        elif remedy is Remedy.CORRECT:
            live.decide_correction(True)
        elif remedy is Remedy.REOPEN:
            live.call("cameras", lambda pipeline: pipeline.cameras.nudge())
        elif remedy is Remedy.SOURCES:
            self._page.open_section(self._page.panel.source)
        elif remedy is Remedy.FREE_SPACE and live.config is not None:
            show_in_folder(live.config.recording.directory)
        elif remedy is Remedy.OTHER_FOLDER:
            self._choose_folder()

    def use_folder(self, folder: Path) -> None:
        """Record to this folder; the rig starts again."""
        if self._live.config is not None:
            recording = self._live.config.recording.model_copy(update={"directory": folder})
            self._live.change_config(recording=recording)

    def _use_lighter(self) -> None:
        config, snapshot = self._live.config, self._live.snapshot_of_stats
        if config is not None and snapshot is not None:
            self._live.set_engine(lighter_engine(config.engine, snapshot.engine))
            self._live.notice.emit(self.tr("A lighter model is being put to use"))

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self._page, self.tr("Record to"))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(lambda name: self.use_folder(Path(name)))
        dialog.open()

    def _judge(self, snapshot: StatsSnapshot) -> None:
        self._show(self._watch.judge(snapshot))

    def _on_state_changed(self, state: ControllerState) -> None:
        if state is not ControllerState.RUNNING:
            self._watch = HealthWatch()
            self._show(Health())

    def _show(self, health: Health) -> None:
        for light in self._page.health_lights:
            light.show_health(health)
