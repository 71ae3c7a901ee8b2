"""The window in the user's language: reads Qt's .ts files as they are, so that nothing has to be compiled.

The texts of the sources are English; `translations/lumitherm_LANGUAGE.ts` holds the others. They are brought up to date
with `pylupdate6 app/gui --ts FILE` and edited with any editor or Qt's Linguist.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from PyQt6.QtCore import QLibraryInfo, QLocale, QTranslator
from PyQt6.QtWidgets import QApplication

__all__ = ["FOLDER", "LANGUAGES", "TsTranslator", "choose_language", "install_language"]

FOLDER = Path(__file__).parents[1] / "translations"
LANGUAGES = {"en": "English", "de": "Deutsch"}
"""Code of ISO 639 and the language's own name, as the settings offer them."""


class TsTranslator(QTranslator):
    """Translates by a .ts file. Raises OSError or ET.ParseError when it cannot be read."""

    def __init__(self, file: Path, parent: QApplication | None = None) -> None:
        super().__init__(parent)
        self._texts: dict[tuple[str, str], str] = {}
        self._anywhere: dict[str, str] = {}  # a text of a base class is asked for under the name of the class below
        for context in ET.parse(file).getroot().iter("context"):  # our own file, shipped with the program
            name = context.findtext("name", "")
            for message in context.iter("message"):
                source, translation = message.findtext("source", ""), message.find("translation")
                text = translation.text if translation is not None else None
                if text and translation is not None and translation.get("type") not in ("unfinished", "vanished"):
                    self._texts[name, source] = text
                    self._anywhere.setdefault(source, text)

    def __len__(self) -> int:
        return len(self._texts)

    def isEmpty(self) -> bool:
        return not self._texts

    def translate(  # type: ignore[override]  # its stubs forget the null string
        self, context: str | None, source: str | None, disambiguation: str | None = None, n: int = -1
    ) -> str | None:
        """The text in the language, None where there is none: Qt then shows the source."""
        if source is None:
            return None
        return self._texts.get((context or "", source)) or self._anywhere.get(source)


def choose_language(wanted: str, locale: QLocale | None = None) -> str:
    """The code of a language that there is: `wanted`, else the system's, else English."""
    if wanted in LANGUAGES:
        return wanted
    for name in (locale if locale is not None else QLocale.system()).uiLanguages():
        code = name.replace("_", "-").split("-")[0].lower()
        if code in LANGUAGES:
            return code
    return "en"


def install_language(application: QApplication, wanted: str, locale: QLocale | None = None) -> str:
    """Let this application speak the wanted language ("" = the system's); returns the code of the one chosen.

    Call it before widgets are made: they take their texts when they are made.
    """
    code = choose_language(wanted, locale)
    for old in application.findChildren(QTranslator):
        application.removeTranslator(old)
        old.setParent(None)
    of_qt = QTranslator(application)
    if of_qt.load(QLocale(code), "qtbase", "_", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)):
        application.installTranslator(of_qt)
    file = FOLDER / f"lumitherm_{code}.ts"
    if file.is_file():
        application.installTranslator(TsTranslator(file, application))
    return code
