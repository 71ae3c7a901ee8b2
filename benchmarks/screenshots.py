"""Takes a picture of every view and state of the window: `python -m benchmarks.screenshots FOLDER [live|calibration]`.

Drives the real window with the simulated rig, as a user would. Needs a display, a virtual one (xvfb-run), or Qt's
offscreen platform, which it chooses itself where there is no display.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QPointF, Qt
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QApplication, QWidget

from app.gui.application import Session
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.qt_application import make_application
from app.gui.common.theme import Appearance, apply_theme
from app.gui.setup.calibration_page import CalibrationPhase
from app.gui.widgets.sections import Section
from app.pipeline.state.stats import RecordingState
from app.playback.comparison import ComparisonSettings
from app.playback.fuser import FuseSettings
from app.rig.calibration_session import BOARDS
from app.rig.setup_assistant import simulated_config
from app.rig.simulated_board import BoardRig
from app.view.measuring import Mark, MarkKind
from app.view.settings import Isotherm, IsothermKind, ViewMode
from benchmarks.soak.simulated_board import FaultyRig
from fusion_core.frames import Stream
from fusion_core.thermal.agc import AgcConfig, AgcMode

__all__ = ["main", "take_all"]

_PATIENCE_S = 180.0
_TEST: Any = QTest  # its stubs take the static functions for methods


class _Photographer:
    """Waits, and takes pictures of the window."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self.folder = session, folder
        self.taken: list[Path] = []

    def wait(self, condition: Callable[[], bool], what: str) -> bool:
        """Until it is true; False (and a line) when that takes too long."""
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                print(f"screenshots: waited {_PATIENCE_S:g} s in vain for {what}", file=sys.stderr)
                return False
            _TEST.qWait(40)
        return True

    def take(self, name: str, widget: QWidget | None = None, settle_ms: int = 350) -> None:
        """One picture, after the window has settled."""
        _TEST.qWait(settle_ms)
        path = self.folder / f"{name}.png"
        (widget or self.session.window).grab().save(str(path))
        self.taken.append(path)

    def close(self) -> bool:
        """Close the window and end its threads; whether that worked."""
        ended: list[bool] = []
        self.session.window.closed.connect(lambda: ended.append(True))
        self.session.controller.end()
        return self.wait(lambda: bool(ended), "the end") and self.session.close()


