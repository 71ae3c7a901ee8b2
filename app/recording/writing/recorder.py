"""The recorder as the live pipeline sees it: offer frames, start, mark events, stop, ask how it is doing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from app.recording.config import RecordingConfig, TrackName
from app.recording.segments import SegmentInfo
from app.recording.self_check import finish_recording
from app.recording.writing.disk import require_writable
from app.recording.writing.encoder_bank import Shape, track_of
from app.recording.writing.recorder_loop import Command
from app.recording.writing.recorder_thread import RecorderThread
from app.recording.writing.status import RecordingState, RecordingStatus, RecordingSummary
from fusion_core.errors import LumithermError, RecordingError
from fusion_core.frames import Frame, FusedFrame

__all__ = ["RETRY_S", "Recorder", "RecorderListener"]

_LEFT_OUT = "left out"
RETRY_S = 5.0  # after a failure, before the next attempt


class RecorderListener(Protocol):
    """Is told how the recorder is doing. Any thread; neither call may wait."""

    def show(self, status: RecordingStatus) -> None:
        """The state now: at each change, and each `tick`."""

    def tell(self, text: str, advice: str = "", *, lost: bool = True) -> None:
        """Something went wrong. lost: pictures are, or a file may be."""


class Recorder:
    """Records raw frames and fused pictures on its own threads. Any thread may call any method; `offer` never blocks.

    What somebody asked for is recorded as soon as it can be: after a failure, or while the folder cannot be written,
    `tick` tries again every five seconds.

    Threads: `recorder` owns the files; one `encode-TRACK` thread owns each encoder. They start with the first use and
    end in `close`.

    Args:
        config: what to record.
        clock: monotonic nanoseconds; time.monotonic_ns unless a test says otherwise.
        listener: is told of states and problems; None = nobody is.
    """

    def __init__(
        self,
        config: RecordingConfig,
        clock: Callable[[], int] = time.monotonic_ns,
        listener: RecorderListener | None = None,
    ) -> None:
        self.config, self._clock, self._listener = config, clock, listener
        self._lock = threading.RLock()  # over the thread and what is wanted of it
        self._thread: RecorderThread | None = None
        self._wanted = config.autostart
        self._begun = False  # whether the thread knows that
        self._label: str | None = None
        self._retry_at_s = 0.0
        self._failed = False  # there is no thread because of a failure
        self._context: dict[str, Any] = {}
        self._closed = False
        self._shapes: dict[TrackName, Shape] = {}  # of the newest raw frames
        self._missed_before: Counter[str] = Counter()  # by threads before this one, by track; LEFT_OUT besides
        self._missed_at_start: Counter[str] = Counter()  # in all, when the recording began
        self._finisher: threading.Thread | None = None
        self._request: tuple[bool, str | None] | None = None  # what somebody asked for, and its label
        self._noted: tuple[bool, str | None] | None = None
        self._note: Callable[[bool, str | None], None] | None = None
        self._noting = threading.Lock()  # the last request is noted last
        self._hoped = config.autostart  # the configuration, or a run before, wants a recording
        self._recorded = 0  # pictures of all recordings that have ended
        self.patient = False
        """Whoever offers waits until there `has_room`: a full queue is no load, and nothing is left out for it."""
        self.summary: RecordingSummary | None = None
        """Of the last recording that was stopped."""

    # ------------------------------------------------------------------ frames

    def describe(self, **context: Any) -> None:
        """Facts that go with the frames from now on; None = as before.

        Args:
            calibration: id of the calibration.
            offsets_ns: what was added to each camera's stamps, by stream.
            drops: the pipeline's drop counters, for each line of the sidecar.
            settings: the whole configuration without passwords, for each file's header.
        """
        with self._lock:
            self._context |= {name: value for name, value in context.items() if value is not None}
            if self._thread is not None:
                self._thread.describe(self._context)

    def offer(self, picture: Frame | FusedFrame) -> bool:
        """Hand over a raw frame straight from its camera, or a fused picture. Never blocks; nothing is copied.

        Each track has a queue of its own, so that neither fusion nor a slow encoder costs another track anything.

        Returns:
            False when it will not be recorded: not recording and no pre-event buffer, or a track that is not recorded
            (no harm done), or its queue is full or the recorder failed (counted as refused, and marked as a gap in
            the sidecar), or fused pictures are left out because encoding cannot keep up (counted and marked, too).
        """
        track = track_of(picture)
        if isinstance(picture, Frame):
            self._shapes[track] = (tuple(picture.pixels.shape), picture.pixels.dtype)
        thread = self._thread
        if thread is None or self._closed or not (self._wanted or self.config.pre_event_s > 0):
            return False
        return track in self.config.tracks and thread.offer(picture)

    def has_room(self, track: TrackName) -> bool:
        """Whether the next picture of a track would be taken without being refused; True while nothing is recorded."""
        thread = self._thread
        if thread is None or thread.error is not None or not self._wanted:
            return True
        return thread.depth(track) < self.config.queue_frames

    @property
    def raw_wait_s(self) -> float:
        """For how long the oldest raw picture has waited to be encoded; 0 while nothing is recorded."""
        thread = self._thread
        return 0.0 if thread is None or thread.error is not None or not self._wanted else thread.raw_wait_s

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
                self._hoped = wanted
                self._request = self._noted = (wanted, label)

    def start(self, label: str | None = None) -> None:
        """Begin a recording with the next frame; `label` becomes part of the file's name. One that is under way goes
        on, also when it was begun by an event that would end it.

        Raises:
            RecordingError: the folder cannot be written, or the recorder is closed or has just failed.
        """
        with self._lock:
            self._begin(Command("start", label))
            self._label, self._request = label, (True, label)
        self._note_request()

    def mark(self, label: str) -> None:
        """Mark this moment. Starts a recording with the pre-event buffer's seconds if none is under way, which ends by
        itself `post_event_s` after the last event; a recording with an event is protected from the ring policy. Raises
        as `start`."""
        with self._lock:
            wanted = self._wanted
            self._begin(Command("event", label, self._clock()))
            if not wanted and self.config.post_event_s == 0:
                self._request = (True, label)
        self._note_request()

    def stop(self, timeout_s: float = 5.0) -> RecordingSummary | None:
        """Write what is queued, close the files, check them, and tell what was recorded; None if nothing was.

        With a pre-event buffer the recorder goes on filling it.

        Raises:
            RecordingError: the recorder failed earlier (chained), or could not finish in time.
        """
        with self._lock:
            self._request = (False, None)
        self._note_request()
        return self._end(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop recording and end all threads; the listener is told what goes wrong. Safe to call twice."""
        with self._lock:
            already, self._closed = self._closed, True
            thread = self._thread
        if already or thread is None:
            return
        deadline_s = time.monotonic() + timeout_s
        try:
            self._end(0.9 * timeout_s)
        except LumithermError as error:
            self._tell(str(error), "lumitherm recording recover FILE mends the last file")
        thread.close(max(0.5, deadline_s - time.monotonic()))
        if self._finisher is not None:
            self._finisher.join(1.0)

    # ------------------------------------------------------------------ state

    @property
    def wanted(self) -> bool:
        """Whether somebody, or the configuration, wants a recording now."""
        return self._wanted

    @property
    def in_vain(self) -> bool:
        """Whether a recording was to begin by itself, and not one picture has been recorded so far."""
        return self._hoped and not self._recorded and not any(self.status.frames.values())

    @property
    def status(self) -> RecordingStatus:
        """How it is doing now."""
        thread = self._thread
        if thread is None:
            return RecordingStatus(RecordingState.FAILED if self._failed else RecordingState.OFF)
        in_all = self._missed_in_all(thread)
        now = in_all - self._missed_at_start  # what is zero falls away
        left_out, left_out_now = in_all.pop(_LEFT_OUT, 0), now.pop(_LEFT_OUT, 0)
        return replace(
            thread.status,
            recording=self._wanted and thread.error is None,
            refused=dict(now),
            refused_in_all=dict(in_all),
            left_out=left_out_now,
            left_out_in_all=left_out,
        )

    def _missed_in_all(self, thread: RecorderThread) -> Counter[str]:
        missed = Counter({str(track): count for track, count in thread.refused.items()})
        missed[_LEFT_OUT] = thread.left_out
        return self._missed_before + missed

    def tick(self) -> None:
        """Begin what is wanted and could not be begun, replace a thread that failed; once or twice a second."""
        with self._lock:
            if self._closed:
                return
            thread = self._thread
            lacking = (self._wanted and not self._begun) or (thread is None and self.config.pre_event_s > 0)
            if lacking and time.monotonic() >= self._retry_at_s:
                self._try_again()
            if thread is None:
                return
            self._show()
            if thread.error is None:
                return
            self._missed_before = self._missed_in_all(thread)
            self._recorded += thread.recorded
            self._thread, self._begun, self._failed = None, False, True
            self._retry_at_s = time.monotonic() + RETRY_S
        thread.close(1.0)

    # ------------------------------------------------------------------ inside

    def _begin(self, command: Command) -> None:
        thread = self._ready_thread()
        if not self._wanted:
            self._missed_at_start = self._missed_in_all(thread)
        self._wanted = self._begun = True
        thread.command(command)

    def _ready_thread(self) -> RecorderThread:
        if self._closed:
            raise RecordingError("the recorder is closed: the pipeline has stopped; start it again to record")
        if self._thread is None or not self.config.directory.is_dir():
            require_writable(self.config.directory)
        thread = self._thread
        if thread is None:
            self._thread = thread = RecorderThread(
                self.config, self._clock, self._shapes, self._show, self._ended_by_itself
            )
            thread.patient = self.patient
            thread.describe(self._context)
            self._failed = False
        if thread.error is not None:
            raise RecordingError(f"the recorder has failed: {thread.error}; a moment later it can record again")
        return thread

    def _end(self, timeout_s: float) -> RecordingSummary | None:
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            thread, wanted = self._thread, self._wanted
            self._wanted, self._begun, self._label = False, False, None
        if thread is None or not wanted:
            return None
        try:
            self.summary = self._summarize(thread.finish(timeout_s), deadline_s)
            self._recorded += sum(self.summary.frames.values())
        finally:
            self._show()
        for problem in self.summary.problems:
            self._tell(problem, "lumitherm recording check FILE tells more", lost=False)
        return self.summary

    def _try_again(self) -> None:
        self._retry_at_s = time.monotonic() + RETRY_S
        try:
            if self._wanted:
                self._begin(Command("start", self._label))
            else:
                self._ready_thread()
        except LumithermError as error:
            self._failed = self._thread is None
            self._show()
            self._tell(f"{error} It is tried again every {RETRY_S:.0f} s.", "see recording.directory")

    def _ended_by_itself(self, segments: tuple[SegmentInfo, ...]) -> None:
        """In the recorder's thread: the event is over."""
        with self._lock:
            thread = self._thread
            if thread is not None and not thread.asked_to_begin:  # unless somebody has just asked for another
                self._wanted = self._begun = False
        paths = [info.path for info in segments]
        self._recorded += sum(sum(info.frames.values()) for info in segments)
        self._finisher = threading.Thread(
            target=finish_recording,
            args=(paths, self.config.self_check, time.monotonic() + 60.0),
            name="recording-check",
            daemon=True,
        )
        self._finisher.start()

    def _summarize(self, segments: list[SegmentInfo], deadline_s: float) -> RecordingSummary:
        frames: dict[str, int] = {}
        for info in segments:
            for track, count in info.frames.items():
                frames[track] = frames.get(track, 0) + count
        status = self.status
        checks = finish_recording([info.path for info in segments], self.config.self_check, deadline_s)
        return RecordingSummary(
            segments=tuple(segments),
            frames=frames,
            refused=status.refused,
            left_out=status.left_out,
            seconds=sum(info.duration_s for info in segments),
            bytes=sum(info.bytes for info in segments),
            checks=tuple(checks),
        )

    def _note_request(self) -> None:
        with self._noting:
            with self._lock:
                request, note = self._request, self._note
            if request is not None and note is not None and request != self._noted:
                self._noted = request
                note(*request)

    def _show(self) -> None:
        if self._listener is not None:
            self._listener.show(self.status)

    def _tell(self, text: str, advice: str, *, lost: bool = True) -> None:
        if self._listener is not None:
            self._listener.tell(text, advice, lost=lost)
