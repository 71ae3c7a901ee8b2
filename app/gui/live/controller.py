"""Decides: turns what the user asks into calls of the pipeline, and what the pipeline says into signals. No widget.

Everything that may take time runs on a `TaskRunner`; the GUI thread only pulls the newest frame and numbers by timer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QObject, Qt, QTimer, pyqtSignal

from app.configuration.config import AppConfig, EngineConfig, load_config
from app.gui.common.pipeline_protocol import ControllerState, Pipeline, Readout
from app.gui.common.settings import GuiSettings, RigProfile
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.view_controller import ViewController
from app.gui.live.problem_board import ProblemBoard
from app.pipeline.problems import PipelineProblem
from app.pipeline.stats import RecordingState, StatsSnapshot
from app.rig.calibration_session import CamerasInUse
from app.rig.radiometry import SCALES, Radiometry, default_scale
from app.view.composer import counts_statistics
from app.view.settings import Picture
from fusion_core.errors import LumithermError
from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from app.pipeline.latest_slot import LatestSlot
    from app.playback.comparison import Comparison
    from fusion_core.thermal.agc import AgcConfig

__all__ = ["ControllerState", "MainController", "Pipeline", "Readout"]

_PULL_MS = 8
_NUMBERS_MS = 250
_STOP_S = 15.0


class MainController(ViewController):
    """Owns the pipeline on behalf of the window. GUI thread.

    Args:
        make_pipeline: makes a pipeline that is not started; called on a task's thread.
        settings: remembered choices.
        tasks: runs what takes time.
    """

    state_changed = pyqtSignal(object)
    config_changed = pyqtSignal(object)
    frame_ready = pyqtSignal(object, object)
    stats_ready = pyqtSignal(object)
    frozen_changed = pyqtSignal(bool)
    hud_changed = pyqtSignal(bool)
    readout_changed = pyqtSignal(object)
    histogram_ready = pyqtSignal(object)
    agc_changed = pyqtSignal(object)
    engine_changed = pyqtSignal(object)
    calibration_changed = pyqtSignal(object)
    problems_changed = pyqtSignal(object)
    problem_log_changed = pyqtSignal(object)
    notice = pyqtSignal(str)
    stopped = pyqtSignal()

    def __init__(
        self,
        make_pipeline: Callable[[AppConfig], Pipeline],
        settings: GuiSettings,
        tasks: TaskRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._make_pipeline = make_pipeline
        self._settings = settings
        self._tasks = tasks
        self._pipeline: Pipeline | None = None
        self._generation = 0  # of the pipeline: what an older one still reports is not ours any more
        self.state = ControllerState.IDLE
        self.config: AppConfig | None = None
        self.config_file: Path | None = None
        self._comparison: Comparison | None = None
        self._compared = 0  # sequence number of the picture shown last with its B
        self.frozen = False
        self.hud = True
        self.panel = True
        self.scale = "relative"
        self.frame: FusedFrame | None = None
        self.snapshot_of_stats: StatsSnapshot | None = None
        self._sequence = 0
        self._unpresented: FusedFrame | None = None
        self._region: tuple[float, float, float, float] | None = None
        self._histogram_wanted = False
        self._histogram_busy = False
        self._board = ProblemBoard(self)
        self._board.shown_changed.connect(self.problems_changed)
        self._board.log_changed.connect(self.problem_log_changed)
        self._pull = QTimer(self)
        self._pull.setTimerType(Qt.TimerType.PreciseTimer)
        self._pull.setInterval(_PULL_MS)
        self._pull.timeout.connect(self.pull_frame)
        self._numbers = QTimer(self)
        self._numbers.setInterval(_NUMBERS_MS)
        self._numbers.timeout.connect(self.pull_numbers)
        self.view_changed.connect(lambda _: self._remember())

    # ------------------------------------------------------------------ start and stop

    def open_file(self, path: Path) -> None:
        """Read a configuration and start it."""
        self._tasks.run(
            lambda: load_config(path),
            lambda config: self._opened(path, config),
            lambda error: self.report("config", error),
        )

    def _opened(self, path: Path, config: AppConfig) -> None:
        self._settings.add_recent("configs", path)
        self.open_config(config, path)

    def open_config(self, config: AppConfig, file: Path | None = None) -> None:
        """Start this configuration in place of the one that runs; `file` is where it came from."""
        self._remember()
        self.config, self.config_file = config, file
        profile = self._settings.profile(config.rig)
        self.view, self.hud, self.panel = profile.view, profile.hud, profile.panel
        self.scale = profile.scale if profile.scale in SCALES else default_scale(config)
        self.view_changed.emit(self.view)
        self.hud_changed.emit(self.hud)
        self.config_changed.emit(config)
        self._board.clear_own()
        self.start()

    def start(self) -> None:
        """Start the chosen configuration; does nothing while one runs or none is chosen."""
        config = self.config
        if config is None:
            return
        old = self._let_go()
        generation = self._generation
        self._set_state(ControllerState.STARTING)

        def work() -> Pipeline:
            if old is not None:
                old.stop(timeout_s=_STOP_S)
            pipeline = self._make_pipeline(config)
            pipeline.start()
            return pipeline

        self._tasks.run(
            work,
            lambda started: self._started(generation, started),
            lambda error: self._not_started(generation, error),
        )

    def _started(self, generation: int, pipeline: Pipeline) -> None:
        if generation != self._generation:  # stopped meanwhile
            self._tasks.run(lambda: pipeline.stop(timeout_s=_STOP_S), lambda _: self.stopped.emit())
            return
        self._pipeline = pipeline
        self._sequence = 0
        self._pull.start()
        self._numbers.start()
        self._set_state(ControllerState.RUNNING)

    def _not_started(self, generation: int, error: Exception) -> None:
        self.report("pipeline", error)
        if generation == self._generation:
            self._set_state(ControllerState.IDLE)
            self.stopped.emit()

    def stop(self) -> None:
        """Stop cameras, fusion and recording; a recording is ended properly. `stopped` follows."""
        self._remember()
        waiting = self.state is ControllerState.STARTING
        pipeline = self._let_go()
        if pipeline is None:
            self._set_state(ControllerState.IDLE)
            if not waiting:
                self.stopped.emit()
            return
        self._set_state(ControllerState.STOPPING)
        generation = self._generation
        self._tasks.run(
            lambda: pipeline.stop(timeout_s=_STOP_S),
            lambda _: self._is_stopped(generation),
            lambda error: self._not_stopped(generation, error),
        )

    def _not_stopped(self, generation: int, error: Exception) -> None:
        self.report("pipeline", error)
        self._is_stopped(generation)

    def _is_stopped(self, generation: int) -> None:
        if generation == self._generation:
            self._set_state(ControllerState.IDLE)
        self.stopped.emit()

    def _let_go(self) -> Pipeline | None:
        self._generation += 1
        self._pull.stop()
        self._numbers.stop()
        pipeline, self._pipeline = self._pipeline, None
        self.frame = self._unpresented = None
        self.set_frozen(False)
        return pipeline

    def _set_state(self, state: ControllerState) -> None:
        self.state = state
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
    def pictures(self) -> LatestSlot[FusedFrame] | None:
        """The pictures of the pipeline that runs, for others that look at them; None while none does."""
        return self._pipeline.latest if self._pipeline is not None else None

    def show_comparison(self, comparison: Comparison | None) -> None:
        """Show this one's pictures, each with its B; None = the pipeline's alone."""
        self._comparison, self._compared = comparison, 0

    def frame_presented(self) -> None:
        """The view has painted; counts each frame once."""
        frame, self._unpresented = self._unpresented, None
        if frame is None or self._pipeline is None:
            return
        self._pipeline.note_shown(frame)

    def pull_numbers(self) -> None:
        """Take the numbers, the problems and, if wanted, the histogram."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        self.snapshot_of_stats = pipeline.stats.snapshot()
        self.stats_ready.emit(self.snapshot_of_stats)
        self._board.set_pipeline_problems(pipeline.problems.recent())
        self._measure()
        if self._histogram_wanted and not self._histogram_busy:
            self._histogram_busy = True
            self._tasks.run(
                pipeline.fusion.agc_histogram, self._got_histogram, lambda _: self._got_histogram(None), Lane.FILES
            )

    def _got_histogram(self, histogram: object) -> None:
        self._histogram_busy = False
        if histogram is not None:
            self.histogram_ready.emit(histogram)

    def want_histogram(self, wanted: bool) -> None:
        """Whether the histogram of raw counts is being looked at."""
        self._histogram_wanted = wanted

    # ------------------------------------------------------------------ problems

    def report(self, source: str, error: Exception) -> None:
        """Show an error of ours like one of the pipeline's."""
        self._board.report(source, error)

    def dismiss(self, problem: PipelineProblem) -> None:
        """The user has read it."""
        self._board.dismiss(problem)

    # ------------------------------------------------------------------ picture

    def set_frozen(self, frozen: bool) -> None:
        """Hold the picture; capture, fusion and recording go on."""
        if frozen != self.frozen and not (frozen and self.frame is None):
            self.frozen = frozen
            self.frozen_changed.emit(frozen)

    def set_hud(self, shown: bool) -> None:
        """Show or hide the figures over the picture."""
        if shown != self.hud:
            self.hud = shown
            self.hud_changed.emit(shown)
            self._remember()

    def set_panel(self, shown: bool) -> None:
        """Whether the control panel is shown."""
        self.panel = shown
        self._remember()

    # ------------------------------------------------------------------ measuring

    @property
    def radiometry(self) -> Radiometry | None:
        """The scale in use; None = relative."""
        return SCALES.get(self.scale)

    def set_scale(self, scale: str) -> None:
        """Choose how counts are read."""
        self.scale = scale if scale in SCALES else "relative"
        self._remember()
        self._measure()

    def set_region(self, region: tuple[float, float, float, float] | None) -> None:
        """Measure here: (top, left, height, width) as fractions of the picture; None ends it."""
        self._region = region
        if region is None:
            self.readout_changed.emit(None)
        self._measure()

    def _measure(self) -> None:
        if self._region is None or self.frame is None:
            return
        found = counts_statistics(self.frame, *self._region)
        if found is None:
            self.readout_changed.emit(Readout(self._region, self.tr("no thermal picture")))
            return
        values = [float(found.minimum), found.mean, float(found.maximum)]
        scale = self.radiometry
        unit = self.tr("counts, relative")
        shown = [f"{value:.0f}" for value in values]
        if scale is not None:
            unit, shown = "°C", [f"{scale.celsius(value):.1f}" for value in values]
        text = f"{shown[1]} {unit}"
        if self._region[2] or self._region[3]:
            text = f"{shown[0]} … {shown[1]} … {shown[2]} {unit}"
        self.readout_changed.emit(Readout(self._region, text))

    # ------------------------------------------------------------------ pipeline settings

    def set_agc(self, config: AgcConfig) -> None:
        """Use these AGC settings from the next frame on."""
        self._call("AGC", lambda pipeline: pipeline.fusion.set_agc(config))
        if self.config is not None:
            self.config = self.config.model_copy(update={"agc": config})
        self.agc_changed.emit(config)

    def isotherm_limits(self) -> tuple[int, int]:
        """The middle half of what is mapped now, until the user has chosen limits."""
        limits = self.frame.agc_limits if self.frame is not None else None
        if self.view.isotherm is not None or self._isotherm is not None or limits is None:
            return super().isotherm_limits()
        quarter = (limits[1] - limits[0]) / 4
        return round(limits[0] + quarter), round(limits[1] - quarter)

    def set_engine(self, engine: EngineConfig) -> None:
        """Build this engine and change to it when it is ready; until then the one that runs goes on."""
        self._call("engine", lambda pipeline: pipeline.engine.request(engine.name, engine.preset, engine.weights))
        if self.config is not None:
            self.config = self.config.model_copy(update={"engine": engine})
        self.engine_changed.emit(engine)

    def set_calibration(self, path: Path | None, done: Callable[[], None] | None = None) -> None:
        """Align by this file from the next picture on, None = plain scaling; `done` is called when it is in use."""

        def in_use(_: object) -> None:
            if self.config is not None:
                calibration = self.config.calibration.model_copy(update={"file": path})
                self.config = self.config.model_copy(update={"calibration": calibration})
            self.calibration_changed.emit(path)
            if done is not None:
                done()

        self._call("calibration", lambda pipeline: pipeline.alignment.use(path), in_use)

    @property
    def cameras_in_use(self) -> CamerasInUse:
        """The devices that give visible and thermal ("" for files, simulated cameras and while nothing runs), and what
        is added to their stamps."""
        if self._pipeline is None:
            return CamerasInUse()
        return CamerasInUse(self._pipeline.cameras.devices(), self._pipeline.cameras.offset_between_ms)

    def decide_on_correction(self, accept: bool) -> None:
        """Move thermal by what the drift monitor proposes, or go back to the calibration as it was loaded."""
        self._call(
            "calibration", lambda pipeline: pipeline.alignment.accept() if accept else pipeline.alignment.discard()
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
        self.config_changed.emit(config)
        if self.state is not ControllerState.IDLE:
            self.start()

    # ------------------------------------------------------------------ recording and snapshots

    @property
    def recording(self) -> bool:
        """Whether a recording runs or waits for disk space."""
        snapshot = self.snapshot_of_stats
        return snapshot is not None and snapshot.recording in (RecordingState.RECORDING, RecordingState.PAUSED)

    def set_recording(self, on: bool) -> None:
        """Begin or end a recording."""
        if on:
            self._call("recording", lambda pipeline: pipeline.recording.start())
        else:
            self._call("recording", lambda pipeline: pipeline.recording.stop(_STOP_S), self._recorded)

    def _recorded(self, summary: Any) -> None:
        if summary is None:
            return
        for segment in summary.segments:
            self._settings.add_recent("recordings", Path(segment.path))
        text = self.tr("Recorded {0:.1f} s, {1:.1f} MB: {2}")
        if summary.segments:
            self.notice.emit(text.format(summary.seconds, summary.bytes / 1e6, Path(summary.segments[0].path).name))

    def mark_event(self) -> None:
        """Mark this moment; with pre-event recording it also starts the clip."""
        stamp = datetime.now().astimezone().strftime("%H:%M:%S")
        self._call("recording", lambda pipeline: pipeline.recording.mark(f"operator {stamp}"))
        self.notice.emit(self.tr("Event marked at {0}").format(stamp))

    def take_snapshot(self) -> None:
        """Save fused PNG, visible PNG, thermal TIFF and JSON beside the recordings."""
        if self.config is None:
            return
        folder = self.config.recording.directory / "snapshots"
        self._call(
            "snapshot",
            lambda pipeline: pipeline.snapshot(folder),
            lambda path: self.notice.emit(self.tr("Snapshot saved: {0}").format(path)),
            Lane.FILES,
        )

    # ------------------------------------------------------------------ helpers

    def _call(
        self,
        source: str,
        work: Callable[[Pipeline], Any],
        done: Callable[[Any], None] | None = None,
        lane: Lane = Lane.CONTROL,
    ) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            self.notice.emit(self.tr("Nothing is running: start a rig first"))
            return
        self._tasks.run(lambda: work(pipeline), done, lambda error: self.report(source, error), lane)

    def _remember(self) -> None:
        """At each change: the settings write a while later, and only what is new."""
        if self.config is not None:
            view = dataclasses.replace(self.view, thermal_share=False)
            if Picture.SECOND in (view.wipe_left, view.wipe_right):  # there is no B at the next start
                view = dataclasses.replace(view, wipe_left=Picture.VISIBLE, wipe_right=Picture.FUSED)
            self._settings.set_profile(self.config.rig, RigProfile(view, self.hud, self.panel, self.scale))


def _config_error(error: ValueError) -> LumithermError:
    from fusion_core.errors import ConfigError

    problems = getattr(error, "errors", None)
    if problems is None:
        return ConfigError(str(error))
    return ConfigError("; ".join(str(item["msg"]).removeprefix("Value error, ") for item in problems()))
