"""The operator's view: few large controls that come and go, plain words, and no more clicks than needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PyQt6.QtCore import QEvent, QPoint, Qt
from PyQt6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot
from support.gui import Fakes, a_frame

from app.gui.widgets.plain_words import FORBIDDEN, in_plain_words
from app.pipeline.state.problems import PipelineProblem, Severity
from app.pipeline.state.stats import RecordingState
from app.view.measuring import Mark, MarkKind
from app.view.settings import ViewMode
from fusion_core.frames import FrameFlag, Stream


@pytest.fixture
def fakes(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Fakes]:
    fakes = Fakes(qapp, tmp_path, qtbot)
    fakes.controller.set_expert(False)
    yield fakes
    fakes.close()


def test_ten_controls_at_most_each_for_a_finger(fakes: Fakes) -> None:
    fakes.start()
    fakes.show()
    page = fakes.window.live
    page.operator.wake()
    fakes.qtbot.waitUntil(lambda: page.operator.height() > 44 and page.operator.controls[0].height() >= 44)
    buttons = [b for b in page.findChildren(QAbstractButton) if b.isVisible() and b is not page.stage.scale.lock]
    assert set(page.operator.controls) == set(buttons) and len(buttons) <= 10
    assert all(min(b.width(), b.height()) >= 44 for b in buttons)
    assert all(b.accessibleName() for b in buttons)
    video = page.stage.video
    assert video.size() == page.size()  # edge to edge
    player = fakes.window.player
    fakes.controller._show_picture(player)
    player.operator.wake()
    shown = [b for b in player.findChildren(QAbstractButton) if b.isVisible()]
    assert len(shown) + 1 <= 10 and all(min(b.width(), b.height()) >= 44 for b in shown)  # and the time line


def test_controls_go_after_seconds_and_come_back(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    fakes.show()
    bar, video = fakes.window.live.operator, fakes.window.live.stage.video
    bar._timer.setInterval(30)
    bar.wake()
    qtbot.waitUntil(lambda: bar.isHidden())
    qtbot.mouseMove(video, QPoint(40, 40))
    qtbot.mouseMove(video, QPoint(80, 60))
    assert bar.isVisible()
    fakes.window.actions_by_name["measure"].trigger()
    qtbot.wait(120)
    assert bar.isVisible() and bar.tools.isVisible()  # not in the middle of something
    fakes.window.actions_by_name["measure"].trigger()
    qtbot.waitUntil(lambda: bar.isHidden())
    fakes.window.set_full_screen(True)
    qtbot.mouseMove(video, QPoint(40, 40))
    qtbot.mouseMove(video, QPoint(90, 60))
    assert bar.isVisible()  # in full screen as well
    fakes.window.set_full_screen(False)


def test_experts_see_everything_and_it_is_remembered(fakes: Fakes) -> None:
    fakes.start()
    page, actions = fakes.window.live, fakes.window.actions_by_name
    assert not page.bar.isVisible() and not page.panel.isVisible() and not page.status.isVisible()
    assert not actions["timing"].isEnabled() and not actions["compare"].isEnabled()
    actions["expert"].trigger()
    assert page.bar.isVisible() and page.panel.isVisible() and page.status.isVisible()
    assert not page.operator.isVisible() and actions["timing"].isEnabled()
    assert fakes.session.settings.expert
    actions["expert"].trigger()
    assert not fakes.session.settings.expert and not page.bar.isVisible()


def test_strength_and_view_from_the_bar(fakes: Fakes) -> None:
    pipeline = fakes.start()
    bar = fakes.window.live.operator
    bar.strength.slider.setValue(60)
    assert fakes.controller.live.strength == 0.6 and pipeline.fusion.strength == 0.6
    menu = next(button.menu() for button in bar.controls if button.accessibleName() == "View")
    assert menu is not None and len(menu.actions()) == len(ViewMode)
    menu.actions()[2].trigger()
    assert fakes.controller.live.view.mode is ViewMode.THERMAL


def texts_of(widget: QWidget) -> list[str]:
    found = []
    for child in [widget, *widget.findChildren(QWidget)]:
        if child.isVisible():
            words = child.text() if isinstance(child, QAbstractButton | QLabel) else ""
            found += [words, child.toolTip(), child.accessibleName()]
    return [text for text in found if text]


def test_an_operator_reads_no_word_of_those_who_build_such_things(fakes: Fakes) -> None:
    pipeline = fakes.start()
    now = datetime.now(UTC)
    pipeline.errors = (
        PipelineProblem(now, Severity.WARNING, "engine", "auto:small is being built; pyramid fuses", "choose tiny"),
        PipelineProblem(now, Severity.ERROR, "recording", "skew of 80 ms: no pairs to record"),
        PipelineProblem(now, Severity.ERROR, "thermal", "the thermal camera is lost", "check its cable"),
    )
    pipeline.stats.engine("ncc-pyramid", "auto:small is being built")
    pipeline.stats.recording(RecordingState.PAUSED)
    pipeline.stats.camera_state(Stream.VISIBLE, "lost")
    pipeline.engine.build_s, pipeline.engine.build_progress = 12.0, 0.4
    live = fakes.controller.live
    live.toggle_heat()
    live.set_scale("relative")
    alone = a_frame()
    fakes.show(replace(alone, pair=replace(alone.pair, flags=FrameFlag.VISIBLE_ONLY)))
    fakes.controller.measure.add(Mark(MarkKind.BOX, ((0.1, 0.1), (0.5, 0.5))))
    page = fakes.window.live
    page.operator.wake()
    page.health_lights[1].click()
    texts = texts_of(page) + texts_of(page.health_lights[1].card)
    texts += [chip.text for chip in page.stage.video.chips] + [mark.text for mark in page.stage.video.marks]
    texts += page.stage.scale.texts
    assert "FALLBACK: preparing the network, 40 %" in texts and "The thermal camera is lost" in texts
    assert any("until the network is ready" in text for text in texts)
    assert not [text for text in texts if FORBIDDEN.search(text)]
    page.health_lights[1].card.hide()
    fakes.controller.set_expert(True)
    assert any("pyramid" in text for text in page.stage.banners.texts())  # experts read it as it is


def test_what_an_operator_understands_is_left_as_it_is() -> None:
    plain = PipelineProblem(datetime.now(UTC), Severity.ERROR, "thermal", "camera lost", "check the cable")
    assert in_plain_words(plain) == ("camera lost", "check the cable")


def test_a_touch_wakes_the_controls(fakes: Fakes, qtbot: QtBot) -> None:
    fakes.start()
    fakes.show()
    bar, video = fakes.window.live.operator, fakes.window.live.stage.video
    bar.setVisible(False)
    qtbot.mouseClick(video, Qt.MouseButton.LeftButton, pos=QPoint(50, 50))  # a tap comes as one
    assert bar.isVisible()
    QApplication.sendEvent(bar, QEvent(QEvent.Type.Leave))
    assert bar.isVisible()


def test_recording_shows_in_full_screen_without_figures_or_controls(fakes: Fakes) -> None:
    pipeline = fakes.start()
    pipeline.stats.recording(RecordingState.RECORDING, "a.mkv", 65.0)
    fakes.show()
    fakes.window.set_full_screen(True)
    fakes.window.live.operator.setVisible(False)
    video = fakes.window.live.stage.video
    assert [chip.text for chip in video.chips] == ["REC 0:01:05"]
    picture = video.grab().toImage()
    red = [picture.pixelColor(x, 24) for x in range(picture.width() - 200, picture.width())]
    assert any(colour.red() > 180 and colour.green() < 60 for colour in red)
    fakes.window.set_full_screen(False)