def take_all(session: Session, rig: FaultyRig, folder: Path, work: Path) -> list[Path]:
    """All pictures; returns where they are.

    Args:
        rig: what the session makes its pipelines with.
        work: for recordings and settings; may be thrown away.
    """
    shot = _Photographer(session, folder)
    window, control = session.window, session.controller.live
    window.resize(1320, 820)
    window.show()
    shot.take("start", settle_ms=900)
    session.controller.set_expert(True)  # the operator's view is photographed by screenshot_states
    config = simulated_config(
        engine={"name": "pyramid"},
        recording={"directory": str(work / "recordings")},
        simulation={"visible_fps": 15.0, "thermal_fps": 15.0},  # for machines that do other things as well
    )
    session.controller.open_config(config)
    shot.wait(lambda: control.frame is not None, "the first picture")
    shot.wait(lambda: bool(window.live.status.text_of("latency")), "numbers")
    _TEST.qWait(2500)
    for mode in ViewMode:
        control.set_mode(mode)
        shot.take(f"view_{mode}")
    control.set_mode(ViewMode.FUSED)
    control.show_thermal_share(True)
    shot.take("thermal_share")
    control.show_thermal_share(False)
    control.set_mode(ViewMode.THERMAL)
    control.set_view(isotherm=Isotherm(IsothermKind.ABOVE, 0, 24400))
    session.controller.measure.add(Mark(MarkKind.BOX, ((0.55, 0.3), (0.67, 0.44))))
    shot.take("isotherm_and_box", settle_ms=900)
    control.set_view(isotherm=None)
    session.controller.measure.clear()
    session.controller.agc.set_agc(AgcConfig(mode=AgcMode.MANUAL, manual_low=23600, manual_high=24600))
    shot.take("agc_histogram", settle_ms=1500)
    session.controller.agc.set_agc(AgcConfig())
    control.set_mode(ViewMode.FUSED)
    _compare(shot)
    window.actions_by_name["timing"].trigger()
    shot.wait(lambda: window.live.timing.ready, "the timing plot")
    shot.take("timing", settle_ms=3000)
    window.actions_by_name["timing"].trigger()
    panel = window.live.panel
    picture: tuple[Section, ...] = (panel.agc, panel.view)
    rest: tuple[Section, ...] = (panel.engine, panel.record, panel.calibration, panel.source)
    for shown, hidden, name in ((rest, picture, "rig_panels"), (picture, rest, "")):
        for section in hidden:
            section.set_open(False)
        for section in shown:
            section.set_open(True)
        if name:
            shot.take(name, settle_ms=1200)
    _recording(shot, work)
    rig.faults[Stream.THERMAL].unplug()
    shot.wait(lambda: bool(window.live.stage.banners.texts()), "the banner")
    shot.wait(lambda: any("ONLY" in chip.text for chip in window.live.stage.video.chips), "pictures of one camera")
    shot.take("camera_lost", settle_ms=1500)
    rig.faults[Stream.THERMAL].replug()
    window.help.show_keys(session.settings.shortcuts())
    shot.take("help")
    window.help.hide()
    window.log.show()
    shot.take("log", window.log)
    window.log.close()
    _settings(shot)
    _light(shot, session)
    control.stop()
    shot.wait(lambda: control.state is ControllerState.IDLE, "the end of the rig")
    _playback(shot, work)
    session.controller.open_assistant()
    shot.wait(lambda: session.controller.assistant._preview is not None, "the preview")
    shot.take("assistant", settle_ms=6000)
    session.controller.show_start()
    shot.take("start_with_recent", settle_ms=1200)
    return shot.taken


def _recording(shot: _Photographer, work: Path) -> None:
    window, control = shot.session.window, shot.session.controller.live

    def state() -> RecordingState | None:
        return control.snapshot_of_stats.recording if control.snapshot_of_stats is not None else None

    shot.session.controller.recording.set_recording(True)
    shot.wait(lambda: state() is RecordingState.RECORDING, "the recording")
    _TEST.qWait(3000)
    control.set_frozen(True)
    shot.take("recording_frozen", settle_ms=900)
    control.set_frozen(False)
    shot.session.controller.recording.take_snapshot()
    shot.wait(lambda: any("Snapshot" in text for text in window.live.stage.banners.texts()), "the snapshot")
    shot.take("snapshot")
    _TEST.qWait(2000)
    shot.session.controller.recording.set_recording(False)
    shot.wait(
        lambda: state() is not RecordingState.RECORDING,
        "the end of the recording",
    )
    window.live.stage.banners.show_notice("")


def _compare(shot: _Photographer) -> None:
    """A and B on the live picture, with the panel that says what B is."""
    session, panel = shot.session, shot.session.window.live.panel
    for section in (panel.agc, panel.view):
        section.set_open(False)
    panel.engine.set_open(True)
    session.controller.comparison.compare(ComparisonSettings("average", agc=AgcConfig(mode=AgcMode.LINEAR)))
    shot.wait(lambda: session.window.live.stage.video.has_second, "the second fusion")
    shot.take("live_ab", settle_ms=1500)
    session.controller.comparison.compare(None)
    panel.compare.set_open(False)
    panel.engine.set_open(False)
    for section in (panel.agc, panel.view):
        section.set_open(True)


