"""Draws what is measured on the picture, and turns taps and drags into marks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPolygonF

from app.gui.picture.hud import letters
from app.view.measuring import Mark, MarkKind, Place

__all__ = ["MarkDrawing", "MarkGrip", "MarkTool", "ShownMark", "draw_extremes", "draw_marks", "grip_at"]

_LEAST_SPOT = 0.01  # a smaller box is a spot, a smaller line is none
_TEXT_SHARE, _TEXT_LEAST_PX = 1 / 42, 15  # of the picture's height
_HANDLE_PX = 9.0
_CLOSE_PX = 16.0  # a tap so near the first corner closes the polygon
_INK, _ALARM = QColor(255, 255, 255), QColor("#ffb52e")
_SHADE = QColor(8, 10, 14, 190)
_HOT, _COLD = QColor("#ff9040"), QColor("#7cc4ff")

ToView = Callable[[Place], QPointF]
"""From a place of the picture, 0..1, to a point of the view."""


class MarkTool(StrEnum):
    """What a tap or a drag on the picture measures."""

    SPOT_OR_BOX = "spot_or_box"  # a tap sets a spot, a drag a box
    LINE = "line"
    POLYGON = "polygon"  # taps set corners; a tap on the first one, or a double click, closes it


@dataclass(frozen=True, slots=True)
class ShownMark:
    """A mark with what is written beside it. hottest, coldest: where, if they are to be marked. number: who it is."""

    mark: Mark
    text: str
    number: int = 0
    alarmed: bool = False
    selected: bool = False
    hottest: Place | None = None
    coldest: Place | None = None


@dataclass(frozen=True, slots=True)
class MarkGrip:
    """A mark that was taken at a place. corner: the one that was taken, None = all of it."""

    number: int
    mark: Mark
    corner: int | None
    place: Place

    def at(self, place: Place) -> Mark:
        """Return the mark when the hand has come here."""
        if self.corner is not None and self.mark.kind is not MarkKind.SPOT:
            return self.mark.reshaped(self.corner, place)
        return self.mark.moved(place[0] - self.place[0], place[1] - self.place[1])


def grip_at(
    marks: Sequence[ShownMark], to_view: ToView, where: QPointF, place: Place, reach_px: float
) -> MarkGrip | None:
    """Return what a hand takes at a point of the view: a corner, else an outline; the chosen mark's, else the newest's.

    Args:
        place: the same point as a place of the picture. reach_px: how near the hand must be.
    """
    found: list[tuple[int, bool, float, MarkGrip]] = []
    for shown in marks:
        points = [to_view(corner) for corner in shown.mark.corners]
        closed = shown.mark.kind in (MarkKind.BOX, MarkKind.POLYGON)
        sides = list(zip(points, points[1:] + points[:1] if closed else points[1:], strict=False))
        shortest = min((_length(b - a) for a, b in sides), default=3 * reach_px)
        apart, corner = min((_length(point - where), number) for number, point in enumerate(points))
        if apart <= min(reach_px, max(4.0, shortest / 3)):  # some of a short side is left to take all of it by
            found.append((0, not shown.selected, apart, MarkGrip(shown.number, shown.mark, corner, place)))
        apart = min((_from_side(where, a, b) for a, b in sides), default=reach_px + 1)
        if apart <= reach_px / 2:
            found.append((1, not shown.selected, apart, MarkGrip(shown.number, shown.mark, None, place)))
    return min(found, key=lambda each: each[:3])[3] if found else None


def _length(way: QPointF) -> float:
    return math.hypot(way.x(), way.y())


def _from_side(where: QPointF, a: QPointF, b: QPointF) -> float:
    """How far a point is from the line from a to b."""
    along = b - a
    share = QPointF.dotProduct(where - a, along) / max(1e-9, QPointF.dotProduct(along, along))
    return _length(where - (a + along * min(1.0, max(0.0, share))))


class MarkDrawing:
    """A mark that is being drawn. GUI thread."""

    def __init__(self) -> None:
        self.tool: MarkTool | None = None
        self.corners: list[Place] = []

    def use(self, tool: MarkTool | None) -> None:
        """Draw by this tool; None = not at all."""
        self.tool, self.corners = tool, []

    def dragged(self, first: Place, last: Place) -> Mark | None:
        """Return the mark of a drag; None for one that is none."""
        if self.tool is MarkTool.POLYGON:
            return None
        far = max(abs(first[0] - last[0]), abs(first[1] - last[1])) >= _LEAST_SPOT
        if self.tool is MarkTool.LINE:
            return Mark(MarkKind.LINE, (first, last)) if far else None
        if not far:
            return Mark(MarkKind.SPOT, (last,))
        upper, lower = sorted((first[0], last[0]))
        left, right = sorted((first[1], last[1]))
        return Mark(MarkKind.BOX, ((upper, left), (lower, right)))

    def tapped(self, place: Place, to_view: ToView) -> Mark | None:
        """Return the mark that a tap sets or closes; None while it is not whole."""
        if self.tool is MarkTool.SPOT_OR_BOX:
            return Mark(MarkKind.SPOT, (place,))
        if self.tool is not MarkTool.POLYGON:
            return None
        if len(self.corners) >= 3:
            apart = to_view(place) - to_view(self.corners[0])
            if apart.manhattanLength() <= _CLOSE_PX:
                return self.closed()
        self.corners.append(place)
        return None

    def closed(self) -> Mark | None:
        """Close the polygon; None with fewer than three corners."""
        corners, self.corners = self.corners, []
        return Mark(MarkKind.POLYGON, tuple(corners)) if len(corners) >= 3 else None

    def draw(self, painter: QPainter, to_view: ToView, dragging: Mark | None) -> None:
        """Draw what is there so far."""
        points = [to_view(place) for place in self.corners]
        if dragging is not None:
            _outline(painter, dragging, to_view, _INK, Qt.PenStyle.DashLine)
        if points:
            painter.setPen(QPen(_INK, 2, Qt.PenStyle.DashLine))
            painter.drawPolyline(QPolygonF(points))
            for point in points:
                painter.drawEllipse(point, 4.0, 4.0)


def draw_marks(
    painter: QPainter, marks: Sequence[ShownMark], to_view: ToView, height: float, room: float, *, texts: bool
) -> None:
    """Draw marks, and their values beside them, left of `room`. height: of the view, px; the letters grow with it."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for shown in marks:
        _outline(painter, shown.mark, to_view, _ALARM if shown.alarmed else _INK, thick=shown.selected)
        if shown.selected and shown.mark.kind is not MarkKind.SPOT:
            _handles(painter, shown.mark, to_view)
        draw_extremes(painter, shown.hottest, shown.coldest, to_view)
        if texts:
            corners = [to_view(place) for place in shown.mark.corners]
            right, top = max(point.x() for point in corners), min(point.y() for point in corners)
            _label(painter, shown.text, QPointF(right + 14, top - 4), height, room, _ALARM if shown.alarmed else _INK)
    painter.restore()


