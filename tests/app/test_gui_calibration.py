"""Calibration in the window: from a board before both cameras to aligned live pictures, and the file behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6 import sip
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot
from support import gui as _support

from app.configuration.yaml_edit import set_value, with_value
from app.gui.application import Session
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import TaskRunner
from app.gui.live.live_controller import LiveController
from app.gui.main_window import MainWindow
from app.gui.setup.calibration_controller import CalibrationController
from app.gui.setup.calibration_page import CalibrationPhase
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.stats import DriftReading
from app.rig.calibration_session import (
    BOARDS,
    CalibrationSession,
    CamerasInUse,
    CaptureProgress,
    SessionState,
    check_board,
)
from app.rig.setup_assistant import config_text, simulated_config
from app.rig.simulated_board import BoardRig
from calibration.board import parse_board
from calibration.render import synthetic_rig
from calibration.rig import RigCalibration, file_sha256, load_calibration
from fusion_core.errors import ConfigError, RunError
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource

PATIENCE_MS = 200_000
BOARD = BOARDS[0]
CAMERAS = CamerasInUse(("usb visible", "usb thermal"), 0.0)
VIEWS = 6
SIZE = (240, 320)


@pytest.fixture(scope="module")
def board_rig() -> BoardRig:
    return BoardRig(synthetic_rig(SIZE, SIZE), parse_board(BOARD), VIEWS)


def board_frame(rig: BoardRig, index: int) -> FusedFrame:
    visible, thermal = rig.visible(0.0), rig.thermal(0.0)
    pair = FramePair(
        Frame(Stream.VISIBLE, visible, index, index, TimestampSource.SIMULATED),
        Frame(Stream.THERMAL, thermal, index, index, TimestampSource.SIMULATED),
    )
    return FusedFrame(visible, pair, 1.0, "fake")


# ---------------------------------------------------------------------------------------------- the whole way


@pytest.mark.slow
def test_from_a_board_to_aligned_live_pictures(
    qapp: QApplication, qtbot: QtBot, tmp_path: Path, board_rig: BoardRig
) -> None:
    """Open a configuration, calibrate by keys and buttons, look at the verdict, apply; the live picture is aligned."""
    before = {thread.ident for thread in threading.enumerate()}
    config = tmp_path / "rig.yaml"
    text = config_text("roof", "sim:visible", "sim:thermal", None)
    text = with_value(with_value(text, "engine", "name", "pyramid"), "recording", "directory", str(tmp_path / "rec"))
    config.write_text(text)
    session = Session(qapp, tmp_path / "window.json", tmp_path, board_rig.make_pipeline)
    window, main, control = session.window, session.controller.live, session.controller.calibration
    ended: list[bool] = []
    window.closed.connect(lambda: ended.append(True))
    seen: list[CaptureProgress] = []

    def note(progress: CaptureProgress) -> None:
        if progress.views > (seen[-1].views if seen else 0):  # a window that comes late sees the newest word only
            board_rig.show_next()
        seen.append(progress)

    control.progress_ready.connect(note)

    def until(condition: Callable[[], Any]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE_MS)

    try:
        window.show()
        qtbot.waitExposed(window)
        session.controller.open_path(config)
        until(lambda: main.frame is not None)
        assert main.frame is not None and main.frame.thermal_8bit is not None
        plain = main.frame.thermal_8bit.copy()
        assert plain[:, 0].any()  # scaled: thermal fills the picture

        window.actions_by_name["calibrate"].trigger()
        page = window.calibration
        assert window.pages.currentWidget() is page and main.state is ControllerState.RUNNING
        page.board.setCurrentText("hexagons:3x3")
        qtbot.mouseClick(page.begin, Qt.MouseButton.LeftButton)
        until(lambda: page.problem.isVisible())
        assert "hexagons" in page.problem.text()
        page.board.setCurrentText(BOARD)
        qtbot.mouseClick(page.begin, Qt.MouseButton.LeftButton)
        until(lambda: control.phase is CalibrationPhase.CAPTURING)
        until(lambda: seen and seen[-1].views >= VIEWS)
        assert seen[-1].found_visible is not None and 0 < seen[-1].coverage < 1
        assert page.views.value() >= VIEWS - 1 and "of 20" in page.views_text.text()
        assert any(progress.reason == "hold still" for progress in seen)  # a board that has just moved is not taken
        assert not page.grab().isNull()
        qtbot.mouseClick(page.solve, Qt.MouseButton.LeftButton)
        until(lambda: control.phase is CalibrationPhase.RESULT)
        assert "Not good enough" in page.verdict.text()  # six views: it fails closed, and says what is missing
        folder = tmp_path / "calibration"
        (file,) = folder.glob("roof-*.yaml")
        assert file.with_suffix(".html").stat().st_size > 10_000

        with qtbot.waitSignal(control.notice, timeout=PATIENCE_MS) as notice:
            qtbot.mouseClick(page.apply, Qt.MouseButton.LeftButton)
        assert "rig.yaml" in notice.args[0]
        assert window.pages.currentWidget() is window.live
        assert f'file: "{file}"' in config.read_text() and "# `lumitherm calibrate` makes one" in config.read_text()
        assert str(file) in window.live.panel.calibration._used.text()
        until(lambda: main.frame is not None and (main.frame.thermal_8bit[:, 0] == 0).all())
        solved = load_calibration(file)
        assert isinstance(solved, RigCalibration)
        x, y = np.meshgrid(np.linspace(60, SIZE[1] - 60, 6), np.linspace(50, SIZE[0] - 50, 5))
        points = np.column_stack([x.ravel(), y.ravel()])
        difference = solved.thermal_from_visible(points, 3.0) - board_rig.rig.thermal_from_visible(points, 3.0)
        assert np.median(np.hypot(*difference.T)) < 1.5  # px of the thermal picture, from six views
        session.controller.recording.take_snapshot()
        until(lambda: any("Snapshot" in text for text in window.live.stage.banners.texts()))
        (facts,) = (tmp_path / "rec" / "snapshots").rglob("snapshot.json")
        assert json.loads(facts.read_text())["calibration"] == file_sha256(file)[:16]

        with qtbot.waitSignal(main.calibration_changed, timeout=PATIENCE_MS):
            window.live.panel.calibration.file_chosen.emit(None)
        until(lambda: main.frame is not None and main.frame.thermal_8bit[:, 0].any())
    finally:
        window.close()
        until(lambda: ended)
        assert session.close()
        window.deleteLater()
        QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    left = [t.name for t in threading.enumerate() if t.ident not in before]
    assert not left, left


def test_a_calibration_that_is_refused_is_told_and_the_old_one_stays(qtbot: QtBot, main: Any, tmp_path: Path) -> None:
    """The pipeline refuses; the window shows why."""
    control, pipeline, _, _ = main
    pipeline.alignment.use = lambda path: (_ for _ in ()).throw(ConfigError(f"{path} cannot be read"))
    with qtbot.waitSignal(control.problems_changed, check_params_cb=lambda p: p and "cannot be read" in p[0].text):
        control.set_calibration(tmp_path / "none.yaml")
    assert control.config.calibration.file is None


# ---------------------------------------------------------------------------------------------- the session


def test_the_session_needs_views_and_deletes_what_nobody_keeps(
    qtbot: QtBot, tmp_path: Path, board_rig: BoardRig
) -> None:
    slot: LatestSlot[FusedFrame] = LatestSlot()
    session = CalibrationSession(slot, BOARD, tmp_path, "rig")
    session.start()
    try:
        session.solve()
        qtbot.waitUntil(lambda: session.state is SessionState.FAILED, timeout=PATIENCE_MS)
        assert "0 views are kept, at least 3" in session.error
        with pytest.raises(RunError, match="nothing is solved"):
            session.keep()
        session.capture_more()
        assert session.state is SessionState.CAPTURING and session.error == ""
        index = sequence = kept = 0
        while kept < 4:
            index += 1
            slot.put(board_frame(board_rig, index))
            newer = session.progress.wait_newer(sequence, 60.0)
            assert newer is not None
            sequence, progress = newer
            if progress.accepted:
                board_rig.show_next()
            kept = progress.views
        session.solve()
        qtbot.waitUntil(lambda: session.state is not SessionState.SOLVING, timeout=PATIENCE_MS)
        assert session.state is SessionState.SOLVED, session.error
        outcome = session.outcome
        assert outcome is not None and not outcome.good and outcome.file.is_file() and outcome.report.is_file()
        assert {gate.name for gate in outcome.gates if not gate.passed} >= {"accepted views"}
    finally:
        assert session.stop()
    assert not list(tmp_path.iterdir())


def test_boards_are_understood_or_refused() -> None:
    assert all(check_board(board) for board in BOARDS)
    with pytest.raises(ConfigError, match="hexagons"):
        check_board("hexagons:1x1")


# ---------------------------------------------------------------------------------------------- the controller


class FakeSession:
    """Does what the test says."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.progress: LatestSlot[CaptureProgress] = LatestSlot()
        self.state, self.error, self.outcome = SessionState.CAPTURING, "", None
        self.running, self.calls = True, []

    def start(self) -> None:
        self.calls.append("start")

    def solve(self) -> None:
        self.calls.append("solve")
        self.state = SessionState.SOLVING

    def capture_more(self) -> None:
        self.calls.append("capture_more")
        self.state = SessionState.CAPTURING

    def stop(self) -> bool:
        self.calls.append("stop")
        return True

    def see(self, views: int, done: bool = False) -> None:
        cells = np.zeros((6, 6), np.int64)
        self.progress.put(CaptureProgress(True, "kept", "more", views, 20, 0.5, cells, True, done, views))


