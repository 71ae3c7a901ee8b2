"""The recorder as the live pipeline sees it: offer frames, start, mark events, stop, ask how it is doing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.recording.config import RecordingConfig
from app.recording.segments import SegmentInfo
from app.recording.self_check import CheckReport, finish_recording
from app.recording.writing.recorder_thread import Command, RecorderLoop, RecorderState, StateReport
from fusion_core.errors import RecordingError
from fusion_core.frames import FusedFrame

__all__ = ["Recorder", "RecorderState", "RecorderStatus", "RecordingSummary"]


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """One moment of the recorder; numbers count from the start of the recording."""

    recording: bool  # asked to record, whether or not the disk allows it now
    state: RecorderState
    reason: str  # why the state is not a plain one; "" when all is well
    path: Path | None
    seconds: float
    bytes: int
    queue_depth: int
    frames: dict[str, int]
    refused: int
    disk_seconds_left: float | None
    encoder: str
    segments: int = 0
    pre_event_seconds: float = 0.0
    pre_event_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """What a finished recording consists of; `checks` is empty when self_check is off."""

    segments: tuple[SegmentInfo, ...]
    frames: dict[str, int]
    refused: int
    seconds: float
    bytes: int
    checks: tuple[CheckReport, ...] = field(default=())

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that the self-check found wrong."""
        return tuple(f"{check.path.name}: {text}" for check in self.checks for text in check.problems)


