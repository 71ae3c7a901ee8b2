"""The recorder in the pipeline: tells what it does, and replaces one that failed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

from app.pipeline.problems import ProblemLog, Severity
from app.pipeline.stats import RecordingState, Stage, Stats
from app.recording.config import RecordingConfig
from app.recording.writing.recorder import Recorder, RecorderState, RecorderStatus, RecordingSummary
from fusion_core.errors import LumithermError, RecordingError
from fusion_core.frames import FusedFrame

__all__ = ["RecordingControl"]

_RETRY_S = 5.0
_FIGURES = re.compile(r"[\d.]+")
_STATES = {
    RecorderState.IDLE: RecordingState.OFF,
    RecorderState.ARMED: RecordingState.BUFFERING,
    RecorderState.RECORDING: RecordingState.RECORDING,
    RecorderState.DEGRADED: RecordingState.RECORDING,
    RecorderState.WAITING_FOR_DISK: RecordingState.PAUSED,
    RecorderState.FAILED: RecordingState.FAILED,
}


class RecordingControl:
    """Holds the recorder. `offer` is the fusion thread's, `tick` the pipeline's; the rest may be called by any.

    A recorder that failed is replaced after five seconds, and so is a folder that could not be written: what was asked
    to be recorded is recorded as soon as it can be.
    """

    def __init__(
        self, config: RecordingConfig, clock_ns: Callable[[], int], stats: Stats, problems: ProblemLog
    ) -> None:
        self._config = config
        self._clock_ns, self._stats, self._problems = clock_ns, stats, problems
        self._lock = threading.RLock()  # over the recorder and what is wanted of it
        self._recorder: Recorder | None = None
        self._wanted = config.autostart
        self._started = False  # whether the recorder knows that
        self._label: str | None = None
        self._retry_at_s = 0.0
        self._told: tuple[RecorderState, str] = (RecorderState.IDLE, "")
        self._context: dict[str, Any] = {}
        self._closed = False
        self._wish: tuple[bool, str | None] | None = None  # what somebody asked for, and its label
        self._noted: tuple[bool, str | None] | None = None
        self._note: Callable[[bool, str | None], None] | None = None
        self._noting = threading.Lock()  # the last word is noted last
        self._refused = self._refused_before = 0  # of this recording, and of those before
        self.summary: RecordingSummary | None = None
        """Of the last recording that was stopped."""

    # ------------------------------------------------------------------ frames

    def offer(self, frame: FusedFrame) -> None:
        """Hand a frame over; never waits. What is refused is counted by the recorder."""
        recorder = self._recorder
        if recorder is not None and recorder.offer(frame) and self._wanted:
            self._stats.frame(Stage.RECORDED)

    def has_room(self) -> bool:
        """Whether the next frame would be taken without being refused; True while nothing is recorded."""
        recorder = self._recorder
        if recorder is None or not self._wanted:
            return True
        status = recorder.status()
        return not status.recording or status.queue_depth < self._config.queue_frames

    def describe(self, **context: Any) -> None:
        """See Recorder.describe; kept for a recorder that replaces this one."""
        with self._lock:
            self._context |= {name: value for name, value in context.items() if value is not None}
            if self._recorder is not None:
                self._recorder.describe(**context)

    # ------------------------------------------------------------------ requests

    def remember(
        self,
        note: Callable[[bool, str | None], None],
        wanted: bool | None = None,
        label: str | None = None,
    ) -> None:
        """Begin as `wanted` says in place of `recording.autostart`, and tell `note` of requests from now on.

        `note` gets (True, label) when somebody began a recording that only somebody ends, and (False, None) when
        somebody ended one. It is called by whoever asked, and may take its time.
        """
        with self._lock:
            self._note = note
            if wanted is not None:
                self._wanted, self._label = wanted, label
                self._wish = self._noted = (wanted, label)

    def start(self, label: str | None = None) -> None:
        """Begin a recording. Raises RecordingError; without effect while recording."""
        with self._lock:
            self._make().start(label)
            if not self._wanted:
                self._refused_before += self._refused
                self._refused = 0
            self._wanted, self._started, self._label = True, True, label
            self._wish = (True, label)
        self._tell_wish()

    def mark(self, label: str) -> None:
        """Mark this moment; begins a recording (with the seconds before) if there is none. Raises RecordingError."""
        with self._lock:
            self._make().event(label)
            if not self._wanted and self._config.post_event_s == 0:
                self._wish = (True, label)
            self._wanted = self._started = True
        self._tell_wish()

    def stop(self, timeout_s: float = 5.0) -> RecordingSummary | None:
        """End the recording; None if there was none. Raises RecordingError when it could not be finished."""
        with self._lock:
            self._wish = (False, None)
        self._tell_wish()
        return self._end(timeout_s)

    def _end(self, timeout_s: float) -> RecordingSummary | None:
        with self._lock:
            recorder, wanted = self._recorder, self._wanted
            self._wanted, self._started, self._label = False, False, None
        if recorder is None or not (wanted or recorder.status().recording):
            return None
        try:
            self.summary = recorder.stop(timeout_s)
        finally:
            self._show(recorder.status())
        for problem in self.summary.problems:
            self._problems.add(Severity.WARNING, "recording", problem, "lumitherm recording check FILE tells more")
        return self.summary

    def close(self, timeout_s: float) -> None:
        """Stop and end the recorder's threads; what goes wrong becomes a problem. Safe to call twice."""
        with self._lock:
            self._closed = True
            recorder = self._recorder
        if recorder is None:
            return
        deadline_s = time.monotonic() + timeout_s
        try:
            self._end(0.9 * timeout_s)
        except LumithermError as error:
            self._problems.add(Severity.ERROR, "recording", str(error), "lumitherm recover FILE mends the last file")
        try:
            recorder.close(max(0.5, deadline_s - time.monotonic()))
        except LumithermError as error:
            self._problems.add(Severity.ERROR, "recording", str(error))

    # ------------------------------------------------------------------ by time

    def tick(self) -> None:
        """Look after the recorder: once or twice a second."""
        with self._lock:
            if self._closed:
                return
            recorder = self._recorder
            lacking = (self._wanted and not self._started) or (recorder is None and self._config.pre_event_s > 0)
            if lacking and time.monotonic() >= self._retry_at_s:
                self._try_again()
            if recorder is None:
                return
            status = recorder.status()
            self._show(status)
            if status.state is RecorderState.FAILED:
                self._recorder, self._started = None, False
                self._retry_at_s = time.monotonic() + _RETRY_S
            elif self._started and not status.recording:
                self._wanted = self._started = False  # ended by itself: the event was over
        if status.state is RecorderState.FAILED:
            try:
                recorder.close(1.0)
            except LumithermError as error:
                self._problems.add(Severity.WARNING, "recording", str(error))

    @property
    def status(self) -> RecorderStatus | None:
        """Of the recorder; None while there is none."""
        recorder = self._recorder
        return recorder.status() if recorder is not None else None

    # ------------------------------------------------------------------ inside

    def _tell_wish(self) -> None:
        with self._noting:
            with self._lock:
                wish, note = self._wish, self._note
            if wish is not None and note is not None and wish != self._noted:
                self._noted = wish
                note(*wish)

    def _make(self) -> Recorder:
        if self._closed:
            raise RecordingError("the pipeline has stopped, nothing can be recorded; start it again")
        if self._recorder is None:
            config = self._config.model_copy(update={"autostart": False})
            self._recorder = Recorder(config, self._clock_ns, self._on_state)
            self._recorder.describe(**self._context)
        return self._recorder

    def _try_again(self) -> None:
        self._retry_at_s = time.monotonic() + _RETRY_S
        try:
            recorder = self._make()
            if self._wanted:
                recorder.start(self._label)
                self._started = True
        except LumithermError as error:
            self._recorder = None  # it never ran, and would say that nothing is wanted
            self._stats.recording(RecordingState.FAILED)
            self._problems.add(
                Severity.ERROR,
                "recording",
                f"{error} It is tried again every {_RETRY_S:.0f} s.",
                "see recording.directory",
            )

    def _on_state(self, status: RecorderStatus) -> None:
        """In the recorder's thread, at each change."""
        now = (status.state, _FIGURES.sub("#", status.reason))  # "full in 4 min", "full in 3 min": told once
        before, self._told = self._told, now
        if before == now:
            return
        self._show(status)
        goes_on = status.state in (RecorderState.RECORDING, RecorderState.DEGRADED)
        if before[0] is RecorderState.WAITING_FOR_DISK and goes_on:
            self._problems.add(Severity.INFO, "recording", "there is space again, the recording goes on")
        if status.state is RecorderState.FAILED:
            self._problems.add(
                Severity.ERROR,
                "recording",
                f"the recorder failed: {status.reason}; a new file is begun in {_RETRY_S:.0f} s",
                "lumitherm recover FILE mends the last file",
            )
        elif status.state is RecorderState.WAITING_FOR_DISK:
            self._problems.add(
                Severity.ERROR,
                "recording",
                f"nothing is recorded: {status.reason}",
                "make space, it then goes on by itself",
            )
        elif status.state is RecorderState.DEGRADED:
            self._problems.add(Severity.WARNING, "recording", status.reason)

    def _show(self, status: RecorderStatus) -> None:
        self._stats.recording(
            _STATES[status.state],
            str(status.path) if status.path is not None else None,
            status.seconds if status.recording else None,
            status.disk_seconds_left,
        )
        self._stats.queue("recorder", status.queue_depth, self._config.queue_frames)
        self._refused = status.refused
        if self._refused_before + self._refused:
            self._stats.set_drops("recorder_queue", self._refused_before + self._refused)
        self._stats.warn("recording", status.reason or None)