@pytest.fixture
def main(qtbot: QtBot, tmp_path: Path) -> Iterator[Any]:
    made: list[Any] = []

    def make(config: Any) -> Any:
        made.append(_support.FakePipeline(config))
        return made[-1]

    tasks = TaskRunner()
    window = MainWindow()
    settings = GuiSettings(tmp_path / "window.json")
    control = LiveController(window.live, window.actions_by_name, make, settings, tasks)
    control.open_config(simulated_config())
    qtbot.waitUntil(lambda: control.state is ControllerState.RUNNING)
    yield control, made[-1], window, tasks
    if control.state is not ControllerState.IDLE:
        with qtbot.waitSignal(control.stopped):
            control.stop()
    assert tasks.close()
    sip.delete(window)


def test_enough_views_are_solved_by_themselves_and_more_can_be_asked_for(
    qtbot: QtBot, main: Any, tmp_path: Path
) -> None:
    control, _, window, tasks = main
    made: list[FakeSession] = []

    def make(*arguments: Any) -> Any:
        made.append(FakeSession(*arguments))
        return made[-1]

    assistant = CalibrationController(window.calibration, control, tasks, tmp_path, make)
    assistant.open()
    assistant.begin(BOARD, 7.5)
    qtbot.waitUntil(lambda: assistant.phase is CalibrationPhase.CAPTURING)
    session = made[0]
    assert session.arguments[1:] == (BOARD, tmp_path / "calibration", "simulated", CAMERAS, 7.5)
    session.see(20, done=True)
    assistant.tick()
    assert assistant.phase is CalibrationPhase.SOLVING and session.calls == ["start", "solve"]
    session.state, session.error = SessionState.FAILED, "too few"
    with qtbot.waitSignal(assistant.failed, check_params_cb=lambda text: text == "too few"):
        assistant.tick()
    assert assistant.phase is CalibrationPhase.CAPTURING
    session.see(21, done=True)
    assistant.tick()
    assert assistant.phase is CalibrationPhase.CAPTURING  # not over and over on the same views
    session.see(24, done=True)
    assistant.tick()
    assert assistant.phase is CalibrationPhase.SOLVING
    with qtbot.waitSignal(control.stopped):
        control.stop()
    assert assistant.phase is CalibrationPhase.CHOOSING
    qtbot.waitUntil(lambda: session.calls[-1] == "stop")
    with qtbot.waitSignal(assistant.failed, check_params_cb=lambda text: "start a rig" in text):
        assistant.begin(BOARD)
    assistant.close()


