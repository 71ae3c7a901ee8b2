"""Decides about calibrating: owns the session, pulls what it says by timer, puts the result to use. No widget."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.configuration.yaml_edit import set_value
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.live.controller import MainController
from app.pipeline.latest_slot import LatestSlot
from app.rig.calibration_session import CalibrationSession, CamerasInUse, SessionState, check_board, write_board_file
from fusion_core.frames import FusedFrame

__all__ = ["CalibrationController", "CalibrationPhase"]

_TICK_MS = 60
_PREVIEW_EVERY = 2  # ticks
_MORE_VIEWS = 4  # after a result that was not good enough, before solving by itself again

SessionFactory = Callable[[LatestSlot[FusedFrame], str, Path, str, CamerasInUse, float], CalibrationSession]
"""pictures, board, folder, name, cameras, working distance (m, 0 = near to horizon)"""


def _session(
    pictures: LatestSlot[FusedFrame],
    board: str,
    folder: Path,
    name: str,
    cameras: CamerasInUse,
    working_distance_m: float,
) -> CalibrationSession:
    return CalibrationSession(pictures, board, folder, name, cameras=cameras, working_distance_m=working_distance_m)


class CalibrationPhase(StrEnum):
    """Where the assistant is."""

    CHOOSING = "choosing"  # which board
    CAPTURING = "capturing"
    SOLVING = "solving"
    RESULT = "result"


class CalibrationController(QObject):
    """Owns the session on behalf of the window. GUI thread.

    phase_changed: CalibrationPhase. picture_ready: the newest FusedFrame, some eight times a second. progress_ready:
    CaptureProgress. outcome_ready: CalibrationOutcome. failed: text, "" when it is over. applied: the file that is in
    use now. notice: something went well.
    """

    phase_changed = pyqtSignal(object)
    picture_ready = pyqtSignal(object)
    progress_ready = pyqtSignal(object)
    outcome_ready = pyqtSignal(object)
    failed = pyqtSignal(str)
    applied = pyqtSignal(object)
    notice = pyqtSignal(str)

    def __init__(
        self,
        main: MainController,
        tasks: TaskRunner,
        folder: Path,
        make_session: SessionFactory = _session,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._main, self._tasks, self._folder, self._make_session = main, tasks, folder, make_session
        self._session: CalibrationSession | None = None
        self._sequence = self._ticks = 0
        self._solved_views = 0
        self._shown: FusedFrame | None = None
        self.phase = CalibrationPhase.CHOOSING
        self.is_open = False
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self.tick)
        main.state_changed.connect(self._rig_changed)

    # ------------------------------------------------------------------ coming and going

    def open(self) -> None:
        """The assistant is looked at: show pictures, wait for a board to be chosen."""
        self.is_open = True
        self.failed.emit("")
        self._set_phase(CalibrationPhase.CHOOSING)
        self._timer.start()

    def close(self) -> None:
        """The assistant is left; what was not applied is deleted."""
        self.is_open = False
        self._timer.stop()
        self._shown = None
        self._drop_session()

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._tasks.run(session.stop, lane=Lane.FILES)

    # ------------------------------------------------------------------ the steps

    def begin(self, board: str, working_distance_m: float = 0.0) -> None:
        """Capture views of this board, for an alignment that is exact at this distance (0: near to horizon)."""
        pictures = self._main.pictures
        if pictures is None:
            self.failed.emit(self.tr("Nothing is running: start a rig first"))
            return
        self._drop_session()
        self.failed.emit("")
        rig = self._main.config.rig if self._main.config is not None else "rig"
        name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in rig)
        folder = self.folder

        def checked(_: str) -> None:
            if not self.is_open or self._session is not None or self._main.pictures is not pictures:
                return
            cameras = self._main.cameras_in_use
            self._session = self._make_session(pictures, board, folder, name, cameras, working_distance_m)
            self._session.start()
            self._sequence, self._solved_views = 0, -_MORE_VIEWS
            self._set_phase(CalibrationPhase.CAPTURING)

        self._tasks.run(lambda: check_board(board), checked, lambda error: self.failed.emit(str(error)), Lane.FILES)

    def solve(self) -> None:
        """Solve from the views that are kept."""
        if self._session is not None:
            self._session.solve()
            self._set_phase(CalibrationPhase.SOLVING)

    def capture_more(self) -> None:
        """Back to capturing, with the views that are kept."""
        if self._session is not None:
            self._session.capture_more()
            self.failed.emit("")
            self._set_phase(CalibrationPhase.CAPTURING)

    def discard(self) -> None:
        """Throw the result and the views away and begin anew."""
        self._drop_session()
        self.failed.emit("")
        self._set_phase(CalibrationPhase.CHOOSING)

    def apply(self) -> None:
        """Put the result to use in the running pipeline, and write it into the configuration file if there is one."""
        if self._session is None or self._session.outcome is None:
            return
        file = self._session.keep()
        config_file = self._main.config_file
        self._drop_session()

        def remember() -> str:
            if config_file is None:
                return ""
            set_value(config_file, "calibration", "file", str(file.resolve()))
            return config_file.name

        def remembered(name: str) -> None:
            where = self.tr("written into {0}").format(name) if name else self.tr("for this run")
            self.notice.emit(self.tr("Calibration {0} is in use, {1}").format(file.name, where))

        def in_use() -> None:
            self._tasks.run(remember, remembered, lambda error: self._main.report("config", error), Lane.FILES)
            self.applied.emit(file)

        self._main.set_calibration(file, in_use)

    def save_board(self, board: str, path: Path) -> None:
        """Write the board as a file to print."""
        self._tasks.run(
            lambda: write_board_file(board, path),
            lambda _: self.notice.emit(self.tr("Board saved: {0}").format(path)),
            lambda error: self.failed.emit(str(error)),
            Lane.FILES,
        )

    @property
    def folder(self) -> Path:
        """Where calibration files go: beside the configuration, where there is one."""
        file = self._main.config_file
        return (file.parent if file is not None else self._folder) / "calibration"

    # ------------------------------------------------------------------ pulling

    def tick(self) -> None:
        """Called by timer: pulls pictures, progress and the end of solving."""
        self._ticks += 1
        pictures = self._main.pictures
        if pictures is not None and self._ticks % _PREVIEW_EVERY == 0:
            newest = pictures.peek()
            if newest is not None and newest is not self._shown:
                self._shown = newest
                self.picture_ready.emit(newest)
        session = self._session
        if session is None:
            return
        newer = session.progress.get_newer(self._sequence)
        if newer is not None:
            self._sequence, progress = newer
            self.progress_ready.emit(progress)
            enough = progress.views >= self._solved_views + _MORE_VIEWS
            if progress.done and enough and self.phase is CalibrationPhase.CAPTURING:
                self._solved_views = progress.views
                self.solve()
        self._look_at_the_end(session)

    def _look_at_the_end(self, session: CalibrationSession) -> None:
        state = session.state
        if state is SessionState.SOLVED and self.phase is CalibrationPhase.SOLVING:
            outcome = session.outcome
            if outcome is not None:
                self._set_phase(CalibrationPhase.RESULT)
                self.outcome_ready.emit(outcome)
        elif state is SessionState.FAILED and self.phase in (CalibrationPhase.SOLVING, CalibrationPhase.CAPTURING):
            self.failed.emit(session.error)
            if session.running:
                session.capture_more()
                self._set_phase(CalibrationPhase.CAPTURING)
            else:
                self._drop_session()
                self._set_phase(CalibrationPhase.CHOOSING)

    def _rig_changed(self, state: ControllerState) -> None:
        if self.is_open and state is not ControllerState.RUNNING and self._session is not None:
            self._drop_session()
            self.failed.emit(self.tr("The rig was stopped; start it and begin again."))
            self._set_phase(CalibrationPhase.CHOOSING)

    def _set_phase(self, phase: CalibrationPhase) -> None:
        self.phase = phase
        self.phase_changed.emit(phase)
