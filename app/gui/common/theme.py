"""Colours, sizes and icons of the window. Light and dark follow the system; one accent colour serves both.

Levels (good, caution, bad) differ in lightness and come with a sign, so that no meaning rests on hue alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from PyQt6.QtCore import QSize, Qt, QTimer
from PyQt6.QtGui import QColor, QFont, QGuiApplication, QIcon, QPalette
from PyQt6.QtWidgets import QAbstractButton, QApplication, QPushButton, QWidget

__all__ = [
    "GAP",
    "Appearance",
    "Colours",
    "Level",
    "apply_theme",
    "change_theme",
    "colours",
    "icon",
    "icon_button",
    "level_colour",
    "level_sign",
    "restyle",
    "set_icon",
]

GAP = 8  # px; every distance is a multiple of half of it
ICON = QSize(18, 18)
_PAUSE_MS = 10  # between two steps of a change: what else waits for the event loop comes first


class Appearance(StrEnum):
    """What the user chose for the colours."""

    SYSTEM = "system"
    DARK = "dark"
    LIGHT = "light"


RECORDING_RED = "#d3182c"
"""Of a recording that runs, under white."""


class Level(StrEnum):
    """How well something is. Red is for what records alone: trouble is amber and orange."""

    GOOD = "good"
    CAUTION = "caution"
    BAD = "bad"
    NEUTRAL = "neutral"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Colours:
    """One scheme, as #rrggbb."""

    dark: bool
    window: str
    surface: str
    raised: str
    border: str
    text: str
    dim: str
    faint: str  # what cannot be used now
    accent: str
    on_accent: str
    good: str
    caution: str
    bad: str
    recording: str


_DARK = Colours(
    True, "#0f1115", "#171a20", "#222730", "#323947", "#edf0f4", "#9ea8b7", "#667184", "#45a4ff", "#06121f",
    "#3fc8a5", "#ffc24d", "#ff9040", "#ff5468",
)  # fmt: skip
_LIGHT = Colours(
    False, "#eceef2", "#ffffff", "#f1f3f7", "#cbd1db", "#171b22", "#566070", "#949eac", "#0b6bcb", "#ffffff",
    "#0c8368", "#a86200", "#b04a00", "#c4122a",
)  # fmt: skip


def colours() -> Colours:
    """The scheme that is in use now."""
    return _DARK if _is_dark() else _LIGHT


def level_colour(level: Level) -> QColor:
    """The colour of a level in the scheme in use."""
    scheme = colours()
    named = {
        Level.GOOD: scheme.good,
        Level.CAUTION: scheme.caution,
        Level.BAD: scheme.bad,
        Level.RECORDING: scheme.recording,
    }
    return QColor(named.get(level, scheme.dim))


def level_sign(level: Level) -> str:
    """Return the sign of a level, for those who do not see its colour."""
    return {Level.GOOD: "●", Level.CAUTION: "▲", Level.BAD: "■", Level.RECORDING: "●"}.get(level, "○")


def _is_dark() -> bool:
    application = QGuiApplication.instance()
    chosen = application.property("lumitherm_scheme") if application is not None else None
    if chosen in ("dark", "light"):
        return bool(chosen == "dark")
    hints = QGuiApplication.styleHints()
    # A system that does not say: dark, because video is looked at in the dark more often than not.
    return hints is None or hints.colorScheme() is not Qt.ColorScheme.Light


def apply_theme(application: QApplication, appearance: Appearance) -> None:
    """Give the application this appearance at once. See `change_theme` for a window that is shown."""
    for step in _theme_steps(application, appearance):
        step()


def change_theme(application: QApplication, appearance: Appearance, done: Callable[[], None]) -> None:
    """Change the appearance in steps of the event loop, a few tens of ms each; nothing is painted in between.

    Args:
        done: called after the last step, unless another change has begun meanwhile.
    """
    number = int(application.property("lumitherm_change") or 0) + 1
    application.setProperty("lumitherm_change", number)
    for window in application.topLevelWidgets():
        window.setUpdatesEnabled(False)
    steps = _theme_steps(application, appearance)

    def go_on() -> None:
        if application.property("lumitherm_change") != number:
            return  # the later one begins anew
        if steps:
            steps.pop(0)()
            QTimer.singleShot(_PAUSE_MS, go_on)
            return
        done()
        for window in application.topLevelWidgets():
            window.setUpdatesEnabled(True)
            if window.isVisible():
                window.repaint()  # a request that came in between may be lost, and `update` would wait for it for ever

    go_on()


