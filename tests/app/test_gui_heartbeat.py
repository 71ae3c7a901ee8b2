"""What the GUI thread itself works in one go, while cameras die, an engine is built and files open; and snapshots.

Own work is processor time of that one thread: other programs, and other threads, do not add to it. How much of that
50 ms is depends on the processor, so that the limit is in shares of a named loop, `a_row_of_buttons`, timed beside it.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PyQt6 import sip
from PyQt6.QtWidgets import QApplication, QHBoxLayout, QLabel, QPushButton, QWidget
from pytestqt.qtbot import QtBot

import app.pipeline.live_fusion
from app.configuration.config import EngineConfig, EngineName
from app.gui.application import Session, load_pipeline
from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.tasks import Lane
from app.gui.common.theme import Appearance, colours
from app.gui.settings_dialog import SettingsDialog
from app.gui.widgets.sections import Section
from app.pipeline.state.stats import RecordingState
from app.playback.fuser import FuseSettings
from app.rig.setup_assistant import simulated_config
from app.view.settings import ViewMode
from benchmarks.soak.heartbeat import Gap, Heartbeat
from benchmarks.soak.simulated_board import FaultyRig
from fusion_core.frames import FusedFrame, Stream

PATIENCE_MS = 90_000
STYLE_SHEET = 1.6
"""A change of appearance may take so much longer: Qt styles all widgets anew in one go (45 to 51 ms)."""
LONGEST_MS = 50.0  # on a machine where `a_row_of_buttons` takes ROW_MS
ROW_MS = 5.0
SLOWEST = 4.0  # times as slow a machine still counts as one to work on
SMALL = {
    "height": 240,
    "width": 320,
    "thermal_height": 120,
    "thermal_width": 160,
    "visible_fps": 15.0,
    "thermal_fps": 15.0,
}
FILMS = 25  # pictures that must come through while a snapshot is being written


class Bench:
    """A window of its usual size on a small simulated rig."""

    def __init__(self, application: QApplication, folder: Path, qtbot: QtBot) -> None:
        self.folder, self.qtbot = folder, qtbot
        self.rig = FaultyRig()
        self.session = Session(application, folder / "window.json", folder, self.rig.make_pipeline)
        self.session.controller.set_expert(True)
        self.window, self.control = self.session.window, self.session.controller.live
        self.ended: list[bool] = []
        self.window.closed.connect(lambda: self.ended.append(True))
        self.window.resize(1320, 820)
        self.window.show()
        qtbot.waitExposed(self.window)

    def until(self, condition: Callable[[], Any]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE_MS)

    def frames(self, name: str) -> int:
        snapshot = self.control.snapshot_of_stats
        return snapshot.frames[name] if snapshot is not None else 0

    def banner(self, word: str) -> bool:
        return any(word in text for text in self.window.live.stage.banners.texts())

    def open(self) -> None:
        config = simulated_config(
            engine={"name": "average"},
            recording={"directory": str(self.folder / "rec"), "reserve_mb": 1},
            simulation=SMALL,
        )
        self.session.controller.open_config(config)
        self.until(lambda: self.control.frame is not None)


@pytest.fixture
def bench(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Bench]:
    before = {thread.ident for thread in threading.enumerate()}
    bench = Bench(qapp, tmp_path, qtbot)
    yield bench
    if not bench.ended:
        bench.session.controller.end()
        bench.until(lambda: bench.ended)
    assert bench.session.close()
    bench.window.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    end_s = time.monotonic() + PATIENCE_MS / 1e3  # a camera that was just being opened ends by itself
    while left := [thread.name for thread in threading.enumerate() if thread.ident not in before]:
        assert time.monotonic() < end_s, left
        time.sleep(0.02)


@pytest.fixture
def own_garbage_only() -> Iterator[None]:
    """As in a program that has just begun: what other tests have left is no work of this window's collector."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.slow
