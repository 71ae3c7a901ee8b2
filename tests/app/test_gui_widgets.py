"""Widgets show what they are told and ask for what the user did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import QEvent, QObject, QPoint, Qt
from PyQt6.QtGui import QFont, QFontMetricsF, QKeySequence
from PyQt6.QtWidgets import QApplication, QComboBox, QWidget
from pytestqt.qtbot import QtBot
from support import gui as _support

from app.gui.common.actions import ACTIONS, shortcut_conflicts
from app.gui.common.qt_image import bgra_image, image_pixels, rgb_image
from app.gui.common.theme import Appearance, Level, apply_theme, change_theme, colours, level_colour
from app.gui.live.agc_panel import AgcPanel
from app.gui.live.status_bar import StatusBar
from app.gui.log_view import LogView
from app.gui.picture.histogram_view import HistogramView
from app.gui.picture.hud import chip_size_px, letters
from app.gui.picture.mark_painter import MarkTool, ShownMark
from app.gui.picture.video_view import VideoView
from app.gui.settings_dialog import SettingsDialog
from app.gui.widgets.banner import BannerStack
from app.gui.widgets.budget_meter import BudgetMeter
from app.gui.widgets.range_slider import RangeSlider
from app.gui.widgets.status_text import (
    Chip,
    ChipKind,
    ChipShape,
    budget_level,
    clock,
    hud_figures,
    rig_chips,
    status_figures,
)
from app.gui.widgets.view_panel import ViewPanel
from app.pipeline.state.problems import PipelineProblem, Severity
from app.pipeline.state.stats import BudgetLevel, BudgetReading, RecordingState, Stage, Stats
from app.view.measuring import Mark, MarkKind
from app.view.settings import IsothermKind, ViewMode, Viewport, ViewSettings
from fusion_core.frames import FrameFlag, Stream
from fusion_core.thermal.agc import AgcConfig, AgcMode


@pytest.fixture(autouse=True)
def dark(qapp: QApplication) -> Iterator[None]:
    apply_theme(qapp, Appearance.DARK)
    yield
    qapp.setProperty("lumitherm_scheme", None)


def shown(qtbot: QtBot, widget: QWidget, width: int = 640, height: int = 480) -> Any:
    qtbot.addWidget(widget)
    widget.resize(width, height)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def view_with_frame(qtbot: QtBot, mode: ViewMode = ViewMode.FUSED) -> VideoView:
    view: VideoView = shown(qtbot, VideoView())
    view.set_settings(ViewSettings(mode=mode))
    view.set_frame(_support.a_frame(480, 640))
    return view


def test_images_own_their_bytes() -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[1, 2] = (30, 20, 10, 255)
    image = bgra_image(pixels)
    pixels[:] = 99
    assert image.pixelColor(2, 1).getRgb()[:3] == (10, 20, 30)
    assert tuple(image_pixels(image)[1, 2, :3]) == (30, 20, 10)
    assert rgb_image(np.full((3, 5, 3), 7, np.uint8)).width() == 5


def test_a_burst_of_frames_is_painted_once_and_only_the_last_is_kept(qtbot: QtBot) -> None:
    view = view_with_frame(qtbot)
    painted: list[float] = []
    qtbot.waitUntil(lambda: not view.grab().isNull())
    view.presented.connect(painted.append)
    frames = [_support.a_frame(480, 640, value) for value in range(0, 250, 5)]
    for frame in frames:
        view.set_frame(frame)
    qtbot.waitUntil(lambda: bool(painted))
    QApplication.processEvents()
    assert len(painted) <= 2
    assert view._frame is frames[-1]


def test_zoom_pan_and_fit(qtbot: QtBot) -> None:
    view = view_with_frame(qtbot)
    view.zoom_by(4)
    assert view.viewport == Viewport(4.0)
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(300, 200))
    qtbot.mouseMove(view, QPoint(364, 248))
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=QPoint(364, 248))
    assert view.viewport.center_x == pytest.approx(0.5 - 64 / (640 * 4), abs=0.002)
    assert view.viewport.center_y == pytest.approx(0.5 - 48 / (480 * 4), abs=0.002)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.viewport.center_x > 0.5
    view.fit()
    assert view.viewport == Viewport()


def test_the_divider_is_dragged_and_the_small_picture_tapped(qtbot: QtBot) -> None:
    view = view_with_frame(qtbot, ViewMode.WIPE)
    with qtbot.waitSignal(view.wipe_moved) as moved:
        qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(321, 50))
        qtbot.mouseMove(view, QPoint(160, 50))
    assert moved.args == [pytest.approx(0.25, abs=0.01)]
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=QPoint(160, 50))
    view.set_settings(ViewSettings(mode=ViewMode.PIP))
    with qtbot.waitSignal(view.pip_tapped):
        qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(560, 420))
    with qtbot.assertNotEmitted(view.pip_tapped, wait=50):
        qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(60, 60))


def test_a_tap_measures_a_spot_and_a_drag_a_box(qtbot: QtBot) -> None:
    view = view_with_frame(qtbot)
    view.set_tool(MarkTool.SPOT_OR_BOX)
    with qtbot.waitSignal(view.mark_drawn) as spot:
        qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(320, 120))
    assert spot.args[0].kind is MarkKind.SPOT and spot.args[0].points[0] == pytest.approx((0.25, 0.5), abs=0.01)
    with qtbot.waitSignal(view.mark_drawn) as box:
        qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(64, 48))
        qtbot.mouseMove(view, QPoint(192, 144))
        qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=QPoint(192, 144))
    assert np.allclose(box.args[0].points, ((0.1, 0.1), (0.3, 0.3)), atol=0.01)
    before = view.grab().toImage()
    view.set_marks([ShownMark(box.args[0], "Box 1  20.0 °C", hottest=(0.2, 0.2))])
    assert view.grab().toImage() != before


def test_lines_are_dragged_and_polygons_tapped(qtbot: QtBot) -> None:
    view = view_with_frame(qtbot)
    left = Qt.MouseButton.LeftButton
    view.set_tool(MarkTool.LINE)
    with qtbot.waitSignal(view.mark_drawn) as line:
        qtbot.mousePress(view, left, pos=QPoint(64, 48))
        qtbot.mouseMove(view, QPoint(320, 240))
        qtbot.mouseRelease(view, left, pos=QPoint(320, 240))
    assert line.args[0].kind is MarkKind.LINE and np.allclose(line.args[0].points, ((0.1, 0.1), (0.5, 0.5)), atol=0.01)
    with qtbot.assertNotEmitted(view.mark_drawn, wait=30):
        qtbot.mouseClick(view, left, pos=QPoint(100, 100))  # a tap is no line
    view.set_tool(MarkTool.POLYGON)
    with qtbot.waitSignal(view.mark_drawn) as polygon:
        for place in ((64, 48), (320, 48), (320, 240), (66, 50)):  # the last one on the first: closed
            qtbot.mouseClick(view, left, pos=QPoint(*place))
    assert polygon.args[0].kind is MarkKind.POLYGON and len(polygon.args[0].points) == 3
    view.set_tool(None)
    with qtbot.waitSignal(view.full_screen_asked):
        qtbot.mouseDClick(view, left, pos=QPoint(100, 100))


def test_the_text_of_a_mark_grows_with_the_picture(qtbot: QtBot) -> None:
    def letters_px(width: int, height: int) -> int:
        view = VideoView()
        qtbot.addWidget(view)
        view.resize(width, height)
        view.set_frame(_support.a_frame(value=0))
        blank = view.grab().toImage()
        view.set_marks([ShownMark(Mark(MarkKind.SPOT, ((0.5, 0.2),)), "Spot 1  23.4 °C")])
        marked = view.grab().toImage()
        x = round(0.2 * width) + 40
        return sum(blank.pixel(x, y) != marked.pixel(x, y) for y in range(height))

    assert letters_px(640, 480) >= 15 and letters_px(1920, 1440) >= 2 * letters_px(640, 480)


def test_the_view_can_be_recorded_with_its_figures(qtbot: QtBot) -> None:
    view = view_with_frame(qtbot)
    taken: list[Any] = []
    view.set_figures(hud_figures(Stats().snapshot()))
    view.set_capture(taken.append)
    view.grab()
    assert taken and taken[-1].shape == (480, 640, 4)
    assert (taken[-1][12:180, 12:100, :3].max(axis=2) < 60).any()  # the shade of the figures over a grey picture


def test_a_dense_screen_gets_as_many_pixels_as_it_has(qtbot: QtBot) -> None:
    class Dense(VideoView):
        def devicePixelRatioF(self) -> float:
            return 2.0

    view: VideoView = shown(qtbot, Dense())
    view.set_settings(ViewSettings(mode=ViewMode.WIPE))
    view.set_frame(_support.a_frame(960, 1280))
    taken: list[Any] = []
    view.set_capture(taken.append)
    view.grab()
    assert taken[-1].shape == (960, 1280, 4)
    view.zoom_by(2)
    with qtbot.waitSignal(view.viewport_changed) as moved:  # panning follows the pointer in its own units
        qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(100, 100))
        qtbot.mouseMove(view, QPoint(164, 100))
    assert moved.args[0].center_x == pytest.approx(0.5 - 64 / (640 * 2), abs=0.002)
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=QPoint(164, 100))


def test_the_histogram_span_is_dragged(qtbot: QtBot) -> None:
    histogram: HistogramView = shown(qtbot, HistogramView(), 300, 132)
    counts = np.zeros(256, np.int64)
    counts[100:200] = 5
    histogram.set_histogram(counts, np.linspace(20000, 30000, 257), (24000.0, 27000.0))
    x = round(histogram._x(24000.0))
    with qtbot.waitSignal(histogram.span_chosen) as chosen:
        qtbot.mousePress(histogram, Qt.MouseButton.LeftButton, pos=QPoint(x, 50))
        qtbot.mouseMove(histogram, QPoint(x + 30, 50))
        qtbot.mouseRelease(histogram, Qt.MouseButton.LeftButton, pos=QPoint(x + 30, 50))
    assert chosen.args[0] > 24200 and chosen.args[1] == 27000
    before = histogram.span
    qtbot.keyClick(histogram, Qt.Key.Key_Left)
    assert histogram.span[0] < before[0]


def test_dragging_the_span_asks_for_a_manual_agc_and_back(qtbot: QtBot) -> None:
    panel: AgcPanel = shown(qtbot, AgcPanel())
    panel.show_agc(AgcConfig(mode=AgcMode.CLAHE, clahe_clip=3.0))
    with qtbot.waitSignal(panel.agc_chosen) as chosen:
        panel.histogram.span_chosen.emit(1000, 2000)
    assert (chosen.args[0].mode, chosen.args[0].manual_low, chosen.args[0].manual_high) == (AgcMode.MANUAL, 1000, 2000)
    with qtbot.waitSignal(panel.agc_chosen) as back:
        panel._auto.click()
    assert back.args[0].mode is AgcMode.CLAHE and back.args[0].clahe_clip == 3.0


def test_isotherm_limits_are_given_in_the_scale_in_use(qtbot: QtBot) -> None:
    panel: ViewPanel = shown(qtbot, ViewPanel())
    panel.show_scale("simulated")
    asked: list[dict[str, Any]] = []
    panel.view_asked.connect(asked.append)
    panel._isotherm.setCurrentIndex(panel._isotherm.findData(IsothermKind.ABOVE))
    panel._high.setValue(30)
    assert asked[-1]["isotherm"].high == 24400
    panel.show_scale("relative")
    panel._high.setValue(25000)
    assert asked[-1]["isotherm"].high == 25000


def test_banners_come_go_and_are_never_more_than_four(qtbot: QtBot) -> None:
    stack: BannerStack = shown(qtbot, BannerStack(), 500, 300)
    problems = [PipelineProblem(datetime.now(UTC), Severity.ERROR, f"s{n}", f"text {n}", "do this") for n in range(5)]
    stack.show_problems(problems)
    assert stack.texts() == ["Text 0", "Text 1", "Text 2", "2 more: see the log"]
    stack.show_notice("saved")
    assert stack.texts()[-1] == "Saved"
    stack.show_problems([])
    stack.show_notice("")
    assert stack.isHidden()


def test_the_log_can_be_copied(qtbot: QtBot) -> None:
    log: LogView = shown(qtbot, LogView())
    log.show_problems([PipelineProblem(datetime.now(UTC), Severity.WARNING, "thermal", "lost", "plug it in")])
    log._copy()
    clipboard = QApplication.clipboard()
    assert clipboard is not None and "lost  → plug it in" in clipboard.text()


def test_status_bar_and_hud_say_what_the_statistics_say(qtbot: QtBot) -> None:
    now = [0]
    stats = Stats(lambda: now[0])
    for _ in range(20):
        now[0] += 50_000_000
        stats.frame(Stage.FUSED)
    stats.drop("no partner", 3)
    stats.engine("pyramid", "the network would not start")
    stats.recording(RecordingState.RECORDING, "x.mkv", 65.0, 300.0)
    stats.budget(BudgetReading(BudgetLevel.AMBER, 8.0, 7.0, 5.0, 2.0, None, notes=("shift: too few outlines",)))
    bar: StatusBar = shown(qtbot, StatusBar(), 1000, 60)
    bar.show_snapshot(stats.snapshot())
    assert bar.text_of("fps").startswith("Rate: 20.0")
    assert bar.text_of("drops") == "Drops: 3"
    assert bar.text_of("recording") == "rec: 0:01:05"
    assert "7.0 of 8 px" in bar.meter.accessibleDescription() and "too few" in bar.meter.accessibleDescription()
    figures = {figure.key: figure for figure in hud_figures(stats.snapshot(), frozen=True)}
    assert figures["budget"].level is Level.CAUTION and figures["engine"].level is Level.CAUTION
    assert figures["disk"].level is Level.BAD and "frozen" in figures
    assert [figure.key for figure in figures.values() if figure.level is Level.RECORDING] == ["recording"]
    stats.recording(RecordingState.OFF)
    bar.show_snapshot(stats.snapshot())
    assert bar.text_of("recording") == ""
    meter: BudgetMeter = shown(qtbot, BudgetMeter(), 240, 34)
    meter.set_reading(BudgetReading(BudgetLevel.RED, 8.0, 12.0, 5.0, 2.0, 5.0))
    assert not meter.grab().isNull() and budget_level(None) is Level.NEUTRAL
    assert clock(3723) == "1:02:03" and clock(400_000) == "4 d 15 h"


def test_states_are_told_in_words_shapes_and_red_only_for_recording() -> None:
    stats = Stats()
    assert rig_chips(stats.snapshot()) == []
    stats.recording(RecordingState.RECORDING, "x.mkv", 65.0, 300.0)
    stats.engine("pyramid", "tiny is being built")
    stats.camera_state(Stream.VISIBLE, "streaming")
    stats.camera_state(Stream.THERMAL, "ended")
    chips = rig_chips(stats.snapshot(), frozen=True, building_s=34.6)
    assert [chip.text for chip in chips] == [
        "REC 0:01:05",
        "DISK 0:05:00 LEFT",
        "FROZEN",
        "FALLBACK: preparing the network, 34 s",
    ]
    assert [chip.kind is ChipKind.RECORDING for chip in chips] == [True, False, False, False]
    assert len({chip.shape for chip in chips}) == len(chips)
    assert "thermal ended" in {figure.key: figure.value for figure in status_figures(stats.snapshot())}["cameras"]
    stats.camera_state(Stream.VISIBLE, "lost")
    stats.recording(RecordingState.PAUSED, "x.mkv", 65.0, 0.0)
    texts = [chip.text for chip in rig_chips(stats.snapshot())]
    assert texts == ["DISK FULL, NOT RECORDING", "NO CAMERA", "FALLBACK: the network does not run"]
    stats.recording(RecordingState.FAILED)
    assert rig_chips(stats.snapshot())[0].text == "RECORDING FAILED"


def test_rate_and_skew_do_not_stay_white() -> None:
    now_ns = [0]
    stats = Stats(clock_ns=lambda: now_ns[0])
    for number in range(60):
        now_ns[0] = number * 33_000_000
        stats.frame(Stage.VISIBLE)
        stats.frame(Stage.THERMAL)
        stats.skew(34_000_000)
        if number % 20 == 0:
            stats.frame(Stage.FUSED)  # 1.5 a second
    levels = {figure.key: figure.level for figure in status_figures(stats.snapshot())}
    assert levels["fps"] is Level.CAUTION and levels["skew"] is Level.CAUTION
    levels = {figure.key: figure.level for figure in hud_figures(stats.snapshot())}
    assert levels["fps"] is Level.CAUTION and levels["skew"] is Level.CAUTION


def test_nothing_is_recorded_without_pictures() -> None:
    stats = Stats()
    stats.recording(RecordingState.RECORDING, "a.mkv", 0.0)
    assert [chip.text for chip in rig_chips(stats.snapshot())] == ["REC 0:00:00"]
    for stream in Stream:
        stats.camera_state(stream, "lost")
    chips = rig_chips(stats.snapshot())
    assert [chip.text for chip in chips] == ["NOT RECORDING: no pictures", "NO CAMERA"]
    assert all(chip.kind is ChipKind.TROUBLE for chip in chips)


@pytest.mark.parametrize(
    ("flags", "text"),
    [(FrameFlag.NONE, ""), (FrameFlag.THERMAL_ONLY, "THERMAL ONLY"), (FrameFlag.VISIBLE_ONLY, "VISIBLE ONLY")],
)
@pytest.mark.parametrize("mode", [ViewMode.FUSED, ViewMode.QUAD])
def test_a_picture_of_one_camera_is_marked_while_it_is_shown(
    qtbot: QtBot, mode: ViewMode, flags: FrameFlag, text: str
) -> None:
    view = view_with_frame(qtbot, mode)
    plain = view.grab().toImage()
    frame = _support.a_frame(480, 640)
    view.set_frame(replace(frame, pair=replace(frame.pair, flags=flags)))
    assert [chip.text for chip in view.chips] == ([text] if text else [])
    corner = view.grab().toImage().pixelColor(640 - 17, 16)  # inside the chip's right upper corner
    assert (corner == plain.pixelColor(640 - 17, 16)) is not bool(text)
    assert frame.pair.thermal is not None
    later = replace(frame.pair.thermal, timestamp_ns=frame.pair.timestamp_ns + 1_000_000_000)
    view.set_frame(replace(frame, pair=replace(frame.pair, thermal=later)))
    assert view.chips == ()


def test_chips_grow_with_the_picture_and_always_fit(qtbot: QtBot) -> None:
    chips = [Chip("FALLBACK: preparing the network, 34 s", ChipShape.RING)]
    assert chip_size_px(chips, 1920, 1080) == 36
    assert chip_size_px(chips, 3840, 2160) == 72
    for width, height in ((240, 180), (600, 480), (480, 1080)):
        size = chip_size_px(chips, width, height)
        metrics = QFontMetricsF(letters(size, QFont.Weight.Bold))
        assert metrics.horizontalAdvance(chips[0].text) + 2.5 * size <= width - 12


class PaintCounter(QObject):
    """How often what it filters was painted."""

    count = 0

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        self.count += event is not None and event.type() == QEvent.Type.Paint
        return False


def test_a_window_goes_on_painting_after_the_theme_was_changed_in_it(qapp: QApplication, qtbot: QtBot) -> None:
    main = shown(qtbot, QWidget())
    dialog = SettingsDialog({}, Appearance.DARK, "", main)
    changed: list[Appearance] = []
    dialog.appearance_chosen.connect(lambda chosen: change_theme(qapp, chosen, lambda: changed.append(chosen)))
    dialog.show()
    qtbot.waitExposed(dialog)
    box = dialog.findChildren(QComboBox)[0]
    box.showPopup()  # by hand: its closing asks for a painting while the theme changes
    choices, entry = box.view(), box.findText("Light")
    assert choices is not None
    place = choices.visualRect(choices.model().index(entry, 0)).center()  # type: ignore[union-attr]
    qtbot.mouseClick(choices.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: changed == [Appearance.LIGHT])
    QApplication.processEvents()
    counter = PaintCounter()
    dialog.tabs.installEventFilter(counter)
    dialog.tabs.setCurrentIndex(1)
    qtbot.waitUntil(lambda: counter.count > 0)


def test_shortcuts_are_edited_and_conflicts_refused(qtbot: QtBot) -> None:
    assert shortcut_conflicts({}) == []
    dialog: SettingsDialog = shown(qtbot, SettingsDialog({}, Appearance.DARK))
    with qtbot.waitSignal(dialog.shortcuts_chosen) as chosen:
        dialog.edit_of("snapshot").setKeySequence(QKeySequence("Ctrl+P"))
    assert chosen.args == [{"snapshot": "Ctrl+P"}]
    with qtbot.assertNotEmitted(dialog.shortcuts_chosen, wait=50):
        dialog.edit_of("freeze").setKeySequence(QKeySequence("R"))
    assert "Record" in dialog.conflict.text()
    with qtbot.waitSignal(dialog.shortcuts_chosen) as reset:
        dialog._reset()
    assert reset.args == [{}]


def test_every_action_has_a_key_and_a_text() -> None:
    assert all(spec.key and spec.text and spec.icon for spec in ACTIONS)
    assert len({spec.name for spec in ACTIONS}) == len(ACTIONS)


def test_light_and_dark_differ_and_keep_the_contrast(qapp: QApplication) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for appearance in (Appearance.LIGHT, Appearance.DARK):
        apply_theme(qapp, appearance)
        scheme = colours()
        assert scheme.dark == (appearance is Appearance.DARK)
        assert contrast(scheme.text, scheme.surface) >= 7
        for name in ("dim", "accent", "good", "caution", "bad", "recording"):
            assert contrast(getattr(scheme, name), scheme.surface) >= 4.5, (appearance, name)
        assert contrast(scheme.on_accent, scheme.accent) >= 4.5
        hues = {level: level_colour(level).hue() for level in Level}
        red = [level for level, hue in hues.items() if min(hue, 360 - hue) < 20 and level is not Level.NEUTRAL]
        assert red == [Level.RECORDING], hues


def test_a_range_is_dragged_and_told_only_when_the_user_does_it(qtbot: QtBot) -> None:
    slider: RangeSlider = shown(qtbot, RangeSlider("Range"), 300, 40)
    chosen: list[tuple[int, int]] = []
    slider.chosen.connect(lambda low, high: chosen.append((low, high)))
    slider.show_ends(0, 100, 0, 100)
    assert slider.ends == (0, 100) and chosen == []
    inner = slider._slider
    y = inner.height() // 2
    qtbot.mousePress(inner, Qt.MouseButton.LeftButton, pos=QPoint(inner.width() - 6, y))
    qtbot.mouseMove(inner, QPoint(inner.width() // 2, y))
    qtbot.mouseRelease(inner, Qt.MouseButton.LeftButton, pos=QPoint(inner.width() // 2, y))
    assert chosen and chosen[-1] == slider.ends
    assert slider.ends[0] == 0 and 35 < slider.ends[1] < 65
    slider.show_ends(5, 250, 0, 100)  # the scale grows with it
    assert slider.ends == (5, 250)


def test_the_mark_of_a_single_picture_stays_long_enough_to_be_read(qtbot: QtBot) -> None:
    def at(milliseconds: int, flags: FrameFlag) -> Any:
        frame = _support.a_frame(480, 640)
        assert frame.pair.thermal is not None
        thermal = replace(frame.pair.thermal, timestamp_ns=milliseconds * 1_000_000)
        return replace(frame, pair=replace(frame.pair, thermal=thermal, flags=flags))

    view = view_with_frame(qtbot)
    seen = []
    for milliseconds, flags in ((5000, FrameFlag.NONE), (5033, FrameFlag.THERMAL_ONLY), (5066, FrameFlag.NONE),
                                (5600, FrameFlag.NONE), (5800, FrameFlag.NONE), (90_000, FrameFlag.NONE)):  # fmt: skip
        view.set_frame(at(milliseconds, flags))
        seen.append([chip.text for chip in view.chips])
    assert seen == [[], ["THERMAL ONLY"], ["THERMAL ONLY"], ["THERMAL ONLY"], [], []]