def take_calibration(application: QApplication, folder: Path, work: Path) -> list[Path]:
    """The calibration assistant on a rig before a rendered board, from choosing the board to the verdict."""
    from calibration.board import parse_board
    from calibration.render import synthetic_rig

    rig = BoardRig(synthetic_rig(), parse_board(BOARDS[0]), 40, seed=3)
    session = Session(application, work / "calibration.json", work, rig.make_pipeline)
    shot = _Photographer(session, folder)
    window, control = session.window, session.controller.calibration
    control.progress_ready.connect(lambda p: rig.show_next() if p.accepted or p.reason.startswith("much") else None)
    window.resize(1320, 820)
    window.show()
    session.controller.open_config(simulated_config(engine={"name": "pyramid"}))
    if shot.wait(lambda: session.controller.live.frame is not None, "the board"):
        session.controller.open_calibration()
        shot.take("calibration_board", settle_ms=900)
        control.begin(BOARDS[0])
        shot.wait(lambda: window.calibration.views.value() >= 9, "nine views")
        shot.take("calibration_views", settle_ms=10)
        shot.wait(lambda: control.phase is CalibrationPhase.RESULT, "the result")
        shot.take("calibration_result")
    shot.close()
    return shot.taken


def _settings(shot: _Photographer) -> None:
    window = shot.session.window
    shot.session.controller.show_settings()
    dialog = window.settings_dialog
    if dialog is not None:
        shot.take("settings", dialog)
        dialog.tabs.setCurrentIndex(1)
        shot.take("settings_shortcuts", dialog)
        dialog.close()


def _light(shot: _Photographer, session: Session) -> None:
    application = QApplication.instance()
    if isinstance(application, QApplication):
        window = session.window
        apply_theme(application, Appearance.LIGHT)
        window.actions_by_name.refresh_icons()
        shot.take("light")
        apply_theme(application, Appearance.DARK)
        window.actions_by_name.refresh_icons()


def _playback(shot: _Photographer, work: Path) -> None:
    session = shot.session
    recordings = session.settings.recent("recordings")
    if not recordings:
        return
    session.controller.open_path(recordings[0])
    if not shot.wait(lambda: session.controller.playback.is_open, "the recording to open"):
        return
    session.controller.playback.seek(session.controller.playback.pairs // 2)
    shot.take("playback", settle_ms=1500)
    session.controller.playback.set_first(FuseSettings("pyramid"))
    session.controller.playback.set_second(FuseSettings("pyramid", agc=AgcConfig(mode=AgcMode.CLAHE)))
    _TEST.qWait(1500)
    video = session.window.player.stage.video
    start = QPointF(video.width() / 2, video.height() / 3).toPoint()
    _TEST.mousePress(video, Qt.MouseButton.LeftButton, pos=start)
    _TEST.mouseMove(video, QPointF(video.width() * 0.42, video.height() / 3).toPoint())
    _TEST.mouseRelease(
        video, Qt.MouseButton.LeftButton, pos=QPointF(video.width() * 0.42, video.height() / 3).toPoint()
    )
    shot.take("playback_ab", settle_ms=900)
    session.controller.playback.set_range(0, max(4, session.controller.playback.pairs - 2))
    session.controller.playback.render(work / "rendered.mkv")
    shot.take("playback_render", settle_ms=250)
    shot.wait(lambda: not session.window.player.progress.isVisible(), "the rendering")


def main(arguments: list[str]) -> int:
    """Take all pictures into the folder given; returns the exit code."""
    if len(arguments) not in (1, 2) or arguments[1:] not in ([], ["live"], ["calibration"]):
        print("usage: python -m benchmarks.screenshots FOLDER [live|calibration]", file=sys.stderr)
        return 2
    live, calibration = (part in arguments[1:] or len(arguments) == 1 for part in ("live", "calibration"))
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        application = make_application(["lumitherm"])
        taken: list[Path] = []
        done = True
        if live:
            rig = FaultyRig()
            session = Session(application, Path(name) / "window.json", Path(name), rig.make_pipeline)
            taken += take_all(session, rig, folder, Path(name))
            done = _Photographer(session, folder).close()
        if calibration:
            taken += take_calibration(application, folder, Path(name))
    print(f"{len(taken)} pictures in {folder}")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
