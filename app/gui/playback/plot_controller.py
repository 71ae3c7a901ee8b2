"""Decides about the curves over time in playback: when they are measured, what is shown, and writing them to a file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from PyQt6.QtCore import QObject, QTimer

from app.gui.common.qt_application import show_in_folder
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.measuring.measure_controller import MeasureController
from app.gui.picture.curve_plot import Curve
from app.gui.playback.playback_controller import PlaybackController
from app.gui.playback.playback_page import PlaybackPage
from app.playback.measure_job import MeasureJob, Trace, write_csv
from app.view.measuring import WHOLE, Mark, MarkKind

__all__ = ["PlotController"]

_TICK_MS = 250
_SETTLE_MS = 400  # after the last change of what is measured
_END_S = 30.0


class PlotController(QObject):
    """Owns the job that measures a recording, while its curves are shown. GUI thread."""

    def __init__(
        self,
        page: PlaybackPage,
        actions: WindowActions,
        playback: PlaybackController,
        measuring: MeasureController,
        tasks: TaskRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._page, self._playback, self._measuring, self._tasks = page, playback, measuring, tasks
        self._job: MeasureJob | None = None
        self._unit = ""
        self.shown = False
        self._tick = QTimer(self)
        self._tick.setInterval(_TICK_MS)
        self._tick.timeout.connect(self.tick)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MS)
        self._settle.timeout.connect(self.begin)
        actions.connect("over_time", lambda: self.show(not self.shown))
        measuring.marks_changed.connect(self._begin_soon)
        playback.scale_changed.connect(self._begin_soon)
        playback.opened.connect(lambda *_: self._begin_soon())
        page.plot_seek_asked.connect(self._seek)
        page.csv_asked.connect(lambda name: self.save(Path(name)))

    @property
    def measured(self) -> bool:
        """Whether the whole recording is measured."""
        job = self._job
        return job is not None and not job.running and job.progress[0] == job.progress[1] > 0

    def show(self, shown: bool) -> None:
        """Show or hide the curves; what they show is measured meanwhile. Without a mark it is the whole picture."""
        self.shown = shown
        self._page.show_plot(shown)
        if shown:
            self.begin()
        else:
            self.close()

    def begin(self) -> None:
        """Measure everything anew."""
        opener = self._playback.opener
        self.close()
        if opener is None or not self.shown:
            return
        self._unit = self._measuring.unit
        self._job = MeasureJob(opener, self._marks(), self._playback.convert)
        self._tick.start()
        self.tick()

    def close(self) -> None:
        """End measuring."""
        self._tick.stop()
        self._settle.stop()
        job, self._job = self._job, None
        if job is not None:
            job.cancel()
            self._tasks.run(lambda: job.wait(_END_S), lane=Lane.FILES)

    def tick(self) -> None:
        """Show what is measured so far; called by timer."""
        job = self._job
        if job is None:
            return
        running = job.running  # before what it has measured is read
        done, total = job.progress
        self._page.show_curves([_curve(trace) for trace in job.traces()], self._unit, done, total)
        if not running:
            self._tick.stop()
            if job.error:
                self._page.stage.banners.show_notice(job.error)

    def save(self, path: Path) -> None:
        """Write the curves as CSV."""
        job = self._job
        if job is None:
            return
        traces, unit = job.traces(), self._unit

        def saved(_: object) -> None:
            offers = [(self.tr("Show in folder"), lambda: show_in_folder(path))]
            self._page.stage.banners.show_notice(self.tr("Curves saved: {0}").format(path), offers)

        self._tasks.run(
            lambda: write_csv(path, traces, unit),
            saved,
            lambda error: self._page.stage.banners.show_notice(str(error)),
            Lane.FILES,
        )

    def _marks(self) -> Sequence[Mark]:
        marks = [measured.mark for measured in self._measuring.marks]
        return marks or [Mark(MarkKind.BOX, WHOLE.points, self.tr("Whole picture"))]

    def _begin_soon(self) -> None:
        if self.shown:
            self._settle.start()

    def _seek(self, seconds: float) -> None:
        job = self._job
        if job is not None and (traces := job.traces()):
            self._playback.seek(bisect_left(traces[0].seconds.tolist(), seconds))


def _curve(trace: Trace) -> Curve:
    band = bool((trace.minimum != trace.maximum).any())
    return Curve(
        trace.name, trace.seconds, trace.mean, trace.minimum if band else None, trace.maximum if band else None
    )
