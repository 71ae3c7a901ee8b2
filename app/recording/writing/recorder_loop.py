"""What the recorder's thread does: encoded pictures into files, files into order, and the disk under watch."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import av

from app.recording.config import DiskPolicy, RecordingConfig, TrackName
from app.recording.matroska_writer import DiskWriteError
from app.recording.segments import (
    EncodedPicture,
    Segment,
    SegmentInfo,
    next_name,
    protect,
    track_infos,
    wall_iso,
)
from app.recording.sidecar import SCHEMA_VERSION, EventLine, GapLine, HeaderLine
from app.recording.writing.disk import DiskGuard, DiskLevel
from app.recording.writing.encoder_bank import EncoderBank, FrameContext, Shape
from app.recording.writing.files import Files
from app.recording.writing.load import LoadLadder, LoadStep
from app.recording.writing.pre_event import PacketRing
from app.recording.writing.status import RecordingState, RecordingStatus
from fusion_core.frames import Frame, FusedFrame

__all__ = ["Command", "RecorderLoop"]

_CHECK_S = 2.0  # between two looks at the bytes on disk and at free space
_RETRY_S = 0.5  # between two looks at a disk that is full
_NO_GROWTH_S = 2.0  # in which pictures that were there have not reached the disk are a fault
_TOLD_S = 10.0  # of pictures in the next file, and a fault of the one before is told no more
_LOAD_S = 0.1  # between two looks at the queues
_OPENED_S = 1.0  # for what waited while an encoder was opened


@dataclass(slots=True)
class Command:
    """A request to the recorder's thread; `done` is set when it was carried out. kind: start, event, stop, close."""

    kind: str
    label: str | None = None
    t_ns: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    segments: list[SegmentInfo] = field(default_factory=list)

    @property
    def begins(self) -> bool:
        """Whether it begins a recording where there is none."""
        return self.kind in ("start", "event")


