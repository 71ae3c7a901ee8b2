"""The head-up display: figures over the picture, painted once for each change and then copied."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import QRectF, Qt
from PyQt6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPixmap

from app.gui.common.theme import Level, level_sign
from app.gui.widgets.status_text import Figure

__all__ = ["HudPainter", "draw_pill"]

_PADDING = 12.0
_LINE = 25.0
_SHADE = QColor(8, 10, 14, 178)
_LABEL = QColor(186, 196, 210)
_VALUE = QColor(255, 255, 255)
_SMALL_PX = 600  # up to this height of the picture the letters have their plain size
_LARGEST = 1.8
_LEVEL = {Level.GOOD: QColor("#4fdcb8"), Level.CAUTION: QColor("#ffc24d"), Level.BAD: QColor("#ff7a5e")}


class HudPainter:
    """Keeps the painted block until its text changes. GUI thread."""

    def __init__(self) -> None:
        self._key: object = None
        self._pixmap = QPixmap()

    def draw(
        self, painter: QPainter, figures: Sequence[Figure], left: float, top: float, ratio: float, room_px: int = 0
    ) -> None:
        """Draw the block with its upper left corner at (left, top); nothing for no figures.

        Args:
            room_px: height of the picture; the letters grow with it, so that they can be read from where one looks at
                a full screen.
        """
        if not figures:
            return
        size = min(_LARGEST, max(1.0, room_px / _SMALL_PX))
        key = (tuple(figures), ratio, size)
        if key != self._key:
            self._key, self._pixmap = key, _painted(figures, ratio, size)
        painter.drawPixmap(round(left), round(top), self._pixmap)


def _painted(figures: Sequence[Figure], screen_ratio: float, size: float) -> QPixmap:
    ratio = screen_ratio * size
    label_font, value_font = _font(14, QFont.Weight.Normal), _font(16, QFont.Weight.DemiBold)
    label_metrics, value_metrics = QFontMetricsF(label_font), QFontMetricsF(value_font)
    label_width = max(label_metrics.horizontalAdvance(figure.label) for figure in figures)
    value_width = max(value_metrics.horizontalAdvance(_shown(figure)) for figure in figures)
    width, height = label_width + value_width + 3 * _PADDING, _LINE * len(figures) + 2 * _PADDING - 6
    pixmap = QPixmap(round(width * ratio), round(height * ratio))
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(_SHADE)
    painter.drawRoundedRect(QRectF(0, 0, width, height), 8, 8)
    for number, figure in enumerate(figures):
        top = _PADDING - 3 + number * _LINE
        painter.setFont(label_font)
        painter.setPen(_LABEL)
        painter.drawText(QRectF(_PADDING, top, label_width, _LINE), Qt.AlignmentFlag.AlignVCenter, figure.label)
        painter.setFont(value_font)
        painter.setPen(_LEVEL.get(figure.level, _VALUE))
        left = 2 * _PADDING + label_width
        painter.drawText(QRectF(left, top, value_width + 2, _LINE), Qt.AlignmentFlag.AlignVCenter, _shown(figure))
    painter.end()
    pixmap.setDevicePixelRatio(screen_ratio)
    return pixmap


def draw_pill(painter: QPainter, text: str, left: float, top: float, accent: bool = False) -> None:
    """A short text on a shade, e.g. the name of a panel."""
    font = _font(13, QFont.Weight.DemiBold)
    width = QFontMetricsF(font).horizontalAdvance(text) + 16
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(font)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor("#45a4ff") if accent else _SHADE)
    painter.drawRoundedRect(QRectF(left, top, width, 24), 6, 6)
    painter.setPen(QColor("#06121f") if accent else _VALUE)
    painter.drawText(QRectF(left, top, width, 24), Qt.AlignmentFlag.AlignCenter, text)


def _shown(figure: Figure) -> str:
    sign = f"{level_sign(figure.level)} " if figure.level in (Level.CAUTION, Level.BAD) else ""
    return f"{sign}{figure.value}"


def _font(pixels: int, weight: QFont.Weight) -> QFont:
    font = QFont()
    font.setFamilies(["Inter", "Segoe UI", "Noto Sans", "DejaVu Sans"])
    font.setPixelSize(pixels)
    font.setWeight(weight)
    return font