def _theme_steps(application: QApplication, appearance: Appearance) -> list[Callable[[], None]]:
    """Return the steps, to be called in this order."""
    application.setProperty("lumitherm_scheme", None if appearance is Appearance.SYSTEM else appearance.value)
    scheme = colours()

    def reset() -> None:
        first = application.property("lumitherm_styled") is None
        application.setProperty("lumitherm_styled", True)
        if first:
            application.setStyle("Fusion")
            font = QFont()
            font.setFamilies(["Inter", "Segoe UI", "Noto Sans", "Cantarell", "Helvetica Neue", "DejaVu Sans"])
            font.setPixelSize(14)
            application.setFont(font)
        else:
            application.setStyleSheet("")  # with a sheet, a new palette costs as much as a new sheet

    def icons() -> None:
        for widget in application.allWidgets():
            name = widget.property("icon_name")
            if name and isinstance(widget, QAbstractButton):
                set_icon(widget, str(name))

    return [
        reset,
        lambda: application.setPalette(_palette(scheme)),
        lambda: application.setStyleSheet(_style(scheme)),
        icons,
    ]


def _palette(scheme: Colours) -> QPalette:
    palette = QPalette()
    for role, colour in (
        (QPalette.ColorRole.Window, scheme.window),
        (QPalette.ColorRole.WindowText, scheme.text),
        (QPalette.ColorRole.Base, scheme.surface),
        (QPalette.ColorRole.AlternateBase, scheme.raised),
        (QPalette.ColorRole.Text, scheme.text),
        (QPalette.ColorRole.Button, scheme.raised),
        (QPalette.ColorRole.ButtonText, scheme.text),
        (QPalette.ColorRole.BrightText, scheme.bad),
        (QPalette.ColorRole.ToolTipBase, scheme.raised),
        (QPalette.ColorRole.ToolTipText, scheme.text),
        (QPalette.ColorRole.PlaceholderText, scheme.dim),
        (QPalette.ColorRole.Highlight, scheme.accent),
        (QPalette.ColorRole.HighlightedText, scheme.on_accent),
        (QPalette.ColorRole.Link, scheme.accent),
        (QPalette.ColorRole.Accent, scheme.accent),
        (QPalette.ColorRole.Mid, scheme.border),
        (QPalette.ColorRole.Light, scheme.border),
        (QPalette.ColorRole.Dark, scheme.border),
    ):
        palette.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(scheme.faint))
    return palette


def icon(name: str, colour: str | None = None) -> QIcon:
    """An icon of the Material Design set, e.g. "eye", in the text's colour unless told otherwise."""
    import qtawesome

    scheme = colours()
    return QIcon(
        qtawesome.icon(
            f"mdi6.{name}", color=colour or scheme.text, color_disabled=scheme.faint, color_on=colour or scheme.text
        )
    )


def set_icon(button: QAbstractButton, name: str) -> None:
    """Give a button an icon that follows the scheme when it changes."""
    button.setProperty("icon_name", name)
    button.setIcon(icon(name, colours().on_accent if button.property("primary") else None))


def icon_button(name: str, text: str = "", primary: bool = False) -> QPushButton:
    """A push button with an icon that follows the scheme; `primary`: the one to press next, in the accent colour."""
    button = QPushButton(text)
    if primary:
        button.setProperty("primary", True)
    set_icon(button, name)
    return button


def restyle(widget: QWidget) -> None:
    """Look up the style sheet again after a property that it uses has changed."""
    style = widget.style()
    if style is not None:
        style.unpolish(widget)
        style.polish(widget)


def _style(c: Colours) -> str:
    """Write the style sheet of a scheme; a later rule wins over an earlier one of equal weight."""
    hover = "#2c333f" if c.dark else "#e3e8f0"
    press = "#384152" if c.dark else "#d3dae6"
    return "".join((_areas_and_labels(c), _buttons(c, hover, press), _fields(c, hover), _frames(c)))


