"""Histogram of the raw thermal counts with the mapped span, whose two ends can be dragged.

Painted here and not by a plotting library: importing one on the GUI thread costs a good part of a second.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from app.gui.common.theme import colours
from app.view.measuring import Convert

__all__ = ["HistogramView"]

_HEIGHT = 132
_AXIS = 20
_GRIP_PX = 8.0


class HistogramView(QWidget):
    """span_dragged: (low, high) counts, while dragging; span_chosen: the same at the end."""

    span_dragged = pyqtSignal(int, int)
    span_chosen = pyqtSignal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Histogram of raw counts"))
        self.setToolTip(self.tr("Drag the ends of the span to map it by hand; arrow keys move it"))
        self._counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._edges: npt.NDArray[np.float64] = np.zeros(1)
        self._span = (0.0, 0.0)
        self._shown = (0.0, 1.0)
        self._convert: Convert | None = None
        self._unit = ""
        self._drag: str = ""
        self._drag_from = (0.0, 0.0, 0.0)

    def sizeHint(self) -> QSize:
        return QSize(260, _HEIGHT)

    def set_histogram(
        self, counts: npt.NDArray[np.int64], edges: npt.NDArray[np.float64], span: tuple[float, float]
    ) -> None:
        """Show (N,) numbers over (N + 1,) edges in counts, and the mapped span (unless it is being dragged)."""
        self._counts, self._edges = counts, edges
        if not self._drag:
            self._span = span
        filled = np.flatnonzero(counts)
        if filled.size and not self._drag:
            low, high = float(edges[filled[0]]), float(edges[filled[-1] + 1])
            if self._span[1] > low and self._span[0] < high:  # a span elsewhere is that of no thermal picture
                low, high = min(low, self._span[0]), max(high, self._span[1])
            margin = max(4.0, 0.06 * (high - low))
            low, high = low - margin, high + margin
            old_low, old_high = self._shown
            # The axis follows slowly and in one go, so that it does not tremble with the noise of each frame.
            if low < old_low or high > old_high or (high - low) < 0.7 * (old_high - old_low):
                self._shown = (low, high)
        self.update()

    def set_unit(self, convert: Convert | None, unit: str) -> None:
        """Write what the counts mean in this unit; None = counts."""
        self._convert, self._unit = convert, unit

    def _text(self, counts: float) -> str:
        if self._convert is None:
            return f"{counts:.0f}"
        return f"{float(self._convert(np.array([counts]))[0]):.1f}"

    @property
    def span(self) -> tuple[float, float]:
        """The span shown, counts."""
        return self._span

    # ------------------------------------------------------------------ painting

    def _x(self, count: float) -> float:
        low, high = self._shown
        return (count - low) / max(1e-9, high - low) * self.width()

    def _count(self, x: float) -> float:
        low, high = self._shown
        return low + x / max(1, self.width()) * (high - low)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        scheme = colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        plot = QRectF(0.5, 0.5, self.width() - 1, self.height() - _AXIS)
        painter.setPen(QPen(QColor(scheme.accent if self.hasFocus() else scheme.border), 1))
        painter.setBrush(QColor(scheme.raised))
        painter.drawRoundedRect(plot, 6, 6)
        left, right = self._x(self._span[0]), self._x(self._span[1])
        shade = QColor(scheme.accent)
        shade.setAlpha(45)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(shade)
        painter.drawRect(QRectF(left, plot.top() + 1, right - left, plot.height() - 2))
        self._paint_bars(painter, plot)
        for x in (left, right):
            painter.setPen(QPen(QColor(scheme.accent), 2))
            painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(scheme.accent))
            painter.drawRoundedRect(QRectF(x - 4, plot.center().y() - 11, 8, 22), 3, 3)
        font = painter.font()
        font.setPixelSize(12)
        painter.setFont(font)
        painter.setPen(QColor(scheme.dim))
        axis = QRectF(0, self.height() - _AXIS + 2, self.width(), _AXIS - 2)
        mapped = self._span[1] > self._shown[0] and self._span[0] < self._shown[1]  # else: of no thermal picture
        text = self.tr("no picture")
        if mapped and self._counts.any():
            unit = self._unit if self._convert is not None else self.tr("counts")
            text = self.tr("{0} to {1} {2}").format(*(self._text(end) for end in self._span), unit)
        painter.drawText(axis, Qt.AlignmentFlag.AlignCenter, text)
        painter.drawText(axis, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self._text(self._shown[0]))
        painter.drawText(axis, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, self._text(self._shown[1]))
        painter.end()

    def _paint_bars(self, painter: QPainter, plot: QRectF) -> None:
        if not self._counts.any():
            return
        heights = np.sqrt(self._counts / self._counts.max())  # a root: small hot things stay visible
        points = [QPointF(self._x(float(self._edges[0])), plot.bottom())]
        for number, height in enumerate(heights.tolist()):
            y = plot.bottom() - 1 - height * (plot.height() - 8)
            points.append(QPointF(self._x(float(self._edges[number])), y))
            points.append(QPointF(self._x(float(self._edges[number + 1])), y))
        points.append(QPointF(self._x(float(self._edges[-1])), plot.bottom()))
        painter.save()
        painter.setClipRect(plot.adjusted(1, 1, -1, -1))
        fill = QColor(colours().text)
        fill.setAlpha(150)
        painter.setBrush(fill)
        painter.drawPolygon(QPolygonF(points))
        painter.restore()

    # ------------------------------------------------------------------ dragging

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        if event is None or not self._counts.any():
            return
        x = event.position().x()
        low, high = self._span
        near = min((abs(self._x(low) - x), "low"), (abs(self._x(high) - x), "high"))
        if near[0] <= _GRIP_PX:
            self._drag = near[1]
        elif self._x(low) < x < self._x(high):
            self._drag = "both"
        self._drag_from = (self._count(x), low, high)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        if event is None:
            return
        x = event.position().x()
        if not self._drag:
            near = min(abs(self._x(end) - x) for end in self._span) <= _GRIP_PX
            self.setCursor(Qt.CursorShape.SizeHorCursor if near else Qt.CursorShape.ArrowCursor)
            return
        start, low, high = self._drag_from
        moved = self._count(x) - start
        self._move(low + moved * (self._drag != "high"), high + moved * (self._drag != "low"))
        self.span_dragged.emit(round(self._span[0]), round(self._span[1]))

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        if self._drag:
            self._drag = ""
            self.span_chosen.emit(round(self._span[0]), round(self._span[1]))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is None:
            return
        step = (self._shown[1] - self._shown[0]) / 100
        way = {Qt.Key.Key_Left: -step, Qt.Key.Key_Right: step}.get(Qt.Key(event.key()))
        if way is None or not self._counts.any():
            super().keyPressEvent(event)
            return
        shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        self._move(self._span[0] + (0 if shift else way), self._span[1] + way)
        self.span_chosen.emit(round(self._span[0]), round(self._span[1]))

    def _move(self, low: float, high: float) -> None:
        low, high = max(0.0, low), min(65535.0, high)
        if high - low < 2:
            return
        self._span = (low, high)
        self.update()
