"""One picture in which places are picked: click for a new one, drag or arrow keys to move it, a loupe to see it."""

from __future__ import annotations

from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QFont, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PyQt6.QtWidgets import QWidget

__all__ = ["Mark", "PickView"]

Mark = tuple[int, float, float, bool]
"""Number of the point, x, y in pixels of the picture, and whether the solution uses it."""

_GRAB_PX = 10.0  # on the screen: a click this near to a point takes hold of it
_LOUPE_PX = 132
_LOUPE_ZOOM = 8.0  # screen pixels to a pixel of the picture
_ARROWS = {
    Qt.Key.Key_Left: (-1.0, 0.0),
    Qt.Key.Key_Right: (1.0, 0.0),
    Qt.Key.Key_Up: (0.0, -1.0),
    Qt.Key.Key_Down: (0.0, 1.0),
}
_STEP_PX, _BIG_STEP_PX = 0.25, 2.0


class PickView(QWidget):
    """Shows and asks; decides nothing. Positions are pixels of the picture, the first pixel's centre is (0, 0)."""

    picked = pyqtSignal(float, float)
    chosen = pyqtSignal(int)
    dragged = pyqtSignal(int, float, float)
    nudged = pyqtSignal(float, float)
    removal_asked = pyqtSignal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._image = QImage()
        self._marks: list[Mark] = []
        self._current: int | None = None
        self._hint: tuple[float, float] | None = None
        self._held: int | None = None
        self.setMinimumSize(240, 100)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setAccessibleName(name)
        self.setAccessibleDescription(
            self.tr("Click: a new point. Drag, or arrow keys: move it by a quarter pixel, with Shift by two.")
        )

    def show_image(self, image: QImage) -> None:
        """The picture."""
        self._image = image
        self.update()

    def show_marks(self, marks: list[Mark], current: int | None, hint: tuple[float, float] | None) -> None:
        """The points, the one that is chosen, and where the other picture's open point is expected here."""
        self._marks, self._current, self._hint = marks, current, hint
        self.update()

    # ------------------------------------------------------------------ mouse and keys

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        if event is None or self._image.isNull() or event.button() is not Qt.MouseButton.LeftButton:
            return
        at = event.position()
        near = min(
            ((self._on_screen(x, y) - at, number) for number, x, y, _ in self._marks),
            key=lambda entry: entry[0].manhattanLength(),
            default=None,
        )
        if near is not None and near[0].manhattanLength() <= _GRAB_PX:
            self._held = near[1]
            self.chosen.emit(near[1])
            return
        if self._area().contains(at):
            x, y = self._in_picture(at)
            self.picked.emit(x, y)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        if event is not None and self._held is not None:
            self.dragged.emit(self._held, *self._in_picture(event.position()))

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        self._held = None

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if event is None:
            return
        arrow = _ARROWS.get(Qt.Key(event.key()))
        if arrow is not None:
            big = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            step = _BIG_STEP_PX if big else _STEP_PX
            self.nudged.emit(arrow[0] * step, arrow[1] * step)
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.removal_asked.emit()
        else:
            super().keyPressEvent(event)

    # ------------------------------------------------------------------ painting

    def _area(self) -> QRectF:
        size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        left, top = (self.width() - size.width()) / 2, (self.height() - size.height()) / 2
        return QRectF(left, top, size.width(), size.height())

    def _scale(self) -> float:
        return self._area().width() / max(1, self._image.width())

    def _on_screen(self, x: float, y: float) -> QPointF:
        area, scale = self._area(), self._scale()
        return QPointF(area.left() + (x + 0.5) * scale, area.top() + (y + 0.5) * scale)

    def _in_picture(self, at: QPointF) -> tuple[float, float]:
        area, scale = self._area(), self._scale()
        return (at.x() - area.left()) / scale - 0.5, (at.y() - area.top()) / scale - 0.5

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor("#090b0e"))
        if not self._image.isNull():
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.drawImage(self._area(), self._image)
            if self._hint is not None:
                painter.setPen(QPen(QColor("#ffc24d"), 1.4, Qt.PenStyle.DashLine))
                painter.drawEllipse(self._on_screen(*self._hint), 11, 11)
            for number, x, y, used in self._marks:
                self._paint_mark(painter, self._on_screen(x, y), number, used)
            self._paint_loupe(painter)
        if self.hasFocus():
            painter.setPen(QPen(QColor("#45a4ff"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _paint_mark(self, painter: QPainter, at: QPointF, number: int, used: bool) -> None:
        colour = QColor("#4fdcb8") if used else QColor("#ff6f52")
        reach = 9 if number == self._current else 6
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for pen in (QPen(QColor(0, 0, 0, 190), 3.4), QPen(colour, 1.6)):
            painter.setPen(pen)
            painter.drawLine(at + QPointF(-reach, 0), at + QPointF(-2.5, 0))
            painter.drawLine(at + QPointF(2.5, 0), at + QPointF(reach, 0))
            painter.drawLine(at + QPointF(0, -reach), at + QPointF(0, -2.5))
            painter.drawLine(at + QPointF(0, 2.5), at + QPointF(0, reach))
            if number == self._current:
                painter.drawEllipse(at, reach + 2, reach + 2)
        font = QFont(painter.font())
        font.setBold(True)
        painter.setFont(font)
        place = at + QPointF(reach + 3, -4)
        painter.setPen(QColor(0, 0, 0, 220))
        painter.drawText(place + QPointF(1, 1), str(number + 1))
        painter.setPen(colour)
        painter.drawText(place, str(number + 1))

    def _paint_loupe(self, painter: QPainter) -> None:
        """The neighbourhood of the chosen point, enlarged, in the corner that is farther from it."""
        mark = next((mark for mark in self._marks if mark[0] == self._current), None)
        if mark is None:
            return
        _, x, y, _ = mark
        at, area = self._on_screen(x, y), self._area()
        left = area.left() + 6 if at.x() > area.center().x() else area.right() - 6 - _LOUPE_PX
        top = area.top() + 6 if at.y() > area.center().y() else area.bottom() - 6 - _LOUPE_PX
        loupe = QRectF(left, top, _LOUPE_PX, _LOUPE_PX)
        reach = _LOUPE_PX / 2 / _LOUPE_ZOOM
        painter.setClipRect(loupe)
        painter.fillRect(loupe, QColor("#090b0e"))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)
        whole = QRectF(
            loupe.center().x() - (x + 0.5) * _LOUPE_ZOOM,
            loupe.center().y() - (y + 0.5) * _LOUPE_ZOOM,
            self._image.width() * _LOUPE_ZOOM,
            self._image.height() * _LOUPE_ZOOM,
        )
        seen = QRectF(x + 0.5 - reach, y + 0.5 - reach, 2 * reach, 2 * reach).intersected(
            QRectF(0, 0, self._image.width(), self._image.height())
        )
        painter.drawImage(
            QRectF(
                whole.left() + seen.left() * _LOUPE_ZOOM,
                whole.top() + seen.top() * _LOUPE_ZOOM,
                seen.width() * _LOUPE_ZOOM,
                seen.height() * _LOUPE_ZOOM,
            ),
            self._image,
            seen,
        )
        painter.setPen(QPen(QColor("#ffc24d"), 1))
        centre = loupe.center()
        painter.drawLine(QPointF(loupe.left(), centre.y()), QPointF(centre.x() - 5, centre.y()))
        painter.drawLine(QPointF(centre.x() + 5, centre.y()), QPointF(loupe.right(), centre.y()))
        painter.drawLine(QPointF(centre.x(), loupe.top()), QPointF(centre.x(), centre.y() - 5))
        painter.drawLine(QPointF(centre.x(), centre.y() + 5), QPointF(centre.x(), loupe.bottom()))
        painter.setClipping(False)
        painter.setPen(QPen(QColor(255, 255, 255, 160), 1))
        painter.drawRect(loupe)
