"""Decides about measuring, live and in playback: what is measured, in which unit, and which alarms go off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PyQt6.QtCore import QObject, pyqtSignal

from app.gui.measuring.measure_panel import MeasurePanel, MeasureRow
from app.gui.picture.curve_plot import Curve
from app.gui.picture.mark_painter import MarkTool, ShownMark
from app.gui.picture.operator_bar import OperatorBar
from app.gui.picture.view_controller import ViewController
from app.gui.widgets.status_text import Chip, ChipShape
from app.rig.radiometry import Surface
from app.view.alarms import Alarm, AlarmWatch, KeptMark
from app.view.measuring import WHOLE, Mark, MarkKind, Reading, measure

__all__ = ["MeasureController", "Measured"]

_MOST = 12  # marks; one more takes the place of the oldest


@dataclass(slots=True, eq=False)
class Measured:
    """One mark with its number, its alarm, and what was measured last."""

    number: int
    mark: Mark
    watch: AlarmWatch | None = None
    reading: Reading | None = None


class MeasureController(QObject):
    """Measures on the picture of one page. GUI thread; `measure` is called with each set of numbers or picture.

    measured: everything was measured anew. alarm_began: (text, Alarm). tool_changed: a MarkTool or None. marks_changed:
    another set of marks, or another place of one. kept_changed: what is to be remembered has been changed by the user.
    """

    measured = pyqtSignal()
    alarm_began = pyqtSignal(str, object)
    tool_changed = pyqtSignal(object)
    marks_changed = pyqtSignal()
    kept_changed = pyqtSignal()

    def __init__(self, view: ViewController, panel: MeasurePanel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._view, self._panel = view, panel
        self.marks: list[Measured] = []
        self.extremes = False
        self.whole: Reading | None = None
        self._selected = -1
        self._difference = (-1, -1)
        self._numbers = 0
        view.video.mark_drawn.connect(self.add)
        view.video.mark_taken.connect(self._on_taken)
        view.video.mark_dragged.connect(self._on_dragged)
        view.scale_changed.connect(self._on_scale_changed)
        panel.tool_chosen.connect(self.use_tool)
        panel.selected.connect(self.select)
        panel.renamed.connect(self.rename)
        panel.removed.connect(self.remove)
        panel.cleared.connect(self.clear)
        panel.alarm_chosen.connect(self.set_alarm)
        panel.extremes_toggled.connect(self.show_extremes)
        panel.difference_chosen.connect(self._on_difference_chosen)
        panel.surface_chosen.connect(self._on_surface_chosen)

    def connect_operator_bar(self, bar: OperatorBar) -> None:
        """Be asked by this bar too."""
        bar.tool_chosen.connect(self.use_tool)
        bar.extremes_asked.connect(lambda: self.show_extremes(not self.extremes))
        bar.remove_asked.connect(self.remove_selected)
        bar.clear_asked.connect(self.clear)
        self.tool_changed.connect(bar.show_tool)

    # ------------------------------------------------------------------ what is measured

    @property
    def unit(self) -> str:
        """Of every value."""
        return "°C" if self._view.convert is not None else self.tr("relative")

    @property
    def tool(self) -> MarkTool | None:
        """What taps and drags on the picture measure."""
        return self._view.video.tool

    def use_tool(self, tool: MarkTool | None) -> None:
        """Draw by this tool from now on; None = taps and drags pan again."""
        self._view.video.set_tool(tool)
        self._panel.show_tool(tool)
        self.tool_changed.emit(tool)

    def toggle(self) -> None:
        """Begin to measure spots and boxes, or end measuring."""
        self.use_tool(MarkTool.SPOT_OR_BOX if self.tool is None else None)

    def add(self, mark: Mark) -> int:
        """Measure here too; returns the mark's number."""
        self._numbers += 1
        names = {
            MarkKind.SPOT: self.tr("Spot"),
            MarkKind.BOX: self.tr("Box"),
            MarkKind.LINE: self.tr("Line"),
            MarkKind.POLYGON: self.tr("Area"),
        }
        named = replace(mark, name=mark.name or f"{names[mark.kind]} {self._numbers}")
        self.marks = [*self.marks[-_MOST + 1 :], Measured(self._numbers, named)]
        self._selected = self._numbers
        self._changed()
        return self._numbers

    def rename(self, number: int, name: str) -> None:
        """Give a mark another name."""
        if (found := self._of(number)) is not None and name.strip():
            found.mark = replace(found.mark, name=name.strip()[:40])
            self._changed()

    def remove(self, number: int) -> None:
        """Do not measure this any more."""
        self.marks = [measured for measured in self.marks if measured.number != number]
        self._changed()

    def remove_selected(self) -> None:
        """Do not measure the chosen one any more; the newest one left is chosen then."""
        if self._of(self._selected) is not None:
            left = [measured.number for measured in self.marks if measured.number != self._selected]
            gone, self._selected = self._selected, left[-1] if left else -1
            self.remove(gone)

    @property
    def kept(self) -> tuple[KeptMark, ...]:
        """What is measured, to be remembered."""
        degrees = self._view.radiometry is not None
        return tuple(
            KeptMark(measured.mark, measured.watch.alarm if measured.watch is not None else None, degrees)
            for measured in self.marks
        )

    def restore(self, kept: Sequence[KeptMark]) -> None:
        """Measure what was remembered, in place of what is measured now. An alarm in another unit is left out."""
        degrees = self._view.radiometry is not None
        self.marks = [
            Measured(number, each.mark, AlarmWatch(each.alarm) if each.alarm and each.degrees == degrees else None)
            for number, each in enumerate(kept[:_MOST], start=1)
        ]
        ends = [each.mark.name.rpartition(" ")[2] for each in kept]  # a new one takes no name that is there
        self._numbers = max((len(self.marks), *(int(end) for end in ends if end.isdecimal() and len(end) < 5)))
        self._selected = -1
        self.measure()
        self.marks_changed.emit()

    def clear(self) -> None:
        """Measure nothing any more."""
        self.marks, self._numbers, self._selected = [], 0, -1
        self._changed()

    def select(self, number: int) -> None:
        """Show the settings of this mark, and its profile if it is a line; -1 = of none."""
        if number != self._selected:
            self._selected = number
            self.measure()

    def set_alarm(self, number: int, alarm: Alarm | None) -> None:
        """Watch a mark; None = not any more."""
        if (found := self._of(number)) is not None:
            found.watch = AlarmWatch(alarm) if alarm is not None else None
            self.measure()
            self.kept_changed.emit()

    def show_extremes(self, on: bool) -> None:
        """Mark the hottest and the coldest place of the picture."""
        self.extremes = on
        self._panel.extremes.setChecked(on)
        self.measure()

    def _of(self, number: int) -> Measured | None:
        return next((measured for measured in self.marks if measured.number == number), None)

    def _changed(self) -> None:
        self.measure()
        self.marks_changed.emit()
        self.kept_changed.emit()

    def _on_taken(self, number: int) -> None:
        self.select(number)
        self._panel.choose(number)

    def _on_dragged(self, number: int, mark: Mark, let_go: bool) -> None:
        if (found := self._of(number)) is None:
            return
        found.mark = replace(mark, name=found.mark.name)
        if let_go:
            self._changed()
        else:
            self.measure()

    def _on_difference_chosen(self, first: int, second: int) -> None:
        self._difference = (first, second)
        self._show_difference()

    def _on_surface_chosen(self, surface: Surface) -> None:
        self._view.set_surface(surface)

    def _on_scale_changed(self) -> None:
        self._panel.show_degrees(self._view.radiometry is not None, self._view.surface)
        for measured in self.marks:  # a limit in the other unit would be something else
            measured.watch = None if self._was_degrees != (self._view.radiometry is not None) else measured.watch
        self._was_degrees = self._view.radiometry is not None
        self.measure()

    _was_degrees = False

    # ------------------------------------------------------------------ measuring

    def measure(self) -> None:
        """Measure everything on the picture that is shown, and show it."""
        frame, convert = self._view.frame, self._view.convert
        chips: list[Chip] = []
        for measured in self.marks:
            measured.reading = measure(frame, measured.mark, convert) if frame is not None else None
            watch = measured.watch
            if watch is not None and watch.judge(measured.reading):
                self.alarm_began.emit(self._alarm_text(measured), watch.alarm)
            if watch is not None and watch.active:
                chips.append(Chip(self.tr("ALARM {0}").format(self._alarm_text(measured)), ChipShape.TRIANGLE))
        self.whole = measure(frame, WHOLE, convert) if self.extremes and frame is not None else None
        hottest, coldest = (self.whole.hottest, self.whole.coldest) if self.whole is not None else (None, None)
        self._view.video.set_alarms(chips)
        self._view.video.set_marks([self._shown(measured) for measured in self.marks], hottest, coldest)
        self._panel.show_rows([self._row(measured) for measured in self.marks], self.unit, self._selected)
        self._show_difference()
        self._show_profile()
        self.measured.emit()

    def text_of(self, measured: Measured) -> str:
        """What is written beside a mark."""
        reading, name = measured.reading, measured.mark.name
        if reading is None:
            return f"{name}\n{self.tr('no thermal picture here')}"
        if measured.mark.kind is MarkKind.SPOT:
            return f"{name}  {self._value(reading.mean)} {self.unit}"
        values = self.tr("min {0}  mean {1}  max {2}").format(
            self._value(reading.minimum), self._value(reading.mean), self._value(reading.maximum)
        )
        return f"{name}  {self.unit}\n{values}"

    def _value(self, value: float) -> str:
        return f"{value:.1f}" if self._view.convert is not None else f"{value:.0f}"

    def _alarm_text(self, measured: Measured) -> str:
        reading = measured.reading
        if reading is None:
            return measured.mark.name
        above = measured.watch is not None and measured.watch.alarm.kind == "above"
        return f"{measured.mark.name} {self._value(reading.maximum if above else reading.minimum)} {self.unit}"

    def _shown(self, measured: Measured) -> ShownMark:
        reading, chosen = measured.reading, measured.number == self._selected
        area = reading is not None and measured.mark.kind is not MarkKind.SPOT
        return ShownMark(
            measured.mark,
            self.text_of(measured),
            measured.number,
            alarmed=measured.watch is not None and measured.watch.active,
            selected=chosen,
            hottest=reading.hottest if area and reading is not None else None,
            coldest=reading.coldest if area and reading is not None else None,
        )

    def _row(self, measured: Measured) -> MeasureRow:
        reading, watch = measured.reading, measured.watch
        values = ("–", "–", "–")
        if reading is not None:
            low, mean, high = (self._value(v) for v in (reading.minimum, reading.mean, reading.maximum))
            values = ("", mean, "") if measured.mark.kind is MarkKind.SPOT else (low, mean, high)
        active = watch is not None and watch.active
        return MeasureRow(
            measured.number, measured.mark.name, values, watch.alarm if watch is not None else None, active
        )

    def _show_difference(self) -> None:
        readings = [found.reading if (found := self._of(number)) is not None else None for number in self._difference]
        first, second = readings
        text = ""
        if first is not None and second is not None:
            unit = "K" if self._view.convert is not None else ""
            text = f"{first.mean - second.mean:+.1f} {unit}".strip()
        self._panel.show_difference(text)

    def _show_profile(self) -> None:
        lines: Sequence[Measured] = [m for m in self.marks if m.mark.kind is MarkKind.LINE]
        chosen = next((m for m in lines if m.number == self._selected), lines[-1] if lines else None)
        profile = chosen.reading.profile if chosen is not None and chosen.reading is not None else None
        curve = None
        if chosen is not None and profile is not None:
            curve = Curve(chosen.mark.name, np.arange(profile.size, dtype=np.float64), profile)
        self._panel.show_profile(curve, self.unit)
