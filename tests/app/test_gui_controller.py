"""The controllers of the live page, on a pipeline that does what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PyQt6 import sip
from pytestqt.qtbot import QtBot
from support import gui as _support

from app.configuration.config import AppConfig, EngineConfig, EngineName
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.live.agc_controller import AgcController
from app.gui.live.live_controller import LiveController
from app.gui.live.recording_controller import RecordingController
from app.gui.main_window import MainWindow
from app.gui.measuring.measure_controller import MeasureController
from app.pipeline.state.problems import PipelineProblem, Severity
from app.pipeline.state.stats import RecordingState, Stage
from app.rig.setup_assistant import simulated_config
from app.view.measuring import Mark, MarkKind
from app.view.settings import Isotherm, IsothermKind, Picture, ViewMode
from fusion_core.errors import EngineError
from fusion_core.thermal.agc import AgcConfig

FakePipeline, a_frame = _support.FakePipeline, _support.a_frame


class Bench:
    def __init__(self, folder: Path) -> None:
        self.made: list[Any] = []
        self.fail: Exception | None = None
        self.settings = GuiSettings(folder / "window.json")
        self.tasks = TaskRunner()
        self.window = MainWindow()
        page, actions = self.window.live, self.window.actions_by_name
        self.control = LiveController(page, actions, self.make, self.settings, self.tasks)
        self.recording = RecordingController(page, actions, self.control, self.settings, self.tasks)
        self.measure = MeasureController(self.control, page.panel.measure)
        self.control.stats_ready.connect(lambda _: self.measure.measure())
        self.agc = AgcController(page.panel, actions, self.control, self.tasks)

    def make(self, config: AppConfig) -> Any:
        self.made.append(FakePipeline(config, self.fail))
        return self.made[-1]

    def run(self, qtbot: QtBot, config: AppConfig | None = None) -> Any:
        self.control.open_config(config or simulated_config())
        qtbot.waitUntil(lambda: self.control.state is ControllerState.RUNNING)
        return self.made[-1]


@pytest.fixture
def bench(qtbot: QtBot, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    with qtbot.waitSignal(bench.control.stopped):
        bench.control.stop()
    assert bench.tasks.close()
    sip.delete(bench.window)
    bench.settings.save()


def test_frames_are_pulled_once_and_counted_when_shown(qtbot: QtBot, bench: Bench) -> None:
    pipeline = bench.run(qtbot)
    seen: list[Any] = []
    bench.control.frame_ready.connect(seen.append)
    pipeline.latest.put(a_frame(value=1))
    pipeline.latest.put(newest := a_frame(value=2))
    bench.control.pull_frame()
    bench.control.pull_frame()
    assert seen == [newest]  # the one before was overwritten, not queued
    bench.control.frame_presented()
    bench.control.frame_presented()
    assert pipeline.stats.snapshot().frames[Stage.SHOWN] == 1


def test_freeze_holds_the_picture_and_touches_nothing_else(qtbot: QtBot, bench: Bench) -> None:
    pipeline = bench.run(qtbot)
    bench.control.set_frozen(True)
    assert not bench.control.frozen  # nothing to hold yet
    pipeline.latest.put(first := a_frame())
    bench.control.pull_frame()
    bench.control.set_frozen(True)
    pipeline.latest.put(a_frame())
    bench.control.pull_frame()
    assert bench.control.frame is first
    bench.control.set_frozen(False)
    bench.control.pull_frame()
    assert bench.control.frame is not first
    assert [call[0] for call in pipeline.calls] == ["start"]


def test_requests_reach_the_pipeline_in_order(qtbot: QtBot, bench: Bench, tmp_path: Path) -> None:
    pipeline = bench.run(qtbot, simulated_config(recording={"directory": str(tmp_path)}))
    bench.recording.set_recording(True)
    bench.recording.mark_event()
    bench.agc.set_agc(AgcConfig(max_gain=3.0))
    bench.control.set_engine(EngineConfig(name=EngineName.AVERAGE))
    bench.recording.take_snapshot()
    qtbot.waitUntil(lambda: any("Snapshot" in text for text in bench.window.live.stage.banners.texts()))
    qtbot.waitUntil(lambda: len(pipeline.calls) == 6)
    assert [call[0] for call in pipeline.calls if call[0] != "snapshot"] == [
        "start",
        "start_recording",
        "mark_event",
        "set_agc",
        "set_engine",
    ]
    assert ("set_engine", "average", "auto", None) in pipeline.calls
    assert ("snapshot", tmp_path / "snapshots") in pipeline.calls


def test_a_recording_is_offered_from_its_beginning_and_marks_its_button(
    qtbot: QtBot, bench: Bench, tmp_path: Path
) -> None:
    pipeline = bench.run(qtbot)
    page = bench.window.live
    (file := tmp_path / "a.mkv").touch()
    idle = page.record.icon().pixmap(24).toImage()
    pipeline.stats.recording(RecordingState.RECORDING, str(file), 65.0)
    bench.control.pull_numbers()
    assert bench.settings.recent("recordings") == [file]
    assert page.record.property("recording") and page.record.icon().pixmap(24).toImage() != idle
    assert [chip.text for chip in page.stage.video.chips] == ["REC 0:01:05"]
    bench.window.actions_by_name.refresh_icons()  # as a change of the theme does
    assert page.record.icon().pixmap(24).toImage() != idle
    pipeline.stats.recording(RecordingState.OFF)
    bench.control.pull_numbers()
    assert page.record.icon().pixmap(24).toImage() == idle and page.stage.video.chips == ()


def test_problems_show_the_newest_of_each_source_until_it_is_over(qtbot: QtBot, bench: Bench) -> None:
    pipeline = bench.run(qtbot)
    shown: list[tuple[PipelineProblem, ...]] = []
    bench.control.problems_changed.connect(shown.append)
    lost = PipelineProblem(datetime.now(UTC), Severity.WARNING, "thermal", "lost")
    disk = PipelineProblem(datetime.now(UTC), Severity.ERROR, "recording", "disk full")
    pipeline.errors = (lost, disk)
    bench.control.pull_numbers()
    assert shown[-1] == (disk, lost)  # worst first
    bench.window.live.stage.banners.dismissed.emit(disk)
    assert shown[-1] == (lost,)
    pipeline.errors = (lost, disk, PipelineProblem(datetime.now(UTC), Severity.INFO, "thermal", "back"))
    bench.control.pull_numbers()
    assert shown[-1] == ()


def test_a_pipeline_that_will_not_start_is_told(qtbot: QtBot, bench: Bench) -> None:
    bench.fail = EngineError("no such engine here")
    with qtbot.waitSignal(bench.control.problems_changed, check_params_cb=lambda p: p[0].text == str(bench.fail)):
        bench.control.open_config(simulated_config())
    assert bench.control.state is ControllerState.IDLE


def test_a_config_file_that_is_wrong_is_told(qtbot: QtBot, bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("rig: x\nvisble: {}\n")
    with qtbot.waitSignal(bench.control.problems_changed, check_params_cb=lambda p: "visble" in p[0].text):
        bench.control.open_file(file)
        bench.control.video.set_message("reading bad.yaml…")
    assert bench.control.video._message == "stopped"


def test_stopping_while_starting_leaves_nothing_behind(qtbot: QtBot, bench: Bench) -> None:
    bench.control.open_config(simulated_config())
    with qtbot.waitSignal(bench.control.stopped):
        bench.control.stop()
    assert bench.control.state is ControllerState.IDLE
    assert bench.made[-1].calls == [("start",), ("stop",)]


def test_sections_that_need_a_restart_restart(qtbot: QtBot, bench: Bench) -> None:
    first = bench.run(qtbot)
    recording = bench.control.config.recording.model_copy(update={"pre_event_s": 5.0})  # type: ignore[union-attr]
    bench.control.change_config(recording=recording)
    qtbot.waitUntil(lambda: len(bench.made) == 2 and bench.control.state is ControllerState.RUNNING)
    assert first.calls[-1] == ("stop",)
    assert bench.made[-1].config.recording.pre_event_s == 5.0
    same = bench.control.config.visible.model_copy(update={"uri": "sim:thermal"})  # type: ignore[union-attr]
    with qtbot.waitSignal(bench.control.problems_changed, check_params_cb=lambda p: "swapped" in p[0].text):
        bench.control.change_config(visible=same)
    assert len(bench.made) == 2


def test_the_spot_reads_degrees_or_says_that_it_is_relative(qtbot: QtBot, bench: Bench) -> None:
    pipeline = bench.run(qtbot)
    pipeline.latest.put(a_frame())
    bench.control.pull_frame()
    video = bench.control.video
    video.mark_drawn.emit(Mark(MarkKind.SPOT, ((0.5, 0.5),)))
    assert video.marks[-1].text == "Spot 1  20.0 °C"  # the simulated rig's scale is known
    bench.control.set_scale("relative")
    assert video.marks[-1].text == "Spot 1  24000 relative"
    video.mark_drawn.emit(Mark(MarkKind.BOX, ((0.1, 0.1), (0.3, 0.3))))
    assert video.marks[-1].text == "Box 2  relative\nmin 24000  mean 24000  max 24000"


def test_views_change_by_request_and_are_remembered_for_each_rig(qtbot: QtBot, bench: Bench, tmp_path: Path) -> None:
    bench.run(qtbot)
    control = bench.control
    control.set_mode(ViewMode.PIP)
    control.swap()
    assert (control.view.pip_main, control.view.pip_inset) == (Picture.THERMAL, Picture.FUSED)
    control.set_mode(ViewMode.WIPE)
    control.swap()
    assert control.view.wipe_left is Picture.FUSED
    control.next_palette()
    control.toggle_polarity()
    control.change_blend(30)
    control.show_thermal_share(True)
    control.toggle_heat()
    bench.window.live.panel.view._heat_share.slider.setValue(12)
    control.set_hud(False)
    bench.window.live.panel.view._strength.slider.setValue(70)
    assert bench.made[-1].fusion.strength == control.strength == 0.7
    control.set_view(isotherm=Isotherm(IsothermKind.BETWEEN, 5, 9))
    assert bench.settings.save()
    profile = GuiSettings(tmp_path / "window.json").profile("simulated")
    assert profile.view.mode is ViewMode.WIPE and profile.view.black_hot and profile.view.blend == 1.0
    assert profile.view.isotherm == Isotherm(IsothermKind.BETWEEN, 5, 9)
    assert not profile.view.thermal_share and not profile.hud
    assert profile.strength == 0.7 and profile.view.heat and profile.view.heat_share == 0.12
    assert bench.run(qtbot, simulated_config()).fusion.strength == 0.7  # at the next start
    assert bench.run(qtbot, simulated_config(rig="other", engine={"strength": 1.2})).fusion.strength == 1.2
    assert GuiSettings(tmp_path / "window.json").profile("another").view.mode is ViewMode.FUSED


def test_damaged_settings_fall_back(tmp_path: Path) -> None:
    file = tmp_path / "window.json"
    for text in (
        '{"appearance": "purple", "rig/a": {"view": {"mode": "nonsense"}}, "recent/configs": 3, "geometry": [1]}',
        '{"appearance": null, "rig/a": {"view": []}, "recent/configs": [7], "geometry": "\u00e9", "shortcuts": 1}',
        '{"appearance": "dark"',
        "[1, 2]",
        "",
    ):
        file.write_text(text)
        settings = GuiSettings(file)
        assert settings.appearance.value == "system"
        assert settings.profile("a").view.mode is ViewMode.FUSED
        assert settings.recent("configs") == [] and settings.shortcuts() == {}
        assert settings.geometry is None or settings.geometry.isEmpty()


def test_tasks_deliver_on_this_thread_and_keep_their_lane_in_order(qtbot: QtBot) -> None:
    tasks = TaskRunner()
    seen: list[Any] = []
    for number in range(5):
        tasks.run(lambda number=number: number, seen.append)  # type: ignore[misc]
    tasks.run(lambda: 1 / 0, seen.append, lambda error: seen.append(type(error)), Lane.FILES)
    qtbot.waitUntil(lambda: len(seen) == 6)
    assert [item for item in seen if isinstance(item, int)] == [0, 1, 2, 3, 4]
    assert ZeroDivisionError in seen
    assert tasks.close()
    tasks.run(lambda: seen.append("late"))
    assert "late" not in seen