def _areas_and_labels(c: Colours) -> str:
    return f"""
    QToolTip {{ background: {c.raised}; color: {c.text}; border: 1px solid {c.border}; padding: 4px 6px; }}
    #bar, #side {{ background: {c.surface}; }}
    #bar {{ border-bottom: 1px solid {c.border}; }}
    #statusbar {{ background: {c.surface}; border-top: 1px solid {c.border}; }}
    #side {{ border-left: 1px solid {c.border}; }}
    QLabel[role="title"] {{ font-size: 28px; font-weight: 600; }}
    QLabel[role="heading"] {{ font-size: 17px; font-weight: 600; }}
    QLabel[role="dim"] {{ color: {c.dim}; }}
    QLabel[role="caption"] {{ color: {c.dim}; font-size: 12px; }}
    QLabel[role="value"] {{ font-size: 15px; font-weight: 600; }}
    QLabel[role="message"] {{ font-size: 16px; font-weight: 600; }}
    QLabel[role="step"] {{ color: {c.accent}; font-size: 13px; font-weight: 600; }}
    QLabel[level="good"] {{ color: {c.good}; }}
    QLabel[level="bad"] {{ color: {c.bad}; }}
    QLabel[level="recording"] {{ color: {c.recording}; }}
    QLabel[level="caution"] {{ color: {c.caution}; }}
    QLabel[role="brand"] {{ font-size: 16px; font-weight: 700; }}
    """


def _buttons(c: Colours, hover: str, press: str) -> str:
    return f"""
    QPushButton, QToolButton {{
        background: {c.raised}; border: 1px solid {c.border}; border-radius: 6px; padding: 6px 12px; min-height: 18px;
    }}
    QToolButton {{ padding: 6px 8px; }}
    QPushButton:hover, QToolButton:hover {{ background: {hover}; }}
    QPushButton:pressed, QToolButton:pressed {{ background: {press}; }}
    QPushButton:focus, QToolButton:focus, QComboBox:focus, QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus,
    QListWidget:focus, QPlainTextEdit:focus {{ border: 1px solid {c.accent}; }}
    QPushButton:disabled, QToolButton:disabled, QComboBox:disabled {{ color: {c.faint}; }}
    QPushButton[primary="true"] {{ background: {c.accent}; color: {c.on_accent}; border-color: {c.accent};
        font-weight: 600; }}
    QPushButton[primary="true"]:hover {{ border-color: {c.text}; }}
    QPushButton[primary="true"]:disabled {{ background: {c.raised}; color: {c.dim}; border-color: {c.border}; }}
    QToolButton[flat="true"] {{ background: transparent; border-color: transparent; padding: 6px 5px; }}
    QToolButton[flat="true"]:hover {{ background: {hover}; }}
    QToolButton:checked, QPushButton:checked {{
        background: {hover}; border: 1px solid {c.accent}; color: {c.text};
    }}
    QToolButton[recording="true"], QPushButton[recording="true"] {{
        background: {RECORDING_RED}; border-color: {RECORDING_RED}; color: #ffffff; font-weight: 700;
    }}
    QToolButton[section="true"] {{
        background: transparent; border: none; font-weight: 600; padding: 8px 4px; text-align: left;
    }}
    QToolButton[section="true"]:hover, QToolButton[section="true"]:focus {{ color: {c.accent}; }}
    """


