"""The head-up display: figures and chips over the picture. The figures are painted once a change, then copied."""

from __future__ import annotations

from collections.abc import Sequence

from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPixmap, QPolygonF

from app.gui.common.theme import RECORDING_RED, Level, level_sign
from app.gui.widgets.status_text import Chip, ChipKind, ChipShape, Figure

__all__ = ["HudPainter", "chip_size_px", "draw_chips", "draw_pill", "letters"]

_PADDING = 12.0
_LINE = 25.0
_SHADE = QColor(8, 10, 14, 178)
_LABEL = QColor(186, 196, 210)
_VALUE = QColor(255, 255, 255)
_SMALL_PX = 600  # up to this height of the picture the letters have their plain size
_LARGEST = 1.8
_CHIP_SHARE, _CHIP_LEAST_PX = 1 / 30, 15  # of the picture's height: 36 px on 1080, which is read at 2 m
_CHIP = {ChipKind.RECORDING: (QColor(RECORDING_RED), _VALUE), ChipKind.TROUBLE: (QColor("#ffb52e"), QColor("#1d1300"))}
_LEVEL = {
    Level.GOOD: QColor("#4fdcb8"),
    Level.CAUTION: QColor("#ffc24d"),
    Level.BAD: QColor("#ff9a4a"),
    Level.RECORDING: QColor("#ff6474"),
}


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
    label_font, value_font = letters(14, QFont.Weight.Normal), letters(16, QFont.Weight.DemiBold)
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


def draw_pill(painter: QPainter, text: str, left: float, top: float) -> None:
    """A short text on a shade, e.g. the name of a panel."""
    font = letters(13, QFont.Weight.DemiBold)
    width = QFontMetricsF(font).horizontalAdvance(text) + 16
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(font)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(_SHADE)
    painter.drawRoundedRect(QRectF(left, top, width, 24), 6, 6)
    painter.setPen(_VALUE)
    painter.drawText(QRectF(left, top, width, 24), Qt.AlignmentFlag.AlignCenter, text)


def chip_size_px(chips: Sequence[Chip], width: float, height: float) -> int:
    """Return the size of the letters: by the picture's height, and as small as the longest chip needs to fit in."""
    size = max(_CHIP_LEAST_PX, round(height * _CHIP_SHARE))
    metrics = QFontMetricsF(letters(size, QFont.Weight.Bold))
    longest = max((metrics.horizontalAdvance(chip.text) for chip in chips), default=0.0) + 2.6 * size
    return max(8, int(size * min(1.0, (width - 24) / max(1.0, longest))))


def draw_chips(painter: QPainter, chips: Sequence[Chip], width: float, height: float) -> None:
    """Draw chips one below the other in the upper right corner of a picture of this size."""
    size = chip_size_px(chips, width, height)
    font = letters(size, QFont.Weight.Bold)
    tall, top = 1.7 * size, 12.0
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(font)
    for chip in chips:
        ground, ink = _CHIP[chip.kind]
        text_width = QFontMetricsF(font).horizontalAdvance(chip.text)
        box = QRectF(width - 12 - text_width - 2.5 * size, top, text_width + 2.5 * size, tall)
        painter.setPen(QPen(QColor(0, 0, 0, 150), 1))
        painter.setBrush(ground)
        painter.drawRoundedRect(box, size / 3, size / 3)
        _draw_shape(painter, chip.shape, QPointF(box.left() + 1.1 * size, box.center().y()), 0.42 * size, ink)
        painter.setPen(ink)
        room = box.adjusted(1.95 * size, 0, 0, 0)
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine, chip.text)
        top += tall + size / 3
    painter.restore()


def _draw_shape(painter: QPainter, shape: ChipShape, middle: QPointF, reach: float, ink: QColor) -> None:
    x, y = middle.x(), middle.y()
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ink)
    if shape is ChipShape.DOT:
        painter.drawEllipse(middle, reach, reach)
    elif shape is ChipShape.BARS:
        for left in (x - 0.8 * reach, x + 0.2 * reach):
            painter.drawRect(QRectF(left, y - reach, 0.6 * reach, 2 * reach))
    elif shape is ChipShape.TRIANGLE:
        corners = [QPointF(x, y - reach), QPointF(x + reach, y + reach), QPointF(x - reach, y + reach)]
        painter.drawPolygon(QPolygonF(corners))
    elif shape is ChipShape.SQUARE:
        painter.drawRect(QRectF(x - reach, y - reach, 2 * reach, 2 * reach))
    else:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(ink, 0.5 * reach))
        if shape is ChipShape.RING:
            painter.drawEllipse(middle, 0.8 * reach, 0.8 * reach)
        else:
            painter.drawLine(QPointF(x - reach, y - reach), QPointF(x + reach, y + reach))
            painter.drawLine(QPointF(x - reach, y + reach), QPointF(x + reach, y - reach))


def _shown(figure: Figure) -> str:
    sign = f"{level_sign(figure.level)} " if figure.level in (Level.CAUTION, Level.BAD, Level.RECORDING) else ""
    return f"{sign}{figure.value}"


def letters(pixels: int, weight: QFont.Weight) -> QFont:
    """Return the font of everything written on the picture."""
    font = QFont()
    font.setFamilies(["Inter", "Segoe UI", "Noto Sans", "DejaVu Sans"])
    font.setPixelSize(pixels)
    font.setWeight(weight)
    return font
