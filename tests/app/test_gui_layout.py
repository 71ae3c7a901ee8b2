"""Every page at every size and in both languages: no label is cut, nothing lies outside, all is translated."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PyQt6.QtCore import QPoint, QRect, QSize, Qt, QTranslator
from PyQt6.QtGui import QFontMetrics
from PyQt6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QStyle,
    QStyleOptionButton,
    QStyleOptionComboBox,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot
from support.gui import Fakes

import app.gui
from app.gui.common.qt_application import fit_on_screen
from app.gui.common.settings import GuiSettings
from app.gui.widgets.health import Health, HealthWatch
from app.gui.widgets.name_label import NameLabel
from app.gui.widgets.sections import Section
from app.pipeline.state.problems import PipelineProblem, Severity
from app.pipeline.state.stats import BudgetLevel, BudgetReading, RecordingState
from app.rig.setup_assistant import SourceChoice, list_profiles
from app.view.measuring import Mark, MarkKind
from fusion_core.frames import Stream

SIZES = ((720, 400), (800, 480), (1024, 600), (1280, 800), (1366, 768), (1920, 1080))
DENSE = (1920, 1080)  # logical size of 3840 x 2160 at scale 2
SLACK_PX = 1


@pytest.fixture(params=["en", "de"])
def fakes(request: pytest.FixtureRequest, qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Fakes]:
    settings = GuiSettings(tmp_path / "window.json")
    settings.language = request.param
    assert settings.save()
    fakes = Fakes(qapp, tmp_path, qtbot)
    assert fakes.session.language == request.param
    yield fakes
    fakes.close()
    for translator in qapp.findChildren(QTranslator):
        qapp.removeTranslator(translator)
        translator.setParent(None)


def scrolled(widget: QWidget) -> bool:
    """Whether it lies in something that scrolls: then it need not be in sight."""
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            return True
        parent = parent.parentWidget()
    return False


def room_and_need(widget: QWidget) -> tuple[int, int, int, int]:
    """(width, height) that there are for the text, and that it needs."""
    metrics = QFontMetrics(widget.font())
    if isinstance(widget, QLabel):
        area = widget.contentsRect()
        if widget.wordWrap():
            flags = Qt.TextFlag.TextWordWrap
            need = metrics.boundingRect(QRect(0, 0, area.width(), 10_000), int(flags), widget.text())
            return area.width(), area.height(), need.width(), need.height()
        lines = widget.text().split("\n")
        return (
            area.width(),
            area.height(),
            max(metrics.horizontalAdvance(line) for line in lines),
            metrics.height() * len(lines),
        )
    if isinstance(widget, QPushButton):
        option = QStyleOptionButton()
        widget.initStyleOption(option)
        style = widget.style()
        assert style is not None
        area = style.subElementRect(QStyle.SubElement.SE_PushButtonContents, option, widget)
        icon = 0 if widget.icon().isNull() else widget.iconSize().width() + 4
        return area.width(), widget.height(), metrics.horizontalAdvance(widget.text()) + icon, metrics.height()
    beside = isinstance(widget, QToolButton) and widget.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonTextBesideIcon
    icon = widget.iconSize().width() + 12 if beside and isinstance(widget, QToolButton) else 0
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return widget.width(), widget.height(), metrics.horizontalAdvance(text) + icon, metrics.height()


def room_in_choice(box: QComboBox) -> tuple[int, int]:
    """Width that the chosen line needs, and that there is left of the arrow."""
    option = QStyleOptionComboBox()
    box.initStyleOption(option)
    style = box.style()
    assert style is not None
    part = QStyle.SubControl.SC_ComboBoxEditField
    room = style.subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, box).width()
    icon = 0 if box.itemIcon(box.currentIndex()).isNull() else box.iconSize().width() + 4
    return QFontMetrics(box.font()).horizontalAdvance(box.currentText()) + icon, room


def faults(window: QWidget) -> list[str]:
    """What is cut: labels and buttons without room for their text, and whatever lies outside the window."""
    found = [
        f"squeezed: {type(page).__name__} needs {page.minimumSizeHint().width()}x{page.minimumSizeHint().height()}"
        for pages in window.findChildren(QStackedWidget)
        if (page := pages.currentWidget()) is not None and page.isVisible()
        if page.minimumSizeHint().boundedTo(page.size()) != page.minimumSizeHint()
    ]
    for area in window.findChildren(QScrollArea):  # up and down is enough
        inner, view = area.widget(), area.viewport()
        if area.isVisible() and inner is not None and view is not None and inner.width() > view.width():
            found.append(f"scrolls sideways: {type(area).__name__}: {inner.width()} px in {view.width()}")
    for widget in window.findChildren(QWidget):
        if not widget.isVisible() or isinstance(widget, NameLabel):  # the name of a rig gives way, and has a tool tip
            continue
        if not isinstance(widget, QLabel | QAbstractButton | QComboBox):
            continue
        text = widget.currentText() if isinstance(widget, QComboBox) else widget.text()
        where = f"{type(widget).__name__} {text[:50]!r} in {type(widget.parentWidget()).__name__}"
        if not scrolled(widget):
            corner = widget.mapTo(window, QPoint(0, 0))
            place = QRect(corner, widget.size())
            if not window.rect().adjusted(-SLACK_PX, -SLACK_PX, SLACK_PX, SLACK_PX).contains(place):
                found.append(f"outside: {where} at {place.getRect()} of {window.width()}x{window.height()}")
        if isinstance(widget, QComboBox) and text and not widget.isEditable():
            need, room = room_in_choice(widget)
            if need > room + SLACK_PX:
                found.append(f"cut: {where}: {need} px in {room}")
        shows_text = bool(text) and not isinstance(widget, QComboBox)
        if isinstance(widget, QToolButton):
            shows_text = shows_text and widget.toolButtonStyle() is not Qt.ToolButtonStyle.ToolButtonIconOnly
        if isinstance(widget, QLabel) and widget.textFormat() is Qt.TextFormat.RichText:
            shows_text = False
        if shows_text:
            width, height, need_width, need_height = room_and_need(widget)
            if need_width > width + SLACK_PX or need_height > height + SLACK_PX:
                found.append(f"cut: {where}: {need_width}x{need_height} in {width}x{height}")
    return found


def settle(fakes: Fakes, size: tuple[int, int]) -> None:
    fakes.window.resize(*size)
    fakes.qtbot.waitUntil(lambda: (fakes.window.width(), fakes.window.height()) == size)
    for _ in range(4):
        QApplication.processEvents()


def busy_rig(fakes: Fakes) -> None:
    """Everything that the live page can say at once."""
    pipeline = fakes.start()
    pipeline.errors = (
        PipelineProblem(
            fakes_now(), Severity.ERROR, "thermal", "The thermal camera is lost", "check its cable, it is reopened"
        ),
    )
    pipeline.stats.recording(RecordingState.RECORDING, "a.mkv", 4000.0, 300.0)
    pipeline.stats.budget(BudgetReading(BudgetLevel.RED, 8.0, 12.0, 4.0, 4.0, 4.0))
    pipeline.stats.camera_state(Stream.THERMAL, "lost")
    pipeline.stats.ffc(True)
    pipeline.stats.engine("openvino-bf16:small", "auto:small is being built")
    fakes.show()
    fakes.controller.measure.add(Mark(MarkKind.LINE, ((0.1, 0.1), (0.5, 0.5))))
    fakes.controller.measure.add(Mark(MarkKind.BOX, ((0.1, 0.1), (0.5, 0.5))))


def fakes_now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def test_no_text_is_cut_on_any_page_at_any_size(fakes: Fakes) -> None:
    window, controller = fakes.window, fakes.controller
    choice = SourceChoice("v4l2:serial=0123456789", "FLIR Boson 640", "by its serial number (/dev/video2)", None)
    wrong: list[str] = []

    def look(name: str, size: tuple[int, int], part: QWidget | None = None) -> None:
        wrong.extend(f"{name} {size[0]}x{size[1]}: {fault}" for fault in faults(part or window))

    controller.set_expert(True)
    for size in (*SIZES, DENSE):
        window.show_page(window.start_page)
        window.start_page.show_recent([Path("/home/somebody/rigs/roof.yaml")], [Path("/home/somebody/Videos/a.mkv")])
        window.start_page.show_cameras([choice])
        settle(fakes, size)
        look("start", size)
        window.show_page(window.setup)
        window.setup.show_sources([choice])
        window.setup.show_profiles(list_profiles())
        settle(fakes, size)
        look("assistant", size)
        for page in window.calibration._pages:
            window.show_page(window.calibration)
            window.calibration.show_phase(page)
            window.calibration.show_practice(True)
            settle(fakes, size)
            look(f"calibration {page}", size)
        window.calibration.show_practice(False)
    busy_rig(fakes)
    for size in (*SIZES, DENSE):
        controller._show_picture(window.live)
        for expert in (True, False):
            controller.set_expert(expert)
            for section in window.live.panel.findChildren(Section):
                section.set_open(True)
            fakes.controller.live.pull_numbers()
            window.live.operator.wake()
            for health in (Health(), HealthWatch().judge(fakes.made[-1].stats.snapshot())):
                for light in window.live.health_lights:
                    light.show_health(health)
                settle(fakes, size)
            light = window.live.health_lights[0 if expert else 1]
            if light.width() < light.minimumSizeHint().width():
                wrong.append(f"live {size[0]}x{size[1]}, expert={expert}: the health light is cut: {light.text()}")
            look(f"live, expert={expert}", size)
            inner, view = window.live.panel.widget(), window.live.panel.viewport()
            if expert and inner is not None and view is not None and inner.minimumSizeHint().width() > view.width():
                wide = {s: s.minimumSizeHint().width() for s in window.live.panel.findChildren(Section)}
                wrong.append(f"panel {size[0]}x{size[1]}: {max(wide, key=lambda s: wide[s])} of {view.width()} px")
        controller._show_picture(window.player)
        for expert in (False, True):
            controller.set_expert(expert)
            window.player.show_plot(True)
            window.player.operator.wake()
            settle(fakes, size)
            look(f"playback, expert={expert}", size)
        window.player.show_plot(False)
    assert not wrong, "\n".join(wrong[:60])


def test_every_action_of_the_bars_is_in_sight_or_in_a_menu_of_theirs(fakes: Fakes) -> None:
    busy_rig(fakes)
    window, controller = fakes.window, fakes.controller
    controller.set_expert(True)
    for page in (window.live, window.player):
        controller._show_picture(page)
        offered = []
        for size in ((1920, 1080), (1024, 600), (720, 400), (1920, 1080)):
            settle(fakes, size)
            shown = [button for button in page.bar.findChildren(QToolButton) if button.isVisible()]
            room = page.bar.rect().adjusted(0, 0, SLACK_PX, 0)
            assert all(room.contains(button.geometry()) for button in shown), size
            actions = [button.defaultAction() for button in shown if button.menu() is None]
            menus = [menu for button in shown if (menu := button.menu()) is not None]
            actions += [action for menu in menus for action in menu.actions()]
            offered.append({action.text() for action in actions if action is not None})
        assert len(offered[0]) > 15 and all(texts == offered[0] for texts in offered)
        assert not menus, "there is room for all again"


@pytest.mark.parametrize("size", [(800, 480), (1024, 600)])
def test_windows_beside_it_open_no_larger_than_the_screen(
    fakes: Fakes, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = fakes.window.screen()
    assert screen is not None
    monkeypatch.setattr(type(screen), "availableSize", lambda _: QSize(*size))
    window = QWidget()
    for wanted in ((640, 620), (1280, 900), (100, 100)):
        fit_on_screen(window, *wanted)
        assert window.width() <= min(size[0], wanted[0]) and window.height() <= min(size[1], wanted[1])
    assert (window.width(), window.height()) == (100, 100)
    window.deleteLater()


def test_the_first_window_fits_the_screen_and_cuts_nothing(fakes: Fakes) -> None:
    """As it opens, without a size set: nothing else makes the cards ask their words again."""
    screen = fakes.window.screen()
    assert screen is not None
    room = screen.availableSize().expandedTo(fakes.window.minimumSize())
    assert fakes.window.width() <= room.width() and fakes.window.height() <= room.height()
    fakes.window.setStyleSheet("QLabel { font-size: 16px }")  # larger words in cards that keep their width
    for _ in range(4):
        QApplication.processEvents()
    start = fakes.window.start_page
    cards = [card for card in start.findChildren(QPushButton) if card.property("card")]
    assert len({card.height() for card in cards}) == 1
    assert not faults(start), "\n".join(faults(start))


def test_dialogs_fit_the_smallest_screen(fakes: Fakes) -> None:
    fakes.window.resize(800, 480)
    fakes.controller.show_settings()
    dialog = fakes.window.settings_dialog
    assert dialog is not None
    dialog.resize(dialog.minimumSizeHint())
    QApplication.processEvents()
    assert dialog.minimumSizeHint().height() <= 400 and dialog.minimumSizeHint().width() <= 760
    assert not faults(dialog), "\n".join(faults(dialog))
    dialog.close()
    fakes.window.help.show_keys({})
    QApplication.processEvents()
    assert fakes.window.rect().contains(fakes.window.help._card.geometry())
    assert not [fault for fault in faults(fakes.window) if "Help" in fault]
    fakes.window.help.hide()


def test_the_list_of_keys_can_be_scrolled_where_it_is_longer_than_the_window(fakes: Fakes) -> None:
    fakes.window.resize(1024, 600)
    fakes.window.help.show_keys({})
    QApplication.processEvents()
    areas = fakes.window.help.findChildren(QScrollArea)
    assert areas and areas[0].widget() is not None
    assert areas[0].widget().width() <= areas[0].viewport().width()  # type: ignore[union-attr]
    fakes.window.help.hide()


# ---------------------------------------------------------------------------------------------- untranslated texts

SHOWN_BY = {
    "setText", "setToolTip", "setTitle", "setWindowTitle", "setPlaceholderText", "setAccessibleName", "addRow",
    "setAccessibleDescription", "addTab", "setInformativeText", "addButton", "show_notice", "set_message", "QLabel",
    "QPushButton", "CheckBox", "icon_button", "setFormat", "setSuffix",
}  # fmt: skip
UNITS = r" ?(°C|px|ms|fps|K|Hz|MB|s|m|%)"
NO_WORD = re.compile(rf"^[^A-Za-z]*$|^{UNITS}$|^(A|B|V|T|Lumitherm)$")


def untranslated(source: Path) -> list[str]:
    """Texts that go to a widget as they stand in the source."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called not in SHOWN_BY:
            continue
        for argument in node.args[1 if called == "icon_button" else 0 :]:  # the first one names the icon
            parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            for part in parts:
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and not NO_WORD.match(part.value):
                    found.append(f"{source.name}:{part.lineno}: {called}({part.value!r})")
    return found


def test_no_text_is_shown_as_it_stands_in_the_source() -> None:
    folder = Path(app.gui.__file__).parent
    found = [fault for path in sorted(folder.rglob("*.py")) for fault in untranslated(path)]
    assert not found, "\n".join(found)


def test_the_look_for_untranslated_texts_finds_one(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text('label.setText("Record now")\nlabel.setText(f"{n} frames")\nQLabel("–")\n')
    assert len(untranslated(file)) == 2