def _fields(c: Colours, hover: str) -> str:
    return f"""
    QComboBox, QLineEdit, QSpinBox, QDoubleSpinBox {{
        background: {c.raised}; border: 1px solid {c.border}; border-radius: 6px; padding: 5px 8px; min-height: 18px;
        selection-background-color: {c.accent}; selection-color: {c.on_accent};
    }}
    QComboBox::drop-down {{ border: none; background: transparent; width: 24px; }}
    QLineEdit QToolButton {{ background: transparent; border: none; padding: 0; min-height: 0; }}
    QTableWidget::item {{ padding: 0 6px; }}
    QComboBox QAbstractItemView {{ background: {c.raised}; border: 1px solid {c.border}; outline: none; }}
    QListWidget, QPlainTextEdit, QTableWidget {{
        background: {c.surface}; border: 1px solid {c.border}; border-radius: 8px; outline: none;
        alternate-background-color: {c.raised}; gridline-color: {c.border};
    }}
    QListWidget::item {{ padding: 8px 10px; border-radius: 6px; }}
    QListWidget::item:hover {{ background: {hover}; }}
    QListWidget::item:selected, QTableWidget::item:selected {{ background: {hover}; color: {c.text}; }}
    QHeaderView::section {{ background: {c.raised}; border: none; padding: 6px; color: {c.dim}; }}
    QScrollArea {{ border: none; background: transparent; }}
    QScrollBar:vertical {{ background: transparent; width: 14px; }}
    QScrollBar::handle:vertical {{ background: {c.border}; border-radius: 7px; min-height: 40px; }}
    QScrollBar:horizontal {{ background: transparent; height: 14px; }}
    QScrollBar::handle:horizontal {{ background: {c.border}; border-radius: 7px; min-width: 40px; }}
    QCheckBox {{ spacing: 8px; padding: 3px 0; }}
    QCheckBox::indicator {{ width: 16px; height: 16px; border: 1px solid {c.dim}; border-radius: 4px;
        background: {c.raised}; }}
    QCheckBox::indicator:hover, QCheckBox::indicator:focus {{ border: 1px solid {c.accent}; }}
    QCheckBox::indicator:checked {{ background: {c.accent}; border: 1px solid {c.accent}; }}
    QCheckBox::indicator:disabled {{ border-color: {c.border}; }}
    QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {{ background: none;
        height: 0; width: 0; }}
    QSlider::groove:horizontal {{ height: 4px; background: {c.border}; border-radius: 2px; }}
    QSlider::sub-page:horizontal {{ background: {c.accent}; border-radius: 2px; }}
    QSlider::handle:horizontal {{ background: {c.text}; width: 16px; height: 16px; margin: -6px 0;
        border-radius: 8px; }}
    QSlider::handle:horizontal:focus {{ background: {c.accent}; }}
    QProgressBar {{ background: {c.raised}; border: 1px solid {c.border}; border-radius: 6px; text-align: center;
        min-height: 18px; }}
    QProgressBar[thin="true"] {{ min-height: 6px; max-height: 6px; border-radius: 4px; }}
    QProgressBar[thin="true"]::chunk {{ border-radius: 3px; }}
    QProgressBar::chunk {{ background: {c.accent}; border-radius: 5px; }}
    """


def _frames(c: Colours) -> str:
    return f"""
    QTabWidget::pane {{ border: 1px solid {c.border}; border-radius: 8px; background: {c.surface}; top: -1px; }}
    QTabBar::tab {{ background: transparent; padding: 8px 16px; border-bottom: 2px solid transparent; color: {c.dim}; }}
    QTabBar::tab:selected {{ color: {c.text}; border-bottom: 2px solid {c.accent}; }}
    QFrame[card="true"] {{ background: {c.surface}; border: 1px solid {c.border}; border-radius: 10px; }}
    QPushButton[card="true"] {{ background: {c.surface}; border-radius: 10px; text-align: left; padding: 16px;
        min-height: 96px; }}
    QToolButton[touch="true"] {{ min-height: 34px; min-width: 30px; padding: 6px 8px; }}
    QPushButton[touch="true"] {{ min-height: 34px; }}
    QToolButton[level="good"] {{ color: {c.good}; font-weight: 600; }}
    QToolButton[level="caution"] {{ color: {c.caution}; font-weight: 600; }}
    QMenu[touch="true"]::item {{ min-height: 36px; padding: 4px 24px 4px 12px; }}
    #operator {{ background: rgba(8, 10, 14, 150); border-radius: 12px; }}
    QFrame[card="true"] QListWidget {{ border: none; border-radius: 0; }}
    QFrame[card="true"] QListWidget::item {{ padding: 8px 4px; }}
    QPushButton[card="true"]:hover {{ border-color: {c.accent}; }}
    #banner {{ background: {c.raised}; border: 1px solid {c.border}; border-radius: 8px; }}
    #banner[level="bad"] {{ border: 1px solid {c.bad}; border-left: 6px solid {c.bad}; }}
    #banner[level="caution"] {{ border: 1px solid {c.caution}; border-left: 6px solid {c.caution}; }}
    #banner[level="neutral"] {{ border: 1px solid {c.accent}; border-left: 6px solid {c.accent}; }}
    #help {{ background: {c.surface}; border: 1px solid {c.border}; border-radius: 12px; }}
    QLabel[key="true"] {{ background: {c.raised}; border: 1px solid {c.border}; border-radius: 4px; padding: 1px 6px;
        font-family: monospace; }}
    """
