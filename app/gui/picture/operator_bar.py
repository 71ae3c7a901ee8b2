"""The few controls of an operator, over the picture: they go after some seconds, and come back on any movement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PyQt6.QtCore import QEvent, QSize, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QAction, QEnterEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QMenu, QToolButton, QVBoxLayout, QWidget, QWidgetAction

from app.gui.common.theme import set_icon
from app.gui.common.window_actions import WindowActions
from app.gui.picture.mark_painter import MarkTool
from app.gui.widgets.health import HealthLight
from app.gui.widgets.sections import ShareSlider
from app.view.settings import ViewMode
from fusion_core.colour import STRENGTH_MAX

__all__ = ["OperatorBar", "menu_button"]

_SLIDER_PX = 48
_HIDE_MS = 5000


class OperatorBar(QFrame):
    """At most ten controls, each large enough for a finger. GUI thread.

    strength_moved: of thermal in the fused picture. tool_chosen: a MarkTool. extremes_asked: mark the hottest and
    coldest place, or not. remove_asked: the chosen mark. clear_asked: all that is measured. shown_changed: it has come
    or gone.
    """

    strength_moved = pyqtSignal(float)
    tool_chosen = pyqtSignal(object)
    extremes_asked = pyqtSignal()
    remove_asked = pyqtSignal()
    clear_asked = pyqtSignal()
    shown_changed = pyqtSignal(bool)

    def __init__(
        self,
        actions: WindowActions,
        before: Sequence[str],
        after: Sequence[str],
        health: HealthLight | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("operator")
        self._actions, self._wanted = actions, False
        self.controls: list[QToolButton] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(6)
        self.tools = self._make_tools()
        column.addWidget(self.tools, 0, Qt.AlignmentFlag.AlignHCenter)
        row = QHBoxLayout()
        row.setSpacing(6)
        column.addLayout(row)
        for name in before:
            row.addWidget(self._button(name))
        row.addWidget(self._view_button())
        row.addWidget(self._button("heat"))
        row.addWidget(self._strength_button())
        for name in after:
            row.addWidget(self._button(name))
        if health is not None:
            health.setProperty("flat", False)
            health.setProperty("touch", True)
            self.controls.append(health)
            row.addWidget(health)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_HIDE_MS)
        self._timer.timeout.connect(self._hide_if_idle)
        self.hide()

    # ------------------------------------------------------------------ the parts

    def _button(self, name: str) -> QToolButton:
        button = QToolButton()
        button.setDefaultAction(self._actions[name])
        return self._as_control(button, self._actions[name].text())

    def _as_control(self, button: QToolButton, name: str) -> QToolButton:
        button.setIconSize(QSize(26, 26))
        button.setProperty("touch", True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.setAccessibleName(name)
        self.controls.append(button)
        return button

    def _view_button(self) -> QToolButton:
        name = self.tr("View")
        return self._as_control(menu_button("layers", name, (self._actions[f"view_{m}"] for m in ViewMode)), name)

    def _strength_button(self) -> QToolButton:
        button = QToolButton()
        set_icon(button, "tune-vertical")
        menu = QMenu(button)
        holder = QWidget()
        self.strength = ShareSlider(self.tr("Strength of thermal in the fused picture"), STRENGTH_MAX)
        self.strength.setMinimumSize(280, _SLIDER_PX)
        self.strength.moved.connect(self.strength_moved)
        room = QHBoxLayout(holder)
        room.addWidget(self.strength)
        entry = QWidgetAction(menu)
        entry.setDefaultWidget(holder)
        menu.addAction(entry)
        button.setMenu(menu)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setToolTip(self.tr("Strength"))
        return self._as_control(button, self.tr("Strength"))

    def _make_tools(self) -> QFrame:
        """What there is to choose while measuring, above the controls."""
        frame = QFrame()
        row = QHBoxLayout(frame)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        self._tool_buttons: dict[MarkTool, QToolButton] = {}
        for tool, name, text in (
            (MarkTool.SPOT_OR_BOX, "crosshairs", self.tr("Spot (tap) or box (drag)")),
            (MarkTool.LINE, "vector-line", self.tr("Line")),
            (MarkTool.POLYGON, "vector-polygon", self.tr("Area: tap its corners")),
        ):
            button = self._tool_buttons[tool] = QToolButton()
            button.setCheckable(True)
            button.clicked.connect(lambda _, tool=tool: self.tool_chosen.emit(tool))
            self._add_tool(row, button, name, text)
        for name, text, signal in (
            ("thermometer-high", self.tr("Hottest and coldest"), self.extremes_asked),
            ("backspace-outline", self.tr("Remove the chosen mark"), self.remove_asked),
            ("delete-outline", self.tr("Remove all"), self.clear_asked),
        ):
            button = QToolButton()
            button.clicked.connect(signal)
            self._add_tool(row, button, name, text)
        frame.hide()
        return frame

    def _add_tool(self, row: QHBoxLayout, button: QToolButton, name: str, text: str) -> None:
        set_icon(button, name)
        button.setIconSize(QSize(24, 24))
        button.setProperty("touch", True)
        button.setToolTip(text)
        button.setAccessibleName(text)
        row.addWidget(button)

    # ------------------------------------------------------------------ what to show

    def show_tool(self, tool: MarkTool | None) -> None:
        """Offer the tools while one is in use."""
        for name, button in self._tool_buttons.items():
            button.setChecked(name is tool)
        self.tools.setVisible(tool is not None)
        self._place()

    def use(self, wanted: bool) -> None:
        """Be there, coming and going by itself, or not at all."""
        self._wanted = wanted
        if wanted:
            self.wake()
        else:
            self._timer.stop()
            self.setVisible(False)

    def wake(self) -> None:
        """Come back: something has moved."""
        if not self._wanted:
            return
        self._timer.start()
        if self.isHidden():
            self.setVisible(True)
            self._place()
            self.shown_changed.emit(True)

    def _hide_if_idle(self) -> None:
        menus = [button.menu() for button in self.controls]
        busy = any(menu is not None and menu.isVisible() for menu in menus) or self.underMouse()
        cards = [button.card for button in self.controls if isinstance(button, HealthLight)]
        if busy or any(card.isVisible() for card in cards) or not self.tools.isHidden():
            self._timer.start()
        elif self._wanted:
            self.setVisible(False)
            self.shown_changed.emit(False)

    def event(self, event: QEvent | None) -> bool:
        """Be as wide as the words of the health light need."""
        handled = super().event(event)
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self._place()
        return handled

    def enterEvent(self, event: QEnterEvent | None) -> None:
        self.wake()

    def leaveEvent(self, event: QEvent | None) -> None:
        self.wake()

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is not None and hasattr(parent, "place_overlays"):
            parent.place_overlays()


def menu_button(icon_name: str, name: str, actions: Iterable[QAction]) -> QToolButton:
    """Make a button that opens a menu of these actions, each large enough for a finger."""
    button = QToolButton()
    set_icon(button, icon_name)
    menu = QMenu(button)
    menu.setProperty("touch", True)
    for action in actions:
        menu.addAction(action)
    button.setMenu(menu)
    button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    button.setToolTip(name)
    button.setAccessibleName(name)
    return button
