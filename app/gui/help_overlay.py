"""What the keys do, over whatever page is shown. Any key or click closes it."""

from __future__ import annotations

from collections.abc import Mapping

from PyQt6.QtCore import Qt, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QKeySequence, QMouseEvent, QPainter, QPaintEvent
from PyQt6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.gui.common.actions import ACTIONS, action_text, group_text

__all__ = ["HelpOverlay"]


class HelpOverlay(QWidget):
    """Covers its parent while it is shown."""

    closed = pyqtSignal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Help"))
        self.setProperty("takes_keys", True)
        self._shown: dict[str, str] | None = None
        self._card = QFrame(self)
        self._card.setObjectName("help")
        self._columns = QHBoxLayout()
        self._columns.setSpacing(32)
        title = QLabel(self.tr("Keys"))
        title.setProperty("role", "heading")
        hint = QLabel(
            self.tr("Wheel: zoom · drag: pan · double click: full screen · drag the divider: wipe · Esc: leave")
        )
        hint.setProperty("role", "dim")
        layout = QVBoxLayout(self._card)
        layout.setContentsMargins(28, 24, 28, 24)
        layout.setSpacing(14)
        layout.addWidget(title)
        layout.addLayout(self._columns)
        layout.addWidget(hint)
        outer = QVBoxLayout(self)
        outer.addWidget(self._card, 0, Qt.AlignmentFlag.AlignCenter)
        self.hide()

    def show_keys(self, shortcuts: Mapping[str, str]) -> None:
        """Show the actions with these keys."""
        self.prepare(shortcuts)
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self.show()
        self.raise_()
        self.setFocus()

    def prepare(self, shortcuts: Mapping[str, str]) -> None:
        """Make the table of these keys if it is not there."""
        if self._shown == dict(shortcuts):
            return
        self._shown = dict(shortcuts)
        while (item := self._columns.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        groups: dict[str, list[tuple[str, str]]] = {}
        for spec in ACTIONS:
            key = QKeySequence(shortcuts.get(spec.name, spec.key)).toString(QKeySequence.SequenceFormat.NativeText)
            groups.setdefault(spec.group, []).append((key, action_text(spec)))
        for names in (("Views", "Playback"), ("Picture",), ("Rig and recording", "Window")):
            self._columns.addWidget(_column([(group_text(name), groups[name]) for name in names]))
        for label in self._card.findChildren(QLabel):
            label.ensurePolished()  # the style sheet is looked up now and not when it is shown

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(4, 6, 9, 150))
        painter.end()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        self._close()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        self._close()

    def _close(self) -> None:
        self.hide()
        self.closed.emit()


def _column(groups: list[tuple[str, list[tuple[str, str]]]]) -> QWidget:
    widget = QWidget()
    grid = QGridLayout(widget)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(12)
    grid.setVerticalSpacing(6)
    row = 0
    for title, entries in groups:
        heading = QLabel(title)
        heading.setProperty("role", "step")
        heading.setContentsMargins(0, 10 if row else 0, 0, 0)
        grid.addWidget(heading, row, 0, 1, 2)
        row += 1
        for key, text in entries:
            cap = QLabel(key or "–")
            cap.setProperty("key", True)
            grid.addWidget(cap, row, 0, Qt.AlignmentFlag.AlignLeft)
            grid.addWidget(QLabel(text), row, 1)
            row += 1
    grid.setRowStretch(row, 1)
    return widget
