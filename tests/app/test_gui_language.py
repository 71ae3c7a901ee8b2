"""The window's texts: all of them translatable, the German ones complete, and every control with a name."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt6 import sip
from PyQt6.lupdate.lupdate import lupdate
from PyQt6.QtCore import QCoreApplication, QLocale, QTranslator
from PyQt6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QHeaderView,
    QKeySequenceEdit,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QProgressBar,
    QScrollBar,
    QWidget,
)
from pytestqt.qtbot import QtBot

import app.gui
from app.gui.application import Session
from app.gui.common.actions import ACTIONS, action_text
from app.gui.common.translation import FOLDER, LANGUAGES, TsTranslator, choose_language, install_language
from app.gui.main_window import MainWindow
from app.gui.widgets.sections import Section
from app.gui.widgets.status_text import status_figures
from app.gui.widgets.timing_plot import load_library
from app.pipeline.state.stats import Stats

SOURCES = Path(app.gui.__file__).parent
FILES = sorted(FOLDER.glob("*.ts"))


def messages(file: Path) -> dict[tuple[str, str], ET.Element]:
    found = {}
    for context in ET.parse(file).getroot().iter("context"):
        for message in context.iter("message"):
            translation = message.find("translation")
            assert translation is not None
            if translation.get("type") not in ("vanished", "obsolete"):
                found[context.findtext("name", ""), message.findtext("source", "")] = translation
    return found


@pytest.fixture
def english(qapp: QApplication) -> Iterator[None]:
    """The language of the other tests, afterwards."""
    yield
    for translator in qapp.findChildren(QTranslator):
        qapp.removeTranslator(translator)
        translator.setParent(None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_translations_are_up_to_date_and_complete(file: Path, tmp_path: Path) -> None:
    """As `pylupdate6 app/gui --ts app/gui/translations/lumitherm_de.ts` would write it, and nothing unfinished."""
    copy = tmp_path / file.name
    shutil.copy(file, copy)
    lupdate([str(SOURCES)], [str(copy)], True, True, False, [])
    now, before = messages(copy), messages(file)
    assert set(now) == set(before), "run pylupdate6 and translate what is new"
    assert not [key for key, translation in now.items() if translation.get("type") == "unfinished"]
    for (_, source), translation in before.items():
        wanted, got = (sorted(re.findall(r"\{[^}]*\}", text)) for text in (source, translation.text or ""))
        assert wanted == got, source


def test_every_language_but_english_has_its_file() -> None:
    assert {file.stem for file in FILES} == {f"lumitherm_{code}" for code in LANGUAGES if code != "en"}


def test_the_language_is_the_wanted_one_or_the_systems() -> None:
    assert choose_language("", QLocale("de_AT")) == "de"
    assert choose_language("", QLocale("fr_FR")) == "en"
    assert choose_language("en", QLocale("de_DE")) == "en"
    assert choose_language("xx", QLocale("de_DE")) == "de"


def test_an_unfinished_text_stays_english(tmp_path: Path) -> None:
    file = tmp_path / "x.ts"
    entry = "<message><source>{0}</source><translation{1}>{2}</translation></message>"
    done, open_ = entry.format("Yes", "", "Ja"), entry.format("No", ' type="unfinished"', "Nein")
    file.write_text(f"<TS><context><name>C</name>{done}{open_}</context></TS>")
    translator = TsTranslator(file)
    assert len(translator) == 1 and not translator.isEmpty()
    assert translator.translate("C", "Yes") == "Ja"
    assert translator.translate("Below", "Yes") == "Ja"  # asked for by a class that inherits the text
    assert translator.translate("C", "No") is None


def close(session: Session, qtbot: QtBot) -> None:
    ended: list[bool] = []
    session.window.closed.connect(lambda: ended.append(True))
    session.window.close()
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert session.close()
    session.window.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete


def test_the_window_speaks_german(
    qapp: QApplication, qtbot: QtBot, tmp_path: Path, english: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.gui.common.settings import GuiSettings

    settings = GuiSettings(tmp_path / "window.json")
    settings.language = "de"
    settings.save()
    session = Session(qapp, tmp_path / "window.json", tmp_path)
    try:
        window = session.window
        assert session.language == "de"
        assert window.start_page.assistant.accessibleName() == "Zwei Kameras einrichten"
        assert window.actions_by_name["record"].text() == "Aufnehmen"
        assert window.live.panel.agc._auto.text() == "Zurück zur Automatik"
        assert window.live.panel.compare.engine.accessibleName() == "A und B vergleichen: Verfahren"
        assert status_figures(Stats().snapshot())[0].label == "Rate"
        assert QCoreApplication.translate("QPlatformTheme", "Cancel") == "Abbrechen"  # Qt's own texts as well
        panel = window.live.panel
        for section in panel.findChildren(Section):
            section.set_open(True)
        inner = panel.widget()
        assert inner is not None and inner.minimumSizeHint().width() <= panel.width() - 10  # longer words fit as well
        german = {action_text(spec) for spec in ACTIONS}
        assert len(german) == len(ACTIONS) and "Freeze picture" not in german
        live, recording = session.controller.live, session.controller.recording
        with qtbot.waitSignal(live.notice, check_params_cb=lambda text: text.startswith("Es läuft nichts")):
            recording.mark_event()
    finally:
        close(session, qtbot)
    assert install_language(qapp, "en") == "en"
    assert action_text(ACTIONS[0]) == "Fused"


# ---------------------------------------------------------------------------------------------- names to be read out

CONTROLS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QKeySequenceEdit,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
)
OWN_PARTS = (QComboBox, QAbstractSpinBox, QKeySequenceEdit, QMenu, QAbstractItemView)


def part_of_another(widget: QWidget) -> bool:
    """Scroll bars, headers, and the line, button or list inside a control: the control's name serves them."""
    if isinstance(widget, QScrollBar | QHeaderView) or widget.objectName().startswith("qt_"):
        return True
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, OWN_PARTS) and not (isinstance(widget, QKeySequenceEdit)):
            return True
        parent = parent.parentWidget()
    return False


