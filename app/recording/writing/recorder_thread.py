"""The recorder's thread: a queue of frames and commands in front of `RecorderLoop`, which works them off in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.recording.config import RecordingConfig
from app.recording.segments import SegmentInfo
from app.recording.writing.recorder_loop import Command, RecorderLoop
from app.recording.writing.status import RecordingState, RecordingStatus
from fusion_core.errors import RecordingError
from fusion_core.frames import FusedFrame

__all__ = ["RecorderThread"]


class RecorderThread:
    """Runs from its making until `close`, or until something fails that nobody foresaw. `offer` never blocks.

    Args:
        on_change: called in the thread whenever state or reason change; it must be quick.
        on_end: called in the thread with the files of a recording that ended by itself.
    """

    def __init__(
        self,
        config: RecordingConfig,
        clock: Callable[[], int],
        on_change: Callable[[], None],
        on_end: Callable[[tuple[SegmentInfo, ...]], None],
    ) -> None:
        self._config, self._on_change = config, on_change
        self._condition = threading.Condition()
        self._inbox: deque[FusedFrame | Command] = deque()
        self._waiting = 0  # frames in the inbox; commands do not count
        self._hurry_at_s: float | None = None  # from then on, waiting frames are given up so that `finish` ends in time
        self._gap: tuple[int, int, int] | None = None  # refused frames, first and last stamp, not yet told to the loop
        self._context: dict[str, Any] = {}
        self.refused = 0
        """Frames that were not taken since the start of the thread."""
        self.error: BaseException | None = None
        """What ended the thread."""
        self._loop = RecorderLoop(config, clock, on_change, on_end)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def status(self) -> RecordingStatus:
        """As the loop tells it, with the queue's depth; FAILED after an error."""
        error = self.error
        if error is not None:
            return RecordingStatus(RecordingState.FAILED, str(error) or type(error).__name__)
        return replace(self._loop.status, queue_depth=self._waiting)

    def describe(self, context: dict[str, Any]) -> None:
        """Facts that go with the frames from now on."""
        with self._condition:
            self._context |= context

    def offer(self, frame: FusedFrame) -> bool:
        """Queue a frame; whether it was taken. One that was not is counted, and marked as a gap in the sidecar."""
        with self._condition:
            if self.error is not None or self._waiting >= self._config.queue_frames:
                self._refuse(frame)
                return False
            self._inbox.append(frame)
            self._waiting += 1
            self._condition.notify_all()
            return True

    def command(self, command: Command) -> None:
        """Queue a command behind the frames that were offered before it."""
        with self._condition:
            self._inbox.append(command)
            self._condition.notify_all()

    @property
    def asked_to_begin(self) -> bool:
        """Whether a command in the queue begins a recording."""
        with self._condition:
            return any(isinstance(entry, Command) and entry.begins for entry in self._inbox)

    def finish(self, timeout_s: float) -> list[SegmentInfo]:
        """Write what is queued and close the files; returns them.

        Raises:
            RecordingError: the thread failed (chained), or could not finish in time.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._condition:
            self._hurry_at_s = deadline_s - min(1.5, 0.5 * timeout_s)
        command = Command("stop")
        self.command(command)
        if self.error is None and not command.done.wait(max(0.0, deadline_s - time.monotonic())):
            raise RecordingError(
                f"the recorder did not finish within {timeout_s:.1f} s: the disk or an encoder hangs. "
                "The file is valid up to its last half second; lumitherm recover FILE makes the sidecar agree."
            )
        if self.error is not None:
            raise RecordingError(f"the recorder failed: {self.error}") from self.error
        return command.segments

    def close(self, timeout_s: float) -> None:
        """End the thread, with the recording if there is one."""
        self.command(Command("close"))
        self._thread.join(timeout_s)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:  # kept for `finish` and `status`, which raise or show it
            self.error = error
            self._loop.give_up()
            self._on_change()
            with self._condition:
                for entry in self._inbox:
                    if isinstance(entry, Command):
                        entry.done.set()
                self._inbox.clear()
                self._waiting = 0

    def _step(self) -> bool:
        """Work off the next entry, or what is due without one; whether to go on."""
        loop, going_on = self._loop, True
        entry, gap, context = self._next()
        begins = isinstance(entry, Command) and entry.begins
        if gap is not None and not begins:
            loop.refused(*gap)
        if isinstance(entry, Command):
            going_on = loop.obey(entry)
            if gap is not None and begins:
                loop.refused(*gap)
            if entry.kind == "stop":
                with self._condition:
                    self._hurry_at_s = None
        elif entry is not None:
            loop.take(entry, context)
        loop.tick(idle=entry is None)
        return going_on

    def _next(self) -> tuple[FusedFrame | Command | None, tuple[int, int, int] | None, dict[str, Any]]:
        with self._condition:
            if not self._inbox:
                self._condition.wait(self._loop.wait_s)
            entry = self._inbox.popleft() if self._inbox else None
            if isinstance(entry, FusedFrame):
                self._waiting -= 1
                if self._hurry_at_s is not None and time.monotonic() > self._hurry_at_s:
                    self._refuse(entry)
                    entry = None
            gap, self._gap = self._gap, None
            return entry, gap, dict(self._context)

    def _refuse(self, frame: FusedFrame) -> None:
        t_ns = frame.pair.timestamp_ns
        self.refused += 1
        count, first_ns, _ = self._gap or (0, t_ns, t_ns)
        self._gap = (count + 1, first_ns, t_ns)