@pytest.mark.alone
def test_nothing_keeps_the_gui_thread_for_50_ms(
    own_garbage_only: None, bench: Bench, qtbot: QtBot, record_property: Callable[[str, object], None]
) -> None:
    loaded: list[bool] = []
    bench.session.tasks.run(load_pipeline, lambda _: loaded.append(True), lane=Lane.CONTROL)  # as the command does
    longest_ms = longest_allowed_ms()
    heart = Heartbeat(stacks=True)
    heart.start()
    try:
        bench.until(lambda: loaded)
        use_everything(bench, heart)
    finally:
        heart.stop()
    figures = heart.figures
    worst = max(heart.gaps, key=lambda gap: gap.work_ms)
    record_property("allowed_ms", round(longest_ms, 1))
    record_property("own_work_worst_ms", round(figures.own_worst_ms, 1))
    record_property("wall_worst_ms", round(figures.worst_ms, 1))
    print(f"{figures}\nmost own work: {shown(worst)}")
    assert figures.beats > 500
    assert figures.own_worst_ms <= longest_ms, shown(worst)


@pytest.mark.slow
@pytest.mark.alone
def test_another_appearance_comes_in_steps(own_garbage_only: None, bench: Bench) -> None:
    window = bench.window
    bench.session.controller.show_settings()
    dialog = window.settings_dialog
    assert dialog is not None
    bench.until(lambda: window.help.findChildren(QLabel))  # it is prepared half a second after the start
    longest_ms = STYLE_SHEET * longest_allowed_ms()
    # The better of two rounds: a neighbour on the same processor makes one change in some dozens a half longer.
    assert min(longest_of_changes_ms(bench, dialog) for _ in range(2)) <= longest_ms


def longest_of_changes_ms(bench: Bench, dialog: SettingsDialog) -> float:
    """The GUI thread's own longest work, ms, while the appearance changes to and fro."""
    window, heart = bench.window, Heartbeat()
    heart.start()
    try:
        for appearance in (Appearance.LIGHT, Appearance.DARK):
            beats = heart.beats
            dialog.appearance_chosen.emit(appearance)
            assert not window.updatesEnabled()  # nothing is painted halfway
            bench.until(lambda: window.updatesEnabled())
            assert colours().dark == (appearance is Appearance.DARK) and heart.beats > beats + 2
            assert window.palette().window().color().name() == colours().window
        dialog.appearance_chosen.emit(Appearance.LIGHT)
        dialog.appearance_chosen.emit(Appearance.DARK)  # before the other is through
        bench.until(lambda: window.updatesEnabled())
        assert window.palette().window().color().name() == colours().window and colours().dark
    finally:
        heart.stop()
    return heart.figures.own_worst_ms


def longest_allowed_ms() -> float:
    """LONGEST_MS on a machine as fast as the reference; in proportion on a slower one, up to SLOWEST times."""
    return LONGEST_MS * min(max(1.0, a_row_of_buttons() / ROW_MS), SLOWEST)


