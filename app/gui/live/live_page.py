"""The live picture with its tool bar, banners, control panel and status bar. Shows and asks; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

from PyQt6.QtCore import QSize, Qt, pyqtSignal
from PyQt6.QtGui import QAction, QResizeEvent
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from app.gui.common.theme import restyle
from app.gui.live.control_panel import ControlPanel
from app.gui.live.status_bar import StatusBar
from app.gui.widgets.banner import BannerStack
from app.gui.widgets.name_label import NameLabel
from app.gui.widgets.timing_plot import TimingPlot
from app.gui.widgets.video_view import VideoView
from app.view.settings import ViewMode

__all__ = ["LivePage", "VideoStage", "tool_button", "view_buttons"]

_WIDE_PX = 1240  # from here on record and start have their words beside the icon


class VideoStage(QWidget):
    """The video with banners floating above it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.video = VideoView(self)
        self.banners = BannerStack(self)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(self.video.minimumSize())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        self.video.setGeometry(self.rect())
        self.place_overlays()

    def place_overlays(self) -> None:
        """Banners at the bottom, in the middle: the figures are at the top."""
        width = max(200, min(760, self.width() - 48))
        self.banners.setFixedWidth(width)
        layout = self.banners.layout()
        wraps = layout is not None and layout.hasHeightForWidth()
        height = layout.heightForWidth(width) if layout is not None and wraps else self.banners.sizeHint().height()
        self.banners.setGeometry((self.width() - width) // 2, self.height() - height - 24, width, height)
        self.banners.raise_()


def tool_button(action: QAction, text: bool = False) -> QToolButton:
    """A button for an action, with or without its text."""
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


def view_buttons(actions: Mapping[str, QAction]) -> QWidget:
    """The nine views side by side."""
    widget = QWidget()
    row = QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(2)
    for mode in ViewMode:
        row.addWidget(tool_button(actions[f"view_{mode}"]))
    return widget


class LivePage(QWidget):
    """Put together from parts that the window connects. timing_asked: the timing plot is shown for the first time."""

    timing_asked = pyqtSignal()

    def __init__(self, actions: Mapping[str, QAction], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._timing = False
        self.stage = VideoStage()
        self.panel = ControlPanel()
        self.status = StatusBar()
        self.timing = TimingPlot()
        self.rig = NameLabel()
        self.record = tool_button(actions["record"], text=True)
        self.run = tool_button(actions["run"], text=True)
        self.bar = QFrame()
        self.bar.setObjectName("bar")
        row = QHBoxLayout(self.bar)
        row.setContentsMargins(8, 6, 8, 6)
        row.setSpacing(2)
        row.addWidget(tool_button(actions["home"]))
        row.addWidget(self.rig)
        row.addSpacing(8)
        row.addWidget(view_buttons(actions))
        row.addStretch(1)
        for name in ("compare", "freeze", "snapshot", "event"):
            row.addWidget(tool_button(actions[name]))
        row.addSpacing(6)
        row.addWidget(self.record)
        row.addSpacing(2)
        row.addWidget(self.run)
        row.addSpacing(6)
        for name in ("hud", "timing", "full_screen", "log", "settings", "help", "panel"):
            row.addWidget(tool_button(actions[name]))
        middle = QHBoxLayout()
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        middle.addWidget(self.stage, 1)
        middle.addWidget(self.panel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.bar)
        column.addLayout(middle, 1)
        column.addWidget(self.timing)
        column.addWidget(self.status)

    def show_timing(self, on: bool) -> None:
        """Show or hide the timing plot."""
        self._timing = on
        self.timing.setVisible(on)
        if on and not self.timing.ready:
            self.timing_asked.emit()

    def show_recording(self, on: bool) -> None:
        """Mark the record button."""
        if bool(self.record.property("recording")) != on:
            self.record.setProperty("recording", on)
            restyle(self.record)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        wide = self.width() >= _WIDE_PX
        style = Qt.ToolButtonStyle.ToolButtonTextBesideIcon if wide else Qt.ToolButtonStyle.ToolButtonIconOnly
        for button in (self.record, self.run):
            if button.toolButtonStyle() is not style:
                button.setToolButtonStyle(style)

    def set_full_screen(self, on: bool, panel: bool) -> None:
        """Only the picture, or everything."""
        self.bar.setVisible(not on)
        self.status.setVisible(not on)
        self.timing.setVisible(self._timing and not on)
        self.panel.setVisible(panel and not on)
