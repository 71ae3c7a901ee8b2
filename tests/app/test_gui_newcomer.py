"""Somebody who has never seen the window: how many clicks it takes to a picture, a recording, a temperature, a plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PyQt6.QtCore import QPoint, Qt
from PyQt6.QtWidgets import QAbstractButton, QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from app.gui import window_controller
from app.gui.application import Session
from app.recording.self_check import check_recording
from app.rig.setup_assistant import simulated_config
from benchmarks.soak.simulated_board import FaultyRig

PATIENCE_MS = 120_000
SMALL = {
    "height": 240, "width": 320, "thermal_height": 120, "thermal_width": 160, "visible_fps": 12.0, "thermal_fps": 12.0,
}  # fmt: skip


class Newcomer:
    """Clicks, and counts it."""

    def __init__(self, qtbot: QtBot, session: Session) -> None:
        self.qtbot, self.session, self.clicks = qtbot, session, 0

    def click(self, widget: QWidget, at: QPoint | None = None) -> None:
        assert widget.isVisible() and widget.isEnabled(), "what cannot be seen cannot be clicked"
        self.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=at or widget.rect().center())
        self.clicks += 1

    def until(self, condition: Callable[[], Any]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE_MS)

    def button(self, page: QWidget, name: str) -> QAbstractButton:
        """The one with this name that is in sight once the pointer moves over the picture, which is no click."""
        video = page.stage.video  # type: ignore[attr-defined]
        for x in (40, 60):
            self.qtbot.mouseMove(video, QPoint(x, 40))
        found = [b for b in page.findChildren(QAbstractButton) if b.isVisible() and b.accessibleName() == name]
        assert len(found) == 1, (name, len(found))
        return found[0]


def test_a_picture_a_recording_a_temperature_and_a_plot_in_1_2_4_and_8_clicks(
    qapp: QApplication, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_videos_dir", lambda: str(tmp_path / "Videos"))
    light = {"engine": {"name": "pyramid"}, "simulation": SMALL}  # the network would take most of a test's time
    monkeypatch.setattr(window_controller, "simulated_config", lambda: simulated_config(**light))
    session = Session(qapp, tmp_path / "window.json", tmp_path, FaultyRig().make_pipeline)
    window, controller = session.window, session.controller
    ended: list[bool] = []
    window.closed.connect(lambda: ended.append(True))
    window.resize(1280, 800)
    window.show()
    qtbot.waitExposed(window)
    newcomer = Newcomer(qtbot, session)
    try:
        live, video = controller.live, window.live.stage.video
        newcomer.click(window.start_page.simulated)
        newcomer.until(lambda: live.frame is not None and live.frame.pair.thermal is not None)
        assert newcomer.clicks <= 1

        newcomer.click(newcomer.button(window.live, "Record"))
        newcomer.until(lambda: any(chip.text.startswith("REC") for chip in video.chips))
        assert newcomer.clicks <= 2

        newcomer.click(newcomer.button(window.live, "Measure spot or box"))
        newcomer.click(video, QPoint(video.width() // 2, video.height() // 2))
        newcomer.until(lambda: video.marks and "°C" in video.marks[0].text)
        assert newcomer.clicks <= 4

        newcomer.until(lambda: live.snapshot_of_stats and live.snapshot_of_stats.frames["recorded"] > 25)
        newcomer.click(newcomer.button(window.live, "Record"))
        newcomer.until(lambda: any("Recorded" in text for text in window.live.stage.banners.texts()))
        offers = [b for b in window.live.stage.banners.findChildren(QPushButton) if b.text() == "Open"]
        newcomer.click(offers[0])
        newcomer.until(lambda: controller.playback.is_open and controller.playback.frame is not None)
        newcomer.click(newcomer.button(window.player, "Temperature over time"))
        newcomer.until(lambda: controller.plot.measured)
        controller.plot.tick()
        assert window.player.plot.isVisible() and window.player.plot.curves[0].y.size > 20
        assert window.player.plot.curves[0].name == "Spot 1"  # what was measured while it was recorded
        assert newcomer.clicks <= 8

        (file,) = (tmp_path / "Videos" / "Lumitherm").glob("*.mkv")
        assert session.settings.recent("recordings") == [file]
        assert check_recording(file).problems == ()
    finally:
        controller.end()
        newcomer.until(lambda: ended)
        assert session.close()
        window.deleteLater()
        QApplication.sendPostedEvents(None, 52)  # DeferredDelete
