"""A slider with two ends, dragged one by one or together, in the colours of the window."""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import QEvent, Qt, pyqtSignal
from PyQt6.QtGui import QBrush, QColor
from PyQt6.QtWidgets import QVBoxLayout, QWidget
from superqt import QRangeSlider

from app.gui.common.theme import colours

__all__ = ["RangeSlider"]


class RangeSlider(QWidget):
    """chosen: (low, high) as the user drags or types; never when set by program."""

    chosen = pyqtSignal(int, int)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider: Any = QRangeSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
        self._slider.setAccessibleName(name)
        self._slider.setToolTip(name)
        self._slider.valueChanged.connect(lambda ends: self.chosen.emit(int(ends[0]), int(ends[1])))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 4)
        column.addWidget(self._slider)
        self._use_colours()

    @property
    def ends(self) -> tuple[int, int]:
        """What it shows."""
        low, high = self._slider.value()
        return int(low), int(high)

    def show_ends(self, low: int, high: int, least: int, most: int) -> None:
        """Show these ends on a scale from `least` to `most`, which is widened if they lie outside."""
        self._slider.blockSignals(True)
        self._slider.setRange(min(least, low), max(most, high, least + 1))
        self._slider.setValue((low, high))
        self._slider.blockSignals(False)

    def changeEvent(self, event: QEvent | None) -> None:
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange:
            self._use_colours()

    def _use_colours(self) -> None:
        self._slider.barColor = QBrush(QColor(colours().accent))
