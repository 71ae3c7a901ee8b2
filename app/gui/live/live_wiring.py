"""The wires between the live page and its controller. Shows what the controller says; decides nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from app.configuration.config import AppConfig
from app.gui.common.pipeline_protocol import ControllerState, Readout
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.live.comparison_controller import ComparisonController
from app.gui.live.controller import MainController
from app.gui.live.live_page import LivePage
from app.gui.live.model_controller import ModelController
from app.gui.widgets.status_text import hud_figures
from app.gui.widgets.timing_plot import load_library
from app.pipeline.stats import RecordingState, StatsSnapshot
from app.playback.comparison import ComparisonSettings
from app.view.recorder import ViewRecorder
from app.view.settings import Picture

__all__ = ["LiveWiring"]


class LiveWiring(QObject):
    """Connects both ways, from the constructor on. GUI thread.

    mode_changed: ViewSettings of the live page. full_screen_asked: by a double click. devices_asked: list them again.
    """

    view_changed = pyqtSignal(object)
    full_screen_asked = pyqtSignal()
    devices_asked = pyqtSignal()

    def __init__(
        self,
        page: LivePage,
        control: MainController,
        comparison: ComparisonController,
        models: ModelController,
        actions: WindowActions,
        tasks: TaskRunner,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._page, self._control, self._actions, self._tasks = page, control, actions.by_name, tasks
        self._comparison, self._models, self._icons = comparison, models, actions
        self._view_recorder: ViewRecorder | None = None
        self._show_what_it_says()
        self._ask_for_what_is_wanted()
        control.want_histogram(True)

    @property
    def recording_view(self) -> bool:
        """Whether what is seen is being recorded."""
        return self._view_recorder is not None

    # ------------------------------------------------------------------ controller to page

    def _show_what_it_says(self) -> None:
        control, page = self._control, self._page
        video, panel = page.stage.video, page.panel
        control.frame_ready.connect(video.set_frame)
        control.stats_ready.connect(self._show_stats)
        control.view_changed.connect(video.set_settings)
        control.view_changed.connect(panel.view.show_view)
        control.view_changed.connect(self.view_changed)
        control.config_changed.connect(self._config_changed)
        control.state_changed.connect(self._state_changed)
        control.frozen_changed.connect(self._frozen_changed)
        control.hud_changed.connect(self._hud_changed)
        control.readout_changed.connect(self._readout_changed)
        control.histogram_ready.connect(lambda h: panel.agc.histogram.set_histogram(h.counts, h.edges, h.limits))
        control.agc_changed.connect(panel.agc.show_agc)
        control.agc_changed.connect(panel.compare.show_agc)
        control.engine_changed.connect(panel.engine.show_engine)
        control.calibration_changed.connect(panel.calibration.show_file)
        self._models.models_changed.connect(panel.show_models)
        self._comparison.settings_changed.connect(self._comparison_changed)
        self._comparison.state_changed.connect(panel.compare.show_state)
        control.problems_changed.connect(page.stage.banners.show_problems)
        control.notice.connect(page.stage.banners.show_notice)

    def _config_changed(self, config: AppConfig) -> None:
        self._page.rig.setText(config.rig)
        self._page.timing.clear()
        self._page.panel.show_config(config)
        self._page.panel.view.show_scale(self._control.scale)
        self._actions["panel"].setChecked(self._control.panel)
        self._page.panel.setVisible(self._control.panel)
        self.devices_asked.emit()

    def _comparison_changed(self, settings: ComparisonSettings | None) -> None:
        self._page.panel.compare.show_settings(settings)
        self._actions["compare"].setChecked(settings is not None)
        if settings is not None:
            self._page.panel.compare.set_open(True)
        names = self._page.stage.video.panel_names
        names[Picture.FUSED] = self.tr("A  as it fuses now") if settings is not None else self.tr("fused")
        names[Picture.SECOND] = f"B  {settings.label}" if settings is not None else self.tr("B")

    def _state_changed(self, state: ControllerState) -> None:
        running = state in (ControllerState.RUNNING, ControllerState.STARTING)
        run = self._actions["run"]
        run.setText(self.tr("Stop") if running else self.tr("Start"))
        self._icons.show_icon("run", "stop" if running else "play")
        messages = {
            ControllerState.IDLE: self.tr("stopped"),
            ControllerState.STARTING: self.tr("starting…"),
            ControllerState.RUNNING: self.tr("waiting for the first picture…"),
            ControllerState.STOPPING: self.tr("stopping, ending the recording…"),
        }
        video = self._page.stage.video
        video.set_message(messages[state])
        if state is not ControllerState.RUNNING:
            video.set_frame(None)
            video.set_figures([])
            self._show_recorded(False)

    def _show_stats(self, snapshot: StatsSnapshot) -> None:
        self._page.status.show_snapshot(snapshot)
        self._page.panel.engine.show_running(snapshot)
        self._page.panel.calibration.show_drift(snapshot.drift)
        self._page.timing.add(snapshot)
        if self._control.hud:
            self._page.stage.video.set_figures(hud_figures(snapshot, self._control.frozen))
        self._show_recorded(snapshot.recording in (RecordingState.RECORDING, RecordingState.PAUSED))

    def _frozen_changed(self, frozen: bool) -> None:
        self._actions["freeze"].setChecked(frozen)
        self._page.stage.video.set_badge(self.tr("FROZEN") if frozen else "")

    def _hud_changed(self, shown: bool) -> None:
        self._actions["hud"].setChecked(shown)
        snapshot = self._control.snapshot_of_stats
        figures = hud_figures(snapshot, self._control.frozen) if shown and snapshot is not None else []
        self._page.stage.video.set_figures(figures)

    def _readout_changed(self, readout: Readout | None) -> None:
        self._page.stage.video.set_readout(readout.region if readout else None, readout.text if readout else "")

    # ------------------------------------------------------------------ page to controller

    def _ask_for_what_is_wanted(self) -> None:
        control, page = self._control, self._page
        video, panel = page.stage.video, page.panel
        video.presented.connect(lambda _: control.frame_presented())
        video.wipe_moved.connect(lambda at: control.set_view(wipe_at=at))
        video.pip_tapped.connect(control.swap)
        video.region_chosen.connect(control.set_region)
        video.full_screen_asked.connect(self.full_screen_asked)
        page.stage.banners.dismissed.connect(control.dismiss)
        panel.view.view_asked.connect(lambda changes: control.set_view(**changes))
        panel.view.scale_chosen.connect(self._scale_chosen)
        panel.view.measure_toggled.connect(self.set_measuring)
        panel.view.measure_cleared.connect(lambda: control.set_region(None))
        panel.agc.agc_chosen.connect(control.set_agc)
        panel.agc.folded.connect(lambda folded: control.want_histogram(not folded))
        panel.engine.engine_chosen.connect(self._models.use)
        panel.engine.roll_back_asked.connect(self._models.roll_back)
        panel.engine.folded.connect(lambda folded: None if folded else self._models.refresh())
        panel.compare.folded.connect(lambda folded: None if folded else self._models.refresh())
        for box in (panel.engine, panel.compare):
            box.add_asked.connect(lambda name: self._models.add(Path(name)))
        panel.compare.settings_chosen.connect(self._comparison.compare)
        panel.compare.promote_asked.connect(self._comparison.promote)
        panel.calibration.file_chosen.connect(control.set_calibration)
        panel.calibration.correction_decided.connect(control.decide_on_correction)
        panel.record.recording_chosen.connect(lambda recording: control.change_config(recording=recording))
        page.timing_asked.connect(self._load_timing)
        panel.source.refresh_asked.connect(self.devices_asked)
        panel.source.sources_chosen.connect(self._sources_chosen)

    def _load_timing(self) -> None:
        self._tasks.run(
            load_library,
            lambda _: self._page.timing.build(),
            lambda error: self._control.report("window", error),
            Lane.FILES,
        )

    def show_devices(self, choices: Any) -> None:
        """What is connected, for the choice of sources."""
        self._page.panel.source.show_sources(choices, self._control.config)

    def run_or_stop(self) -> None:
        """Start the rig, or stop it."""
        if self._control.state in (ControllerState.RUNNING, ControllerState.STARTING):
            self._control.stop()
        else:
            self._control.start()

    def set_measuring(self, on: bool) -> None:
        """A tap sets a spot, a drag a box."""
        self._actions["measure"].setChecked(on)
        self._page.panel.view.measure.setChecked(on)
        self._page.stage.video.set_measuring(on)

    def _scale_chosen(self, name: str) -> None:
        self._control.set_scale(name)
        self._page.panel.view.show_scale(name)

    def _sources_chosen(self, visible: str, thermal: str) -> None:
        config = self._control.config
        if config is not None:
            self._control.change_config(
                visible=config.visible.model_copy(update={"uri": visible}),
                thermal=config.thermal.model_copy(update={"uri": thermal}),
            )

    # ------------------------------------------------------------------ recording what is seen

    def _show_recorded(self, on: bool) -> None:
        self._page.show_recording(on)
        self._actions["record"].setChecked(on)
        self._actions["record"].setText(self.tr("Stop recording") if on else self.tr("Record"))
        self.record_view(on and self._page.panel.record.record_view)

    def record_view(self, on: bool) -> None:
        """Record what is seen, or end that."""
        if on == (self._view_recorder is not None):
            return
        video = self._page.stage.video
        if on and self._control.config is not None:
            stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
            folder = self._control.config.recording.directory
            self._view_recorder = ViewRecorder(folder / f"view_{stamp}.mkv")
            video.set_capture(self._view_recorder.offer)
            return
        recorder, self._view_recorder = self._view_recorder, None
        video.set_capture(None)
        if recorder is not None:
            self._tasks.run(recorder.close, lambda _: self._view_recorded(recorder), lane=Lane.FILES)

    def _view_recorded(self, recorder: ViewRecorder) -> None:
        text = recorder.error or self.tr("View recorded: {0}").format(recorder.path)
        self._page.stage.banners.show_notice(text)
