"""Decides about calibrating: owns the session, pulls what it says by timer, puts the result to use."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QObject, QTimer, QUrl, pyqtSignal
from PyQt6.QtGui import QDesktopServices

from app.configuration.yaml_edit import set_value
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.qt_image import preview_image
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.live.live_controller import LiveController
from app.gui.setup.calibration_page import CalibrationPage, CalibrationPhase
from app.pipeline.state.latest_slot import LatestSlot
from app.rig.calibration_session import (
    CalibrationSession,
    CamerasInUse,
    CaptureProgress,
    SessionState,
    check_board,
    write_board_file,
)
from app.rig.setup_assistant import simulated_config
from app.rig.simulated_board import practice_rig
from fusion_core.frames import FusedFrame, Stream

__all__ = ["CalibrationController", "Practice"]

_TICK_MS = 60
_PREVIEW_EVERY = 2  # ticks
_LOOKS_A_POSE = 12  # pictures of one pose, when practising
_MORE_VIEWS = 4  # after a result that was not good enough, before solving by itself again


class Practice:
    """A pipeline on a simulated rig before a board, which is held elsewhere when a view was kept. Not for a GUI thread:
    rendering the first views takes a second."""

    def __init__(self, board: str) -> None:
        self._rig = practice_rig(board)
        self._folder = tempfile.TemporaryDirectory(prefix="lumitherm-practice-")
        self.folder = Path(self._folder.name)
        recording = {"directory": str(self.folder)}
        self._pipeline = self._rig.make_pipeline(simulated_config(engine={"name": "average"}, recording=recording))
        self._pipeline.start()
        self._views = self._looked_at = 0

    @property
    def pictures(self) -> LatestSlot[FusedFrame]:
        """What its cameras see."""
        return self._pipeline.latest

    def follow(self, progress: CaptureProgress) -> None:
        """Hold the board elsewhere once this pose was kept, or is of no use."""
        if progress.views > self._views or progress.looked_at > self._looked_at + _LOOKS_A_POSE:
            self._views, self._looked_at = progress.views, progress.looked_at
            self._rig.show_next()

    def stop(self) -> None:
        """End its threads and delete what it has written."""
        self._pipeline.stop(timeout_s=10.0)
        self._folder.cleanup()


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


class CalibrationController(QObject):
    """Owns the session on behalf of the window. GUI thread.

    progress_ready: CaptureProgress. failed: text, "" when it is over. applied: the file that is in use now. notice:
    something went well.

    Args:
        folder: where the files go if the rig has no configuration file.
        make_session: makes a session that is not started.
    """

    progress_ready = pyqtSignal(object)
    failed = pyqtSignal(str)
    applied = pyqtSignal(object)
    notice = pyqtSignal(str)

    def __init__(
        self,
        page: CalibrationPage,
        live: LiveController,
        tasks: TaskRunner,
        folder: Path,
        make_session: SessionFactory = _session,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._page, self._live, self._tasks = page, live, tasks
        self._folder, self._make_session = folder, make_session
        self._session: CalibrationSession | None = None
        self._practice: Practice | None = None
        self._sequence = self._ticks = 0
        self._solved_views = 0
        self._shown: FusedFrame | None = None
        self.phase = CalibrationPhase.CHOOSING
        self.is_open = False
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self.tick)
        live.state_changed.connect(self._on_rig_changed)
        self._connect(page)

    def _connect(self, page: CalibrationPage) -> None:
        self.progress_ready.connect(page.show_progress)
        self.failed.connect(page.show_problem)
        self.notice.connect(self._live.notice)
        page.begin_asked.connect(self.begin)
        page.practise_asked.connect(self.practise)
        page.solve_asked.connect(self.solve)
        page.more_asked.connect(self.capture_more)
        page.discard_asked.connect(self.discard)
        page.apply_asked.connect(self.apply)
        page.board_file_asked.connect(lambda board, name: self.save_board(board, Path(name)))
        page.report_asked.connect(lambda name: QDesktopServices.openUrl(QUrl.fromLocalFile(name)))

    # ------------------------------------------------------------------ coming and going

    def open(self) -> None:
        """Show pictures and wait for a board to be chosen; the page has come up."""
        self.is_open = True
        self.failed.emit("")
        self._set_phase(CalibrationPhase.CHOOSING)
        self._timer.start()

    def close(self) -> None:
        """Delete what was not applied; the page is left."""
        self.is_open = False
        self._timer.stop()
        self._shown = None
        self._end_practice()
        self._drop_session()

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._tasks.run(session.stop, lane=Lane.FILES)

    # ------------------------------------------------------------------ practising

    def practise(self, board: str) -> None:
        """Calibrate a simulated rig before this board, which moves on by itself: nothing of the real rig changes."""
        self._drop_session()
        self._end_practice()
        self.failed.emit("")
        self._page.show_practice(True)

        def started(practice: Practice) -> None:
            if not self.is_open or self._practice is not None:
                self._tasks.run(practice.stop, lane=Lane.FILES)
                return
            self._practice = practice
            self.begin(board)

        def failed(error: Exception) -> None:
            self._page.show_practice(False)
            self.failed.emit(str(error))

        self._tasks.run(lambda: Practice(board), started, failed, Lane.FILES)

    def _end_practice(self) -> None:
        practice, self._practice = self._practice, None
        self._page.show_practice(False)
        if practice is not None:
            self._tasks.run(practice.stop, lane=Lane.FILES)

    @property
    def _pictures(self) -> LatestSlot[FusedFrame] | None:
        return self._practice.pictures if self._practice is not None else self._live.pictures

    # ------------------------------------------------------------------ the steps

    def begin(self, board: str, working_distance_m: float = 0.0) -> None:
        """Capture views of this board, for an alignment that is exact at this distance (0: near to horizon)."""
        pictures = self._pictures
        if pictures is None:
            self.failed.emit(self.tr("Nothing is running: start a rig first"))
            return
        self._drop_session()
        self.failed.emit("")
        rig = self._live.config.rig if self._live.config is not None else "rig"
        name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in rig)
        practice = self._practice
        folder = self.folder if practice is None else practice.folder

        def checked(_: str) -> None:
            if not self.is_open or self._session is not None or self._pictures is not pictures:
                return
            cameras = self._live.cameras_in_use if practice is None else CamerasInUse()
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
        """Go back to capturing, with the views that are kept."""
        if self._session is not None:
            self._session.capture_more()
            self.failed.emit("")
            self._set_phase(CalibrationPhase.CAPTURING)

    def discard(self) -> None:
        """Throw the result and the views away and begin again."""
        self._drop_session()
        self._end_practice()
        self.failed.emit("")
        self._set_phase(CalibrationPhase.CHOOSING)

    def apply(self) -> None:
        """Put the result to use in the running pipeline, and write it into the configuration file if there is one."""
        if self._session is None or self._session.outcome is None or self._practice is not None:
            return
        file = self._session.keep()
        config_file = self._live.config_file
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
            self._tasks.run(remember, remembered, lambda error: self._live.report("config", error), Lane.FILES)
            self.applied.emit(file)

        self._live.set_calibration(file, in_use)

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
        """Where calibration files go: beside the configuration if there is one."""
        file = self._live.config_file
        return (file.parent if file is not None else self._folder) / "calibration"

    # ------------------------------------------------------------------ pulling

    def tick(self) -> None:
        """Pull pictures, progress and the end of solving; called by timer."""
        self._ticks += 1
        pictures = self._pictures
        if pictures is not None and self._ticks % _PREVIEW_EVERY == 0:
            newest = pictures.peek()
            if newest is not None and newest is not self._shown:
                self._shown = newest
                self._show_picture(newest)
        session = self._session
        if session is None:
            return
        newer = session.progress.get_newer(self._sequence)
        if newer is not None:
            self._sequence, progress = newer
            self.progress_ready.emit(progress)
            if self._practice is not None:
                self._practice.follow(progress)
            enough = progress.views >= self._solved_views + _MORE_VIEWS
            if progress.done and enough and self.phase is CalibrationPhase.CAPTURING:
                self._solved_views = progress.views
                self.solve()
        self._follow_state(session)

    def _show_picture(self, frame: FusedFrame) -> None:
        for stream, part in ((Stream.VISIBLE, frame.pair.visible), (Stream.THERMAL, frame.pair.thermal)):
            if part is not None:
                self._page.show_image(stream, preview_image(part))

    def _follow_state(self, session: CalibrationSession) -> None:
        state = session.state
        if state is SessionState.SOLVED and self.phase is CalibrationPhase.SOLVING:
            outcome = session.outcome
            if outcome is not None:
                self._set_phase(CalibrationPhase.RESULT)
                self._page.show_outcome(outcome)
        elif state is SessionState.FAILED and self.phase in (CalibrationPhase.SOLVING, CalibrationPhase.CAPTURING):
            self.failed.emit(session.error)
            if session.running:
                session.capture_more()
                self._set_phase(CalibrationPhase.CAPTURING)
            else:
                self._drop_session()
                self._set_phase(CalibrationPhase.CHOOSING)

    def _on_rig_changed(self, state: ControllerState) -> None:
        ours = self._session is not None and self._practice is None
        if self.is_open and state is not ControllerState.RUNNING and ours:
            self._drop_session()
            self.failed.emit(self.tr("The rig was stopped; start it and begin again."))
            self._set_phase(CalibrationPhase.CHOOSING)

    def _set_phase(self, phase: CalibrationPhase) -> None:
        self.phase = phase
        self._page.show_phase(phase)
