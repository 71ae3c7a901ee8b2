"""Measuring in the window: several marks, differences, alarms, the colour scale, and all of it in playback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt6.QtGui import QInputDevice, QMouseEvent, QPointingDevice
from PyQt6.QtMultimedia import QAudioDevice, QMediaDevices, QSoundEffect
from PyQt6.QtWidgets import QApplication, QToolButton
from pytestqt.qtbot import QtBot
from support.gui import Fakes, a_frame

from app.gui.application import Session
from app.gui.common.settings import GuiSettings, RigProfile
from app.gui.measuring.alarm_sound import AlarmSound, alarm_wave
from app.gui.picture.mark_painter import MarkTool
from app.gui.picture.video_view import VideoView
from app.pipeline.live_fusion import LiveFusion
from app.rig.radiometry import Surface
from app.rig.setup_assistant import simulated_config
from app.view.alarms import Alarm, AlarmKind, KeptMark
from app.view.measuring import Mark, MarkKind
from app.view.settings import ViewMode
from fusion_core.frames import FusedFrame
from fusion_core.thermal.agc import AgcMode

_TOUCH_SCREEN = QPointingDevice(
    "a touch screen", 77, QInputDevice.DeviceType.TouchScreen, QPointingDevice.PointerType.Finger,
    QInputDevice.Capability.Position, 10, 0,
)  # fmt: skip
SPOT = Mark(MarkKind.SPOT, ((0.5, 0.25),))
BOX = Mark(MarkKind.BOX, ((0.1, 0.6), (0.9, 0.9)))
LINE = Mark(MarkKind.LINE, ((0.5, 0.1), (0.5, 0.9)))


@pytest.fixture
def fakes(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Fakes]:
    fakes = Fakes(qapp, tmp_path, qtbot)
    yield fakes
    fakes.close()


def warm(celsius: float) -> FusedFrame:
    """20 °C at the left, `celsius` in the right half, by the simulated rig's scale."""
    frame = a_frame()
    assert frame.pair.thermal is not None
    counts = np.full((48, 64), 24000, np.uint16)
    counts[:, 32:] = 24000 + round((celsius - 20) * 40)
    thermal = replace(frame.pair.thermal, pixels=counts)
    levels = np.zeros((48, 64), np.uint8)
    levels[:, 32:] = 255
    limits = (float(counts.min()), float(counts.max()))
    return replace(frame, pair=replace(frame.pair, thermal=thermal), thermal_8bit=levels, agc_limits=limits)


