"""The line of figures at the bottom: the same numbers as without a window, and the alignment budget."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt import QFlowLayout

from app.gui.common.theme import Level, level_sign, restyle
from app.gui.widgets.budget_meter import BudgetMeter
from app.gui.widgets.status_text import Figure, status_figures
from app.pipeline.state.stats import StatsSnapshot

__all__ = ["StatusBar"]


class _FigureLabel(QWidget):
    """A caption over a value."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._caption, self._value = QLabel(), QLabel()
        self._caption.setProperty("role", "caption")
        self._value.setProperty("role", "value")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._caption)
        layout.addWidget(self._value)
        self._figure: Figure | None = None

    def show_figure(self, figure: Figure) -> None:
        if figure == self._figure:
            return
        level_changed = self._figure is None or figure.level is not self._figure.level
        self._figure = figure
        sign = f"{level_sign(figure.level)} " if figure.level in (Level.CAUTION, Level.BAD, Level.RECORDING) else ""
        self._caption.setText(figure.label[:1].upper() + figure.label[1:])
        self._value.setText(sign + figure.value)
        if level_changed:
            self._value.setProperty("level", figure.level.value)
            restyle(self._value)
        # Room for what it may grow to, so that the line does not dance with every digit.
        self.setMinimumWidth(max(self.minimumWidth(), self._value.sizeHint().width(), self._caption.sizeHint().width()))
        self.setToolTip(figure.hint)
        self.setAccessibleName(f"{figure.label}: {figure.value}")
        self.setAccessibleDescription(figure.hint)


class StatusBar(QFrame):
    """Shows snapshots; keeps its labels between them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("statusbar")
        self._labels: dict[str, _FigureLabel] = {}
        self.meter = BudgetMeter()
        self._row = QFlowLayout()  # a second line where one is too short
        self._row.setHorizontalSpacing(20)
        self._row.setVerticalSpacing(4)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(16, 8, 16, 8)
        layout.setSpacing(20)
        layout.addLayout(self._row, 1)
        layout.addWidget(self.meter, 0, Qt.AlignmentFlag.AlignVCenter)

    def show_snapshot(self, snapshot: StatsSnapshot) -> None:
        """Show these numbers."""
        figures = {figure.key: figure for figure in status_figures(snapshot)}
        for key, figure in figures.items():
            label = self._labels.get(key)
            if label is None:
                label = self._labels[key] = _FigureLabel()
                self._row.addWidget(label)
            label.show_figure(figure)
            label.show()
        for key, label in self._labels.items():
            if key not in figures:
                label.hide()
        self.meter.set_reading(snapshot.budget)

    def text_of(self, key: str) -> str:
        """What a figure says now, "" if it is not shown."""
        label = self._labels.get(key)
        return label.accessibleName() if label is not None and not label.isHidden() else ""