def a_row_of_buttons() -> float:
    """Processor time, ms, of work as the window has it: sixty buttons made, styled, laid out, deleted; median of 9."""
    times = []
    for _ in range(9):
        began_s = time.thread_time()
        holder = QWidget()
        row = QHBoxLayout(holder)
        for number in range(60):
            row.addWidget(QPushButton(str(number)))
        holder.ensurePolished()
        holder.sizeHint()
        sip.delete(holder)
        times.append((time.thread_time() - began_s) * 1e3)
    return sorted(times)[len(times) // 2]


def use_everything(bench: Bench, heart: Heartbeat) -> None:
    """From the click to the last page, with everything failing that can."""
    window, controller, control, until = bench.window, bench.session.controller, bench.control, bench.until

    def click(action: Callable[[], object]) -> None:
        """One thing that a user does, and what it sets off, before the next one."""
        action()
        beats = heart.beats
        until(lambda: heart.beats > beats + 3)

    bench.open()
    for mode in ViewMode:
        control.set_mode(mode)
        painted = bench.frames("shown")
        until(lambda painted=painted: bench.frames("shown") > painted)  # type: ignore[misc]
    control.set_mode(ViewMode.FUSED)
    click(window.actions_by_name["timing"].trigger)
    until(lambda: window.live.timing.ready)
    click(window.actions_by_name["help"].trigger)
    click(window.help.hide)
    click(controller.show_settings)
    assert window.settings_dialog is not None
    click(lambda: window.settings_dialog and window.settings_dialog.tabs.setCurrentIndex(1))
    click(window.settings_dialog.close)
    click(window.actions_by_name["log"].trigger)
    click(window.log.close)
    for section in window.live.panel.findChildren(Section):
        click(lambda section=section: section.set_open(not section.opened))  # type: ignore[misc]

    controller.recording.set_recording(True)
    until(lambda: bench.frames("recorded") > 15)
    controller.recording.take_snapshot()
    until(lambda: bench.banner("Snapshot"))
    for stream in Stream:  # cameras die
        bench.rig.faults[stream].unplug()
    until(lambda: all(bench.banner(f"{stream} camera is lost") for stream in Stream))
    for stream in Stream:
        bench.rig.faults[stream].replug()
    until(lambda: not any(bench.banner(f"{stream} camera is lost") for stream in Stream))
    control.set_engine(EngineConfig(name=EngineName.OPENVINO, preset="tiny"))  # an engine is built
    until(lambda: control.snapshot_of_stats and control.snapshot_of_stats.engine.startswith("openvino"))
    control.set_engine(EngineConfig(name=EngineName.AVERAGE))
    until(lambda: control.snapshot_of_stats and control.snapshot_of_stats.engine == "average")
    controller.recording.set_recording(False)
    until(lambda: not controller.recording.recording)

    controller.open_path(bench.session.settings.recent("recordings")[-1])  # a file is opened
    until(lambda: controller.playback.is_open and window.player.stage.video._frame is not None)
    until(lambda: control.state is ControllerState.IDLE)
    controller.playback.set_second(FuseSettings("average"))
    until(lambda: window.player.stage.video._second is not None)
    click(lambda: controller.playback.seek(controller.playback.pairs - 1))
    click(controller.open_assistant)
    click(controller.show_start)


def shown(gap: Gap) -> str:
    return (
        f"{gap.work_ms:.1f} ms of own work in a gap of {gap.gap_ms:.1f} ms, {gap.at_s:.1f} s after the start"
        f" (waiting for a processor {gap.ready_ms:.1f}, held up {gap.held_ms:.1f})\n{gap.stacks}"
    )


def test_a_snapshot_holds_up_neither_fusion_nor_recording_nor_the_picture(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle is written only once so many more pictures were fused, recorded and shown: nobody waits for it."""
    bench.open()
    bench.session.controller.recording.set_recording(True)
    bench.until(lambda: bench.session.controller.recording.recording and bench.frames("recorded") > 5)
    pipeline = bench.control._pipeline
    assert pipeline is not None
    came_through: list[dict[str, int]] = []
    writers: list[str] = []
    save = app.pipeline.live_fusion.save_snapshot

    def slow_disk(frame: FusedFrame, folder: Path, facts: dict[str, Any]) -> Path:
        writers.append(threading.current_thread().name)
        before = pipeline.stats.snapshot().frames
        pause, after = threading.Event(), before
        for _ in range(PATIENCE_MS // 20):
            after = pipeline.stats.snapshot().frames
            if all(after[name] >= before[name] + FILMS for name in ("fused", "recorded", "shown")):
                break
            pause.wait(0.02)
        came_through.append({name: after[name] - before[name] for name in ("fused", "recorded", "shown")})
        return save(frame, folder, facts)

    monkeypatch.setattr(app.pipeline.live_fusion, "save_snapshot", slow_disk)
    bench.session.controller.recording.take_snapshot()
    bench.until(lambda: bench.banner("Snapshot saved"))
    assert writers == ["window-files_0"]
    assert min(came_through[0].values()) >= FILMS
    assert bench.control.snapshot_of_stats is not None
    assert bench.control.snapshot_of_stats.recording is RecordingState.RECORDING
    bundle = next((bench.folder / "rec" / "snapshots").glob("snapshot-*"))
    assert {path.name for path in bundle.iterdir()} >= {"fused.png", "snapshot.json"}