def test_several_marks_have_names_values_and_a_difference(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    fakes.show(warm(60))
    measure, panel = fakes.controller.measure, fakes.window.live.panel.measure
    assert not panel._difference_box.isVisibleTo(panel)  # between nothing and nothing
    numbers = [measure.add(mark) for mark in (SPOT, BOX, LINE)]
    assert numbers == [1, 2, 3] and [m.mark.name for m in measure.marks] == ["Spot 1", "Box 2", "Line 3"]
    cells = [[panel.table.item(row, column).text() for column in range(4)] for row in range(3)]  # type: ignore[union-attr]
    assert cells[0] == ["Spot 1", "", "20.0", ""] and cells[1] == ["Box 2", "60.0", "60.0", "60.0"]
    assert cells[2] == ["Line 3", "20.0", "40.0", "60.0"]
    assert panel.profile.isVisibleTo(panel) and panel.profile.curves[0].y[0] == 20.0
    panel.choose_difference(2, 1)
    assert panel.difference.text() == "+40.0 K"
    panel.table.item(0, 0).setText("engine")  # type: ignore[union-attr]
    assert measure.marks[0].mark.name == "engine" and panel.first.findText("engine") > 0
    panel.table.selectRow(1)
    assert panel.selected_number == 2 and panel._editor.isVisibleTo(panel)
    panel.removed.emit(2)
    assert [m.number for m in measure.marks] == [1, 3] and panel.difference.text() == ""
    panel.cleared.emit()
    assert measure.marks == [] and fakes.controller.live.video.marks == () and not panel.profile.isVisibleTo(panel)


def test_no_more_marks_than_can_be_read(fakes: Fakes) -> None:
    fakes.start()
    fakes.show()
    for _ in range(20):
        fakes.controller.measure.add(SPOT)
    assert len(fakes.controller.measure.marks) == 12 and fakes.controller.measure.marks[-1].number == 20


def at(video: VideoView, place: tuple[float, float]) -> QPoint:
    """Where a place of the picture, 0..1, is on the view."""
    return video._to_view(video._panels()[0])(place).toPoint()


def drag(qtbot: QtBot, video: VideoView, start: tuple[float, float], end: tuple[float, float]) -> None:
    """By the mouse, in three steps."""
    a, b = at(video, start), at(video, end)
    qtbot.mousePress(video, Qt.MouseButton.LeftButton, pos=a)
    for part in (0.3, 0.7, 1.0):
        qtbot.mouseMove(video, a + (b - a) * part)
    qtbot.mouseRelease(video, Qt.MouseButton.LeftButton, pos=b)


def test_marks_and_their_corners_are_dragged_and_the_chosen_one_is_removed(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    fakes.show(warm(60))
    measure, video = fakes.controller.measure, fakes.controller.live.video
    area = Mark(MarkKind.POLYGON, ((0.1, 0.1), (0.1, 0.2), (0.3, 0.2)))
    spot, line, box, polygon = (
        measure.add(mark) for mark in (SPOT, replace(LINE, points=((0.8, 0.1), (0.8, 0.5))), BOX, area)
    )
    before = video.viewport

    def points(number: int) -> tuple[tuple[float, float], ...]:
        return next(m.mark.points for m in measure.marks if m.number == number)

    drag(qtbot, video, (0.5, 0.25), (0.4, 0.45))
    assert points(spot) == (pytest.approx((0.4, 0.45), abs=0.01),) and measure._selected == spot
    reading = measure.marks[0].reading
    assert reading is not None and reading.mean == 20.0
    drag(qtbot, video, (0.4, 0.45), (0.4, 0.55))
    assert (reading := measure.marks[0].reading) is not None and reading.mean == 60.0  # measured where it is now
    drag(qtbot, video, (0.8, 0.5), (0.6, 0.4))  # one end
    assert points(line) == (pytest.approx((0.8, 0.1), abs=0.01), pytest.approx((0.6, 0.4), abs=0.01))
    drag(qtbot, video, (0.9, 0.6), (0.7, 0.95))  # a corner goes beyond the one that stays
    assert points(box) == (pytest.approx((0.1, 0.9), abs=0.01), pytest.approx((0.7, 0.95), abs=0.01))
    drag(qtbot, video, (0.1, 0.925), (0.0, 0.4))  # by a side: all of it
    assert points(box) == (pytest.approx((0.0, 0.375), abs=0.02), pytest.approx((0.6, 0.425), abs=0.02))
    drag(qtbot, video, (0.3, 0.2), (0.5, 0.2))
    assert points(polygon)[2] == pytest.approx((0.5, 0.2), abs=0.01) and points(polygon)[:2] == area.points[:2]
    assert video.viewport == before and measure.marks[0].mark.name == "Spot 1"
    drag(qtbot, video, points(box)[0], (-0.5, 0.9))  # beside the picture
    assert all(0.0 <= value <= 1.0 for point in points(box) for value in point)
    qtbot.mouseClick(video, Qt.MouseButton.LeftButton, pos=at(video, points(line)[0]))
    assert measure._selected == line and fakes.window.live.panel.measure.selected_number == line
    qtbot.keyClick(video, Qt.Key.Key_Delete)
    assert [m.number for m in measure.marks] == [spot, box, polygon] and measure._selected == polygon
    bar = fakes.window.live.operator  # where there are no keys
    next(b for b in bar.findChildren(QToolButton) if b.accessibleName() == "Remove the chosen mark").click()
    assert [m.number for m in measure.marks] == [spot, box]
    for _ in range(3):
        qtbot.keyClick(video, Qt.Key.Key_Delete)
    assert measure.marks == []


def finger(video: VideoView, kind: QEvent.Type, where: QPoint) -> None:
    """Send what Qt makes of a touch for a widget that takes no touches."""
    held = kind is not QEvent.Type.MouseButtonRelease
    button, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    changed = none if kind is QEvent.Type.MouseMove else button
    place, on_screen = QPointF(where), QPointF(video.mapToGlobal(where))
    event = QMouseEvent(
        kind, place, on_screen, changed, button if held else none, Qt.KeyboardModifier.NoModifier, _TOUCH_SCREEN
    )
    QApplication.sendEvent(video, event)


def test_a_finger_takes_a_mark_from_farther_off_and_a_drag_beside_marks_pans(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    fakes.show(warm(60))
    measure, video = fakes.controller.measure, fakes.controller.live.video
    measure.add(SPOT)
    beside, away = at(video, SPOT.points[0]) + QPoint(17, 0), QPoint(80, 40)
    assert not video.testAttribute(Qt.WidgetAttribute.WA_AcceptTouchEvents)  # Qt makes events of the mouse of a touch
    finger(video, QEvent.Type.MouseButtonPress, beside)
    for part in (0.5, 1.0):
        finger(video, QEvent.Type.MouseMove, beside + away * part)
    finger(video, QEvent.Type.MouseButtonRelease, beside + away)
    moved = at(video, measure.marks[0].mark.points[0])
    assert (moved - at(video, SPOT.points[0]) - away).manhattanLength() <= 2
    video.zoom_by(2.0)
    place = measure.marks[0].mark.points
    drag(qtbot, video, (0.5, 0.5), (0.6, 0.6))
    assert measure.marks[0].mark.points == place and video.viewport.center_y < 0.5


def test_marks_and_alarms_of_a_rig_are_there_again_after_a_restart(fakes: Fakes, tmp_path: Path) -> None:
    fakes.start()
    fakes.show(warm(60))
    measure = fakes.controller.measure
    measure.add(SPOT)
    number = measure.add(BOX)
    measure.rename(number, "engine")
    measure.set_alarm(number, Alarm(AlarmKind.ABOVE, 80.0, event=True))
    fakes.controller.open_config(simulated_config(rig="another"))
    assert measure.marks == []  # those were of the rig before
    assert fakes.session.settings.save()
    again = GuiSettings(tmp_path / "window.json").profile("simulated").marks  # as they come from the disk
    assert again == fakes.session.settings.profile("simulated").marks
    assert [each.mark.name for each in again] == ["Spot 1", "engine"]
    fakes.start()
    fakes.show(warm(60))
    assert [(m.number, m.mark.name, m.mark.kind) for m in measure.marks] == [
        (1, "Spot 1", MarkKind.SPOT),
        (2, "engine", MarkKind.BOX),
    ]
    watch = measure.marks[1].watch
    assert watch is not None and watch.alarm == Alarm(AlarmKind.ABOVE, 80.0, event=True)
    assert measure.add(SPOT) == 3 and measure.marks[2].mark.name == "Spot 3"
    fakes.controller.live.set_scale("relative")
    measure.restore(again)
    assert measure.marks[1].watch is None  # 80 counts are not 80 degrees


def test_damaged_marks_in_the_settings_are_left_out(tmp_path: Path) -> None:
    spot = {"mark": {"kind": "spot", "points": [[0.5, 0.5]], "name": "a"}, "alarm": None, "degrees": False}
    bad: list[Any] = [
        3,
        {},
        {**spot, "mark": {"kind": "circle", "points": [[0.5, 0.5]], "name": "a"}},
        {**spot, "mark": {"kind": "box", "points": [[0.5, 0.5]], "name": "a"}},
        {**spot, "mark": {"kind": "spot", "points": [[0.5, 7]], "name": "a"}},
        {**spot, "mark": {"kind": "spot", "points": [["x", 0.5]], "name": "a"}},
        {**spot, "alarm": {"kind": "above"}},
    ]
    (tmp_path / "w.json").write_text(json.dumps({"rig/r": {"marks": [*bad, spot]}, "marks": {"/a": 5}}))
    settings = GuiSettings(tmp_path / "w.json")
    assert settings.profile("r").marks == (KeptMark(Mark(MarkKind.SPOT, ((0.5, 0.5),), "a")),)
    assert settings.recording_marks(Path("/a")) == () and settings.recording_marks(Path("/b")) is None
    for number in range(40):
        settings.set_recording_marks(Path(f"/r{number}"), ())
    assert settings.recording_marks(Path("/r0")) is None and settings.recording_marks(Path("/r39")) == ()


def test_the_hottest_and_coldest_place_are_marked(fakes: Fakes) -> None:
    fakes.start()
    fakes.show(warm(60))
    fakes.window.live.panel.measure.extremes.click()
    whole = fakes.controller.measure.whole
    assert whole is not None and (whole.minimum, whole.maximum) == (20.0, 60.0)
    hottest, coldest = fakes.controller.live.video._extremes
    assert hottest is not None and coldest is not None and hottest[1] >= 0.5 > coldest[1]


def test_what_is_looked_at_changes_the_degrees(fakes: Fakes) -> None:
    fakes.start()
    fakes.show(warm(60))
    measure = fakes.controller.measure
    measure.add(BOX)
    panel = fakes.window.live.panel.measure
    assert panel._surface.isVisibleTo(panel)
    panel.emissivity.setValue(0.8)
    reading = measure.marks[0].reading
    assert fakes.controller.live.surface == Surface(0.8, 20.0)
    assert reading is not None and 67.0 < reading.mean < 72.0
    fakes.controller.live.set_scale("relative")
    assert not panel._surface.isVisibleTo(panel) and measure.unit == "relative"


def test_an_alarm_is_seen_heard_and_marked(fakes: Fakes, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    beeps: list[bool] = []
    monkeypatch.setattr(fakes.controller.alarm_sound, "_make", lambda: None)  # as without an output
    monkeypatch.setattr(QApplication, "beep", staticmethod(lambda: beeps.append(True)))
    pipeline = fakes.start()
    fakes.show(warm(60))
    measure, panel = fakes.controller.measure, fakes.window.live.panel.measure
    measure.add(BOX)
    panel.table.selectRow(0)
    panel.alarm.setCurrentIndex(1)
    panel.alarm.activated.emit(1)  # above
    panel.event_too.click()
    panel.limit.setValue(80.0)
    assert panel.limit.suffix() == " °C"
    assert measure.marks[0].watch is not None
    assert measure.marks[0].watch.alarm == Alarm(AlarmKind.ABOVE, 80.0, sound=True, event=True)
    beeps.clear()
    pipeline.calls.clear()
    fakes.show(warm(70))
    assert fakes.controller.live.video.chips == () and beeps == []
    for celsius in (90, 91, 92):
        fakes.show(warm(celsius))
    assert [chip.text for chip in fakes.controller.live.video.chips] == ["ALARM Box 1 92.0 °C"]
    assert beeps == [True]  # it begins once
    # Events are marked on a thread: the one of 60 degrees, from before the limit was set, may come late.
    qtbot.waitUntil(lambda: any(c[0] == "mark_event" and "alarm Box 1 90.0 °C" in c[1] for c in pipeline.calls))
    fakes.show(warm(60))
    assert fakes.controller.live.video.chips == ()


def test_a_computer_without_sound_says_so_once(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    beeps: list[bool] = []
    monkeypatch.setattr(QApplication, "beep", staticmethod(lambda: beeps.append(True)))
    monkeypatch.setattr(QMediaDevices, "defaultAudioOutput", staticmethod(QAudioDevice))
    fakes.start()
    told: list[bool] = []
    fakes.controller.alarm_sound.silent.connect(lambda: told.append(True))
    for _ in range(3):
        fakes.controller.alarm_sound.play()
    assert len(beeps) == 3 and told == [True]
    assert any("no sound output" in text for text in fakes.window.live.stage.banners.texts())


@pytest.mark.qt_log_ignore("QSoundEffect", "qt.multimedia", "PulseAudio")
def test_the_sound_goes_to_the_output_and_one_that_takes_none_is_given_up(
    qapp: QApplication, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    beeps: list[bool] = []
    monkeypatch.setattr(QApplication, "beep", staticmethod(lambda: beeps.append(True)))
    monkeypatch.setattr(QAudioDevice, "isNull", lambda _: False)  # an output that may not be there when it is used
    sound, told = AlarmSound(), []
    sound.silent.connect(lambda: told.append(True))
    sound.play()
    effect = sound._effect
    assert isinstance(effect, QSoundEffect) or told == [True]
    if effect is not None:
        assert Path(effect.source().toLocalFile()).read_bytes() == alarm_wave()
        qtbot.waitUntil(lambda: bool(told) or effect.isPlaying())
    assert bool(beeps) == bool(told)
    before = len(beeps)
    sound.play()
    assert (sound.played, len(told)) == (2, 1 if told else 0) and len(beeps) == before + len(told)


def test_the_alarm_can_be_heard() -> None:
    samples = np.frombuffer(alarm_wave()[44:], "<i2")
    assert alarm_wave()[:4] == b"RIFF" and 0.5 < samples.size / 22050 < 1.0 and np.abs(samples).max() > 20000


def test_the_scale_has_degrees_and_its_ends_are_dragged(fakes: Fakes, qtbot: QtBot) -> None:
    pipeline = fakes.start()
    live, bar = fakes.controller.live, fakes.window.live.stage.scale
    fakes.show(warm(60))
    assert not bar.isVisible()  # no palette in the fused picture
    live.set_mode(ViewMode.THERMAL)
    assert bar.isVisible() and bar.texts == ("20.0 °C", "60.0 °C")
    foot, head = QPoint(bar.width() - 20, round(bar._y(24000))), QPoint(bar.width() - 20, round(bar._y(24400)))
    qtbot.mousePress(bar, Qt.MouseButton.LeftButton, pos=foot)
    qtbot.mouseMove(bar, head)
    qtbot.mouseRelease(bar, Qt.MouseButton.LeftButton, pos=head)
    qtbot.waitUntil(lambda: any(call[0] == "set_agc" for call in pipeline.calls))
    agc = [call[1] for call in pipeline.calls if call[0] == "set_agc"][-1]
    assert agc.mode is AgcMode.MANUAL and agc.manual_low == pytest.approx(24400, abs=40) and agc.manual_high == 25600
    assert bar.lock.isChecked()
    bar.lock.click()  # automatic as before
    assert live.config is not None and live.config.agc.mode is AgcMode.PLATEAU and not bar.lock.isChecked()
    live.set_scale("relative")
    assert bar.texts == ("cold", "hot")


def test_the_scale_of_heat_is_its_threshold(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    live, bar, panel = fakes.controller.live, fakes.window.live.stage.scale, fakes.window.live.panel.view
    fakes.show(warm(60))
    live.toggle_heat()
    assert bar.isVisible() and bar.texts[1] == "60.0 °C"
    bar.span_dragged.emit(25000.0, 25600.0)
    assert live.view.heat_from == 25000 and bar.texts[0] == "45.0 °C" and bar.lock.isChecked()
    assert panel._heat_from.value() == 45 and panel._heat_from.isVisibleTo(panel)
    panel._heat_from.setValue(50)
    assert live.view.heat_from == 25200
    bar.lock.click()
    assert live.view.heat_from is None and panel._heat_share.isVisibleTo(panel)


def test_the_histogram_is_in_the_same_unit(fakes: Fakes) -> None:
    fakes.start()
    fakes.show(warm(60))
    histogram = fakes.window.live.panel.agc.histogram
    fakes.qtbot.waitUntil(lambda: histogram._convert is not None)
    assert histogram._text(24000.0) == "20.0"
    fakes.controller.live.set_scale("relative")
    fakes.controller.live.pull_numbers()
    fakes.qtbot.waitUntil(lambda: histogram._convert is None)
    assert histogram._text(24000.0) == "24000"


SMALL = {
    "height": 96, "width": 128, "thermal_height": 48, "thermal_width": 64, "visible_fps": 15.0, "thermal_fps": 15.0,
}  # fmt: skip


def recorded(folder: Path) -> Path:
    """Two seconds of the simulated rig."""
    import time

    config = simulated_config(
        engine={"name": "average"}, recording={"directory": str(folder), "reserve_mb": 1}, simulation=SMALL
    )
    pipeline = LiveFusion(config)
    pipeline.start()
    try:
        pipeline.recording.start()
        end_s = time.monotonic() + 60
        while pipeline.stats.snapshot().frames["recorded"] < 25 and time.monotonic() < end_s:
            pipeline.latest.wait_newer(10**9, 0.05)
        pipeline.recording.stop(15)
    finally:
        pipeline.stop(15)
    return next(folder.glob("*.mkv"))


def test_a_recording_is_measured_plotted_written_and_photographed(
    qapp: QApplication, qtbot: QtBot, tmp_path: Path
) -> None:
    file = recorded(tmp_path / "rec")
    session = Session(qapp, tmp_path / "window.json", tmp_path)
    window, controller = session.window, session.controller
    ended: list[bool] = []
    window.closed.connect(lambda: ended.append(True))
    window.show()

    def until(condition: Any) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=60_000)

    try:
        seen = KeptMark(replace(SPOT, name="door"), Alarm(AlarmKind.ABOVE, 1.0))
        session.settings.set_profile("simulated", RigProfile(marks=(seen,)))
        controller.open_path(file)
        until(lambda: controller.playback.is_open and controller.playback.frame is not None)
        carried = controller.measure_playback.kept  # of its rig, without the alarm: that was for what happened then
        assert [(each.mark, each.alarm) for each in carried] == [(seen.mark, None)]
        controller.measure_playback.clear()
        playback, measure, page = controller.playback, controller.measure_playback, window.player
        assert playback.scale == "simulated"
        window.actions_by_name["measure"].trigger()
        assert measure.tool is MarkTool.SPOT_OR_BOX and window.actions_by_name["measure"].isChecked()
        video = page.stage.video
        middle = QPoint(video.width() // 2, video.height() // 2)
        qtbot.mouseClick(video, Qt.MouseButton.LeftButton, pos=middle)
        assert "°C" in video.marks[0].text
        reading = measure.marks[0].reading
        assert reading is not None and -20 < reading.mean < 60
        window.actions_by_name["over_time"].trigger()
        until(lambda: controller.plot.measured)
        controller.plot.tick()
        curve = page.plot.curves[0]
        assert page.plot_box.isVisible() and curve.y.size == playback.pairs and np.isfinite(curve.y).sum() > 20
        at = playback.index
        assert abs(curve.y[at] - reading.mean) < 0.01  # as measured on the picture
        page.plot.clicked.emit(float(curve.x[10]))
        until(lambda: playback.index == 10)
        controller.plot.save(tmp_path / "t.csv")
        until(lambda: (tmp_path / "t.csv").exists())
        assert len((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()) == playback.pairs + 1
        playback.set_mode(ViewMode.THERMAL)
        until(lambda: page.stage.scale.isVisible())
        page.stage.scale.span_dragged.emit(23000.0, 25000.0)
        assert playback.first.agc.mode is AgcMode.MANUAL and playback.locked
        playback.lock_span()
        assert not playback.locked
        window.actions_by_name["snapshot"].trigger()
        until(lambda: list((tmp_path / "rec" / "snapshots").glob("snapshot-*/thermal.tiff")))
        controller.show_start()
        assert measure.marks == [] and not controller.plot.shown
        controller.open_path(file)
        until(lambda: controller.playback.is_open and measure.marks)
        assert [m.mark.name for m in measure.marks] == ["Spot 1"]  # its own, not the rig's
        controller.show_start()
    finally:
        controller.end()
        until(lambda: ended)
        assert session.close()
        window.deleteLater()
        QApplication.sendPostedEvents(None, 52)  # DeferredDelete