def test_a_thread_that_has_died_ends_the_attempt(qtbot: QtBot, main: Any, tmp_path: Path) -> None:
    control, _, window, tasks = main
    made: list[FakeSession] = []

    def make(*arguments: Any) -> Any:
        made.append(FakeSession(*arguments))
        return made[-1]

    assistant = CalibrationController(window.calibration, control, tasks, tmp_path, make)
    assistant.open()
    assistant.begin(BOARD)
    qtbot.waitUntil(lambda: bool(made))
    made[0].state, made[0].error, made[0].running = SessionState.FAILED, "unexpected", False
    with qtbot.waitSignal(assistant.failed, check_params_cb=lambda text: text == "unexpected"):
        assistant.tick()
    assert assistant.phase is CalibrationPhase.CHOOSING
    assistant.save_board(BOARD, tmp_path / "board.svg")
    qtbot.waitUntil(lambda: (tmp_path / "board.svg").exists())
    assistant.close()


# ---------------------------------------------------------------------------------------------- the YAML file


def test_one_value_is_changed_and_the_rest_stays() -> None:
    text = "# mine\nrig: a  # name\ncalibration:\n  file: null  # none yet\n  self_align: off\n"
    changed = with_value(text, "calibration", "file", 'x "y".yaml')
    assert changed == text.replace("null", '"x \\"y\\".yaml"')
    assert with_value("rig: a", "calibration", "file", "b") == 'rig: a\n\ncalibration:\n  file: "b"\n'
    inner = with_value("calibration:\n    self_align: off\nrig: a\n", "calibration", "file", "b")
    assert inner == 'calibration:\n    file: "b"\n    self_align: off\nrig: a\n'
    assert with_value("calibration: {self_align: off}\n", "calibration", "file", "b").startswith(
        'calibration: {file: "b", self_align: off}'
    )
    for bad in ("[", "- a\n", "calibration: 3\n", "calibration:\nrig: a\n"):
        with pytest.raises(ConfigError):
            with_value(bad, "calibration", "file", "b")