def draw_extremes(painter: QPainter, hottest: Place | None, coldest: Place | None, to_view: ToView) -> None:
    """Mark the hottest place by a triangle that points up, the coldest by one that points down."""
    for place, colour, way in ((hottest, _HOT, -1.0), (coldest, _COLD, 1.0)):
        if place is None:
            continue
        at = to_view(place)
        corners = [at, at + QPointF(-8, -15 * way), at + QPointF(8, -15 * way)]
        painter.setPen(QPen(QColor(0, 0, 0, 200), 1.5))
        painter.setBrush(colour)
        painter.drawPolygon(QPolygonF(corners))


def _outline(
    painter: QPainter,
    mark: Mark,
    to_view: ToView,
    ink: QColor,
    style: Qt.PenStyle = Qt.PenStyle.SolidLine,
    *,
    thick: bool = False,
) -> None:
    points = [to_view(place) for place in mark.corners]
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for colour, width in ((QColor(0, 0, 0, 180), 4.5 if thick else 4), (ink, 3 if thick else 2)):
        painter.setPen(QPen(colour, width, style))
        if mark.kind is MarkKind.SPOT:
            for arm in (QPointF(14, 0), QPointF(0, 14)):
                painter.drawLine(points[0] - arm, points[0] - arm * 0.3)
                painter.drawLine(points[0] + arm * 0.3, points[0] + arm)
        elif mark.kind is MarkKind.LINE:
            painter.drawLine(points[0], points[1])
        else:
            painter.drawPolygon(QPolygonF(points))


def _handles(painter: QPainter, mark: Mark, to_view: ToView) -> None:
    """Show where the chosen mark can be taken."""
    painter.setPen(QPen(QColor(0, 0, 0, 200), 1.5))
    painter.setBrush(_INK)
    for place in mark.corners:
        at = to_view(place)
        painter.drawRect(QRectF(at.x() - _HANDLE_PX / 2, at.y() - _HANDLE_PX / 2, _HANDLE_PX, _HANDLE_PX))


def _label(painter: QPainter, text: str, place: QPointF, height: float, room: float, ink: QColor) -> None:
    size = max(_TEXT_LEAST_PX, round(height * _TEXT_SHARE))
    font = letters(size, QFont.Weight.DemiBold)
    metrics = QFontMetricsF(font)
    lines = text.split("\n")
    width = max(metrics.horizontalAdvance(line) for line in lines) + size
    left = max(4.0, min(place.x(), room - width - 4))
    box = QRectF(left, max(4.0, place.y()), width, metrics.height() * len(lines) + size / 2)
    painter.setFont(font)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(_SHADE)
    painter.drawRoundedRect(box, 6, 6)
    painter.setPen(ink)
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
