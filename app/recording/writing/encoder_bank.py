"""All encoders of a recording: takes fused frames, gives encoded pairs in their order, and replaces what fails."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import astuple, dataclass, field

import numpy as np

from app.recording.config import RecordingConfig, TrackName
from app.recording.encoders import EncodedPacket, EncoderChoice, TrackEncoder, candidates, open_first
from app.recording.segments import EncodedPair, Layout
from app.recording.sidecar import FrameLine, GapLine, SourceRef
from app.recording.writing.track_thread import TrackThread
from fusion_core.errors import RecordingError
from fusion_core.frames import Frame, FusedFrame

__all__ = ["BACKWARDS_NS", "EncoderBank", "FrameContext"]

_IN_FLIGHT = 6  # pairs between the first encoder's start and the last one's end; their raw pictures are held
_STALL_SLICES = 5  # a stall is counted in slices, so that a process that was itself stopped blames no encoder
_PATIENCE_S = 30.0  # for the last resort: a software encoder on a loaded machine is slow, not hung
_OPEN_TIMEOUT_S = 10.0
_FAILURES_IN_A_ROW = 3
_OUTAGE_NS = 500_000_000
BACKWARDS_NS = 1_000_000_000  # stamps that fall by more than this begin a new file (a source that was started anew)


@dataclass(frozen=True, slots=True)
class FrameContext:
    """What the pipeline says about the frames besides the pixels; see `Recorder.describe`."""

    calibration: str | None = None
    offsets_ns: Mapping[str, int] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    pixels: np.ndarray
    t_ns: int
    identity: tuple[int, int]


@dataclass(slots=True)
class _Job:
    frame: FusedFrame
    context: FrameContext
    marks: tuple[GapLine, ...] = ()
    shown: tuple[TrackName, ...] = ()
    futures: dict[TrackName, Future[EncodedPacket]] = field(default_factory=dict)
    layout: Layout = ()
    starts: bool = False


class EncoderBank:
    """Not thread-safe; owner: the recorder's thread. Each track's encoder has its thread.

    Args:
        emit: gets each encoded pair, in order.
        warn: gets one line when an encoder is replaced or a track is lost.
    """

    def __init__(
        self, config: RecordingConfig, emit: Callable[[EncodedPair], None], warn: Callable[[str], None]
    ) -> None:
        self._config = config
        self._emit = emit
        self._warn = warn
        self._tracks = config.ordered_tracks
        self._threads: dict[TrackName, TrackThread] = {}
        self._encoders: dict[TrackName, TrackEncoder] = {}
        self._banned: dict[TrackName, set[EncoderChoice]] = {name: set() for name in TrackName}
        self._failures: dict[TrackName, int] = dict.fromkeys(TrackName, 0)
        self._lost: set[TrackName] = set()
        self._layout: Layout = ()
        self._pending: deque[_Job] = deque()
        self._last_picture: dict[TrackName, tuple[int, int]] = {}
        self._last_t_ns: dict[TrackName, int] = {}
        self._period_ns: dict[TrackName, float] = {}
        self._key_due: set[TrackName] = set()
        self._last_key_ns: int | None = None
        self._last_pair_ns: int | None = None
        self._want_start = True

    # ---- what the recorder's thread calls

    @property
    def encoder_names(self) -> str:
        """The encoders in use, e.g. "libx264, ffv1"."""
        return ", ".join(dict.fromkeys(encoder.choice.name for encoder in self._encoders.values()))

    @property
    def tracks(self) -> tuple[TrackName, ...]:
        """The tracks asked for, less those whose encoders all failed."""
        return tuple(name for name in self._tracks if name not in self._lost)

    def set_tracks(self, tracks: tuple[TrackName, ...]) -> None:
        """Record other tracks from the next frame on; that begins a new file."""
        if tracks != self._tracks:
            self.drain()
            self._tracks = tracks
            for name in tuple(self._encoders):
                if name not in tracks:
                    del self._encoders[name]
            self._layout = ()

    def want_start(self) -> None:
        """Make the next frame one with which a file can begin."""
        self._want_start = True

    def take(self, frame: FusedFrame, context: FrameContext, marks: tuple[GapLine, ...] = ()) -> None:
        """Encode a frame. Waits for the encoders when too many frames are in flight; emits what is finished."""
        self._dispatch(_Job(frame, context, marks))
        while self._pending and (len(self._pending) > _IN_FLIGHT or self._head_is_done()):
            self._complete_head()

    def finish_ready(self) -> bool:
        """Emit what is finished, waiting a moment for the oldest; returns whether something is still under way."""
        if self._pending:
            self._complete_head()
        return bool(self._pending)

    def drain(self) -> None:
        """Wait until every frame taken has been emitted."""
        while self._pending:
            self._complete_head()

    def close(self) -> None:
        """End the encoder threads; what is still under way is lost."""
        self._pending.clear()
        for thread in self._threads.values():
            if not thread.close(1.0):
                thread.abandon()
        self._threads.clear()
        self._encoders.clear()

    # ---- inside

    def _dispatch(self, job: _Job) -> None:
        pictures = self._pictures(job.frame)
        if not pictures:
            return
        t_ns = job.frame.pair.timestamp_ns
        backwards = self._last_pair_ns is not None and t_ns < self._last_pair_ns - BACKWARDS_NS
        self._last_pair_ns = t_ns
        force = self._match_encoders(pictures) or self._want_start or backwards
        pictures = {name: picture for name, picture in pictures.items() if name in self._encoders}
        if not pictures:
            return
        self._want_start = False
        new = {name for name, p in pictures.items() if force or p.identity != self._last_picture.get(name)}
        key = force or self._key_is_due(t_ns, fresh=len(new) == len(pictures))
        if key:
            self._last_key_ns = t_ns
            self._key_due = set(self._encoders)
        job.marks += tuple(self._outages(pictures, new))
        job.shown = tuple(pictures)
        job.layout = self._layout
        job.starts = key and len(new) == len(pictures)
        for name in new:
            picture = pictures[name]
            is_key = name in self._key_due
            self._key_due.discard(name)
            self._last_picture[name] = picture.identity
            encoder = self._encoders[name]
            job.futures[name] = self._thread_of(name).submit(
                lambda encoder=encoder, picture=picture, is_key=is_key: encoder.encode(  # type: ignore[misc]
                    picture.pixels, picture.t_ns, is_key
                )
            )
        self._pending.append(job)

    def _pictures(self, frame: FusedFrame) -> dict[TrackName, _Picture]:
        pair = frame.pair
        found: dict[TrackName, _Picture] = {}
        for name in self.tracks:
            if name is TrackName.FUSED:
                found[name] = _Picture(frame.pixels, pair.timestamp_ns, (id(frame), pair.timestamp_ns))
            else:
                source = pair.visible if name is TrackName.VISIBLE else pair.thermal
                if source is not None:
                    found[name] = _Picture(source.pixels, source.timestamp_ns, (source.index, source.timestamp_ns))
        return found

    def _key_is_due(self, t_ns: int, fresh: bool) -> bool:
        if self._last_key_ns is None:
            return True
        since_ns = t_ns - self._last_key_ns
        gop_ns = self._config.gop_s * 1e9
        longest_period_ns = min(max(self._period_ns.values(), default=0.0), 0.25 * gop_ns)
        return since_ns < 0 or since_ns >= gop_ns - 1.5 * longest_period_ns or (fresh and since_ns >= 0.75 * gop_ns)

    def _outages(self, pictures: dict[TrackName, _Picture], new: set[TrackName]) -> list[GapLine]:
        gaps: list[GapLine] = []
        for name in self._encoders:
            if name not in new:
                continue
            t_ns, last_ns = pictures[name].t_ns, self._last_t_ns.get(name)
            self._last_t_ns[name] = t_ns
            if last_ns is None or t_ns <= last_ns:
                continue
            period_ns = self._period_ns.get(name)
            if period_ns is not None and t_ns - last_ns > max(3 * period_ns, _OUTAGE_NS):
                gaps.append(GapLine("outage", last_ns, t_ns, track=str(name)))
            else:
                step = t_ns - last_ns
                self._period_ns[name] = step if period_ns is None else 0.9 * period_ns + 0.1 * step
        return gaps

    def _match_encoders(self, pictures: dict[TrackName, _Picture]) -> bool:
        """Open what is missing or does not fit; returns whether anything changed."""
        changed = False
        for name, picture in pictures.items():
            encoder = self._encoders.get(name)
            if encoder is not None and encoder.shape == picture.pixels.shape and self._fits(encoder, picture.pixels):
                continue
            self._open(name, picture.pixels)
            changed = True
        if changed or not self._layout:
            self._layout = tuple(self._encoders[name].params for name in TrackName if name in self._encoders)
            changed = True
        return changed

    @staticmethod
    def _fits(encoder: TrackEncoder, pixels: np.ndarray) -> bool:
        return (encoder.choice.pixel_format == "gray16le") == (pixels.dtype == np.uint16)

    def _open(self, name: TrackName, pixels: np.ndarray) -> None:
        choices = tuple(c for c in candidates(self._config, name, pixels.dtype) if c not in self._banned[name])
        shape, gop_s = tuple(pixels.shape), self._config.gop_s
        future = self._thread_of(name).submit(lambda: open_first(choices, name, shape, gop_s))
        try:
            encoder, reasons = future.result(timeout=_OPEN_TIMEOUT_S)
        except FutureTimeoutError:
            self._replace_thread(name)
            self._lose(name, f"no encoder for the {name} track opened within {_OPEN_TIMEOUT_S:.0f} s")
        except RecordingError as error:
            self._lose(name, str(error))
        else:
            asked = self._config.encoder
            if reasons and asked not in ("auto", "software") and name is not TrackName.THERMAL:
                self._warn(f"{name} is encoded by {encoder.choice.name}, not by {asked}: {reasons[0]}")
            self._encoders[name] = encoder

    def _lose(self, name: TrackName, reason: str) -> None:
        self._lost.add(name)
        self._encoders.pop(name, None)
        self._layout = ()
        if not self.tracks:
            raise RecordingError(f"nothing can be recorded: {reason}")
        self._warn(f"the {name} track is not recorded: {reason}")

    def _thread_of(self, name: TrackName) -> TrackThread:
        if name not in self._threads:
            self._threads[name] = TrackThread(str(name))
        return self._threads[name]

    def _replace_thread(self, name: TrackName) -> None:
        thread = self._threads.pop(name, None)
        if thread is not None:
            thread.abandon()

    def _head_is_done(self) -> bool:
        return all(future.done() for future in self._pending[0].futures.values())

    def _complete_head(self) -> None:
        job = self._pending[0]
        packets: dict[TrackName, EncodedPacket] = {}
        for name in job.shown:
            future = job.futures.get(name)
            if future is None:
                continue
            try:
                packets[name] = self._await(name, future)
            except RecordingError as error:
                self._recover_from(name, error)
                return
            self._failures[name] = 0
        self._pending.popleft()
        self._emit(
            EncodedPair(
                line=_line(job.frame, job.context),
                t_ns=job.frame.pair.timestamp_ns,
                shown=job.shown,
                packets=packets,
                layout=job.layout,
                starts=job.starts,
                marks=job.marks,
            )
        )

    def _await(self, name: TrackName, future: Future[EncodedPacket]) -> EncodedPacket:
        encoder = self._encoders.get(name)
        patient = encoder is None or encoder.choice.family in ("software", "lossless")
        limit_s = _PATIENCE_S if patient else self._config.encoder_stall_s
        for _ in range(_STALL_SLICES):
            try:
                return future.result(timeout=limit_s / _STALL_SLICES)
            except FutureTimeoutError:
                time.sleep(0.001)  # after a stop of the whole process the encoder thread gets its turn first
        self._replace_thread(name)
        raise RecordingError(f"the {name} encoder gave nothing for {limit_s:.1f} s")

    def _recover_from(self, name: TrackName, error: RecordingError) -> None:
        """Replace a failed encoder and encode again everything that was under way: no frame is lost or doubled."""
        jobs = list(self._pending)
        self._pending.clear()
        encoder = self._encoders.pop(name, None)
        self._layout = ()
        self._failures[name] += 1
        if encoder is not None and encoder.choice.family not in ("software", "lossless"):
            self._banned[name].add(encoder.choice)
        if self._failures[name] >= _FAILURES_IN_A_ROW:
            self._lose(name, str(error))
        else:
            self._warn(f"{error}; the {name} track goes on with another encoder in a new file")
        self._last_picture.clear()
        self._want_start = True
        for job in jobs:
            self._dispatch(_Job(job.frame, job.context, job.marks))


def _line(frame: FusedFrame, context: FrameContext) -> FrameLine:
    """The sidecar line, still without the places in the file."""
    pair = frame.pair
    limits = frame.agc_limits
    return FrameLine(
        n=0,
        t_ns=pair.timestamp_ns,
        visible=_source(pair.visible),
        thermal=_source(pair.thermal),
        skew_ns=pair.skew_ns,
        flags=int(pair.flags),
        engine=frame.engine,
        fuse_ms=round(float(frame.fuse_ms), 3),
        fused_ns=frame.fused_ns,
        agc=None if limits is None else (float(limits[0]), float(limits[1])),
        calibration=context.calibration,
        offsets_ns=dict(context.offsets_ns),
        drops=dict(context.drops),
        notes=tuple(frame.notes),
        detections=tuple(astuple(each) for each in frame.detections),
    )


def _source(frame: Frame | None) -> SourceRef | None:
    if frame is None:
        return None
    return SourceRef(frame.index, frame.timestamp_ns, str(frame.ts_source), int(frame.flags))
