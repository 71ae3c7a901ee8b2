"""One thread a camera: open, read, stamp, notice a stall, reopen for ever, count everything."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from app.capture.cameras.camera import Camera, CameraInfo, Clock, MonotonicClock
from app.capture.cameras.uri import parse_camera_uri
from app.capture.reachability import KNOCK_S, PortWatch
from app.process import end_with_program, go_first
from fusion_core.errors import CameraLost, CameraTimeout, CaptureError, EndOfStream
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.capture.config import CameraConfig

__all__ = ["CaptureState", "CaptureStats", "CaptureThread"]

_SLICE_S: Final = 0.2  # the longest a single read waits, so that a stop is noticed
_STOP_S: Final = 5.0
_LIE_NS: Final = 5_000_000_000  # a live stamp further than this from its arrival is not believed
_AHEAD_NS: Final = 50_000_000  # ... or this far in the future
_SOUND_NS: Final = 5_000_000_000  # a camera that was there for so long is at once tried again
_RATE_WINDOW: Final = 30
_NOTES_EVERY: Final = 100  # frames
_MOST_NOTES: Final = 20
_FIXED_TIME: Final = (TimestampSource.FILE, TimestampSource.SIMULATED)  # stamps that need not be near now


class CaptureState(StrEnum):
    """What a camera is doing, as the user sees it."""

    OPENING = "opening"
    STREAMING = "streaming"
    STALLED = "stalled"  # open, but silent for longer than it may be
    LOST = "lost"  # gone; reopened after a back-off, for ever
    ENDED = "ended"  # a file's end, or stopped
    FAILED = "failed"  # a wrong configuration or a bug: not reopened, reported to the owner


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """Counters since the start.

    reason: of the last trouble, or empty. dropped: frames the source lost, by its index. stalls: times silent too long.
    open_failures: attempts that gave no frame. reconnects: successful opens after the first. bad_stamps: replaced by
    the arrival time.
    """

    state: CaptureState
    reason: str
    info: CameraInfo | None
    frames: int
    dropped: int
    timeouts: int
    stalls: int
    open_failures: int
    reconnects: int
    bad_stamps: int
    fps: float


class CaptureThread:
    """The owner thread of one camera. Nobody else touches the camera after `start`.

    Args:
        camera: closed.
        stream: which stream it is.
        config: offset, rates, and how to reopen.
        sink: takes each frame, e.g. `PairSynchronizer.put`; called in this thread.
        mark: looks at each frame before the sink and may flag it, e.g. `FfcDetector.mark`.
        on_state: called in this thread at each change of state, with the reason.
        on_end: called in this thread when a file has ended, e.g. `PairSynchronizer.end`.
        on_note: called in this thread with each thing that the camera did to its pictures and a user should know.
        on_failure: called in this thread with an error that reopening cannot mend; the thread then ends.
    """

    def __init__(
        self,
        camera: Camera,
        stream: Stream,
        config: CameraConfig,
        sink: Callable[[Frame], None],
        *,
        clock: Clock | None = None,
        mark: Callable[[Frame], Frame] | None = None,
        on_state: Callable[[Stream, CaptureState, str], None] | None = None,
        on_end: Callable[[Stream], None] | None = None,
        on_note: Callable[[Stream, str], None] | None = None,
        on_failure: Callable[[Stream, Exception], None] | None = None,
    ) -> None:
        self.stream = stream
        self._camera, self._config, self._sink = camera, config, sink
        self._clock = clock if clock is not None else MonotonicClock()
        self._mark, self._on_state, self._on_end, self._on_failure = mark, on_state, on_end, on_failure
        self._on_note = on_note
        self._offset_ns = round((config.offset_ms or 0.0) * 1e6)
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{stream} capture", daemon=True)
        self._lock = threading.Lock()  # over the figures below
        self._state, self._reason = CaptureState.OPENING, ""
        self._info: CameraInfo | None = None
        self._counts = dict.fromkeys(
            ("frames", "dropped", "timeouts", "stalls", "open_failures", "reconnects", "bad_stamps"), 0
        )
        self._recent_ns: list[int] = []
        # Only used in the thread:
        self._period_ns = 0.0  # 0 until known
        self._last_heard_ns = 0
        self._last_stamp_ns: int | None = None
        self._index_base = 0
        self._last_raw_index: int | None = None
        self._last_index = -1
        self._noted: set[str] = set()

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()
        end_with_program(self._thread, self._stopping.set)

    def request_stop(self) -> None:
        """Ask the thread to end, without waiting: stop several this way first, then call `stop` on each."""
        self._stopping.set()
        self._nudged.set()

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End the thread and close the camera.

        Raises:
            CaptureError: it did not end in time; the camera may still be in use.
        """
        self.request_stop()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise CaptureError(
                f"the {self.stream} capture thread did not end within {timeout_s:g} s, its camera"
                f" {self._config.shown_uri} is stuck; unplug it or end the program"
            )

    def nudge(self) -> None:
        """End a back-off now, e.g. because a device was plugged in."""
        self._nudged.set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stats(self) -> CaptureStats:
        """A consistent copy of state and counters."""
        with self._lock:
            recent = self._recent_ns
            span_ns = recent[-1] - recent[0] if len(recent) > 1 else 0
            now_ns = self._clock.now_ns()
            quiet = not recent or now_ns - recent[-1] > 1_000_000_000
            return CaptureStats(
                state=self._state,
                reason=self._reason,
                info=self._info,
                **self._counts,
                fps=0.0 if quiet or span_ns <= 0 else (len(recent) - 1) * 1e9 / span_ns,
            )

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        go_first()
        try:
            self._capture()
            self._set_state(CaptureState.ENDED, "stopped" if self._stopping.is_set() else "the source has ended")
            if not self._stopping.is_set() and self._on_end is not None:
                self._on_end(self.stream)
        except Exception as error:  # everything goes to the owner, nothing dies in the thread
            self._set_state(CaptureState.FAILED, str(error))
            if self._on_failure is not None:
                self._on_failure(self.stream, error)
        finally:
            with contextlib.suppress(Exception):  # the camera may be the very thing that failed
                self._camera.close()
                self._camera.close()  # what the first kept ready for another opening

    def _capture(self) -> None:
        """Open and read until stopped or at the end of the source."""
        first_s = self._config.reopen.first_backoff_s
        backoff_s = first_s
        port = PortWatch(parse_camera_uri(self._config.uri))
        opened_before = False
        while not self._stopping.is_set():
            self._set_state(CaptureState.OPENING, self._reason)
            frames_before, began_ns = self._counts["frames"], self._clock.now_ns()
            try:
                self._camera.open()
                self._count("reconnects", 1 if opened_before else 0)
                opened_before = True
                self._stream_until_lost()
                return
            except EndOfStream:
                self._tell_notes()
                return
            except CaptureError as error:
                self._camera.close()
                self._set_state(CaptureState.LOST, str(error))
                if self._counts["frames"] == frames_before:
                    self._count("open_failures", 1)
                else:
                    backoff_s = first_s  # it worked: start over with the shortest wait
                    port.reset()
                    if self._clock.now_ns() - began_ns >= _SOUND_NS:
                        continue
            came_back = self._wait_out(backoff_s, port)
            backoff_s = first_s if came_back else min(backoff_s * 2, self._config.reopen.max_backoff_s)

    def _wait_out(self, backoff_s: float, port: PortWatch) -> bool:
        """Wait until the back-off is over, somebody nudges, or a port answers again; whether it was the latter."""
        came_back = False
        if port.watched:
            end_s = time.monotonic() + backoff_s
            while not came_back and (left_s := end_s - time.monotonic()) > 0:
                if self._nudged.wait(min(left_s, KNOCK_S)):
                    break
                came_back = port.came_back()
        else:
            self._nudged.wait(backoff_s)
        self._nudged.clear()
        return came_back

    def _stream_until_lost(self) -> None:
        info = self._camera.info
        with self._lock:
            self._info = info
        self._period_ns = 1e9 / info.fps if 0 < info.fps <= 1000 else 0.0
        self._last_heard_ns = self._clock.now_ns()
        self._last_raw_index = None
        while not self._stopping.is_set():
            try:
                frame = self._camera.read(min(_SLICE_S, self._stall_ns() / 1e9))
            except CameraTimeout:
                self._count("timeouts", 1)
                self._check_silence()
                continue
            self._deliver(frame)
            if self._counts["frames"] % _NOTES_EVERY == 1:
                self._tell_notes()

    def _tell_notes(self) -> None:
        if self._on_note is None:
            return
        for note in self._camera.info.notes:
            kind = re.sub(r"\d+", "", note)  # the same with another count is no news
            if kind not in self._noted and len(self._noted) < _MOST_NOTES:
                self._noted.add(kind)
                self._on_note(self.stream, note)

    def _stall_ns(self) -> float:
        reopen = self._config.reopen
        return max(reopen.stall_periods * self._period_ns, reopen.min_stall_ms * 1e6)

    def _check_silence(self) -> None:
        silent_ns = self._clock.now_ns() - self._last_heard_ns
        if silent_ns < self._stall_ns():
            return
        text = f"{self._config.shown_uri} has been silent for {silent_ns / 1e6:.0f} ms"
        if self._state is not CaptureState.STALLED:
            self._count("stalls", 1)
            self._set_state(CaptureState.STALLED, text)
        if silent_ns >= self._stall_ns() + self._config.reopen.grace_ms * 1e6:
            raise CameraLost(f"{text}; it is reopened")

    def _deliver(self, frame: Frame) -> None:
        now_ns = self._clock.now_ns()
        stamp_ns, source, flags = frame.timestamp_ns, frame.ts_source, frame.flags
        if source not in _FIXED_TIME:
            in_order = self._last_stamp_ns is None or stamp_ns > self._last_stamp_ns
            if not (-_AHEAD_NS <= now_ns - stamp_ns <= _LIE_NS) or not in_order:
                stamp_ns, source = now_ns, TimestampSource.ARRIVAL
                self._count("bad_stamps", 1)
        self._last_stamp_ns = stamp_ns
        if self._last_raw_index is None:  # the first after an open; all but the very first have lost some before
            self._index_base = self._last_index + 1 - frame.index + (1 if self._last_index >= 0 else 0)
            flags |= FrameFlag.GAP_BEFORE if self._last_index >= 0 else FrameFlag.NONE
        index = frame.index + self._index_base
        lost = index - self._last_index - 1 if self._last_index >= 0 else 0
        if lost > 0:
            flags |= FrameFlag.GAP_BEFORE
            self._count("dropped", lost)
        self._last_raw_index, self._last_index = frame.index, index
        self._last_heard_ns = now_ns
        self._learn_period(now_ns)
        if self._state is not CaptureState.STREAMING:
            self._set_state(CaptureState.STREAMING, "")
        stamp_ns += self._offset_ns
        frame = replace(frame, index=index, timestamp_ns=stamp_ns, ts_source=source, flags=flags)
        if self._mark is not None:
            frame = self._mark(frame)
        self._sink(frame)

    def _learn_period(self, now_ns: int) -> None:
        with self._lock:
            self._counts["frames"] += 1
            self._recent_ns.append(now_ns)
            if len(self._recent_ns) > _RATE_WINDOW:
                del self._recent_ns[0]
            if len(self._recent_ns) >= 8 and self._info is not None and not 0 < self._info.fps <= 1000:
                self._period_ns = (self._recent_ns[-1] - self._recent_ns[0]) / (len(self._recent_ns) - 1)

    def _set_state(self, state: CaptureState, reason: str) -> None:
        with self._lock:
            changed = state is not self._state
            self._state, self._reason = state, reason
        if changed and self._on_state is not None:
            self._on_state(self.stream, state, reason)

    def _count(self, what: str, number: int) -> None:
        with self._lock:
            self._counts[what] += number