class Recorder:
    """Records fused frames on its own threads. All methods may be called from any thread; `offer` never blocks.

    Threads: `recorder` owns the files; one `encode-TRACK` thread owns each encoder. They start with the first use and
    end in `close`.

    Args:
        config: what to record.
        clock: monotonic nanoseconds; time.monotonic_ns unless a test says otherwise.
        on_state: called on the recorder's thread whenever state or reason change; it must be quick.
    """

    def __init__(
        self,
        config: RecordingConfig,
        clock: Callable[[], int] = time.monotonic_ns,
        on_state: Callable[[RecorderStatus], None] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_state = on_state
        self._condition = threading.Condition()
        self._inbox: deque[FusedFrame | Command] = deque()
        self._waiting = 0  # frames in the inbox; commands do not count
        self._hurry_at: float | None = None  # from then on, waiting frames are given up so that `stop` ends in time
        self._refused_total = 0
        self._refused: tuple[int, int, int] | None = None  # count, first and last stamp, not yet told to the loop
        self._thread: threading.Thread | None = None
        self._loop: RecorderLoop | None = None
        self._error: BaseException | None = None
        self._wanted = config.autostart
        self._closed = False
        self._abandoned: list[SegmentInfo] = []
        self._finisher: threading.Thread | None = None
        self._context: dict[str, object] = {}
        if config.autostart or config.pre_event_s > 0:
            self._ensure_thread()

    # ---- what the pipeline calls

    def describe(
        self,
        calibration: str | None = None,
        offsets_ns: dict[str, int] | None = None,
        drops: dict[str, int] | None = None,
        settings: dict[str, object] | None = None,
    ) -> None:
        """Facts that go with the frames from now on: calibration id, applied camera offsets, the pipeline's drop
        counters (each line of the sidecar) and the whole configuration (each file's header; leave passwords out).
        None = as before."""
        with self._condition:
            for name, value in (
                ("calibration", calibration),
                ("offsets_ns", offsets_ns),
                ("drops", drops),
                ("settings", settings),
            ):
                if value is not None:
                    self._context[name] = value

    def offer(self, frame: FusedFrame) -> bool:
        """Hand over a frame. Never blocks.

        Returns:
            False when the frame will not be recorded: not recording and no pre-event buffer (no harm done), or the
            queue is full or the recorder failed (counted as refused, and marked as a gap in the sidecar).
        """
        with self._condition:
            if self._closed or self._thread is None or not (self._wanted or self._config.pre_event_s > 0):
                return False
            if self._error is not None or self._waiting >= self._config.queue_frames:
                self._refuse(frame)
                return False
            self._inbox.append(frame)
            self._waiting += 1
            self._condition.notify_all()
            return True

    def start(self, label: str | None = None) -> None:
        """Begin a recording with the next frame; `label` becomes part of the file's name. One that is under way goes
        on, also when it was begun by an event that would end it.

        Raises:
            RecordingError: the folder cannot be written, or the recorder is closed or has failed.
        """
        self._want(Command("start", label))

    def event(self, label: str) -> None:
        """Mark this moment. Starts a recording with the pre-event buffer's seconds if none is under way, which ends by
        itself `post_event_s` after the last event; a recording with an event is protected from the ring policy. Raises
        as `start`."""
        self._want(Command("event", label, self._clock()))

    def stop(self, timeout_s: float = 5.0) -> RecordingSummary:
        """Write what is queued, close the files, check them, and tell what was recorded.

        With a pre-event buffer the recorder goes on filling it. Stopping what does not record gives an empty summary.

        Raises:
            RecordingError: the recorder failed earlier (chained), or could not finish in time.
        """
        deadline = time.monotonic() + timeout_s
        with self._condition:
            self._wanted = False
            self._hurry_at = deadline - min(1.5, 0.5 * timeout_s)
            thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return RecordingSummary((), {}, 0, 0.0, 0)
        command = Command("stop")
        self._command(command)
        if self._error is None and not command.done.wait(max(0.0, deadline - time.monotonic())):
            raise RecordingError(
                f"the recorder did not finish within {timeout_s:.1f} s: the disk or an encoder hangs. "
                "The file is valid up to its last half second; lumitherm recover FILE makes the sidecar agree."
            )
        if self._error is not None:
            raise RecordingError(f"the recorder failed: {self._error}") from self._error
        return self._summary(command.segments, deadline)

    def status(self) -> RecorderStatus:
        """How it is doing now."""
        with self._condition:
            depth, refused, wanted = self._waiting, self._refused_total, self._wanted
            loop, error = self._loop, self._error
        if error is not None:
            report = StateReport(RecorderState.FAILED, str(error) or type(error).__name__)
        elif loop is None:
            report = StateReport(RecorderState.IDLE)
        else:
            report = loop.report
        return RecorderStatus(
            recording=wanted and error is None,
            state=RecorderState(report.state),
            reason=report.reason,
            path=report.path,
            seconds=report.seconds,
            bytes=report.bytes,
            queue_depth=depth,
            frames=dict(report.frames),
            refused=refused,
            disk_seconds_left=report.disk_seconds_left,
            encoder=report.encoder,
            segments=report.segments,
            pre_event_seconds=report.pre_event_seconds,
            pre_event_bytes=report.pre_event_bytes,
        )

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop recording and end all threads. Safe to call twice."""
        with self._condition:
            already, self._closed = self._closed, True
            wanted = self._wanted
        if already or self._thread is None:
            return
        started = time.monotonic()
        try:
            if wanted and self._error is None:
                self.stop(timeout_s)
        finally:
            self._command(Command("close"))
            self._thread.join(max(0.5, timeout_s - (time.monotonic() - started)))
            if self._finisher is not None:
                self._finisher.join(1.0)

    # ---- inside

    def _want(self, command: Command) -> None:
        self._check_usable()
        self._ensure_thread()
        with self._condition:
            if not self._wanted:
                self._refused_total = 0
            self._wanted = True
            self._command(command)

    def _check_usable(self) -> None:
        if self._error is not None:
            raise RecordingError(f"the recorder failed earlier and cannot record: {self._error}") from self._error
        if self._closed:
            raise RecordingError("the recorder is closed")

    def _make_folder(self) -> None:
        try:
            self._config.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(
                f"the recording folder {self._config.directory} cannot be made: {error.strerror}. "
                "Set recording.directory to a folder that you may write."
            ) from error

    def _ensure_thread(self) -> None:
        self._make_folder()
        with self._condition:
            if self._thread is not None:
                return
            self._loop = RecorderLoop(self._config, self._clock, self._tell, self._config.autostart and self._wanted)
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()

    def _command(self, command: Command) -> None:
        """Queue a command behind the frames that were offered before it."""
        with self._condition:
            self._inbox.append(command)
            self._condition.notify_all()

    def _run(self) -> None:
        loop = self._loop
        if loop is None:
            raise RuntimeError("the recorder's thread started without its loop")
        try:
            going_on = True
            while going_on:
                with self._condition:
                    if not self._inbox:
                        self._condition.wait(loop.wait_s)
                    entry = self._inbox.popleft() if self._inbox else None
                    if isinstance(entry, FusedFrame):
                        self._waiting -= 1
                        if self._hurry_at is not None and time.monotonic() > self._hurry_at:
                            self._refuse(entry)
                            entry = None
                    refused, self._refused = self._refused, None
                    context = dict(self._context)
                begins = isinstance(entry, Command) and entry.kind in ("start", "event")
                if refused is not None and not begins:
                    loop.refused(*refused)
                if isinstance(entry, Command):
                    going_on = loop.obey(entry)
                    if refused is not None and begins:
                        loop.refused(*refused)
                    if entry.kind == "stop":
                        with self._condition:
                            self._hurry_at = None
                elif entry is not None:
                    loop.take(entry, context)
                loop.tick(idle=entry is None)
        except BaseException as error:  # kept for `stop`, `start` and `status`, which raise or show it
            self._error = error
            self._abandoned = loop.give_up()
            self._tell(StateReport(RecorderState.FAILED, str(error) or type(error).__name__))
            with self._condition:
                for entry in self._inbox:
                    if isinstance(entry, Command):
                        entry.done.set()
                self._inbox.clear()
                self._waiting = 0

    def _refuse(self, frame: FusedFrame) -> None:
        t_ns = frame.pair.timestamp_ns
        self._refused_total += 1
        count, first, _ = self._refused or (0, t_ns, t_ns)
        self._refused = (count + 1, first, t_ns)

    def _tell(self, report: StateReport) -> None:
        if report.ended:
            with self._condition:  # unless somebody has just asked for another
                asked = (entry.kind for entry in self._inbox if isinstance(entry, Command))
                self._wanted = self._wanted and any(kind in ("start", "event") for kind in asked)
            paths = [info.path for info in report.ended]
            self._finisher = threading.Thread(
                target=finish_recording,
                args=(paths, self._config.self_check, time.monotonic() + 60.0),
                name="recording-check",
                daemon=True,
            )
            self._finisher.start()
        if self._on_state is not None:
            self._on_state(self.status())

    def _summary(self, segments: list[SegmentInfo], deadline: float) -> RecordingSummary:
        frames: dict[str, int] = {}
        for info in segments:
            for track, count in info.frames.items():
                frames[track] = frames.get(track, 0) + count
        checks = finish_recording([info.path for info in segments], self._config.self_check, deadline)
        return RecordingSummary(
            segments=tuple(segments),
            frames=frames,
            refused=self._refused_total,
            seconds=sum(info.duration_s for info in segments),
            bytes=sum(info.bytes for info in segments),
            checks=tuple(checks),
        )
