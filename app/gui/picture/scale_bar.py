"""The colour scale beside the picture: what a colour means, how the values are spread, and both ends to drag."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PyQt6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, pyqtSignal
from PyQt6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from PyQt6.QtWidgets import QToolButton, QWidget

from app.gui.common.qt_image import rgb_image
from app.gui.common.theme import set_icon
from app.gui.picture.hud import letters
from app.view.colour_scale import ColourScale

__all__ = ["ScaleBar"]

_BAR_PX, _SPREAD_PX, _MARGIN = 18.0, 40.0, 10.0
_TOUCH_PX = 44
_TEXT_SHARE, _TEXT_LEAST_PX = 1 / 26, 14  # of the bar's height
_SHADE = QColor(8, 10, 14, 150)
_INK, _DIM = QColor(255, 255, 255), QColor(186, 196, 210)

ToUnit = Callable[[float], float]


class ScaleBar(QWidget):
    """Over the right edge of the picture. GUI thread. Values are counts, shown in the unit of `show_scale`.

    span_dragged: (low, high) counts, while an end is being dragged or moved by keys. lock_asked: hold the span that is
    mapped now, or let it follow the scene again.
    """

    span_dragged = pyqtSignal(float, float)
    lock_asked = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMouseTracking(True)
        self.setAccessibleName(self.tr("Colour scale"))
        self._scale: ColourScale | None = None
        self._to_unit: ToUnit | None = None
        self._unit = ""
        self._axis = (0.0, 1.0)
        self._image = QImage()
        self._drag = ""
        self.lock = QToolButton(self)
        self.lock.setCheckable(True)
        self.lock.setFixedSize(_TOUCH_PX, _TOUCH_PX)
        self.lock.clicked.connect(self.lock_asked)
        self.setToolTip(self.tr("Drag an end to set the range by hand; arrow keys move the ends"))
        self.show_locked(False)
        self.hide()

    def sizeHint(self) -> QSize:
        return QSize(128, 320)

    @property
    def texts(self) -> tuple[str, str]:
        """What is written at the lower and upper end."""
        scale = self._scale
        if scale is None:
            return "", ""
        return self._text(scale.low, self.tr("cold")), self._text(scale.high, self.tr("hot"))

    def show_scale(self, scale: ColourScale | None, to_unit: ToUnit | None, unit: str) -> None:
        """Show what the colours mean; None hides the bar.

        Args:
            to_unit: counts to the unit; None = there is none: the ends are called cold and hot.
        """
        self._scale, self._to_unit, self._unit = scale, to_unit, unit
        if self.isHidden() is not (scale is None):
            self.setVisible(scale is not None)
            parent = self.parentWidget()
            if parent is not None and hasattr(parent, "place_overlays"):
                parent.place_overlays()
        if scale is None:
            return
        if not self._drag:
            self._follow(float(scale.edges[0]), float(scale.edges[-1]))
        self._image = rgb_image(np.ascontiguousarray(scale.colours[::-1, None, :]))
        self.setAccessibleDescription(" – ".join(self.texts))
        self.update()

    def show_locked(self, locked: bool) -> None:
        """Show whether the span is held."""
        self.lock.setChecked(locked)
        set_icon(self.lock, "lock" if locked else "lock-open-variant")
        text = self.tr("Let the colours follow the scene") if locked else self.tr("Hold the colours as they are")
        self.lock.setToolTip(text)
        self.lock.setAccessibleName(text)

    def _follow(self, low: float, high: float) -> None:
        """Move the axis slowly and in one go, so that it does not tremble with the noise of each frame."""
        margin = 0.06 * (high - low)
        low, high = low - margin, high + margin
        shown_low, shown_high = self._axis
        if low < shown_low or high > shown_high or (high - low) < 0.7 * (shown_high - shown_low):
            self._axis = (low, high)

    # ------------------------------------------------------------------ painting

    def resizeEvent(self, event: QEvent | None) -> None:
        self.lock.move(self.width() - _TOUCH_PX, self.height() - _TOUCH_PX)

    def _area(self) -> QRectF:
        """Where the axis is drawn."""
        room = self._font_px() * 1.5
        left = self.width() - _BAR_PX - _MARGIN
        return QRectF(left, room, _BAR_PX, max(20.0, self.height() - 2 * room - _TOUCH_PX))

    def _font_px(self) -> int:
        return max(_TEXT_LEAST_PX, round(self.height() * _TEXT_SHARE))

    def _y(self, counts: float) -> float:
        area, (low, high) = self._area(), self._axis
        return area.bottom() - (counts - low) / max(1e-9, high - low) * area.height()

    def _counts(self, y: float) -> float:
        area, (low, high) = self._area(), self._axis
        return low + (area.bottom() - y) / max(1.0, area.height()) * (high - low)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        scale = self._scale
        if scale is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = self._area()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_SHADE)
        painter.drawRoundedRect(QRectF(0, 0, self.width(), self.height() - _TOUCH_PX), 8, 8)
        low, high = self._y(scale.low), self._y(scale.high)
        colours = [QColor(*(int(part) for part in colour)) for colour in (scale.colours[0], scale.colours[-1])]
        for colour, top, bottom in ((colours[1], area.top(), high), (colours[0], low, area.bottom())):
            colour.setAlpha(110)  # beyond the ends everything has the colour of the end
            painter.fillRect(QRectF(area.left(), top, area.width(), max(0.0, bottom - top)), colour)
        painter.drawImage(QRectF(area.left(), high, area.width(), max(1.0, low - high)), self._image)
        self._paint_spread(painter, scale, area)
        for y in (low, high):
            painter.setPen(QPen(QColor(0, 0, 0, 200), 1.5))
            painter.setBrush(_INK)
            tip = QPointF(area.left() - 1, y)
            painter.drawPolygon(QPolygonF([tip, tip + QPointF(-13, -8), tip + QPointF(-13, 8)]))
            painter.setPen(QPen(_INK, 2))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        self._paint_texts(painter, area)
        painter.end()

    def _paint_spread(self, painter: QPainter, scale: ColourScale, area: QRectF) -> None:
        most = scale.numbers.max()
        if most <= 0:
            return
        widths = np.sqrt(scale.numbers / most) * _SPREAD_PX  # a root: small hot things stay visible
        foot = area.left() - 16
        points = [QPointF(foot, self._y(float(scale.edges[0])))]
        for number, width in enumerate(widths.tolist()):
            points.append(QPointF(foot - width, self._y(float(scale.edges[number]))))
            points.append(QPointF(foot - width, self._y(float(scale.edges[number + 1]))))
        points.append(QPointF(foot, self._y(float(scale.edges[-1]))))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(255, 255, 255, 120))
        painter.drawPolygon(QPolygonF(points))

    def _paint_texts(self, painter: QPainter, area: QRectF) -> None:
        low, high = self.texts
        font = letters(self._font_px(), QFont.Weight.DemiBold)
        tall = QFontMetricsF(font).height()
        painter.setFont(font)
        painter.setPen(_INK)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, area.top() - tall - 2, self.width() - 6, tall), right, high)
        painter.drawText(QRectF(0, area.bottom() + 2, self.width() - 6, tall), right, low)

    def _text(self, counts: float, word: str) -> str:
        return word if self._to_unit is None else f"{self._to_unit(counts):.1f} {self._unit}"

    # ------------------------------------------------------------------ dragging

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        if event is None or self._scale is None:
            return
        y = event.position().y()
        apart = {"low": abs(self._y(self._scale.low) - y), "high": abs(self._y(self._scale.high) - y)}
        nearest = min(apart, key=lambda end: apart[end])
        self._drag = nearest if apart[nearest] <= _TOUCH_PX / 2 else ""

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        scale = self._scale
        if event is None or scale is None:
            return
        if not self._drag:
            near = min(abs(self._y(end) - event.position().y()) for end in (scale.low, scale.high)) <= _TOUCH_PX / 2
            self.setCursor(Qt.CursorShape.SizeVerCursor if near else Qt.CursorShape.ArrowCursor)
            return
        self._move(self._drag, self._counts(event.position().y()))

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        self._drag = ""

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        scale = self._scale
        way = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(Qt.Key(event.key())) if event is not None else None
        if event is None or scale is None or way is None:
            super().keyPressEvent(event)
            return
        step = way * (self._axis[1] - self._axis[0]) / 100
        upper = not event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        self._move("high" if upper else "low", (scale.high if upper else scale.low) + step)

    def _move(self, end: str, counts: float) -> None:
        scale = self._scale
        if scale is None:
            return
        counts = min(65535.0, max(0.0, counts))
        low, high = (counts, scale.high) if end == "low" else (scale.low, counts)
        if high - low >= 2.0:
            self.span_dragged.emit(low, high)