def test_every_control_has_a_name(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(qapp, tmp_path / "window.json", tmp_path)
    try:
        window = session.window
        window.show()
        session.controller.show_settings()
        load_library()
        window.live.timing.build()
        qtbot.waitUntil(lambda: window.live.timing.ready)
        unnamed = []
        for widget in window.findChildren(QWidget):
            if isinstance(widget, CONTROLS) and not part_of_another(widget):
                text = widget.text() if isinstance(widget, QAbstractButton) else ""
                if not (widget.accessibleName() or text).strip():
                    unnamed.append(f"{type(widget).__name__} in {type(widget.parentWidget()).__name__}")
        assert not unnamed
        views = [window.live.stage.video, window.player.stage.video, window.live.panel.agc.histogram]
        views += [*window.setup.previews.values(), *window.calibration.previews.values(), window.live.timing]
        views += [window.live.status.meter, window.help]
        assert all(view.accessibleName() for view in views)
    finally:
        close(session, qtbot)


def test_every_action_has_a_key_and_one_controller(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(qapp, tmp_path / "window.json", tmp_path)
    alone = MainWindow()  # its buttons listen as well
    try:
        window = session.window
        for spec in ACTIONS:
            action = window.actions_by_name[spec.name]
            assert spec.held or action.shortcuts(), spec.name
            buttons = alone.actions_by_name[spec.name]
            controllers = action.receivers(action.triggered) - buttons.receivers(buttons.triggered)
            assert controllers == (0 if spec.held else 1), spec.name
    finally:
        sip.delete(alone)
        close(session, qtbot)


OLD_WORDS = (
    "The visible stamps are", "reopened by itself", "mend what the message", "A view is kept by itself",
    "Levels differ in lightness", '"As the system"', '"Use these"', '"Look again"',
)  # fmt: skip
OLD_GERMAN = (
    "Rechenwerk",
    "Thermik",
    "Thermisch-Anteil",
    "ichtbar",
    "Sichtbild",
    "SICHTBILD",
    "hermisch",
    "(Thermal)",
    "B/s",
    "Gebrauch",
    "PLATTE",
)


def test_words_that_nobody_understood_do_not_come_back() -> None:
    found = [
        f"{path.name}: {words}"
        for path in sorted((SOURCES.parent).rglob("*.py"))
        for words in OLD_WORDS
        if words in path.read_text(encoding="utf-8")
    ]
    assert not found
    german = FILES[0].read_text(encoding="utf-8")
    assert not [word for word in OLD_GERMAN if word in german]
