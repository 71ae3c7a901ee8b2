"""What the recorder's thread does: encoded pairs into files, files into order, and the disk under watch."""

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
    EncodedPair,
    Segment,
    SegmentInfo,
    next_name,
    protect,
    track_infos,
    wall_iso,
)
from app.recording.sidecar import SCHEMA_VERSION, EventLine, GapLine, HeaderLine
from app.recording.writing.disk import DiskGuard, DiskLevel
from app.recording.writing.encoder_bank import BACKWARDS_NS, EncoderBank, FrameContext
from app.recording.writing.pre_event import PacketRing
from app.recording.writing.status import RecordingState, RecordingStatus
from fusion_core.errors import RecordingError
from fusion_core.frames import FusedFrame

__all__ = ["Command", "RecorderLoop"]

_CHECK_S = 2.0  # between two looks at the bytes on disk and at free space
_RETRY_S = 0.5  # between two looks at a disk that is full
_NO_GROWTH_S = 2.0  # of pictures without a byte on disk are a fault


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
    """Owned and called by the recorder's thread alone; `status` may be read from anywhere.

    Args:
        on_change: called after each change of state or reason.
        on_end: gets the files of a recording that ended without a command.
    """

    def __init__(
        self,
        config: RecordingConfig,
        clock: Callable[[], int],
        on_change: Callable[[], None],
        on_end: Callable[[tuple[SegmentInfo, ...]], None],
        guard: DiskGuard | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_change, self._on_end = on_change, on_end
        self._guard = guard if guard is not None else DiskGuard(config)
        self._bank = EncoderBank(config, self._sink, self._on_encoder_trouble)
        self._ring = PacketRing(config.pre_event_s, round(config.pre_event_max_mb * 1e6))
        self._recording = False
        self._paused = ""  # why nothing is written at the moment
        self._trouble: dict[str, str] = {}  # lasting faults by kind, shown as the reason of DEGRADED
        self._segment: Segment | None = None
        self._finished: list[SegmentInfo] = []
        self._label: str | None = None
        self._next_reason = "start"
        self._marks: list[GapLine | EventLine] = []
        self._gap_from_ns: int | None = None  # the last pair that is safe on disk, while nothing can be written
        self._last_written_ns: int | None = None
        self._last_event_ns: int | None = None
        self._by_event = False  # nobody but an event asked for this recording: it ends with the event
        self._protected = False
        self._settings: dict[str, Any] = {}
        self._written_before = 0
        self._seen: tuple[Path | None, float, int] = (None, 0.0, 0)  # file, its age in s and bytes when it last grew
        now = time.monotonic()
        self._next_sync = now + config.sync_s
        self._next_check = now + _CHECK_S
        self.status = RecordingStatus()
        self._publish()

    # ---- called by the thread's main function

    def take(self, frame: FusedFrame, context: Mapping[str, Any]) -> None:
        """Encode the next frame and write what is finished."""
        self._settings = context.get("settings", self._settings)
        self._bank.take(
            frame,
            FrameContext(context.get("calibration"), context.get("offsets_ns", {}), context.get("drops", {})),
        )

    def refused(self, count: int, first_ns: int, last_ns: int) -> None:
        """Note frames that did not fit into the queue; the gap is written before the next pair."""
        if self._recording:
            self._marks.append(GapLine("refused", first_ns, last_ns, frames=count))

    def obey(self, command: Command) -> bool:
        """Carry out a command. Returns False when the thread shall end."""
        self._bank.drain()
        if command.kind == "start" and self._recording:
            self._by_event = False  # it goes on after the event
        elif command.kind == "start":
            self._begin(command.label, "start")
            self._ring.clear()
            self._bank.want_start()
        elif command.kind == "event":
            self._on_event(command.label or "event", command.t_ns)
        elif command.kind in ("stop", "close"):
            self._end("stop")
            command.segments = self._finished
            self._finished = []
            if command.kind == "close":
                self._bank.close()
        self._publish()
        command.done.set()
        return command.kind != "close"

    def tick(self, idle: bool) -> None:
        """Everything that happens by time: write what is finished, sync, look at the disk, end after an event."""
        if idle:
            self._bank.finish_ready()
        now = time.monotonic()
        if self._paused and now >= self._next_check:
            self._next_check = now + _RETRY_S
            if self._guard.level() is not DiskLevel.RESERVE:
                self._resume()
        elif now >= self._next_check:
            self._next_check = now + _CHECK_S
            self._watch_disk(now)
        if self._segment is not None and now >= self._next_sync:
            self._next_sync = now + self._config.sync_s
            self._on_disk(self._segment.sync)
        if (
            self._by_event
            and self._config.post_event_s > 0
            and self._last_event_ns is not None
            and self._clock() - self._last_event_ns > self._config.post_event_s * 1e9
        ):
            self._bank.drain()
            self._end("event over")
            ended, self._finished = tuple(self._finished), []
            self._on_end(ended)
        self._publish()

    @property
    def wait_s(self) -> float:
        """How long the thread may sleep for want of frames."""
        return 0.1

    def give_up(self) -> None:
        """After an error that nobody foresaw: close the file as well as it goes."""
        segment, self._segment = self._segment, None
        if segment is not None:
            self._finished.append(segment.abandon("recorder failed"))
        self._bank.close()

    # ---- pairs into files

    def _sink(self, pair: EncodedPair) -> None:
        if not self._recording or self._paused:
            self._ring.add(pair)
            return
        self._write(pair)

    def _write(self, pair: EncodedPair) -> None:
        segment = self._segment
        if segment is not None and pair.layout != segment.layout:
            self._close_segment(self._next_reason if self._next_reason != "start" else "layout")
        elif segment is not None and pair.starts and pair.t_ns < segment.end_ns - BACKWARDS_NS:
            self._close_segment("clock")
        elif segment is not None and self._is_over_limit(segment):
            if pair.starts:
                self._close_segment("split")
            elif self._is_over_limit(segment, slack_s=2.0):
                self._bank.want_start()
        if self._segment is None:
            if not pair.starts:  # cannot be decoded from here on; a start was asked for and comes
                self._bank.want_start()
                self._marks.append(GapLine("encoder", pair.t_ns, pair.t_ns, frames=1))
                return
            if not self._on_disk(lambda: self._open_segment(pair)):
                self._ring.add(pair)
                return
        current = self._segment
        if current is None:
            raise RecordingError("the recorder has no file to write into")
        marks, self._marks = self._marks, []
        pair.marks = (*marks, *pair.marks)
        if self._on_disk(lambda: current.write(pair)):
            self._last_written_ns = pair.t_ns

    def _is_over_limit(self, segment: Segment, slack_s: float = 0.0) -> bool:
        by_time = self._config.split_s > 0 and segment.age_s >= self._config.split_s + slack_s
        by_size = self._config.split_mb > 0 and segment.size >= self._config.split_mb * 1e6 * (1 + 0.1 * slack_s)
        return by_time or by_size

    def _open_segment(self, pair: EncodedPair) -> None:
        wall_ns = time.time_ns()
        path = next_name(self._config, wall_ns, self._label)
        start_ns = min(packet.t_ns for packet in pair.packets.values())
        # The wall clock belongs to `now`; the first picture may be older (pre-event buffer, latency).
        wall_start_ns = wall_ns - (self._clock() - start_ns)
        header = HeaderLine(
            schema=SCHEMA_VERSION,
            recording=self._finished[0].path.stem if self._finished else path.stem,
            segment=len(self._finished),
            start_ns=start_ns,
            wall_start=wall_iso(wall_start_ns),
            wall_start_ns=wall_start_ns,
            tracks=track_infos(pair.layout),
            label=self._label,
            reason=self._next_reason,
            config={"recording": self._config.model_dump(mode="json"), **self._settings},
            versions=_versions(),
        )
        self._segment = Segment(self._config, path, header, pair.layout)
        self._seen = (path, 0.0, 0)
        self._next_reason = "start"
        if self._protected:
            protect(path)
        self._publish()

    def _close_segment(self, reason: str) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            self._finished.append(segment.close(reason))
            self._written_before += self._finished[-1].bytes
            self._next_reason = reason
            if segment.disk_error and not self._paused:
                self._guard.mark_low()
                self._pause(segment.disk_error)

    # ---- beginning and ending

    def _begin(self, label: str | None, reason: str) -> None:
        self._recording = True
        self._by_event = reason == "event"
        self._label = label
        self._finished = []
        self._written_before = 0
        self._next_reason = reason
        self._marks = []
        self._protected = False
        self._gap_from_ns = self._last_written_ns = None
        self._trouble.pop("disk", None)

    def _end(self, reason: str) -> None:
        if not self._recording:
            return
        if self._segment is not None:
            for mark in self._marks:
                segment = self._segment
                if segment is None or not self._on_disk(lambda mark=mark, segment=segment: segment.mark(mark)):  # type: ignore[misc]
                    break
            self._close_segment(reason)
        self._marks = []
        self._recording = self._by_event = False
        self._paused = ""
        self._last_event_ns = None
        self._label = None
        self._bank.set_tracks(self._config.ordered_tracks)
        self._bank.want_start()  # the pre-event buffer begins anew

    def _on_event(self, label: str, t_ns: int) -> None:
        if not self._recording:
            self._begin(label, "event")
            self._write_ring()
        self._protected = True
        self._last_event_ns = t_ns
        self._marks.append(EventLine(t_ns, label))
        if self._segment is not None:
            protect(self._segment.info.path)

    def _write_ring(self) -> None:
        pairs = self._ring.take_all()
        for pair in pairs:
            self._sink(pair)
        if not pairs:
            self._bank.want_start()

    # ---- the disk

    def _on_disk(self, action: Callable[[], object]) -> bool:
        """Run something that writes; a full or broken disk pauses the recording. Returns whether it worked."""
        try:
            action()
        except DiskWriteError as error:
            segment, self._segment = self._segment, None
            if segment is not None:
                self._finished.append(segment.abandon("disk"))
                self._written_before += self._finished[-1].bytes
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
        self._bank.want_start()
        self._publish()

    def _resume(self) -> None:
        self._bank.drain()  # still into the buffer, so that the order stays
        self._paused = ""
        if self._config.disk_policy is DiskPolicy.FUSED_ONLY:
            self._bank.set_tracks(self._config.ordered_tracks)
        first_ns = self._ring.first_ns
        if self._gap_from_ns is not None:
            self._marks.append(GapLine("disk", self._gap_from_ns, first_ns if first_ns is not None else self._clock()))
            self._gap_from_ns = None
        self._write_ring()
        self._publish()

    def _watch_disk(self, now: float) -> None:
        if not self._recording:
            return
        segment = self._segment
        if segment is not None:
            self._guard.note(now, self._written_before + segment.size)
            self._check_bytes(segment)
        level = self._guard.level()
        if level is DiskLevel.RESERVE and self._config.disk_policy is DiskPolicy.RING:
            current = frozenset({segment.info.path} if segment is not None else ())
            self._guard.make_room(current)
            level = self._guard.level()
        if level is not DiskLevel.RESERVE:
            self._bank.set_tracks(self._config.ordered_tracks)
            self._trouble.pop("disk", None)
            if level is DiskLevel.WARN:
                left_s = self._guard.seconds_left() or 0.0
                self._trouble["disk"] = f"the disk is full in {left_s / 60:.0f} min"
        elif self._config.disk_policy is DiskPolicy.FUSED_ONLY and self._guard.half_left():
            self._trouble["disk"] = "the disk is nearly full: only the fused track is recorded"
            self._next_reason = "disk"
            self._bank.set_tracks((TrackName.FUSED,))
        else:
            self._bank.drain()
            self._close_segment("disk reserve")
            self._pause(
                f"the disk is down to the reserve of {self._guard.reserve_bytes / 1e6:.0f} MB; "
                "recording goes on when space is free"
            )

    def _check_bytes(self, segment: Segment) -> None:
        """A counter that runs while no bytes reach the disk is the worst fault of all: look at the file itself."""
        path, age_before_s, bytes_before = self._seen
        try:
            on_disk = segment.info.path.stat().st_size
        except OSError:
            on_disk = -1
        if path != segment.info.path or on_disk > bytes_before:
            self._seen = (segment.info.path, segment.age_s, on_disk)
            return
        if on_disk >= 0 and segment.age_s - age_before_s < _NO_GROWTH_S:
            return
        what = "is gone" if on_disk < 0 else "does not grow"
        self._trouble["file"] = f"{segment.info.path.name} {what} although pictures are written; a new file was begun"
        self._bank.drain()
        self._close_segment("no bytes on disk")
        self._bank.want_start()

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
        segment = self._segment
        frames: dict[str, int] = {}
        for info in [*self._finished, *([segment.info] if segment is not None else [])]:
            for track, count in info.frames.items():
                frames[track] = frames.get(track, 0) + count
        before = self.status
        self.status = RecordingStatus(
            state,
            reason,
            path=segment.info.path if segment is not None else None,
            seconds=sum(info.duration_s for info in self._finished) + (segment.age_s if segment is not None else 0.0),
            bytes=self._written_before + (segment.size if segment is not None else 0),
            frames=frames,
            disk_seconds_left=self._guard.seconds_left_cached(),
            encoder=self._bank.encoder_names,
            segments=len(self._finished) + (segment is not None),
            pre_event_seconds=self._ring.seconds,
            pre_event_bytes=self._ring.nbytes,
        )
        if (before.state, before.reason) != (state, reason):
            self._on_change()


def _versions() -> dict[str, str]:
    try:
        own = metadata.version("lumitherm")
    except metadata.PackageNotFoundError:
        own = "source"
    return {"lumitherm": own, "python": platform.python_version(), "av": av.__version__}
