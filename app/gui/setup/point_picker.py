"""The window of `lumitherm calibrate points`: the same place picked in both pictures, and what that gives, at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QFont, QPixmap
from PyQt6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.gui.common.qt_application import fit_on_screen, make_application
from app.gui.common.qt_image import rgb_image
from app.gui.common.theme import Appearance, apply_theme, icon_button
from app.gui.common.translation import install_language
from app.gui.setup.calibration_words import in_words
from app.gui.setup.pick_view import Mark, PickView
from app.rig.point_picking import PickedPoint, PointPicking, Side
from fusion_core.errors import LumithermError

__all__ = ["PointPicker", "pick_points"]


class PointPicker(QWidget):
    """Owner of the picking; `saved` is the file once it is written.

    Args:
        picking: the two pictures and their points.
        save: writes the calibration and gives its file; raises LumithermError.
    """

    def __init__(self, picking: PointPicking, save: Callable[[], Path], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(self.tr("Pick points - Lumitherm"))
        self.picking, self._save = picking, save
        self.saved: Path | None = None
        self.current: int | None = None
        self.views: dict[Side, PickView] = {
            "visible": PickView(self.tr("Visible picture")),
            "thermal": PickView(self.tr("Thermal picture")),
        }
        self.views["visible"].show_image(rgb_image(picking.visible))
        levels = picking.thermal_levels
        self.views["thermal"].show_image(rgb_image(np.repeat(levels[..., None], 3, axis=2)))
        self.preview = QLabel()
        self.preview.setMinimumSize(240, 100)
        self.preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.preview.setAccessibleName(self.tr("Fused picture"))
        self.table = self._table()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.save_button = icon_button("content-save", self.tr("Save the calibration"), primary=True)
        self.save_button.clicked.connect(self.save)
        self.remove_button = QPushButton(self.tr("Remove the point"))
        self.remove_button.clicked.connect(self.remove)
        self._arrange()
        for side, view in self.views.items():
            view.picked.connect(lambda x, y, side=side: self._picked(side, x, y))
            view.dragged.connect(lambda index, x, y, side=side: self._dragged(side, index, x, y))
            view.nudged.connect(lambda dx, dy, side=side: self._nudged(side, dx, dy))
            view.chosen.connect(self.choose)
            view.removal_asked.connect(self.remove)
        self.refresh()

    def _table(self) -> QTableWidget:
        table = QTableWidget(0, 4)
        table.setHorizontalHeaderLabels(
            [self.tr("Point"), self.tr("Off, visible px"), self.tr("Left out, visible px"), self.tr("Used")]
        )
        table.setAccessibleName(self.tr("Points and how far each is off"))
        table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        header, rows = table.horizontalHeader(), table.verticalHeader()
        if header is not None and rows is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            rows.hide()
        table.cellClicked.connect(lambda row, _: self.choose(row))
        return table

    def _arrange(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(20, 16, 20, 16)
        grid.setSpacing(8)
        for column, (text, widget) in enumerate(
            ((self.tr("Visible"), self.views["visible"]), (self.tr("Thermal"), self.views["thermal"]))
        ):
            caption = QLabel(text)
            caption.setProperty("role", "caption")
            grid.addWidget(caption, 0, column)
            grid.addWidget(widget, 1, column)
            grid.setColumnStretch(column, 1)
        caption = QLabel(self.tr("Fused by these points"))
        caption.setProperty("role", "caption")
        grid.addWidget(caption, 2, 0)
        grid.addWidget(self.preview, 3, 0)
        side = QFrame()
        side.setProperty("card", True)
        lines = QVBoxLayout(side)
        lines.addWidget(self.words)
        lines.addWidget(self.table, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.remove_button)
        buttons.addStretch(1)
        buttons.addWidget(self.save_button)
        lines.addLayout(buttons)
        grid.addWidget(side, 3, 1)
        grid.setRowStretch(1, 1)
        grid.setRowStretch(3, 1)
        fit_on_screen(self, 1280, 900)

    # ------------------------------------------------------------------ what the user does

    def _picked(self, side: Side, x: float, y: float) -> None:
        self.current = self.picking.place(side, (x, y))
        self.refresh()

    def _dragged(self, side: Side, index: int, x: float, y: float) -> None:
        self.picking.move(index, side, (x, y))
        self.refresh()

    def _nudged(self, side: Side, dx_px: float, dy_px: float) -> None:
        if self.current is not None:
            self.picking.nudge(self.current, side, dx_px, dy_px)
            self.refresh()

    def choose(self, index: int) -> None:
        """The point that arrow keys move and the loupes show."""
        self.current = index if 0 <= index < len(self.picking.points) else None
        self.refresh()

    def remove(self) -> None:
        """Take the chosen point away."""
        if self.current is not None:
            self.picking.remove(self.current)
            self.current = min(self.current, len(self.picking.points) - 1) if self.picking.points else None
            self.refresh()

    def save(self) -> None:
        """Write the file and close; what stands in the way is told."""
        try:
            self.saved = self._save()
        except LumithermError as error:
            self.words.setText(str(error))
            return
        self.close()

    # ------------------------------------------------------------------ what is shown

    def refresh(self) -> None:
        """Points, residuals and the fused picture as they are now."""
        points = self.picking.points
        for side, view in self.views.items():
            marks: list[Mark] = []
            for index, point in enumerate(points):
                at = point.visible if side == "visible" else point.thermal
                if at is not None:
                    marks.append((index, *at, point.used is not False))
            view.show_marks(marks, self.current, self._expected(side))
        self.preview.setPixmap(_pixmap(self.picking, self.preview))
        self.words.setText(self._said())
        self.save_button.setEnabled(self.picking.solution is not None)
        self.remove_button.setEnabled(self.current is not None)
        self.table.setRowCount(len(points))
        for row, point in enumerate(points):
            for cell, text in enumerate(self._row(row, point)):
                item = QTableWidgetItem(text)
                if row == self.current:
                    font = QFont(item.font())
                    font.setBold(True)
                    item.setFont(font)
                self.table.setItem(row, cell, item)

    def _expected(self, side: Side) -> tuple[float, float] | None:
        """Where this picture shows the point that so far is placed in the other one only."""
        for point in reversed(self.picking.points):
            here, there = (point.visible, point.thermal) if side == "visible" else (point.thermal, point.visible)
            if here is None and there is not None:
                return self.picking.expected("thermal" if side == "visible" else "visible", there)
        return None

    def _said(self) -> str:
        solution = self.picking.solution
        if solution is None:
            first = self.tr("Click the same place in both pictures: corners of things at the distance that matters.")
            return f"{first} {in_words(self.picking.problem)}".strip()
        return self.tr("{0} map from {1} points, {2:.2f} visible px rms. Outliers: {3}.").format(
            in_words(solution.model), int(solution.inlier.sum()), solution.rms_px, int((~solution.inlier).sum())
        )

    def _row(self, row: int, point: PickedPoint) -> tuple[str, str, str, str]:
        def figure(value: float | None) -> str:
            return f"{value:.2f}" if value is not None else "-"

        used = {True: self.tr("yes"), False: self.tr("no: outlier"), None: "-"}[point.used]
        if not point.whole:
            used = self.tr("one picture only")
        return str(row + 1), figure(point.residual_px), figure(point.left_out_px), used


def _pixmap(picking: PointPicking, label: QLabel) -> QPixmap:
    picture = QPixmap.fromImage(rgb_image(picking.fused()))
    return picture.scaled(label.size(), Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)


def pick_points(picking: PointPicking, save: Callable[[], Path]) -> Path | None:
    """Show the window until it is closed; the file that was written, None if nothing was saved."""
    application = make_application(sys.argv[:1])
    install_language(application, "")
    apply_theme(application, Appearance.SYSTEM)
    window = PointPicker(picking, save)
    window.show()
    application.exec()
    return window.saved