def test_a_file_that_would_not_load_any_more_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text(config_text("roof", "sim:visible", "sim:thermal", None))
    before = file.read_text()
    with pytest.raises(ConfigError, match="nonsense"):
        set_value(file, "calibration", "nonsense", "x")
    assert file.read_text() == before and len(list(tmp_path.iterdir())) == 1
    set_value(file, "calibration", "file", "rig-calibration.yaml")
    assert file.read_text() == before.replace("file: null", 'file: "rig-calibration.yaml"')
    with pytest.raises(ConfigError, match="cannot be changed"):
        set_value(tmp_path / "none.yaml", "a", "b", "c")


def test_a_proposed_correction_is_shown_accepted_and_undone(qtbot: QtBot, main: Any) -> None:
    _, pipeline, window, _ = main
    panel = window.live.panel.calibration
    assert panel.accept.isHidden() and panel.discard.isHidden()
    panel.show_drift(DriftReading("warn", "propose", drift_px=5.25, proposed_px=5.5))
    assert not panel.accept.isHidden() and panel.discard.isHidden()
    qtbot.mouseClick(panel.accept, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: ("accept_correction",) in pipeline.calls)
    panel.show_drift(DriftReading("ok", "propose", drift_px=0.5, applied_px=5.5))
    assert panel.accept.isHidden() and not panel.discard.isHidden()
    qtbot.mouseClick(panel.discard, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: ("discard_correction",) in pipeline.calls)
    panel.show_drift(DriftReading("warn", "apply", drift_px=5.25, proposed_px=5.5))
    assert panel.accept.isHidden()  # it is applied by itself
