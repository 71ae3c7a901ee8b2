"""Every page and every state that a picture can carry, at one size of the window after the other, in both languages.

    python -m benchmarks.screenshot_states FOLDER [WIDTHxHEIGHT ...]

A contact sheet a size and language: FOLDER/LANGUAGE_WIDTHxHEIGHT.jpg. With QT_SCALE_FACTOR=2, 1920x1080 is a screen of
3840x2160. The rig is the simulated one; what cannot be waited for (a full disk, a camera that ends) is told to the
window as the pipeline would tell it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QRectF, Qt
from PyQt6.QtGui import QColor, QImage, QPainter
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QApplication

from app.gui.application import Session
from app.gui.common.qt_application import make_application
from app.gui.setup.calibration_page import CalibrationPhase
from app.gui.widgets.health import HealthWatch
from app.gui.widgets.status_text import rig_chips
from app.pipeline.state.stats import RecordingState, StatsSnapshot
from app.rig.setup_assistant import simulated_config
from app.view.measuring import Mark, MarkKind
from app.view.settings import ViewMode
from benchmarks.soak.simulated_board import FaultyRig
from fusion_core.frames import FrameFlag

__all__ = ["SIZES", "main"]

SIZES = ("800x480", "1024x600", "1280x800", "1366x768", "1920x1080")
_COLUMNS, _WIDE_PX, _GAP_PX, _TITLE_PX = 4, 560, 8, 22
_PATIENCE_S = 180.0
_TEST: Any = QTest  # its stubs take the static functions for methods


class States:
    """Brings a window into one state after the other. GUI thread."""

    def __init__(self, session: Session, work: Path) -> None:
        self.session, self.window, self.controller = session, session.window, session.controller
        self._work = work
        self._recording: Path | None = None

    def prepare(self) -> None:
        """Start the rig and make a short recording to play."""
        control = self.controller
        control.open_config(
            simulated_config(
                engine={"name": "pyramid"},
                recording={"directory": str(self._work / "rec")},
                simulation={"visible_fps": 10.0, "thermal_fps": 10.0},
            )
        )
        self._until(lambda: control.live.frame is not None)
        control.recording.set_recording(True)
        self._until(lambda: control.recording.file is not None)
        _TEST.qWait(2500)
        control.recording.set_recording(False)
        self._until(lambda: bool(self.window.live.stage.banners.texts()))
        self._recording = next((self._work / "rec").glob("*.mkv"))
        control.live._numbers.stop()  # what is told from here on stays

    def live(self) -> Iterator[str]:
        """Name each state of the live page when it is there."""
        control, live = self.controller, self.controller.live
        control._show_picture(self.window.live)
        snapshot, frame = live.snapshot_of_stats, live.frame
        assert snapshot is not None and frame is not None
        self._calm()
        self._show_health(snapshot)
        yield "expert"
        control.set_expert(False)
        yield "operator"
        live.set_view(heat=True)
        control.measure.add(Mark(MarkKind.SPOT, ((0.62, 0.4),)))
        control.measure.add(Mark(MarkKind.BOX, ((0.45, 0.5), (0.8, 0.68))))
        control.scale.show()
        yield "heat, spot, box"
        control.measure.clear()
        live.set_view(heat=False, mode=ViewMode.QUAD)
        yield "quad"
        live.set_view(mode=ViewMode.FUSED)
        recording = replace(snapshot, recording=RecordingState.RECORDING, recorded_s=754.0, recording_file="a.mkv")
        cameras = dict.fromkeys(snapshot.cameras, "lost")
        for name, told, frozen, building in (
            ("REC", recording, False, None),
            ("REC, FROZEN", recording, True, None),
            ("NO CAMERA", replace(snapshot, cameras=cameras), False, None),
            ("FALLBACK", replace(snapshot, fallback_reason="being built"), False, 40.0),
            ("DISK LEFT", replace(recording, disk_s_left=300.0), False, None),
            ("DISK FULL", replace(snapshot, recording=RecordingState.PAUSED), False, None),
        ):
            self.window.live.show_chips(rig_chips(told, frozen, building))
            self._show_health(told)
            yield name
        self.window.live.show_chips(())
        self._show_health(replace(snapshot, cameras=cameras))
        for flag, name in ((FrameFlag.THERMAL_ONLY, "THERMAL ONLY"), (FrameFlag.VISIBLE_ONLY, "VISIBLE ONLY")):
            pair = replace(frame.pair, flags=flag)
            live.video.set_frame(replace(frame, pair=pair))
            yield name
        live.video.set_frame(None)  # its mark would stay a moment
        live.video._single = (0, ())
        live.video.set_frame(frame)

    def _show_health(self, told: StatsSnapshot) -> None:
        for light in self.window.live.health_lights:
            light.show_health(HealthWatch().judge(told))

    def _calm(self) -> None:
        self.controller.live._pull.stop()
        self.window.live.stage.banners.show_notice("")

    def others(self) -> Iterator[str]:
        """Name each state of the other pages."""
        control, window = self.controller, self.window
        control.open_calibration()
        self._until(lambda: control.calibration._shown is not None)
        for phase in (CalibrationPhase.CHOOSING, CalibrationPhase.CAPTURING):
            window.calibration.show_phase(phase)
            yield f"calibration, {phase}"
        control.calibration.close()
        assert self._recording is not None
        control._show_picture(window.player)
        control.playback.open_files(self._recording)
        self._until(lambda: control.playback.frame is not None)
        window.player.operator.wake()
        yield "playback, operator"
        control.set_expert(True)
        control.plot.show(True)
        self._until(lambda: control.plot.measured)
        control.plot.tick()
        yield "playback, expert, curve"
        control.plot.show(False)
        control.playback.close()
        window.show_page(window.setup)
        yield "assistant"
        window.show_page(window.start_page)
        yield "start"
        control.show_settings()

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the window did not come into the state that was waited for")
            _TEST.qWait(30)


def _sheet(pictures: list[tuple[str, QImage]], file: Path) -> None:
    """Put the pictures side by side with their names."""
    first = pictures[0][1]
    tall = round(_WIDE_PX * first.height() / first.width()) + _TITLE_PX
    rows = -(-len(pictures) // _COLUMNS)
    size = (_COLUMNS * (_WIDE_PX + _GAP_PX), rows * (tall + _GAP_PX))
    sheet = QImage(*size, QImage.Format.Format_RGB32)
    sheet.fill(QColor(24, 24, 24))
    painter = QPainter(sheet)
    painter.setPen(QColor(255, 255, 255))
    for number, (name, image) in enumerate(pictures):
        left, top = number % _COLUMNS * (_WIDE_PX + _GAP_PX), number // _COLUMNS * (tall + _GAP_PX)
        painter.drawText(QRectF(left + 4, top, _WIDE_PX, _TITLE_PX), Qt.AlignmentFlag.AlignVCenter, name)
        keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        small = image.scaled(_WIDE_PX, tall - _TITLE_PX, keep, smooth)
        small.setDevicePixelRatio(1.0)
        painter.drawImage(left, top + _TITLE_PX, small)
    painter.end()
    sheet.save(str(file), "JPG", 82)


def take_language(application: QApplication, language: str, sizes: list[str], folder: Path, work: Path) -> list[Path]:
    """All states in one language; returns the sheets."""
    settings = work / language / "window.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'{{"language": "{language}", "level": "expert", "appearance": "dark"}}', encoding="utf-8")
    session = Session(application, settings, work / language, FaultyRig().make_pipeline)
    states, sheets = States(session, work / language), []
    session.window.show()
    states.prepare()
    for size in sizes:
        session.controller.set_expert(True)
        session.window.resize(*(int(part) for part in size.split("x")))
        _TEST.qWait(300)
        pictures: list[tuple[str, QImage]] = []
        for part in (states.live(), states.others()):
            for name in part:
                session.window.live.operator.wake()
                _TEST.qWait(250)
                pictures.append((name, session.window.grab().toImage()))
        dialog = session.window.settings_dialog
        if dialog is not None:
            dialog.resize(640, min(620, session.window.height() - 40))
            _TEST.qWait(400)
            pictures.append(("settings", dialog.grab().toImage()))
            dialog.close()
        session.window.help.show_keys({})
        _TEST.qWait(200)
        pictures.append(("help", session.window.grab().toImage()))
        session.window.help.hide()
        scale = round(session.window.devicePixelRatioF())
        sheets.append(folder / f"{language}_{size}{f'@{scale}' if scale > 1 else ''}.jpg")
        _sheet(pictures, sheets[-1])
    ended: list[bool] = []
    session.window.closed.connect(lambda: ended.append(True))
    session.controller.end()
    states._until(lambda: bool(ended))
    session.close()
    return sheets


def main(arguments: list[str]) -> int:
    """Take all sheets; returns the exit code."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    folder, sizes = Path(arguments[0]), arguments[1:] or list(SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    application = make_application(["lumitherm"])
    with tempfile.TemporaryDirectory() as name:
        for language in ("en", "de"):
            for sheet in take_language(application, language, sizes, folder, Path(name)):
                print(sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
