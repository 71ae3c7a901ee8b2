"""What an operator has to be able to trust: the health light, what happens to recordings, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot
from support.gui import Fakes, a_frame

from app.configuration.config import EngineConfig, EngineName, Preset
from app.gui.application import Session
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.settings import default_recordings_folder
from app.gui.common.theme import Level
from app.gui.live import health_controller, recording_controller
from app.gui.live.health_controller import lighter_engine
from app.gui.widgets.health import HealthKind, HealthWatch, Remedy
from app.pipeline.state.stats import BudgetLevel, BudgetReading, DriftReading, RecordingState, Stage, Stats
from app.playback.preview import recording_preview
from app.rig.setup_assistant import simulated_config
from benchmarks.soak.simulated_board import FaultyRig
from fusion_core.frames import FrameFlag, Stream


@pytest.fixture
def fakes(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Fakes]:
    fakes = Fakes(qapp, tmp_path, qtbot)
    yield fakes
    fakes.close()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def rates(visible: int, thermal: int, fused: int) -> Stats:
    """Statistics after two seconds at these rates."""
    clock = Clock()
    stats = Stats(clock_ns=lambda: round(clock.now_s * 1e9))
    for tick in range(200):
        clock.now_s = tick / 100
        for stage, rate in ((Stage.VISIBLE, visible), (Stage.THERMAL, thermal), (Stage.FUSED, fused)):
            if tick % max(1, 100 // rate) == 0:
                stats.frame(stage)
    return stats


def test_the_health_light_names_the_worst_and_what_to_do() -> None:
    watch, stats = HealthWatch(), Stats()
    assert watch.judge(stats.snapshot()).kind is HealthKind.GOOD
    for stream in Stream:
        stats.camera_state(stream, "streaming")
    red = BudgetReading(BudgetLevel.RED, 8.0, 11.0, 11.0, 0.0, 0.0)
    stats.budget(red)
    found = watch.judge(stats.snapshot())
    assert found.kind is HealthKind.ALIGNMENT and found.remedies == (Remedy.CALIBRATE,)
    stats.drift(DriftReading("alarm", "propose", drift_px=9.0, proposed_px=9.0))
    assert watch.judge(stats.snapshot()).remedies == (Remedy.CORRECT, Remedy.CALIBRATE)
    stats.drift(DriftReading("unknown", "propose", far_px=125.4))
    found = watch.judge(stats.snapshot())
    assert found.kind is HealthKind.ALIGNMENT and "125 px" in found.advice and found.remedies == (Remedy.CALIBRATE,)
    stats.camera_state(Stream.THERMAL, "ended")  # a file that is over is a lost camera
    found = watch.judge(stats.snapshot())
    assert found.kind is HealthKind.CAMERA and "thermal" in found.advice
    assert found.remedies == (Remedy.REOPEN, Remedy.SOURCES) and found.level is Level.CAUTION
    stats.recording(RecordingState.PAUSED)
    found = watch.judge(stats.snapshot())
    assert found.kind is HealthKind.DISK and Remedy.FREE_SPACE in found.remedies


def test_a_slow_computer_is_one_that_stays_slow() -> None:
    watch = HealthWatch()
    slow, well = rates(25, 25, 10).snapshot(), rates(25, 25, 25).snapshot()
    kinds = [watch.judge(slow).kind for _ in range(11)]
    assert kinds == [HealthKind.GOOD] * 11  # not yet
    assert watch.judge(well).kind is HealthKind.GOOD
    assert [watch.judge(slow).kind for _ in range(12)][-1] is HealthKind.SLOW
    assert watch.judge(slow).remedies == (Remedy.LIGHTER,)
    assert watch.judge(well).kind is HealthKind.GOOD


def test_the_lighter_model_is_the_next_one_down() -> None:
    config = EngineConfig(name=EngineName.AUTO, preset=Preset.SMALL)
    assert lighter_engine(config, "openvino-bf16:small").preset is Preset.TINY
    assert lighter_engine(config, "openvino-bf16:tiny").name is EngineName.ALIGNED_PYRAMID
    assert lighter_engine(config, "aligned-pyramid").name is EngineName.PYRAMID


def test_the_light_does_what_it_offers(fakes: Fakes, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = fakes.start()
    health, light = fakes.controller.health, fakes.window.live.health_lights[0]
    pipeline.cameras.nudge = lambda: pipeline.calls.append(("nudge",))
    pipeline.stats.camera_state(Stream.VISIBLE, "lost")
    fakes.controller.live.pull_numbers()
    assert health.health.kind is HealthKind.CAMERA and "Camera trouble" in light.text()
    light.click()
    assert light.card.isVisible()
    qtbot.mouseClick(light.card.buttons[Remedy.REOPEN], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: ("nudge",) in pipeline.calls)
    assert not light.card.isVisible()
    health.do(Remedy.SOURCES)
    assert not fakes.window.live.panel.source.content.isHidden()
    health.do(Remedy.LIGHTER)
    qtbot.waitUntil(lambda: any(call[0] == "set_engine" for call in pipeline.calls))
    shown: list[Path] = []
    monkeypatch.setattr(health_controller, "show_in_folder", shown.append)
    health.do(Remedy.FREE_SPACE)
    assert shown == [fakes.folder]
    health.use_folder(fakes.folder / "elsewhere")
    qtbot.waitUntil(lambda: len(fakes.made) == 2)
    assert fakes.made[-1].config.recording.directory == fakes.folder / "elsewhere"
    fakes.controller.live.stop()
    qtbot.waitUntil(lambda: health.health.kind is HealthKind.OFF)


def test_recordings_go_to_the_users_videos_unless_configured(fakes: Fakes) -> None:
    fakes.start(recording={})
    config = fakes.controller.live.config
    assert config is not None and config.recording.directory == default_recordings_folder()
    fakes.start(recording={"directory": "recordings"})
    config = fakes.controller.live.config
    assert config is not None and config.recording.directory == Path("recordings")


def test_leaving_while_recording_is_asked_once(fakes: Fakes) -> None:
    pipeline = fakes.start()
    pipeline.stats.recording(RecordingState.RECORDING, str(fakes.folder / "a.mkv"), 3.0)
    fakes.controller.live.pull_numbers()
    for name in ("home", "run"):
        fakes.window.actions_by_name[name].trigger()
        question = fakes.controller.question
        assert question is not None and "a.mkv" in question.informativeText()
        question.reject()  # Escape: the recording goes on
        assert fakes.controller.question is None
        assert fakes.controller.live.state is ControllerState.RUNNING
    fakes.window.actions_by_name["run"].trigger()
    question = fakes.controller.question
    assert question is not None
    next(button for button in question.buttons() if "Cameras off" in button.text()).click()
    assert fakes.controller.live.state is not ControllerState.RUNNING


def test_a_toast_names_the_folder_and_opens_what_was_recorded(
    qapp: QApplication, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = FaultyRig()
    session = Session(qapp, tmp_path / "window.json", tmp_path, rig.make_pipeline)
    window, controller = session.window, session.controller
    ended: list[bool] = []
    window.closed.connect(lambda: ended.append(True))
    shown: list[Path] = []
    monkeypatch.setattr(recording_controller, "show_in_folder", shown.append)
    try:
        small = {"height": 96, "width": 128, "thermal_height": 48, "thermal_width": 64}
        folder = {"directory": str(tmp_path / "rec"), "reserve_mb": 1}
        controller.open_config(simulated_config(engine={"name": "average"}, recording=folder, simulation=small))
        qtbot.waitUntil(lambda: controller.live.frame is not None, timeout=60_000)
        controller.recording.set_recording(True)
        qtbot.waitUntil(lambda: _recorded(controller.live) > 20, timeout=60_000)
        controller.recording.set_recording(False)
        banners = window.live.stage.banners
        qtbot.waitUntil(lambda: any("Recorded" in text for text in banners.texts()), timeout=60_000)
        assert any(str(tmp_path / "rec") in text for text in banners.texts())
        buttons = {button.text(): button for button in banners.findChildren(QPushButton)}
        buttons["Show in folder"].click()
        file = next((tmp_path / "rec").glob("*.mkv"))
        assert shown == [file]
        buttons["Open"].click()
        qtbot.waitUntil(lambda: controller.playback.is_open, timeout=60_000)
        assert controller.playback.file == file
        controller.show_start()
        recent = window.start_page.recordings.list
        qtbot.waitUntil(lambda: recent.item(0) is not None and not recent.item(0).icon().isNull(), timeout=60_000)
        item = recent.item(0)
        assert item is not None and "0:00:0" in item.text() and file.name in item.text()  # length and name
    finally:
        controller.end()
        qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
        assert session.close()
        window.deleteLater()
        QApplication.sendPostedEvents(None, 52)  # DeferredDelete


def _recorded(live: Any) -> int:
    snapshot = live.snapshot_of_stats
    return int(snapshot.frames["recorded"]) if snapshot is not None else 0


def test_a_preview_of_junk_says_when_and_no_more(tmp_path: Path) -> None:
    (junk := tmp_path / "junk.mkv").write_bytes(b"no video")
    preview = recording_preview(junk)
    assert preview.picture is None and preview.seconds is None and preview.path == junk
    assert recording_preview(tmp_path / "missing.mkv").seconds is None


def test_the_watch_finds_pictures_of_one_camera_without_a_mark(fakes: Fakes) -> None:
    from benchmarks.soak.window_trust import TrustWatch

    fakes.start()
    watch = TrustWatch(fakes.session)
    good = a_frame(value=90)
    fakes.show(replace(good, pixels=np.full_like(good.pixels, 120)))
    assert (watch.shown, watch.single) == (1, 0)
    fakes.show(good)  # fused, it says, but its pixels are those of the visible camera
    assert watch.single == 1 and len(watch.unmarked) == 1
    alone = replace(good, pair=replace(good.pair, thermal=None, flags=FrameFlag.VISIBLE_ONLY))
    fakes.show(alone)
    assert watch.single == 2 and len(watch.unmarked) == 1  # the window says so
    (fakes.folder / "a.mkv").touch()
    assert watch.not_in_recent(fakes.folder) == ["a.mkv"]
