"""Decides about what is written to disk from the live page: recordings, events, snapshots, and the view as shown."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal

from app.gui.common.pipeline_protocol import ControllerState
from app.gui.common.qt_application import show_in_folder
from app.gui.common.settings import GuiSettings
from app.gui.common.tasks import Lane, TaskRunner
from app.gui.common.window_actions import WindowActions
from app.gui.live.live_controller import STOP_S, LiveController
from app.gui.live.live_page import LivePage
from app.pipeline.state.stats import RecordingState, StatsSnapshot
from app.view.recorder import ViewRecorder

__all__ = ["RecordingController"]


class RecordingController(QObject):
    """Records by the pipeline of `live`, and records the view itself while the user wants that too. GUI thread.

    open_asked: path of a recording to play.
    """

    open_asked = pyqtSignal(object)

    def __init__(
        self,
        page: LivePage,
        actions: WindowActions,
        live: LiveController,
        settings: GuiSettings,
        tasks: TaskRunner,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._page, self._live, self._settings, self._tasks = page, live, settings, tasks
        self._view_recorder: ViewRecorder | None = None
        self._file: str | None = None  # that is being recorded
        live.stats_ready.connect(self._on_stats_ready)
        live.state_changed.connect(self._on_state_changed)
        actions.connect("record", lambda: self.set_recording(not self.recording))
        actions.connect("event", lambda: self.mark_event())

    @property
    def recording(self) -> bool:
        """Whether a recording runs or waits for disk space."""
        snapshot = self._live.snapshot_of_stats
        return snapshot is not None and snapshot.recording in (RecordingState.RECORDING, RecordingState.PAUSED)

    @property
    def file(self) -> Path | None:
        """That is being recorded, or was last and is not told yet."""
        return Path(self._file).absolute() if self._file is not None else None

    @property
    def recording_view(self) -> bool:
        """Whether the view is being recorded."""
        return self._view_recorder is not None

    def set_recording(self, on: bool) -> None:
        """Begin or end a recording."""
        if on:
            self._live.call("recording", lambda pipeline: pipeline.recording.start())
        else:
            self._live.call("recording", lambda pipeline: pipeline.recording.stop(STOP_S), self._on_recorded)

    def _on_recorded(self, summary: Any) -> None:
        if summary is None:
            return
        for segment in summary.segments:
            self._settings.add_recent("recordings", Path(segment.path))
        text = self.tr("Recorded {0:.1f} s, {1:.1f} MB: {2}\nin {3}")
        if summary.segments:
            path = Path(summary.segments[0].path).absolute()
            self._offer(text.format(summary.seconds, summary.bytes / 1e6, path.name, path.parent), path)
        self._file = None

    def _offer(self, text: str, path: Path, *, plays: bool = True) -> None:
        """Say what was written, and offer to open it and to show where it is."""
        offers = [(self.tr("Open"), lambda: self.open_asked.emit(path))] if plays else []
        offers.append((self.tr("Show in folder"), lambda: show_in_folder(path)))
        self._page.stage.banners.show_notice(text, offers)

    def mark_event(self, label: str = "operator") -> None:
        """Mark this moment; with pre-event recording it also starts the clip."""
        stamp = datetime.now().astimezone().strftime("%H:%M:%S")
        self._live.call("recording", lambda pipeline: pipeline.recording.mark(f"{label} {stamp}"))
        self._live.notice.emit(self.tr("Event marked at {0}").format(stamp))

    def take_snapshot(self) -> None:
        """Save fused PNG, visible PNG, thermal TIFF and JSON beside the recordings."""
        if self._live.config is None:
            return
        folder = self._live.config.recording.directory / "snapshots"
        self._live.call(
            "snapshot",
            lambda pipeline: pipeline.snapshot(folder),
            lambda path: self._offer(self.tr("Snapshot saved: {0}").format(path), path, plays=False),
            Lane.FILES,
        )

    def record_view(self, on: bool) -> None:
        """Record the view with its figures, or end that."""
        if on == self.recording_view:
            return
        config = self._live.config
        if on and config is not None:
            stamp = datetime.now().astimezone().strftime("%Y%m%d_%H%M%S")
            self._view_recorder = ViewRecorder(config.recording.directory / f"view_{stamp}.mkv")
            self._live.video.set_capture(self._view_recorder.offer)
            return
        recorder, self._view_recorder = self._view_recorder, None
        self._live.video.set_capture(None)
        if recorder is not None:
            self._tasks.run(recorder.close, lambda _: self._on_view_recorded(recorder), lane=Lane.FILES)

    def _on_view_recorded(self, recorder: ViewRecorder) -> None:
        if recorder.error:
            self._live.notice.emit(recorder.error)
        else:
            self._offer(self.tr("View recorded: {0}").format(recorder.path), recorder.path, plays=False)

    def _on_stats_ready(self, snapshot: StatsSnapshot) -> None:
        if snapshot.recording is RecordingState.RECORDING and snapshot.recording_file not in (None, self._file):
            self._file = snapshot.recording_file  # at once: however it ends, it can be opened
            self._settings.add_recent("recordings", Path(str(self._file)))
        self._show(snapshot.recording in (RecordingState.RECORDING, RecordingState.PAUSED))

    def _on_state_changed(self, state: ControllerState) -> None:
        if state is not ControllerState.RUNNING:
            self._show(False)
        if state is ControllerState.IDLE and self._file is not None:  # it ended with the rig
            path, self._file = Path(self._file).absolute(), None
            self._offer(self.tr("The recording has ended: {0}\nin {1}").format(path.name, path.parent), path)

    def _show(self, recording: bool) -> None:
        self._page.show_recording(recording)
        self.record_view(recording and self._page.panel.record.record_view)
