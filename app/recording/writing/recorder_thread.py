"""The recorder's thread: a queue a track, and one of commands, in front of `RecorderLoop`, which works them off."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from app.process import go_first
from app.recording.config import RecordingConfig, TrackName
from app.recording.segments import SegmentInfo
from app.recording.sidecar import GapLine
from app.recording.writing.encoder_bank import Shape, track_of
from app.recording.writing.load import LoadStep
from app.recording.writing.recorder_loop import Command, RecorderLoop
from app.recording.writing.status import RecordingState, RecordingStatus
from fusion_core.errors import RecordingError
from fusion_core.frames import Frame, FusedFrame

__all__ = ["RecorderThread"]

_BOTH_S = 1.0  # to wait for the other camera's first frame, so that a file begins with both
_LOAD_GAP_NS = 10_000_000_000  # a gap of what was left out is told so often at least

Picture = Frame | FusedFrame


class _Waiting(NamedTuple):
    """number: of the entry, in the order of all. since_s: when it was offered, time.monotonic()."""

    number: int
    picture: Picture
    since_s: float


class _Gap:
    """Pictures of one track that were not taken, not yet told to the loop."""

    def __init__(self, t_ns: int) -> None:
        self.count, self.first_ns, self.last_ns = 0, t_ns, t_ns

    def add(self, t_ns: int) -> None:
        self.count, self.last_ns = self.count + 1, t_ns


class RecorderThread:
    """Runs from its making until `close`, or until something fails that nobody foresaw. `offer` never blocks.

    Args:
        shapes: of the raw frames as far as they are known; somebody else keeps it up to date.
        on_change: called in the thread whenever state or reason change; it must be quick.
        on_end: called in the thread with the files of a recording that ended by itself.
    """

    def __init__(
        self,
        config: RecordingConfig,
        clock: Callable[[], int],
        shapes: Mapping[TrackName, Shape],
        on_change: Callable[[], None],
        on_end: Callable[[tuple[SegmentInfo, ...]], None],
    ) -> None:
        self._config, self._shapes, self._on_change = config, shapes, on_change
        self._condition = threading.Condition()
        self._queues: dict[TrackName, deque[_Waiting]] = {name: deque() for name in TrackName}
        self._commands: deque[tuple[int, Command]] = deque()
        self._number = 0  # of the newest entry: commands keep their place among the pictures
        self._hurry_at_s: float | None = None  # from then on, waiting frames are given up so that `finish` ends in time
        self._gaps: dict[tuple[TrackName, str], _Gap] = {}
        self._first_s: float | None = None  # when the first picture came
        self._context: dict[str, Any] = {}
        self.refused = dict.fromkeys(TrackName, 0)
        """Pictures that found their queue full, since the start of the thread."""
        self.left_out = 0
        """Fused pictures that were not recorded because encoding could not keep up."""
        self.patient = False
        """Whoever offers waits for room: a full queue is no load, and nothing is left out for it."""
        self.error: BaseException | None = None
        """What ended the thread."""
        self._loop = RecorderLoop(config, clock, on_change, on_end, self._wake)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def status(self) -> RecordingStatus:
        """As the loop tells it, with the queues' depths; FAILED after an error."""
        error = self.error
        if error is not None:
            return RecordingStatus(RecordingState.FAILED, str(error) or type(error).__name__)
        depths = {str(name): len(self._queues[name]) for name in self._config.ordered_tracks}
        return replace(self._loop.status, depths=depths)

    @property
    def recorded(self) -> int:
        """Pictures of the recording under way, also after an error."""
        return sum(self._loop.status.frames.values())

    def depth(self, track: TrackName) -> int:
        """Pictures of a track that wait."""
        return len(self._queues[track])

    @property
    def raw_wait_s(self) -> float:
        """For how long the oldest raw picture has waited to be encoded; 0 without one. Any thread."""
        now_s = oldest_s = time.monotonic()
        for name in self._config.tracks:
            if name is TrackName.FUSED:
                continue
            with contextlib.suppress(IndexError):  # the recorder's thread has just taken the last one
                oldest_s = min(oldest_s, self._queues[name][0].since_s)
            oldest_s = min(oldest_s, self._loop.bank.oldest_s(name) or now_s)
        return now_s - oldest_s

    def describe(self, context: dict[str, Any]) -> None:
        """Facts that go with the frames from now on."""
        with self._condition:
            self._context = self._context | context

    def offer(self, picture: Picture) -> bool:
        """Queue a picture; whether it was taken. One that was not is counted, and marked as a gap in the sidecar."""
        track = track_of(picture)
        with self._condition:
            if track is TrackName.FUSED and self._loop.step is not LoadStep.FULL:
                self.left_out += 1
                self._miss(picture, "load")
                return False
            if self.error is not None or len(self._queues[track]) >= self._config.queue_frames:
                self._refuse(picture)
                return False
            self._number += 1
            now_s = time.monotonic()
            self._queues[track].append(_Waiting(self._number, picture, now_s))
            if self._first_s is None:
                self._first_s = now_s
            self._condition.notify_all()
            return True

    def command(self, command: Command) -> None:
        """Queue a command behind the pictures that were offered before it."""
        with self._condition:
            self._number += 1
            self._commands.append((self._number, command))
            self._condition.notify_all()

    @property
    def asked_to_begin(self) -> bool:
        """Whether a command in the queue begins a recording."""
        with self._condition:
            return any(command.begins for _, command in self._commands)

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
                "The file is valid up to its last half second; lumitherm recording recover FILE mends its sidecar."
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
        go_first()
        try:
            while self._step():
                pass
        except BaseException as error:  # kept for `finish` and `status`, which raise or show it
            self.error = error
            self._loop.give_up()
            self._on_change()
            with self._condition:
                for _, command in self._commands:
                    command.done.set()
                self._commands.clear()
                for queue in self._queues.values():
                    queue.clear()

    def _step(self) -> bool:
        """Work off the next entry, or what is due without one; whether to go on."""
        loop, going_on = self._loop, True
        entry, gaps, context = self._next()
        begins = isinstance(entry, Command) and entry.begins
        if not begins:
            for gap in gaps:
                loop.missing(gap)
        if isinstance(entry, Command):
            going_on = loop.obey(entry)
            if begins:
                for gap in gaps:
                    loop.missing(gap)
            if entry.kind == "stop":
                with self._condition:
                    self._hurry_at_s = None
        elif entry is not None:
            loop.take(entry.picture, context, self._shapes, entry.since_s)
        loop.tick()
        if not self.patient and self._may_begin:
            loop.observe_load(self.raw_wait_s)
        return going_on

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _next(self) -> tuple[_Waiting | Command | None, list[GapLine], dict[str, Any]]:
        with self._condition:
            entry = self._choose()
            if entry is None:
                self._condition.wait(self._loop.wait_s)
                entry = self._choose()
            if entry is not None and not isinstance(entry, Command) and self._in_hurry:
                self._refuse(entry.picture)
                entry = None
            return entry, self._take_gaps(isinstance(entry, Command)), self._context

    def _choose(self) -> _Waiting | Command | None:
        """The oldest entry that can be worked off: a slow encoder holds up its track alone, a command waits for all."""
        oldest = min((queue[0].number for queue in self._queues.values() if queue), default=None)
        if self._commands and (oldest is None or self._commands[0][0] < oldest):
            return self._commands.popleft()[1]
        if oldest is None or not self._may_begin:
            return None
        ready = [
            name for name, queue in self._queues.items() if queue and (self._in_hurry or self._loop.bank.has_room(name))
        ]
        if not ready:
            return None
        return self._queues[min(ready, key=lambda name: self._queues[name][0].number)].popleft()

    @property
    def _in_hurry(self) -> bool:
        return self._hurry_at_s is not None and time.monotonic() > self._hurry_at_s

    @property
    def _may_begin(self) -> bool:
        """A file names its tracks in its header: the first waits until both cameras are known, or one is not there."""
        raw = [name for name in self._config.tracks if name is not TrackName.FUSED]
        if self._commands or all(name in self._shapes for name in raw):
            return True
        return self._first_s is not None and time.monotonic() - self._first_s > _BOTH_S

    def _take_gaps(self, everything: bool) -> list[GapLine]:
        gaps = []
        for (track, cause), gap in list(self._gaps.items()):
            lasts = cause == "load" and self._loop.step is not LoadStep.FULL
            if everything or not lasts or gap.last_ns - gap.first_ns > _LOAD_GAP_NS:
                gaps.append(GapLine(cause, gap.first_ns, gap.last_ns, str(track), gap.count))
                del self._gaps[track, cause]
        return gaps

    def _refuse(self, picture: Picture) -> None:
        self.refused[track_of(picture)] += 1
        self._miss(picture, "refused")

    def _miss(self, picture: Picture, cause: str) -> None:
        t_ns = picture.pair.timestamp_ns if isinstance(picture, FusedFrame) else picture.timestamp_ns
        self._gaps.setdefault((track_of(picture), cause), _Gap(t_ns)).add(t_ns)
