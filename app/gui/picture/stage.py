"""What the live page and the playback page have in common: the video with its banners, and buttons for actions."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import QEvent, QSize, Qt
from PyQt6.QtGui import QAction, QResizeEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from app.gui.common.window_actions import WindowActions
from app.gui.picture.operator_bar import OperatorBar, menu_button
from app.gui.picture.scale_bar import ScaleBar
from app.gui.picture.video_view import VideoView
from app.gui.widgets.banner import BannerStack
from app.view.settings import ViewMode

__all__ = ["ToolBar", "VideoStage", "bar", "tool_button"]


class VideoStage(QWidget):
    """The video with banners floating above it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.video = VideoView(self)
        self.scale = ScaleBar(self)
        self.operator: OperatorBar | None = None
        self.banners = BannerStack(self)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(self.video.minimumSize())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        self.video.setGeometry(self.rect())
        self.place_overlays()

    def use_operator_bar(self, bar: OperatorBar) -> None:
        """Put this bar over the picture; it comes back when something moves there."""
        self.operator = bar
        bar.setParent(self)
        self.video.stirred.connect(bar.wake)
        bar.shown_changed.connect(lambda _: self.place_overlays())

    def place_overlays(self) -> None:
        """Put the banners at the bottom, in the middle, above the operator's controls; the figures are at the top."""
        below = 0
        if self.operator is not None and not self.operator.isHidden():
            size = self.operator.sizeHint()
            below = size.height() + 12
            left = max(0, (self.width() - size.width()) // 2)
            self.operator.setGeometry(left, self.height() - below, min(self.width(), size.width()), size.height())
            self.operator.raise_()
        width = max(200, min(760, self.width() - 48))
        self.banners.setFixedWidth(width)
        layout = self.banners.layout()
        wraps = layout is not None and layout.hasHeightForWidth()
        height = layout.heightForWidth(width) if layout is not None and wraps else self.banners.sizeHint().height()
        self.banners.setGeometry((self.width() - width) // 2, self.height() - height - 24 - below, width, height)
        self.banners.raise_()
        tall = max(180, min(520, round(0.56 * self.height())))
        wide = 112 if self.height() < 700 else 140
        crowded = self.operator is not None and self.width() < self.operator.sizeHint().width() + 2 * wide
        lift = below if crowded else 0
        self.scale.setGeometry(self.width() - wide - 8, self.height() - tall - 16 - lift, wide, tall)
        self.video.right_margin_px = wide + 16 if not self.scale.isHidden() else 0


class ToolBar(QFrame):
    """The bar above the picture. Groups of buttons fold into a menu each, the last one first, where it is narrow."""

    def __init__(self, actions: WindowActions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("bar")
        self._actions = actions
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(8, 6, 8, 6)
        self.row.setSpacing(2)
        self._groups: list[tuple[list[QToolButton], QToolButton]] = []

    def add(self, *names: str) -> list[QToolButton]:
        """Add the buttons of these actions."""
        buttons = [tool_button(self._actions[name]) for name in names]
        for button in buttons:
            self.row.addWidget(button)
        return buttons

    def _add_group(self, icon_name: str, name: str, actions: Sequence[str]) -> None:
        folded = menu_button(icon_name, name, (self._actions[action] for action in actions))
        folded.setIconSize(QSize(20, 20))
        folded.setProperty("flat", True)
        folded.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        folded.hide()
        self._groups.append((self.add(*actions), folded))
        self.row.addWidget(folded)

    def add_views(self) -> None:
        """Add the buttons of the nine views."""
        self._add_group("layers", self.tr("View"), [f"view_{mode}" for mode in ViewMode])

    def add_more(self, *names: str) -> None:
        """Add what is needed least: it folds first."""
        self._add_group("dots-horizontal", self.tr("More"), names)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        self._fold()

    def event(self, event: QEvent | None) -> bool:
        done = super().event(event)
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self._fold()  # a button has got other words
        return done

    def _fold(self) -> None:
        """Show each group or its menu, by what all need side by side."""
        saved_px = [self._width(buttons) - self._width([folded]) for buttons, folded in self._groups]
        need = self.row.minimumSize().width()
        need += sum(px for px, (_, folded) in zip(saved_px, self._groups, strict=True) if not folded.isHidden())
        for px, (buttons, folded) in zip(reversed(saved_px), reversed(self._groups), strict=True):
            narrow = need > self.width()
            need -= px if narrow else 0
            if narrow is folded.isHidden():
                folded.setVisible(narrow)
                for button in buttons:
                    button.setVisible(not narrow)

    def _width(self, buttons: list[QToolButton]) -> int:
        return sum(button.sizeHint().width() + self.row.spacing() for button in buttons)


def bar(name: str, margins: tuple[int, int, int, int], spacing: int) -> tuple[QFrame, QHBoxLayout]:
    """Make a bar across the window and its row. name: as the style sheet has it; margins and spacing in px."""
    frame = QFrame()
    frame.setObjectName(name)
    row = QHBoxLayout(frame)
    row.setContentsMargins(*margins)
    row.setSpacing(spacing)
    return frame, row


def tool_button(action: QAction, text: bool = False) -> QToolButton:
    """Make a button for an action, with or without its text."""
    button = QToolButton()
    button.setDefaultAction(action)
    button.setIconSize(QSize(20, 20))
    style = Qt.ToolButtonStyle.ToolButtonTextBesideIcon if text else Qt.ToolButtonStyle.ToolButtonIconOnly
    button.setToolButtonStyle(style)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    button.setAccessibleName(action.text())
    if not text:
        button.setProperty("flat", True)
    return button
