"""The calibration assistant: board, views, solution, apply or discard. Shows and asks; decides nothing."""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QPointF, QRectF, Qt, pyqtSignal
from PyQt6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QPolygonF, QResizeEvent
from PyQt6.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.theme import Level, icon_button, level_sign, restyle
from app.gui.setup.calibration_words import advice_and_state, in_words
from app.gui.widgets.sections import ComboBox, form, let_scroll, spin
from app.rig.calibration_session import BOARDS, CalibrationOutcome, CaptureProgress
from fusion_core.frames import Stream

__all__ = ["BoardPreview", "CalibrationPage", "CalibrationPhase"]

_PANEL_PX = 400
_LOW_PX = 700  # below that height the margins are narrow


class CalibrationPhase(StrEnum):
    """Which step the page shows."""

    CHOOSING = "choosing"  # the board
    CAPTURING = "capturing"
    SOLVING = "solving"
    RESULT = "result"


class BoardPreview(QWidget):
    """One camera's picture with the points found in it and, for thermal, where points were seen so far."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._image = QImage()
        self._points: npt.NDArray[np.float64] | None = None
        self._cells: npt.NDArray[np.int64] | None = None
        self._kept = False
        self.setMinimumSize(240, 120)  # two above each other in a window 400 px high
        self.setAccessibleName(name)

    def show_image(self, image: QImage) -> None:
        """The newest picture."""
        self._image = image
        self.update()

    def show_found(
        self, points: npt.NDArray[np.float64] | None, cells: npt.NDArray[np.int64] | None, kept: bool
    ) -> None:
        """Points (N, 2): shares x, y of the picture, None = no board; cells (n, n): numbers; whether it was kept."""
        self._points, self._cells, self._kept = points, cells, kept
        found = self.tr("board found") if points is not None else self.tr("no board found")
        self.setAccessibleDescription(found)
        self.update()

    def hide_points(self) -> None:
        """Show the covered parts only."""
        self._points = None
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QColor("#090b0e"))
        if not self._image.isNull():
            size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
            left, top = (self.width() - size.width()) / 2, (self.height() - size.height()) / 2
            area = QRectF(left, top, size.width(), size.height())
            painter.drawImage(area, self._image)
            if self._cells is not None:
                _paint_cells(painter, area, self._cells)
            self._paint_points(painter, area)
        painter.end()

    def _paint_points(self, painter: QPainter, area: QRectF) -> None:
        if self._points is None:
            return
        good = QColor("#4fdcb8") if self._kept else QColor("#45a4ff")
        places = [QPointF(area.left() + x * area.width(), area.top() + y * area.height()) for x, y in self._points]
        line = QPolygonF(places)
        painter.setPen(QPen(QColor(0, 0, 0, 160), 3))
        painter.drawPolyline(line)
        painter.setPen(QPen(good, 1.4))
        painter.drawPolyline(line)
        painter.setBrush(good)
        painter.setPen(QPen(QColor(0, 0, 0, 200), 1))
        for place in places:
            painter.drawEllipse(place, 3.2, 3.2)


def _paint_cells(painter: QPainter, area: QRectF, cells: npt.NDArray[np.int64]) -> None:
    """A grid over the picture: covered parts outlined and shaded, others with a dot each."""
    rows, columns = cells.shape
    wide, tall = area.width() / columns, area.height() / rows
    for row in range(rows):
        for column in range(columns):
            cell = QRectF(area.left() + column * wide, area.top() + row * tall, wide, tall).adjusted(2, 2, -2, -2)
            if cells[row, column]:
                painter.setPen(QPen(QColor(79, 220, 184, 190), 1.2))
                painter.setBrush(QColor(79, 220, 184, 26))
            else:
                painter.setPen(QPen(QColor(255, 255, 255, 70), 1, Qt.PenStyle.DotLine))
                painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(cell, 3, 3)


class CalibrationPage(QWidget):
    """Pictures to the left, the present step to the right."""

    back_asked = pyqtSignal()
    begin_asked = pyqtSignal(str, float)
    board_file_asked = pyqtSignal(str, str)
    practise_asked = pyqtSignal(str)
    solve_asked = pyqtSignal()
    more_asked = pyqtSignal()
    discard_asked = pyqtSignal()
    apply_asked = pyqtSignal()
    report_asked = pyqtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report = ""
        self.previews = {
            Stream.VISIBLE: BoardPreview(self.tr("Visible camera")),
            Stream.THERMAL: BoardPreview(self.tr("Thermal camera")),
        }
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setObjectName("banner")
        self.problem.setProperty("level", "bad")
        self.problem.setMargin(10)
        self.problem.hide()
        self.steps = QStackedWidget()
        self._pages = {
            CalibrationPhase.CHOOSING: self._choosing(),
            CalibrationPhase.CAPTURING: self._capturing(),
            CalibrationPhase.SOLVING: self._solving(),
            CalibrationPhase.RESULT: self._result(),
        }
        for page in self._pages.values():
            self.steps.addWidget(page)
        side = QFrame()
        side.setProperty("card", True)
        side.setFixedWidth(_PANEL_PX)
        inside = QVBoxLayout(side)
        inside.setContentsMargins(20, 18, 20, 18)
        inside.addWidget(self.steps)
        pictures = QVBoxLayout()
        pictures.setSpacing(8)
        for stream, text in ((Stream.VISIBLE, self.tr("Visible")), (Stream.THERMAL, self.tr("Thermal"))):
            caption = QLabel(text)
            caption.setProperty("role", "caption")
            pictures.addWidget(caption)
            pictures.addWidget(self.previews[stream], 1)
        middle = QHBoxLayout()
        middle.setSpacing(24)
        middle.addLayout(pictures, 1)
        middle.addWidget(side)
        column = QVBoxLayout(self)
        column.setContentsMargins(40, 28, 40, 28)
        column.setSpacing(16)
        column.addLayout(self._top())
        column.addWidget(self.problem)
        column.addLayout(middle, 1)
        self.show_phase(CalibrationPhase.CHOOSING)
        for button in self.findChildren(QPushButton):  # for fingers
            button.setProperty("touch", True)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        layout, low = self.layout(), self.height() < _LOW_PX
        margins = (16, 8, 16, 8) if low else (40, 28, 40, 28)
        if layout is not None and layout.contentsMargins().top() != margins[1]:
            layout.setContentsMargins(*margins)

    # ------------------------------------------------------------------ the parts

    def _top(self) -> QHBoxLayout:
        back = icon_button("arrow-left", self.tr("Back"))
        back.clicked.connect(self.back_asked)
        title = QLabel(self.tr("Calibrate the rig"))
        title.setProperty("role", "title")
        row = QHBoxLayout()
        row.setSpacing(16)
        row.addWidget(back)
        row.addWidget(title)
        self.note = QLabel(self.tr("PRACTICE: a simulated board; nothing of your rig changes"))
        self.note.setProperty("level", "caution")
        self.note.setWordWrap(True)
        self.note.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        room = self.note.sizePolicy()
        room.setRetainSizeWhenHidden(True)
        self.note.setSizePolicy(room)
        self.note.hide()
        row.addWidget(self.note, 1)
        return row

    def _choosing(self) -> QWidget:
        self.board = ComboBox()
        self.board.setEditable(True)
        self.board.addItems(BOARDS)
        self.board.setAccessibleName(self.tr("Board"))
        self.begin = icon_button("play", self.tr("Begin"), primary=True)
        self.begin.clicked.connect(
            lambda: self.begin_asked.emit(self.board.currentText().strip(), self.distance.value())
        )
        self.distance = spin(self.tr("Working distance"), 0.0, 500.0, 0.5, 1, " m", lambda _: None)
        self.distance.setSpecialValueText(self.tr("near to horizon"))
        rows = QWidget()
        lines = form()
        lines.setContentsMargins(0, 0, 0, 0)
        lines.addRow(self.tr("Working distance"), self.distance)
        rows.setLayout(lines)
        self.practise = icon_button("school-outline", self.tr("Practise with a simulated board"))
        self.practise.clicked.connect(lambda: self.practise_asked.emit(self.board.currentText().strip()))
        save = icon_button("printer", self.tr("Save the board to print…"))
        save.clicked.connect(self._choose_board_file)
        return _step(
            self.tr("1. The board"),
            _words(
                self.tr(
                    "Both cameras must see the pattern: circles cut out of a sheet before something warm, or a print "
                    "on a warmed plate. An asymmetric grid of circles is the safest choice."
                )
            ),
            self.board,
            _words(self.tr("kind : columns x rows : spacing, as `lumitherm calibrate board` takes it"), "dim"),
            save,
            rows,
            _words(
                self.tr(
                    "Where both pictures lie on each other exactly. Nearer and farther things are off by parallax."
                ),
                "dim",
            ),
            None,
            self.practise,
            self.begin,
        )

    def _capturing(self) -> QWidget:
        self.reason = _words("", "value")
        self.guidance = _words("", "heading")
        self.state = _words("", "dim")
        self.views = _bar(self.tr("Views kept"))
        self.coverage = _bar(self.tr("Share of the field of both cameras covered"))
        self.views_text = QLabel(self.tr("Views: none yet"))
        self.coverage_text = QLabel(self.tr("Field of both cameras covered: nothing yet"))
        self.solve = icon_button("calculator-variant", self.tr("Solve now"))
        self.solve.clicked.connect(self.solve_asked)
        stop = QPushButton(self.tr("Start over"))
        stop.clicked.connect(self.discard_asked)
        return _step(
            self.tr("2. Views of the board"),
            self.guidance,
            self.reason,
            self.views_text,
            self.views,
            self.coverage_text,
            self.coverage,
            self.state,
            _words(self.tr("A view is taken automatically once the board is still, sharp and in a new place."), "dim"),
            None,
            self.solve,
            stop,
        )

    def _solving(self) -> QWidget:
        bar = _bar(self.tr("Solving"))
        bar.setRange(0, 0)
        return _step(
            self.tr("3. Solving"),
            _words(
                self.tr(
                    "Both lenses and the geometry between them, then again without some views and with others twice, "
                    "to tell how certain they are. Up to a minute; the live picture goes on."
                )
            ),
            bar,
            None,
        )

    def _result(self) -> QWidget:
        self.verdict = _words("", "heading")
        self.range = _words("")
        self.gates = QWidget()
        self._gate_grid = QGridLayout(self.gates)
        self._gate_grid.setContentsMargins(0, 0, 0, 0)
        self._gate_grid.setHorizontalSpacing(10)
        self._gate_grid.setVerticalSpacing(6)
        self._gate_grid.setColumnStretch(1, 1)
        self.apply = icon_button("check", self.tr("Apply"), primary=True)
        self.apply.clicked.connect(self.apply_asked)
        report = icon_button("file-document-outline", self.tr("Open the report"))
        report.clicked.connect(lambda: self.report_asked.emit(self._report))
        more = QPushButton(self.tr("Capture more views"))
        more.clicked.connect(self.more_asked)
        discard = QPushButton(self.tr("Discard"))
        discard.clicked.connect(self.discard_asked)
        return _step(
            self.tr("4. Result"), self.verdict, self.range, self.gates, report, None, self.apply, more, discard
        )

    # ------------------------------------------------------------------ what to show

    def show_phase(self, phase: CalibrationPhase) -> None:
        """The step to show."""
        self.steps.setCurrentWidget(self._pages[phase])
        if phase is CalibrationPhase.CHOOSING:
            for preview in self.previews.values():
                preview.show_found(None, None, False)
            self.begin.setFocus()
        elif phase in (CalibrationPhase.SOLVING, CalibrationPhase.RESULT):
            for preview in self.previews.values():
                preview.hide_points()  # the board moves on
        elif phase is CalibrationPhase.CAPTURING:
            self.guidance.setText(self.guidance.text() or self.tr("Show the board to both cameras."))
            if not self.views.value():
                self.solve.setEnabled(False)

    def show_practice(self, on: bool) -> None:
        """Say that the board is simulated: the result cannot be applied."""
        self.note.setVisible(on)
        self.apply.setVisible(not on)

    def show_image(self, stream: Stream, image: QImage) -> None:
        """A camera's newest picture."""
        self.previews[stream].show_image(image)

    def show_progress(self, progress: CaptureProgress) -> None:
        """What the last pair gave."""
        self.previews[Stream.VISIBLE].show_found(progress.found_visible, None, progress.accepted)
        self.previews[Stream.THERMAL].show_found(progress.found_thermal, progress.cells, progress.accepted)
        sign = level_sign(Level.GOOD if progress.accepted else Level.NEUTRAL)
        reason = in_words(progress.reason)
        self.reason.setText(f"{sign} {reason[:1].upper()}{reason[1:]}")
        advice, state = advice_and_state(progress.guidance)
        self.guidance.setText(in_words(advice))
        self.state.setText(in_words(state))
        self.views.setRange(0, progress.target)
        self.views.setValue(min(progress.views, progress.target))
        more = self.tr("Views: {0}, a few more help") if progress.views > progress.target else ""
        self.views_text.setText((more or self.tr("Views: {0} of {1}")).format(progress.views, progress.target))
        self.coverage.setValue(round(100 * progress.coverage))
        self.coverage_text.setText(self.tr("Field of both cameras covered: {0:.0f} %").format(100 * progress.coverage))
        self.solve.setEnabled(progress.ready)

    def show_outcome(self, outcome: CalibrationOutcome) -> None:
        """What came out."""
        self._report = str(outcome.report)
        level = Level.GOOD if outcome.good else Level.BAD
        text = self.tr("Good") if outcome.good else self.tr("Not good enough")
        self.verdict.setText(f"{level_sign(level)} {text}")
        self.verdict.setProperty("level", level.value)
        restyle(self.verdict)
        far = self.tr("the horizon") if math.isinf(outcome.far_m) else f"{outcome.far_m:.1f} m"
        self.range.setText(
            self.tr(
                "Held-out error {0:.2f} thermal px (95 %: {1:.2f}). Exact at {2:.1f} m; parallax stays inside {3:g} "
                "visible px from {4:.1f} m to {5}."
            ).format(outcome.median_px, outcome.p95_px, outcome.exact_m, outcome.limit_px, outcome.near_m, far)
        )
        while (item := self._gate_grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.setParent(None)
                widget.deleteLater()
        row = 0
        for cause in self._causes(outcome):
            self._gate_grid.addWidget(_words(cause), row, 0, 1, 3)
            row += 1
        for gate in outcome.gates:
            level = Level.GOOD if gate.passed else Level.BAD
            sign = QLabel(level_sign(level))
            sign.setProperty("level", level.value)
            sign.setAccessibleName(self.tr("passed") if gate.passed else self.tr("failed"))
            words = in_words(gate.name)
            name = _words(words[:1].upper() + words[1:])
            got = QLabel(in_words(gate.got))
            got.setProperty("role", "value")
            wanted = self.tr("wanted: {0}").format(in_words(gate.wanted))
            got.setToolTip(wanted)
            self._gate_grid.addWidget(sign, row, 0, Qt.AlignmentFlag.AlignTop)
            self._gate_grid.addWidget(name, row, 1)
            self._gate_grid.addWidget(got, row, 2, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
            row += 1
            if not gate.passed:
                told = in_words(gate.advice) if gate.advice != outcome.contradiction else ""
                advice = f"{wanted}. {told}".strip()
                self._gate_grid.addWidget(_words(advice, "dim"), row, 1, 1, 2)
                row += 1
        if outcome.offset_ms is not None:
            offset = self.tr(
                "Visible is stamped {0:+.1f} ms against thermal (±{1:.1f}); "
                "put right from the next start of the cameras on"
            ).format(*outcome.offset_ms)
            self._gate_grid.addWidget(_words(offset, "dim"), row, 1, 1, 2)
            row += 1
        if outcome.rejected:
            rejected = self.tr("Rejected views: {0}; the report says why").format(len(outcome.rejected))
            self._gate_grid.addWidget(_words(rejected, "dim"), row, 1, 1, 2)
            row += 1
        self._gate_grid.setRowStretch(row, 1)
        self.apply.setText(self.tr("Apply") if outcome.good else self.tr("Apply all the same"))
        self.apply.setFocus()

    def _causes(self, outcome: CalibrationOutcome) -> list[str]:
        """What was found of the board and the views: a bend, and why both cameras do not fit together."""
        causes = [in_words(outcome.contradiction)] if outcome.contradiction else []
        if outcome.bend_mm:
            bend = self.tr(
                "The board is bent: its points lie within {0:.1f} mm of depth in place of a plane. This was taken "
                "into account; stiffen it all the same."
            )
            causes.append(bend.format(outcome.bend_mm))
        return causes

    def show_problem(self, text: str) -> None:
        """Say what is wrong; "" = nothing."""
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def _choose_board_file(self) -> None:
        dialog = QFileDialog(self, self.tr("Save the board"), "board.pdf", self.tr("Drawing (*.pdf *.svg)"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.fileSelected.connect(lambda name: self.board_file_asked.emit(self.board.currentText().strip(), name))
        dialog.open()


def _step(title: str, *parts: QWidget | None) -> QWidget:
    """A heading over the parts: those before None scroll where there is little room, those after it stay below."""
    widget, above = QWidget(), QWidget()
    column, words = QVBoxLayout(widget), QVBoxLayout(above)
    for each in (column, words):
        each.setContentsMargins(0, 0, 0, 0)
        each.setSpacing(10)
    head = QLabel(title)
    head.setProperty("role", "step")
    column.addWidget(head)
    column.addWidget(let_scroll(above, QScrollArea()), 1)
    into = words
    for part in parts:
        if part is None:
            into = column
        else:
            into.addWidget(part)
    words.addStretch(1)
    return widget


def _words(text: str, role: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    if role:
        label.setProperty("role", role)
    return label


def _bar(name: str) -> QProgressBar:
    bar = QProgressBar()
    bar.setRange(0, 100)
    bar.setTextVisible(False)
    bar.setProperty("thin", True)
    bar.setAccessibleName(name)
    return bar
