"""The whole window with the real pipeline on a small simulated rig, driven by keys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PyQt6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PyQt6.QtGui import QDragEnterEvent, QDropEvent
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.configuration.config import EngineName
from app.gui.application import Session
from app.gui.common.pipeline_protocol import ControllerState
from app.pipeline.state.stats import RecordingState
from app.playback.fuser import FuseSettings
from app.recording.reader import RecordingReader
from app.rig.setup_assistant import simulated_config
from app.view.settings import ViewMode
from benchmarks.soak.simulated_board import FaultyRig
from fusion_core.frames import Stream

PATIENCE_MS = 90_000
SMALL = {
    "height": 96,
    "width": 128,
    "thermal_height": 48,
    "thermal_width": 64,
    "visible_fps": 15.0,
    "thermal_fps": 15.0,
}


class Rig:
    def __init__(self, application: QApplication, folder: Path, qtbot: QtBot) -> None:
        self.folder, self.qtbot = folder, qtbot
        self.faulty = FaultyRig()
        self.session = Session(application, folder / "window.json", folder, self.faulty.make_pipeline)
        self.session.controller.set_expert(True)
        self.window, self.control = self.session.window, self.session.controller.live
        self.ended: list[bool] = []
        self.window.closed.connect(lambda: self.ended.append(True))

    def until(self, condition: Callable[[], Any]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE_MS)

    def start(self, **sections: Any) -> None:
        config = simulated_config(
            engine={"name": "pyramid"},
            recording={"directory": str(self.folder / "rec"), "reserve_mb": 1},
            simulation=SMALL,
            **sections,
        )
        self.session.controller.open_config(config)
        self.until(lambda: self.control.frame is not None)

    def recording(self) -> RecordingState | None:
        snapshot = self.control.snapshot_of_stats
        return snapshot.recording if snapshot is not None else None

    def key(self, key: Qt.Key) -> None:
        self.qtbot.keyClick(self.window.live.stage.video, key)


def files_of(rig: Rig) -> list[Path]:
    return sorted((rig.folder / "rec").glob("*.mkv"))


@pytest.fixture
def rig(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Rig]:
    before = {thread.ident for thread in threading.enumerate()}
    rig = Rig(qapp, tmp_path, qtbot)
    rig.window.show()
    qtbot.waitExposed(rig.window)
    rig.window.activateWindow()
    yield rig
    if not rig.ended:
        rig.session.controller.end()
        rig.until(lambda: rig.ended)
    assert rig.session.close()
    rig.window.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    left = [t.name for t in threading.enumerate() if t.ident not in before]
    assert not left, left


def test_a_working_day_at_the_window(rig: Rig, qtbot: QtBot) -> None:
    """Views, freeze, recording, snapshot, a lost camera, another engine, closing while recording, playback."""
    rig.start()
    window, control = rig.window, rig.control
    for number, mode in enumerate(ViewMode):
        rig.key(Qt.Key(Qt.Key.Key_1.value + number))
        assert control.view.mode is mode
    rig.key(Qt.Key.Key_1)
    qtbot.keyPress(window.live.stage.video, Qt.Key.Key_T)
    assert control.view.thermal_share
    qtbot.keyRelease(window.live.stage.video, Qt.Key.Key_T)
    assert not control.view.thermal_share
    rig.key(Qt.Key.Key_F1)
    assert window.help.isVisible()
    qtbot.keyClick(window.help, Qt.Key.Key_Escape)
    assert not window.help.isVisible()

    window.live.panel.record.set_record_view(True)
    rig.key(Qt.Key.Key_R)
    rig.until(lambda: rig.recording() is RecordingState.RECORDING)
    rig.key(Qt.Key.Key_F)
    held = control.frame
    shown_before = control.snapshot_of_stats.frames["fused"] if control.snapshot_of_stats else 0
    rig.until(lambda: control.snapshot_of_stats and control.snapshot_of_stats.frames["fused"] > shown_before + 5)
    assert control.frame is held and control.frozen
    rig.key(Qt.Key.Key_F)
    rig.key(Qt.Key.Key_S)
    rig.until(lambda: any("Snapshot" in text for text in window.live.stage.banners.texts()))
    assert {path.suffix for path in (rig.folder / "rec" / "snapshots").rglob("*.*")} >= {".png", ".tiff", ".json"}

    rig.faulty.faults[Stream.THERMAL].unplug()
    rig.until(lambda: any("thermal" in text for text in window.live.stage.banners.texts()))
    assert control.state is ControllerState.RUNNING
    rig.faulty.faults[Stream.THERMAL].replug()
    rig.until(lambda: not any("thermal camera is lost" in text for text in window.live.stage.banners.texts()))
    window.live.panel.engine.choose(EngineName.AVERAGE)
    rig.until(lambda: control.snapshot_of_stats and control.snapshot_of_stats.engine == "average")

    rig.key(Qt.Key.Key_R)
    rig.until(lambda: not rig.session.controller.recording.recording)
    recording = rig.session.settings.recent("recordings")[0]
    rig.until(
        lambda: not rig.session.controller.recording.recording_view and list((rig.folder / "rec").glob("view_*.mkv"))
    )

    rig.session.controller.open_path(recording)
    rig.until(lambda: rig.session.controller.playback.is_open)
    rig.until(lambda: window.player.stage.video._frame is not None)
    rig.session.controller.playback.set_second(FuseSettings("average"))
    rig.until(lambda: window.player.stage.video._second is not None)
    rig.until(lambda: control.state is ControllerState.IDLE)


def test_closing_while_recording_ends_the_file(rig: Rig) -> None:
    rig.start()
    # A camera that is late at the start joins in a second file; this is about the end.
    rig.until(lambda: rig.control.frame and rig.control.frame.pair.visible and rig.control.frame.pair.thermal)
    rig.key(Qt.Key.Key_R)
    rig.until(lambda: rig.recording() is RecordingState.RECORDING)
    frames = rig.control.snapshot_of_stats.frames["recorded"] if rig.control.snapshot_of_stats else 0
    rig.until(lambda: rig.control.snapshot_of_stats and rig.control.snapshot_of_stats.frames["recorded"] > frames + 5)
    rig.until(lambda: rig.session.controller.recording.file)
    rig.window.close()
    question = rig.session.controller.question
    assert question is not None and files_of(rig)[0].name in question.informativeText() and not rig.ended
    stay = next(button for button in question.buttons() if "Go on" in button.text())
    stay.click()
    assert rig.session.controller.question is None and rig.recording() is RecordingState.RECORDING
    rig.window.close()
    assert not rig.ended
    rig.window.close()  # again: it was said what happens, once
    rig.until(lambda: rig.ended)
    files = [path for path in (rig.folder / "rec").glob("*.mkv") if not path.name.startswith("view")]
    assert len(files) == 1
    assert rig.session.settings.recent("recordings") == files  # ended by closing: still offered on the start page
    with RecordingReader(files[0]) as reader:
        assert reader.info.closed_in_order and len(reader) > 5


def test_the_window_opens_and_closes_without_a_rig(rig: Rig, qtbot: QtBot) -> None:
    window = rig.window
    assert window.pages.currentWidget() is window.start_page
    rig.session.controller.show_settings()
    window.actions_by_name["log"].trigger()
    assert window.log.isVisible()
    window.set_full_screen(True)
    window.set_full_screen(False)
    assert not window.isMaximized() and not window.isFullScreen()
    window.showMaximized()
    window.set_full_screen(True)
    window.set_full_screen(True)  # twice by different ways: the action, and a double click
    window.set_full_screen(False)
    assert window.isMaximized() and not window.isFullScreen()
    window.showNormal()
    names = [b.accessibleName() or b.text() for b in window.pages.findChildren(type(window.live.record))]
    assert all(names), "every button has a name"


def test_only_what_could_be_opened_is_recent(rig: Rig) -> None:
    (junk := rig.folder / "junk.mkv").write_bytes(b"no video")
    rig.session.controller.open_path(junk)
    rig.until(lambda: rig.window.player.stage.banners.texts())
    assert rig.session.settings.recent("recordings") == []
    (told,) = rig.window.player.stage.banners.texts()
    assert "junk.mkv" in told and "Errno" not in told


def test_files_are_opened_where_they_are_dropped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Path, ...]] = []
    monkeypatch.setattr(rig.session.controller, "open_path", lambda *paths: opened.append(paths))

    def drop(*names: str) -> bool:
        files = QMimeData()
        files.setUrls([QUrl.fromLocalFile(str(rig.folder / name)) for name in names])
        copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        entering = QDragEnterEvent(QPoint(9, 9), copy, files, left, none)
        entering.ignore()
        QApplication.sendEvent(rig.window, entering)
        if entering.isAccepted():
            QApplication.sendEvent(rig.window, QDropEvent(QPointF(9, 9), copy, files, left, none))
        return entering.isAccepted()

    assert drop("a.MKV") and drop("rig.yaml") and drop("thermal.mp4", "visible.mp4")
    assert drop("letter.odt") and "letter.odt cannot be opened" in rig.window.start_page.problem.text()
    assert [[path.name for path in paths] for paths in opened] == [
        ["a.MKV"],
        ["rig.yaml"],
        ["visible.mp4", "thermal.mp4"],
    ]
