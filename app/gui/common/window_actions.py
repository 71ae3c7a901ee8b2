"""Makes Qt's actions of the window: keys, icons, which page allows which, and keys that work while they are down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PyQt6.QtCore import QEvent, QObject, Qt, pyqtSignal
from PyQt6.QtGui import QAction, QActionGroup, QIcon, QKeyEvent, QKeySequence
from PyQt6.QtWidgets import QApplication, QMainWindow

from app.gui.common.actions import ACTIONS, ActionSpec, PageKind, action_text
from app.gui.common.theme import Level, icon, level_colour
from app.view.settings import ViewMode

__all__ = ["WindowActions"]

_CHECKABLE = (
    "freeze",
    "hud",
    "measure",
    "panel",
    "full_screen",
    "loop",
    "polarity",
    "record",
    "timing",
    "compare",
    "heat",
    "expert",
    "over_time",
)
_MORE_KEYS = {"help": "?", "zoom_in": "="}


class WindowActions(QObject):
    """Makes the actions and adds them to the window. GUI thread.

    held: (name, whether its key is down).
    """

    held = pyqtSignal(str, bool)

    def __init__(self, window: QMainWindow) -> None:
        super().__init__(window)
        self._window = window
        self._held_keys: dict[str, QKeySequence] = {}
        self._down: set[str] = set()
        self._icons: dict[str, tuple[str, str | None]] = {}  # of actions whose icon tells a state: name, colour
        self._by_name: dict[str, QAction] = {}
        views = QActionGroup(window)
        for spec in ACTIONS:
            action = QAction(_icon_of(spec), action_text(spec), window)
            action.setCheckable(spec.name in _CHECKABLE or spec.name.startswith("view_"))
            action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            if spec.name.startswith("view_"):
                views.addAction(action)
            self._by_name[spec.name] = action
            window.addAction(action)
        self._by_name["hud"].setChecked(True)
        self._by_name["panel"].setChecked(True)
        application = QApplication.instance()
        if application is not None:
            application.installEventFilter(self)

    def __getitem__(self, name: str) -> QAction:
        return self._by_name[name]

    def connect(self, name: str, slot: Callable[..., Any]) -> None:
        """Call `slot` when the user triggers this action; it may take whether the action is checked now."""
        self._by_name[name].triggered.connect(slot)

    def apply_shortcuts(self, shortcuts: Mapping[str, str]) -> None:
        """Use these changed keys: action name to key in portable text."""
        self._held_keys.clear()
        for spec in ACTIONS:
            key = QKeySequence(shortcuts.get(spec.name, spec.key))
            action = self._by_name[spec.name]
            if spec.held:
                self._held_keys[spec.name] = key
            else:
                keys = [key] if not key.isEmpty() else []
                if spec.name in _MORE_KEYS and spec.name not in shortcuts:
                    keys.append(QKeySequence(_MORE_KEYS[spec.name]))
                action.setShortcuts(keys)
            shown = key.toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{action_text(spec)}  ({shown})" if shown else action_text(spec))

    def allow(self, page: PageKind, expert: bool = True) -> None:
        """Enable only what this page can do, and without `expert` only what operators need."""
        for spec in ACTIONS:
            self._by_name[spec.name].setEnabled(spec.works_on(page) and (expert or not spec.expert))

    def show_mode(self, mode: ViewMode) -> None:
        """Mark the view in use."""
        self._by_name[f"view_{mode}"].setChecked(True)

    def show_icon(self, name: str, icon_name: str, colour: str | None = None) -> None:
        """Give an action the icon of its state, e.g. "pause" while something plays; "" = the one it begins with."""
        self._icons.pop(name, None)
        if icon_name:
            self._icons[name] = (icon_name, colour)
        self._by_name[name].setIcon(self._icon(name))

    def refresh_icons(self) -> None:
        """Paint the icons in the colours of the scheme in use."""
        for name, action in self._by_name.items():
            action.setIcon(self._icon(name))

    def _icon(self, name: str) -> QIcon:
        if name in self._icons:
            return icon(*self._icons[name])
        return next(_icon_of(spec) for spec in ACTIONS if spec.name == name)

    def stop_watching(self) -> None:
        """Stop watching the keyboard; the window is about to end."""
        application = QApplication.instance()
        if application is not None:
            application.removeEventFilter(self)

    # ------------------------------------------------------------------ keys that work while they are down

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Sees every event of the application; takes none away."""
        window = self._window
        if isinstance(event, QKeyEvent) and not event.isAutoRepeat() and window.isActiveWindow():
            kind = event.type()
            if kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
                sequence = QKeySequence(event.keyCombination())
                for name, key in self._held_keys.items():
                    if key == sequence and not key.isEmpty() and not self._typing(kind):
                        self._hold(name, kind == QEvent.Type.KeyPress)
        if event is not None and event.type() == QEvent.Type.WindowDeactivate and watched is window:
            for name in list(self._down):
                self._hold(name, False)
        return super().eventFilter(watched, event)

    def _typing(self, kind: QEvent.Type) -> bool:
        """Whether a press goes to a field that takes text (a release always counts)."""
        focused = self._window.focusWidget()
        if kind == QEvent.Type.KeyRelease or focused is None:
            return False
        return bool(focused.property("takes_keys")) or focused.testAttribute(Qt.WidgetAttribute.WA_InputMethodEnabled)

    def _hold(self, name: str, down: bool) -> None:
        if down != (name in self._down):
            self._down.symmetric_difference_update({name})
            self.held.emit(name, down)


def _icon_of(spec: ActionSpec) -> QIcon:
    return icon(spec.icon, level_colour(Level.RECORDING).name() if spec.name == "record" else None)