class RecorderLoop:
    """Owned and called by the recorder's thread alone; `status` and `step` may be read from anywhere.

    Args:
        on_change: called after each change of state or reason.
        on_end: gets the files of a recording that ended without a command.
        wake: called in any thread when there is something to do.
    """

    def __init__(
        self,
        config: RecordingConfig,
        clock: Callable[[], int],
        on_change: Callable[[], None],
        on_end: Callable[[tuple[SegmentInfo, ...]], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_change, self._on_end = on_change, on_end
        self._guard = DiskGuard(config)
        self.bank = EncoderBank(config, self._sink, self._mark, self._on_encoder_trouble, wake)
        self._ring = PacketRing(config.pre_event_s, round(config.pre_event_max_mb * 1e6))
        self._ladder = LoadLadder(config.ordered_tracks)
        self.step = LoadStep.FULL
        """What is recorded under the present load."""
        self._recording = False
        self._paused = ""  # why nothing is written at the moment
        self._trouble: dict[str, str] = {}  # lasting faults by kind, shown as the reason of DEGRADED
        self._files = Files(config, self._on_closed)
        self._begin_round = 0  # the first with which a file may begin
        self._label: str | None = None
        self._next_reason = "start"
        self._marks: list[GapLine | EventLine] = []
        self._gap_from_ns: int | None = None  # the last picture that is safe on disk, while nothing can be written
        self._last_written_ns: int | None = None
        self._last_event_ns: int | None = None
        self._by_event = False  # nobody but an event asked for this recording: it ends with the event
        self._protected = False
        self._context: Mapping[str, Any] = {}
        self._written_before = 0
        # File, its bytes and the age of its pictures in s when it last grew; since when newer ones are there, if any.
        self._seen: tuple[Path | None, int, float, float | None] = (None, 0, 0.0, None)
        now = time.monotonic()
        self._next_sync = now + config.sync_s
        self._next_check = now + _CHECK_S
        self._next_load = now
        self.status = RecordingStatus()
        self._publish()

    # ---- called by the thread's main function

    def take(
        self,
        picture: Frame | FusedFrame,
        context: Mapping[str, Any],
        shapes: Mapping[TrackName, Shape],
        since_s: float | None = None,
    ) -> None:
        """Encode the next picture of a track that has room; since_s: when it was offered, None = now."""
        self._context = context
        self.bank.take(
            picture,
            FrameContext(context.get("calibration"), context.get("offsets_ns", {}), context.get("drops", {})),
            shapes,
            since_s,
        )

    def missing(self, gap: GapLine) -> None:
        """Note pictures that did not come so far; the gap is written before the next picture."""
        if self._recording:
            self._marks.append(gap)

    def observe_load(self, raw_wait_s: float) -> None:
        """Look at how long the oldest raw picture has waited for its encoder, and record less or more accordingly."""
        now = time.monotonic()
        if now < self._next_load or now - self.bank.opened_s < _OPENED_S:
            return
        self._next_load = now + _LOAD_S
        step = self._ladder.observe(raw_wait_s, now)
        if step is self.step:
            return
        self.step = step
        self._trouble.pop("load", None)
        if step.reason:
            self._trouble["load"] = step.reason
        if (step is LoadStep.VISIBLE_REDUCED) != self.bank.visible_reduced:
            self._next_reason = "load"
            self.bank.reduce_visible(step is LoadStep.VISIBLE_REDUCED)
        self._publish()

    def obey(self, command: Command) -> bool:
        """Carry out a command. Returns False when the thread shall end."""
        self.bank.drain()
        if command.kind == "start" and self._recording:
            self._by_event = False  # it goes on after the event
        elif command.kind == "start":
            self._begin(command.label, "start")
            self._ring.clear()
            self._want_start()
        elif command.kind == "event":
            self._on_event(command.label or "event", command.t_ns)
        elif command.kind in ("stop", "close"):
            self._end("stop")
            command.segments = self._take_finished()
            if command.kind == "close":
                self.bank.close()
        self._publish()
        command.done.set()
        return command.kind != "close"

    def tick(self) -> None:
        """Everything that happens by time: write what is finished, sync, look at the disk, end after an event."""
        self.bank.finish_ready()
        now = time.monotonic()
        if self._paused and now >= self._next_check:
            self._next_check = now + _RETRY_S
            if self._guard.level() is not DiskLevel.RESERVE:
                self._resume()
        elif now >= self._next_check:
            self._next_check = now + _CHECK_S
            self._watch_disk(now)
        if not self._paused:
            self._on_disk(self._files.tick)
            if now >= self._next_sync:
                self._next_sync = now + self._config.sync_s
                self._on_disk(self._files.sync)
        if (
            self._by_event
            and self._config.post_event_s > 0
            and self._last_event_ns is not None
            and self._clock() - self._last_event_ns > self._config.post_event_s * 1e9
        ):
            self.bank.drain()
            self._end("event over")
            self._on_end(tuple(self._take_finished()))
        self._publish()

    @property
    def wait_s(self) -> float:
        """How long the thread may sleep for want of pictures."""
        return 0.05 if self._recording else 0.1

    def give_up(self) -> None:
        """After an error that nobody foresaw: close the files as well as it goes."""
        self._files.abandon()
        self.bank.close()

    # ---- pictures into files

    def _sink(self, picture: EncodedPicture) -> None:
        if not self._recording or self._paused:
            self._ring.add(picture)
            return
        self._write(picture)

    def _write(self, picture: EncodedPicture) -> None:
        files = self._files
        if files.belongs_before(picture):
            self._on_disk(lambda: self._write_late(picture))
            return
        reason = files.turn_reason(picture, picture.layout)
        if reason:
            if reason != "layout" or self._next_reason == "start":
                self._next_reason = reason
            files.turn(self._next_reason)
        elif files.over_limit():
            self.bank.want_split()
        if files.current is None:
            if picture.round < self._begin_round:
                return  # from before the recording, or before what could not be written
            if not picture.fresh:  # cannot be decoded from here on; a start was asked for and comes
                self._want_start()
                self._marks.append(GapLine("encoder", picture.t_ns, picture.t_ns, str(picture.track), 1))
                return
            if not self._on_disk(lambda: self._open_segment(picture)):
                self._ring.add(picture)
                return
        marks, self._marks = self._marks, []
        picture.marks = (*marks, *picture.marks)
        if self._on_disk(lambda: files.write(picture)):
            self._last_written_ns = max(picture.t_ns, self._last_written_ns or picture.t_ns)

    def _write_late(self, picture: EncodedPicture) -> None:
        gap = self._files.write_late(picture)
        if gap is not None:
            self._mark(gap)

    def _mark(self, gap: GapLine) -> None:
        self._marks.append(gap)

    def _want_start(self) -> None:
        self._begin_round = self._ring.begin_round = self.bank.want_start()

    def _open_segment(self, picture: EncodedPicture) -> None:
        wall_ns = time.time_ns()
        path = next_name(self._config, wall_ns, self._label)
        start_ns = min(picture.start_ns, picture.t_ns)
        # The wall clock belongs to `now`; the first picture may be older (pre-event buffer, latency).
        wall_start_ns = wall_ns - (self._clock() - start_ns)
        context = self._context
        header = HeaderLine(
            schema=SCHEMA_VERSION,
            recording=self._files.name or path.stem,
            segment=self._files.count,
            start_ns=start_ns,
            wall_start=wall_iso(wall_start_ns),
            wall_start_ns=wall_start_ns,
            tracks=track_infos(picture.layout),
            label=self._label,
            reason=self._next_reason,
            config={"recording": self._config.model_dump(mode="json"), **context.get("settings", {})},
            versions=_versions(),
            calibration=context.get("calibration"),
            offsets_ns=dict(context.get("offsets_ns", {})),
        )
        self._files.begin(Segment(self._config, path, header, picture.layout), picture)
        self._seen = (path, 0, 0.0, None)
        self._next_reason = "start"
        if self._protected:
            protect(path)
        self._publish()

    def _on_closed(self, segment: Segment) -> None:
        self._written_before += segment.info.bytes
        if segment.disk_error and not self._paused:
            self._guard.mark_low()
            self._pause(segment.disk_error)
            self._files.abandon()

    def _close_files(self, reason: str) -> None:
        self._files.close(reason)
        self._next_reason = reason

    def _take_finished(self) -> list[SegmentInfo]:
        finished, self._files.finished = self._files.finished, []
        return finished

    # ---- beginning and ending

    def _begin(self, label: str | None, reason: str) -> None:
        self._recording = True
        self._by_event = reason == "event"
        self._label = label
        self._files.finished = []
        self._written_before = 0
        self._next_reason = reason
        self._marks = []
        self._protected = False
        self._gap_from_ns = self._last_written_ns = None
        self._trouble.pop("disk", None)

    def _end(self, reason: str) -> None:
        if not self._recording:
            return
        for mark in self._marks:
            segment = self._files.current
            if segment is None or not self._on_disk(lambda mark=mark, segment=segment: segment.mark(mark)):  # type: ignore[misc]
                break
        self._close_files(reason)
        self._marks = []
        self._recording = self._by_event = False
        self._paused = ""
        self._last_event_ns = None
        self._label = None
        self.bank.set_tracks(self._config.ordered_tracks)
        self._want_start()  # the pre-event buffer begins anew

    def _on_event(self, label: str, t_ns: int) -> None:
        if not self._recording:
            self._begin(label, "event")
            self._begin_round = 0
            self._write_ring()
        self._protected = True
        self._last_event_ns = t_ns
        self._marks.append(EventLine(t_ns, label))
        if self._files.current is not None:
            protect(self._files.current.info.path)

    def _write_ring(self) -> None:
        pictures = self._ring.take_all()
        for picture in pictures:
            self._sink(picture)
        if not pictures:
            self._want_start()

    # ---- the disk

    def _on_disk(self, action: Callable[[], object]) -> bool:
        """Run something that writes; a full or broken disk pauses the recording. Returns whether it worked."""
        try:
            action()
        except DiskWriteError as error:
            count = len(self._files.finished)
            self._files.abandon()
            self._written_before += sum(info.bytes for info in self._files.finished[count:])
            self._guard.mark_low()
            self._pause(str(error))
            return False
        return True

    def _pause(self, reason: str) -> None:
        self._paused = reason
        self._gap_from_ns = self._last_written_ns
        self._next_reason = "disk"
        self._next_check = time.monotonic() + _RETRY_S
        self._ring.clear()
        self._want_start()
        self._publish()

    def _resume(self) -> None:
        self.bank.drain()  # still into the buffer, so that the order stays
        self._paused = ""
        if self._config.disk_policy is DiskPolicy.FUSED_ONLY:
            self.bank.set_tracks(self._config.ordered_tracks)
        first_ns = self._ring.first_ns
        if self._gap_from_ns is not None:
            self._marks.append(GapLine("disk", self._gap_from_ns, first_ns if first_ns is not None else self._clock()))
            self._gap_from_ns = None
        self._begin_round = 0
        self._write_ring()
        self._publish()

    def _watch_disk(self, now: float) -> None:
        if not self._recording:
            return
        segment = self._files.current
        if segment is not None:
            self._guard.note(now, self._written_before + segment.size)
            self._check_bytes(segment, now)
        level = self._guard.level()
        if level is DiskLevel.RESERVE and self._config.disk_policy is DiskPolicy.RING:
            current = frozenset({segment.info.path} if segment is not None else ())
            self._guard.make_room(current)
            level = self._guard.level()
        if level is not DiskLevel.RESERVE:
            self.bank.set_tracks(self._config.ordered_tracks)
            self._trouble.pop("disk", None)
            if level is DiskLevel.WARN:
                left_s = self._guard.seconds_left() or 0.0
                self._trouble["disk"] = f"the disk is full in {left_s / 60:.0f} min"
        elif self._config.disk_policy is DiskPolicy.FUSED_ONLY and self._guard.half_left():
            self._trouble["disk"] = "the disk is nearly full: only the fused track is recorded"
            self._next_reason = "disk"
            self.bank.set_tracks((TrackName.FUSED,))
        else:
            self.bank.drain()
            self._close_files("disk reserve")
            self._pause(
                f"the disk is down to the reserve of {self._guard.reserve_bytes / 1e6:.0f} MB; "
                "recording goes on when space is free"
            )

    def _check_bytes(self, segment: Segment, now: float) -> None:
        """A counter that runs while no bytes reach the disk is the worst fault of all: look at the file itself.

        Pictures count from the first look that finds them: those after a pause may have come just now.
        """
        path, bytes_before, age_grown_s, since_s = self._seen
        try:
            on_disk = segment.info.path.stat().st_size
        except OSError:
            on_disk = -1
        if path != segment.info.path or on_disk > bytes_before:
            self._seen = (segment.info.path, on_disk, segment.age_s, None)
            if segment.age_s >= _TOLD_S:
                self._trouble.pop("file", None)
            return
        if on_disk >= 0 and since_s is None:
            self._seen = (path, bytes_before, age_grown_s, now if segment.age_s > age_grown_s else None)
            return
        if on_disk >= 0 and since_s is not None and now - since_s < _NO_GROWTH_S:
            return
        what = "is gone" if on_disk < 0 else "does not grow"
        self._trouble["file"] = f"{segment.info.path.name} {what} although pictures are written; a new file was begun"
        self.bank.drain()
        self._close_files("no bytes on disk")
        self._want_start()

    def _on_encoder_trouble(self, text: str) -> None:
        self._trouble["encoder"] = text
        self._next_reason = "encoder"
        self._publish()

    # ---- telling

    def _publish(self) -> None:
        if self._paused:
            state, reason = RecordingState.PAUSED, self._paused
        elif self._recording:
            state, reason = RecordingState.RECORDING, "; ".join(self._trouble.values())
        else:
            state = RecordingState.BUFFERING if self._config.pre_event_s > 0 else RecordingState.OFF
            reason = self._trouble.get("encoder", "")
        segment = self._files.current
        frames: dict[str, int] = {}
        for info in self._files.infos:
            for track, count in info.frames.items():
                frames[track] = frames.get(track, 0) + count
        before = self.status
        self.status = RecordingStatus(
            state,
            reason,
            path=segment.info.path if segment is not None else None,
            seconds=sum(info.duration_s for info in self._files.finished)
            + (segment.age_s if segment is not None else 0.0),
            bytes=self._written_before + (segment.size if segment is not None else 0),
            frames=frames,
            disk_seconds_left=self._guard.seconds_left_cached(),
            encoder=self.bank.encoder_names,
            segments=self._files.count,
            pre_event_seconds=self._ring.seconds,
            pre_event_bytes=self._ring.nbytes,
            step=self.step,
        )
        if (before.state, before.reason) != (state, reason):
            self._on_change()


def _versions() -> dict[str, str]:
    try:
        own = metadata.version("lumitherm")
    except metadata.PackageNotFoundError:
        own = "source"
    return {"lumitherm": own, "python": platform.python_version(), "av": av.__version__}
