"""Building blocks of the control panel: sections that fold, labelled rows, sliders with their value."""

from __future__ import annotations

from collections.abc import Callable

from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PyQt6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.theme import GAP, colours, set_icon

__all__ = ["CheckBox", "ComboBox", "Section", "ShareSlider", "Spin", "combo", "form", "let_scroll", "spin"]


def _draw_line(widget: QWidget, points: list[QPointF], colour: str) -> None:
    painter = QPainter(widget)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(colour), 2, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
    painter.drawPolyline(QPolygonF(points))
    painter.end()


class CheckBox(QCheckBox):
    """With a tick in it when it is on: the style sheet can only fill it."""

    def paintEvent(self, event: QPaintEvent | None) -> None:
        super().paintEvent(event)
        style = self.style()
        if not self.isChecked() or style is None:
            return
        option = QStyleOptionButton()
        self.initStyleOption(option)
        box = QRectF(style.subElementRect(QStyle.SubElement.SE_CheckBoxIndicator, option, self))
        scheme = colours()
        places = ((0.26, 0.52), (0.44, 0.70), (0.76, 0.32))
        tick = [QPointF(box.left() + x * box.width(), box.top() + y * box.height()) for x, y in places]
        _draw_line(self, tick, scheme.on_accent if self.isEnabled() else scheme.window)


class ComboBox(QComboBox):
    """Leaves the wheel to the panel unless it is focused: scrolling must not change settings."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        super().paintEvent(event)
        x, y = self.width() - 14.0, self.height() / 2
        scheme = colours()
        arrow = [QPointF(x - 4, y - 2), QPointF(x, y + 2.5), QPointF(x + 4, y - 2)]
        _draw_line(self, arrow, scheme.dim if self.isEnabled() else scheme.faint)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None:
            super().wheelEvent(event) if self.hasFocus() else event.ignore()


class Spin(QDoubleSpinBox):
    """The same for numbers; arrow keys and wheel change them, there are no buttons to hit."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.setKeyboardTracking(False)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None:
            super().wheelEvent(event) if self.hasFocus() else event.ignore()


class Section(QWidget):
    """A heading that folds what is below it. Add to `body`."""

    folded = pyqtSignal(bool)

    def __init__(self, title: str, icon_name: str, opened: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._button = QToolButton()
        self._button.setProperty("section", True)
        self._button.setText(title)
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._button.setCheckable(False)
        self._button.setAccessibleName(title)
        self._button.clicked.connect(lambda: self.set_open(self.content.isHidden()))
        self._icon_name = icon_name
        self.content = QWidget()
        self.body = QVBoxLayout(self.content)
        self.body.setContentsMargins(4, 0, 4, GAP)
        self.body.setSpacing(GAP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._button)
        layout.addWidget(self.content)
        self.content.setVisible(opened)
        self._show_arrow()

    @property
    def opened(self) -> bool:
        """Whether the body is shown."""
        return not self.content.isHidden()

    def set_open(self, opened: bool) -> None:
        """Fold or unfold."""
        self.content.setVisible(opened)
        self._show_arrow()
        self.folded.emit(not opened)

    def _show_arrow(self) -> None:
        set_icon(self._button, "chevron-down" if self.opened else "chevron-right")
        self._button.setAccessibleDescription(self.tr("open") if self.opened else self.tr("folded"))


def form() -> QFormLayout:
    """Label to the left, field to the right, as all panels have it."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setHorizontalSpacing(12)
    layout.setVerticalSpacing(GAP)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    return layout


def combo(name: str, entries: list[tuple[str, object]], changed: Callable[[object], None]) -> QComboBox:
    """A choice; `changed` gets the entry's data when the user picks one (not when it is set by program)."""
    box = ComboBox()
    box.setAccessibleName(name)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    for text, data in entries:
        box.addItem(text, data)
    box.activated.connect(lambda index: changed(box.itemData(index)))
    return box


def spin(
    name: str, low: float, high: float, step: float, decimals: int, suffix: str, changed: Callable[[float], None]
) -> QDoubleSpinBox:
    """A number with its unit; `changed` is called when editing ends or an arrow is pressed."""
    box = Spin()
    box.setAccessibleName(name)
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setDecimals(decimals)
    box.setSuffix(suffix)
    box.setKeyboardTracking(False)
    box.valueChanged.connect(changed)
    return box


class ShareSlider(QWidget):
    """A slider from 0 to 100 %, or to `most` as a fraction, with its value beside it."""

    moved = pyqtSignal(float)

    def __init__(self, name: str, most: float = 1.0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, round(most * 100))
        self.slider.setAccessibleName(name)
        self._value = QLabel("0 %")
        self._value.setMinimumWidth(48)
        self._value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self._value)
        self.slider.valueChanged.connect(self._changed)

    def set_share(self, share: float) -> None:
        """Show a value, 0..most, without telling anybody."""
        self.slider.blockSignals(True)
        self.slider.setValue(round(share * 100))
        self.slider.blockSignals(False)
        self._value.setText(f"{self.slider.value()} %")

    def _changed(self, value: int) -> None:
        self._value.setText(f"{value} %")
        self.moved.emit(value / 100)


def let_scroll(inner: QWidget, area: QScrollArea) -> QScrollArea:
    """Put this into the area: up and down it scrolls where it does not fit."""
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(inner)
    view = area.viewport()
    inner.setAutoFillBackground(False)  # what is behind gives the colour
    if view is not None:
        view.setAutoFillBackground(False)
    return area
