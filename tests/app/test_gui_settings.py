"""What the window remembers reaches the disk by itself, never on the GUI thread, and whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot
from structlog.testing import capture_logs

from app.gui.application import Session
from app.gui.common.settings import GuiSettings
from app.gui.common.settings_file import SettingsFile
from app.gui.common.theme import Appearance
from app.view.settings import ViewMode

ROOT = Path(__file__).resolve().parents[2]
LONG_S = 600.0
CHILD = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from PyQt6.QtCore import QTimer
from app.gui.application import Session
from app.gui.common.qt_application import make_application
from app.rig.setup_assistant import simulated_config
from app.view.settings import ViewMode
from support import gui as support
file = Path(sys.argv[1])
application = make_application(["lumitherm"])
session = Session(application, file, file.parent, support.FakePipeline)
session.window.show()
session.controller.open_config(simulated_config())
QTimer.singleShot(0, lambda: session.controller.live.set_mode(ViewMode.QUAD))
application.exec()
"""


class Counted(SettingsFile):
    def __init__(self, file: Path, delay_s: float) -> None:
        self.writes = 0
        super().__init__(file, delay_s)

    def _write(self, values: dict[str, Any]) -> OSError | None:
        self.writes += 1
        return super()._write(values)


def test_a_changed_setting_outlives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "window.json"
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", CHILD, str(file)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as child:
        try:
            end_s = time.monotonic() + 240.0
            while GuiSettings(file).profile("simulated").view.mode is not ViewMode.QUAD:
                assert child.poll() is None and time.monotonic() < end_s
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert GuiSettings(file).profile("simulated").view.mode is ViewMode.QUAD
    assert json.loads(file.read_text())


def test_many_changes_wait_as_one_write_of_the_newest_values(tmp_path: Path) -> None:
    file = Counted(tmp_path / "folder" / "window.json", LONG_S)
    for number in range(500):
        file.put("number", number)
        file.put("text", f"{number}")
    assert not file.file.exists()
    assert sum(thread.name == "settings writer" for thread in threading.enumerate()) == 1
    assert file.save()
    assert file.writes == 1
    assert json.loads(file.file.read_text()) == {"number": 499, "text": "499"}
    file.put("number", 499)  # nothing new
    assert file.save() and file.writes == 1
    assert [path.name for path in file.file.parent.iterdir()] == ["window.json"]


def test_what_another_window_wrote_is_kept(tmp_path: Path) -> None:
    first, second = (SettingsFile(tmp_path / "window.json", LONG_S) for _ in range(2))
    first.put("rig/a", {"hud": True})
    second.put("rig/b", {"hud": False})
    assert first.save() and second.save()
    assert json.loads(first.file.read_text()) == {"rig/a": {"hud": True}, "rig/b": {"hud": False}}


def test_the_gui_thread_never_waits_for_the_disk(
    qapp: QApplication, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(threading.current_thread().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    session = Session(qapp, tmp_path / "window.json", tmp_path)
    window = session.window
    window.show()
    qtbot.waitExposed(window)
    session.controller.show_settings()
    assert window.settings_dialog is not None
    window.settings_dialog.language_chosen.emit("de")
    close(session, qtbot)
    assert synced and set(synced) == {"settings writer"}
    again = GuiSettings(tmp_path / "window.json")
    assert again.language == "de" and again.geometry is not None


def test_a_folder_that_cannot_be_written_is_logged_once(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as lines:
        session = Session(qapp, tmp_path / "file" / "window.json", tmp_path)
        session.window.show()
        session.settings.appearance = Appearance.LIGHT
        assert not session.settings.save()
        session.settings.appearance = Appearance.DARK
        assert not session.settings.save()
        assert session.settings.appearance is Appearance.DARK  # holds for this window
        assert session.window.live.stage.banners.texts() == []
        close(session, qtbot)
    told = [line["event"] for line in lines if "settings" in line["event"]]
    assert len(told) == 1
    assert str(tmp_path / "file") in told[0] and "writable" in told[0]


def close(session: Session, qtbot: QtBot) -> None:
    ended: list[bool] = []
    session.window.closed.connect(lambda: ended.append(True))
    session.window.close()
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert session.close()
    session.window.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
