"""What is measured, as a table, with the tools to draw it: names, differences, alarms, and what is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PyQt6.QtCore import QCoreApplication, QSignalBlocker, Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.theme import icon_button, set_icon
from app.gui.picture.curve_plot import Curve, CurvePlot
from app.gui.picture.mark_painter import MarkTool
from app.gui.widgets.sections import CheckBox, Section, combo, form, spin
from app.rig.radiometry import Surface
from app.view.alarms import Alarm, AlarmKind

__all__ = ["MeasurePanel", "MeasureRow"]

_ROW_PX = 32


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One line of the table: number of the mark, its name, its values in words, its alarm."""

    number: int
    name: str
    values: tuple[str, str, str]
    alarm: Alarm | None = None
    alarmed: bool = False


class MeasurePanel(Section):
    """Asks by signals.

    tool_chosen: a MarkTool, None = none. selected: number of a mark, -1 = none. renamed: (number, name). removed:
    number. cleared: all. alarm_chosen: (number, Alarm or None). extremes_toggled: bool. difference_chosen: (number,
    number), -1 = none. surface_chosen: a Surface.
    """

    tool_chosen = pyqtSignal(object)
    selected = pyqtSignal(int)
    renamed = pyqtSignal(int, str)
    removed = pyqtSignal(int)
    cleared = pyqtSignal()
    alarm_chosen = pyqtSignal(int, object)
    extremes_toggled = pyqtSignal(bool)
    difference_chosen = pyqtSignal(int, int)
    surface_chosen = pyqtSignal(object)

    def __init__(self, playback: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("MeasurePanel", "Measuring"), "crosshairs", True, parent)
        self._rows: tuple[MeasureRow, ...] = ()
        self._unit = ""
        self.tools: dict[MarkTool, QToolButton] = {}
        self.body.addLayout(self._make_tools())
        self.extremes = CheckBox(self.tr("Mark the hottest and coldest place"))
        self.extremes.clicked.connect(lambda on: self.extremes_toggled.emit(bool(on)))
        self.body.addWidget(self.extremes)
        self.table = self._make_table()
        self.body.addWidget(self.table)
        self._make_editor(playback)
        self._make_difference()
        self.profile = CurvePlot(self.tr("Profile along the line"))
        self.profile.hide()
        self.body.addWidget(self.profile)
        self._make_surface()
        self.show_rows((), "", -1)
        self._show_choices()
        self.show_degrees(False, Surface())

    # ------------------------------------------------------------------ the parts

    def _make_tools(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        for tool, name, text in (
            (MarkTool.SPOT_OR_BOX, "crosshairs", self.tr("Spot (tap) or box (drag)")),
            (MarkTool.LINE, "vector-line", self.tr("Line with its profile")),
            (MarkTool.POLYGON, "vector-polygon", self.tr("Polygon: tap its corners, the first one again to close it")),
        ):
            button = self.tools[tool] = QToolButton()
            set_icon(button, name)
            button.setCheckable(True)
            button.setProperty("touch", True)
            button.setToolTip(text)
            button.setAccessibleName(text)
            button.clicked.connect(lambda on, tool=tool: self.tool_chosen.emit(tool if on else None))
            row.addWidget(button)
        row.addStretch(1)
        clear = icon_button("delete-outline", self.tr("Clear"))
        clear.setAccessibleName(self.tr("Remove everything that is measured"))
        clear.clicked.connect(self.cleared)
        row.addWidget(clear)
        return row

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, 4)
        table.setAccessibleName(self.tr("What is measured"))
        table.setHorizontalHeaderLabels([self.tr("Name"), self.tr("min"), self.tr("mean"), self.tr("max")])
        table.setShowGrid(False)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        down, across = table.verticalHeader(), table.horizontalHeader()
        if down is not None and across is not None:
            down.hide()
            down.setDefaultSectionSize(_ROW_PX)
            across.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        table.itemChanged.connect(self._item_changed)
        table.itemSelectionChanged.connect(lambda: self.selected.emit(self.selected_number))
        return table

    def _make_editor(self, playback: bool) -> None:
        self.alarm = combo(
            self.tr("Alarm"),
            [(self.tr("Off"), ""), (self.tr("Above"), AlarmKind.ABOVE), (self.tr("Below"), AlarmKind.BELOW)],
            lambda _: self._alarm_changed(),
        )
        self.limit = spin(self.tr("Alarm at"), -273.0, 70000.0, 1.0, 1, "", lambda _: self._alarm_changed())
        self.sound = CheckBox(self.tr("Sound"))
        self.sound.setChecked(True)
        self.event_too = CheckBox(self.tr("Mark event and record"))
        self.event_too.setVisible(not playback)
        for box in (self.sound, self.event_too):
            box.clicked.connect(lambda _: self._alarm_changed())
        remove = QPushButton(self.tr("Remove"))
        remove.setAccessibleName(self.tr("Remove the chosen mark"))
        remove.clicked.connect(lambda: self.removed.emit(self.selected_number))
        self._editor = QWidget()
        rows = form()
        rows.setContentsMargins(0, 0, 0, 0)
        self._editor.setLayout(rows)
        rows.addRow(self.tr("Alarm"), self.alarm)
        rows.addRow(self.tr("at"), self.limit)
        rows.addRow(self.sound)
        rows.addRow(self.event_too)
        rows.addRow(remove)
        self._alarm_rows = rows
        self.body.addWidget(self._editor)

    def _make_difference(self) -> None:
        self.first = combo(self.tr("Difference, from"), [], lambda _: self._difference_changed())
        self.second = combo(self.tr("Difference, to"), [], lambda _: self._difference_changed())
        self.difference = QLabel()
        self.difference.setProperty("role", "value")
        row = QHBoxLayout()
        row.addWidget(self.first, 1)
        row.addWidget(QLabel("−"))
        row.addWidget(self.second, 1)
        for box in (self.first, self.second):
            box.setMinimumContentsLength(5)
        self._difference_box = QWidget()
        column = QVBoxLayout(self._difference_box)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.difference, 0, Qt.AlignmentFlag.AlignHCenter)
        self.body.addWidget(self._difference_box)

    def _make_surface(self) -> None:
        self.emissivity = spin(self.tr("Emissivity"), 0.05, 1.0, 0.01, 2, "", lambda _: self._surface_changed())
        self.reflected = spin(
            self.tr("Reflected temperature"), -100.0, 500.0, 1.0, 1, " °C", lambda _: self._surface_changed()
        )
        self._surface = QWidget()
        rows = form()
        rows.setContentsMargins(0, 0, 0, 0)
        self._surface.setLayout(rows)
        rows.addRow(self.tr("Emissivity"), self.emissivity)
        rows.addRow(self.tr("Reflected"), self.reflected)
        self.body.addWidget(self._surface)

    # ------------------------------------------------------------------ what to show

    @property
    def selected_number(self) -> int:
        """Number of the mark that is chosen in the table, -1 = none."""
        row = self.table.currentRow() if self.table.selectedItems() else -1
        return self._rows[row].number if 0 <= row < len(self._rows) else -1

    def show_tool(self, tool: MarkTool | None) -> None:
        """Mark the tool in use."""
        for name, button in self.tools.items():
            button.setChecked(name is tool)

    def show_rows(self, rows: Sequence[MeasureRow], unit: str, selected: int) -> None:
        """Show what is measured; selected: number of the mark whose settings are shown, -1 = none."""
        rows = tuple(rows)
        editing = self.table.state() is QAbstractItemView.State.EditingState
        old, self._rows, self._unit = self._rows, rows, unit
        same = [row.number for row in old] == [row.number for row in rows]
        with QSignalBlocker(self.table):
            if not same:
                self.table.setRowCount(len(rows))
            for at, row in enumerate(rows):
                for column, text in enumerate((row.name, *row.values)):
                    if not (editing and column == 0):
                        self._set_cell(at, column, text, row.alarmed)
            if not same:
                chosen = next((at for at, row in enumerate(rows) if row.number == selected), -1)
                self.table.clearSelection() if chosen < 0 else self.table.selectRow(chosen)
        self.table.setVisible(bool(rows))
        self.table.setFixedHeight(_ROW_PX * (min(6, len(rows)) + 1) + 4)
        self._show_editor(next((row for row in rows if row.number == selected), None))
        if not same or [r.name for r in old] != [r.name for r in rows]:
            self._show_choices()

    def choose(self, number: int) -> None:
        """Choose a mark in the table."""
        row = next((at for at, row in enumerate(self._rows) if row.number == number), -1)
        with QSignalBlocker(self.table):
            self.table.clearSelection() if row < 0 else self.table.selectRow(row)

    def show_difference(self, text: str) -> None:
        """Show the difference between the two that are chosen."""
        self.difference.setText(text)

    def show_profile(self, curve: Curve | None, unit: str) -> None:
        """Show the values along a line; None = there is none."""
        self.profile.setVisible(curve is not None)
        if curve is not None:
            self.profile.show_curves([curve], unit, self.tr("px"))

    def show_degrees(self, known: bool, surface: Surface) -> None:
        """Offer what only degrees depend on."""
        self._surface.setVisible(known)
        for box, value in ((self.emissivity, surface.emissivity), (self.reflected, surface.reflected_c)):
            with QSignalBlocker(box):
                box.setValue(value)

    def _set_cell(self, row: int, column: int, text: str, alarmed: bool) -> None:
        item = self.table.item(row, column)
        if item is None:
            item = QTableWidgetItem()
            if column:
                item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(row, column, item)
        shown = f"▲ {text}" if alarmed and column == 3 else text
        if item.text() != shown:
            item.setText(shown)

    def _show_editor(self, row: MeasureRow | None) -> None:
        self._editor.setVisible(row is not None)
        if row is None:
            return
        alarm = row.alarm
        with QSignalBlocker(self.alarm):
            self.alarm.setCurrentIndex(self.alarm.findData(alarm.kind if alarm is not None else ""))
        self.limit.setSuffix(f" {self._unit}" if self._unit.startswith("°") else "")
        if alarm is not None and not self.limit.hasFocus():
            with QSignalBlocker(self.limit):
                self.limit.setValue(alarm.limit)
            self.sound.setChecked(alarm.sound)
            self.event_too.setChecked(alarm.event)
        for widget in (self.limit, self.sound, self.event_too):
            self._alarm_rows.setRowVisible(widget, alarm is not None)

    def _show_choices(self) -> None:
        self._difference_box.setVisible(len(self._rows) >= 2)
        for box in (self.first, self.second):
            before = box.currentData()
            box.clear()
            box.addItem("–", -1)
            for row in self._rows:
                box.addItem(row.name, row.number)
            box.setCurrentIndex(max(0, box.findData(before)))

    # ------------------------------------------------------------------ asking

    def choose_difference(self, first: int, second: int) -> None:
        """Choose as the user would."""
        self.first.setCurrentIndex(self.first.findData(first))
        self.second.setCurrentIndex(self.second.findData(second))
        self._difference_changed()

    def _difference_changed(self) -> None:
        self.difference_chosen.emit(int(self.first.currentData()), int(self.second.currentData()))

    def _item_changed(self, item: QTableWidgetItem) -> None:
        if item.column() == 0 and 0 <= item.row() < len(self._rows):
            self.renamed.emit(self._rows[item.row()].number, item.text())

    def _alarm_changed(self) -> None:
        kind = self.alarm.currentData()
        chosen = None
        if kind:
            chosen = Alarm(AlarmKind(str(kind)), self.limit.value(), self.sound.isChecked(), self.event_too.isChecked())
        self.alarm_chosen.emit(self.selected_number, chosen)

    def _surface_changed(self) -> None:
        self.surface_chosen.emit(Surface(self.emissivity.value(), self.reflected.value()))
