"""The name of what is open: as long as there is room for it, then cut, whole as a tool tip."""

from __future__ import annotations

from PyQt6.QtCore import QSize
from PyQt6.QtWidgets import QSizePolicy, QWidget
from superqt import QElidingLabel

__all__ = ["NameLabel"]

_LEAST_PX = 40
_MOST_PX = 360


class NameLabel(QElidingLabel):
    """A label in the style of a heading that gives way to its neighbours."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "brand")
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self.setMinimumWidth(_LEAST_PX)

    def setText(self, text: str | None) -> None:
        super().setText(text or "")
        self.setToolTip(text or "")
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Of the whole text; the library asks for the cut one, which then never grows again."""
        wanted = self.fontMetrics().horizontalAdvance(self.text()) + 8
        return QSize(min(_MOST_PX, wanted), self.fontMetrics().height() + 4)
