"""Decides about A and B on the live picture: owns the comparison, and makes B the engine."""

from __future__ import annotations

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.configuration.config import EngineName, Preset
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.live.agc_controller import AgcController
from app.gui.live.live_controller import LiveController
from app.gui.live.live_page import LivePage
from app.gui.live.model_controller import ModelController
from app.playback.comparison import Comparison, ComparisonSettings
from app.view.settings import Picture, ViewMode, ViewSettings
from fusion_core.engines.engine import NETWORK_ENGINES
from fusion_core.thermal.agc import AgcConfig

__all__ = ["ComparisonController", "same_as_running"]

_TICK_MS = 200


def same_as_running(settings: ComparisonSettings, running: str, agc: AgcConfig) -> bool:
    """Whether B would be fused as A is: by the engine that runs, e.g. "openvino-bf16:tiny", from the same levels."""
    if settings.agc is not None and settings.agc != agc:
        return False
    engine, _, model = running.partition(":")
    if settings.engine not in NETWORK_ENGINES:
        return settings.engine == running
    same_model = model == (settings.weights.stem if settings.weights is not None else settings.preset)
    return same_model and (settings.engine == "auto" or engine.startswith(settings.engine))


class ComparisonController(QObject):
    """Fuses the pictures of `live` a second time. GUI thread. state_changed: what B does, in words."""

    state_changed = pyqtSignal(str)

    def __init__(
        self,
        page: LivePage,
        live: LiveController,
        agc: AgcController,
        models: ModelController,
        tasks: TaskRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._page, self._live, self._agc, self._models, self._tasks = page, live, agc, models, tasks
        self._comparison: Comparison | None = None
        self._view_before: ViewSettings | None = None
        self._state = ""
        self.last = ComparisonSettings()
        self._tick = QTimer(self)
        self._tick.setInterval(_TICK_MS)
        self._tick.timeout.connect(self.tick)
        live.state_changed.connect(self._on_rig_changed)
        self.state_changed.connect(page.panel.compare.show_state)
        page.panel.compare.settings_chosen.connect(self.compare)
        page.panel.compare.promote_asked.connect(self.promote)

    @property
    def settings(self) -> ComparisonSettings | None:
        """The settings of B; None while nothing is compared."""
        return self._comparison.settings if self._comparison is not None else None

    def toggle(self) -> None:
        """Compare with the last B, or end that."""
        self.compare(self.last if self._comparison is None else None)

    def compare(self, settings: ComparisonSettings | None) -> None:
        """Show A and B on either side of a divider; None ends it and shows the view from before."""
        if settings is None:
            self._end()
            return
        settings = self._other_than_a(settings)
        self.last = settings
        pictures = self._live.pictures
        if pictures is None:
            self._live.notice.emit(self.tr("Nothing is running: start a rig first"))
            self._page.show_comparison(None)
            return
        if self._comparison is None:
            self._comparison = Comparison(pictures, settings)
            self._comparison.start()
            self._live.show_comparison(self._comparison)
            self._view_before = self._live.view
            self._tick.start()
        else:
            self._comparison.set_settings(settings)
        self._live.set_view(mode=ViewMode.WIPE, wipe_left=Picture.FUSED, wipe_right=Picture.SECOND)
        self._page.show_comparison(settings)
        self.tick()

    def _other_than_a(self, settings: ComparisonSettings) -> ComparisonSettings:
        """Return these, or something else where they would compare A with itself."""
        snapshot, config = self._live.snapshot_of_stats, self._live.config
        if snapshot is None or config is None or not same_as_running(settings, snapshot.engine, config.agc):
            return settings
        engine = "average" if settings.engine == "pyramid" else "pyramid"
        other = ComparisonSettings(engine, settings.preset, None, settings.agc)
        told = self.tr("A is fused in the same way just now; B is fused by {0}")
        self._live.notice.emit(told.format(other.label))
        return other

    def promote(self) -> None:
        """Make B the engine, model and AGC of the pipeline, and end the comparison."""
        settings, config = self.settings, self._live.config
        if settings is None or config is None:
            return
        engine = config.engine.model_copy(
            update={"name": EngineName(settings.engine), "preset": Preset(settings.preset), "weights": settings.weights}
        )
        self._end()
        self._models.use(engine)
        if settings.agc is not None:
            self._agc.set_agc(settings.agc)
        self._live.notice.emit(self.tr("{0} is being put to use").format(settings.label))

    def tick(self) -> None:
        """Say what B does; called by timer."""
        comparison = self._comparison
        if comparison is None:
            return
        if self._other_than_a(comparison.settings) != comparison.settings:  # A has changed meanwhile
            self.compare(comparison.settings)
            return
        text = self.tr("B is being built…")
        if comparison.error:
            text = comparison.error
        elif comparison.ready:
            newest = comparison.latest.peek()
            text = self.tr("B takes {0:.0f} ms a picture").format(newest.work_ms) if newest is not None else ""
        if text != self._state:
            self._state = text
            self.state_changed.emit(text)

    def _end(self) -> None:
        comparison, self._comparison = self._comparison, None
        self._tick.stop()
        self._live.show_comparison(None)
        if comparison is not None:
            self._tasks.run(comparison.stop, lane=Lane.FILES)
        before, self._view_before = self._view_before, None
        if before is not None and Picture.SECOND in (self._live.view.wipe_left, self._live.view.wipe_right):
            mode = before.mode if self._live.view.mode is ViewMode.WIPE else self._live.view.mode
            self._live.set_view(mode=mode, wipe_left=before.wipe_left, wipe_right=before.wipe_right)
        self._state = ""
        self.state_changed.emit("")
        self._page.show_comparison(None)

    def _on_rig_changed(self, state: ControllerState) -> None:
        if state is not ControllerState.RUNNING and self._comparison is not None:
            self._end()
