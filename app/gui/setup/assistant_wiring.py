"""The wires between the set-up page and its controller."""

from __future__ import annotations

from PyQt6.QtCore import QObject

from app.gui.common.qt_image import rgb_image
from app.gui.setup.assistant_controller import AssistantController, preview_pixels
from app.gui.setup.assistant_page import AssistantPage
from fusion_core.frames import Frame, Stream

__all__ = ["AssistantWiring"]


class AssistantWiring(QObject):
    """Connects both ways, from the constructor on. GUI thread."""

    def __init__(self, page: AssistantPage, control: AssistantController, parent: QObject) -> None:
        super().__init__(parent)
        self._page = page
        page.refresh_asked.connect(control.look)
        page.preview_asked.connect(control.preview)
        page.save_asked.connect(control.save)
        page.rig.textChanged.connect(lambda name: page.path.setText(str(control.file_of(name))))
        page.path.setText(str(control.file_of(page.rig.text())))
        control.sources_ready.connect(page.show_sources)
        control.frame_ready.connect(self._show_preview)
        control.offset_ready.connect(page.show_offset)
        control.failed.connect(page.show_problem)

    def _show_preview(self, stream: Stream, frame: Frame | None, error: str) -> None:
        image = rgb_image(preview_pixels(frame)) if frame is not None and not error else None
        self._page.show_frame(stream, image, error)
