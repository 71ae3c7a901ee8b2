"""The wires between the calibration page and its controller."""

from __future__ import annotations

from pathlib import Path

from PyQt6.QtCore import QObject, QUrl
from PyQt6.QtGui import QDesktopServices

from app.gui.common.qt_image import rgb_image
from app.gui.setup.assistant_controller import preview_pixels
from app.gui.setup.calibration_controller import CalibrationController
from app.gui.setup.calibration_page import CalibrationPage
from fusion_core.frames import FusedFrame, Stream

__all__ = ["CalibrationWiring"]


class CalibrationWiring(QObject):
    """Connects both ways, from the constructor on. GUI thread."""

    def __init__(self, page: CalibrationPage, control: CalibrationController, parent: QObject) -> None:
        super().__init__(parent)
        self._page = page
        page.begin_asked.connect(control.begin)
        page.solve_asked.connect(control.solve)
        page.more_asked.connect(control.capture_more)
        page.discard_asked.connect(control.discard)
        page.apply_asked.connect(control.apply)
        page.board_file_asked.connect(lambda board, name: control.save_board(board, Path(name)))
        page.report_asked.connect(lambda name: QDesktopServices.openUrl(QUrl.fromLocalFile(name)))
        control.phase_changed.connect(page.show_phase)
        control.picture_ready.connect(self._show_picture)
        control.progress_ready.connect(page.show_progress)
        control.outcome_ready.connect(page.show_outcome)
        control.failed.connect(page.show_problem)

    def _show_picture(self, frame: FusedFrame) -> None:
        for stream, part in ((Stream.VISIBLE, frame.pair.visible), (Stream.THERMAL, frame.pair.thermal)):
            if part is not None:
                self._page.show_image(stream, rgb_image(preview_pixels(part)))
