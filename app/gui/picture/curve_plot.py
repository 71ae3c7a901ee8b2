"""Curves over time or along a line, painted here, since a plotting library costs a second to load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from app.gui.common.theme import colours

__all__ = ["Curve", "CurvePlot"]

_COLOURS = ("#45a4ff", "#ff9040", "#3fc8a5", "#d88cff", "#ffc24d", "#ff7d9c", "#8fd14f", "#c0c8d4")
_LEFT, _BOTTOM, _TOP, _RIGHT = 58, 22, 22, 12
_TICKS = 4
_FONT_PX = 12


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """(N,) float64 each; NaN is a gap. low, high: a band around it, None = none."""

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None


class CurvePlot(QWidget):
    """clicked: the x that was clicked or dragged to."""

    clicked = pyqtSignal(float)

    def __init__(self, name: str, height_px: int = 150, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._height_px = height_px
        self.curves: tuple[Curve, ...] = ()
        self._unit = self._x_unit = ""
        self._cursor: float | None = None

    def sizeHint(self) -> QSize:
        return QSize(260, self._height_px)

    def show_curves(self, curves: Sequence[Curve], unit: str, x_unit: str) -> None:
        """Show these and no others."""
        self.curves, self._unit, self._x_unit = tuple(curves), unit, x_unit
        self.setAccessibleDescription(", ".join(curve.name for curve in curves))
        self.update()

    def show_cursor(self, x: float | None) -> None:
        """Mark where the picture is; None = nowhere."""
        if x != self._cursor:
            self._cursor = x
            self.update()

    def _span(self) -> tuple[float, float, float, float] | None:
        x = np.concatenate([curve.x for curve in self.curves] or [np.zeros(0)])
        parts = [part for curve in self.curves for part in (curve.y, curve.low, curve.high) if part is not None]
        y = np.concatenate(parts or [np.zeros(0)])
        y = y[np.isfinite(y)]
        if x.size == 0 or y.size == 0:
            return None
        low, high = float(y.min()), float(y.max())
        margin = max(0.5, 0.08 * (high - low))
        return float(x.min()), max(float(x.max()), float(x.min()) + 1e-6), low - margin, high + margin

    def _plot(self) -> QRectF:
        return QRectF(_LEFT, _TOP, max(10, self.width() - _LEFT - _RIGHT), max(10, self.height() - _TOP - _BOTTOM))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        scheme, plot, span = colours(), self._plot(), self._span()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QColor(scheme.surface))
        font = painter.font()
        font.setPixelSize(_FONT_PX)
        painter.setFont(font)
        painter.setPen(QPen(QColor(scheme.border), 1))
        painter.drawRect(plot)
        if span is None:
            painter.setPen(QColor(scheme.dim))
            painter.drawText(plot, Qt.AlignmentFlag.AlignCenter, self.tr("nothing measured yet"))
        else:
            self._paint_axes(painter, plot, span)
            painter.setClipRect(plot)
            for number, curve in enumerate(self.curves):
                self._paint_curve(painter, plot, span, curve, QColor(_COLOURS[number % len(_COLOURS)]))
            if self._cursor is not None:
                x = plot.left() + (self._cursor - span[0]) / (span[1] - span[0]) * plot.width()
                painter.setPen(QPen(QColor(scheme.text), 1.5))
                painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
            painter.setClipping(False)
            self._paint_names(painter)
        painter.end()

    def _paint_axes(self, painter: QPainter, plot: QRectF, span: tuple[float, float, float, float]) -> None:
        scheme = colours()
        digits = max(0, min(3, 1 - math.floor(math.log10(max(1e-6, (span[3] - span[2]) / _TICKS)))))
        for tick in range(_TICKS + 1):
            share = tick / _TICKS
            y = plot.bottom() - share * plot.height()
            painter.setPen(QPen(QColor(scheme.border), 1, Qt.PenStyle.DotLine))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(QColor(scheme.dim))
            box = QRectF(0, y - 9, _LEFT - 6, 18)
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, right, f"{span[2] + share * (span[3] - span[2]):.{digits}f}")
            x = plot.left() + share * plot.width()
            box = QRectF(min(x - 30, self.width() - 64), plot.bottom() + 2, 60, _BOTTOM - 4)
            unit = f" {self._x_unit}" if tick == _TICKS else ""
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, f"{span[0] + share * (span[1] - span[0]):.4g}{unit}")
        painter.drawText(QRectF(4, 2, _LEFT + 30, _TOP - 4), Qt.AlignmentFlag.AlignLeft, self._unit)

    def _paint_curve(
        self, painter: QPainter, plot: QRectF, span: tuple[float, float, float, float], curve: Curve, colour: QColor
    ) -> None:
        def points(y: npt.NDArray[np.float64]) -> list[QPointF]:
            across = plot.left() + (curve.x - span[0]) / (span[1] - span[0]) * plot.width()
            down = plot.bottom() - (y - span[2]) / (span[3] - span[2]) * plot.height()
            found = np.isfinite(down)
            return [QPointF(x, v) for x, v in zip(across[found].tolist(), down[found].tolist(), strict=True)]

        if curve.low is not None and curve.high is not None:
            band = QColor(colour)
            band.setAlpha(50)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(band)
            painter.drawPolygon(QPolygonF([*points(curve.high), *reversed(points(curve.low))]))
        painter.setPen(QPen(colour, 2))
        painter.drawPolyline(QPolygonF(points(curve.y)))

    def _paint_names(self, painter: QPainter) -> None:
        left = float(_LEFT + 40)
        for number, curve in enumerate(self.curves):
            painter.setPen(QColor(_COLOURS[number % len(_COLOURS)]))
            width = painter.fontMetrics().horizontalAdvance(curve.name) + 14.0
            painter.drawText(QRectF(left, 2, width, _TOP - 4), Qt.AlignmentFlag.AlignLeft, curve.name)
            left += width

    def _ask(self, event: QMouseEvent | None) -> None:
        span, plot = self._span(), self._plot()
        if event is not None and span is not None and event.buttons() & Qt.MouseButton.LeftButton:
            share = min(1.0, max(0.0, (event.position().x() - plot.left()) / plot.width()))
            self.clicked.emit(span[0] + share * (span[1] - span[0]))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        self._ask(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        self._ask(event)
