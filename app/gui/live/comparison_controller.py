"""Decides about A and B on the live picture: owns the comparison, and makes B the engine. No widget."""

from __future__ import annotations

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.configuration.config import EngineName, Preset
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.live.controller import MainController
from app.gui.live.model_controller import ModelController
from app.playback.comparison import Comparison, ComparisonSettings
from app.view.settings import Picture, ViewMode, ViewSettings

__all__ = ["ComparisonController"]

_TICK_MS = 200


class ComparisonController(QObject):
    """GUI thread. settings_changed: ComparisonSettings, None = no B. state_changed: what B does, in words."""

    settings_changed = pyqtSignal(object)
    state_changed = pyqtSignal(str)

    def __init__(
        self, main: MainController, models: ModelController, tasks: TaskRunner, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._main, self._models, self._tasks = main, models, tasks
        self._comparison: Comparison | None = None
        self._view_before: ViewSettings | None = None
        self._told = ""
        self.last = ComparisonSettings()
        self._tick = QTimer(self)
        self._tick.setInterval(_TICK_MS)
        self._tick.timeout.connect(self.tick)
        main.state_changed.connect(self._rig_changed)

    @property
    def settings(self) -> ComparisonSettings | None:
        """B's settings; None while nothing is compared."""
        return self._comparison.settings if self._comparison is not None else None

    def toggle(self) -> None:
        """Compare with the last B, or end that."""
        self.compare(self.last if self._comparison is None else None)

    def compare(self, settings: ComparisonSettings | None) -> None:
        """Show A and B on either side of a divider; None ends it and shows the view from before."""
        if settings is None:
            self._end()
            return
        self.last = settings
        pictures = self._main.pictures
        if pictures is None:
            self._main.notice.emit(self.tr("Nothing is running: start a rig first"))
            self.settings_changed.emit(None)
            return
        if self._comparison is None:
            self._comparison = Comparison(pictures, settings)
            self._comparison.start()
            self._main.show_comparison(self._comparison)
            self._view_before = self._main.view
            self._tick.start()
        else:
            self._comparison.set_settings(settings)
        self._main.set_view(mode=ViewMode.WIPE, wipe_left=Picture.FUSED, wipe_right=Picture.SECOND)
        self.settings_changed.emit(settings)
        self.tick()

    def promote(self) -> None:
        """Make B the engine, model and AGC of the pipeline, and end the comparison."""
        settings, config = self.settings, self._main.config
        if settings is None or config is None:
            return
        engine = config.engine.model_copy(
            update={"name": EngineName(settings.engine), "preset": Preset(settings.preset), "weights": settings.weights}
        )
        self._end()
        self._models.use(engine)
        if settings.agc is not None:
            self._main.set_agc(settings.agc)
        self._main.notice.emit(self.tr("{0} is being put to use").format(settings.label))

    def tick(self) -> None:
        """Called by timer: says what B does."""
        comparison = self._comparison
        if comparison is None:
            return
        text = self.tr("B is being built…")
        if comparison.error:
            text = comparison.error
        elif comparison.ready:
            newest = comparison.latest.peek()
            text = self.tr("B takes {0:.0f} ms a picture").format(newest.work_ms) if newest is not None else ""
        if text != self._told:
            self._told = text
            self.state_changed.emit(text)

    def _end(self) -> None:
        comparison, self._comparison = self._comparison, None
        self._tick.stop()
        self._main.show_comparison(None)
        if comparison is not None:
            self._tasks.run(comparison.stop, lane=Lane.FILES)
        before, self._view_before = self._view_before, None
        if before is not None and Picture.SECOND in (self._main.view.wipe_left, self._main.view.wipe_right):
            mode = before.mode if self._main.view.mode is ViewMode.WIPE else self._main.view.mode
            self._main.set_view(mode=mode, wipe_left=before.wipe_left, wipe_right=before.wipe_right)
        self._told = ""
        self.state_changed.emit("")
        self.settings_changed.emit(None)

    def _rig_changed(self, state: ControllerState) -> None:
        if state is not ControllerState.RUNNING and self._comparison is not None:
            self._end()
