"""The alignment budget as a bar: its parts side by side against the limit, in the colour of the light."""

from __future__ import annotations

from PyQt6.QtCore import QRectF, QSize, Qt
from PyQt6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QSizePolicy, QWidget

from app.gui.common.theme import Level, colours, level_colour, level_sign
from app.gui.widgets.status_text import budget_level
from app.pipeline.state.stats import BudgetReading

__all__ = ["BudgetMeter"]


class BudgetMeter(QWidget):
    """Parallax, skew and shift stacked against the limit; what cannot be told is said in the tool tip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._reading: BudgetReading | None = None
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        self.setAccessibleName(self.tr("Alignment budget"))

    def sizeHint(self) -> QSize:
        return QSize(220, 34)

    def set_reading(self, reading: BudgetReading | None) -> None:
        """Show this budget; None = not known."""
        if reading == self._reading:
            return
        self._reading = reading
        text = self.describe(reading)
        self.setToolTip(text)
        self.setAccessibleDescription(text)
        self.update()

    def describe(self, reading: BudgetReading | None) -> str:
        """The reading in words, its parts and what cannot be told."""
        if reading is None:
            return self.tr("Alignment budget: not known yet")
        parts = (
            (self.tr("parallax"), reading.parallax_px),
            (self.tr("skew"), reading.skew_px),
            (self.tr("shift"), reading.residual_px),
        )
        lines = [self.tr("Alignment: {0:.1f} of {1:g} px").format(reading.total_px, reading.limit_px)]
        lines += [f"{name}: {self.tr('not known') if value is None else f'{value:.1f} px'}" for name, value in parts]
        return "\n".join([*lines, *reading.notes])

    def paintEvent(self, event: QPaintEvent | None) -> None:
        scheme = colours()
        reading = self._reading
        level = budget_level(reading)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QColor(scheme.dim))
        title = QRectF(0, 0, self.width(), 18)
        painter.drawText(title, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self.tr("Alignment"))
        if reading is not None:
            painter.setPen(level_colour(level) if level is not Level.NEUTRAL else QColor(scheme.text))
            shown = f"{level_sign(level)} {reading.total_px:.1f} / {reading.limit_px:g} px"
            painter.drawText(title, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, shown)
        bar = QRectF(0.5, 22.5, self.width() - 1, 9)
        painter.setPen(QPen(QColor(scheme.border), 1))
        painter.setBrush(QColor(scheme.raised))
        painter.drawRoundedRect(bar, 3, 3)
        if reading is not None:
            self._paint_parts(painter, bar, reading, level)
        painter.end()

    def _paint_parts(self, painter: QPainter, bar: QRectF, reading: BudgetReading, level: Level) -> None:
        colour = level_colour(level)
        painter.setPen(Qt.PenStyle.NoPen)
        left, room = bar.left() + 1, bar.width() - 2
        scale = room / max(reading.limit_px, reading.total_px, 1e-6)
        for number, part in enumerate((reading.parallax_px, reading.skew_px, reading.residual_px)):
            if not part:
                continue
            shade = QColor(colour)
            shade.setAlpha((255, 185, 120)[number])
            painter.setBrush(shade)
            painter.drawRect(QRectF(left, bar.top() + 1, part * scale, bar.height() - 2))
            left += part * scale
        if reading.total_px > reading.limit_px:
            x = bar.left() + 1 + reading.limit_px * scale
            painter.setBrush(QColor(colours().text))
            painter.drawRect(QRectF(x - 1, bar.top() - 2, 2, bar.height() + 4))
