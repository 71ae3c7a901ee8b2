"""What the live page and the playback page have in common: the video with its banners, and buttons for actions."""

from __future__ import annotations

from PyQt6.QtCore import QSize, Qt
from PyQt6.QtGui import QAction, QResizeEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from app.gui.common.window_actions import WindowActions
from app.gui.picture.operator_bar import OperatorBar
from app.gui.picture.scale_bar import ScaleBar
from app.gui.picture.video_view import VideoView
from app.gui.widgets.banner import BannerStack
from app.view.settings import ViewMode

__all__ = ["VideoStage", "bar", "tool_button", "view_buttons"]


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


def view_buttons(actions: WindowActions) -> QWidget:
    """Put the buttons of the nine views side by side."""
    widget = QWidget()
    row = QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(2)
    for mode in ViewMode:
        row.addWidget(tool_button(actions[f"view_{mode}"]))
    return widget
