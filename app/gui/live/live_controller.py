"""Decides about the live page: turns what the user asks into calls of the pipeline, and shows what the pipeline says.

Everything that may take time runs on a `TaskRunner`; the GUI thread only pulls the newest frame and numbers by timer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QObject, Qt, QTimer, pyqtSignal

from app.configuration.config import AppConfig, EngineConfig, load_config
from app.gui.common.pipeline_protocol import ControllerState, Pipeline
from app.gui.common.settings import GuiSettings, RigProfile, default_recordings_folder
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.live.live_page import LivePage
from app.gui.live.problem_board import ProblemBoard
from app.gui.picture.view_controller import ViewController
from app.gui.widgets.status_text import rig_chips
from app.gui.widgets.timing_plot import load_library
from app.pipeline.state.stats import StatsSnapshot
from app.rig.calibration_session import CamerasInUse
from app.rig.radiometry import default_scale, is_scale
from app.rig.setup_assistant import SourceChoice
from app.view.alarms import KeptMark
from app.view.settings import Picture
from fusion_core.errors import ConfigError
from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from app.pipeline.state.latest_slot import LatestSlot
    from app.playback.comparison import Comparison

__all__ = ["STOP_S", "LiveController"]

_PULL_MS = 8
_NUMBERS_MS = 250
STOP_S = 15.0
"""How long the pipeline or a recording may take to end."""


class LiveController(ViewController):
    """Owns the pipeline on behalf of the window. GUI thread.

    Signals: state_changed (ControllerState), config_changed (AppConfig), rig_opened (its profile is read), frame_ready
    (FusedFrame, B's pixels or None), stats_ready (StatsSnapshot), scale_changed, calibration_changed (path or None),
    problems_changed (what is shown), problem_log_changed (all of them), notice (text), stopped.

    Args:
        make_pipeline: makes a pipeline that is not started; called on a task's thread.
        settings: remembered choices.
        tasks: runs what takes time.
    """

    state_changed = pyqtSignal(object)
    config_changed = pyqtSignal(object)
    rig_opened = pyqtSignal()
    frame_ready = pyqtSignal(object, object)
    stats_ready = pyqtSignal(object)
    calibration_changed = pyqtSignal(object)
    problems_changed = pyqtSignal(object)
    problem_log_changed = pyqtSignal(object)
    notice = pyqtSignal(str)
    stopped = pyqtSignal()

    def __init__(
        self,
        page: LivePage,
        actions: WindowActions,
        make_pipeline: Callable[[AppConfig], Pipeline],
        settings: GuiSettings,
        tasks: TaskRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(page.stage.video, page.panel.view, parent)
        self._page = page
        self._make_pipeline = make_pipeline
        self._settings = settings
        self._tasks = tasks
        self._pipeline: Pipeline | None = None
        self._generation = 0  # of the pipeline: what an older one still reports is ignored
        self.state = ControllerState.IDLE
        self.config: AppConfig | None = None
        self.config_file: Path | None = None
        self._comparison: Comparison | None = None
        self._compared = 0  # sequence number of the picture shown last with its B
        self.frozen = False
        self.hud = True
        self._expert = True
        self.panel = True
        self.marks: tuple[KeptMark, ...] = ()
        """What is measured on the rig's picture, as it is remembered."""
        self.snapshot_of_stats: StatsSnapshot | None = None
        self._sequence = 0
        self._unpresented: FusedFrame | None = None
        self._board = ProblemBoard(self)
        self._pull = QTimer(self)
        self._pull.setTimerType(Qt.TimerType.PreciseTimer)
        self._pull.setInterval(_PULL_MS)
        self._pull.timeout.connect(self.pull_frame)
        self._numbers = QTimer(self)
        self._numbers.setInterval(_NUMBERS_MS)
        self._numbers.timeout.connect(self.pull_numbers)
        self._connect(page, actions)

    def _connect(self, page: LivePage, actions: WindowActions) -> None:
        banners, panel = page.stage.banners, page.panel
        self.view_changed.connect(lambda _: self._remember())
        self.frame_ready.connect(self.video.set_frame)
        self.notice.connect(banners.show_notice)
        self._board.shown_changed.connect(self.problems_changed)
        self._board.shown_changed.connect(banners.show_problems)
        self._board.log_changed.connect(self.problem_log_changed)
        banners.dismissed.connect(self._board.dismiss)
        self.video.presented.connect(lambda _: self.frame_presented())
        page.timing_asked.connect(self._on_timing_asked)
        panel.calibration.file_chosen.connect(self.set_calibration)
        panel.calibration.correction_decided.connect(self.decide_correction)
        panel.record.recording_chosen.connect(lambda recording: self.change_config(recording=recording))
        panel.source.sources_chosen.connect(self._on_sources_chosen)
        actions.connect("freeze", lambda: self.set_frozen(not self.frozen))
        actions.connect("hud", self.set_hud)
        actions.connect("timing", page.show_timing)

    # ------------------------------------------------------------------ start and stop

    def open_file(self, path: Path) -> None:
        """Read a configuration and start it."""
        self._tasks.run(
            lambda: load_config(path),
            lambda config: self._on_file_read(path, config),
            self._on_file_failed,
        )

    def _on_file_failed(self, error: Exception) -> None:
        self.report("config", error)
        self._page.show_state(self.state)  # in place of "reading…"

    def _on_file_read(self, path: Path, config: AppConfig) -> None:
        self._settings.add_recent("configs", path)
        self.open_config(config, path)

    def open_config(self, config: AppConfig, file: Path | None = None) -> None:
        """Start this configuration in place of the one that runs; `file` is where it came from."""
        self._remember()
        if "directory" not in config.recording.model_fields_set:
            folder = {"directory": default_recordings_folder()}
            config = config.model_copy(update={"recording": config.recording.model_copy(update=folder)})
        self.config, self.config_file = config, file
        profile = self._settings.profile(config.rig)
        self.view, self.hud, self.panel, self.marks = profile.view, profile.hud, profile.panel, profile.marks
        super().set_strength(config.engine.strength if profile.strength is None else profile.strength)
        self.scale = profile.scale if is_scale(profile.scale) else default_scale(config)
        self.scale_changed.emit()
        self.view_changed.emit(self.view)
        self.rig_opened.emit()
        self._show_figures()
        self._show_config(config)
        self._board.clear_own()
        self.start()

    def start(self) -> None:
        """Start the chosen configuration; does nothing while one runs or none is chosen."""
        config = self.config
        if config is None:
            return
        old = self._release_pipeline()
        generation = self._generation
        self._set_state(ControllerState.STARTING)

        def work() -> Pipeline:
            if old is not None:
                old.stop(timeout_s=STOP_S)
            pipeline = self._make_pipeline(config)
            pipeline.start()
            return pipeline

        self._tasks.run(
            work,
            lambda started: self._on_started(generation, started),
            lambda error: self._on_start_failed(generation, error),
        )

    def _on_started(self, generation: int, pipeline: Pipeline) -> None:
        if generation != self._generation:  # stopped meanwhile
            self._tasks.run(lambda: pipeline.stop(timeout_s=STOP_S), lambda _: self.stopped.emit())
            return
        self._pipeline = pipeline
        pipeline.fusion.strength = self.strength
        self._sequence = 0
        self._pull.start()
        self._numbers.start()
        self._set_state(ControllerState.RUNNING)

    def _on_start_failed(self, generation: int, error: Exception) -> None:
        self.report("pipeline", error)
        if generation == self._generation:
            self._set_state(ControllerState.IDLE)
            self.stopped.emit()

    def stop(self) -> None:
        """Stop cameras, fusion and recording; a recording is ended properly. `stopped` follows."""
        self._remember()
        waiting = self.state is ControllerState.STARTING
        pipeline = self._release_pipeline()
        if pipeline is None:
            self._set_state(ControllerState.IDLE)
            if not waiting:
                self.stopped.emit()
            return
        self._set_state(ControllerState.STOPPING)
        generation = self._generation
        self._tasks.run(
            lambda: pipeline.stop(timeout_s=STOP_S),
            lambda _: self._on_stopped(generation),
            lambda error: self._on_stop_failed(generation, error),
        )

    def _on_stop_failed(self, generation: int, error: Exception) -> None:
        self.report("pipeline", error)
        self._on_stopped(generation)

    def _on_stopped(self, generation: int) -> None:
        if generation == self._generation:
            self._set_state(ControllerState.IDLE)
        self.stopped.emit()

    def _release_pipeline(self) -> Pipeline | None:
        self._generation += 1
        self._pull.stop()
        self._numbers.stop()
        pipeline, self._pipeline = self._pipeline, None
        self.frame = self._unpresented = None
        self.set_frozen(False)
        return pipeline

    def _set_state(self, state: ControllerState) -> None:
        self.state = state
        self._page.show_state(state)
        self.state_changed.emit(state)

    # ------------------------------------------------------------------ pulling

    def pull_frame(self) -> None:
        """Take the newest frame, if there is one that was not shown; with its B while two settings are compared."""
        if self._pipeline is None or self.frozen:
            return
        second: npt.NDArray[np.uint8] | None = None
        comparison = self._comparison
        if comparison is not None and comparison.ready:
            pair = comparison.latest.get_newer(self._compared)
            if pair is None:
                return
            self._compared, compared = pair
            self.frame, second = compared.frame, compared.second
        else:
            newer = self._pipeline.latest.get_newer(self._sequence)
            if newer is None:
                return
            self._sequence, self.frame = newer
        self._unpresented = self.frame
        self.frame_ready.emit(self.frame, second)

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that runs; None while none does."""
        return self._pipeline

    @property
    def pictures(self) -> LatestSlot[FusedFrame] | None:
        """The pictures of the pipeline that runs, for others that look at them; None while none does."""
        return self._pipeline.latest if self._pipeline is not None else None

    def show_comparison(self, comparison: Comparison | None) -> None:
        """Show the pictures of this comparison, each with its B; None = the pipeline's alone."""
        self._comparison, self._compared = comparison, 0
        if comparison is not None:
            comparison.strength = self.strength

    def frame_presented(self) -> None:
        """Count the frame that the view has just painted; each frame counts once."""
        frame, self._unpresented = self._unpresented, None
        if frame is None or self._pipeline is None:
            return
        self._pipeline.note_shown(frame)

    def pull_numbers(self) -> None:
        """Take the numbers and the problems."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        snapshot = self.snapshot_of_stats = pipeline.stats.snapshot()
        self._page.show_snapshot(snapshot)
        self._show_chips()
        if self.hud:
            self._show_figures()
        self._board.set_pipeline_problems(pipeline.problems.recent())
        self.stats_ready.emit(snapshot)

    def report(self, source: str, error: Exception) -> None:
        """Show an error of the window like one of the pipeline's."""
        self._board.report(source, error)

    # ------------------------------------------------------------------ what the page shows

    def set_frozen(self, frozen: bool) -> None:
        """Hold the picture; capture, fusion and recording go on."""
        if frozen != self.frozen and not (frozen and self.frame is None):
            self.frozen = frozen
            self._page.show_frozen(frozen)
            self._show_chips()

    def set_strength(self, strength: float) -> None:
        """Take more or less of thermal into the fused picture, from the next pair on; remembered for the rig."""
        super().set_strength(strength)
        if self._pipeline is not None:
            self._pipeline.fusion.strength = self.strength
        if self._comparison is not None:
            self._comparison.strength = self.strength
        self._remember()

    def set_hud(self, shown: bool) -> None:
        """Show or hide the figures over the picture."""
        if shown != self.hud:
            self.hud = shown
            self._show_figures()
            self._remember()

    def set_level(self, expert: bool) -> None:
        """Show figures to experts alone."""
        self._expert = expert
        self._show_figures()

    def set_panel(self, shown: bool) -> None:
        """Remember whether the control panel is shown."""
        self.panel = shown
        self._remember()

    def set_marks(self, marks: tuple[KeptMark, ...]) -> None:
        """Remember what is measured on the rig's picture."""
        self.marks = marks
        self._remember()

    def show_devices(self, choices: Sequence[SourceChoice]) -> None:
        """Offer what is connected in the choice of sources."""
        self._page.panel.source.show_sources(choices, self.config)

    def _show_figures(self) -> None:
        self._page.show_figures(self.hud and self._expert, self.snapshot_of_stats, self.frozen)

    def _show_chips(self) -> None:
        pipeline = self._pipeline
        if pipeline is not None:
            snapshot = self.snapshot_of_stats or pipeline.stats.snapshot()
            engine = pipeline.engine
            self._page.show_chips(rig_chips(snapshot, self.frozen, engine.build_s, engine.build_progress))

    def _show_config(self, config: AppConfig) -> None:
        self._page.show_config(config, self.scale, self.panel)
        self.config_changed.emit(config)

    def _on_timing_asked(self) -> None:
        self._tasks.run(
            load_library,
            lambda _: self._page.timing.build(),
            lambda error: self.report("window", error),
            Lane.FILES,
        )

    # ------------------------------------------------------------------ pipeline settings

    def set_scale(self, scale: str) -> None:
        """Choose how counts are read; remembered for the rig."""
        super().set_scale(scale)
        self._remember()

    def isotherm_limits(self) -> tuple[int, int]:
        """Return the middle half of what is mapped now, until the user has chosen limits; counts."""
        limits = self.frame.agc_limits if self.frame is not None else None
        if self.view.isotherm is not None or self._isotherm is not None or limits is None:
            return super().isotherm_limits()
        quarter = (limits[1] - limits[0]) / 4
        return round(limits[0] + quarter), round(limits[1] - quarter)

    def set_engine(self, engine: EngineConfig) -> None:
        """Build this engine and change to it when it is ready; until then the one that runs goes on."""
        self.call("engine", lambda pipeline: pipeline.engine.request(engine.name, engine.preset, engine.weights))
        self.note_section(engine=engine)
        self._page.panel.engine.show_engine(engine)

    def set_calibration(self, path: Path | None, done: Callable[[], None] | None = None) -> None:
        """Align by this file from the next picture on, None = plain scaling; `done` is called when it is in use."""

        def in_use(_: object) -> None:
            if self.config is not None:
                self.note_section(calibration=self.config.calibration.model_copy(update={"file": path}))
            self._page.panel.calibration.show_file(path)
            self.calibration_changed.emit(path)
            if done is not None:
                done()

        self.call("calibration", lambda pipeline: pipeline.alignment.use(path), in_use)

    @property
    def cameras_in_use(self) -> CamerasInUse:
        """The devices that give visible and thermal ("" for files, simulated cameras and while nothing runs), and what
        is added to their stamps."""
        if self._pipeline is None:
            return CamerasInUse()
        return CamerasInUse(self._pipeline.cameras.devices(), self._pipeline.cameras.offset_between_ms)

    def decide_correction(self, accept: bool) -> None:
        """Move thermal by what the drift monitor proposes, or go back to the calibration as it was loaded."""
        self.call(
            "calibration", lambda pipeline: pipeline.alignment.accept() if accept else pipeline.alignment.discard()
        )

    def _on_sources_chosen(self, visible: str, thermal: str) -> None:
        config = self.config
        if config is not None:
            self.change_config(
                visible=config.visible.model_copy(update={"uri": visible}),
                thermal=config.thermal.model_copy(update={"uri": thermal}),
            )

    def change_config(self, **sections: Any) -> None:
        """Change sections that need the pipeline to start again (sources, recording), and start it again."""
        if self.config is None:
            return
        try:
            values = self.config.model_dump() | {k: v.model_dump() for k, v in sections.items()}
            config = AppConfig.model_validate(values)
        except ValueError as error:
            self.report("config", _config_error(error))
            return
        if config == self.config:
            return
        self.config = config
        self._show_config(config)
        if self.state is not ControllerState.IDLE:
            self.start()

    def note_section(self, **sections: Any) -> None:
        """Keep changed sections in the configuration; the pipeline that runs has them already."""
        if self.config is not None:
            self.config = self.config.model_copy(update=sections)

    # ------------------------------------------------------------------ helpers

    def call(
        self,
        source: str,
        work: Callable[[Pipeline], Any],
        done: Callable[[Any], None] | None = None,
        lane: Lane = Lane.CONTROL,
    ) -> None:
        """Do this with the pipeline that runs, on a task's thread; an error is shown as a problem of `source`."""
        pipeline = self._pipeline
        if pipeline is None:
            self.notice.emit(self.tr("Nothing is running: start a rig first"))
            return
        self._tasks.run(lambda: work(pipeline), done, lambda error: self.report(source, error), lane)

    def _remember(self) -> None:
        """Hand the rig's profile to the settings, which write what is new a while later."""
        if self.config is not None:
            view = dataclasses.replace(self.view, thermal_share=False)
            if Picture.SECOND in (view.wipe_left, view.wipe_right):  # there is no B at the next start
                view = dataclasses.replace(view, wipe_left=Picture.VISIBLE, wipe_right=Picture.FUSED)
            strength = None if self.strength == self.config.engine.strength else self.strength
            profile = RigProfile(view, self.hud, self.panel, self.scale, strength, self.marks)
            self._settings.set_profile(self.config.rig, profile)


def _config_error(error: ValueError) -> ConfigError:
    problems = getattr(error, "errors", None)
    if problems is None:
        return ConfigError(str(error))
    return ConfigError("; ".join(str(item["msg"]).removeprefix("Value error, ") for item in problems()))
