"""Decides about setting up: owns the preview of both cameras, measures the offset, writes the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.gui.common.qt_image import preview_image
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.setup.assistant_page import AssistantPage
from app.rig.setup_assistant import (
    FoundAlignment,
    PairPreview,
    address_uri,
    list_profiles,
    list_sources,
    offset_to_save,
    write_rig,
)
from fusion_core.frames import Frame, Stream

if TYPE_CHECKING:
    from app.capture.offset_estimator import OffsetEstimate

__all__ = ["AssistantController"]

_TICK_MS = 40
_ESTIMATE_EVERY = 50  # ticks
_ENOUGH_S = 12.0


class AssistantController(QObject):
    """Owns the preview on behalf of the window. GUI thread.

    sources_ready: list of SourceChoice. frame_ready: (Stream, Frame or None, error). offset_ready: (text, share 0..1 of
    the time that the measurement takes). alignment_ready: text. saved: path of the new configuration. failed: text,
    "" = nothing is wrong.

    Args:
        folder: where the configuration goes.
        make_preview: makes a preview of (visible URI, thermal URI) that is not started; called on a task's thread.
    """

    sources_ready = pyqtSignal(object)
    frame_ready = pyqtSignal(object, object, str)
    offset_ready = pyqtSignal(str, float)
    alignment_ready = pyqtSignal(str)
    saved = pyqtSignal(object)
    failed = pyqtSignal(str)
    stopped = pyqtSignal()

    def __init__(
        self,
        page: AssistantPage,
        tasks: TaskRunner,
        folder: Path,
        make_preview: Callable[[str, str], PairPreview] = PairPreview,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._page, self._tasks = page, tasks
        self.folder = folder
        self._make_preview = make_preview
        self._preview: PairPreview | None = None
        self._generation = 0
        self._uris = ("", "")
        self._ticks = 0
        self._estimating = False
        self._offset_ms: float | None = None  # to be written down
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self.tick)
        self._connect(page)

    def _connect(self, page: AssistantPage) -> None:
        def show_frame(stream: Stream, frame: Frame | None, error: str) -> None:
            page.show_frame(stream, preview_image(frame) if frame is not None and not error else None, error)

        def show_path(rig: str) -> None:
            page.path.setText(str(self.file_of(rig)))

        self.sources_ready.connect(page.show_sources)
        self.frame_ready.connect(show_frame)
        self.offset_ready.connect(page.show_offset)
        self.alignment_ready.connect(page.show_alignment)
        self.failed.connect(page.show_problem)
        page.refresh_asked.connect(self.list_cameras)
        page.preview_asked.connect(self.preview)
        page.save_asked.connect(self.save)
        page.rig.textChanged.connect(show_path)
        page.address_given.connect(lambda stream, text: page.add_source(stream, address_uri(text)))
        show_path(page.rig.text())

    def list_cameras(self) -> None:
        """List what is connected; `sources_ready` follows unless `stop` comes first."""
        generation = self._generation

        def listed(choices: Any) -> None:
            if generation == self._generation:  # else the page was left meanwhile, and would begin a preview
                self.sources_ready.emit(choices)

        self._tasks.run(list_sources, listed, lambda e: self.failed.emit(str(e)), Lane.FILES)
        self._tasks.run(list_profiles, self._page.show_profiles, lambda e: self.failed.emit(str(e)), Lane.FILES)

    def preview(self, visible_uri: str, thermal_uri: str) -> None:
        """Show these two cameras."""
        if (visible_uri, thermal_uri) == self._uris and self._preview is not None:
            return
        old = self._release_preview()
        self._uris = (visible_uri, thermal_uri)
        self.failed.emit("")
        if "None" in self._uris or not all(self._uris):
            return
        generation = self._generation

        def work() -> PairPreview:
            if old is not None:
                old.stop()
            preview = self._make_preview(visible_uri, thermal_uri)
            preview.start()
            return preview

        def done(preview: PairPreview) -> None:
            if generation != self._generation:
                self._tasks.run(preview.stop)
                return
            self._preview = preview
            self._ticks = 0
            self._timer.start()

        self._tasks.run(work, done, lambda error: self.failed.emit(str(error)))

    def stop(self) -> None:
        """Close both cameras; `stopped` follows."""
        old = self._release_preview()
        self._uris = ("", "")
        if old is not None:
            self._tasks.run(old.stop, lambda _: self.stopped.emit())
        else:
            self.stopped.emit()

    def _release_preview(self) -> PairPreview | None:
        self._generation += 1
        self._timer.stop()
        self._offset_ms = None
        self._estimating = False
        old, self._preview = self._preview, None
        return old

    def tick(self) -> None:
        """Pull pictures, and now and then the offset; called by timer."""
        preview = self._preview
        if preview is None:
            return
        for stream in Stream:
            self.frame_ready.emit(stream, preview.latest(stream), preview.error(stream))
        self._ticks += 1
        if self._ticks % _ESTIMATE_EVERY == 0:
            self.alignment_ready.emit(self._alignment_words(preview.alignment))
        if self._ticks % _ESTIMATE_EVERY == 0 and not self._estimating:
            self._estimating = True
            generation = self._generation
            self._tasks.run(
                preview.estimate,
                lambda found: self._estimated(generation, found),
                lambda _: self._estimated(generation, None),
                Lane.FILES,
            )

    def _estimated(self, generation: int, found: OffsetEstimate | None) -> None:
        if generation != self._generation or self._preview is None:
            return
        self._estimating = False
        share = min(1.0, self._preview.seconds / _ENOUGH_S)
        if found is None:
            self.offset_ready.emit(self.tr("Collecting frames of both cameras…"), share)
            return
        self._offset_ms = offset_to_save(found)
        if self._offset_ms is not None:
            text = self.tr("The thermal camera is {0:.0f} ms behind the visible one; this will be corrected.")
            if self._offset_ms < 0:
                text = self.tr("The visible camera is {0:.0f} ms behind the thermal one; this will be corrected.")
            self.offset_ready.emit(text.format(abs(self._offset_ms)), share)
        elif found.sure:
            text = self.tr("Both cameras are in step, as far as this can tell: nothing to correct.")
            self.offset_ready.emit(text, share)
        else:
            text = self.tr("Not sure yet. Move a hand or the rig before both cameras.")
            self.offset_ready.emit(text, share)

    def _alignment_words(self, found: FoundAlignment | None) -> str:
        if found is None:
            return self.tr("Searching how thermal lies on visible…")
        if found.why_not:
            return self.tr(
                "The scene does not tell how thermal lies on visible: more edges that both cameras see are needed."
            )
        if found.off_px is not None:
            text = self.tr(
                "Thermal, plainly scaled, lies {0:.0f} visible px off. Found where it belongs; {1:.1f} px are left."
            )
            return text.format(found.off_px, found.left_px)
        if found.calibration is not None:
            return self.tr("Thermal lies near; corrected from the scene, {0:.1f} visible px are left.").format(
                found.left_px
            )
        return self.tr("Thermal lies on visible already ({0:.1f} visible px).").format(found.left_px)

    def file_of(self, rig: str) -> Path:
        """Return where the configuration of a rig of this name goes."""
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", rig.strip()).strip("-.") or "rig"
        return self.folder / f"{safe}.yaml"

    def save(self, rig: str) -> None:
        """Write the configuration; `saved` follows when the cameras are free."""
        visible, thermal = self._uris
        offset = self._offset_ms
        path = self.file_of(rig)
        old = self._preview
        found = old.alignment if old is not None else None

        def work() -> Path:
            write_rig(path, rig.strip() or "rig", (visible, thermal), offset, found)
            if old is not None:
                old.stop()
            return path

        def done(path: Any) -> None:
            self._release_preview()
            self._uris = ("", "")
            self.saved.emit(path)

        self._tasks.run(work, done, lambda error: self.failed.emit(str(error)))
